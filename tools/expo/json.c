/*
 * JSON values; see json.h. One jansson object a counter, so that a million counters stream through
 * the frame of stream.c.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "shm/base/text.h"
#include "shm/layout.h"
#include "tools/expo/json.h"
#include "tools/expo/pick.h"

/* Names and help are UTF-8 by rule. In a text that is not, each byte beyond ASCII becomes '?'. */
json_t *json_text(const char *text)
{
	json_t *string = json_string(text);
	char *copy;

	if (string)
		return string;
	copy = strdup(text);
	if (!copy)
		return NULL;
	for (char *p = copy; *p; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	string = json_string(copy);
	free(copy);
	return string;
}

json_t *json_rate(double rate)
{
	return isfinite(rate) ? json_real(rate) : json_null();
}

json_t *json_time(uint64_t real_ns)
{
	char text[TEXT_UTC_BYTES];

	return real_ns ? json_string(text_utc(text, real_ns)) : json_null();
}

json_t *json_why(uint32_t why)
{
	static const char *const whys[] = {
		[SHM_WHY_RATE] = "rate",       [SHM_WHY_PIN] = "pin",	  [SHM_WHY_CONFIG] = "config",
		[SHM_WHY_BUDGET] = "budget",   [SHM_WHY_RESTART] = "restart",
		[SHM_WHY_FORGET] = "forget",   [SHM_WHY_TTL] = "ttl",	  [SHM_WHY_LATE] = "late",
		[SHM_WHY_ENDED] = "ended",
	};

	return why < sizeof(whys) / sizeof(whys[0]) && whys[why] ? json_string(whys[why]) :
								  json_null();
}

json_t *json_base(const char *name)
{
	char base[SHM_NAME_MAX + 1];

	snprintf(base, sizeof(base), "%.*s", (int)strcspn(name, "{"), name);
	return json_text(base);
}

json_t *json_document(const char *namespace_name)
{
	json_t *doc = json_pack("{s:i}", "schema", EXPO_SCHEMA);

	if (namespace_name)
		json_object_set_new(doc, "namespace", json_text(namespace_name));
	return doc;
}

/* Copies a quoted value without its escapes; returns what follows the closing quote. */
static const char *unescape(const char *from, char *to)
{
	while (*from && *from != '"') {
		if (*from == '\\' && from[1]) {
			from++;
			*to++ = *from == 'n' ? '\n' : *from;
			from++;
		} else {
			*to++ = *from++;
		}
	}
	*to = '\0';
	return *from ? from + 1 : from;
}

/* The labels of a canonical name: {a="x",b="y"}. */
json_t *json_labels(const char *name)
{
	const char *brace = name + strcspn(name, "{");
	json_t *labels = json_object();
	const char *at = brace + (*brace == '{');
	char *value = malloc(strlen(brace) + 1);
	char label[SHM_NAME_MAX + 1];
	size_t len;

	while (labels && value && *at && *at != '}') {
		len = strcspn(at, "=");
		if (!at[len] || at[len + 1] != '"' || len > SHM_NAME_MAX)
			break;
		memcpy(label, at, len);
		label[len] = '\0';
		at = unescape(at + len + 2, value);
		json_object_set_new(labels, label, json_text(value));
		at += *at == ',';
	}
	free(value);
	return labels;
}

static const char *how_text(enum talea_how how)
{
	switch (how) {
	case TALEA_SUM:
		return "sum";
	case TALEA_COMPACTED:
		return "compacted";
	case TALEA_CACHED:
		return "cached";
	case TALEA_GLOBAL:
		return "global";
	}
	return "compacted";
}

json_t *json_counter(const char *name, const struct talea_total *total)
{
	bool is_known = total->state != TALEA_UNKNOWN;
	bool has_value = is_known || is_ended(total->state, total->value);

	return json_pack("{s:o, s:s, s:s, s:o, s:o, s:o, s:s, s:s, s:b, s:o}", "name",
			 json_base(name), "type", pick_type_text(total->type), "origin",
			 pick_origin_text(total->origin), "labels", json_labels(name), "value",
			 has_value ? json_integer(total->value) : json_null(), "rate",
			 is_known ? json_rate(total->rate) : json_null(), "how",
			 how_text(total->how), "state",
			 pick_state_text(total->state, total->value), "hot", total->hot, "help",
			 json_text(total->help ? total->help : ""));
}

char *json_line(json_t *value)
{
	const size_t flags = JSON_COMPACT | JSON_REAL_PRECISION(9) | JSON_ENCODE_ANY;
	char *text = value ? json_dumps(value, flags) : NULL;

	json_decref(value);
	return text;
}

/*
 * The JSON of counters: one jansson object each, so that a million of them stream through a frame
 * that get.c writes. Owns nothing. The shape is documented in talea(1), section JSON.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

/* Names and help are UTF-8 by rule; what is not is shown with '?' for the bytes that are wrong. */
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
	char text[SHOW_TEXT];

	return real_ns ? json_string(show_utc(text, real_ns)) : json_null();
}

json_t *json_base(const char *name)
{
	char base[SHM_NAME_MAX + 1];

	snprintf(base, sizeof(base), "%.*s", (int)strcspn(name, "{"), name);
	return json_text(base);
}

json_t *json_schema(void)
{
	return json_pack("{s:i}", "schema", CLI_SCHEMA);
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
	static const char *const states[] = { [TALEA_OK] = "ok",
					      [TALEA_UNKNOWN] = "unknown",
					      [TALEA_SUSPECT] = "suspect" };
	static const char *const origins[] = { [TALEA_USER] = "user",
					       [TALEA_KERNEL] = "kernel",
					       [TALEA_OWN] = "own" };
	bool is_known = total->state != TALEA_UNKNOWN;
	bool is_past = is_ended(total->state, total->value);

	return json_pack("{s:o, s:s, s:s, s:o, s:o, s:o, s:s, s:s, s:b, s:o}", "name",
			 json_base(name), "type",
			 total->type == TALEA_TYPE_LEVEL ? "level" : "counter", "origin",
			 origins[total->origin], "labels", json_labels(name),
			 "value", is_known || is_past ? json_integer(total->value) : json_null(),
			 "rate",
			 is_known ? json_rate(total->rate) : json_null(),
			 "how", how_text(total->how), "state",
			 is_past ? "ended" : states[total->state], "hot",
			 total->hot, "help", json_text(total->help ? total->help : ""));
}

int json_finish(json_t *doc)
{
	char *text = doc ? json_dumps(doc, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;

	json_decref(doc);
	if (!text) {
		fprintf(stderr, "talea: out of memory\n");
		return CLI_FAILED;
	}
	puts(text);
	free(text);
	return CLI_OK;
}

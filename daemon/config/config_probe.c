/*
 * What the configuration says about probes: the names in [daemon] that choose them, and the
 * sections [probe NAME]. See config_value.h; the table there and config.c call it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

#include "daemon/config/config_value.h"
#include "daemon/spec/probe_words.h"
#include "daemon/spec/pack.h"

/* --- [daemon] -------------------------------------------------------------------------------- */

/* A probe's name, a pattern of names, or `default`, which stands for several. */
static int config_probe_bits(const char *word, uint32_t *mask, struct why *why)
{
	const char *names[PROBE_NR + 2] = { "default" };
	char meant[64];
	uint32_t found = strcmp(word, "default") ? 0 : probes_default();

	for (uint32_t i = 0; i < PROBE_NR; i++) {
		names[i + 1] = probe_types[i].name;
		if (!fnmatch(word, probe_types[i].name, 0))
			found |= 1u << i;
	}
	*mask |= found;
	if (found)
		return 0;
	return why_set(why, -EINVAL, "there is no probe %.64s%s", word,
		       config_did_you_mean(word, names, meant, sizeof(meant)));
}

int config_parse_probes(const struct config_key *key, void *section, const char *text,
			struct why *why)
{
	uint32_t mask = 0;
	char words[CONFIG_VALUE_MAX], *rest, *word;

	if (!*text || strlen(text) >= sizeof(words))
		return -EINVAL;
	strcpy(words, text);
	if (strcmp(text, "none"))
		for (word = strtok_r(words, CONFIG_WORD_BREAK, &rest); word;
		     word = strtok_r(NULL, CONFIG_WORD_BREAK, &rest))
			if (config_probe_bits(word, &mask, why))
				return -EINVAL;
	*config_u32(key, section) = mask;
	return 0;
}

void config_show_probes(const struct config_key *key, const void *section, char *buf, size_t size)
{
	uint32_t mask = *config_u32(key, section);
	size_t used = 0;

	snprintf(buf, size, "none");
	for (uint32_t i = 0; i < PROBE_NR && used < size; i++)
		if (mask & 1u << i)
			used += (size_t)snprintf(buf + used, size - used, "%s%s", used ? ", " : "",
						 probe_types[i].name);
}

/* --- [probe NAME] ---------------------------------------------------------------------------- */

int config_probe_name(const char *name, struct why *why)
{
	struct spec_why words = { why->reason, sizeof(why->reason) };

	return spec_check_name(name, &words);
}

/* Parses the text at once, so that a mistake is reported with its line; the spec itself is made
 * when all keys are known. */
int config_parse_attach(const struct config_key *key, void *section, const char *text,
			struct why *why)
{
	struct probe_spec *spec = section, tried;
	int err = spec_parse(spec->name, text, &tried, why->reason, sizeof(why->reason));

	(void)key;
	if (!err)
		memcpy(spec->text, tried.text, sizeof(spec->text));
	return err;
}

int config_parse_object(const struct config_key *key, void *section, const char *text,
			struct why *why)
{
	struct probe_spec *spec = section;

	if (text[0] != '/' || !spec_is_line(text))
		return -EINVAL;
	if (strlen(text) >= key->max) {
		return why_set(why, -EINVAL, "the path has %zu bytes, at most %llu fit", strlen(text),
			 (unsigned long long)key->max - 1);
	}
	strcpy(spec->file, text);
	return 0;
}

void config_show_attach(const struct config_key *key, const void *section, char *buf, size_t size)
{
	const struct probe_spec *spec = section;

	(void)key;
	snprintf(buf, size, "%s", spec->event == SPEC_OBJECT ? "" : spec->text);
}

/* A declared probe also has a file: it stands in the text. */
void config_show_object(const struct config_key *key, const void *section, char *buf, size_t size)
{
	const struct probe_spec *spec = section;

	(void)key;
	snprintf(buf, size, "%s", spec->event == SPEC_OBJECT ? spec->file : "");
}

int config_parse_counter(const struct config_key *key, void *section, const char *text,
			 struct why *why)
{
	struct spec_why words = { why->reason, sizeof(why->reason) };
	struct probe_spec *spec = section;

	(void)key;
	if (strlen(text) >= sizeof(spec->counter)) {
		return why_set(why, -EINVAL, "the name has %zu bytes, at most %zu fit", strlen(text),
			 sizeof(spec->counter) - 1);
	}
	if (spec_check_counter(text, "x", NULL, &words))
		return -EINVAL;
	strcpy(spec->counter, text);
	return 0;
}

int config_parse_help(const struct config_key *key, void *section, const char *text,
		      struct why *why)
{
	struct spec_why words = { why->reason, sizeof(why->reason) };
	struct probe_spec *spec = section;

	(void)key;
	if (strlen(text) >= sizeof(spec->help)) {
		return why_set(why, -EINVAL, "the text has %zu bytes, at most %zu fit", strlen(text),
			 sizeof(spec->help) - 1);
	}
	if (spec_check_counter("x_total", text, NULL, &words))
		return -EINVAL;
	strcpy(spec->help, text);
	return 0;
}

/* --- [probe NAME], whole --------------------------------------------------------------------- */

static int config_finish_object(struct probe_spec *spec, struct why *why)
{
	if (spec->counter[0] || spec->help[0] || spec->keys_max)
		return why_set(why, -EINVAL, "counter, help and keys-max do not go with object: the "
					     "object itself says what it counts");
	spec->event = SPEC_OBJECT;
	snprintf(spec->text, sizeof(spec->text), "object:%s", spec->file);
	return 0;
}

static int config_finish_attach(struct probe_spec *spec, struct why *why)
{
	struct probe_spec made;
	int err = spec_parse(spec->name, spec->text, &made, why->reason, sizeof(why->reason));

	if (err)
		return err;
	if (spec->keys_max && !made.keys_nr)
		return why_set(why, -EINVAL, "keys-max without keys: expected `by` in attach");
	if (spec->keys_max)
		made.keys_max = spec->keys_max;
	if (spec->counter[0])
		memcpy(made.counter, spec->counter, sizeof(made.counter));
	if (spec->help[0])
		memcpy(made.help, spec->help, sizeof(made.help));
	*spec = made;
	return 0;
}

int config_probe_finish(struct probe_spec *spec, const struct probe_spec *before, uint32_t before_nr,
			struct why *why)
{
	int err;

	if (spec->text[0] && spec->file[0])
		return why_set(why, -EINVAL, "expected attach or object, not both");
	if (!spec->text[0] && !spec->file[0])
		return why_set(why, -EINVAL,
			       "expected attach = EVENT or object = PATH below it");
	err = spec->file[0] ? config_finish_object(spec, why) : config_finish_attach(spec, why);
	if (!err)
		err = spec_check(spec, why->reason, sizeof(why->reason));
	for (uint32_t i = 0; !err && i < before_nr; i++)
		if (spec->counter[0] && !strcmp(spec->counter, before[i].counter))
			err = why_set(why, -EINVAL,
				      "its counter %s is that of [probe %s]: name another one "
				      "(counter = NAME_total)", spec->counter, before[i].name);
	return err;
}

/*
 * What the configuration says about probes: the words of [daemon] that choose them, and the sections
 * [probe NAME]. See config_value.h; called through its table and by config.c.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

#include "daemon/config/config_value.h"
#include "daemon/spec/probe_words.h"
#include "daemon/spec/pack.h"

#define WORD_BREAK ", \t"

static void *at(const struct config_key *key, const void *section)
{
	return (char *)section + key->offset;
}

/* --- [daemon] -------------------------------------------------------------------------------- */

int config_parse_bpf(const struct config_key *key, void *section, const char *text, char *why)
{
	(void)why;
	if (strcmp(text, "auto") && strcmp(text, "off"))
		return -EINVAL;
	*(uint32_t *)at(key, section) = !strcmp(text, "auto");
	return 0;
}

void config_show_bpf(const struct config_key *key, const void *section, char *buf, size_t size)
{
	snprintf(buf, size, "%s", *(const uint32_t *)at(key, section) ? "auto" : "off");
}

/* A probe's name, a pattern of names, or `default`, which stands for several. */
static int probe_bits(const char *word, uint32_t *mask, char *why)
{
	const char *names[PROBE_NR + 2] = { "default" }, *near;
	uint32_t found = strcmp(word, "default") ? 0 : probes_default();

	for (uint32_t i = 0; i < PROBE_NR; i++) {
		names[i + 1] = probe_types[i].name;
		if (!fnmatch(word, probe_types[i].name, 0))
			found |= 1u << i;
	}
	*mask |= found;
	if (found)
		return 0;
	near = config_nearest(word, names);
	snprintf(why, CONFIG_WHY_MAX, "there is no probe %.64s%s%s%s", word,
		 near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
	return -EINVAL;
}

int config_parse_probes(const struct config_key *key, void *section, const char *text, char *why)
{
	uint32_t mask = 0;
	char words[CONFIG_VALUE_MAX], *rest, *word;

	if (!*text || strlen(text) >= sizeof(words))
		return -EINVAL;
	strcpy(words, text);
	if (strcmp(text, "none"))
		for (word = strtok_r(words, WORD_BREAK, &rest); word;
		     word = strtok_r(NULL, WORD_BREAK, &rest))
			if (probe_bits(word, &mask, why))
				return -EINVAL;
	*(uint32_t *)at(key, section) = mask;
	return 0;
}

void config_show_probes(const struct config_key *key, const void *section, char *buf, size_t size)
{
	uint32_t mask = *(const uint32_t *)at(key, section);
	size_t used = 0;

	snprintf(buf, size, "none");
	for (uint32_t i = 0; i < PROBE_NR && used < size; i++)
		if (mask & 1u << i)
			used += (size_t)snprintf(buf + used, size - used, "%s%s", used ? ", " : "",
						 probe_types[i].name);
}

int config_parse_pin(const struct config_key *key, void *section, const char *text, char *why)
{
	(void)why;
	if (strcmp(text, "auto") && strcmp(text, "no"))
		return -EINVAL;
	*(uint32_t *)at(key, section) = !strcmp(text, "auto");
	return 0;
}

void config_show_pin(const struct config_key *key, const void *section, char *buf, size_t size)
{
	snprintf(buf, size, "%s", *(const uint32_t *)at(key, section) ? "auto" : "no");
}

/* --- [probe NAME] ---------------------------------------------------------------------------- */

int config_probe_name(const char *name, char *why)
{
	struct spec_why words = { why, CONFIG_WHY_MAX };

	return spec_check_name(name, &words);
}

/* Tried at once, so that the mistake has its line; made in the end, when all keys are known. */
int config_parse_attach(const struct config_key *key, void *section, const char *text, char *why)
{
	struct probe_spec *spec = section, tried;
	int err = spec_parse(spec->name, text, &tried, why, CONFIG_WHY_MAX);

	(void)key;
	if (!err)
		memcpy(spec->text, tried.text, sizeof(spec->text));
	return err;
}

int config_parse_object(const struct config_key *key, void *section, const char *text, char *why)
{
	struct probe_spec *spec = section;

	if (text[0] != '/' || !spec_is_line(text))
		return -EINVAL;
	if (strlen(text) >= key->max) {
		snprintf(why, CONFIG_WHY_MAX, "the path has %zu bytes, at most %llu fit", strlen(text),
			 (unsigned long long)key->max - 1);
		return -EINVAL;
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

/* The files of declared probes stand in their text. */
void config_show_object(const struct config_key *key, const void *section, char *buf, size_t size)
{
	const struct probe_spec *spec = section;

	(void)key;
	snprintf(buf, size, "%s", spec->event == SPEC_OBJECT ? spec->file : "");
}

int config_parse_counter(const struct config_key *key, void *section, const char *text, char *why)
{
	struct spec_why words = { why, CONFIG_WHY_MAX };
	struct probe_spec *spec = section;

	(void)key;
	if (strlen(text) >= sizeof(spec->counter)) {
		snprintf(why, CONFIG_WHY_MAX, "the name has %zu bytes, at most %zu fit", strlen(text),
			 sizeof(spec->counter) - 1);
		return -EINVAL;
	}
	if (spec_check_counter(text, "x", NULL, &words))
		return -EINVAL;
	strcpy(spec->counter, text);
	return 0;
}

int config_parse_help(const struct config_key *key, void *section, const char *text, char *why)
{
	struct spec_why words = { why, CONFIG_WHY_MAX };
	struct probe_spec *spec = section;

	(void)key;
	if (strlen(text) >= sizeof(spec->help)) {
		snprintf(why, CONFIG_WHY_MAX, "the text has %zu bytes, at most %zu fit", strlen(text),
			 sizeof(spec->help) - 1);
		return -EINVAL;
	}
	if (spec_check_counter("x_total", text, NULL, &words))
		return -EINVAL;
	strcpy(spec->help, text);
	return 0;
}

static int object_finish(struct probe_spec *spec, struct spec_why *why)
{
	if (spec->counter[0] || spec->help[0] || spec->keys_max)
		return spec_refuse(why, "counter, help and keys-max do not go with object, which says "
					"itself what it counts");
	spec->event = SPEC_OBJECT;
	snprintf(spec->text, sizeof(spec->text), "object:%s", spec->file);
	return 0;
}

static int attach_finish(struct probe_spec *spec, struct spec_why *why)
{
	struct probe_spec made;
	int err = spec_parse(spec->name, spec->text, &made, why->buf, why->size);

	if (err)
		return err;
	if (spec->keys_max && !made.keys_nr)
		return spec_refuse(why, "keys-max without keys: expected `by` in attach");
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
			char *buf)
{
	struct spec_why why = { buf, CONFIG_WHY_MAX };
	int err;

	if (spec->text[0] && spec->file[0])
		return spec_refuse(&why, "expected attach or object, not both");
	if (!spec->text[0] && !spec->file[0])
		return spec_refuse(&why, "expected attach = EVENT or object = PATH below it");
	err = spec->file[0] ? object_finish(spec, &why) : attach_finish(spec, &why);
	if (!err)
		err = spec_check(spec, buf, CONFIG_WHY_MAX);
	for (uint32_t i = 0; !err && i < before_nr; i++)
		if (spec->counter[0] && !strcmp(spec->counter, before[i].counter))
			err = spec_refuse(&why,
					  "its counter %s is that of [probe %s]: name another one "
					  "(counter = NAME_total)", spec->counter, before[i].name);
	return err;
}

/*
 * The values of single configuration keys: a table of all keys, how each is parsed and checked, and
 * how it is written again. Knows no file and no section syntax; config.c alone calls it.
 */
#ifndef DAEMON_CONFIG_VALUE_H
#define DAEMON_CONFIG_VALUE_H

#include <stddef.h>

#include "daemon/config/config.h"
#include "shm/base/why.h"

enum config_section {
	CONFIG_DAEMON, CONFIG_NAMESPACE, CONFIG_COUNTER, CONFIG_PROBE, CONFIG_SECTIONS_NR
};

#define CONFIG_KEYS_MAX 10 /* of one section, the end included */
#define CONFIG_VALUE_MAX 2048
#define CONFIG_WORD_BREAK ", \t" /* between the words of a value that is a list */

struct config_key;
typedef int config_parse(const struct config_key *key, void *section, const char *text,
			 struct why *why);
typedef void config_show(const struct config_key *key, const void *section, char *buf, size_t size);

struct config_key {
	enum config_section section;
	const char *name;
	const char *expects; /* "a time from 1ms to 10s, such as 10ms" */
	size_t offset;	     /* in struct config, config_namespace, config_rule or probe_spec */
	uint64_t min, max;   /* in the units of the value */
	const char *const *words; /* of a choice; NULL at the end */

	/* 0, or -EINVAL with what is wrong in why; a reason left empty: `expects` says it all */
	config_parse *parse;
	config_show *show;
};

/* The keys of a section in the order in which they are shown; ends with a NULL name. */
extern const struct config_key config_keys[CONFIG_SECTIONS_NR][CONFIG_KEYS_MAX];

/* The field of a section's struct that a key sets. */
static inline void *config_field(const struct config_key *key, const void *section)
{
	return (char *)section + key->offset;
}

static inline uint32_t *config_u32(const struct config_key *key, const void *section)
{
	return config_field(key, section);
}

static inline uint64_t *config_u64(const struct config_key *key, const void *section)
{
	return config_field(key, section);
}

/* " (did you mean NAME?)" in buf when one of the names (NULL at the end) is near; else "". */
const char *config_did_you_mean(const char *word, const char *const *names, char *buf,
				size_t size);

/* Set the values that hold where no file sets another. A path that needs an environment variable
 * which is not set is "". */
void config_default_paths(struct config *c);
void config_default_user(struct config *c);

/*
 * config_probe.c: the value of `probes`, and those of [probe NAME], whose keys are collected in a
 * struct probe_spec: the text of `attach` in its text, the path of `object` in its file.
 */
config_parse config_parse_probes;
config_parse config_parse_attach, config_parse_object, config_parse_counter, config_parse_help;
config_show config_show_probes, config_show_attach, config_show_object;

/* May a [probe NAME] have this name? 0, or -EINVAL with why. */
int config_probe_name(const char *name, struct why *why);

/* Makes the whole spec of what was collected. before: the specs of the sections above. */
int config_probe_finish(struct probe_spec *spec, const struct probe_spec *before, uint32_t before_nr,
			struct why *why);

#endif

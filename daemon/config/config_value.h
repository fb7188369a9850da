/*
 * The values of single configuration keys: a table of all keys, how each is parsed and checked, and
 * how it is written again. Knows no file and no section syntax; called by config.c alone.
 */
#ifndef DAEMON_CONFIG_VALUE_H
#define DAEMON_CONFIG_VALUE_H

#include <stddef.h>

#include "daemon/config/config.h"

enum config_section {
	CONFIG_DAEMON, CONFIG_NAMESPACE, CONFIG_COUNTER, CONFIG_PROBE, CONFIG_SECTIONS_NR
};

#define CONFIG_KEYS_MAX 10 /* of one section, the end included */
#define CONFIG_WHY_MAX 512
#define CONFIG_VALUE_MAX 2048

struct config_key;
typedef int config_parse(const struct config_key *key, void *section, const char *text, char *why);
typedef void config_show(const struct config_key *key, const void *section, char *buf, size_t size);

struct config_key {
	enum config_section section;
	const char *name;
	const char *expects; /* "a time from 1ms to 10s, such as 10ms" */
	size_t offset;	     /* in struct config, config_namespace, config_rule or probe_spec */
	uint64_t min, max;   /* in the units of the value */

	/* 0, or -EINVAL with what is wrong in why; why left empty: "expected" and `expects` */
	config_parse *parse;
	config_show *show;
};

/* The keys of a section in the order in which they are shown; ends with a NULL name. */
extern const struct config_key config_keys[CONFIG_SECTIONS_NR][CONFIG_KEYS_MAX];

/* The one of the names (NULL at the end) that was most likely meant; NULL when none is near. */
const char *config_nearest(const char *text, const char *const *names);

/* Makes the values that hold where no file says otherwise. They may need the environment: 0, or
 * -ENOENT for a path that it does not tell; that path is then "". */
void config_default_paths(struct config *c);
void config_default_user(struct config *c);

/*
 * config_probe.c: the values of `bpf`, `probes` and `pin`, and of [probe NAME], whose keys are
 * collected in a struct probe_spec: the text of `attach` in its text, the path of `object` in its file.
 */
config_parse config_parse_bpf, config_parse_probes, config_parse_pin;
config_parse config_parse_attach, config_parse_object, config_parse_counter, config_parse_help;
config_show config_show_bpf, config_show_probes, config_show_pin;
config_show config_show_attach, config_show_object;

/* May a [probe NAME] be called so? 0, or -EINVAL with why, CONFIG_WHY_MAX. */
int config_probe_name(const char *name, char *why);

/* Makes of what was collected the whole spec. before: those of the sections that stand before it. */
int config_probe_finish(struct probe_spec *spec, const struct probe_spec *before, uint32_t before_nr,
			char *why);

#endif

/*
 * The configuration as one flat struct without pointers, and how it is read. The keeper reads it
 * (at the start and at SIGHUP); the worker gets a copy, at fork or as a memfd, and trusts it. This
 * folder knows neither keeper nor worker, and changes nothing in a running daemon.
 */
#ifndef DAEMON_CONFIG_H
#define DAEMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "daemon/spec/probe_spec.h"
#include "layout.h"

#define CONFIG_FILE "/etc/talea/talea.conf"
#define CONFIG_SOCKET_MAX 108 /* sun_path, its NUL included */
#define CONFIG_PATH_MAX 256
#define CONFIG_NAMESPACES_MAX 16u
#define CONFIG_RULES_MAX 64u
#define CONFIG_IDS_MAX 16u
#define CONFIG_GLOB_MAX 128u
#define CONFIG_SPECS_MAX 32u

#define CONFIG_COUNTERS_MAX 4000000u
#define CONFIG_LABELS_MAX 1000000u

struct config_namespace {
	char name[SHM_NAMESPACE_MAX];
	/* The users and groups that may add and read, and those that may only read. A user is in a
	 * group by its primary or by a supplementary group. */
	uint32_t users_nr, groups_nr, read_users_nr, read_groups_nr;
	uid_t users[CONFIG_IDS_MAX];
	gid_t groups[CONFIG_IDS_MAX];
	uid_t read_users[CONFIG_IDS_MAX];
	gid_t read_groups[CONFIG_IDS_MAX];
	uint32_t users_set; /* 0: no `users =`: the uid that started talead and root may add */
	uint32_t counters_max;
	uint32_t counters_max_per_uid;
	uint32_t rows_max; /* 0: every counter is cold */
};

/* [counter GLOB], as names.h has globs. For each key the last rule that matches and sets it wins. */
#define CONFIG_TTL_UNSET UINT64_MAX
struct config_rule {
	char glob[CONFIG_GLOB_MAX];
	uint32_t labels_max; /* 0: unset */
	uint32_t hot;	     /* enum shm_hot_rule */
	uint64_t ttl_s;	     /* of members of families; 0: they stay; or CONFIG_TTL_UNSET */
};

struct config {
	char socket[CONFIG_SOCKET_MAX];
	char state[CONFIG_PATH_MAX];
	char file[CONFIG_PATH_MAX]; /* the main file, for messages; it may not exist */
	uid_t user;		    /* of the worker */
	gid_t group;		    /* its primary group */
	uid_t keeper_uid;	    /* of the user that started talead */
	uid_t admins[CONFIG_IDS_MAX];
	uint32_t admins_nr;
	uint64_t fold_ns;
	uint32_t fold_cpu_permille; /* of one core */
	uint32_t bpf_auto;	    /* 0: bpf = off */
	uint32_t probes;	    /* one bit per enum probe_id; 0 when bpf is off */
	uint32_t pin_auto;	    /* 0: pin = no */
	uint32_t specs_nr;	    /* [probe NAME]; 0 when bpf is off */
	struct probe_spec specs[CONFIG_SPECS_MAX];
	uint32_t namespaces_nr;	    /* at least 1: namespaces[0] is `default` */
	struct config_namespace namespaces[CONFIG_NAMESPACES_MAX];
	uint32_t rules_nr;
	struct config_rule rules[CONFIG_RULES_MAX];
};

/* How many keys a family may have; `name` is its canonical name. */
uint32_t config_labels_max(const struct config *c, const char *name);

/* For a display name: may the counter have a row (enum shm_hot_rule), and how many seconds may a
 * member be idle (0: it stays). */
uint32_t config_hot(const struct config *c, const char *display_name);
uint32_t config_ttl_s(const struct config *c, const char *display_name);

/* May this user pin, forget and accept? Root and the user that started talead always may. */
bool config_is_admin(const struct config *c, uid_t uid);

/* The namespace of that name; NULL when the configuration has none. */
const struct config_namespace *config_namespace_find(const struct config *c, const char *name);

/* The options of the command line; NULL: not given. */
struct config_source {
	const char *file;   /* -c: only this file is read, and it must exist */
	const char *socket; /* socket and state win over the files */
	const char *state;
};

struct config_origins; /* where each effective value came from */

/*
 * Reads CONFIG_FILE and then conf.d (*.conf) beside it, in the order of their names, or only
 * source->file. 0 with *ret filled, or -errno; then each mistake (of many the first 16) was given
 * to report(): "FILE:LINE: what is wrong, what was expected". *ret is untouched on failure.
 * ret_origins may be NULL; the caller ends it with config_origins_free().
 */
int config_load(const struct config_source *source, struct config *ret,
		struct config_origins **ret_origins, void (*report)(const char *text));
void config_origins_free(struct config_origins *o);

/* Writes the effective values, and above each a comment that says where the value came from. The
 * output is a configuration file with the same meaning. */
void config_print(const struct config *c, const struct config_origins *o, FILE *out);

#endif

/*
 * What the members of a keyed counter are called: a key's bytes as text. Two different keys never
 * have the same name, but for two cgroups of one path, the former of which has ended. Owns the
 * paths of cgroups, which the keeper alone can look up: it is asked over the link, and a name is
 * not to be had until it has answered or a second has passed. The fold thread alone calls this.
 */
#ifndef WORKER_KEY_NAMES_H
#define WORKER_KEY_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/spec/pack.h"

struct cgroup_name {
	uint64_t id;
	uint64_t asked_ns; /* CLOCK_MONOTONIC; 0: not asked, the link was full */
	uint64_t used_ns;
	char *path; /* NULL: not answered. "": it is gone */
};

struct key_names {
	int link_fd; /* -1: nobody is there to be asked */
	struct cgroup_name *cgroups;
	uint32_t cgroups_nr, cgroups_max;
};

void key_names_init(struct key_names *n, int link_fd);
void key_names_fini(struct key_names *n);

/* The label of a family with these keys: `comm`, or `comm,pid` sorted. Returns its length. */
int key_names_label(const struct talea_counter_def *def, char *buf, size_t size);

/*
 * The key bytes of a member (for one key its text, for several the canonical label list), at most
 * SHM_NAME_MAX. with_ids: a cgroup is called by its id. Their number; -EAGAIN: not yet;
 * -ENAMETOOLONG.
 */
int key_names_member(struct key_names *n, const struct talea_counter_def *def,
		     const unsigned char *key, bool with_ids, char *buf, size_t size);

/* The keeper has answered; "": there is no such cgroup. */
void key_names_cgroup(struct key_names *n, uint64_t id, const char *path);

/* Has the counter a key of this kind? */
bool def_has(const struct talea_counter_def *def, enum talea_key_kind kind);

/* Does its map give keys back: those of threads, processes and cgroups that have ended? */
bool def_is_freed(const struct talea_counter_def *def);

#endif

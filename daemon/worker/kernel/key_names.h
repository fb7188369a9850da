/*
 * The names of the members of a keyed counter: a key's bytes as text. Two different keys never have
 * the same name, except for two cgroups of one path, of which the first has ended. Owns the paths
 * of cgroups. Only the keeper can find these: the worker asks it over the link, and the name is
 * unknown until the keeper has answered or a second has passed. The fold thread alone calls this.
 */
#ifndef WORKER_KEY_NAMES_H
#define WORKER_KEY_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/spec/pack.h"

struct cgroup_name {
	uint64_t id;
	uint64_t asked_ns; /* CLOCK_MONOTONIC; 0: the keeper was not asked, the link was full */
	uint64_t used_ns;
	char *path; /* NULL: the keeper has not answered. "": the cgroup is gone */
};

struct key_names {
	int link_fd; /* -1: there is no keeper to ask */
	struct cgroup_name *cgroups;
	uint32_t cgroups_nr, cgroups_max;
};

void key_names_init(struct key_names *n, int link_fd);
void key_names_fini(struct key_names *n);

/* The label of a family with these keys: `comm`, or `comm,pid` sorted. Returns its length. */
int key_names_label(const struct talea_counter_def *def, char *buf, size_t size);

/*
 * Writes the key bytes of a member (for one key its text, for several the canonical label list), at
 * most SHM_NAME_MAX. with_ids: a cgroup is called by its id. Returns their number; -EAGAIN: not
 * known yet; -ENAMETOOLONG.
 */
int key_names_member(struct key_names *n, const struct talea_counter_def *def,
		     const unsigned char *key, bool with_ids, char *buf, size_t size);

/* The keeper has answered; "": there is no such cgroup. */
void key_names_cgroup(struct key_names *n, uint64_t id, const char *path);

/* Are keys of this counter freed: those of threads, processes and cgroups that have ended? */
bool key_names_are_freed(const struct talea_counter_def *def);

#endif

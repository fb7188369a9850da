/*
 * The kernel's counters: the probes' maps as further lanes of the fold. Owns the mappings of the
 * table's probes and the sources (kernel_keys.c) of all others; the counters live in namespace
 * `default` and are made here, a probe's labelled ones when a key is first seen. What a probe has
 * counted stays when it ends (parts.c). The fold thread alone calls this, but for kernel_look.
 */
#ifndef WORKER_KERNEL_H
#define WORKER_KERNEL_H

#include "daemon/spec/pack.h"
#include "daemon/worker/space/space.h"
#include "daemon/worker/kernel/kernel_keys.h"

/* A probe of the table. */
struct kernel_table {
	const char *map; /* [cpu][stride], NULL: not attached */
	size_t map_bytes;
	uint32_t cpus_nr;
	bool is_wanted;
	uint64_t *sums;	  /* by key: this fold's */
	uint32_t *slots;  /* by entry, SHM_SLOT_NONE: not registered */
	uint64_t keys_nr; /* entries registered so far; read by control */
	uint64_t events;  /* the sum of all keys that count events; read by control */
};

/* Any other. */
struct kernel_custom {
	struct source *sources[PROBE_SOURCES_MAX];
	uint32_t sources_nr;
	uint32_t ends_nr; /* folds since it ended */
	struct source_look look; /* all sources after each fold; the last of an ended one stays */
};

struct kernel {
	struct parts parts;
	struct key_names names;
	uint64_t lives[PROBES_MAX]; /* 0: not attached */
	struct kernel_table table[PROBE_NR];
	struct kernel_custom custom[PROBES_MAX];
};

/*
 * Finds the counters that are there already. link_fd: where cgroups are asked for, -1: nowhere. 0
 * or -ENOMEM.
 */
int kernel_open(struct kernel *k, struct space *space, int link_fd);
void kernel_close(struct kernel *k);

/*
 * Does what live says end a probe whose sums are to be published once more before? Then fold, and
 * ask again; kernel_probe comes after.
 */
bool kernel_ends(struct kernel *k, uint32_t id, const struct probe_live *live);

/*
 * A probe is now as live says; one that is not attached any more has ended. Takes the fds in live,
 * of one that counts already too. 0 or -errno: it cannot be read.
 */
int kernel_probe(struct kernel *k, uint32_t id, struct probe_live *live);

/* All probes of the start are there. */
void kernel_settle(struct kernel *k);

/*
 * Takes over which probes of the table the configuration wants; their counters without labels are
 * there from the start, unknown until they are attached.
 */
void kernel_configure(struct kernel *k, const struct config *config);

/* The keeper's answer about a cgroup. */
void kernel_cgroup(struct kernel *k, uint64_t id, const char *path);

/*
 * Sums the maps into the space's private array, before the space is folded. is_last: also what is
 * read seldom because it takes long. And what is to be done after.
 */
void kernel_fold(struct kernel *k, bool is_last);
void kernel_folded(struct kernel *k);

/* For any thread. Of the table: keys_nr and kept. */
void kernel_look(const struct kernel *k, uint32_t id, struct source_look *ret);

#endif

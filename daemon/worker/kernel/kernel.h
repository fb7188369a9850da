/*
 * The kernel's counters: the probes' maps as further lanes of the fold. Each attached probe has its
 * sources (source.c); those of the pack have counters that are there without it, too (dense.c). The
 * counters are in namespace `default` and are made here, labelled ones when a key is first seen.
 * What a probe has counted stays when it ends (kernel_part.c). The fold thread alone calls this,
 * but for kernel_statistics.
 *
 *   struct kernel       lives as long as the worker
 *     parts               the kernel part of each slot              written by source.c, dense.c
 *     names               names of keys, paths of cgroups           asked of the keeper
 *     pack[id]            slots of a pack probe's dense keys        written by dense.c
 *     probes[place]       an attached probe: mappings, keys         from attach to detach
 */
#ifndef WORKER_KERNEL_H
#define WORKER_KERNEL_H

#include "daemon/spec/pack.h"
#include "daemon/worker/kernel/dense.h"
#include "daemon/worker/kernel/source.h"
#include "daemon/worker/space/space.h"

struct kernel_probe {
	uint64_t incarnation; /* 0: not attached */
	struct source *sources[PROBE_SOURCES_MAX];
	uint32_t sources_nr;
	uint32_t ends_nr; /* folds since it ended */
	struct source_statistics statistics; /* of all sources after each fold; the last ones stay */
};

struct kernel {
	struct kernel_parts parts;
	struct key_names names;
	struct dense pack[PROBE_NR];
	struct kernel_probe probes[PROBES_MAX];
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
bool kernel_ends(struct kernel *k, uint32_t place, const struct probe_live *live);

/*
 * A probe is now as live says; one that is not attached any more has ended. Takes the fds in live,
 * of one that counts already too. 0 or -errno: it cannot be read.
 */
int kernel_probe(struct kernel *k, uint32_t place, struct probe_live *live);

/* All probes of the start are there. */
void kernel_settle(struct kernel *k);

/*
 * Takes over which probes of the pack the configuration asks for; their counters without labels are
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

/* For any thread. */
void kernel_statistics(const struct kernel *k, uint32_t place, struct source_statistics *ret);

#endif

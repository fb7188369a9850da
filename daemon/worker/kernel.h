/*
 * The kernel's counters: the probes' maps as further lanes of the fold. Owns the mappings; the
 * counters live in namespace `default` and are made here, a probe's labelled ones when a key
 * is first seen. The fold thread alone calls this, but for kernel_look.
 */
#ifndef WORKER_KERNEL_H
#define WORKER_KERNEL_H

#include "daemon/probes.h"
#include "daemon/space/space.h"

struct kernel_probe {
	const char *map; /* [cpu][stride], NULL: not attached */
	size_t map_bytes;
	uint32_t cpus_nr;
	bool is_wanted;
	uint64_t *sums;	   /* by key: this fold's */
	uint64_t *applied; /* by entry: what space->apart holds of it */
	uint32_t *slots;   /* by entry, SHM_SLOT_NONE: not registered */
	uint64_t keys_nr;  /* entries registered so far; read by control */
	uint64_t events;   /* the sum of all keys that count events; read by control */
};

struct kernel {
	struct space *space; /* `default` */
	struct kernel_probe probes[PROBE_NR];
};

/* Finds the counters that are there already. 0 or -ENOMEM. */
int kernel_open(struct kernel *k, struct space *space);
void kernel_close(struct kernel *k);

/* Maps a probe that is attached; takes the map's fd and closes it in any case. */
int kernel_attach(struct kernel *k, enum probe_id id, struct probe_live *live);

/* Takes over which probes the configuration wants; its counters without labels are there
 * from the start, unknown until it is attached. */
void kernel_configure(struct kernel *k, const struct config *config);

/* Sums the maps into the space's private array, before the space is folded. */
void kernel_fold(struct kernel *k);

/* For any thread. */
void kernel_look(const struct kernel *k, enum probe_id id, uint32_t *ret_keys_nr,
		 uint64_t *ret_events);

#endif

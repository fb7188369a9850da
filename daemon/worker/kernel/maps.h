/*
 * Reading the kernel's maps of keys by raw bpf(): the worker has no libbpf and no capability, only
 * fds that can read. Owns the buffers of a reader, which are reused from pass to pass. Called by
 * the fold thread, through kernel_keys.c.
 */
#ifndef WORKER_MAPS_H
#define WORKER_MAPS_H

#include <stddef.h>
#include <stdint.h>

#include "daemon/spec/pack.h"

/*
 * What one pass over a map found: nr keys, one behind the other, and the sum of each over all
 * CPUs.
 */
struct map_pass {
	unsigned char *keys;
	uint64_t *sums;
	uint32_t nr;

	uint32_t max;	      /* room in keys and sums */
	uint32_t chunk;	      /* room in the two below, in keys */
	unsigned char *chunk_keys;
	uint64_t *chunk_values; /* [key][possible CPU] */
	uint32_t cpus_nr;     /* possible ones: what the kernel copies for each key */
};

/* 0 or -ENOMEM. */
int map_pass_init(struct map_pass *p, uint32_t key_bytes);
void map_pass_fini(struct map_pass *p);

/*
 * Reads all of a PERCPU_HASH of u64. The kernel walks it bucket by bucket, each under its lock,
 * and no key ever changes its bucket: a key that is there from before the call until after it is
 * found once, one that comes or goes meanwhile once or not at all. 0 or -errno; then nr is 0.
 */
int map_pass_read(struct map_pass *p, int fd, uint32_t key_bytes);

int map_ledger_read(int fd, struct probe_ledger *ret);

/* The number of possible CPUs; holes in their numbering do not count. */
uint32_t maps_cpus_nr(void);

#endif

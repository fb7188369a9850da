/*
 * Reads the kernel's maps of keys by raw bpf(): the worker has no libbpf and no capability, only
 * read-only fds. Owns the buffers of a reader, which it reuses from pass to pass. source.c calls
 * this, on the fold thread.
 */
#ifndef WORKER_MAPS_H
#define WORKER_MAPS_H

#include <stddef.h>
#include <stdint.h>

#include "daemon/spec/pack.h"

/*
 * What one pass over a map found: nr keys, one after the other, and the sum of each over all CPUs.
 */
struct map_pass {
	unsigned char *keys;
	uint64_t *sums;
	uint32_t nr;

	uint32_t max;	      /* room in keys and sums */
	uint32_t chunk;	      /* room in the two below, in keys */
	unsigned char *chunk_keys;
	uint64_t *chunk_values; /* [key][possible CPU] */
	uint32_t cpus_nr;     /* possible CPUs: the kernel copies a value of each */
};

/* 0 or -ENOMEM. */
int map_pass_init(struct map_pass *p, uint32_t key_bytes);
void map_pass_fini(struct map_pass *p);

/*
 * Reads all of a PERCPU_HASH of u64. The kernel reads bucket after bucket, each under its lock, and
 * a key never changes its bucket. So a key that is there during the whole call is found once; a key
 * that comes or goes meanwhile is found once or not at all. 0 or -errno; then nr is 0.
 */
int map_pass_read(struct map_pass *p, int fd, uint32_t key_bytes);

int map_ledger_read(int fd, struct probe_ledger *ret);

/* The number of possible CPUs; holes in their numbering do not count. */
uint32_t maps_cpus_nr(void);

#endif

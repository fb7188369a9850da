/* One slot's value in every way there is, for talea_read and talea_each. See read.c. */
#ifndef TALEA_READ_H
#define TALEA_READ_H

#include "internal.h"

/* The copy of the totals that is current, and its times. */
struct fold_times {
	uint64_t epoch, mono_ns, real_ns;
};

/* Adds base, adj, shards. -EAGAIN: the slot changed all the while. */
int read_sum(const struct region *r, uint32_t slot, int64_t *ret);
/* The value in T with the times of its fold. */
int64_t read_compacted(const struct region *r, uint32_t slot, struct fold_times *ret);
/* Type, origin, state and hot of a slot. */
void read_describe(const struct region *r, uint32_t slot, struct talea_total *ret);

/* Rates: a sorted copy of the busiest list, for looking up many slots. */
struct rates {
	uint32_t nr;
	bool all;
	struct rate_entry {
		uint32_t slot, at;
	} entries[SHM_BUSY_NR];
	struct busy_shm *busy;
};
struct rates *rates_take(const struct region *r);
void rates_free(struct rates *rates);
void rates_of(const struct rates *rates, uint32_t slot, uint32_t generation,
	      struct talea_total *ret);

#endif

/*
 * What the kernel has counted of each slot of a space: the kernel part, which is in
 * space->off_shard.by_slot beside base and adj and lies in maps that end with their probe. A
 * counter's total outlives both: at a worker's start its part is what the former worker published
 * beyond the cells, until a map has been read; when a probe ends the part goes into the base. Each
 * name keeps which life of its probe its part is of, so that a part is never taken for one of
 * another map. The fold thread alone calls this.
 */
#ifndef WORKER_PARTS_H
#define WORKER_PARTS_H

#include "daemon/worker/space/space.h"

/* A slot that had a kernel part when the former worker published last. */
struct part_held {
	uint32_t slot;
	uint32_t owner; /* its family's slot; its own if it has none */
};

struct parts {
	struct space *space;
	uint64_t *sums;	    /* by slot, sparse */
	uint8_t *is_live;   /* by slot, sparse: names that a probe counts now */
	uint8_t *is_taken;  /* by slot, sparse: members that a key counts in now */
	struct part_held *held;
	uint32_t held_nr, held_max;
	uint32_t *leaving; /* members whose last fold is not published yet */
	uint32_t leaving_nr, leaving_max;
};

/* Gives every slot of the kernel's what was published of it. 0 or -ENOMEM. */
int parts_open(struct parts *p, struct space *space);
void parts_close(struct parts *p);

/*
 * After the probes of the start are there: what none of them counts is in the bases, and unknown.
 */
void parts_settle(struct parts *p);

/*
 * A probe counts in this counter or family from now on. Another life than the one that its parts
 * are of begins at zero: what was counted before goes into the bases. Returns whether it is
 * another.
 */
bool parts_begin(struct parts *p, uint32_t name_slot, uint64_t life);
void parts_end(struct parts *p, uint32_t name_slot);

/* No slot of this name is waiting for its map to be read any more: slots may change hands. */
void parts_held_drop(struct parts *p, uint32_t owner);

/* The number of a life that began then; it fits where names keep it and is never 0. */
static inline uint64_t parts_life(uint64_t since_real_ns)
{
	return (since_real_ns / 1000 & 0xffffffffffffull) | 1;
}

/* The part is `sum` from now on. */
void parts_set(struct parts *p, uint32_t slot, uint64_t sum);

/* The same for one that may be less: another slot rises by as much or more in the same fold. */
void parts_move(struct parts *p, uint32_t slot, uint64_t sum);

/* The same for a member that is no longer counted: it is removed when that is published. */
void parts_leave(struct parts *p, uint32_t slot);
void parts_folded(struct parts *p);

/* The part goes into the base; the total stays as it is. */
void parts_commit(struct parts *p, uint32_t slot);

/* Nothing counts in it for the time being, or something does. */
void parts_state(struct parts *p, uint32_t slot, bool is_known);

#endif

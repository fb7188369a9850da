/*
 * The kernel part of each slot of a space: what the kernel has counted, which is in
 * space->off_shard.by_slot beside base and adj. The maps that hold it end with their probe, but the
 * counter's total does not. When a worker starts, the part of a slot is what the previous worker
 * published beyond the cells, until the worker has read a map. When a probe ends, its parts go into
 * the bases. Each name keeps the incarnation of its probe, so that a part is never taken for a part
 * of another map. The fold thread alone calls this.
 */
#ifndef WORKER_KERNEL_PART_H
#define WORKER_KERNEL_PART_H

#include "daemon/worker/space/space.h"

/* A slot that had a kernel part when the previous worker published last. */
struct kernel_part_held {
	uint32_t slot;
	uint32_t owner; /* its family's slot; its own if it has none */
};

struct kernel_parts {
	struct space *space;
	uint64_t *sums;	    /* by slot, sparse */
	uint8_t *is_live;   /* by slot, sparse: names that a probe counts now */
	uint8_t *is_taken;  /* by slot, sparse: members that a key counts in now */
	struct kernel_part_held *held;
	uint32_t held_nr, held_max;
	uint32_t *retiring; /* members whose last fold is not published yet */
	uint32_t retiring_nr, retiring_max;
};

/* Gives each slot of the kernel the part that was published of it. 0 or -ENOMEM. */
int kernel_parts_open(struct kernel_parts *p, struct space *space);
void kernel_parts_close(struct kernel_parts *p);

/*
 * Called when the probes of the start are attached: the parts of all other slots go into the bases,
 * and these counters become unknown.
 */
void kernel_parts_settle(struct kernel_parts *p);

/*
 * A probe counts in this counter or family from now on. If its incarnation is another than that of
 * the parts, these go into the bases and the probe begins at zero. Returns whether it is another.
 */
bool kernel_part_begin(struct kernel_parts *p, uint32_t name_slot, uint64_t incarnation);
void kernel_part_end(struct kernel_parts *p, uint32_t name_slot);

/* No slot of this name waits for its map any more: the slots may be reused. */
void kernel_part_held_drop(struct kernel_parts *p, uint32_t owner);

/* The number of an incarnation that began then. It fits into a name, and is never 0. */
static inline uint64_t kernel_part_incarnation(uint64_t since_real_ns)
{
	return (since_real_ns / 1000 & 0xffffffffffffull) | 1;
}

/* Sets the part to `sum`. */
void kernel_part_set(struct kernel_parts *p, uint32_t slot, uint64_t sum);

/* The same for a sum that may be less: another slot rises by as much or more in the same fold. */
void kernel_part_move(struct kernel_parts *p, uint32_t slot, uint64_t sum);

/* Sets the part of a member that no key counts in to 0; it is removed when that is published. */
void kernel_part_retire(struct kernel_parts *p, uint32_t slot);
void kernel_parts_folded(struct kernel_parts *p);

/* Moves the part into the base; the total stays the same. */
void kernel_part_commit(struct kernel_parts *p, uint32_t slot);

/* is_known: a probe counts in the slot now; else its counter is unknown. */
void kernel_part_state(struct kernel_parts *p, uint32_t slot, bool is_known);

#endif

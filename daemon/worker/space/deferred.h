/*
 * The queue of what waits for a grace period: rows that retire and members whose removal has begun.
 * Owns struct space_deferred, and knows nothing of what is done at the end. The fold thread alone
 * calls this.
 *
 *                deferred_put         deferred_begin        grace passes       deferred_end
 *   caller ─────► open ───────────────► closed ───────────────► closed ─────────► end(slot, seq)
 *                 (waits for the next)  (one grace period)       (in slices)
 */
#ifndef SPACE_DEFERRED_H
#define SPACE_DEFERRED_H

#include "daemon/worker/space/space.h"

/* What is done with a slot when the grace period has passed. seq is what the caller put: a row's
 * retire_seq, to distinguish a retirement that was cancelled meanwhile from a later one. */
typedef void deferred_fn(struct space *space, uint32_t slot, uint32_t seq);

struct deferred {
	uint32_t slot, seq;
	deferred_fn *end;
};

/* The slot's route is stored: `end` comes after the next grace period. */
void deferred_put(struct space *space, uint32_t slot, uint32_t seq, deferred_fn *end);

/* Is there room for one more retirement? There always is for a removal: a slot has one at most. */
bool deferred_has_room(const struct space *space);

/* A grace period begins for all that waits; how much that is. */
uint32_t deferred_begin(struct space *space);

/* That grace period has passed. false: a slice was ended, and the fold comes before the next one;
 * call it again. */
bool deferred_end(struct space *space);

#endif

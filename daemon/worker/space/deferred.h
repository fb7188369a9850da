/*
 * What waits for a grace period: the second half of a row's retirement and of a member's removal. A
 * batch is closed when a grace begins and completed when it has passed; what is deferred meanwhile
 * waits for the next one. Owns space->deferred; knows nothing of what it calls. The fold thread
 * alone calls this.
 */
#ifndef SPACE_DEFERRED_H
#define SPACE_DEFERRED_H

#include "daemon/worker/space/space.h"

/* Called once after the grace. seq is the caller's: which of several deferrals of one slot this
 * was. */
struct deferred {
	void (*finish)(struct space *space, uint32_t slot, uint32_t seq);
	uint32_t slot, seq;
};

int deferred_open(struct space *space);
void deferred_close(struct space *space);

/* Defers until the next grace period has passed. A slot's removal always has room. */
void deferred_put(struct space *space, const struct deferred *d);

/* Is there room for one more retirement? */
bool deferred_has_room(const struct space *space);

/* Closes the batch; its size. */
uint32_t deferred_begin(struct space *space);

/* The grace that deferred_begin was for has passed: finishes the batch. false: only a part of it,
 * and the fold comes first; call it again. */
bool deferred_end(struct space *space);

#endif

/*
 * Who waits for a grace: rows that retire and members that go. A batch is closed when a grace begins
 * and completed when it has passed; what comes meanwhile waits for the next one. Owns space->leaving
 * and space->visited. The fold thread alone calls this.
 */
#ifndef SPACE_LEAVE_H
#define SPACE_LEAVE_H

#include "daemon/worker/space/space.h"

/* Who leaves, and how: seq is what owners_retire gave; 0: the slot is removed. */
struct leave {
	uint32_t slot, seq;
};

/* A slot's removal, or its row's retirement, has stored the route: finished after the next grace. */
void leave_put(struct space *space, uint32_t slot);
void leave_put_row(struct space *space, uint32_t slot, uint32_t seq);

/* Is there room for one more retirement? */
bool leave_has_room(const struct space *space);

/* Closes the batch; its size. */
uint32_t leave_begin(struct space *space);

/* The grace that leave_begin was for has passed: rows are free, members are gone. false: only a part,
 * and the fold comes first; call it again. */
bool leave_end(struct space *space);

#endif

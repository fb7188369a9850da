/*
 * The removal of members (PROTOCOL 3): out of the index, then an even generation, and after the
 * grace period one intent moves what they held to the family's `removed`. Also adds that come late:
 * without rseq, and delayed beyond that. Owns the free slots (struct removal) and the intent in D.
 * The fold thread alone calls this, inside registry_read_begin.
 */
#ifndef SPACE_REMOVE_H
#define SPACE_REMOVE_H

#include "daemon/worker/space/space.h"

int remove_open(struct space *space);
void remove_close(struct space *space);

/* Does the kernel count in it now? Such a member is removed when its key is, and not before. */
bool remove_is_counted(const struct space *space, uint32_t slot);

/* Begins a member's removal. 0 (also when it is being removed), -EINVAL for what is no member. */
int remove_begin(struct space *space, uint32_t slot, enum shm_why why, uint32_t uid);

/* At start: finishes an intent that a former worker died over; before any slot is recovered. */
void remove_replay(struct space *space);

/* At start: a slot with SHM_F_REMOVING: its removal is repeated from the index entry. */
void remove_recover(struct space *space, uint32_t slot);

/* At start: a slot that is not in use, and may be handed out again. */
void remove_recover_free(struct space *space, uint32_t slot);

/* A cell of a freed slot changed, by an add without rseq: moves it to the family's `removed`. After
 * a fold, all that it found. */
void remove_late(struct space *space, uint32_t slot);
void remove_late_all(struct space *space);

/* A freed slot whose name record has room for exactly name_bytes (rounded up to 8), that may be
 * handed out now; SHM_SLOT_NONE: none. It is no longer free then. */
uint32_t remove_reuse(struct space *space, uint32_t name_bytes);

/* Makes a family's `removed` member known: adds to its cell come too late for their member. */
void remove_family(struct space *space, uint32_t removed);

/* Once a second: publishes how much came late. */
void remove_second(struct space *space);

#endif

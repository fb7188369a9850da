/*
 * Rows and the slots that own them: assigning, retiring, and which row is free and quiet. The truth
 * is in D (a row belongs to the slot whose state names it, PROTOCOL 2); what is kept here is
 * derived from it at start. Owns space->rows.list and space->rows.owned. The fold thread alone
 * calls this.
 *
 *   rows_allocate        a free row becomes the slot's; at once
 *   rows_retire        adds go to the cold cell; the row is still summed until the grace has passed
 *   rows_free_retired       after the grace: the row is free and quiet
 *   rows_free       the same for a slot whose removal takes the row's sum along
 */
#ifndef SPACE_ROWS_H
#define SPACE_ROWS_H

#include "daemon/worker/space/space.h"

#define ROW_FREE SHM_SLOT_NONE

/* One row, by its number. */
struct row {
	uint32_t slot;	     /* ROW_FREE: nobody's, and no section can be adding to it */
	uint32_t quiet_s;    /* seconds for which its rate was under the threshold */
	uint64_t quiet_sum;  /* of a free row: what its cells add up to, which nobody may change */
	int64_t last_second; /* of an owned one: the slot's total at the last tick */
	float rate;	     /* over the last second; NaN before the first */
	uint32_t retire_seq; /* counts retirements: which one a grace was for */
	bool is_retiring;    /* summed, and no longer in the slot's route */
};

/* An entry of space->rows.owned: in the order of slots, as the fold needs them. */
struct row_owned {
	uint32_t slot, row;
};

int rows_open(struct space *space);
void rows_close(struct space *space);

/* Takes over the row that a slot's state names, at start; it is retiring when no route names it. 0
 * or -ENOMEM. */
int rows_recover(struct space *space, uint32_t slot);

/* The slot's base changes by n and its row (a byte offset) to `row`, in one store that commits
 * both. */
void rows_commit(struct space *space, uint32_t slot, int64_t n, uint32_t row);

/* The row that a slot's state names, by number; SHM_ROW_NONE when there is none. */
uint32_t rows_of_slot(const struct space *space, uint32_t slot);

/* The sum of one row over all lanes, now. */
uint64_t rows_sum_one(const struct space *space, uint32_t row);

/* Is there a row to give: free, within rows_max and what the self-test allows? */
bool rows_have_free(struct space *space);

/* Gives a row to a live slot that has none. 0, -ENOSPC, -ENOMEM. */
int rows_allocate(struct space *space, uint32_t slot);

/* Stops adds to the slot's row; after the next grace rows_free_retired with what this returned,
 * which does nothing (false) when rows_cancel came between: that undoes it while the state still
 * names the row. */
uint32_t rows_retire(struct space *space, uint32_t slot);
void rows_cancel(struct space *space, uint32_t slot);
bool rows_free_retired(struct space *space, uint32_t slot, uint32_t seq);

/* The state no longer names this row, whose adds have ended. */
void rows_free(struct space *space, uint32_t row);

/* Does the slot have a row that its writers use (hot), or one that is only summed (retiring)? */
bool rows_is_hot(const struct space *space, uint32_t slot);
bool rows_is_retiring(const struct space *space, uint32_t slot);

/* Brings space->rows.owned up to date: once before a fold. */
void rows_sort(struct space *space);

/* Sums the rows that are in use into space->rows.sums. */
void rows_sum(struct space *space);

/* Once a second: do free rows hold what they held? */
void rows_check_free(struct space *space);

#endif

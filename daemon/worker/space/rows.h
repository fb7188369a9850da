/*
 * Rows, and which slot each belongs to. The truth is in D: a row belongs to the slot whose state
 * names it (PROTOCOL 2). What is kept here is derived from that at a start. Owns struct space_rows;
 * does not decide who gets a row (heat.c), and reports strays to its caller. The fold thread alone
 * calls this.
 *
 *             rows_allocate            rows_retire                   rows_free_retired
 *   free ───────────────────► hot ─────────────────► retiring ─────────────────► free
 *                              ▲                         │  after the grace period
 *                              └─────── rows_cancel ─────┘
 *
 *   hot        writers add to the row, which the fold sums
 *   retiring   new adds go to the cold cell; the fold still sums the row
 *   free       no section can be adding to the row; what it holds is its quiet sum
 */
#ifndef SPACE_ROWS_H
#define SPACE_ROWS_H

#include "daemon/worker/space/space.h"

#define ROW_FREE SHM_SLOT_NONE

/* One row, by its number. */
struct row {
	uint32_t slot;	     /* ROW_FREE: none, and no section can be adding to it */
	uint32_t retire_seq; /* counts retirements: which one a grace period was for */
	uint64_t quiet_sum;  /* of a free row: what its cells add up to, which must not change */
	bool is_retiring;    /* summed, and no longer in the slot's route */
};

/* An entry of the lists that the fold reads in the order of slots. */
struct row_owned {
	uint32_t slot, row;
};

/* How many rows the configuration allows. */
void rows_configure(struct space *space, uint32_t rows_max);

/* At start: adopts the row that a slot's state names; it is retiring when no route names it. 0 or
 * -ENOMEM. */
int rows_recover(struct space *space, uint32_t slot);

/* The slot's base changes by n and its row (a byte offset) to `row`: one store commits both. */
void rows_commit(struct space *space, uint32_t slot, int64_t n, uint32_t row);

/* The row that a slot's state names, by number; SHM_ROW_NONE when there is none. */
uint32_t rows_of_slot(const struct space *space, uint32_t slot);

/* The sum of one row over all lanes, now. */
uint64_t rows_sum_one(const struct space *space, uint32_t row);

/* Gives a row to a live slot that has none. 0, -ENOSPC, -ENOMEM. *ret_stray: by how much the cells
 * of the row have changed while it was free, 0 as a rule; set on success alone. */
int rows_allocate(struct space *space, uint32_t slot, int64_t *ret_stray);

/* Stops adds to the slot's row. The caller defers rows_free_retired with the number that this
 * returns. */
uint32_t rows_retire(struct space *space, uint32_t slot);

/* Ends a retirement while the state still names the row: writers use it again. */
void rows_cancel(struct space *space, uint32_t slot);

/* After the grace period: the row's sum is in the base, the row is free. false, and nothing is
 * done, when that retirement was cancelled. */
bool rows_free_retired(struct space *space, uint32_t slot, uint32_t seq);

/* The same for a slot whose removal has committed a state without this row and with its sum. */
void rows_free(struct space *space, uint32_t row);

/* Does the slot have a row that its writers use (hot), or one that is only summed (retiring)? */
bool rows_is_hot(const struct space *space, uint32_t slot);
bool rows_is_retiring(const struct space *space, uint32_t slot);

/* Brings the sorted list up to date: once before a fold. */
void rows_sort(struct space *space);

/* Sums the rows that are in use: once in a fold. */
void rows_sum(struct space *space);

/* Once a second: calls stray for each free row whose cells have changed by n since they were last
 * read. */
typedef void rows_stray_fn(struct space *space, uint32_t row, int64_t n);
void rows_check_free(struct space *space, rows_stray_fn *stray);

#endif

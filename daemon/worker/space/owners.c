/* See owners.h. */
#include "daemon/worker/space/owners.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/worker/space/rows.h"
#include "daemon/worker/space/suspect.h"

#define SUM_ROWS 2048u /* summed at a time: what they add up to stays in the first cache */

int owners_open(struct space *space)
{
	space->rows = space_array(sizeof(*space->rows), SHM_ROWS_MAX);
	space->owners = space_array(sizeof(*space->owners), SHM_ROWS_MAX);
	space->joining = space_array(sizeof(*space->joining), SHM_ROWS_MAX);
	space->merged = space_array(sizeof(*space->merged), SHM_ROWS_MAX);
	space->row_sums = space_array(sizeof(*space->row_sums), SHM_ROWS_MAX);
	return space->rows && space->owners && space->joining && space->merged &&
			       space->row_sums ? 0 : -ENOMEM;
}

void owners_close(struct space *space)
{
	space_array_free(space->rows, sizeof(*space->rows), SHM_ROWS_MAX);
	space_array_free(space->owners, sizeof(*space->owners), SHM_ROWS_MAX);
	space_array_free(space->joining, sizeof(*space->joining), SHM_ROWS_MAX);
	space_array_free(space->merged, sizeof(*space->merged), SHM_ROWS_MAX);
	space_array_free(space->row_sums, sizeof(*space->row_sums), SHM_ROWS_MAX);
}

uint32_t owners_row(const struct space *space, uint32_t slot)
{
	uint32_t row = slot_row(shm_count_read(&space_slot(space, slot)->state));

	return row == SHM_ROW_NONE ? SHM_ROW_NONE : row / 8;
}

uint64_t owners_row_sum(const struct space *space, uint32_t row)
{
	const char *cell = space->s + SHM_S_LANES + row * 8ull;
	uint64_t sum = 0;

	for (uint32_t lane = 0; lane < space->lanes_nr; lane++, cell += SHM_LANE_STRIDE)
		sum += shm_count_read((const uint64_t *)cell);
	return sum;
}

static void state_hot(const struct space *space, uint32_t slot, bool is_hot)
{
	uint8_t *state = &space_states(space)[slot];

	shm_set8(state, (uint8_t)(is_hot ? *state | SHM_T_HOT : *state & ~SHM_T_HOT));
}

/* --- which row is free ------------------------------------------------------------------------ */

/* Commits rows up to one; what those hold that nobody has owned yet is their quiet sum. */
static int rows_commit(struct space *space, uint32_t row)
{
	uint32_t from = space->rows_committed;
	int err = pages_rows(space, row + 1);

	for (uint32_t r = from; r < space->rows_committed && r < SHM_ROWS_MAX && !err; r++)
		space->rows[r].quiet_sum = owners_row_sum(space, r);
	return err;
}

/* Rows that had an owner are given again only if sections are known to abort. */
static uint32_t row_find(struct space *space)
{
	uint32_t promotion = shm_read32(&space->d->promotion);
	uint32_t row = space->row_next, ever = shm_read32(&space->d->rows_ever);

	if (promotion & SHM_ROWS_OFF)
		return SHM_ROW_NONE;
	if ((promotion & SHM_REUSE_OFF) && row < ever)
		row = ever;
	while (row < space->rows_max && space->rows[row].slot != ROW_FREE)
		row++;
	if (!(promotion & SHM_REUSE_OFF))
		space->row_next = row;
	return row < space->rows_max ? row : SHM_ROW_NONE;
}

bool owners_have_free(struct space *space)
{
	return row_find(space) != SHM_ROW_NONE;
}

/* --- the two changes -------------------------------------------------------------------------- */

void owners_commit(struct space *space, uint32_t slot, int64_t n, uint32_t row)
{
	struct slot_shm *s = space_slot(space, slot);
	uint64_t state = shm_count_read(&s->state);
	uint32_t version = state_version(state);
	int64_t base = s->base[version & 1] + n;

	/* ORDER(state): the base stands before the state that makes it valid, and it is stored after
	 * the last state, for whose readers it still was the other half. */
	shm_publish((uint64_t *)&s->base[(version + 1) & 1], (uint64_t)base);
	shm_publish(&s->state, state_make(version + 1, state_flags(state), row));
	space_apart_add(space, slot, n);
}

/* What is known of a row that a slot has from now on. */
static void row_own(struct space *space, uint32_t row, uint32_t slot)
{
	uint32_t seq = space->rows[row].retire_seq;

	space->rows[row] = (struct row){ .slot = slot, .rate = NAN, .retire_seq = seq };
	if (space->joining_nr == SHM_ROWS_MAX)
		owners_sort(space);
	space->joining[space->joining_nr++] = (struct owner){ slot, row };
	space->rows_used++;
	if (row >= space->rows_nr)
		space->rows_nr = row + 1;
}

int owners_assign(struct space *space, uint32_t slot)
{
	struct slot_shm *s = space_slot(space, slot);
	uint64_t route = shm_count_read(&s->route);
	uint32_t row = row_find(space);
	uint64_t sum;
	int err;

	if (row == SHM_ROW_NONE)
		return -ENOSPC;
	err = row < space->rows_committed ? 0 : rows_commit(space, row);
	if (err)
		return err;
	sum = owners_row_sum(space, row);
	if (sum != space->rows[row].quiet_sum)
		suspect_stray(space, SHM_SLOT_NONE, row,
			      (int64_t)(sum - space->rows[row].quiet_sum));
	if (row >= shm_read32(&space->d->rows_ever))
		shm_publish32(&space->d->rows_ever, row + 1);
	owners_commit(space, slot, -(int64_t)sum, row * 8);
	/* ORDER(state): readers know the row before the first writer can add to it. */
	shm_publish(&s->route, slot_route(slot_generation(route), row * 8));
	row_own(space, row, slot);
	space->rows[row].last_second = (int64_t)space_totals(
		space, shm_count_read(&space->t->epoch) & 1)[slot];
	state_hot(space, slot, true);
	return 0;
}

uint32_t owners_retire(struct space *space, uint32_t slot)
{
	struct slot_shm *s = space_slot(space, slot);
	struct row *row = &space->rows[owners_row(space, slot)];

	shm_publish(&s->route, slot_route(slot_generation(shm_count_read(&s->route)),
					  SHM_ROW_NONE));
	/* ORDER(grace): the route is stored before any CPU is visited. */
	shm_fence();
	row->is_retiring = true;
	if (!++row->retire_seq)
		row->retire_seq = 1;
	space->rows_retiring++;
	state_hot(space, slot, false);
	return row->retire_seq;
}

void owners_keep(struct space *space, uint32_t slot)
{
	struct slot_shm *s = space_slot(space, slot);
	uint32_t row = owners_row(space, slot);

	shm_publish(&s->route, slot_route(slot_generation(shm_count_read(&s->route)), row * 8));
	space->rows[row].is_retiring = false;
	space->rows[row].quiet_s = 0;
	space->rows_retiring--;
	state_hot(space, slot, true);
}

bool owners_retired(struct space *space, uint32_t slot, uint32_t seq)
{
	uint32_t row = owners_row(space, slot);

	if (row == SHM_ROW_NONE || !space->rows[row].is_retiring ||
	    space->rows[row].retire_seq != seq)
		return false;
	owners_commit(space, slot, (int64_t)owners_row_sum(space, row), SHM_ROW_NONE);
	owners_release(space, row);
	return true;
}

void owners_release(struct space *space, uint32_t row)
{
	struct row *r = &space->rows[row];

	space->rows_retiring -= r->is_retiring;
	*r = (struct row){ .slot = ROW_FREE, .retire_seq = r->retire_seq,
			   .quiet_sum = owners_row_sum(space, row) };
	space->rows_used--;
	space->is_owners_stale = true;
	if (row < space->row_next)
		space->row_next = row;
	while (space->rows_nr && space->rows[space->rows_nr - 1].slot == ROW_FREE)
		space->rows_nr--;
}

bool owners_is_hot(const struct space *space, uint32_t slot)
{
	uint32_t row = owners_row(space, slot);

	return row != SHM_ROW_NONE && !space->rows[row].is_retiring;
}

bool owners_is_retiring(const struct space *space, uint32_t slot)
{
	uint32_t row = owners_row(space, slot);

	return row != SHM_ROW_NONE && space->rows[row].is_retiring;
}

int owners_recover(struct space *space, uint32_t slot)
{
	uint32_t row = owners_row(space, slot);
	int err;

	if (row == SHM_ROW_NONE)
		return 0;
	err = row < space->rows_committed ? 0 : rows_commit(space, row);
	if (err)
		return err;
	row_own(space, row, slot);
	space->rows[row].last_second = (int64_t)space_totals(
		space, shm_count_read(&space->t->epoch) & 1)[slot];
	if (slot_row(shm_count_read(&space_slot(space, slot)->route)) != SHM_ROW_NONE) {
		state_hot(space, slot, true);
		return 0;
	}
	space->rows[row].is_retiring = true;
	space->rows[row].retire_seq = 1;
	space->rows_retiring++;
	state_hot(space, slot, false);
	return 0;
}

/* --- for the fold ----------------------------------------------------------------------------- */

static int by_slot(const void *x, const void *y)
{
	const struct owner *a = x, *b = y;

	return a->slot < b->slot ? -1 : a->slot > b->slot;
}

/* Takes an entry over if it still is true; a slot may have come twice with the same row. */
static void owner_take(struct space *space, const struct owner *o, uint32_t *nr)
{
	if (space->rows[o->row].slot == o->slot &&
	    (!*nr || space->merged[*nr - 1].slot != o->slot))
		space->merged[(*nr)++] = *o;
}

void owners_sort(struct space *space)
{
	struct owner *from = space->owners;
	uint32_t nr = 0, i = 0, k = 0;

	if (!space->joining_nr && !space->is_owners_stale)
		return;
	qsort(space->joining, space->joining_nr, sizeof(*space->joining), by_slot);
	while (i < space->owners_nr || k < space->joining_nr) {
		bool is_old = k == space->joining_nr ||
			      (i < space->owners_nr && from[i].slot <= space->joining[k].slot);

		owner_take(space, is_old ? &from[i++] : &space->joining[k++], &nr);
	}
	space->owners = space->merged;
	space->merged = from;
	space->owners_nr = nr;
	space->joining_nr = 0;
	space->is_owners_stale = false;
}

static void sum_rows(const struct space *space, uint32_t first, uint32_t nr, uint64_t *ret)
{
	rows_sum(space->s + SHM_S_LANES, SHM_LANE_STRIDE, space->lanes_nr, first, nr, ret);
}

void owners_sum(struct space *space)
{
	for (uint32_t first = 0; first < space->rows_nr; first += SUM_ROWS)
		sum_rows(space, first,
			 space->rows_nr - first < SUM_ROWS ? space->rows_nr - first : SUM_ROWS,
			 space->row_sums + first);
}

void owners_check_free(struct space *space)
{
	uint32_t end = space->rows_committed < SHM_ROWS_MAX ? space->rows_committed : SHM_ROWS_MAX;
	uint64_t sums[SUM_ROWS];

	for (uint32_t first = 0; first < end; first += SUM_ROWS) {
		uint32_t nr = end - first < SUM_ROWS ? end - first : SUM_ROWS;

		if (space->rows_used == space->rows_nr && first + nr <= space->rows_nr)
			continue; /* none of these is free */
		sum_rows(space, first, nr, sums);
		for (uint32_t i = 0; i < nr; i++) {
			struct row *row = &space->rows[first + i];

			if (row->slot != ROW_FREE || sums[i] == row->quiet_sum)
				continue;
			suspect_stray(space, SHM_SLOT_NONE, first + i,
				      (int64_t)(sums[i] - row->quiet_sum));
			row->quiet_sum = sums[i];
		}
	}
}

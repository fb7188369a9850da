/* See rows.h. */
#include "daemon/worker/space/rows.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/worker/space/lanes.h"
#include "daemon/worker/space/suspect.h"

#define SUM_ROWS 2048u /* summed at a time: what they add up to stays in the first cache */

int rows_open(struct space *space)
{
	space->rows.list = space_array(sizeof(*space->rows.list), SHM_ROWS_MAX);
	space->rows.owned = space_array(sizeof(*space->rows.owned), SHM_ROWS_MAX);
	space->rows.joining = space_array(sizeof(*space->rows.joining), SHM_ROWS_MAX);
	space->rows.merged = space_array(sizeof(*space->rows.merged), SHM_ROWS_MAX);
	space->rows.sums = space_array(sizeof(*space->rows.sums), SHM_ROWS_MAX);
	return space->rows.list && space->rows.owned && space->rows.joining && space->rows.merged &&
			       space->rows.sums ? 0 : -ENOMEM;
}

void rows_close(struct space *space)
{
	space_array_free(space->rows.list, sizeof(*space->rows.list), SHM_ROWS_MAX);
	space_array_free(space->rows.owned, sizeof(*space->rows.owned), SHM_ROWS_MAX);
	space_array_free(space->rows.joining, sizeof(*space->rows.joining), SHM_ROWS_MAX);
	space_array_free(space->rows.merged, sizeof(*space->rows.merged), SHM_ROWS_MAX);
	space_array_free(space->rows.sums, sizeof(*space->rows.sums), SHM_ROWS_MAX);
}

uint32_t rows_of_slot(const struct space *space, uint32_t slot)
{
	uint32_t row = slot_row(shm_count_read(&space_slot(space, slot)->state));

	return row == SHM_ROW_NONE ? SHM_ROW_NONE : row / 8;
}

uint64_t rows_sum_one(const struct space *space, uint32_t row)
{
	const char *cell = space->s + SHM_S_LANES + row * 8ull;
	uint64_t sum = 0;

	for (uint32_t lane = 0; lane < space->pages.lanes_nr; lane++, cell += SHM_LANE_STRIDE)
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
static int row_commit_pages(struct space *space, uint32_t row)
{
	uint32_t from = space->pages.rows_nr;
	int err = pages_rows(space, row + 1);

	for (uint32_t r = from; r < space->pages.rows_nr && r < SHM_ROWS_MAX && !err; r++)
		space->rows.list[r].quiet_sum = rows_sum_one(space, r);
	return err;
}

/* Rows that had an owner are given again only if sections are known to abort. */
static uint32_t row_find(struct space *space)
{
	uint32_t promotion = shm_read32(&space->d->promotion);
	uint32_t row = space->rows.next_free, ever = shm_read32(&space->d->rows_ever);

	if (promotion & SHM_ROWS_OFF)
		return SHM_ROW_NONE;
	if ((promotion & SHM_REUSE_OFF) && row < ever)
		row = ever;
	while (row < space->rows.max && space->rows.list[row].slot != ROW_FREE)
		row++;
	if (!(promotion & SHM_REUSE_OFF))
		space->rows.next_free = row;
	return row < space->rows.max ? row : SHM_ROW_NONE;
}

bool rows_have_free(struct space *space)
{
	return row_find(space) != SHM_ROW_NONE;
}

/* --- the two changes -------------------------------------------------------------------------- */

void rows_commit(struct space *space, uint32_t slot, int64_t n, uint32_t row)
{
	struct slot_shm *s = space_slot(space, slot);
	uint64_t state = shm_count_read(&s->state);
	uint32_t version = state_version(state);
	int64_t base = s->base[version & 1] + n;

	/* ORDER(state): the base stands before the state that makes it valid, and it is stored after
	 * the last state, for whose readers it still was the other half. */
	shm_publish((uint64_t *)&s->base[(version + 1) & 1], (uint64_t)base);
	shm_publish(&s->state, state_make(version + 1, state_flags(state), row));
	space_off_shard_add(space, slot, n);
}

/* What is known of a row that a slot has from now on. */
static void row_own(struct space *space, uint32_t row, uint32_t slot)
{
	uint32_t seq = space->rows.list[row].retire_seq;

	space->rows.list[row] = (struct row){ .slot = slot, .rate = NAN, .retire_seq = seq };
	if (space->rows.joining_nr == SHM_ROWS_MAX)
		rows_sort(space);
	space->rows.joining[space->rows.joining_nr++] = (struct row_owned){ slot, row };
	space->rows.used_nr++;
	if (row >= space->rows.summed_nr)
		space->rows.summed_nr = row + 1;
}

int rows_allocate(struct space *space, uint32_t slot)
{
	struct slot_shm *s = space_slot(space, slot);
	uint64_t route = shm_count_read(&s->route);
	uint32_t row = row_find(space);
	uint64_t sum;
	int err;

	if (row == SHM_ROW_NONE)
		return -ENOSPC;
	err = row < space->pages.rows_nr ? 0 : row_commit_pages(space, row);
	if (err)
		return err;
	sum = rows_sum_one(space, row);
	if (sum != space->rows.list[row].quiet_sum)
		suspect_stray(space, SHM_SLOT_NONE, row,
			      (int64_t)(sum - space->rows.list[row].quiet_sum));
	if (row >= shm_read32(&space->d->rows_ever))
		shm_publish32(&space->d->rows_ever, row + 1);
	rows_commit(space, slot, -(int64_t)sum, row * 8);
	/* ORDER(state): readers know the row before the first writer can add to it. */
	shm_publish(&s->route, slot_route(slot_generation(route), row * 8));
	row_own(space, row, slot);
	space->rows.list[row].last_second = (int64_t)space_totals(
		space, shm_count_read(&space->t->epoch) & 1)[slot];
	state_hot(space, slot, true);
	return 0;
}

uint32_t rows_retire(struct space *space, uint32_t slot)
{
	struct slot_shm *s = space_slot(space, slot);
	struct row *row = &space->rows.list[rows_of_slot(space, slot)];

	shm_publish(&s->route, slot_route(slot_generation(shm_count_read(&s->route)),
					  SHM_ROW_NONE));
	/* ORDER(grace): the route is stored before any CPU is visited. */
	shm_fence();
	row->is_retiring = true;
	if (!++row->retire_seq)
		row->retire_seq = 1;
	space->rows.retiring_nr++;
	state_hot(space, slot, false);
	return row->retire_seq;
}

void rows_cancel(struct space *space, uint32_t slot)
{
	struct slot_shm *s = space_slot(space, slot);
	uint32_t row = rows_of_slot(space, slot);

	shm_publish(&s->route, slot_route(slot_generation(shm_count_read(&s->route)), row * 8));
	space->rows.list[row].is_retiring = false;
	space->rows.list[row].quiet_s = 0;
	space->rows.retiring_nr--;
	state_hot(space, slot, true);
}

bool rows_free_retired(struct space *space, uint32_t slot, uint32_t seq)
{
	uint32_t row = rows_of_slot(space, slot);

	if (row == SHM_ROW_NONE || !space->rows.list[row].is_retiring ||
	    space->rows.list[row].retire_seq != seq)
		return false;
	rows_commit(space, slot, (int64_t)rows_sum_one(space, row), SHM_ROW_NONE);
	rows_free(space, row);
	return true;
}

void rows_free(struct space *space, uint32_t row)
{
	struct row *r = &space->rows.list[row];

	space->rows.retiring_nr -= r->is_retiring;
	*r = (struct row){ .slot = ROW_FREE, .retire_seq = r->retire_seq,
			   .quiet_sum = rows_sum_one(space, row) };
	space->rows.used_nr--;
	space->rows.is_owned_stale = true;
	if (row < space->rows.next_free)
		space->rows.next_free = row;
	while (space->rows.summed_nr && space->rows.list[space->rows.summed_nr - 1].slot == ROW_FREE)
		space->rows.summed_nr--;
}

bool rows_is_hot(const struct space *space, uint32_t slot)
{
	uint32_t row = rows_of_slot(space, slot);

	return row != SHM_ROW_NONE && !space->rows.list[row].is_retiring;
}

bool rows_is_retiring(const struct space *space, uint32_t slot)
{
	uint32_t row = rows_of_slot(space, slot);

	return row != SHM_ROW_NONE && space->rows.list[row].is_retiring;
}

int rows_recover(struct space *space, uint32_t slot)
{
	uint32_t row = rows_of_slot(space, slot);
	int err;

	if (row == SHM_ROW_NONE)
		return 0;
	err = row < space->pages.rows_nr ? 0 : row_commit_pages(space, row);
	if (err)
		return err;
	row_own(space, row, slot);
	space->rows.list[row].last_second = (int64_t)space_totals(
		space, shm_count_read(&space->t->epoch) & 1)[slot];
	if (slot_row(shm_count_read(&space_slot(space, slot)->route)) != SHM_ROW_NONE) {
		state_hot(space, slot, true);
		return 0;
	}
	space->rows.list[row].is_retiring = true;
	space->rows.list[row].retire_seq = 1;
	space->rows.retiring_nr++;
	state_hot(space, slot, false);
	return 0;
}

/* --- for the fold ----------------------------------------------------------------------------- */

static int by_slot(const void *x, const void *y)
{
	const struct row_owned *a = x, *b = y;

	return a->slot < b->slot ? -1 : a->slot > b->slot;
}

/* Takes an entry over if it still is true; a slot may have come twice with the same row. */
static void owner_take(struct space *space, const struct row_owned *o, uint32_t *nr)
{
	if (space->rows.list[o->row].slot == o->slot &&
	    (!*nr || space->rows.merged[*nr - 1].slot != o->slot))
		space->rows.merged[(*nr)++] = *o;
}

void rows_sort(struct space *space)
{
	struct row_owned *from = space->rows.owned;
	uint32_t nr = 0, i = 0, k = 0;

	if (!space->rows.joining_nr && !space->rows.is_owned_stale)
		return;
	qsort(space->rows.joining, space->rows.joining_nr, sizeof(*space->rows.joining), by_slot);
	while (i < space->rows.owned_nr || k < space->rows.joining_nr) {
		bool is_old = k == space->rows.joining_nr ||
			      (i < space->rows.owned_nr && from[i].slot <= space->rows.joining[k].slot);

		owner_take(space, is_old ? &from[i++] : &space->rows.joining[k++], &nr);
	}
	space->rows.owned = space->rows.merged;
	space->rows.merged = from;
	space->rows.owned_nr = nr;
	space->rows.joining_nr = 0;
	space->rows.is_owned_stale = false;
}

static void sum_rows(const struct space *space, uint32_t first, uint32_t nr, uint64_t *ret)
{
	lanes_sum(space->s + SHM_S_LANES, SHM_LANE_STRIDE, space->pages.lanes_nr, first, nr, ret);
}

void rows_sum(struct space *space)
{
	const struct space_rows *r = &space->rows;

	for (uint32_t first = 0; first < r->summed_nr; first += SUM_ROWS)
		sum_rows(space, first,
			 r->summed_nr - first < SUM_ROWS ? r->summed_nr - first : SUM_ROWS,
			 r->sums + first);
}

void rows_check_free(struct space *space)
{
	uint32_t end = space->pages.rows_nr < SHM_ROWS_MAX ? space->pages.rows_nr : SHM_ROWS_MAX;
	uint64_t sums[SUM_ROWS];

	for (uint32_t first = 0; first < end; first += SUM_ROWS) {
		uint32_t nr = end - first < SUM_ROWS ? end - first : SUM_ROWS;

		if (space->rows.used_nr == space->rows.summed_nr && first + nr <= space->rows.summed_nr)
			continue; /* none of these is free */
		sum_rows(space, first, nr, sums);
		for (uint32_t i = 0; i < nr; i++) {
			struct row *row = &space->rows.list[first + i];

			if (row->slot != ROW_FREE || sums[i] == row->quiet_sum)
				continue;
			suspect_stray(space, SHM_SLOT_NONE, first + i,
				      (int64_t)(sums[i] - row->quiet_sum));
			row->quiet_sum = sums[i];
		}
	}
}

/* See rows.h. */
#include "daemon/worker/space/rows.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/worker/space/lanes.h"
#include "daemon/worker/space/pages.h"

#define SUM_ROWS 2048u /* summed at a time: what they add up to stays in the first cache */

void rows_configure(struct space *space, uint32_t rows_max)
{
	space->rows.max = rows_max > SHM_ROWS_MAX ? SHM_ROWS_MAX : rows_max;
	if (space->d->magic == SHM_MAGIC_D)
		shm_set32(&space->d->rows_max, space->rows.max);
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

static void rows_show(const struct space *space, uint32_t slot, bool is_hot)
{
	uint8_t *state = &space_states(space)[slot];

	shm_set8(state, (uint8_t)(is_hot ? *state | SHM_T_HOT : *state & ~SHM_T_HOT));
}

/* --- which row is free ------------------------------------------------------------------------ */

/* Commits rows up to this one. What the cells of new rows hold already is their quiet sum. */
static int rows_populate(struct space *space, uint32_t row)
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

/* --- the two changes -------------------------------------------------------------------------- */

void rows_commit(struct space *space, uint32_t slot, int64_t n, uint32_t row)
{
	struct slot_shm *s = space_slot(space, slot);
	uint64_t state = shm_count_read(&s->state);
	uint32_t version = state_version(state);
	int64_t base = s->base[version & 1] + n;

	/* ORDER(state): the base stands before the state that makes it valid, and it is stored
	 * after the last state, for whose readers it still was the other half. */
	shm_publish((uint64_t *)&s->base[(version + 1) & 1], (uint64_t)base);
	shm_publish(&s->state, state_make(version + 1, state_flags(state), row));
	space_off_shard_add(space, slot, n);
}

/* The row belongs to the slot from now on. */
static void row_own(struct space *space, uint32_t row, uint32_t slot)
{
	struct space_rows *rows = &space->rows;

	rows->list[row] = (struct row){ .slot = slot, .retire_seq = rows->list[row].retire_seq };
	if (rows->joining_nr == SHM_ROWS_MAX)
		rows_sort(space);
	rows->joining[rows->joining_nr++] = (struct row_owned){ slot, row };
	rows->used_nr++;
	if (row >= rows->summed_nr)
		rows->summed_nr = row + 1;
}

int rows_allocate(struct space *space, uint32_t slot, int64_t *ret_stray)
{
	struct slot_shm *s = space_slot(space, slot);
	uint64_t route = shm_count_read(&s->route);
	uint32_t row = row_find(space);
	uint64_t sum;
	int err;

	if (row == SHM_ROW_NONE)
		return -ENOSPC;
	err = row < space->pages.rows_nr ? 0 : rows_populate(space, row);
	if (err)
		return err;
	sum = rows_sum_one(space, row);
	*ret_stray = (int64_t)(sum - space->rows.list[row].quiet_sum);
	if (row >= shm_read32(&space->d->rows_ever))
		shm_publish32(&space->d->rows_ever, row + 1);
	rows_commit(space, slot, -(int64_t)sum, row * 8);
	/* ORDER(state): readers know the row before the first writer can add to it. */
	shm_publish(&s->route, slot_route(slot_generation(route), row * 8));
	row_own(space, row, slot);
	rows_show(space, slot, true);
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
	rows_show(space, slot, false);
	return row->retire_seq;
}

void rows_cancel(struct space *space, uint32_t slot)
{
	struct slot_shm *s = space_slot(space, slot);
	uint32_t row = rows_of_slot(space, slot);

	shm_publish(&s->route, slot_route(slot_generation(shm_count_read(&s->route)), row * 8));
	space->rows.list[row].is_retiring = false;
	space->rows.retiring_nr--;
	rows_show(space, slot, true);
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
	err = row < space->pages.rows_nr ? 0 : rows_populate(space, row);
	if (err)
		return err;
	row_own(space, row, slot);
	if (slot_row(shm_count_read(&space_slot(space, slot)->route)) != SHM_ROW_NONE) {
		rows_show(space, slot, true);
		return 0;
	}
	space->rows.list[row].is_retiring = true;
	space->rows.list[row].retire_seq = 1;
	space->rows.retiring_nr++;
	rows_show(space, slot, false);
	return 0;
}

/* --- for the fold ----------------------------------------------------------------------------- */

static int entry_by_slot(const void *x, const void *y)
{
	const struct row_owned *a = x, *b = y;

	return a->slot < b->slot ? -1 : a->slot > b->slot;
}

/* Adopts an entry if it still is true; the same slot may have been added twice with one row. */
static void entry_merge(struct space_rows *rows, const struct row_owned *e, uint32_t *nr)
{
	if (rows->list[e->row].slot == e->slot &&
	    (!*nr || rows->merged[*nr - 1].slot != e->slot))
		rows->merged[(*nr)++] = *e;
}

void rows_sort(struct space *space)
{
	struct space_rows *rows = &space->rows;
	struct row_owned *from = rows->owned;
	uint32_t nr = 0, i = 0, k = 0;

	if (!rows->joining_nr && !rows->is_owned_stale)
		return;
	qsort(rows->joining, rows->joining_nr, sizeof(*rows->joining), entry_by_slot);
	while (i < rows->owned_nr || k < rows->joining_nr) {
		bool is_old = k == rows->joining_nr ||
			      (i < rows->owned_nr && from[i].slot <= rows->joining[k].slot);

		entry_merge(rows, is_old ? &from[i++] : &rows->joining[k++], &nr);
	}
	rows->owned = rows->merged;
	rows->merged = from;
	rows->owned_nr = nr;
	rows->joining_nr = 0;
	rows->is_owned_stale = false;
}

static void rows_sum_range(const struct space *space, uint32_t first, uint32_t nr, uint64_t *ret)
{
	lanes_sum(space->s + SHM_S_LANES, SHM_LANE_STRIDE, space->pages.lanes_nr, first, nr, ret);
}

void rows_sum(struct space *space)
{
	const struct space_rows *rows = &space->rows;

	for (uint32_t first = 0; first < rows->summed_nr; first += SUM_ROWS) {
		uint32_t nr = rows->summed_nr - first < SUM_ROWS ? rows->summed_nr - first : SUM_ROWS;

		rows_sum_range(space, first, nr, rows->sums + first);
	}
}

void rows_check_free(struct space *space, rows_stray_fn *stray)
{
	const struct space_rows *rows = &space->rows;
	uint32_t end = space->pages.rows_nr < SHM_ROWS_MAX ? space->pages.rows_nr : SHM_ROWS_MAX;
	uint64_t sums[SUM_ROWS];

	for (uint32_t first = 0; first < end; first += SUM_ROWS) {
		uint32_t nr = end - first < SUM_ROWS ? end - first : SUM_ROWS;

		if (rows->used_nr == rows->summed_nr && first + nr <= rows->summed_nr)
			continue; /* none of these is free */
		rows_sum_range(space, first, nr, sums);
		for (uint32_t i = 0; i < nr; i++) {
			struct row *row = &rows->list[first + i];

			if (row->slot != ROW_FREE || sums[i] == row->quiet_sum)
				continue;
			stray(space, first + i, (int64_t)(sums[i] - row->quiet_sum));
			row->quiet_sum = sums[i];
		}
	}
}

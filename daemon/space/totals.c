/* See totals.h. */
#include "daemon/space/totals.h"

#include <string.h>

#include "daemon/space/rows.h"

#define LINE_U64S 8u

/* The slots of a run that lie in a block. */
static struct row_run run_within(const struct row_run *r, uint32_t first)
{
	uint32_t from = r->slot > first ? r->slot : first;
	uint32_t end = r->slot + r->nr < first + SPACE_BLOCK ? r->slot + r->nr :
							       first + SPACE_BLOCK;

	return (struct row_run){ from, r->row + from - r->slot, end - from };
}

/* The runs from `run` on that have slots in a block: their number, and that of their rows. */
static uint32_t runs_within(const struct space *space, uint32_t first, uint32_t run,
			    uint32_t *ret_rows_nr)
{
	uint32_t nr = 0;

	*ret_rows_nr = 0;
	for (; run + nr < space->runs_nr && space->runs[run + nr].slot < first + SPACE_BLOCK; nr++)
		*ret_rows_nr += run_within(&space->runs[run + nr], first).nr;
	return nr;
}

/*
 * The sums of a block's rows, each in its slot's place. Slots and rows are handed out in the same
 * order, so the rows of a block lie side by side however its slots are mixed. *run is the first run
 * that may have slots in the block, and moves on with the blocks.
 */
static void block_rows(const struct space *space, uint32_t first, uint64_t *sums, uint32_t *run)
{
	uint32_t rows_nr, runs_nr = runs_within(space, first, *run, &rows_nr);
	const struct row_run *r = &space->runs[*run];
	const char *lane0 = space->s + SHM_S_LANES;
	uint64_t rows[SPACE_BLOCK];
	uint32_t at = 0;

	if (rows_nr == SPACE_BLOCK && runs_nr == 1) {
		rows_sum(lane0, SHM_LANE_STRIDE, space->lanes_nr, run_within(r, first).row,
			 SPACE_BLOCK, sums);
	} else {
		memset(sums, 0, SPACE_BLOCK * sizeof(*sums));
		if (rows_nr)
			rows_sum(lane0, SHM_LANE_STRIDE, space->lanes_nr, run_within(r, first).row,
				 rows_nr, rows);
		for (uint32_t i = 0; i < runs_nr; i++) {
			struct row_run part = run_within(&r[i], first);

			memcpy(sums + part.slot - first, rows + at, part.nr * sizeof(*rows));
			at += part.nr;
		}
	}
	*run += runs_nr;
	if (runs_nr && r[runs_nr - 1].slot + r[runs_nr - 1].nr > first + SPACE_BLOCK)
		--*run;
}

/*
 * What a block of slots counts: the rows, the cold cells, and what lies elsewhere. Stores only what
 * differs: an unchanged line of T stays clean in the readers' caches.
 */
static void block_fold(const struct space *space, uint32_t first, uint64_t *to, uint32_t *run)
{
	const uint64_t *cold = (const uint64_t *)(space->s + shards_cold(first));
	const int64_t *apart = space->apart + first;
	uint64_t sums[SPACE_BLOCK];

	block_rows(space, first, sums, run);
	if (space->is_block_apart[first / SPACE_BLOCK])
		for (uint32_t i = 0; i < SPACE_BLOCK; i++)
			sums[i] += (uint64_t)apart[i];
	for (uint32_t i = 0; i < SPACE_BLOCK; i += LINE_U64S) {
		uint64_t differs = 0;

		/* Plain loads of hostile memory: aligned u64s that the compiler may load several at
		 * a time, each once. Atomic ones are not vectorised and take twice as long. */
		for (uint32_t k = i; k < i + LINE_U64S; k++) {
			sums[k] += cold[k];
			differs |= sums[k] ^ to[k];
		}
		if (!differs)
			continue;
		for (uint32_t k = i; k < i + LINE_U64S; k++)
			if (to[k] != sums[k])
				shm_count_set(&to[k], sums[k]);
	}
}

static void head_store(struct space *space, unsigned int copy, uint32_t slots_nr,
		       const struct fold_times *times)
{
	struct totals_shm *t = space->t;

	shm_count_set(&t->fold_mono_ns[copy], times->mono_ns);
	shm_count_set(&t->fold_real_ns[copy], times->real_ns);
	shm_count_set(&t->slots_nr[copy], slots_nr);
	shm_count_set(&t->fold_interval_ns, times->interval_ns);
	shm_count_set(&t->fold_duration_ns, times->duration_ns);
	shm_count_set(&t->fold_cpu_ns, times->cpu_ns);
	shm_set32(&t->rows_used, space->rows_nr);
	shm_set32(&t->rows_waiting, space->rows_waiting);
	shm_set32(&t->counters_nr, space->counters_nr);
	shm_set32(&t->members_nr, space->members_nr);
}

void totals_fold(struct space *space, const struct fold_times *times)
{
	uint64_t epoch = shm_count_read(&space->t->epoch) + 1;
	uint64_t *to = space_totals(space, epoch & 1);
	uint32_t slots_nr = space_slots_nr(space);
	uint32_t run = 0;

	/* ORDER(epoch): the copy written below was current until the last epoch was published; a
	 * reader that still copies it sees that epoch before any of these stores. */
	shm_seq_write_begin();
	for (uint32_t first = 0; first < slots_nr; first += SPACE_BLOCK)
		block_fold(space, first, to + first, &run);
	head_store(space, epoch & 1, slots_nr, times);
	shm_publish(&space->t->epoch, epoch);
}

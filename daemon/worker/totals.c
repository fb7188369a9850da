/* See totals.h. */
#include "daemon/worker/totals.h"

#include "daemon/worker/rows.h"

#define LINE_U64S 8u

/* What a block of slots counts, in sums: what lies elsewhere, the cold cells, the rows. */
static void block_sum(const struct space *space, uint32_t first, uint64_t *sums)
{
	const uint64_t *cold = (const uint64_t *)(space->s + shards_cold(first));
	const int64_t *apart = space->apart + first;
	const uint32_t *row_of = space->row_of + first;

	/* Plain loads of hostile memory: aligned u64s that the compiler may load eight at a time,
	 * each once. Atomic ones are not vectorised and take twice as long. */
	for (uint32_t i = 0; i < SPACE_BLOCK; i++)
		sums[i] = cold[i] + (uint64_t)apart[i];
	if (!space->rows_in_block[first / SPACE_BLOCK])
		return;
	for (uint32_t i = 0; i < SPACE_BLOCK; i++)
		if (row_of[i])
			sums[i] += space->row_sums[row_of[i] - 1];
}

/* Stores only what differs: an unchanged line of T stays clean in the readers' caches. */
static void block_store(uint64_t *to, const uint64_t *sums)
{
	for (uint32_t i = 0; i < SPACE_BLOCK; i += LINE_U64S) {
		uint64_t differs = 0;

		for (uint32_t k = 0; k < LINE_U64S; k++)
			differs |= to[i + k] ^ sums[i + k];
		if (!differs)
			continue;
		for (uint32_t k = 0; k < LINE_U64S; k++)
			if (to[i + k] != sums[i + k])
				shm_count_set(&to[i + k], sums[i + k]);
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
	uint64_t sums[SPACE_BLOCK];

	rows_sum(space->s + SHM_S_LANES, SHM_LANE_STRIDE, space->lanes_nr, 0, space->rows_nr,
		 space->row_sums);
	/* ORDER(epoch): the copy written below was current until the last epoch was published; a
	 * reader that still copies it sees that epoch before any of these stores. */
	shm_seq_write_begin();
	for (uint32_t first = 0; first < slots_nr; first += SPACE_BLOCK) {
		block_sum(space, first, sums);
		block_store(to + first, sums);
	}
	head_store(space, epoch & 1, slots_nr, times);
	shm_publish(&space->t->epoch, epoch);
}

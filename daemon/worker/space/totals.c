/* See totals.h. */
#include "daemon/worker/space/totals.h"

#include <string.h>

#include "daemon/worker/space/heat.h"
#include "daemon/worker/space/rows.h"
#include "daemon/worker/space/suspect.h"

#define LINE_U64S 8u

/* Puts the sums of a block's rows into their slots' places. *at is the first entry not yet seen. */
static void block_rows(const struct space *space, uint32_t first, uint64_t *sums, uint32_t *at)
{
	const struct space_rows *rows = &space->rows;
	const struct row_owned *e = &rows->owned[*at], *end = &rows->owned[rows->owned_nr];

	memset(sums, 0, SPACE_BLOCK * sizeof(*sums));
	for (; e < end && e->slot < first + SPACE_BLOCK; e++)
		sums[e->slot - first] = rows->sums[e->row];
	*at = (uint32_t)(e - rows->owned);
}

/*
 * Stores what a line of slots counts where the copy that is written differs. Most changes are small
 * rises of plain counters; all others are judged first.
 */
static void line_store(struct space *space, uint32_t first, const uint64_t *sums,
		       const uint64_t *published, uint64_t *to)
{
	const uint8_t *states = space_states(space) + first;

	for (uint32_t k = 0; k < LINE_U64S; k++) {
		uint64_t sum = sums[k];

		if (to[k] == sum)
			continue;
		/* A fall is, as an unsigned number, more than any rise. */
		if ((states[k] & SHM_T_STATE) != SHM_T_OK ||
		    sum - published[k] >= space->heat.attention) {
			bool is_plain = suspect_judge(space, first + k, &sum, published[k]);

			if (is_plain)
				heat_offer(space, first + k, (int64_t)(sum - published[k]));
			if (to[k] == sum)
				continue;
		}
		shm_count_set(&to[k], sum);
	}
}

/*
 * What a block of slots counts: the rows, the cold cells, and the off-shard part. Stores only what
 * differs: an unchanged line of T stays clean in the readers' caches.
 */
static void block_fold(struct space *space, uint32_t first, const uint64_t *published, uint64_t *to,
		       uint32_t *at)
{
	const uint64_t *cold = (const uint64_t *)(space->s + shards_cold(first));
	const int64_t *off_shard = space->off_shard.by_slot + first;
	uint64_t sums[SPACE_BLOCK];

	block_rows(space, first, sums, at);
	if (space->off_shard.is_block_set[first / SPACE_BLOCK])
		for (uint32_t i = 0; i < SPACE_BLOCK; i++)
			sums[i] += (uint64_t)off_shard[i];
	for (uint32_t i = 0; i < SPACE_BLOCK; i += LINE_U64S) {
		uint64_t differs = 0;

		/* Plain loads of hostile memory: aligned u64s that the compiler may load several at
		 * a time, each once. Atomic ones are not vectorised and take twice as long. */
		for (uint32_t k = i; k < i + LINE_U64S; k++) {
			sums[k] += cold[k];
			differs |= sums[k] ^ to[first + k];
		}
		if (differs)
			line_store(space, first + i, sums + i, published + first + i,
				   to + first + i);
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
	shm_set32(&t->rows_used, space->rows.used_nr);
	shm_set32(&t->rows_retiring, space->rows.retiring_nr);
	shm_set32(&t->suspects_nr, space->suspects.nr);
	shm_set32(&t->counters_nr, space->quota.counters_nr);
	shm_set32(&t->members_nr, space->quota.members_nr);
}

void totals_fold(struct space *space, const struct fold_times *times)
{
	uint64_t epoch = shm_count_read(&space->t->epoch) + 1;
	const uint64_t *published = space_totals(space, ~epoch & 1);
	uint64_t *to = space_totals(space, epoch & 1);
	uint32_t slots_nr = space_slots_nr(space);
	uint32_t at = 0;

	rows_sort(space);
	rows_sum(space);

	/* ORDER(epoch): the copy written below was current until the last epoch was published; a
	 * reader that still copies it sees that epoch before any of these stores. */
	shm_seq_write_begin();
	for (uint32_t first = 0; first < slots_nr; first += SPACE_BLOCK)
		block_fold(space, first, published, to, &at);
	head_store(space, epoch & 1, slots_nr, times);
	shm_publish(&space->t->epoch, epoch);
}

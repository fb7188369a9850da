/* See busy.h. */
#define _GNU_SOURCE
#include "daemon/worker/space/busy.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/worker/space/rates.h"
#include "daemon/worker/space/space.h"
#include "shm/base/clock.h"

/* One listed counter. Stays in its place for as long as it is listed. */
struct track {
	uint32_t slot; /* SHM_SLOT_NONE: free */
	uint32_t generation;
	int64_t delta;	/* of this second */
	uint32_t quiet; /* seconds without a change */
	bool lanes_known; /* and of which row */
	uint32_t row;
	uint16_t lanes;
	float imbalance;
	float rates[SHM_HISTORY_NR]; /* newest first */
};

struct slot_change {
	uint32_t slot;
	int64_t delta;
};

struct busy {
	int64_t tick;	       /* = T's busy_tick */
	int64_t first_tick;    /* nothing is known of the time up to this one */
	int64_t unlisted_tick; /* the newest in which something changed that is not listed */
	int64_t unknown_tick;  /* up to this one, a counter that was not listed may have changed */
	uint32_t nr;
	uint16_t *track_of; /* by slot: track + 1 */
	struct track tracks[SHM_BUSY_NR];
	uint16_t order[SHM_BUSY_NR]; /* tracks, busiest first */

	/* The largest changes of unlisted slots, smallest on top. */
	struct slot_change heap[SHM_BUSY_NR];
	uint32_t heap_nr;

	uint64_t *lanes; /* [track][lanes_nr]: each lane's cell at the last tick */
	uint32_t lanes_nr;
};

static uint64_t size_of(int64_t delta)
{
	return delta < 0 ? -(uint64_t)delta : (uint64_t)delta;
}

int busy_open(struct busy **ret)
{
	struct busy *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	b->track_of = space_array(sizeof(*b->track_of), SHM_SLOTS_MAX);
	if (!b->track_of) {
		free(b);
		return -ENOMEM;
	}
	b->unlisted_tick = -(int64_t)SHM_HISTORY_NR;
	*ret = b;
	return 0;
}

void busy_close(struct busy *b)
{
	if (!b)
		return;
	space_array_free(b->track_of, sizeof(*b->track_of), SHM_SLOTS_MAX);
	free(b->lanes);
	free(b);
}

static struct busy_shm *busy_copy(const struct space *space, int64_t tick)
{
	return (struct busy_shm *)((char *)space->t + SHM_T_BUSY +
				   (uint64_t)(tick & 1) * SHM_T_BUSY_BYTES);
}

/* --- what changed ----------------------------------------------------------------------------- */

static void heap_down(struct slot_change *heap, uint32_t nr, uint32_t at)
{
	for (;;) {
		uint32_t least = at, left = 2 * at + 1;
		struct slot_change swap;

		if (left < nr && size_of(heap[left].delta) < size_of(heap[least].delta))
			least = left;
		if (left + 1 < nr && size_of(heap[left + 1].delta) < size_of(heap[least].delta))
			least = left + 1;
		if (least == at)
			return;
		swap = heap[at];
		heap[at] = heap[least];
		heap[least] = swap;
		at = least;
	}
}

/* Keeps the change if it is among the largest; one that is left out is not listed. */
static void heap_offer(struct busy *b, uint32_t slot, int64_t delta)
{
	if (b->heap_nr < SHM_BUSY_NR) {
		b->heap[b->heap_nr++] = (struct slot_change){ slot, delta };
		if (b->heap_nr == SHM_BUSY_NR)
			for (uint32_t i = SHM_BUSY_NR / 2; i-- > 0;)
				heap_down(b->heap, b->heap_nr, i);
		return;
	}
	b->unlisted_tick = b->tick;
	if (size_of(delta) <= size_of(b->heap[0].delta))
		return;
	b->heap[0] = (struct slot_change){ slot, delta };
	heap_down(b->heap, b->heap_nr, 0);
}

static void track_end(struct busy *b, struct track *t)
{
	b->track_of[t->slot] = 0;
	t->slot = SHM_SLOT_NONE;
	b->nr--;
}

void busy_forget(struct space *space, uint32_t slot)
{
	struct busy *b = space->busy;

	if (space->rates.last_second[slot])
		space->rates.last_second[slot] = 0;
	if (space->rates.changed_s[slot])
		space->rates.changed_s[slot] = 0;
	if (b->track_of[slot])
		track_end(b, &b->tracks[b->track_of[slot] - 1]);
}

static void changes_find(struct space *space, uint32_t now_s)
{
	struct busy *b = space->busy;
	struct space_rates *rates = &space->rates;
	const uint64_t *totals = space_totals(space, shm_count_read(&space->t->epoch) & 1);
	uint32_t slots_nr = space_slots_nr(space);

	b->heap_nr = 0;
	for (uint32_t slot = SHM_SLOT_OVERFLOW; slot < slots_nr; slot++) {
		int64_t delta;

		if ((int64_t)totals[slot] == rates->last_second[slot])
			continue;
		if (!space_is_owned(space, slot)) { /* its fall to zero is no rate */
			busy_forget(space, slot);
			continue;
		}
		delta = rate_delta(&rates->last_second[slot], (int64_t)totals[slot]);
		rates->changed_s[slot] = now_s;
		if (b->track_of[slot])
			b->tracks[b->track_of[slot] - 1].delta = delta;
		else
			heap_offer(b, slot, delta);
	}
}

/* --- the list --------------------------------------------------------------------------------- */

static void tracks_age(struct busy *b, double seconds)
{
	for (uint32_t i = 0; i < SHM_BUSY_NR; i++) {
		struct track *t = &b->tracks[i];

		if (t->slot == SHM_SLOT_NONE)
			continue;
		memmove(&t->rates[1], &t->rates[0], sizeof(t->rates) - sizeof(t->rates[0]));
		t->rates[0] = rate_per_s(t->delta, seconds);
		t->quiet = t->delta ? 0 : t->quiet + 1;
		if (t->quiet >= SHM_HISTORY_NR)
			track_end(b, t);
	}
}

static void track_begin(struct space *space, struct track *t, const struct slot_change *c,
			double seconds)
{
	struct busy *b = space->busy;

	*t = (struct track){ .slot = c->slot, .delta = c->delta };
	t->generation = slot_generation(shm_count_read(&space_slot(space, c->slot)->route));
	t->rates[0] = rate_per_s(c->delta, seconds);
	/* It was not listed. In seconds in which all that changed was listed, it did not change. */
	for (int64_t i = 1; i < (int64_t)SHM_HISTORY_NR; i++)
		t->rates[i] = b->tick - i > b->unknown_tick ? 0.0f : NAN;
	b->track_of[c->slot] = (uint16_t)(t - b->tracks + 1);
	b->nr++;
}

static int change_larger_first(const void *x, const void *y)
{
	uint64_t a = size_of(((const struct slot_change *)x)->delta);
	uint64_t b = size_of(((const struct slot_change *)y)->delta);

	return a > b ? -1 : a < b;
}

static int track_busier_first(const void *x, const void *y, void *tracks)
{
	const struct track *a = (const struct track *)tracks + *(const uint16_t *)x;
	const struct track *b = (const struct track *)tracks + *(const uint16_t *)y;

	if (a->delta != b->delta && size_of(a->delta) != size_of(b->delta))
		return size_of(a->delta) > size_of(b->delta) ? -1 : 1;
	if (a->quiet != b->quiet)
		return a->quiet < b->quiet ? -1 : 1;
	return a->slot < b->slot ? -1 : a->slot > b->slot;
}

static void tracks_order(struct busy *b)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < SHM_BUSY_NR; i++)
		if (b->tracks[i].slot != SHM_SLOT_NONE)
			b->order[nr++] = (uint16_t)i;
	qsort_r(b->order, nr, sizeof(b->order[0]), track_busier_first, b->tracks);
}

/* Lists what changed most; the least busy of the list makes room for what is busier. */
static void list_merge(struct space *space, double seconds)
{
	struct busy *b = space->busy;
	uint32_t free_at = 0, last = b->nr;

	tracks_order(b);
	qsort(b->heap, b->heap_nr, sizeof(b->heap[0]), change_larger_first);
	for (uint32_t i = 0; i < b->heap_nr; i++) {
		struct track *t;

		while (free_at < SHM_BUSY_NR && b->tracks[free_at].slot != SHM_SLOT_NONE)
			free_at++;
		if (free_at < SHM_BUSY_NR) {
			track_begin(space, &b->tracks[free_at], &b->heap[i], seconds);
			continue;
		}
		t = last ? &b->tracks[b->order[last - 1]] : NULL;
		if (!t || size_of(t->delta) >= size_of(b->heap[i].delta)) {
			b->unlisted_tick = b->tick;
			break;
		}
		last--;
		if (b->tick - (int64_t)t->quiet > b->unlisted_tick)
			b->unlisted_tick = b->tick - (int64_t)t->quiet;
		track_end(b, t);
		track_begin(space, t, &b->heap[i], seconds);
	}
	tracks_order(b);
}

/* --- lanes ------------------------------------------------------------------------------------ */

static void track_lanes(struct space *space, struct track *t)
{
	struct busy *b = space->busy;
	uint64_t *was = b->lanes + (uint64_t)(t - b->tracks) * b->lanes_nr;
	uint32_t row = slot_row(shm_count_read(&space_slot(space, t->slot)->state));
	const char *cell = space->s + SHM_S_LANES + row;
	uint64_t busiest = 0;
	double sum = 0;

	t->lanes = 0;
	for (uint32_t lane = 0; lane < b->lanes_nr; lane++, cell += SHM_LANE_STRIDE) {
		uint64_t now = shm_count_read((const uint64_t *)cell);
		uint64_t size = size_of((int64_t)(now - was[lane]));

		was[lane] = now;
		if (!size)
			continue;
		t->lanes++;
		sum += (double)size;
		if (size > busiest)
			busiest = size;
	}
	if (!t->lanes_known || t->row != row) /* the lanes' former cells are not known */
		t->lanes = 0;
	t->lanes_known = true;
	t->row = row;
	t->imbalance = t->lanes ? (float)((double)busiest * t->lanes / sum) : 0;
}

/* How the adds of this second spread over the CPUs, for listed counters with a row. */
static void lanes_measure(struct space *space)
{
	struct busy *b = space->busy;

	if (b->lanes_nr != space->pages.lanes_nr) {
		free(b->lanes);
		b->lanes = calloc((size_t)SHM_BUSY_NR * space->pages.lanes_nr, sizeof(*b->lanes));
		b->lanes_nr = b->lanes ? space->pages.lanes_nr : 0;
		for (uint32_t i = 0; i < SHM_BUSY_NR; i++)
			b->tracks[i].lanes_known = false;
	}
	for (uint32_t i = 0; i < b->nr && b->lanes_nr; i++) {
		struct track *t = &b->tracks[b->order[i]];

		if (slot_row(shm_count_read(&space_slot(space, t->slot)->state)) == SHM_ROW_NONE)
			continue;
		if (t->delta) {
			track_lanes(space, t);
		} else {
			t->lanes = 0;
			t->imbalance = 0;
		}
	}
}

/* --- publishing ------------------------------------------------------------------------------- */

static void list_publish(struct space *space)
{
	struct busy *b = space->busy;
	struct busy_shm *to = busy_copy(space, b->tick);

	/* ORDER(busy): the last published list stays whole until the next tick is published. */
	shm_seq_write_begin();
	shm_count_set(&to->tick, (uint64_t)b->tick);
	shm_set32(&to->nr, b->nr);
	shm_set32(&to->all, b->tick - b->unlisted_tick >= (int64_t)SHM_HISTORY_NR);
	for (uint32_t i = 0; i < b->nr; i++) {
		const struct track *t = &b->tracks[b->order[i]];

		shm_set32(&to->slot[i], t->slot);
		shm_set32(&to->generation[i], t->generation);
		to->imbalance[i] = t->imbalance;
		to->lanes[i] = t->lanes;
		memcpy(to->rates[i], t->rates, sizeof(t->rates));
	}
	shm_publish(&space->t->busy_tick, (uint64_t)b->tick);
}

void busy_tick(struct space *space, uint64_t now_ns, uint64_t elapsed_ns)
{
	struct busy *b = space->busy;
	double seconds = (double)elapsed_ns / 1e9;

	b->tick++;
	b->unknown_tick = b->first_tick > b->unlisted_tick ? b->first_tick : b->unlisted_tick;
	for (uint32_t i = 0; i < SHM_BUSY_NR; i++)
		b->tracks[i].delta = 0;
	changes_find(space, (uint32_t)(now_ns / NS_PER_S));
	tracks_age(b, seconds);
	list_merge(space, seconds);
	lanes_measure(space);
	list_publish(space);
}

void busy_recover(struct space *space)
{
	struct busy *b = space->busy;
	const struct busy_shm *from;
	const uint64_t *totals = space_totals(space, shm_count_read(&space->t->epoch) & 1);
	uint32_t slots_nr = space_slots_nr(space);

	for (uint32_t slot = SHM_SLOT_OVERFLOW; slot < slots_nr; slot++)
		if (totals[slot])
			space->rates.last_second[slot] = (int64_t)totals[slot];
	b->tick = (int64_t)shm_count_read(&space->t->busy_tick);
	from = busy_copy(space, b->tick);
	if (!b->tick || from->nr > SHM_BUSY_NR)
		return;
	if (!from->all)
		b->unlisted_tick = b->tick;
	for (uint32_t i = 0; i < from->nr; i++) {
		struct track *t = &b->tracks[i];

		uint32_t slot = from->slot[i];

		if (slot >= slots_nr || b->track_of[slot] || from->generation[i] !=
		    slot_generation(shm_count_read(&space_slot(space, slot)->route)))
			continue;
		t->slot = slot;
		t->generation = from->generation[i];
		memcpy(t->rates, from->rates[i], sizeof(t->rates));
		while (t->quiet < SHM_HISTORY_NR - 1 && !(fabsf(t->rates[t->quiet]) > 0))
			t->quiet++;
		b->track_of[t->slot] = (uint16_t)(i + 1);
		b->nr++;
	}
}

uint32_t busy_idle_s(struct space *space, uint32_t slot, uint32_t now_s)
{
	if (!space->rates.changed_s[slot])
		space->rates.changed_s[slot] = now_s;
	return now_s - space->rates.changed_s[slot];
}

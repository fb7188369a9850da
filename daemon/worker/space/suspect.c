/* See suspect.h. */
#include "daemon/worker/space/suspect.h"

#include <errno.h>

#include "daemon/link/log.h"
#include "daemon/worker/space/changes.h"
#include "daemon/worker/space/rows.h"

static struct log_limit fell_limit, stray_limit;

static bool type_only_rises(const struct space *space, uint32_t slot)
{
	uint64_t name = shm_count_read(&space_slot(space, slot)->name);

	if (name_type(name) == SHM_OTHER || name_type(name) == SHM_REMOVED)
		name = shm_count_read(&space_slot(space, dir_member(space->d, name)->family)->name);
	return name_type(name) == SHM_COUNTER || name_type(name) == SHM_FAMILY ||
	       name_type(name) == SHM_MEMBER;
}

/* The low half of the epoch that the fold under way, or the next one, publishes. */
static uint32_t next_epoch(const struct space *space)
{
	return (uint32_t)shm_count_read(&space->t->epoch) + 1;
}

/* A cold cell that no counter owns holds something. */
static void cell_judge(struct space *space, uint32_t slot, uint64_t sum)
{
	uint64_t name = shm_count_read(&space_slot(space, slot)->name);
	const struct shards_shm *head = (const struct shards_shm *)space->s;

	if (slot < space_slots_nr(space) && name_is_member(name) &&
	    shm_count_read(&head->fallback_used)) {
		if (space->suspects.late_nr < SPACE_LATE_MAX) /* the others at the next fold */
			space->suspects.late[space->suspects.late_nr++] = slot;
		return;
	}
	suspect_stray(space, slot, SHM_ROW_NONE, (int64_t)sum);
	/* Reported once: the next owner of the slot begins from what its cell holds then. */
	if (slot < space_slots_nr(space))
		rows_commit(space, slot, -(int64_t)sum, SHM_ROW_NONE);
	else
		space_off_shard_add(space, slot, -(int64_t)sum);
}

static void freeze(struct space *space, uint32_t slot, uint64_t sum, uint64_t published)
{
	const struct change_shm change = {
		.slot = slot, .kind = SHM_CHANGE_SUSPECT, .row = rows_of_slot(space, slot),
		.before = (int64_t)published, .value = (int64_t)sum,
	};
	uint8_t *state = &space_states(space)[slot];

	shm_set8(state, (uint8_t)((*state & ~SHM_T_STATE) | SHM_T_SUSPECT));
	space->suspects.nr++;
	changes_put(space, &change);
	log_limited(&fell_limit, "namespace %s: a counter (slot %u) fell from %lld to %lld without "
		    "a correction: it is frozen at its last good value, suspect. fix: talea history, "
		    "then talea accept NAME --apply", space->view.name, slot, (long long)published,
		    (long long)sum);
}

bool suspect_judge(struct space *space, uint32_t slot, uint64_t *sum, uint64_t published)
{
	int64_t delta = (int64_t)(*sum - published);

	switch (space_states(space)[slot] & SHM_T_STATE) {
	case SHM_T_UNUSED:
		if (space_is_owned(space, slot))
			return false;
		if (*sum)
			cell_judge(space, slot, *sum);
		*sum = 0;
		return false;
	case SHM_T_SUSPECT:
		*sum = published;
		return false;
	}
	if (delta < 0 && type_only_rises(space, slot) &&
	    space->suspects.may_fall[slot] != next_epoch(space)) {
		freeze(space, slot, *sum, published);
		*sum = published;
		return false;
	}
	return true;
}

void suspect_late_clear(struct space *space)
{
	space->suspects.late_nr = 0;
}

void suspect_stray(struct space *space, uint32_t slot, uint32_t row, int64_t n)
{
	const struct change_shm change = {
		.slot = slot, .kind = SHM_CHANGE_STRAY, .row = row, .value = n,
	};

	/* A client that scribbles everywhere must not wash the history away. */
	if (space->t->strays_nr < SHM_CHANGES_NR / 8)
		changes_put(space, &change);
	shm_count_set(&space->t->strays_nr, space->t->strays_nr + 1);
	log_limited(&stray_limit, "namespace %s: a cell that nobody owns changed by %lld (%s %u): some "
		    "client writes where it must not; the namespace is suspect, its counters go on. "
		    "fix: talea clients, end the culprit, then talea accept --apply", space->view.name,
		    (long long)n, row == SHM_ROW_NONE ? "slot" : "row",
		    row == SHM_ROW_NONE ? slot : row);
}

static void row_stray(struct space *space, uint32_t row, int64_t n)
{
	suspect_stray(space, SHM_SLOT_NONE, row, n);
}

void suspect_rows(struct space *space)
{
	rows_check_free(space, row_stray);
}

void suspect_may_fall(struct space *space, uint32_t slot)
{
	space->suspects.may_fall[slot] = next_epoch(space);
}

int suspect_accept(struct space *space, uint32_t slot, uint32_t uid)
{
	struct change_shm change = {
		.slot = slot, .kind = SHM_CHANGE_ACCEPTED, .uid = uid, .row = SHM_ROW_NONE,
	};
	uint8_t *state = &space_states(space)[slot];

	if (slot == SHM_SLOT_NONE) {
		change.before = (int64_t)space->t->strays_nr;
		if (!change.before)
			return -EINVAL;
		shm_count_set(&space->t->strays_nr, 0);
	} else {
		if ((*state & SHM_T_STATE) != SHM_T_SUSPECT)
			return -EINVAL;
		change.before = space_total(space, slot);
		change.value = suspect_sum(space, slot);
		suspect_may_fall(space, slot);
		shm_set8(state, (uint8_t)((*state & ~SHM_T_STATE) | SHM_T_OK));
		space->suspects.nr--;
	}
	changes_put(space, &change);
	return 0;
}

int64_t suspect_sum(const struct space *space, uint32_t slot)
{
	uint32_t row = rows_of_slot(space, slot);
	uint64_t sum = (uint64_t)space->off_shard.by_slot[slot] + space_cell(space, slot);

	return (int64_t)(sum + (row == SHM_ROW_NONE ? 0 : rows_sum_one(space, row)));
}

static bool is_suspect(const struct space *space, uint32_t slot)
{
	return (space_states(space)[slot] & SHM_T_STATE) == SHM_T_SUSPECT;
}

void suspect_recover(struct space *space, uint32_t slot)
{
	space->suspects.nr += is_suspect(space, slot);
}

void suspect_remove(struct space *space, uint32_t slot)
{
	space->suspects.nr -= is_suspect(space, slot);
}

/* See parts.h. */
#include "daemon/worker/kernel/parts.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/worker/space/rows.h"
#include "daemon/worker/space/remove.h"
#include "daemon/worker/space/suspect.h"

#define LIFE_NONE 0u

/* The slot whose record says who registered it: a member's family. SHM_SLOT_NONE: not the kernel's. */
static uint32_t owner_of(const struct space *space, uint32_t slot)
{
	uint64_t name = shm_count_read(&space_slot(space, slot)->name);

	if (space_origin(space, slot) != SHM_ORIGIN_KERNEL)
		return SHM_SLOT_NONE;
	return name_is_member(name) ? dir_member(space->d, name)->family : slot;
}

static int held_put(struct parts *p, uint32_t slot, uint32_t owner)
{
	if (p->held_nr == p->held_max) {
		uint32_t max = p->held_max ? 2 * p->held_max : 256;
		struct part_held *more = realloc(p->held, max * sizeof(*more));

		if (!more)
			return -ENOMEM;
		p->held = more;
		p->held_max = max;
	}
	p->held[p->held_nr++] = (struct part_held){ slot, owner };
	return 0;
}

/* What was published of a slot beyond what its cells and its base say. */
static int slot_take_over(struct parts *p, uint32_t slot)
{
	unsigned int copy = shm_count_read(&p->space->t->epoch) & 1;
	uint32_t owner;
	int64_t part;

	if (!space_is_owned(p->space, slot))
		return 0;
	owner = owner_of(p->space, slot);
	if (owner == SHM_SLOT_NONE)
		return 0;
	part = (int64_t)space_totals(p->space, copy)[slot] - suspect_sum(p->space, slot);
	if (part <= 0)
		return 0;
	p->sums[slot] = (uint64_t)part;
	space_off_shard_add(p->space, slot, part);
	return held_put(p, slot, owner);
}

int parts_open(struct parts *p, struct space *space)
{
	uint32_t slots_nr = space_slots_nr(space);
	int err = 0;

	*p = (struct parts){ .space = space };
	p->sums = space_array(sizeof(*p->sums), SHM_SLOTS_MAX);
	p->is_live = space_array(sizeof(*p->is_live), SHM_SLOTS_MAX);
	p->is_taken = space_array(sizeof(*p->is_taken), SHM_SLOTS_MAX);
	if (!p->sums || !p->is_live || !p->is_taken)
		return -ENOMEM;
	for (uint32_t slot = SHM_SLOT_FIRST; slot < slots_nr && !err; slot++)
		err = slot_take_over(p, slot);
	return err;
}

void parts_close(struct parts *p)
{
	space_array_free(p->sums, sizeof(*p->sums), SHM_SLOTS_MAX);
	space_array_free(p->is_live, sizeof(*p->is_live), SHM_SLOTS_MAX);
	space_array_free(p->is_taken, sizeof(*p->is_taken), SHM_SLOTS_MAX);
	free(p->held);
	free(p->leaving);
}

static uint64_t life_get(const struct parts *p, uint32_t name_slot)
{
	const struct name_shm *n = space_name(p->space, name_slot);

	return n->life[0] | (uint64_t)n->life[1] << 16 | (uint64_t)n->life[2] << 32;
}

static void life_set(struct parts *p, uint32_t name_slot, uint64_t life)
{
	struct name_shm *n = (struct name_shm *)(uintptr_t)space_name(p->space, name_slot);

	for (unsigned int i = 0; i < 3; i++)
		n->life[i] = (uint16_t)(life >> 16 * i);
}

void parts_held_drop(struct parts *p, uint32_t owner)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < p->held_nr; i++)
		if (p->held[i].owner != owner)
			p->held[kept++] = p->held[i];
	p->held_nr = kept;
}

void parts_settle(struct parts *p)
{
	uint32_t slots_nr = space_slots_nr(p->space), kept = 0;

	for (uint32_t slot = SHM_SLOT_FIRST; slot < slots_nr; slot++) {
		uint32_t owner;

		if (!space_is_owned(p->space, slot))
			continue;
		owner = owner_of(p->space, slot);
		if (owner == SHM_SLOT_NONE || p->is_live[owner])
			continue;
		parts_commit(p, slot);
		parts_state(p, slot, false);
		life_set(p, owner, LIFE_NONE);
	}
	for (uint32_t i = 0; i < p->held_nr; i++)
		if (p->is_live[p->held[i].owner])
			p->held[kept++] = p->held[i];
	p->held_nr = kept;
}

bool parts_begin(struct parts *p, uint32_t name_slot, uint64_t life)
{
	p->is_live[name_slot] = 1;
	if (life_get(p, name_slot) == life)
		return false;
	parts_commit(p, name_slot);
	for (uint32_t i = 0; i < p->held_nr; i++)
		if (p->held[i].owner == name_slot)
			parts_commit(p, p->held[i].slot);
	parts_held_drop(p, name_slot);
	/* Whoever dies in between leaves a life that is none: then all parts are in the bases. */
	life_set(p, name_slot, life);
	return true;
}

void parts_end(struct parts *p, uint32_t name_slot)
{
	parts_held_drop(p, name_slot);
	life_set(p, name_slot, LIFE_NONE);
	p->is_live[name_slot] = 0;
}

void parts_set(struct parts *p, uint32_t slot, uint64_t sum)
{
	if (sum == p->sums[slot])
		return;
	space_off_shard_add(p->space, slot, (int64_t)(sum - p->sums[slot]));
	p->sums[slot] = sum;
}

void parts_move(struct parts *p, uint32_t slot, uint64_t sum)
{
	if (sum < p->sums[slot])
		suspect_may_fall(p->space, slot);
	parts_set(p, slot, sum);
}

void parts_leave(struct parts *p, uint32_t slot)
{
	parts_move(p, slot, 0);
	if (p->leaving_nr == p->leaving_max) {
		uint32_t max = p->leaving_max ? 2 * p->leaving_max : 64;
		uint32_t *more = realloc(p->leaving, max * sizeof(*more));

		if (!more)
			return; /* it stays, and counts what comes to the same name */
		p->leaving = more;
		p->leaving_max = max;
	}
	p->leaving[p->leaving_nr++] = slot;
}

/* A worker that dies in between leaves members whose removal has begun only where the totals say that
 * their sum is elsewhere. */
void parts_folded(struct parts *p)
{
	for (uint32_t i = 0; i < p->leaving_nr; i++)
		remove_begin(p->space, p->leaving[i], SHM_WHY_ENDED, 0);
	p->leaving_nr = 0;
}

void parts_commit(struct parts *p, uint32_t slot)
{
	uint64_t part = p->sums[slot];

	if (!part)
		return;
	rows_commit(p->space, slot, (int64_t)part, SHM_ROW_NONE);
	parts_set(p, slot, 0);
}

void parts_state(struct parts *p, uint32_t slot, bool is_known)
{
	uint8_t *state = &space_states(p->space)[slot];

	/* What fell stays suspect until somebody accepts. */
	if ((*state & SHM_T_STATE) != SHM_T_SUSPECT)
		shm_set8(state, is_known ? SHM_T_OK : SHM_T_UNKNOWN);
}

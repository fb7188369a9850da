/* See kernel_part.h. */
#include "daemon/worker/kernel/kernel_part.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/worker/space/rows.h"
#include "daemon/worker/space/remove.h"
#include "daemon/worker/space/suspect.h"
#include "shm/base/array.h"

#define INCARNATION_NONE 0u

/* The slot that has the incarnation: a member's family, else the slot itself. SHM_SLOT_NONE: the
 * counter is not the kernel's. */
static uint32_t held_owner(const struct space *space, uint32_t slot)
{
	uint64_t name = shm_count_read(&space_slot(space, slot)->name);

	if (space_origin(space, slot) != SHM_ORIGIN_KERNEL)
		return SHM_SLOT_NONE;
	return name_is_member(name) ? dir_member(space->d, name)->family : slot;
}

static int held_put(struct kernel_parts *p, uint32_t slot, uint32_t owner)
{
	if (array_reserve(&p->held, p->held_nr + 1, &p->held_max))
		return -ENOMEM;
	p->held[p->held_nr++] = (struct kernel_part_held){ slot, owner };
	return 0;
}

/* The part of a slot is what was published of it beyond its cells and its base. */
static int held_find(struct kernel_parts *p, uint32_t slot)
{
	unsigned int copy = shm_count_read(&p->space->t->epoch) & 1;
	uint32_t owner;
	int64_t part;

	if (!space_is_owned(p->space, slot))
		return 0;
	owner = held_owner(p->space, slot);
	if (owner == SHM_SLOT_NONE)
		return 0;
	part = (int64_t)space_totals(p->space, copy)[slot] - suspect_sum(p->space, slot);
	if (part <= 0)
		return 0;
	p->sums[slot] = (uint64_t)part;
	space_off_shard_add(p->space, slot, part);
	return held_put(p, slot, owner);
}

int kernel_parts_open(struct kernel_parts *p, struct space *space)
{
	uint32_t slots_nr = space_slots_nr(space);
	int err = 0;

	*p = (struct kernel_parts){ .space = space };
	p->sums = space_array(sizeof(*p->sums), SHM_SLOTS_MAX);
	p->is_live = space_array(sizeof(*p->is_live), SHM_SLOTS_MAX);
	p->is_taken = space_array(sizeof(*p->is_taken), SHM_SLOTS_MAX);
	if (!p->sums || !p->is_live || !p->is_taken)
		return -ENOMEM;
	for (uint32_t slot = SHM_SLOT_FIRST; slot < slots_nr && !err; slot++)
		err = held_find(p, slot);
	return err;
}

void kernel_parts_close(struct kernel_parts *p)
{
	space_array_free(p->sums, sizeof(*p->sums), SHM_SLOTS_MAX);
	space_array_free(p->is_live, sizeof(*p->is_live), SHM_SLOTS_MAX);
	space_array_free(p->is_taken, sizeof(*p->is_taken), SHM_SLOTS_MAX);
	free(p->held);
	free(p->retiring);
}

static uint64_t incarnation_get(const struct kernel_parts *p, uint32_t name_slot)
{
	const struct name_shm *n = space_name(p->space, name_slot);

	return n->incarnation[0] | (uint64_t)n->incarnation[1] << 16 |
	       (uint64_t)n->incarnation[2] << 32;
}

static void incarnation_set(struct kernel_parts *p, uint32_t name_slot, uint64_t life)
{
	struct name_shm *n = (struct name_shm *)(uintptr_t)space_name(p->space, name_slot);

	for (unsigned int i = 0; i < 3; i++)
		n->incarnation[i] = (uint16_t)(life >> 16 * i);
}

void kernel_part_held_drop(struct kernel_parts *p, uint32_t owner)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < p->held_nr; i++)
		if (p->held[i].owner != owner)
			p->held[kept++] = p->held[i];
	p->held_nr = kept;
}

void kernel_parts_settle(struct kernel_parts *p)
{
	uint32_t slots_nr = space_slots_nr(p->space), kept = 0;

	for (uint32_t slot = SHM_SLOT_FIRST; slot < slots_nr; slot++) {
		uint32_t owner;

		if (!space_is_owned(p->space, slot))
			continue;
		owner = held_owner(p->space, slot);
		if (owner == SHM_SLOT_NONE || p->is_live[owner])
			continue;
		kernel_part_commit(p, slot);
		kernel_part_state(p, slot, false);
		incarnation_set(p, owner, INCARNATION_NONE);
	}
	for (uint32_t i = 0; i < p->held_nr; i++)
		if (p->is_live[p->held[i].owner])
			p->held[kept++] = p->held[i];
	p->held_nr = kept;
}

bool kernel_part_begin(struct kernel_parts *p, uint32_t name_slot, uint64_t incarnation)
{
	p->is_live[name_slot] = 1;
	if (incarnation_get(p, name_slot) == incarnation)
		return false;
	kernel_part_commit(p, name_slot);
	for (uint32_t i = 0; i < p->held_nr; i++)
		if (p->held[i].owner == name_slot)
			kernel_part_commit(p, p->held[i].slot);
	kernel_part_held_drop(p, name_slot);
	/* A worker that dies before this leaves an incarnation that has no parts: all are in the
	 * bases. */
	incarnation_set(p, name_slot, incarnation);
	return true;
}

void kernel_part_end(struct kernel_parts *p, uint32_t name_slot)
{
	kernel_part_held_drop(p, name_slot);
	incarnation_set(p, name_slot, INCARNATION_NONE);
	p->is_live[name_slot] = 0;
}

void kernel_part_set(struct kernel_parts *p, uint32_t slot, uint64_t sum)
{
	if (sum == p->sums[slot])
		return;
	space_off_shard_add(p->space, slot, (int64_t)(sum - p->sums[slot]));
	p->sums[slot] = sum;
}

void kernel_part_move(struct kernel_parts *p, uint32_t slot, uint64_t sum)
{
	if (sum < p->sums[slot])
		suspect_may_fall(p->space, slot);
	kernel_part_set(p, slot, sum);
}

void kernel_part_retire(struct kernel_parts *p, uint32_t slot)
{
	kernel_part_move(p, slot, 0);
	/* Without memory the member stays, and counts what comes to the same name. */
	if (!array_reserve(&p->retiring, p->retiring_nr + 1, &p->retiring_max))
		p->retiring[p->retiring_nr++] = slot;
}

/* If a worker dies meanwhile, only those members have begun their removal whose sums the published
 * totals show elsewhere. */
void kernel_parts_folded(struct kernel_parts *p)
{
	for (uint32_t i = 0; i < p->retiring_nr; i++)
		remove_begin(p->space, p->retiring[i], SHM_WHY_ENDED, 0);
	p->retiring_nr = 0;
}

void kernel_part_commit(struct kernel_parts *p, uint32_t slot)
{
	uint64_t part = p->sums[slot];

	if (!part)
		return;
	rows_commit(p->space, slot, (int64_t)part, SHM_ROW_NONE);
	kernel_part_set(p, slot, 0);
}

void kernel_part_state(struct kernel_parts *p, uint32_t slot, bool is_known)
{
	uint8_t *state = &space_states(p->space)[slot];

	/* A total that fell stays suspect until an operator accepts it. */
	if ((*state & SHM_T_STATE) != SHM_T_SUSPECT)
		shm_set8(state, is_known ? SHM_T_OK : SHM_T_UNKNOWN);
}

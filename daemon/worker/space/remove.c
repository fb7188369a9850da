/* See remove.h. */
#include "daemon/worker/space/remove.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/worker/space/changes.h"
#include "daemon/worker/space/deferred.h"
#include "daemon/worker/space/index.h"
#include "daemon/worker/space/quota.h"
#include "daemon/worker/space/rows.h"
#include "daemon/worker/space/suspect.h"
#include "shm/base/array.h"
#include "shm/base/clock.h"
#include "shm/names.h"

#define LATE_SHOWN 8u /* in the history, of the cells that changed in one fold */
#define CLASSES (SHM_NAME_MAX / 8 + 1) /* of name records, by the 8 bytes of their keys */

/* A slot whose removal has begun, or that is free: then it is in the list of its class, oldest
 * first. */
struct free_slot {
	struct registry_gone gone;
	uint64_t freed_ns;
	uint32_t next;
	uint32_t uid; /* who asked for the removal, and why */
	uint8_t why;
};

struct free_list {
	uint32_t first, last; /* SHM_SLOT_NONE: empty */
};

struct removal {
	struct free_slot *slots; /* by slot, sparse */
	uint32_t slots_end;	 /* none at or behind this one was ever used */
	struct free_list lists[CLASSES];
	uint32_t *removed; /* of every family */
	uint32_t removed_nr, removed_max;
};

int remove_open(struct space *space)
{
	space->removal = calloc(1, sizeof(*space->removal));
	if (!space->removal)
		return -ENOMEM;
	space->removal->slots = space_array(sizeof(struct free_slot), SHM_SLOTS_MAX);
	return space->removal->slots ? 0 : -ENOMEM;
}

/* The records' memory was given back: what is mapped there next is no longer theirs. */
static void records_reclaim(const struct removal *f)
{
	for (uint32_t slot = 0; f->slots && slot < f->slots_end; slot++)
		if (f->slots[slot].gone.rec)
			registry_reclaim(f->slots[slot].gone.rec);
}

void remove_close(struct space *space)
{
	struct removal *f = space->removal;

	if (!f)
		return;
	records_reclaim(f);
	space_array_free(f->slots, sizeof(*f->slots), SHM_SLOTS_MAX);
	free(f->removed);
	free(f);
}

static struct free_slot *free_slot(struct space *space, uint32_t slot)
{
	struct removal *f = space->removal;

	if (slot >= f->slots_end)
		f->slots_end = slot + 1;
	return &f->slots[slot];
}

static const struct member_shm *member_of(const struct space *space, uint32_t slot)
{
	return dir_member(space->d, shm_count_read(&space_slot(space, slot)->name));
}

static uint32_t removed_of(const struct space *space, uint32_t slot)
{
	uint64_t name = shm_count_read(&space_slot(space, member_of(space, slot)->family)->name);

	return dir_name(space->d, name)->removed;
}

/* --- free slots ------------------------------------------------------------------------------- */

static void free_list_put(struct space *space, uint32_t slot)
{
	uint64_t name = shm_count_read(&space_slot(space, slot)->name);
	struct free_list *list = &space->removal->lists[(name_length(name) + 7) / 8];
	struct free_slot *f = free_slot(space, slot);

	f->freed_ns = mono_ns();
	f->next = SHM_SLOT_NONE;
	if (list->first == SHM_SLOT_NONE)
		list->first = slot;
	else
		free_slot(space, list->last)->next = slot;
	list->last = slot;
}

static void free_list_take(struct space *space, struct free_list *list)
{
	list->first = free_slot(space, list->first)->next;
}

/* From now on the slot may be handed out again, when its quarantine is over. */
static void slot_free(struct space *space, uint32_t slot)
{
	const struct slot_shm *s = space_slot(space, slot);
	uint64_t name = shm_count_read(&s->name);

	if (type_is_member(name_type(name)) && name_length(name) <= SHM_NAME_MAX &&
	    slot_generation(shm_count_read(&s->route)) < SHM_GENERATION_LAST)
		free_list_put(space, slot);
}

void remove_recover_free(struct space *space, uint32_t slot)
{
	/* The registry of this worker never had it. */
	free_slot(space, slot)->gone.is_gone = 1;
	slot_free(space, slot);
}

/* No slot is handed out again while an add may still reach it. */
static bool is_reuse_allowed(const struct space *space)
{
	const struct shards_shm *head = (const struct shards_shm *)(const void *)space->s;

	/* ORDER(fallback): read long after the even generation and the full fence behind it; a
	 * thread that took the odd one without a section had set the word before. */
	return !shm_count_read(&head->fallback_used) &&
	       !(shm_read32(&space->d->promotion) & SHM_REUSE_OFF);
}

/* Neither epoch shows what the slot held, and no add came since. */
static bool slot_is_zero(const struct space *space, uint32_t slot)
{
	return !shm_count_read(&space_totals(space, 0)[slot]) &&
	       !shm_count_read(&space_totals(space, 1)[slot]) &&
	       !((uint64_t)space->off_shard.by_slot[slot] + space_cell(space, slot));
}

uint32_t remove_reuse(struct space *space, uint32_t name_bytes)
{
	struct free_list *list = &space->removal->lists[(name_bytes + 7) / 8];
	uint32_t slot = list->first;
	struct free_slot *f = free_slot(space, slot);

	if (slot == SHM_SLOT_NONE || mono_ns() - f->freed_ns < SHM_QUARANTINE_NS ||
	    !is_reuse_allowed(space) || !registry_is_gone(&f->gone))
		return SHM_SLOT_NONE;
	free_list_take(space, list);
	if (!slot_is_zero(space, slot)) {
		/* Some client scribbles on it: the fold reports that, and other slots come first. */
		free_list_put(space, slot);
		return SHM_SLOT_NONE;
	}
	return slot;
}

/* --- two slots as one ------------------------------------------------------------------------- */

/* One half of an intent: the first slot is free afterwards, the second keeps its row and flags. */
static void half_commit(struct space *space, unsigned int half)
{
	const struct intent_shm *intent = &space->d->intent;
	struct slot_shm *s = space_slot(space, intent->slot[half]);
	uint64_t state = shm_count_read(&s->state);
	uint32_t version = intent->version[half] + 1;

	/* ORDER(state): the base stands before the state that makes it valid, and it is stored
	 * after the last state, for whose readers it still was the other half. */
	shm_publish((uint64_t *)&s->base[version & 1], (uint64_t)intent->base[half]);
	shm_publish(&s->state, half ? state_make(version, state_flags(state), slot_row(state)) :
				      state_make(version, 0, SHM_ROW_NONE));
}

static void moves_step(struct space *space)
{
	/* ORDER(moves): a reader that sums several slots finds this even and unchanged around its
	 * reads, or reads again. */
	shm_publish(&space->d->moves, shm_count_read(&space->d->moves) + 1);
	shm_seq_write_begin();
}

/* Moves n from a slot that is free afterwards to its family's `removed`; its cell holds `cell`. A
 * worker killed anywhere in here leaves both as they were, or an intent for the rest. */
static void sum_move(struct space *space, uint32_t slot, uint64_t cell, int64_t n)
{
	struct intent_shm *intent = &space->d->intent;
	uint32_t removed = removed_of(space, slot);
	uint32_t slots[2] = { slot, removed };
	int64_t bases[2] = { -(int64_t)cell, space_base(space, removed) + n };

	moves_step(space);
	for (unsigned int half = 0; half < 2; half++) {
		const struct slot_shm *s = space_slot(space, slots[half]);

		intent->slot[half] = slots[half];
		intent->version[half] = state_version(shm_count_read(&s->state));
		intent->base[half] = bases[half];
		space_off_shard_add(space, slots[half], bases[half] - space_base(space, slots[half]));
	}
	/* ORDER(intent): it is whole before it is valid, and both halves are committed before it no
	 * longer is: a new worker replays no other. */
	shm_publish(&intent->valid, 1);
	half_commit(space, 0);
	half_commit(space, 1);
	shm_publish(&intent->valid, 0);
	moves_step(space);
}

void remove_replay(struct space *space)
{
	struct intent_shm *intent = &space->d->intent;

	/* ORDER(intent) */
	if (shm_take(&intent->valid)) {
		for (unsigned int half = 0; half < 2; half++) {
			uint32_t slot = intent->slot[half];

			if (slot < space_slots_nr(space) &&
			    state_version(shm_count_read(&space_slot(space, slot)->state)) ==
				    intent->version[half])
				half_commit(space, half);
		}
		shm_publish(&intent->valid, 0);
	}
	if (shm_count_read(&space->d->moves) & 1)
		moves_step(space);
}

/* --- a member goes ---------------------------------------------------------------------------- */

static uint64_t member_hash(const struct space *space, uint32_t slot)
{
	uint64_t name = shm_count_read(&space_slot(space, slot)->name);
	const struct member_shm *m = member_of(space, slot);

	return dir_hash(space->d, m->family, m->value, name_length(name));
}

/* The grace period has passed: the sum moves to `removed`, and the slot is free. */
static void remove_end(struct space *space, uint32_t slot, uint32_t seq)
{
	const struct free_slot *f = free_slot(space, slot);
	uint32_t row = rows_of_slot(space, slot);
	uint64_t cell = space_cell(space, slot);
	int64_t n = space_base(space, slot) + (int64_t)cell;
	struct change_shm change = {
		.slot = slot, .kind = SHM_CHANGE_REMOVED, .why = f->why, .uid = f->uid,
		.row = row,
	};
	bool is_kernel = space_flags(space, slot) & SHM_F_KERNEL;

	(void)seq;
	if (row != SHM_ROW_NONE)
		n += (int64_t)rows_sum_one(space, row);
	sum_move(space, slot, cell, n);
	if (row != SHM_ROW_NONE)
		rows_free(space, row);
	suspect_remove(space, slot);
	shm_set8(&space_states(space)[slot], SHM_T_UNUSED);
	shm_count_set(&space->t->removed_nr, space->t->removed_nr + 1);
	change.before = change.value = n;
	/* Processes are many, and the kernel part of one is in `removed` already. */
	if (n || !is_kernel)
		changes_put(space, &change);
	slot_free(space, slot);
}

/* Readers no longer find the member, and writers no longer reach it: a section that compares the
 * generation after this counts in `removed`; one that compared it before has added, or has aborted,
 * when the grace period has passed. */
static void member_hide(struct space *space, uint32_t slot)
{
	struct slot_shm *s = space_slot(space, slot);
	uint32_t generation = slot_generation(shm_count_read(&s->route));

	index_remove(space, slot, member_hash(space, slot));
	shm_publish(&s->route, slot_route((generation + 1) & ~1u, SHM_ROW_NONE));
	/* ORDER(fallback): the even generation is stored before the word is read, here and in
	 * remove_reuse. ORDER(grace): and before any CPU is visited. */
	shm_fence();
	if (rows_is_hot(space, slot))
		rows_retire(space, slot);
	deferred_put(space, slot, 0, remove_end);
}

bool remove_is_counted(const struct space *space, uint32_t slot)
{
	return (space_flags(space, slot) & SHM_F_KERNEL) &&
	       (space_states(space)[slot] & SHM_T_STATE) != SHM_T_UNKNOWN;
}

int remove_begin(struct space *space, uint32_t slot, enum shm_why why, uint32_t uid)
{
	struct slot_shm *s = space_slot(space, slot);
	uint64_t state = shm_count_read(&s->state);
	uint32_t version = state_version(state);
	struct free_slot *f;

	if (slot == SHM_SLOT_NONE || slot >= space_slots_nr(space) ||
	    !type_is_member(name_type(shm_count_read(&s->name))))
		return -EINVAL;
	if (state_flags(state) & SHM_F_REMOVING)
		return 0;
	if (!(slot_generation(shm_count_read(&s->route)) & 1))
		return -EINVAL;
	f = free_slot(space, slot);
	f->why = (uint8_t)why;
	f->uid = uid;
	/* ORDER(state): as in half_commit. */
	shm_publish((uint64_t *)&s->base[(version + 1) & 1], (uint64_t)s->base[version & 1]);
	shm_publish(&s->state, state_make(version + 1, state_flags(state) | SHM_F_REMOVING,
					  slot_row(state)));
	quota_discount(space, slot);
	registry_remove(space->view.registry, &space->names.records[slot], &f->gone);
	member_hide(space, slot);
	return 0;
}

void remove_recover(struct space *space, uint32_t slot)
{
	struct free_slot *f = free_slot(space, slot);

	/* The registry of this worker never had it. */
	f->gone.is_gone = 1;
	f->why = SHM_WHY_RESTART;
	suspect_recover(space, slot);
	member_hide(space, slot);
}

/* --- what comes late -------------------------------------------------------------------------- */

void remove_late(struct space *space, uint32_t slot)
{
	struct totals_shm *t = space->t;
	uint64_t cell = space_cell(space, slot);
	int64_t n = space_base(space, slot) + (int64_t)cell;
	struct change_shm change = {
		.slot = slot, .kind = SHM_CHANGE_REMOVED, .why = SHM_WHY_LATE, .value = n,
		.row = SHM_ROW_NONE,
	};

	if (!n || space_is_owned(space, slot))
		return;
	if (!type_is_member(name_type(shm_count_read(&space_slot(space, slot)->name))) ||
	    !slot_generation(shm_count_read(&space_slot(space, slot)->route))) {
		/* No client ever had a reason to add to it. */
		suspect_stray(space, slot, SHM_ROW_NONE, n);
		rows_commit(space, slot, -n, SHM_ROW_NONE);
		return;
	}
	sum_move(space, slot, cell, n);
	shm_count_set(&t->late_moved, t->late_moved + (uint64_t)n);
	if (space->suspects.late_nr <= LATE_SHOWN) /* a flood of them must not wash the history away */
		changes_put(space, &change);
}

void remove_family(struct space *space, uint32_t removed)
{
	struct removal *f = space->removal;

	/* Without memory it counts all the same; the metric does not have it. */
	if (!array_reserve(&f->removed, f->removed_nr + 1, &f->removed_max))
		f->removed[f->removed_nr++] = removed;
}

void remove_late_all(struct space *space)
{
	for (uint32_t i = 0; i < space->suspects.late_nr; i++)
		remove_late(space, space->suspects.late[i]);
	suspect_late_clear(space);
}

void remove_second(struct space *space)
{
	const struct removal *f = space->removal;
	uint64_t late = space->t->late_moved;

	/* Late adds alone change the cell of a `removed` member. */
	for (uint32_t i = 0; i < f->removed_nr; i++)
		late += space_cell(space, f->removed[i]);
	shm_count_set(&space->t->late_adds, late);
}


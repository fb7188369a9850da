/* See remove.h. */
#include "daemon/worker/space/remove.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/worker/space/changes.h"
#include "daemon/worker/space/deferred.h"
#include "daemon/worker/space/rows.h"
#include "daemon/worker/space/quota.h"
#include "daemon/worker/space/register.h"
#include "daemon/worker/space/suspect.h"
#include "shm/names.h"

#define LATE_TOLD 8u /* of the cells that changed in one fold */
#define SECOND_NS 1000000000ull
#define CLASSES (SHM_NAME_MAX / 8 + 1) /* of name records, by the 8 bytes of their keys */
#define LOOK_NS 4000000u /* for the look at idle members, of each second */
#define LOOK_FAMILIES 256u

/* A slot that goes, or is free: in the list of its class, oldest first. */
struct free_slot {
	struct registry_gone gone;
	uint64_t freed_ns;
	uint32_t next;
	uint32_t uid; /* who wanted it gone, and why */
	uint8_t why;
};

struct free_list {
	uint32_t first, last; /* SHM_SLOT_NONE: empty */
};

struct free_slots {
	struct free_slot *slots; /* by slot, sparse */
	uint32_t slots_end;	 /* none at or behind this one was ever used */
	struct free_list lists[CLASSES];
	uint32_t *removed; /* of every family */
	uint32_t removed_nr, removed_max;
	uint32_t look_slot; /* where the look at idle members goes on */
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * SECOND_NS + (uint64_t)t.tv_nsec;
}

int remove_open(struct space *space)
{
	space->removal.free = calloc(1, sizeof(*space->removal.free));
	if (!space->removal.free)
		return -ENOMEM;
	space->removal.free->slots = space_array(sizeof(struct free_slot), SHM_SLOTS_MAX);
	return space->removal.free->slots ? 0 : -ENOMEM;
}

/* The records' memory was given back: what is mapped there next is no longer theirs. */
static void records_reclaim(const struct free_slots *f)
{
	for (uint32_t slot = 0; f->slots && slot < f->slots_end; slot++)
		if (f->slots[slot].gone.rec)
			registry_reclaim(f->slots[slot].gone.rec);
}

void remove_close(struct space *space)
{
	struct free_slots *f = space->removal.free;

	if (!f)
		return;
	records_reclaim(f);
	space_array_free(f->slots, sizeof(*f->slots), SHM_SLOTS_MAX);
	free(f->removed);
	free(f);
}

static struct free_slot *free_slot(struct space *space, uint32_t slot)
{
	struct free_slots *f = space->removal.free;

	if (slot >= f->slots_end)
		f->slots_end = slot + 1;
	return &f->slots[slot];
}

static bool is_member(uint64_t name)
{
	return name_type(name) == SHM_MEMBER || name_type(name) == SHM_LEVEL_MEMBER;
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

static uint64_t cell_of(const struct space *space, uint32_t slot)
{
	return shm_count_read((const uint64_t *)(space->s + shards_cold(slot)));
}

static int64_t base_of(const struct space *space, uint32_t slot)
{
	const struct slot_shm *s = space_slot(space, slot);

	return s->base[state_version(shm_count_read(&s->state)) & 1];
}

/* --- free slots ------------------------------------------------------------------------------- */

static void list_put(struct space *space, uint32_t slot)
{
	uint64_t name = shm_count_read(&space_slot(space, slot)->name);
	struct free_list *list = &space->removal.free->lists[(name_length(name) + 7) / 8];
	struct free_slot *f = free_slot(space, slot);

	f->freed_ns = now_ns();
	f->next = SHM_SLOT_NONE;
	if (list->first == SHM_SLOT_NONE)
		list->first = slot;
	else
		free_slot(space, list->last)->next = slot;
	list->last = slot;
}

static void list_take(struct space *space, struct free_list *list)
{
	list->first = free_slot(space, list->first)->next;
}

/* From now on the slot may be handed out again, when its quarantine is over. */
static void slot_free(struct space *space, uint32_t slot)
{
	const struct slot_shm *s = space_slot(space, slot);
	uint64_t name = shm_count_read(&s->name);

	if (is_member(name) && name_length(name) <= SHM_NAME_MAX &&
	    slot_generation(shm_count_read(&s->route)) < SHM_GENERATION_LAST)
		list_put(space, slot);
}

void remove_recover_free(struct space *space, uint32_t slot)
{
	/* The registry of this worker never had it. */
	free_slot(space, slot)->gone.is_gone = 1;
	slot_free(space, slot);
}

/* Nothing is handed out again while an add may still reach it. */
static bool is_reuse_allowed(const struct space *space)
{
	const struct shards_shm *head = (const struct shards_shm *)(const void *)space->s;

	/* ORDER(fallback): read long after the even generation and the full fence behind it; who took
	 * the odd one without a section had set the word before. */
	return !shm_count_read(&head->fallback_used) &&
	       !(shm_read32(&space->d->promotion) & SHM_REUSE_OFF);
}

/* Neither epoch shows what the slot held, and nobody has added since. */
static bool is_zero(const struct space *space, uint32_t slot)
{
	return !shm_count_read(&space_totals(space, 0)[slot]) &&
	       !shm_count_read(&space_totals(space, 1)[slot]) &&
	       !((uint64_t)space->off_shard.by_slot[slot] + cell_of(space, slot));
}

uint32_t remove_reuse(struct space *space, uint32_t name_bytes)
{
	struct free_list *list = &space->removal.free->lists[(name_bytes + 7) / 8];
	uint32_t slot = list->first;
	struct free_slot *f = free_slot(space, slot);

	if (slot == SHM_SLOT_NONE || now_ns() - f->freed_ns < SHM_QUARANTINE_NS ||
	    !is_reuse_allowed(space) || !registry_is_gone(&f->gone))
		return SHM_SLOT_NONE;
	list_take(space, list);
	if (!is_zero(space, slot)) {
		/* Some client scribbles on it: the fold tells, and others come first. */
		list_put(space, slot);
		return SHM_SLOT_NONE;
	}
	return slot;
}

/* --- two slots as one ------------------------------------------------------------------------- */

/* What a half of an intent leaves: the first slot is nobody's, the second keeps its row and flags. */
static void half_commit(struct space *space, unsigned int half)
{
	const struct intent_shm *intent = &space->d->intent;
	struct slot_shm *s = space_slot(space, intent->slot[half]);
	uint64_t state = shm_count_read(&s->state);
	uint32_t version = intent->version[half] + 1;

	/* ORDER(state): the base stands before the state that makes it valid, and it is stored after
	 * the last state, for whose readers it still was the other half. */
	shm_publish((uint64_t *)&s->base[version & 1], (uint64_t)intent->base[half]);
	shm_publish(&s->state, half ? state_make(version, state_flags(state), slot_row(state)) :
				      state_make(version, 0, SHM_ROW_NONE));
}

static void moves_step(struct space *space)
{
	/* ORDER(moves): who sums several slots finds this even and unchanged around its reads, or
	 * reads again. */
	shm_publish(&space->d->moves, shm_count_read(&space->d->moves) + 1);
	shm_seq_write_begin();
}

/* Moves n from a slot that is nobody's afterwards to its family's `removed`; what its cell holds is
 * `cell`. A worker killed anywhere in here leaves both as they were, or an intent for the rest. */
static void sum_move(struct space *space, uint32_t slot, uint64_t cell, int64_t n)
{
	struct intent_shm *intent = &space->d->intent;
	uint32_t removed = removed_of(space, slot);
	uint32_t slots[2] = { slot, removed };
	int64_t bases[2] = { -(int64_t)cell, base_of(space, removed) + n };

	moves_step(space);
	for (unsigned int half = 0; half < 2; half++) {
		const struct slot_shm *s = space_slot(space, slots[half]);

		intent->slot[half] = slots[half];
		intent->version[half] = state_version(shm_count_read(&s->state));
		intent->base[half] = bases[half];
		space_off_shard_add(space, slots[half], bases[half] - base_of(space, slots[half]));
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

static uint64_t hash_of(const struct space *space, uint32_t slot)
{
	uint64_t name = shm_count_read(&space_slot(space, slot)->name);
	const struct member_shm *m = member_of(space, slot);

	return dir_hash(space->d, m->family, m->value, name_length(name));
}

/* The grace has passed: everything that the slot has is in `removed` from here on. */
static void finish_removal(struct space *space, uint32_t slot, uint32_t seq)
{
	const struct free_slot *f = free_slot(space, slot);
	uint32_t row = rows_of_slot(space, slot);
	uint64_t cell = cell_of(space, slot);
	int64_t n = base_of(space, slot) + (int64_t)cell;
	struct change_shm change = {
		.slot = slot, .kind = SHM_CHANGE_REMOVED, .why = f->why, .uid = f->uid,
		.row = row,
	};
	uint8_t *state = &space_states(space)[slot];
	bool is_kernel = state_flags(shm_count_read(&space_slot(space, slot)->state)) & SHM_F_KERNEL;

	(void)seq; /* a slot is removed once */
	if (row != SHM_ROW_NONE)
		n += (int64_t)rows_sum_one(space, row);
	sum_move(space, slot, cell, n);
	if (row != SHM_ROW_NONE)
		rows_free(space, row);
	space->suspects_nr -= (*state & SHM_T_STATE) == SHM_T_SUSPECT;
	shm_set8(state, SHM_T_UNUSED);
	shm_count_set(&space->t->removed_nr, space->t->removed_nr + 1);
	change.before = change.value = n;
	/* Processes come and go: what they counted went to `removed` by the kernel's own books. */
	if (n || !is_kernel)
		changes_put(space, &change);
	slot_free(space, slot);
}

/* Out of sight, and then out of reach: whoever compares the generation in a section after this counts
 * in `removed`; who compared it before has done so, or has aborted, when the grace is over. */
static void member_hide(struct space *space, uint32_t slot)
{
	struct slot_shm *s = space_slot(space, slot);
	uint32_t generation = slot_generation(shm_count_read(&s->route));

	index_remove(space, slot, hash_of(space, slot));
	shm_publish(&s->route, slot_route((generation + 1) & ~1u, SHM_ROW_NONE));
	/* ORDER(fallback): the even generation is stored before the word is read, here and in
	 * remove_reuse. ORDER(grace): and before any CPU is visited. */
	shm_fence();
	if (rows_is_hot(space, slot))
		rows_retire(space, slot);
	deferred_put(space, &(struct deferred){ finish_removal, slot, 0 });
}

bool remove_is_counted(const struct space *space, uint32_t slot)
{
	return (state_flags(shm_count_read(&space_slot(space, slot)->state)) & SHM_F_KERNEL) &&
	       (space_states(space)[slot] & SHM_T_STATE) != SHM_T_UNKNOWN;
}

int remove_begin(struct space *space, uint32_t slot, enum shm_why why, uint32_t uid)
{
	struct slot_shm *s = space_slot(space, slot);
	uint64_t state = shm_count_read(&s->state);
	uint32_t version = state_version(state);
	struct free_slot *f;

	if (slot == SHM_SLOT_NONE || slot >= space_slots_nr(space) ||
	    !is_member(shm_count_read(&s->name)))
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
	register_discount(space, slot);
	registry_remove(space->registry, &space->names.records[slot], &f->gone);
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
	uint64_t cell = cell_of(space, slot);
	int64_t n = base_of(space, slot) + (int64_t)cell;
	struct change_shm change = {
		.slot = slot, .kind = SHM_CHANGE_REMOVED, .why = SHM_WHY_LATE, .value = n,
		.row = SHM_ROW_NONE,
	};

	if (!n || space_is_owned(space, slot))
		return;
	if (!is_member(shm_count_read(&space_slot(space, slot)->name)) ||
	    !slot_generation(shm_count_read(&space_slot(space, slot)->route))) {
		/* Nobody ever had it to add to. */
		suspect_stray(space, slot, SHM_ROW_NONE, n);
		rows_commit(space, slot, -n, SHM_ROW_NONE);
		return;
	}
	sum_move(space, slot, cell, n);
	shm_count_set(&t->late_moved, t->late_moved + (uint64_t)n);
	if (space->removal.late_nr <= LATE_TOLD) /* a flood of them must not wash the history away */
		changes_put(space, &change);
}

void remove_family(struct space *space, uint32_t removed)
{
	struct free_slots *f = space->removal.free;

	if (f->removed_nr == f->removed_max) {
		uint32_t max = f->removed_max ? 2 * f->removed_max : 64;
		uint32_t *more = realloc(f->removed, max * sizeof(*more));

		if (!more)
			return; /* it counts all the same; the metric does not have it */
		f->removed = more;
		f->removed_max = max;
	}
	f->removed[f->removed_nr++] = removed;
}

/* A `removed` member's cell is added to by nobody but who came late. */
static void late_publish(struct space *space)
{
	const struct free_slots *f = space->removal.free;
	uint64_t late = space->t->late_moved;

	for (uint32_t i = 0; i < f->removed_nr; i++)
		late += cell_of(space, f->removed[i]);
	shm_count_set(&space->t->late_adds, late);
}

/* --- time to live ----------------------------------------------------------------------------- */

/* One look at the members: the rules, and whose members they can hold for. */
struct look {
	const struct config *config;
	uint32_t now_s;
	uint64_t ttl_min_s; /* of all rules */
	struct {
		uint32_t family;
		bool is_ruled;
	} families[LOOK_FAMILIES];
};

static bool rule_has_ttl(const struct config_rule *rule)
{
	return rule->ttl_s && rule->ttl_s != CONFIG_TTL_UNSET;
}

static uint64_t ttl_min_s(const struct config *config)
{
	uint64_t least = UINT64_MAX;

	for (uint32_t i = 0; i < config->rules_nr; i++)
		if (rule_has_ttl(&config->rules[i]) && config->rules[i].ttl_s < least)
			least = config->rules[i].ttl_s;
	return least;
}

/* Can a rule with a ttl hold for members of this family? */
static bool family_is_ruled(const struct space *space, const struct config *config, uint32_t family)
{
	uint64_t word = shm_count_read(&space_slot(space, family)->name);
	char name[SHM_NAME_MAX + 1], glob[CONFIG_GLOB_MAX];

	memcpy(name, dir_name(space->d, word)->text, name_length(word));
	name[name_length(word)] = '\0';
	for (uint32_t i = 0; i < config->rules_nr; i++) {
		const struct config_rule *rule = &config->rules[i];

		if (!rule_has_ttl(rule))
			continue;
		memcpy(glob, rule->glob, sizeof(glob));
		glob[strcspn(glob, "{")] = '\0';
		if (name_match(glob, name))
			return true;
	}
	return false;
}

static bool is_ruled(const struct space *space, struct look *look, uint32_t family)
{
	unsigned int at = family % LOOK_FAMILIES;

	if (look->families[at].family != family) {
		look->families[at].family = family;
		look->families[at].is_ruled = family_is_ruled(space, look->config, family);
	}
	return look->families[at].is_ruled;
}

static void slot_look(struct space *space, struct look *look, uint32_t slot)
{
	const struct slot_shm *s = space_slot(space, slot);
	char name[NAME_DISPLAY_MAX];
	uint32_t idle_s, ttl_s;

	if (!is_member(shm_count_read(&s->name)) ||
	    !(slot_generation(shm_count_read(&s->route)) & 1) ||
	    (space_states(space)[slot] & SHM_T_STATE) == SHM_T_SUSPECT ||
	    remove_is_counted(space, slot))
		return;
	if (!space->removal.changed_s[slot]) /* no change seen: it is idle since this worker looks */
		space->removal.changed_s[slot] = look->now_s;
	idle_s = look->now_s - space->removal.changed_s[slot];
	if (idle_s < look->ttl_min_s || !is_ruled(space, look, member_of(space, slot)->family) ||
	    name_display(space->d, slot, name, sizeof(name)) < 0)
		return;
	ttl_s = config_ttl_s(look->config, name);
	if (ttl_s && idle_s >= ttl_s)
		remove_begin(space, slot, SHM_WHY_TTL, 0);
}

/* All members, or as many as the time allows: the next second goes on from there. */
static void members_look(struct space *space, struct look *look)
{
	struct free_slots *f = space->removal.free;
	uint32_t slots_nr = space_slots_nr(space);
	uint64_t begin_ns = now_ns();

	for (uint32_t i = 0; i < slots_nr; i++) {
		if (++f->look_slot >= slots_nr)
			f->look_slot = SHM_SLOT_FIRST;
		if (f->look_slot < slots_nr)
			slot_look(space, look, f->look_slot);
		if (i % 64 == 63 && now_ns() - begin_ns > LOOK_NS)
			break;
	}
}

void remove_second(struct space *space, const struct config *config)
{
	struct look look = { .config = config, .ttl_min_s = ttl_min_s(config) };

	late_publish(space);
	if (look.ttl_min_s == UINT64_MAX)
		return;
	look.now_s = (uint32_t)(now_ns() / SECOND_NS);
	members_look(space, &look);
}

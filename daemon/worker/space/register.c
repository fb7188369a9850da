/* See register.h. */
#include "daemon/worker/space/register.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/worker/space/busy.h"
#include "daemon/worker/space/heat.h"
#include "daemon/worker/space/index.h"
#include "daemon/worker/space/pages.h"
#include "daemon/worker/space/quota.h"
#include "daemon/worker/space/remove.h"
#include "shm/names.h"

static uint32_t round8(uint32_t n)
{
	return (n + 7) & ~7u;
}

static uint32_t overflow_of(uint8_t type)
{
	return type == SHM_LEVEL || type == SHM_LEVEL_FAMILY || type == SHM_LEVEL_MEMBER ?
		SHM_SLOT_OVERFLOW_LEVEL : SHM_SLOT_OVERFLOW;
}

static uint32_t generation_of(const struct space *space, uint32_t slot)
{
	return slot_generation(shm_take(&space_slot(space, slot)->route));
}

static void result_set(uint32_t slot, uint32_t generation, int err, struct wire_result *ret)
{
	ret->slot = slot;
	ret->generation = generation;
	ret->err = err;
	ret->text_at = 0;
}

/* --- finding ---------------------------------------------------------------------------------- */

struct claim_key {
	const struct space *space;
	uint32_t owner;
	const struct claim *claim;
	uint32_t *ret_generation;
};

static bool record_matches(const struct record *rec, const void *key)
{
	const struct claim_key *k = key;

	return rec->where >> 24 == k->space->view.idx &&
	       dir_matches(k->space->d, rec->where & (SHM_SLOTS_MAX - 1), k->owner,
			   k->claim->name, k->claim->name_len, k->ret_generation);
}

/* The generation that the slot had when its name was compared goes to ret_generation: a member may
 * be removed meanwhile when this is another thread than the fold's. */
static uint32_t slot_find(const struct space *space, const struct claim *c, uint32_t owner,
			  uint64_t hash, uint32_t *ret_generation)
{
	struct claim_key k = { space, owner, c, ret_generation };
	const struct record *rec = registry_find(space->view.registry, hash, record_matches, &k);

	return rec ? rec->where & (SHM_SLOTS_MAX - 1) : SHM_SLOT_NONE;
}

static const char *type_word(uint8_t type)
{
	switch (type) {
	case SHM_COUNTER:
		return "counter";
	case SHM_LEVEL:
		return "level";
	case SHM_FAMILY:
		return "family";
	default:
		return "level family";
	}
}

static const char *help_of(const struct space *space, const struct name_shm *n, uint32_t *ret_len)
{
	*ret_len = name_length(n->help);
	return (const char *)space->d + SHM_D_NAMES + name_offset(n->help);
}

static bool help_is(const struct space *space, const struct name_shm *n, const struct claim *c)
{
	uint32_t len;
	const char *help = help_of(space, n, &len);

	return len == c->help_len && memcmp(help, c->help, len) == 0;
}

static bool label_is(const struct name_shm *n, uint32_t name_len, const struct claim *c)
{
	return n->label_len == c->label_len &&
	       (!c->label_len || memcmp(n->text + name_len, c->label, c->label_len) == 0);
}

/* Says both sides of a conflict between a claim and the slot that has its name or its base. */
static int conflict(const struct space *space, const struct claim *c, uint32_t slot, char *why)
{
	uint64_t name = shm_count_read(&space_slot(space, slot)->name);
	const struct name_shm *n = dir_name(space->d, name);
	uint8_t type = name_type(name);
	uint32_t len;
	const char *help = help_of(space, n, &len), *label = n->text + name_length(name);
	bool same_label = label_is(n, name_length(name), c);

	if (type != c->type)
		snprintf(why, REGISTER_WHY_MAX, "%.*s is registered as a %s, asked for as a %s. "
			 "fix: another name", n->base_len, n->text, type_word(type),
			 type_word(c->type));
	else if (!same_label || n->key_kind != c->key_kind)
		snprintf(why, REGISTER_WHY_MAX, "family %.*s is registered with label \"%.*s%s\", "
			 "asked for with \"%.*s%s\". fix: the same label, or another name",
			 n->base_len, n->text, n->label_len, label,
			 n->key_kind == SHM_KEY_U64 ? ":u64" : "", (int)c->label_len, c->label,
			 c->key_kind == SHM_KEY_U64 ? ":u64" : "");
	else
		snprintf(why, REGISTER_WHY_MAX, "%.*s is registered with help \"%.*s\", asked for "
			 "with help \"%.*s\". fix: the same help, or another name", n->base_len,
			 n->text, len > 160 ? 160 : (int)len, help,
			 c->help_len > 160 ? 160 : (int)c->help_len, c->help);
	return -EEXIST;
}

/* No program adds to what the kernel or the daemon counts. */
static int own_refuse(const struct space *space, uint32_t slot, char *why)
{
	const struct name_shm *n =
		dir_name(space->d, shm_count_read(&space_slot(space, slot)->name));

	snprintf(why, REGISTER_WHY_MAX, "%.*s is counted by talea itself: read it by its name, and "
		 "declare another", n->base_len, n->text);
	return -EINVAL;
}

static bool name_is_as_claimed(const struct space *space, const struct claim *c, uint32_t slot)
{
	uint64_t name = shm_count_read(&space_slot(space, slot)->name);
	const struct name_shm *n = dir_name(space->d, name);

	return name_type(name) == c->type && n->key_kind == c->key_kind &&
	       label_is(n, name_length(name), c) && help_is(space, n, c);
}

/* The family that a member names: 0, or why it is none. */
static int family_check(const struct space *space, const struct claim *c, char *why)
{
	uint8_t type = c->type == SHM_MEMBER ? SHM_FAMILY : SHM_LEVEL_FAMILY;
	const struct slot_shm *s = space_slot(space, c->family);

	if (c->family == SHM_SLOT_NONE || c->family >= space_slots_nr(space) ||
	    name_type(shm_count_read(&s->name)) != type) {
		snprintf(why, REGISTER_WHY_MAX, "slot %u is no %s", c->family, type_word(type));
		return -EINVAL;
	}
	if (!(c->family_generation & 1) ||
	    slot_generation(shm_take(&s->route)) != c->family_generation) {
		snprintf(why, REGISTER_WHY_MAX, "the family in slot %u was removed", c->family);
		return -ESTALE;
	}
	if (space_origin(space, c->family) != SHM_ORIGIN_USER)
		return own_refuse(space, c->family, why);
	return 0;
}

int register_find(const struct space *space, const struct claim *c, struct wire_result *ret,
		  char *why)
{
	uint32_t owner = 0, generation = 0, slot;
	int err = 0;

	if (!type_is_member(c->type) && !type_is_family(c->type) && c->type != SHM_COUNTER &&
	    c->type != SHM_LEVEL) {
		snprintf(why, REGISTER_WHY_MAX, "type %u is not known to this version", c->type);
		result_set(SHM_SLOT_OVERFLOW, generation_of(space, SHM_SLOT_OVERFLOW), -EOPNOTSUPP,
			   ret);
		return -EOPNOTSUPP;
	}
	if (type_is_member(c->type)) {
		err = family_check(space, c, why);
		if (err) {
			slot = overflow_of(c->type);
			result_set(slot, generation_of(space, slot), err, ret);
			return err;
		}
		owner = c->family;
	}
	slot = slot_find(space, c, owner, dir_hash(space->d, owner, c->name, c->name_len),
			 &generation);
	if (slot == SHM_SLOT_NONE)
		return 0;
	if (!owner && space_origin(space, slot) != SHM_ORIGIN_USER)
		err = own_refuse(space, slot, why);
	else if (!owner && !name_is_as_claimed(space, c, slot))
		err = conflict(space, c, slot, why);
	if (err) {
		slot = overflow_of(c->type);
		generation = generation_of(space, slot);
	}
	result_set(slot, generation, err, ret);
	return err ? err : 1;
}

/* --- making ----------------------------------------------------------------------------------- */

/*
 * Takes nr slots and `bytes` of names for good. They are counted as taken before anything is
 * stored in them, so that a worker killed in between wastes them and nothing is ever used twice.
 */
static int slots_take(struct space *space, uint32_t nr, uint32_t bytes, uint32_t *ret_slot,
		      uint64_t *ret_at)
{
	uint32_t slot = space_slots_nr(space);
	uint64_t at = shm_count_read(&space->d->names_bytes);

	if (pages_slots(space, slot + nr) || pages_names(space, at + bytes) ||
	    index_reserve(space) || bases_reserve(space))
		return -ENOMEM;
	/* ORDER(taken): a new worker must find the counts no lower than what is stored below. */
	shm_publish(&space->d->names_bytes, at + bytes);
	shm_publish(&space->d->slots_nr, slot + nr);
	*ret_slot = slot;
	*ret_at = at;
	return 0;
}

/*
 * Everything of a slot is stored before its generation turns odd; that store is the commit.
 * Versions go on from the slot's last owner, and what the cell holds by now is taken back: a cell
 * is never zeroed.
 */
static void slot_publish(struct space *space, uint32_t slot, uint64_t name, uint8_t flags)
{
	struct slot_shm *s = space_slot(space, slot);
	uint32_t generation = slot_generation(shm_count_read(&s->route)) + 1;
	uint32_t version = state_version(shm_count_read(&s->state)) + 1;
	uint64_t cell = space_cell(space, slot);

	/* ORDER(name): the record is complete before a name points to it. */
	shm_publish(&s->name, name);
	/* ORDER(state): the base stands before the state that makes it valid, and is stored after
	 * the last state, for whose readers it still was the other half. */
	shm_publish((uint64_t *)&s->base[version & 1], -cell);
	shm_publish(&s->state, state_make(version, flags, SHM_ROW_NONE));
	if (space->off_shard.by_slot[slot] != -(int64_t)cell)
		space_off_shard_add(space, slot, -(int64_t)cell - space->off_shard.by_slot[slot]);
	busy_forget(space, slot);
	shm_set8(&space_states(space)[slot], SHM_T_OK);
	/* ORDER(generation): name, base and state stand before the generation that shows them. */
	shm_publish(&s->route, slot_route(generation, SHM_ROW_NONE));
}

static struct name_shm *name_store(struct space *space, const struct claim *c, uint64_t at,
				   uint64_t help)
{
	struct name_shm *n = (struct name_shm *)((char *)space->d + SHM_D_NAMES + at);
	const char *brace = memchr(c->name, '{', c->name_len);

	*n = (struct name_shm){
		.help = help, .uid = c->uid, .origin = c->origin, .key_kind = c->key_kind,
		.base_len = (uint16_t)(brace ? (uint32_t)(brace - c->name) : c->name_len),
		.label_len = (uint16_t)c->label_len,
	};
	memcpy(n->text, c->name, c->name_len);
	if (c->label_len)
		memcpy(n->text + c->name_len, c->label, c->label_len);
	return n;
}

static void member_store(struct space *space, uint64_t at, uint32_t family, uid_t uid,
			 const void *key, uint32_t len)
{
	struct member_shm *m = (struct member_shm *)((char *)space->d + SHM_D_NAMES + at);

	m->family = family;
	m->uid = uid;
	memcpy(m->value, key, len);
}

/* A freed slot with a name record of this size; SHM_SLOT_NONE: none that can be had now. */
static uint32_t slot_take_again(struct space *space, uint32_t name_len, uint64_t *ret_at)
{
	uint32_t slot;

	if (index_reserve(space))
		return SHM_SLOT_NONE;
	slot = remove_reuse(space, name_len);
	if (slot != SHM_SLOT_NONE)
		*ret_at = name_offset(shm_count_read(&space_slot(space, slot)->name));
	return slot;
}

static uint8_t claim_flags(const struct claim *c)
{
	return c->origin == SHM_ORIGIN_KERNEL ? SHM_F_KERNEL : 0;
}

static int member_make(struct space *space, const struct config *config, const struct claim *c,
		       uint32_t *ret_slot)
{
	uint64_t at;
	uint32_t slot = slot_take_again(space, c->name_len, &at);
	int err;

	if (slot == SHM_SLOT_NONE) {
		err = slots_take(space, 1, sizeof(struct member_shm) + round8(c->name_len), &slot,
				 &at);
		if (err)
			return err;
	}
	/* ORDER(generation): a reader that finds the bytes of this name in a record that had
	 * another finds the even generation too, which was stored before that slot was freed. */
	shm_seq_write_begin();
	member_store(space, at, c->family, c->uid, c->name, c->name_len);
	slot_publish(space, slot, name_make(at, c->name_len, c->type), claim_flags(c));
	quota_account(space, slot);
	index_put(space, slot, dir_hash(space->d, c->family, c->name, c->name_len));
	heat_registered(space, config, slot);
	*ret_slot = slot;
	return 0;
}

/* A counter, level or family. All label sets of a base name share the first one's help text. */
static int name_make_slot(struct space *space, const struct config *config, const struct claim *c,
			  uint32_t base_slot, uint32_t *ret_slot)
{
	const uint32_t head_bytes = sizeof(struct name_shm) + round8(c->name_len + c->label_len);
	bool is_family = type_is_family(c->type);
	uint32_t bytes = head_bytes, slot;
	uint64_t at, help, members_at;
	struct name_shm *n;
	int err;

	if (base_slot == SHM_SLOT_NONE)
		bytes += round8(c->help_len + 1); /* a NUL ends it: readers hand it out as it is */
	members_at = bytes;
	if (is_family)
		bytes += 2 * sizeof(struct member_shm);
	err = slots_take(space, is_family ? 3 : 1, bytes, &slot, &at);
	if (err)
		return err;
	if (base_slot != SHM_SLOT_NONE) {
		help = space_name(space, base_slot)->help;
	} else {
		help = name_make(at + head_bytes, c->help_len, 0);
		memcpy((char *)space->d + SHM_D_NAMES + at + head_bytes, c->help, c->help_len);
	}
	n = name_store(space, c, at, help);
	if (is_family) {
		/* Committed before their family: who finds the family finds both. */
		members_at += at;
		n->other = slot + 1;
		n->removed = slot + 2;
		member_store(space, members_at, slot, c->uid, "", 0);
		slot_publish(space, slot + 1, name_make(members_at, 0, SHM_OTHER), claim_flags(c));
		members_at += sizeof(struct member_shm);
		member_store(space, members_at, slot, c->uid, "", 0);
		slot_publish(space, slot + 2, name_make(members_at, 0, SHM_REMOVED),
			     claim_flags(c));
	}
	slot_publish(space, slot, name_make(at, c->name_len, c->type), claim_flags(c));
	quota_account(space, slot);
	if (is_family)
		remove_family(space, n->removed);
	if (base_slot == SHM_SLOT_NONE)
		bases_put(space, slot);
	index_put(space, slot, dir_hash(space->d, 0, c->name, c->name_len));
	heat_registered(space, config, slot);
	if (is_family)
		heat_registered(space, config, slot + 1);
	*ret_slot = slot;
	return 0;
}

/* Is the base name free for this claim, or used with the same type and help? */
static int base_check(const struct space *space, const struct claim *c, uint32_t *ret_slot,
		      char *why)
{
	const char *brace = memchr(c->name, '{', c->name_len);
	uint32_t len = brace ? (uint32_t)(brace - c->name) : c->name_len;
	uint32_t slot = bases_find(space, c->name, len);

	if (slot != SHM_SLOT_NONE) {
		uint64_t name = shm_count_read(&space_slot(space, slot)->name);

		if (name_type(name) != c->type || type_is_family(c->type) ||
		    !help_is(space, dir_name(space->d, name), c))
			return conflict(space, c, slot, why);
	}
	*ret_slot = slot;
	return 0;
}

/* The rules and the quotas for a claim that is new; then it is made. */
static int claim_make(struct space *space, struct quota *q, const struct claim *c,
		      uint32_t *ret_slot, char *why)
{
	uint32_t base_slot;
	int err;

	if (type_is_member(c->type))
		err = name_check_value(space_name(space, c->family)->key_kind, c->name,
				       c->name_len, why, REGISTER_WHY_MAX);
	else
		err = name_check(c->type, c->name, c->name_len, c->help, c->help_len, c->label,
				 c->label_len, why, REGISTER_WHY_MAX);
	if (err)
		return err;
	if (type_is_family(c->type) && c->key_kind != SHM_KEY_TEXT && c->key_kind != SHM_KEY_U64) {
		snprintf(why, REGISTER_WHY_MAX, "no such kind of key: %u", c->key_kind);
		return -EINVAL;
	}
	if (!type_is_member(c->type)) {
		err = base_check(space, c, &base_slot, why);
		if (err)
			return err;
	}
	err = quota_check(space, q, c, why);
	if (err)
		return err;
	if (type_is_member(c->type))
		return member_make(space, q->config, c, ret_slot);
	return name_make_slot(space, q->config, c, base_slot, ret_slot);
}

void register_claim(struct space *space, struct quota *q, const struct claim *c,
		    struct wire_result *ret, char *why)
{
	uint32_t slot;
	int err;

	why[0] = '\0';
	if (register_find(space, c, ret, why) == 0) {
		err = claim_make(space, q, c, &slot, why);
		if (err == -ENOMEM && !why[0])
			snprintf(why, REGISTER_WHY_MAX, "the daemon has no memory for it");
		if (err)
			slot = type_is_member(c->type) ? space_name(space, c->family)->other :
							 overflow_of(c->type);
		result_set(slot, generation_of(space, slot), err, ret);
	}
	if (ret->err)
		shm_count_set(&space->d->refusals, shm_count_read(&space->d->refusals) + 1);
}

int register_own(struct space *space, const struct claim *c, uint32_t *ret_slot)
{
	uint32_t owner = type_is_member(c->type) ? c->family : 0, base_slot, slot, generation;
	char why[REGISTER_WHY_MAX];
	int err;

	slot = slot_find(space, c, owner, dir_hash(space->d, owner, c->name, c->name_len),
			 &generation);
	if (slot != SHM_SLOT_NONE) {
		if (space_origin(space, slot) != c->origin)
			return -EEXIST;
		if (!owner && !name_is_as_claimed(space, c, slot))
			return -EEXIST;
		*ret_slot = slot;
		return 0;
	}
	if (owner)
		return member_make(space, NULL, c, ret_slot);
	err = base_check(space, c, &base_slot, why);
	return err ? err : name_make_slot(space, NULL, c, base_slot, ret_slot);
}

/* See register.h. */
#include "daemon/worker/space/register.h"

#include <errno.h>
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

/* A freed slot with a name record of this size; SHM_SLOT_NONE: there is none now. */
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
		/* Committed before their family: a reader that finds the family finds both. */
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
		      struct why *why)
{
	const char *brace = memchr(c->name, '{', c->name_len);
	uint32_t len = brace ? (uint32_t)(brace - c->name) : c->name_len;
	uint32_t slot = bases_find(space, c->name, len);

	if (slot != SHM_SLOT_NONE) {
		uint64_t name = shm_count_read(&space_slot(space, slot)->name);

		if (name_type(name) != c->type || type_is_family(c->type) ||
		    !claim_has_help(&space->view, c, slot))
			return claim_conflict(&space->view, c, slot, why);
	}
	*ret_slot = slot;
	return 0;
}

/* Does the claim keep the rules of names? */
static int rules_check(const struct space *space, const struct claim *c, struct why *why)
{
	int err;

	if (type_is_member(c->type))
		return name_check_value(space_name(space, c->family)->key_kind, c->name,
					c->name_len, why->reason, WHY_MAX);
	err = name_check(c->type, c->name, c->name_len, c->help, c->help_len, c->label,
			 c->label_len, why->reason, WHY_MAX);
	if (!err && type_is_family(c->type) && c->key_kind != SHM_KEY_TEXT &&
	    c->key_kind != SHM_KEY_U64)
		err = why_set(why, -EINVAL, "no such kind of key: %u", c->key_kind);
	return err;
}

/* The rules and the quotas for a claim that is new; then it is made. */
static int register_new(struct space *space, struct quota *q, const struct claim *c,
			uint32_t *ret_slot, struct why *why)
{
	uint32_t base_slot = SHM_SLOT_NONE;
	int err = rules_check(space, c, why);

	if (!err && !type_is_member(c->type))
		err = base_check(space, c, &base_slot, why);
	if (!err)
		err = quota_check(space, q, c, why);
	if (err)
		return err;
	err = type_is_member(c->type) ? member_make(space, q->config, c, ret_slot) :
					name_make_slot(space, q->config, c, base_slot, ret_slot);
	return err == -ENOMEM ? why_set(why, err, "the daemon has no memory for it") : err;
}

void register_claim(struct space *space, struct quota *q, const struct claim *c,
		    struct wire_result *ret, struct why *why)
{
	uint32_t slot;
	int err;

	why->reason[0] = why->fix[0] = '\0';
	if (claim_find(&space->view, c, claim_by_index, ret, why) == 0) {
		err = register_new(space, q, c, &slot, why);
		if (err)
			slot = type_is_member(c->type) ? space_name(space, c->family)->other :
							 claim_overflow(c->type);
		claim_result(&space->view, slot, err, ret);
	}
	if (ret->err)
		shm_count_set(&space->d->refusals, shm_count_read(&space->d->refusals) + 1);
}

int register_own(struct space *space, const struct claim *c, uint32_t *ret_slot)
{
	uint32_t owner = type_is_member(c->type) ? c->family : 0, base_slot, generation;
	uint32_t slot = claim_by_index(&space->view, c, owner, &generation);
	int err;

	if (slot != SHM_SLOT_NONE) {
		if (space_origin(space, slot) != c->origin ||
		    (!owner && !claim_is_met(&space->view, c, slot)))
			return -EEXIST;
		*ret_slot = slot;
		return 0;
	}
	if (owner)
		return member_make(space, NULL, c, ret_slot);
	err = base_check(space, c, &base_slot, NULL);
	return err ? err : name_make_slot(space, NULL, c, base_slot, ret_slot);
}

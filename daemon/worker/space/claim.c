/* See claim.h. */
#include "daemon/worker/space/claim.h"

#include <errno.h>
#include <string.h>

#include "daemon/worker/registry.h"
#include "shm/order.h"

/* --- looking up ------------------------------------------------------------------------------- */

struct claim_key {
	const struct space_view *view;
	uint32_t owner;
	const struct claim *claim;
	uint32_t *ret_generation;
};

static bool claim_matches(const struct record *rec, const void *key)
{
	const struct claim_key *k = key;

	return rec->where >> 24 == k->view->idx &&
	       dir_matches(k->view->d, rec->where & (SHM_SLOTS_MAX - 1), k->owner,
			   k->claim->name, k->claim->name_len, k->ret_generation);
}

uint32_t claim_by_registry(const struct space_view *v, const struct claim *c, uint32_t owner,
			   uint32_t *ret_generation)
{
	struct claim_key k = { v, owner, c, ret_generation };
	uint64_t hash = dir_hash(v->d, owner, c->name, c->name_len);
	const struct record *rec = registry_find(v->registry, hash, claim_matches, &k);

	return rec ? rec->where & (SHM_SLOTS_MAX - 1) : SHM_SLOT_NONE;
}

uint32_t claim_by_index(const struct space_view *v, const struct claim *c, uint32_t owner,
			uint32_t *ret_generation)
{
	return dir_find(v->d, owner, c->name, c->name_len, ret_generation);
}

/* --- comparing -------------------------------------------------------------------------------- */

static const char *type_text(uint8_t type)
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

static uint64_t name_word(const struct space_view *v, uint32_t slot)
{
	return shm_count_read(&dir_slot(v->d, slot)->name);
}

static const char *help_of(const struct space_view *v, const struct name_shm *n, uint32_t *ret_len)
{
	*ret_len = name_length(n->help);
	return (const char *)v->d + SHM_D_NAMES + name_offset(n->help);
}

static bool label_is(const struct name_shm *n, uint32_t name_len, const struct claim *c)
{
	return n->label_len == c->label_len &&
	       (!c->label_len || memcmp(n->text + name_len, c->label, c->label_len) == 0);
}

bool claim_has_help(const struct space_view *v, const struct claim *c, uint32_t slot)
{
	uint32_t len;
	const char *help = help_of(v, dir_name(v->d, name_word(v, slot)), &len);

	return len == c->help_len && memcmp(help, c->help, len) == 0;
}

bool claim_is_met(const struct space_view *v, const struct claim *c, uint32_t slot)
{
	uint64_t name = name_word(v, slot);
	const struct name_shm *n = dir_name(v->d, name);

	return name_type(name) == c->type && n->key_kind == c->key_kind &&
	       label_is(n, name_length(name), c) && claim_has_help(v, c, slot);
}

int claim_conflict(const struct space_view *v, const struct claim *c, uint32_t slot,
		   struct why *why)
{
	uint64_t name = name_word(v, slot);
	const struct name_shm *n = dir_name(v->d, name);
	const char *kind = n->key_kind == SHM_KEY_U64 ? ":u64" : "";
	const char *claimed = c->key_kind == SHM_KEY_U64 ? ":u64" : "";
	const char *help, *label = n->text + name_length(name);
	uint32_t len;

	if (name_type(name) != c->type) {
		why_set(why, -EEXIST, "%.*s is registered as a %s, asked for as a %s", n->base_len,
			n->text, type_text(name_type(name)), type_text(c->type));
		why_fix(why, "another name");
	} else if (!label_is(n, name_length(name), c) || n->key_kind != c->key_kind) {
		why_set(why, -EEXIST, "family %.*s is registered with label \"%.*s%s\", asked for "
			"with \"%.*s%s\"", n->base_len, n->text, n->label_len, label, kind,
			(int)c->label_len, c->label, claimed);
		why_fix(why, "the same label, or another name");
	} else {
		help = help_of(v, n, &len);
		why_set(why, -EEXIST, "%.*s is registered with help \"%.*s\", asked for with help "
			"\"%.*s\"", n->base_len, n->text, len > 160 ? 160 : (int)len, help,
			c->help_len > 160 ? 160 : (int)c->help_len, c->help);
		why_fix(why, "the same help, or another name");
	}
	return -EEXIST;
}

/* No program adds to what the kernel or the daemon counts. */
static int own_refuse(const struct space_view *v, uint32_t slot, struct why *why)
{
	const struct name_shm *n = dir_name(v->d, name_word(v, slot));

	return why_set(why, -EINVAL, "%.*s is counted by talea itself: read it by its name, and "
		       "declare another", n->base_len, n->text);
}

/* The family that a member names: 0, or why it is none. */
static int family_check(const struct space_view *v, const struct claim *c, struct why *why)
{
	uint8_t type = c->type == SHM_MEMBER ? SHM_FAMILY : SHM_LEVEL_FAMILY;
	const struct slot_shm *s = dir_slot(v->d, c->family);

	if (c->family == SHM_SLOT_NONE || c->family >= shm_count_read(&v->d->slots_nr) ||
	    name_type(shm_count_read(&s->name)) != type)
		return why_set(why, -EINVAL, "slot %u is no %s", c->family, type_text(type));
	if (!(c->family_generation & 1) ||
	    slot_generation(shm_take(&s->route)) != c->family_generation)
		return why_set(why, -ESTALE, "the family in slot %u was removed", c->family);
	if (view_origin(v, c->family) != SHM_ORIGIN_USER)
		return own_refuse(v, c->family, why);
	return 0;
}

/* --- the answer ------------------------------------------------------------------------------- */

uint32_t claim_overflow(uint8_t type)
{
	return type == SHM_LEVEL || type == SHM_LEVEL_FAMILY || type == SHM_LEVEL_MEMBER ?
		SHM_SLOT_OVERFLOW_LEVEL : SHM_SLOT_OVERFLOW;
}

void claim_result(const struct space_view *v, uint32_t slot, int err, struct wire_result *ret)
{
	ret->slot = slot;
	ret->generation = slot_generation(shm_take(&dir_slot(v->d, slot)->route));
	ret->err = err;
	ret->text_at = 0;
}

int claim_find(const struct space_view *v, const struct claim *c, claim_lookup_fn *lookup,
	       struct wire_result *ret, struct why *why)
{
	uint32_t owner = 0, generation = 0, slot;
	int err = 0;

	if (!type_is_member(c->type) && !type_is_family(c->type) && c->type != SHM_COUNTER &&
	    c->type != SHM_LEVEL)
		err = why_set(why, -EOPNOTSUPP, "type %u is not known to this version", c->type);
	if (!err && type_is_member(c->type)) {
		err = family_check(v, c, why);
		owner = c->family;
	}
	if (!err) {
		slot = lookup(v, c, owner, &generation);
		if (slot == SHM_SLOT_NONE)
			return 0;
		if (!owner && view_origin(v, slot) != SHM_ORIGIN_USER)
			err = own_refuse(v, slot, why);
		else if (!owner && !claim_is_met(v, c, slot))
			err = claim_conflict(v, c, slot, why);
	}
	if (err) {
		claim_result(v, claim_overflow(c->type), err, ret);
		return err;
	}
	*ret = (struct wire_result){ .slot = slot, .generation = generation };
	return 1;
}

/*
 * Keys of families: resolving once (a key of the process with a handle) and resolving with every
 * add (no key, no allocation: the directory itself is the table). A member's add compares the
 * generation inside its section, which is the one of its row or the cold one of target.c.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* So many keys first seen without a daemon get a private cell; further ones count in `other`. */
#define PRIVATE_MEMBERS_MAX 65536u

/* For so long the library does not ask for keys of a full family: they count in `other` at once. */
#define FULL_NS NS_PER_S

static struct region no_region = { .writable = true };
static struct family_bind no_bind = { .region = &no_region };

struct talea_family_ family_undeclared = {
	.bind = &no_bind,
	.other = (struct key *)&talea_undeclared_,
	.err = -EINVAL,
};

static uint8_t member_type(const struct talea_family_ *f)
{
	return f->type == SHM_FAMILY ? SHM_MEMBER : SHM_LEVEL_MEMBER;
}

static bool value_fits(const struct talea_family_ *f, const void *value, size_t len)
{
	if (!value)
		return false;
	return f->key_kind == SHM_KEY_U64 ? len == 8 : len >= 1 && len <= SHM_NAME_MAX;
}

static void other_add(struct talea_family_ *f, uint64_t n)
{
	talea_target_add_(&f->other->target, n);
}

/*
 * Adds to a member that is in D; false: it is not. The look-up compared the name under one
 * generation, and each section compares that again before it commits; a row only decides which
 * section is tried first. The record is marked as late, because no handle is to find the name
 * again.
 */
static inline bool shared_add(const struct family_bind *fb, const void *value, size_t len,
			      uint64_t n)
{
	struct region *r = fb->region;
	uint64_t route;
	uint32_t slot = dir_find_to_add(r->view.d, r->view.s, fb->slot, value, len, &route);
	struct bind b;

	if (slot == SHM_SLOT_NONE)
		return false;
	b = (struct bind){
		.kind = BIND_MEMBER,
		.is_late = 1,
		.generation = slot_generation(route),
		.word = &dir_slot(r->view.d, slot)->route,
		.cold = (uint64_t *)(r->view.s + shards_cold(slot)),
		.removed = fb->removed,
		.fallback = &((struct shards_shm *)r->view.s)->fallback_used,
		.region = r,
	};
	if (__builtin_expect(slot_row(route) == SHM_ROW_NONE, 1))
		member_add(&b, n);
	else
		member_add_hot(&b, n);
	return true;
}

/* The key of the process for a value, made if it does not exist, and private until it is bound.
 * Table lock held. */
static struct key *member_key(struct talea_family_ *f, const void *value, size_t len)
{
	struct key *k = key_find(f->attach, f, value, len);

	return k ? k : key_make(f->attach, f, member_type(f), value, len, NULL);
}

/* No daemon: a private cell of its own, as long as they are not too many. */
static int private_add(struct talea_family_ *f, const void *value, size_t len, uint64_t n)
{
	struct key *k;

	lock_table();
	k = key_find(f->attach, f, value, len);
	if (!k && f->attach->private_members < PRIVATE_MEMBERS_MAX) {
		k = member_key(f, value, len);
		f->attach->private_members += k != NULL;
	}
	if (k && !k->target.bind && key_private(k))
		k = NULL;
	unlock_table();
	if (k)
		talea_target_add_(&k->target, n);
	else
		other_add(f, n);
	return 0;
}

/* Registers the new ones among keys and adds to all; a key that cannot be had counts in `other`. */
static int new_keys_add(struct talea_family_ *f, const struct talea_key *const *keys, size_t nr)
{
	uint64_t now = mono_ns(), deadline = now + (uint64_t)f->timeout_ms * NS_PER_MS;
	int err = 0, locked;
	char text[TEXT_MAX];

	if (now < shm_count_read(&f->full_until_ns)) {
		for (size_t i = 0; i < nr; i++)
			other_add(f, keys[i]->n);
		return -EDQUOT;
	}
	err = locked = lock_conn(deadline);
	if (!err)
		err = attach_poll(f->attach, deadline, text);
	if (!err && f->bind && f->bind->region->writable && f->bind->slot)
		err = bind_values(f, keys, nr, deadline, text);
	if (!locked)
		unlock_conn();
	if (err == -EDQUOT)
		shm_count_set(&f->full_until_ns, now + FULL_NS);
	for (size_t i = 0; i < nr; i++) {
		const struct talea_key *k = keys[i];

		if (f->bind && f->bind->region->writable && f->bind->slot &&
		    shared_add(f->bind, k->value, k->len, k->n))
			continue;
		if (err == -ECONNREFUSED || err == -ECONNRESET || !f->bind ||
		    !f->bind->region->writable)
			private_add(f, k->value, k->len, k->n);
		else
			other_add(f, k->n);
	}
	return err == -ECONNREFUSED || err == -ECONNRESET ? 0 : err ? err : f->err;
}

/* Adds if that needs neither lock nor daemon. */
static bool known_add(struct talea_family_ *f, const void *value, size_t len, uint64_t n)
{
	/* ORDER(family) */
	const struct family_bind *fb = shm_take_ptr(&f->bind);
	struct key *k;

	if (fb && fb->region->writable) {
		if (fb->slot)
			return shared_add(fb, value, len, n);
		other_add(f, n); /* the daemon refused the family: f->err says why */
		return true;
	}
	k = key_find(f->attach, f, value, len);
	/* ORDER(bind) */
	if (!k || !shm_take_ptr(&k->target.bind))
		return false;
	talea_target_add_(&k->target, n);
	return true;
}

int talea_family_add(struct talea_family *f, const void *value, size_t len, uint64_t n)
{
	struct talea_key key = { .value = value, .len = len, .n = n };
	const struct talea_key *keys = &key;

	if (__builtin_expect(!value_fits(f->family_, value, len), 0)) {
		other_add(f->family_, n);
		return -EINVAL;
	}
	if (__builtin_expect(known_add(f->family_, value, len, n), 1))
		return f->family_->err;
	return new_keys_add(f->family_, &keys, 1);
}

int talea_level_family_add(struct talea_family *f, const void *value, size_t len, int64_t n)
{
	return talea_family_add(f, value, len, (uint64_t)n);
}

int talea_family_add_many(struct talea_family *f, const struct talea_key *keys, size_t nr)
{
	const struct talea_key *unknown[256];
	size_t unknown_nr = 0;
	int err = 0, r;

	for (size_t i = 0; i < nr; i++) {
		if (!value_fits(f->family_, keys[i].value, keys[i].len)) {
			other_add(f->family_, keys[i].n);
			err = err ? err : -EINVAL;
		} else if (!known_add(f->family_, keys[i].value, keys[i].len, keys[i].n)) {
			unknown[unknown_nr++] = &keys[i];
		}
		if (unknown_nr == sizeof(unknown) / sizeof(unknown[0]) || (unknown_nr && i + 1 == nr)) {
			r = new_keys_add(f->family_, unknown, unknown_nr);
			err = err ? err : r;
			unknown_nr = 0;
		}
	}
	return err;
}

/* --- resolving once --------------------------------------------------------------------------- */

int talea_family_get_many(struct talea_family *f, const struct talea_key *keys, size_t nr,
			  struct talea_counter *ret)
{
	struct talea_family_ *fam = f->family_;
	uint64_t deadline = mono_ns() + (uint64_t)fam->timeout_ms * NS_PER_MS;
	struct key **made = malloc((nr + 1) * sizeof(*made));
	char text[TEXT_MAX];
	int err, locked;

	for (size_t i = 0; i < nr; i++)
		ret[i].target_ = &fam->other->target;
	if (!made || !fam->attach) {
		free(made);
		return fam->attach ? -ENOMEM : fam->err;
	}
	locked = lock_conn(deadline);
	err = locked ? locked : attach_poll(fam->attach, deadline, text);
	lock_table();
	for (size_t i = 0; i < nr; i++)
		made[i] = value_fits(fam, keys[i].value, keys[i].len) ?
				  member_key(fam, keys[i].value, keys[i].len) : NULL;
	unlock_table();
	for (size_t i = 0, n = 0; i <= nr && !err; i++) {
		/* bind_keys takes runs of keys: NULLs (bad values) separate them. */
		if (i < nr && made[i])
			continue;
		if (i > n)
			err = bind_keys(fam->attach, made + n, i - n, deadline, text);
		n = i + 1;
	}
	if (!locked)
		unlock_conn();
	if (err == -ECONNREFUSED)
		err = 0;
	lock_table();
	for (size_t i = 0; i < nr; i++) {
		struct key *k = made[i];

		if (k && !k->target.bind && key_private(k))
			k = NULL;
		if (k)
			ret[i].target_ = &k->target;
		if (!err && (!k || k->err))
			err = k ? k->err : -EINVAL;
	}
	unlock_table();
	free(made);
	return err;
}

int talea_family_get(struct talea_family *f, const void *value, size_t len,
		     struct talea_counter *ret)
{
	struct talea_key key = { .value = value, .len = len };

	return talea_family_get_many(f, &key, 1, ret);
}

int talea_level_family_get(struct talea_family *f, const void *value, size_t len,
			   struct talea_level *ret)
{
	struct talea_key key = { .value = value, .len = len };
	struct talea_counter c = { ret->target_ };
	int err = talea_family_get_many(f, &key, 1, &c);

	ret->target_ = c.target_;
	return err;
}

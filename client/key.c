/*
 * Keys and families of an attachment: the table from a name to its immortal key. Owns both; callers
 * hold the table lock, except for key_find, which runs beside insertion and growth without one
 * (family adds of a process that is not attached use it, also in signal handlers).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static uint64_t key_hash(const struct talea_family_ *f, const void *name, size_t len)
{
	return XXH3_64bits_withSeed(name, len, (uint64_t)(uintptr_t)f);
}

struct key *key_find(const struct attach *a, const struct talea_family_ *f, const void *name,
		     size_t len)
{
	/* ORDER(keys): a table, and a key in it, are complete before they can be reached. */
	const struct key_table *t = shm_take_ptr((struct key_table **)&a->table);
	uint64_t hash = key_hash(f, name, len);

	if (!t)
		return NULL;
	for (uint32_t i = 0; i <= t->mask; i++) {
		struct key *k = shm_take_ptr(&t->slots[(hash + i) & t->mask]);

		if (!k)
			return NULL;
		if (k->hash == hash && k->family == f && k->len == len &&
		    memcmp(k->name, name, len) == 0)
			return k;
	}
	return NULL;
}

static void table_put(struct key_table *t, struct key *k)
{
	uint32_t i = (uint32_t)k->hash & t->mask;

	while (t->slots[i])
		i = (i + 1) & t->mask;
	/* ORDER(keys) */
	shm_publish_ptr(&t->slots[i], k);
	t->used++;
}

/* Room for one more at a load of at most 1/2. The former table is left to readers for ever: all of
 * them together are no larger than the newest. */
static int table_room(struct attach *a)
{
	struct key_table *old = a->table, *t;
	uint32_t nr = old ? (old->mask + 1) * 2 : 64;

	if (old && old->used < (old->mask + 1) / 2)
		return 0;
	t = calloc(1, sizeof(*t) + nr * sizeof(t->slots[0]));
	if (!t)
		return -ENOMEM;
	t->mask = nr - 1;
	for (uint32_t i = 0; old && i <= old->mask; i++)
		if (old->slots[i])
			table_put(t, old->slots[i]);
	/* ORDER(keys) */
	shm_publish_ptr(&a->table, t);
	return 0;
}

int key_cell(struct key *k)
{
	if (k->cell)
		return 0;
	k->cell = cell_alloc();
	if (!k->cell)
		return -ENOMEM;
	k->next_cell = k->attach->cells;
	/* ORDER(keys): key_private_sum may run in a child made meanwhile. */
	shm_publish_ptr(&k->attach->cells, k);
	return 0;
}

int key_private(struct key *k)
{
	struct bind *b = bind_alloc();

	if (!b || key_cell(k))
		return -ENOMEM;
	*b = (struct bind){ .kind = BIND_PRIVATE, .cold = k->cell, .word = &target_no_row };
	target_cold(&k->target, b);
	return 0;
}

struct key *key_make(struct attach *a, struct talea_family_ *f, uint8_t type, const void *name,
		     size_t len, const char *help)
{
	size_t bytes = (sizeof(struct key) + len + 1 + 63) & ~(size_t)63;
	struct key *k;

	if (table_room(a))
		return NULL;
	k = aligned_alloc(64, bytes);
	if (!k)
		return NULL;
	memset(k, 0, bytes);
	k->attach = a;
	k->family = f;
	k->type = type;
	k->len = (uint32_t)len;
	k->hash = key_hash(f, name, len);
	memcpy(k->name, name, len);
	target_init(&k->target);
	if (help) {
		k->help = strdup(help);
		if (!k->help) {
			free(k);
			return NULL;
		}
	}
	k->next = a->keys;
	a->keys = k;
	a->unbound++;
	table_put(a->table, k);
	return k;
}

/*
 * Moves private adds to their shared cells: adds there first, then subtracts here, so that a
 * process killed in between has counted once (its private memory ends with it). A thread that took
 * the old record may still add privately: therefore this runs at every call.
 */
void key_carry(struct attach *a)
{
	for (struct key *k = a->cells; k; k = k->next_cell) {
		/* ORDER(bind) */
		struct bind *b = shm_take_ptr((struct bind **)&k->target.bind);
		uint64_t v = shm_count_read(k->cell);

		if (!v || !b || b->kind == BIND_PRIVATE)
			continue;
		if (b->kind == BIND_MEMBER)
			member_add(b, v);
		else
			shm_count_add(b->cold, v);
		shm_count_add(k->cell, -v);
	}
}

uint64_t key_private_sum(const struct attach *a)
{
	uint64_t sum = 0;

	/* ORDER(keys) */
	for (struct key *k = shm_take_ptr((struct key **)&a->cells); k; k = k->next_cell) {
		int64_t v = (int64_t)shm_count_read(k->cell);

		sum += v < 0 ? -(uint64_t)v : (uint64_t)v;
	}
	return sum;
}

struct talea_family_ *family_find(const struct attach *a, const char *name)
{
	for (struct talea_family_ *f = a->families; f; f = f->next)
		if (strcmp(f->name, name) == 0)
			return f;
	return NULL;
}

/* See key_table.h. */
#include "daemon/worker/kernel/key_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "shm/layout.h"

#define ORDER_FIRST 8u

unsigned char *key_table_bytes(const struct key_table *t, uint32_t key)
{
	return t->bytes + (size_t)key * t->key_bytes;
}

static void index_one(struct key_table *t, uint32_t key)
{
	uint64_t mask = (1ull << t->order) - 1;
	uint64_t i = XXH3_64bits(key_table_bytes(t, key), t->key_bytes);

	while (t->index[i & mask])
		i++;
	t->index[i & mask] = key + 1;
}

static int index_all(struct key_table *t, uint32_t order)
{
	uint32_t *index = calloc(1ull << order, sizeof(*index));

	if (!index)
		return -ENOMEM;
	free(t->index);
	t->index = index;
	t->order = order;
	for (uint32_t key = 0; key < t->nr; key++)
		index_one(t, key);
	return 0;
}

/* Room for max keys. The index has twice as many places. */
static int reserve(struct key_table *t, uint32_t max)
{
	void *more = realloc(t->keys, max * sizeof(*t->keys));

	if (!more)
		return -ENOMEM;
	t->keys = more;
	more = realloc(t->bytes, (size_t)max * t->key_bytes);
	if (!more)
		return -ENOMEM;
	t->bytes = more;
	t->max = max;
	return 0;
}

int key_table_init(struct key_table *t, uint32_t key_bytes)
{
	int err;

	*t = (struct key_table){ .key_bytes = key_bytes };
	err = reserve(t, 1u << (ORDER_FIRST - 1));
	return err ? err : index_all(t, ORDER_FIRST);
}

void key_table_fini(struct key_table *t)
{
	free(t->keys);
	free(t->bytes);
	free(t->index);
}

struct key_entry *key_table_find(const struct key_table *t, const unsigned char *bytes)
{
	uint64_t mask = (1ull << t->order) - 1, i = XXH3_64bits(bytes, t->key_bytes);

	for (; t->index[i & mask]; i++) {
		uint32_t key = t->index[i & mask] - 1;

		if (!memcmp(key_table_bytes(t, key), bytes, t->key_bytes))
			return &t->keys[key];
	}
	return NULL;
}

struct key_entry *key_table_add(struct key_table *t, const unsigned char *bytes, uint64_t first_ns)
{
	/* The index first: it must never be full. */
	if (t->nr == t->max && 1ull << t->order < 4ull * t->max && index_all(t, t->order + 1))
		return NULL;
	if (t->nr == t->max && reserve(t, 2 * t->max))
		return NULL;
	t->keys[t->nr] = (struct key_entry){ .slot = SHM_SLOT_NONE, .first_ns = first_ns };
	memcpy(key_table_bytes(t, t->nr), bytes, t->key_bytes);
	index_one(t, t->nr);
	return &t->keys[t->nr++];
}

void key_table_move(struct key_table *t, uint32_t from, uint32_t to)
{
	if (from == to)
		return;
	t->keys[to] = t->keys[from];
	memcpy(key_table_bytes(t, to), key_table_bytes(t, from), t->key_bytes);
}

void key_table_cut(struct key_table *t, uint32_t nr)
{
	if (nr == t->nr)
		return;
	t->nr = nr;
	memset(t->index, 0, sizeof(*t->index) << t->order);
	for (uint32_t key = 0; key < nr; key++)
		index_one(t, key);
}

/*
 * Reading D: address arithmetic, names and the index, for every program that maps a region. Owns no
 * memory and stores nothing; the fold thread alone changes what is read here. Each function is
 * wait-free for a fixed index and safe beside registration and removal. Each bounds an offset from
 * the region before it uses it: a scribbled directory gives a miss, never a fault.
 */
#ifndef SHM_DIRECTORY_H
#define SHM_DIRECTORY_H

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "layout.h"
#include "order.h"

/* The three mapped parts. s is NULL where the shards are not mapped. */
struct shm_view {
	const struct dir_shm *d;
	char *s;
	const struct totals_shm *t;
};

static inline const struct slot_shm *dir_slot(const struct dir_shm *d, uint32_t slot)
{
	return (const struct slot_shm *)((const char *)d + SHM_D_SLOTS) + slot;
}

static inline const uint32_t *dir_index(const struct dir_shm *d, uint64_t word)
{
	return (const uint32_t *)((const char *)d + SHM_D_INDEX) + index_first(word);
}

static inline const int64_t *dir_adj(const struct dir_shm *d)
{
	return (const int64_t *)((const char *)d + SHM_D_ADJ);
}

/* The record that a name word points to; NULL when it would not be inside the names. */
static inline const void *dir_record(const struct dir_shm *d, uint64_t name, size_t head_bytes)
{
	uint64_t off = name_offset(name);

	if ((off & 7) || off + head_bytes + name_length(name) + SHM_NAME_MAX > SHM_NAMES_BYTES)
		return NULL;
	return (const char *)d + SHM_D_NAMES + off;
}

static inline const struct name_shm *dir_name(const struct dir_shm *d, uint64_t name)
{
	return (const struct name_shm *)dir_record(d, name, sizeof(struct name_shm));
}

static inline const struct member_shm *dir_member(const struct dir_shm *d, uint64_t name)
{
	return (const struct member_shm *)dir_record(d, name, sizeof(struct member_shm));
}

static inline int name_is_member(uint64_t name)
{
	uint8_t type = name_type(name);

	return type >= SHM_MEMBER && type <= SHM_REMOVED;
}

/* Names of counters have owner 0, keys of members the slot of their family. */
static inline uint64_t dir_hash(const struct dir_shm *d, uint32_t owner, const void *key,
				size_t len)
{
	uint64_t seed = d->hash_seed + owner * 0x9e3779b97f4a7c15ull;

	return len == 8 ? XXH3_64bits_withSeed(key, 8, seed) : XXH3_64bits_withSeed(key, len, seed);
}

static inline uint32_t index_entry(uint64_t hash, uint32_t slot)
{
	return (uint32_t)(hash >> 56) << 24 | slot;
}

static inline int key_equals(const void *a, const void *b, size_t len)
{
	uint64_t x, y;

	if (len != 8)
		return memcmp(a, b, len) == 0;
	memcpy(&x, a, 8);
	memcpy(&y, b, 8);
	return x == y;
}

/*
 * Is this slot live and is this its key? Then *ret_route is the route: the generation that the
 * answer is about, and the row, which is a hint: the slot had it a moment ago.
 */
static inline int dir_matches_route(const struct dir_shm *d, uint32_t slot, uint32_t owner,
				    const void *key, size_t len, uint64_t *ret_route)
{
	const struct slot_shm *s = dir_slot(d, slot);
	/*
	 * ORDER(generation): the name is read after the generation that was stored after it; the
	 * generation is read once more before the compare counts. Otherwise a slot that was handed
	 * out again would match.
	 */
	uint64_t route = shm_take(&s->route);
	/* ORDER(name): a record is complete before a name points to it. */
	uint64_t name = shm_take(&s->name);

	if (!(slot_generation(route) & 1) || name_length(name) != len)
		return 0;
	if (owner) {
		const struct member_shm *m = dir_member(d, name);

		if (!m || !name_is_member(name) || m->family != owner ||
		    !key_equals(m->value, key, len))
			return 0;
	} else {
		const struct name_shm *n = dir_name(d, name);

		if (!n || name_is_member(name) || !key_equals(n->text, key, len))
			return 0;
	}
	if (shm_seq_read_retry(&s->route, route) &&
	    slot_generation(shm_count_read(&s->route)) != slot_generation(route))
		return 0;
	*ret_route = route;
	return 1;
}

/* As dir_matches_route, with the generation alone. */
static inline int dir_matches(const struct dir_shm *d, uint32_t slot, uint32_t owner,
			      const void *key, size_t len, uint32_t *ret_generation)
{
	uint64_t route;

	if (!dir_matches_route(d, slot, owner, key, len, &route))
		return 0;
	*ret_generation = slot_generation(route);
	return 1;
}

/*
 * dir_find for a caller that adds to the slot it finds: it fetches the cell for writing while it
 * still compares the name, because the cell's address needs the slot's number alone. s may be NULL.
 * ret_route as in dir_matches_route.
 * A table may be built anew while it is read, at the same order in the other parity, and the place
 * of an older one be cleared and used again. The sequence number in the word shows that, so a miss
 * counts only when the word is the same afterwards. A hit never depends on it: dir_matches asks the
 * slot itself.
 */
static inline uint32_t dir_find_to_add(const struct dir_shm *d, const char *s, uint32_t owner,
				       const void *key, size_t len, uint64_t *ret_route)
{
	uint64_t hash = dir_hash(d, owner, key, len);

	for (;;) {
		/* ORDER(index): a table is complete before the word names it. */
		uint64_t word = shm_take(&d->index_word);
		const uint32_t *table = dir_index(d, word);
		uint64_t mask = (1ull << index_order(word)) - 1;

		if (index_order(word) > SHM_INDEX_ORDER_MAX)
			return SHM_SLOT_NONE;
		for (uint64_t i = 0; i <= mask; i++) {
			/* ORDER(entry): the slot is complete before its entry. */
			uint32_t e = shm_take32(&table[(hash + i) & mask]);
			uint32_t slot = e & (SHM_SLOTS_MAX - 1);

			if (!e)
				break;
			/* A tombstone has a tag and no slot: the probe continues behind it. */
			if (!slot || e != index_entry(hash, slot))
				continue;
			if (s)
				__builtin_prefetch(s + shards_cold(slot), 1);
			if (dir_matches_route(d, slot, owner, key, len, ret_route))
				return slot;
		}
		if (shm_take(&d->index_word) == word)
			return SHM_SLOT_NONE;
	}
}

/* The slot of a key, or SHM_SLOT_NONE. */
static inline uint32_t dir_find(const struct dir_shm *d, uint32_t owner, const void *key,
				size_t len, uint32_t *ret_generation)
{
	uint64_t route;
	uint32_t slot = dir_find_to_add(d, NULL, owner, key, len, &route);

	if (slot != SHM_SLOT_NONE)
		*ret_generation = slot_generation(route);
	return slot;
}

#endif

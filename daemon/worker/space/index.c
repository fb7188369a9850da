/* See index.h. */
#include "daemon/worker/space/index.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/worker/space/pages.h"

#define BASES_ORDER_MIN 8u

static uint32_t *table_of(const struct space *space, uint64_t word)
{
	return (uint32_t *)(uintptr_t)dir_index(space->d, word);
}

/* An entry with a tag and no slot: probing goes on behind it, and it may be used again. */
static bool is_tombstone(uint32_t entry)
{
	return entry && !(entry & (SHM_SLOTS_MAX - 1));
}

/* Puts an entry into the first place of its chain that is empty or a tombstone: was it empty? */
static bool entry_put(uint32_t *table, uint64_t word, uint64_t hash, uint32_t entry)
{
	uint64_t mask = (1ull << index_order(word)) - 1;
	uint32_t was;

	while ((was = shm_read32(&table[hash & mask])) && !is_tombstone(was))
		hash++;
	/* ORDER(entry): the slot was published before; a reader that sees its entry finds it live. */
	shm_publish32(&table[hash & mask], entry);
	return !was;
}

/*
 * A table without tombstones, of this order; the low bits of each hash come from its record, the
 * tag from the entry, so that no name is touched. It lies where no reader of the current one looks;
 * one that still reads what lay there before finds the word changed.
 */
static int index_rebuild(struct space *space, uint32_t order)
{
	uint64_t old = shm_count_read(&space->d->index_word);
	uint64_t new = index_make(order, (uint32_t)(old >> 5 & 1) ^ 1) | ((old >> 6) + 1) << 6;
	const uint32_t *from = table_of(space, old);
	uint32_t *to = table_of(space, new), nr = 0;
	int err;

	if (order > SHM_INDEX_ORDER_MAX)
		return -ENOMEM;
	pages_index_punch(space, new); /* what a worker that died here left behind */
	err = pages_index(space, new);
	if (err)
		return err;
	for (uint64_t i = 0; i < 1ull << index_order(old); i++) {
		uint32_t slot = from[i] & (SHM_SLOTS_MAX - 1);

		if (!slot)
			continue;
		entry_put(to, new, space->names.records[slot].hash_low, from[i]);
		nr++;
	}
	/* ORDER(index): every entry of the table is stored before the word that names it. */
	shm_publish(&space->d->index_word, new);
	space->names.index_used = space->names.index_live = nr;
	/* A reader still in the old table sees zeros there, misses, and finds the word changed. */
	pages_index_punch(space, old);
	return 0;
}

int index_reserve(struct space *space)
{
	uint32_t order = index_order(shm_count_read(&space->d->index_word));
	uint64_t size = 1ull << order;

	if ((space->names.index_used + 1) * 4ull <= size * 3)
		return 0;
	/* Half of it may be tombstones: then the next rebuild is at least a quarter of it away. */
	return index_rebuild(space, space->names.index_live * 2ull <= size ? order : order + 1);
}

static void registry_put(struct space *space, uint32_t slot, uint64_t hash)
{
	struct record *rec = &space->names.records[slot];

	registry_reclaim(rec);
	rec->hash_low = (uint32_t)hash;
	rec->where = space->view.idx << 24 | slot;
	registry_add(space->view.registry, rec, hash);
}

void index_put(struct space *space, uint32_t slot, uint64_t hash)
{
	uint64_t word = shm_count_read(&space->d->index_word);

	space->names.index_used +=
		entry_put(table_of(space, word), word, hash, index_entry(hash, slot));
	space->names.index_live++;
	registry_put(space, slot, hash);
}

/* The place of a slot's entry in the current table, or NULL. */
static uint32_t *entry_find(const struct space *space, uint32_t slot, uint64_t hash)
{
	uint64_t word = shm_count_read(&space->d->index_word);
	uint64_t mask = (1ull << index_order(word)) - 1;
	uint32_t *table = table_of(space, word);

	for (uint64_t i = hash; table[i & mask]; i++)
		if (table[i & mask] == index_entry(hash, slot))
			return &table[i & mask];
	return NULL;
}

void index_remove(struct space *space, uint32_t slot, uint64_t hash)
{
	uint64_t word = shm_count_read(&space->d->index_word);
	uint64_t mask = (1ull << index_order(word)) - 1, at;
	uint32_t *table = table_of(space, word), *entry = entry_find(space, slot, hash);

	if (!entry)
		return;
	at = (uint64_t)(entry - table);
	shm_set32(entry, SHM_INDEX_TOMBSTONE);
	space->names.index_live--;
	/* Tombstones at the end of a chain lead nowhere. */
	while (!table[(at + 1) & mask] && is_tombstone(table[at & mask])) {
		shm_set32(&table[at & mask], 0);
		space->names.index_used--;
		at--;
	}
}

/* Gives back the tables that a worker died over; drops and counts the entries of the current one. */
void index_recover(struct space *space)
{
	uint64_t word = shm_count_read(&space->d->index_word), place = word & 63;
	uint32_t slots_nr = space_slots_nr(space);
	uint32_t *table = table_of(space, word);

	for (uint32_t order = SHM_INDEX_ORDER_MIN; order <= SHM_INDEX_ORDER_MAX; order++)
		for (uint32_t parity = 0; parity < 2; parity++)
			if (index_make(order, parity) != place)
				pages_index_punch(space, index_make(order, parity));
	space->names.index_used = space->names.index_live = 0;
	for (uint64_t i = 0; i < 1ull << index_order(word); i++) {
		uint32_t slot = table[i] & (SHM_SLOTS_MAX - 1);

		if (slot && (slot >= slots_nr || !space_is_owned(space, slot)))
			shm_set32(&table[i], SHM_INDEX_TOMBSTONE);
		space->names.index_used += table[i] != 0;
		space->names.index_live += !is_tombstone(table[i]) && table[i];
	}
}

void index_put_missing(struct space *space, uint32_t slot, uint64_t hash)
{
	if (entry_find(space, slot, hash))
		registry_put(space, slot, hash);
	else
		index_put(space, slot, hash);
}

/* --- base names ------------------------------------------------------------------------------- */

static uint64_t base_hash(const char *base, uint32_t len)
{
	return XXH3_64bits(base, len);
}

static void base_put(uint64_t *table, uint32_t order, uint64_t entry)
{
	uint64_t mask = (1ull << order) - 1, i = entry >> 32;

	while (table[i & mask])
		i++;
	table[i & mask] = entry;
}

uint32_t bases_find(const struct space *space, const char *base, uint32_t len)
{
	uint64_t mask = (1ull << space->names.bases_order) - 1, hash = base_hash(base, len) >> 32;

	if (!space->names.bases)
		return SHM_SLOT_NONE;
	for (uint64_t i = hash; space->names.bases[i & mask]; i++) {
		uint64_t entry = space->names.bases[i & mask];
		uint32_t slot = (uint32_t)entry;
		const struct name_shm *n;

		if (entry >> 32 != hash)
			continue;
		n = dir_name(space->d, shm_count_read(&space_slot(space, slot)->name));
		if (n->base_len == len && memcmp(n->text, base, len) == 0)
			return slot;
	}
	return SHM_SLOT_NONE;
}

int bases_reserve(struct space *space)
{
	struct space_names *n = &space->names;
	uint32_t order = n->bases ? n->bases_order + 1 : BASES_ORDER_MIN;
	uint64_t *table;

	if (n->bases && (n->bases_nr + 1) * 4ull <= 3ull << n->bases_order)
		return 0;
	table = calloc(1ull << order, sizeof(*table));
	if (!table)
		return -ENOMEM;
	for (uint64_t i = 0; n->bases && i < 1ull << n->bases_order; i++)
		if (n->bases[i])
			base_put(table, order, n->bases[i]);
	free(n->bases);
	n->bases = table;
	n->bases_order = order;
	return 0;
}

void bases_put(struct space *space, uint32_t slot)
{
	const struct name_shm *n =
		dir_name(space->d, shm_count_read(&space_slot(space, slot)->name));
	uint64_t hash = base_hash(n->text, n->base_len) >> 32;

	base_put(space->names.bases, space->names.bases_order, hash << 32 | slot);
	space->names.bases_nr++;
}

void bases_close(struct space *space)
{
	free(space->names.bases);
}

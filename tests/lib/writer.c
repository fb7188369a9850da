/* See writer.h. Owns the directory it maps; called by unit tests from one thread at a time. */
#include "tests/lib/writer.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shm/region.h"

int writer_init(struct writer *w)
{
	void *d;
	int err;

	memset(w, 0, sizeof(*w));
	err = region_make(REGION_D, "test", &w->rw, &w->ro);
	if (err)
		return err;
	err = region_map(w->rw, REGION_D, true, &d);
	if (err) {
		close(w->rw);
		close(w->ro);
		return err;
	}
	w->d = d;
	w->d->magic = SHM_MAGIC_D;
	w->d->hash_seed = 0x1234567890abcdefull;
	w->d->slots_nr = SHM_SLOT_FIRST;
	w->d->names_bytes = 8;
	w->order = SHM_INDEX_ORDER_MIN;
	w->d->index_word = index_make(w->order, 0);
	return 0;
}

void writer_fini(struct writer *w)
{
	munmap(w->d, region_bytes(REGION_D));
	close(w->rw);
	close(w->ro);
}

struct slot_shm *writer_slot(struct writer *w, uint32_t slot)
{
	return (struct slot_shm *)(uintptr_t)dir_slot(w->d, slot);
}

static uint32_t *table_of(struct writer *w, uint64_t word)
{
	return (uint32_t *)(uintptr_t)dir_index(w->d, word);
}

static uint64_t hash_of(struct writer *w, uint32_t slot)
{
	uint64_t name = writer_slot(w, slot)->name;

	if (name_is_member(name)) {
		const struct member_shm *m = dir_member(w->d, name);

		return dir_hash(w->d, m->family, m->value, name_length(name));
	}
	return dir_hash(w->d, 0, dir_name(w->d, name)->text, name_length(name));
}

/* Puts an entry at the first empty place or tombstone; says whether an empty one was used up. */
static bool put_entry(uint32_t *table, uint32_t order, uint64_t hash, uint32_t slot)
{
	uint64_t mask = (1ull << order) - 1;

	for (uint64_t i = hash;; i++) {
		uint32_t *e = &table[i & mask];
		bool was_empty = *e == 0;

		if (was_empty || !(*e & (SHM_SLOTS_MAX - 1))) {
			/* ORDER(entry): see dir_find. */
			shm_publish32(e, index_entry(hash, slot));
			return was_empty;
		}
	}
}

void writer_rebuild(struct writer *w, uint32_t order)
{
	uint32_t parity = w->parity ^ 1;
	uint64_t word = index_make(order, parity) | (uint64_t)++w->sequence << 6;
	uint32_t *table = table_of(w, word);

	for (uint64_t i = 0; i < 1ull << order; i++)
		shm_set32(&table[i], 0);
	w->used = 0;
	for (uint32_t slot = SHM_SLOT_FIRST; slot < w->d->slots_nr; slot++) {
		if (slot_generation(writer_slot(w, slot)->route) & 1)
			w->used += put_entry(table, order, hash_of(w, slot), slot);
	}
	w->order = order;
	w->parity = parity;
	/* ORDER(index): see dir_find. */
	shm_publish(&w->d->index_word, word);
}

static void index_insert(struct writer *w, uint32_t slot)
{
	if ((w->used + 1) * 4 > 3ull << w->order)
		writer_rebuild(w, w->order < 16 ? w->order + 1 : w->order);
	else
		w->used += put_entry(table_of(w, w->d->index_word), w->order, hash_of(w, slot),
				     slot);
}

/* Makes a slot live under a name: the name first, then the generation that makes it reachable. */
static void publish_slot(struct writer *w, uint32_t slot, uint64_t name)
{
	struct slot_shm *s = writer_slot(w, slot);

	/* ORDER(name): see dir_matches. */
	shm_publish(&s->name, name);
	if (!s->state || state_flags(s->state))
		s->state = state_make(state_version(s->state), 0, SHM_ROW_NONE);
	/* ORDER(generation): see dir_matches. */
	shm_publish(&s->route, slot_route(slot_generation(s->route) + 1, SHM_ROW_NONE));
	index_insert(w, slot);
}

static void *new_record(struct writer *w, size_t bytes, uint64_t *ret_offset)
{
	*ret_offset = w->d->names_bytes;
	w->d->names_bytes += (bytes + 7) & ~7ull;
	return (char *)w->d + SHM_D_NAMES + *ret_offset;
}

static uint32_t new_slot(struct writer *w)
{
	return (uint32_t)w->d->slots_nr++;
}

uint32_t writer_name(struct writer *w, enum shm_slot_type type, const char *name, const char *label,
		     enum shm_key_kind key_kind)
{
	size_t len = strlen(name), label_len = label ? strlen(label) : 0;
	uint32_t slot = new_slot(w);
	struct name_shm *n;
	uint64_t offset;

	n = new_record(w, sizeof(*n) + len + label_len, &offset);
	n->base_len = (uint16_t)strcspn(name, "{");
	n->key_kind = (uint8_t)key_kind;
	n->label_len = (uint16_t)label_len;
	memcpy(n->text, name, len);
	if (label)
		memcpy(n->text + len, label, label_len);
	if (label) {
		n->other = writer_member(w, SHM_OTHER, slot, "", 0, 0);
		n->removed = writer_member(w, SHM_REMOVED, slot, "", 0, 0);
	}
	publish_slot(w, slot, name_make(offset, (uint32_t)len, type));
	return slot;
}

uint32_t writer_member(struct writer *w, enum shm_slot_type type, uint32_t family, const void *key,
		       size_t len, uint32_t slot)
{
	uint64_t offset, old = slot ? writer_slot(w, slot)->name : 0;
	struct member_shm *m;

	if (!slot)
		slot = new_slot(w);
	/* A record is used again in place when it has room for exactly as much. */
	if (old && (name_length(old) + 7) / 8 == (len + 7) / 8) {
		offset = name_offset(old);
		m = (struct member_shm *)((char *)w->d + SHM_D_NAMES + offset);
	} else {
		m = new_record(w, sizeof(*m) + len, &offset);
	}
	m->family = family;
	memcpy(m->value, key, len);
	publish_slot(w, slot, name_make(offset, (uint32_t)len, type));
	return slot;
}

static void set_state(struct writer *w, uint32_t slot, int64_t base, uint8_t flags,
		      uint32_t row)
{
	struct slot_shm *s = writer_slot(w, slot);
	uint32_t v = state_version(s->state);

	/* ORDER(state): see read_sum; the other half of the base is stored after the last state. */
	shm_seq_write_begin();
	shm_count_set((uint64_t *)&s->base[(v + 1) & 1], (uint64_t)base);
	shm_publish(&s->state, state_make(v + 1, flags, row));
}

static int64_t base_of(struct writer *w, uint32_t slot)
{
	struct slot_shm *s = writer_slot(w, slot);

	return s->base[state_version(s->state) & 1];
}

void writer_move(struct writer *w, uint32_t slot, uint32_t removed, int64_t amount, int64_t cell)
{
	/* ORDER(moves): odd before the first half changes, even after the second. */
	shm_count_set(&w->d->moves, w->d->moves + 1);
	shm_seq_write_begin();
	set_state(w, removed, base_of(w, removed) + amount, 0,
		  slot_row(writer_slot(w, removed)->state));
	set_state(w, slot, -cell, 0, SHM_ROW_NONE);
	shm_publish(&w->d->moves, w->d->moves + 1);
}

void writer_remove(struct writer *w, uint32_t slot)
{
	struct slot_shm *s = writer_slot(w, slot);
	uint32_t *table = table_of(w, w->d->index_word);
	uint64_t hash = hash_of(w, slot), mask = (1ull << w->order) - 1;

	set_state(w, slot, base_of(w, slot), SHM_F_REMOVING, slot_row(s->state));
	for (uint64_t i = hash; table[i & mask]; i++) {
		if (table[i & mask] == index_entry(hash, slot)) {
			shm_publish32(&table[i & mask], SHM_INDEX_TOMBSTONE);
			break;
		}
	}
	shm_publish(&s->route, slot_route(slot_generation(s->route) + 1, SHM_ROW_NONE));
	/* ORDER(generation): the even generation is seen before the next name is. */
	shm_seq_write_begin();
}

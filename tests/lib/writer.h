/*
 * The smallest correct writer of a directory, for tests of its readers: a region in this process,
 * slots, names, members, the index with doubling, tombstones, removal and reuse. It follows
 * shm/layout.h and PROTOCOL 2 and 3, not the daemon's code, so that a reader is tested against the
 * contract.
 */
#ifndef TESTS_LIB_WRITER_H
#define TESTS_LIB_WRITER_H

#include <stdint.h>

#include "shm/directory.h"

struct writer {
	struct dir_shm *d;
	int rw, ro;
	uint32_t order, parity;
	uint32_t sequence; /* of index tables, in the word above order and parity */
	uint64_t used;	   /* entries that are not empty, tombstones included */
};

/* Maps an empty directory with a table of the smallest order. 0 or -errno. */
int writer_init(struct writer *w);
void writer_fini(struct writer *w);

/* A counter, level or family (label and key_kind for families). Returns its slot. */
uint32_t writer_name(struct writer *w, enum shm_slot_type type, const char *name, const char *label,
		     enum shm_key_kind key_kind);

/* A member of a family, in a new slot or in `slot` when that is not 0 (reuse after removal). */
uint32_t writer_member(struct writer *w, enum shm_slot_type type, uint32_t family, const void *key,
		       size_t len, uint32_t slot);

/* Begins a removal: out of the index, and the generation even. */
void writer_remove(struct writer *w, uint32_t slot);

/* Ends it: amount moves to `removed`, and the slot's cell, which is not changed, counts no more. */
void writer_move(struct writer *w, uint32_t slot, uint32_t removed, int64_t amount, int64_t cell);

/* Builds a table of this order in the other parity and names it. */
void writer_rebuild(struct writer *w, uint32_t order);

/* The rw view of a slot, to damage it. */
struct slot_shm *writer_slot(struct writer *w, uint32_t slot);

#endif

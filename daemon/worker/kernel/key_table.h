/*
 * The hashed keys that a source knows, found by their bytes. Owns them in an array whose order is
 * kept when some are taken out, and an index by hash. The fold thread alone calls this, through
 * source.c.
 */
#ifndef KERNEL_KEY_TABLE_H
#define KERNEL_KEY_TABLE_H

#include <stdint.h>

/* What is known of a key. */
struct key_entry {
	uint32_t slot; /* SHM_SLOT_NONE: it has no member yet */
	uint32_t pass; /* seen last in */
	uint64_t sum;
	uint64_t first_ns;
};

struct key_table {
	struct key_entry *keys;
	unsigned char *bytes; /* of the keys, key_bytes each */
	uint32_t nr, max;
	uint32_t key_bytes;
	uint32_t order; /* of the index */
	uint32_t *index; /* open addressing: key + 1, 0 is empty */
};

/* 0 or -ENOMEM; key_table_fini after either. */
int key_table_init(struct key_table *t, uint32_t key_bytes);
void key_table_fini(struct key_table *t);

unsigned char *key_table_bytes(const struct key_table *t, uint32_t key);

/* NULL: it is not there; NULL: there is no memory for one more. */
struct key_entry *key_table_find(const struct key_table *t, const unsigned char *bytes);
struct key_entry *key_table_add(struct key_table *t, const unsigned char *bytes, uint64_t first_ns);

/* Taking keys out: those that stay are moved down one by one, then the table is cut behind them. */
void key_table_move(struct key_table *t, uint32_t from, uint32_t to);
void key_table_cut(struct key_table *t, uint32_t nr);

#endif

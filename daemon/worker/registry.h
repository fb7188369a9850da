/*
 * What the worker's threads share: a hash table from name to record over all namespaces, and the
 * configuration in force. Readers never wait and never make the writer wait (liburcu, urcu-memb).
 * Owns the table and the configuration snapshots; the records' memory belongs to the namespace
 * (space.c), the names themselves are in D, where a record's slot points.
 *
 * The table is for threads that do not write D: control finds in it what a client claims, because a
 * record stays whole until its reader has left. The fold thread looks names up in D's index, which
 * it alone changes (claim_by_index, name_find); it puts records into the table and removes them.
 *
 *                  find    config  add, remove      configure            grow
 *   find           yes     yes     yes              yes                  yes
 *   add, remove    yes     yes     - (fold alone)   yes                  yes
 *   configure      yes     yes     yes              - (control alone)    -
 *   grow           yes     yes     yes              -                    - (control alone)
 *
 * A caller of find or config, and of what they return, stands between registry_read_begin and _end.
 * So does a caller of add or remove. A caller of configure or grow does not: they may wait. A
 * thread calls registry_enter before and registry_leave after.
 *
 * A reader that found a record may still read it after it was removed: its memory is used again
 * only after registry_is_gone. A thread of the registry's own (call_rcu) makes that true;
 * registry_init starts the thread, so it comes after the last fork.
 */
#ifndef WORKER_REGISTRY_H
#define WORKER_REGISTRY_H

#include <stdbool.h>
#include <stdint.h>

#include <urcu/urcu-memb.h>
#include <urcu/rculfhash.h>

#include "daemon/config/config.h"

/* One name: 24 bytes, because there may be millions. */
struct record {
	struct cds_lfht_node node;
	uint32_t hash_low; /* of its hash, for the directory's index (index.c) */
	uint32_t where;	   /* namespace:8 | slot:24 */
};

/* What a removal needs until no reader can hold the record any more; zero at first. */
struct registry_gone {
	struct rcu_head head;
	struct record *rec;
	uint32_t is_gone;
};

struct registry {
	struct cds_lfht *names;
	struct call_rcu_data *reclaim; /* the thread that ends removals */
	uint64_t names_nr;
	uint64_t buckets_nr;
	struct config *config; /* RCU */
};

int registry_init(struct registry *r, const struct config *config);

/* Every other thread has left. Waits until all removals have ended. */
void registry_fini(struct registry *r);

void registry_enter(void);
void registry_leave(void);
void registry_read_begin(void);
void registry_read_end(void);

const struct config *registry_config(const struct registry *r);

/* Copies config, publishes the copy, waits until no reader uses the former one, and frees that. */
int registry_configure(struct registry *r, const struct config *config);

/*
 * Makes room for names_nr more names than there are; 0 keeps up with what was added. The table does
 * not grow by itself: left to the length of its chains it takes up to thirty times its need.
 */
void registry_grow(struct registry *r, uint64_t names_nr);

void registry_add(struct registry *r, struct record *rec, uint64_t hash);

/*
 * Takes a record out that registry_add put in. It and *gone stay where they are until
 * registry_is_gone; from then on until registry_add, touching the record is an error that
 * AddressSanitizer reports.
 */
void registry_remove(struct registry *r, struct record *rec, struct registry_gone *gone);
bool registry_is_gone(const struct registry_gone *gone);

/* The record's memory is about to be used again, or to be given back. */
void registry_reclaim(struct record *rec);

/* The record for which match(rec, key) holds, or NULL. */
const struct record *registry_find(struct registry *r, uint64_t hash,
				   bool (*match)(const struct record *rec, const void *key),
				   const void *key);

#endif

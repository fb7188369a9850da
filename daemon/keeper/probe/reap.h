/*
 * The steps that free a key, for reap.c and for the test that dies between them. `l` is what the
 * ledger held last. Each returns 0 or -errno, and writes the ledger in one step.
 */
#ifndef PROBE_REAP_H
#define PROBE_REAP_H

#include "daemon/spec/pack.h"

/* Notes the key and its value before it is deleted: seq turns odd. */
int reap_begin(const struct probe_source *s, struct probe_ledger *l, const void *key, uint64_t value);

/* Deletes the noted key and adds its value to the ledger: seq turns even. */
int reap_finish(const struct probe_source *s, struct probe_ledger *l);

/* Repairs a ledger that a killed keeper left odd: adds the value of a key that was deleted but not
 * added, and deletes nothing. */
int reap_replay(const struct probe_source *s, struct probe_ledger *l);

#endif

/*
 * The steps in which a key is freed, for reap.c and for the test that dies between them. `l` is
 * what the ledger held at last; both give 0 or -errno and write the ledger in one step.
 */
#ifndef PROBE_REAP_H
#define PROBE_REAP_H

#include "daemon/spec/pack.h"

/* Notes the key and what it holds, before anything is deleted: seq turns odd. */
int reap_begin(const struct probe_source *s, struct probe_ledger *l, const void *key, uint64_t value);

/* Deletes the noted key and books what it held: seq turns even. */
int reap_finish(const struct probe_source *s, struct probe_ledger *l);

/* Of a ledger that a killed keeper left odd: books what was deleted and not booked, deletes
 * nothing. */
int reap_replay(const struct probe_source *s, struct probe_ledger *l);

#endif

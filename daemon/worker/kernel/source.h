/*
 * What an attached probe counts in: one array of dense cells, and for a counter with hashed keys a
 * map of them. Owns the mapping of the array, the read-only fds of keys and ledger, and what it
 * knows of each key. The cells of a source of the pack belong to the counters of dense.c; any other
 * source is one counter: without keys, or a family whose members are the keys, in namespace
 * `default`. The fold thread alone calls this, but for source_statistics.
 *
 * The family's sum is that of all keys, of the adds that found no room for theirs (member `other`)
 * and of what freed keys held (member `removed`, from the ledger of PROTOCOL 10). All three are
 * published by one fold and are of one moment as far as freeing goes: the ledger is read before the
 * keys and after, and unless it is the same and even the former sums stay. So a key that is freed
 * moves into `removed` and the sum never falls. Each fold reads all; but a map that takes
 * milliseconds to read is read less often, and what is published of it may be some tenths of a
 * second old.
 */
#ifndef KERNEL_SOURCE_H
#define KERNEL_SOURCE_H

#include "daemon/worker/kernel/dense.h"
#include "daemon/spec/pack.h"
#include "daemon/worker/kernel/key_names.h"
#include "daemon/worker/kernel/kernel_part.h"

struct source;

/* For `talea probes`; also of one that has ended. */
struct source_statistics {
	uint64_t keys_nr; /* members that count, or 1 */
	uint64_t kept, overflow, refused, folded, freed_nr;
	uint64_t is_conflict; /* its counter's name is taken */
};

/* dense: whose cells they are, or NULL. Owns the fds of from, whatever the result, and sets them to
 * -1. 0 or -errno. */
int source_open(struct source **ret, struct kernel_parts *parts, struct key_names *names,
		struct dense *dense, struct probe_source *from, uint32_t cpus_nr, uint64_t incarnation);

/* Forgets it: the worker ends. */
void source_close(struct source *s);

/* Its probe has ended: is another fold to be published before source_end? */
bool source_ends(struct source *s);

/* What it counted, as published, stays in its members, unknown from now on. */
void source_end(struct source *s);

/* Before the space is folded. is_due: all of it, even what is slow to read. */
void source_fold(struct source *s, bool is_due);

/* For any thread. Adds to *ret. */
void source_statistics(const struct source *s, struct source_statistics *ret);

#endif

/*
 * For tests of counters with keys: one probe with maps that are the kernel's own, and the worker's
 * side of it in the test process. The test is the probe that adds, the keeper that frees, and the
 * fold; each fold checks that the family's sum did not fall. A failure fails the calling test;
 * without the rights to make maps it is skipped.
 */
#ifndef TESTS_LIB_KEYS_H
#define TESTS_LIB_KEYS_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/worker/kernel/kernel.h"
#include "tests/lib/inside.h"

#define KEYS_PROBE PROBE_NR /* the first place that is not the table's */

extern struct inside keys_inside;
extern struct kernel *keys_kernel;
extern struct probe_source keys_source; /* fam_total; the test's own fds */
extern struct probe_ledger keys_ledger; /* as it was stored last */
extern uint64_t *keys_counts;		/* [cpu][TALEA_SOURCE_STRIDE] */
extern uint32_t keys_cpus_nr;
extern int keys_link[2]; /* the worker's end and the keeper's */
extern int64_t keys_sum; /* of the family, as the last epoch had it */

/* A new region; then keys are declared; then maps and a worker. The two after do all. */
void keys_set_up(void);
void keys_def(uint32_t at, const char *label, enum talea_key_kind kind, uint8_t bytes);
void keys_begin(void);
void keys_by_comm(void);
void keys_by_pid(void);
void keys_finish(void);

/* A key's sum from now on, over several CPUs; what found no room. */
void keys_store(const void *key, uint64_t sum);
void keys_overflow(uint64_t n);

/* As the keeper frees a key that held this; and the steps of it. */
void keys_free(const void *key, uint64_t held);
bool keys_delete(const void *key);
void keys_ledger_store(void);

/* A fold as the worker does it. */
void keys_fold(void);

/* The keeper says that the probe is attached, or has ended. */
void keys_tell(bool is_attached);

/* The maps of another life. */
void keys_maps_make(void);
void keys_maps_drop(void);

/* The worker is killed between two folds, and another comes. */
void keys_worker_again(bool is_attached);

/* The slot of a name, and its published total; -1: there is none. */
uint32_t keys_slot(const char *name);
int64_t keys_total(const char *name);

#endif

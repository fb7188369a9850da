/*
 * One namespace of a worker inside a test process: its region, its registry and the configuration
 * that the test may change. The test is the fold thread and, through `shards`, the client that
 * adds. A failure fails the calling test.
 */
#ifndef TESTS_LIB_INSIDE_H
#define TESTS_LIB_INSIDE_H

#include "daemon/worker/space/space.h"
#include "shm/wire_admin.h"

struct inside {
	struct region_fds fds;
	struct config config;
	struct registry registry;
	struct space *space;
	char *shards; /* writable, as a client has them */
};

/* A new region with this many rows, open and past the self-test. */
void inside_start(struct inside *in, uint32_t rows_max);
void inside_stop(struct inside *in);

/* The worker is gone and another comes. */
void inside_restart(struct inside *in);

/* Registers for uid 1000; fails unless that works. Members name their family's slot. */
uint32_t inside_make(struct inside *in, enum shm_slot_type type, const char *name);
uint32_t inside_member(struct inside *in, uint32_t family, const char *key);

/* A client's add: to the row of a CPU, or to the cold cell. */
void inside_add_row(struct inside *in, uint32_t slot, uint32_t cpu, uint64_t n);
void inside_add_cold(struct inside *in, uint32_t slot, uint64_t n);

/* A fold as the worker does it, after interval_ns. */
void inside_fold(struct inside *in, uint64_t interval_ns);

/* A second has passed. */
void inside_second(struct inside *in);

/* The grace for all that wait for one has passed. Returns how many did. */
uint32_t inside_grace(struct inside *in);

/* The published total. */
int64_t inside_total(const struct inside *in, uint32_t slot);

#endif

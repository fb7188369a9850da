/*
 * The grace thread: runs once on every online CPU after a store, so that every rseq section begun
 * before the store has aborted or committed (PROTOCOL 2). One grace period at a time, at most 100 a
 * second; before the first, the self-test that the kernel does abort sections
 * (daemon/link/rseq_selftest.h). Owns its thread and nothing of a space. The fold thread asks; the
 * grace thread answers with a request that calls fold_grace_passed.
 */
#ifndef WORKER_GRACE_H
#define WORKER_GRACE_H

#include <pthread.h>
#include <stdint.h>

struct fold;
struct grace;

/* Starts the thread. 0 or -errno. */
int grace_open(struct grace **ret, struct fold *fold);

/* Asks for a grace period; not again before the answer. */
void grace_ask(struct grace *g);

/* How many CPUs could not be visited so far in the grace period that is under way. Any thread. */
uint32_t grace_blocked(const struct grace *g);

/* The self-test's result as enum shm_promotion bits; UINT32_MAX before it has ended. Any thread. */
uint32_t grace_selftest_result(const struct grace *g);

/* How long the last grace period took. */
uint64_t grace_last_ns(const struct grace *g);

/* Ends the thread. A thread that waits for a CPU that never becomes free ends with the process. */
void grace_close(struct grace *g);

/* One visit to every online CPU by the calling thread. 0; or the number of CPUs that could not be
 * visited. online_fd is /sys/devices/system/cpu/online. For the thread, tests and benchmarks. */
uint32_t grace_visit(int online_fd);

#endif

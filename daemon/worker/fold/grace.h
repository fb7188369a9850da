/*
 * The grace thread: runs once on every online CPU after a store, so that every rseq section begun
 * before the store has aborted or committed (PROTOCOL 2). One grace at a time, at most 100 a
 * second; first of all the self-test that the kernel does abort sections. Owns its thread and
 * nothing of a space. The fold thread asks; the answer comes to it as a REQUEST_GRACE.
 */
#ifndef WORKER_GRACE_H
#define WORKER_GRACE_H

#include <pthread.h>
#include <stdint.h>

struct fold;
struct grace;

/* Starts the thread. 0 or -errno. */
int grace_open(struct grace **ret, struct fold *fold);

/* Asks for one; not again before it was answered. */
void grace_ask(struct grace *g);

/* How many CPUs could not be visited so far in the grace that is under way. Any thread. */
uint32_t grace_blocked(const struct grace *g);

/* What the self-test said: enum shm_promotion bits; UINT32_MAX before it has ended. Any thread. */
uint32_t grace_selftest_result(const struct grace *g);

/* How long the last one took. */
uint64_t grace_last_ns(const struct grace *g);

/* Ends the thread, unless it waits for a CPU that is never free: then it goes with the process. */
void grace_close(struct grace *g);

/* One visit to every online CPU by the calling thread. 0; or the number of CPUs that could not be
 * visited. online_fd is /sys/devices/system/cpu/online. For the thread, tests and benchmarks. */
uint32_t grace_visit(int online_fd);

#endif

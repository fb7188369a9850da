/*
 * The rates of the last minute: once a second this finds which totals changed, keeps the 1,024
 * busiest counters with 60 seconds of history each, and publishes them in T (struct busy_shm). Owns
 * struct busy and struct space_rates: fixed memory, and some words for each slot that ever changed.
 * The fold thread alone calls this.
 */
#ifndef SPACE_BUSY_H
#define SPACE_BUSY_H

#include <stdint.h>

struct busy;
struct space;

int busy_open(struct busy **ret);
void busy_close(struct busy *b);

/* At start: adopts the list that the former worker published. */
void busy_recover(struct space *space);

/* Compares the newest totals with those of the last call, elapsed_ns ago, and publishes. now_ns is
 * CLOCK_MONOTONIC. */
void busy_tick(struct space *space, uint64_t now_ns, uint64_t elapsed_ns);

/* A slot has a new owner, or none: its rates begin anew. */
void busy_forget(struct space *space, uint32_t slot);

/* For how long a slot has not changed; one without a change that this worker saw is idle since its
 * first call. now_s is CLOCK_MONOTONIC. */
uint32_t busy_idle_s(struct space *space, uint32_t slot, uint32_t now_s);

#endif

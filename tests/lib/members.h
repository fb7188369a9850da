/*
 * A namespace in the test's own process with one family, for tests of members: the test is the
 * client that adds, the fold thread and the grace. Fails the calling test where something is not as
 * it must be.
 */
#ifndef TESTS_LIB_MEMBERS_H
#define TESTS_LIB_MEMBERS_H

#include "daemon/worker/space/space.h"

extern struct space *space;
extern struct config config;
extern struct registry registry;
extern char *shards; /* writable, as a client has them */
extern uint32_t family, removed; /* likes_total{key}, and its `removed` member */

/* For cmocka: a new region; and what was made of it goes. */
int members_set_up(void **state);
int members_tear_down(void **state);

/* The worker is gone and another comes. */
void members_restart(void);

/* Registers a counter, a family with the label `key`, or a member of the family `of`; its slot. */
uint32_t make(uint8_t type, const char *name, uint32_t len, uint32_t of);
uint32_t member(const char *key); /* of likes_total */

/* As clients find it. */
uint32_t find(const char *key, uint32_t *ret_generation);

uint32_t generation(uint32_t slot);
uint64_t *cell(uint32_t slot);
int64_t total(uint32_t slot); /* the published one */

void fold(void);

/* Begins a removal. */
void forget(uint32_t slot);

/* Nobody adds in a section here: every grace is over at once. */
void grace(void);

/* Whatever keeps a slot from being handed out again is over, but for what a test does. */
void quarantine_pass(void);

#endif

/*
 * For tests of declared probes: attaching what a text declares, without pins, and reading its maps
 * as the worker does. Root only: they skip the calling test elsewhere.
 */
#ifndef TESTS_LIB_DECLARED_H
#define TESTS_LIB_DECLARED_H

#include <stdint.h>

#include "daemon/keeper/probe/probe.h"

#define DECLARED_RARE SYS_sched_get_priority_max /* a system call that nobody makes */

/* In what is declared, $SELF is this program's file, $TGID its number, $RARE that of the call
 * above. */
int declared_try(const char *declared, struct probe_live *live);

/* The same; the test fails when it does not work. */
void declared_begin(const char *declared, struct probe_live *live);
void declared_end(struct probe_live *live);

/* The sum over all CPUs of a cell: TALEA_SOURCE_TOTAL and its like. */
uint64_t declared_cell(const struct probe_live *live, uint32_t cell);
uint64_t declared_total(const struct probe_live *live);

/* What a key holds, its parts as they lie in the map; 0: there is no such key. */
uint64_t declared_member(const struct probe_live *live, const void *key);
uint64_t declared_member_of(const struct probe_live *live, int64_t number);

/* What all keys hold together; how many they are. */
uint64_t declared_kept(const struct probe_live *live, uint32_t *ret_keys_nr);

/* Makes the rare call. */
void declared_call(unsigned int times);

/* Runs it in a child, which must end with 0. */
void declared_in_child(void (*run)(void));

#endif

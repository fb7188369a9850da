/*
 * A process that is killed at a chosen instruction: a traced child does what it is told, is stepped
 * to that instruction and killed there. For tests of what a new worker makes of a dead one's
 * directory.
 */
#ifndef TESTS_LIB_STEPPER_H
#define TESTS_LIB_STEPPER_H

#include <stdint.h>

#include "shm/layout.h"

/* What was seen of one child. */
struct stepped {
	uint64_t steps;
	uint64_t intent_from, intent_upto; /* an intent was valid after these; 0: never */
};

/*
 * Forks a child that runs body(arg); steps it from its first stepper_stop() to its second one, or
 * to the step max, and kills it. d is the directory it changes (NULL: intents are not looked at).
 * Skips the test where tracing is not allowed; fails it when the child ends by itself.
 */
void stepper_run(void (*body)(void *arg), void *arg, uint64_t max, const struct dir_shm *d,
		 struct stepped *ret);

/* In the child: before and behind what is stepped. */
void stepper_stop(void);

#endif

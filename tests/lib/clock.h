/*
 * A clock that a test can put forward: its clock_gettime stands before libc's in every program that
 * names clock_ahead_s. For unit tests of what takes seconds.
 */
#ifndef TESTS_LIB_CLOCK_H
#define TESTS_LIB_CLOCK_H

#include <time.h>

extern time_t clock_ahead_s;

#endif

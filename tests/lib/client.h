/*
 * What the client processes of tests do again and again with libtalea. Each of these ends the
 * calling process with 1 when it fails, as CHECK does; client_expect is for the test itself.
 */
#ifndef TESTS_LIB_CLIENT_H
#define TESTS_LIB_CLIENT_H

#include <stdint.h>

#include "client/include/talea.h"
#include "tests/lib/harness.h"

/* Attaches to a namespace, or prepares to while there is no daemon. */
struct talea *client_open(const char *name_space);

/* A counter with a help text that all tests share. */
struct talea_counter client_declare(struct talea *t, const char *name);

/* The same for a family of counters whose keys are numbers. */
struct talea_family client_family(struct talea *t, const char *name);

/* Fails the test unless a new client reads this value of a counter, as sum and folded. */
void client_expect(const struct harness *h, const char *name_space, const char *name,
		   int64_t value);

#endif

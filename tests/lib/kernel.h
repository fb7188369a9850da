/*
 * For tests of what the probes count: a private talead with all of them, its totals, and the
 * kernel's own reference counters beside them. Owns the daemon of the test program that uses it.
 * Other processes of the machine make events too: a test asks for what nobody else makes, or for no
 * less than it made itself and no more than the reference counter says.
 */
#ifndef TESTS_LIB_KERNEL_H
#define TESTS_LIB_KERNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/lib/harness.h"

extern struct harness kernel_daemon;

/* Starts the daemon with these lines for [daemon], and a client of it. */
void kernel_start(const char *daemon);

/* Group fixtures: all of it with `probes = *`, and its end. As another user than root: nothing. */
int kernel_setup(void **state);
int kernel_teardown(void **state);

/* Skips the calling test, with the reason, where this kernel has not the probe's tracepoint; any
 * other failure to attach is one of the test. */
void kernel_needs(const char *probe);

/* Is there something that counts this counter? */
bool kernel_is_known(const char *name);

/* The sum of all counters that match, with every event before the call. None: 0. */
uint64_t kernel_count(const char *glob);

/* The sum of the first `numbers` numbers behind `key` in the line of a file that begins with it. */
uint64_t kernel_reference(const char *path, const char *key, unsigned int numbers);

/* Runs load in a child, which must end with 0. */
void kernel_run(void (*load)(void));

/*
 * Runs load and fails unless the counters that match went up by at_least or more, and by what the
 * book says: no less than it went up inside of our two readings, no more than outside of them, but
 * for what is under way on each CPU. One of five times is enough.
 */
void kernel_compare(const char *glob, uint64_t (*reference)(void), void (*load)(void),
		    uint64_t at_least);

/* The same without a reference counter; returns by how much they went up. */
uint64_t kernel_counts(const char *glob, void (*load)(void), uint64_t at_least);

/* By how much they go up in ns (and one sync) while the test does nothing. */
uint64_t kernel_counts_of_others(const char *glob, uint64_t ns);

/* Runs load until they went up by at most half more than nr, and what others make in as long a
 * time; never by less than nr. */
void kernel_counts_about(const char *glob, void (*load)(void), uint64_t nr);

#endif

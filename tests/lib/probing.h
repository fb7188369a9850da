/*
 * For tests of probes and their pins without a daemon: one probe, and a folder of its own to pin it
 * in. Owned by the test program that uses it; root only where it attaches.
 */
#ifndef TESTS_LIB_PROBING_H
#define TESTS_LIB_PROBING_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/keeper/probe/pins.h"

struct probing {
	char folder[32];
	struct pins pins;
	struct probe_live live;
};

extern struct probing probing;

/* raw_tp:sched_process_exec by comm. */
extern const struct probe_spec probing_by_comm;

int probing_setup(void **state);
int probing_teardown(void **state);

#define PROBING_TEST(test) \
	cmocka_unit_test_setup_teardown(test, probing_setup, probing_teardown)

/* Attaches one of the table, with pins; 0 or an error of probe_attach, whose words are printed. */
int probing_attach(uint32_t id, bool is_replacing);

/* Attaches probing_by_comm, with these pins. */
int probing_attach_by_comm(const struct pins *pins);

/* One event for it: an exec by "true". */
void probing_run_true(void);

#endif

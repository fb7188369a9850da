/*
 * Counters with keys across the ends of workers and probes: what was published never falls, and
 * what was counted is counted once, whatever ended and when.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <stdlib.h>

#include "tests/lib/keys.h"

static void a_new_worker_goes_on_where_the_former_was(void **state)
{
	uint64_t pid[3] = { 11, 12, 13 };

	(void)state;
	keys_by_pid();
	keys_store(&pid[0], 100);
	keys_store(&pid[1], 10);
	keys_overflow(4);
	keys_fold();
	keys_free(&pid[0], 100);
	keys_store(&pid[2], 1000);
	keys_worker_again(true);
	keys_fold();
	assert_int_equal(keys_sum, 1114);
	assert_int_equal(keys_slot("fam_total{pid=\"11\"}"), SHM_SLOT_NONE);
	assert_int_equal(keys_total("fam_total{pid=\"12\"}"), 10);
	assert_int_equal(keys_total("fam_total{pid=\"13\"}"), 1000);
	assert_int_equal(keys_total("fam_total{talea=\"removed\"}"), 100);
	keys_finish();
}

static void a_worker_killed_before_it_published_loses_nothing(void **state)
{
	uint64_t pid[2] = { 11, 12 };

	(void)state;
	keys_by_pid();
	keys_store(&pid[0], 100);
	keys_store(&pid[1], 10);
	keys_fold();
	keys_free(&pid[0], 120);
	registry_read_begin();
	kernel_fold(keys_kernel, false); /* and no more */
	registry_read_end();
	keys_worker_again(true);
	keys_fold();
	assert_int_equal(keys_sum, 130);
	keys_finish();
}

static void a_probe_that_comes_again_counts_on(void **state)
{
	struct source_statistics look;

	(void)state;
	keys_by_comm();
	keys_store("bash\0\0\0\0\0\0\0\0\0\0\0", 7);
	keys_store("sh\0\0\0\0\0\0\0\0\0\0\0\0\0", 2);
	keys_overflow(3);
	keys_fold();
	keys_store("bash\0\0\0\0\0\0\0\0\0\0\0", 9);
	keys_tell(false);
	kernel_statistics(keys_kernel, KEYS_PROBE, &look);
	assert_int_equal(look.kept, 11);
	assert_int_equal(look.overflow, 3);
	keys_maps_drop();
	keys_fold();
	assert_int_equal(keys_total("fam_total{comm=\"bash\"}"), 9);
	assert_int_equal(keys_sum, 14);
	keys_maps_make();
	keys_tell(true);
	keys_fold();
	assert_int_equal(keys_sum, 14);
	keys_store("bash\0\0\0\0\0\0\0\0\0\0\0", 1000);
	keys_fold();
	assert_int_equal(keys_total("fam_total{comm=\"bash\"}"), 1009);
	assert_int_equal(keys_total("fam_total{comm=\"sh\"}"), 2);
	assert_int_equal(keys_sum, 1014);
	keys_worker_again(true);
	keys_fold();
	assert_int_equal(keys_total("fam_total{comm=\"bash\"}"), 1009);
	assert_int_equal(keys_sum, 1014);
	keys_finish();
}

static void a_probe_that_ended_while_no_worker_lived_keeps_its_totals(void **state)
{
	uint64_t pid = 11;

	(void)state;
	keys_by_pid();
	keys_store(&pid, 100);
	keys_fold();
	keys_worker_again(false);
	keys_fold();
	assert_int_equal(keys_sum, 100);
	keys_worker_again(false);
	keys_fold();
	assert_int_equal(keys_sum, 100);
	assert_int_equal(keys_total("fam_total{pid=\"11\"}"), 100);
	keys_maps_drop();
	keys_maps_make();
	keys_tell(true); /* processes of before will not come again */
	keys_fold();
	assert_int_equal(keys_sum, 100);
	inside_grace(&keys_inside);
	keys_fold();
	assert_int_equal(keys_slot("fam_total{pid=\"11\"}"), SHM_SLOT_NONE);
	assert_int_equal(keys_total("fam_total{talea=\"removed\"}"), 100);
	keys_finish();
}

static void another_map_is_not_taken_for_the_former_one(void **state)
{
	(void)state;
	keys_by_comm();
	keys_store("bash\0\0\0\0\0\0\0\0\0\0\0", 100);
	keys_fold();
	keys_maps_drop();
	keys_maps_make();
	keys_store("bash\0\0\0\0\0\0\0\0\0\0\0", 500);
	keys_worker_again(true);
	keys_fold();
	assert_int_equal(keys_total("fam_total{comm=\"bash\"}"), 600);
	assert_int_equal(keys_sum, 600);
	keys_finish();
}

/* --- any order -------------------------------------------------------------------------------- */

#define PIDS   12u
#define ROUNDS 5000u

static struct truth {
	uint64_t held[PIDS]; /* by pid, 0: it has no key */
	int64_t all;
	bool is_attached;
} truth;

static uint64_t random_state = 0x2545f4914f6cdd1dull;

static uint32_t any(uint32_t below)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)(random_state >> 20) % below;
}

static void any_add(void)
{
	uint64_t pid = any(PIDS), n = 1 + any(1000);

	truth.all += (int64_t)n;
	if (!any(5)) {
		keys_overflow(n);
		return;
	}
	truth.held[pid] += n;
	keys_store(&pid, truth.held[pid]);
}

static void any_free(void)
{
	uint64_t pid = any(PIDS);

	if (!truth.held[pid])
		return;
	keys_free(&pid, truth.held[pid]);
	truth.held[pid] = 0;
}

static void any_end(void)
{
	if (truth.is_attached) {
		keys_tell(false);
		keys_maps_drop();
		truth = (struct truth){ .all = truth.all };
	} else {
		keys_maps_make();
		keys_tell(true);
		truth.is_attached = true;
	}
}

/* Killed between two folds, or in the middle of one. */
static void any_kill(void)
{
	if (any(2)) {
		registry_read_begin();
		kernel_fold(keys_kernel, false);
		registry_read_end();
	}
	keys_worker_again(truth.is_attached);
}

static void in_any_order_nothing_is_lost_counted_twice_or_falls(void **state)
{
	(void)state;
	keys_by_pid();
	truth = (struct truth){ .is_attached = true };
	for (uint32_t i = 0; i < ROUNDS; i++) {
		uint32_t what = any(100);

		if (what < 55 && truth.is_attached)
			any_add();
		else if (what < 70 && truth.is_attached)
			any_free();
		else if (what < 90)
			keys_fold();
		else if (what < 94)
			inside_grace(&keys_inside);
		else if (what < 98)
			any_kill();
		else
			any_end();
		if (i % 64 == 0) {
			keys_fold();
			keys_fold(); /* of a pid that came again between two */
			assert_int_equal(keys_sum, truth.all);
		}
	}
	if (!truth.is_attached)
		any_end();
	keys_finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_new_worker_goes_on_where_the_former_was),
		cmocka_unit_test(a_worker_killed_before_it_published_loses_nothing),
		cmocka_unit_test(a_probe_that_comes_again_counts_on),
		cmocka_unit_test(a_probe_that_ended_while_no_worker_lived_keeps_its_totals),
		cmocka_unit_test(another_map_is_not_taken_for_the_former_one),
		cmocka_unit_test(in_any_order_nothing_is_lost_counted_twice_or_falls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

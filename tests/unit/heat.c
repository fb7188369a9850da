/*
 * Who gets a row and who gives it back, and what happens to counters that fall and cells that nobody
 * owns: the policy, the owners of rows and the suspects, on a namespace inside this process.
 */
#include "tests/lib/test.h"

#include <errno.h>
#include <string.h>

#include "daemon/worker/space/changes.h"
#include "daemon/worker/space/heat.h"
#include "daemon/worker/space/rows.h"
#include "daemon/worker/space/suspect.h"
#include "tests/lib/inside.h"

#define FOLD_NS 10000000ull /* 10 ms: the threshold is 1,000 adds */
#define HOT_ADDS 2000u

static struct inside in;

static int set_up(void **state)
{
	(void)state;
	inside_start(&in, 100);
	return 0;
}

static int set_up_two_rows(void **state)
{
	(void)state;
	inside_start(&in, 2);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	inside_stop(&in);
	return 0;
}

static void rule(const char *glob, enum shm_hot_rule hot)
{
	struct config_rule *r = &in.config.rules[in.config.rules_nr++];

	memset(r, 0, sizeof(*r));
	strcpy(r->glob, glob);
	r->hot = hot;
	r->ttl_s = CONFIG_TTL_UNSET;
}

/* A fold in which this counter moved fast. */
static void heat_up(uint32_t slot, uint64_t n)
{
	inside_add_cold(&in, slot, n);
	inside_fold(&in, FOLD_NS);
}

static uint32_t heat_of(uint32_t slot)
{
	struct wire_explain e = { 0 };

	registry_read_begin();
	heat_explain(in.space, &in.config, slot, &e);
	registry_read_end();
	return e.heat;
}

static void pin(uint32_t slot, enum shm_hot_rule how)
{
	struct why why;

	registry_read_begin();
	assert_int_equal(heat_pin(in.space, &in.config, slot, how, 0, &why), 0);
	registry_read_end();
}

/* --- the policy ---------------------------------------------------------------------------------- */

static void a_counter_has_a_row_within_two_folds_of_crossing_the_threshold(void **state)
{
	uint32_t slot = inside_make(&in, SHM_COUNTER, "hot_total");

	(void)state;
	inside_fold(&in, FOLD_NS);
	assert_false(rows_is_hot(in.space, slot));
	inside_add_cold(&in, slot, 999);
	inside_fold(&in, FOLD_NS);
	assert_false(rows_is_hot(in.space, slot));
	heat_up(slot, HOT_ADDS);
	inside_fold(&in, FOLD_NS);
	assert_true(rows_is_hot(in.space, slot));
	inside_add_row(&in, slot, 0, 5);
	inside_add_row(&in, slot, 1, 6);
	inside_fold(&in, FOLD_NS);
	assert_int_equal(inside_total(&in, slot), 999 + HOT_ADDS + 11);
	assert_int_equal(in.space->t->rows_used, 1);
	assert_true(space_states(in.space)[slot] & SHM_T_HOT);
}

static void a_quiet_one_gives_its_row_back_and_keeps_its_count(void **state)
{
	uint32_t slot = inside_make(&in, SHM_COUNTER, "hot_total");

	(void)state;
	inside_fold(&in, FOLD_NS);
	heat_up(slot, HOT_ADDS);
	inside_add_row(&in, slot, 1, 100);
	for (unsigned int s = 0; s < HEAT_QUIET_S; s++) {
		assert_int_equal(heat_of(slot), WIRE_HOT);
		inside_fold(&in, FOLD_NS);
		inside_second(&in);
		assert_int_equal(inside_grace(&in), s + 1 == HEAT_QUIET_S ? 1 : 0);
	}
	inside_fold(&in, FOLD_NS);
	assert_int_equal(heat_of(slot), WIRE_COLD);
	assert_int_equal(in.space->rows.used_nr, 0);
	assert_int_equal(inside_total(&in, slot), HOT_ADDS + 100);
}

static void hysteresis_keeps_one_between_the_thresholds(void **state)
{
	uint32_t slot = inside_make(&in, SHM_COUNTER, "warm_total");

	(void)state;
	inside_fold(&in, FOLD_NS);
	heat_up(slot, HOT_ADDS);
	for (unsigned int s = 0; s < 3 * HEAT_QUIET_S; s++) {
		inside_add_row(&in, slot, 0, (uint64_t)HEAT_DOWN + 1);
		inside_fold(&in, FOLD_NS);
		inside_second(&in);
	}
	assert_int_equal(heat_of(slot), WIRE_HOT);
}

static void while_it_retires_a_row_is_summed_and_may_be_kept(void **state)
{
	uint32_t slot = inside_make(&in, SHM_COUNTER, "hot_total"), row;

	(void)state;
	pin(slot, SHM_HOT_YES);
	inside_add_row(&in, slot, 0, 7);
	row = slot_row(space_slot(in.space, slot)->route);
	pin(slot, SHM_HOT_NO);
	assert_int_equal(heat_of(slot), WIRE_RETIRING);
	/* A section that began before: it still may commit. */
	shm_count_add((uint64_t *)(in.shards + shards_lane(1) + row), 1);
	inside_fold(&in, FOLD_NS);
	assert_int_equal(inside_total(&in, slot), 8);
	pin(slot, SHM_HOT_YES);
	assert_int_equal(heat_of(slot), WIRE_HOT);
	inside_grace(&in);
	assert_int_equal(heat_of(slot), WIRE_HOT);
	assert_int_equal(slot_row(space_slot(in.space, slot)->route), row);
}

static void a_grace_for_an_earlier_retirement_does_not_end_a_later_one(void **state)
{
	uint32_t slot = inside_make(&in, SHM_COUNTER, "hot_total");
	uint32_t seq;

	(void)state;
	pin(slot, SHM_HOT_YES);
	seq = rows_retire(in.space, slot);
	rows_cancel(in.space, slot);
	assert_int_not_equal(rows_retire(in.space, slot), seq);
	assert_false(rows_free_retired(in.space, slot, seq));
	assert_true(rows_is_retiring(in.space, slot));
}

static void when_rows_run_out_the_hottest_keep_them_and_the_rest_wait(void **state)
{
	uint32_t slots[4];
	char name[32];

	(void)state;
	for (int i = 0; i < 4; i++) {
		snprintf(name, sizeof(name), "hot_%d_total", i);
		slots[i] = inside_make(&in, SHM_COUNTER, name);
	}
	inside_fold(&in, FOLD_NS);
	/* The hottest first, whatever the order of registration. */
	for (unsigned int i = 0; i < 4; i++)
		inside_add_cold(&in, slots[i], HOT_ADDS * (i + 1));
	inside_fold(&in, FOLD_NS);
	assert_int_equal(heat_of(slots[3]), WIRE_HOT);
	assert_int_equal(heat_of(slots[2]), WIRE_HOT);
	assert_int_equal(heat_of(slots[1]), WIRE_PROMOTING);
	assert_int_equal(in.space->t->rows_waiting, 2);
	/* One of those that have a row cools down, one of those that wait is much hotter. */
	inside_add_row(&in, slots[3], 0, 1000000);
	inside_add_row(&in, slots[2], 0, 1000);
	inside_add_cold(&in, slots[1], 500000);
	inside_fold(&in, FOLD_NS);
	inside_second(&in);
	assert_int_equal(heat_of(slots[2]), WIRE_RETIRING);
	assert_int_equal(inside_grace(&in), 1);
	heat_up(slots[1], HOT_ADDS);
	assert_int_equal(heat_of(slots[1]), WIRE_HOT);
	assert_int_equal(heat_of(slots[3]), WIRE_HOT);
	assert_int_equal(heat_of(slots[2]), WIRE_COLD);
	assert_int_equal(in.space->rows.used_nr, 2);
}

static void nobody_gives_way_where_rows_are_not_used_again(void **state)
{
	uint32_t one = inside_make(&in, SHM_COUNTER, "one_total");
	uint32_t two = inside_make(&in, SHM_COUNTER, "two_total");
	uint32_t three = inside_make(&in, SHM_COUNTER, "three_total");

	(void)state;
	shm_set32(&in.space->d->promotion, SHM_REUSE_OFF);
	inside_fold(&in, FOLD_NS);
	heat_up(one, HOT_ADDS);
	heat_up(two, HOT_ADDS);
	for (unsigned int s = 0; s < 3; s++) {
		heat_up(three, 100 * HOT_ADDS);
		inside_second(&in);
		inside_grace(&in);
	}
	assert_int_equal(heat_of(three), WIRE_PROMOTING);
	assert_int_equal(heat_of(one), WIRE_HOT);
	assert_int_equal(heat_of(two), WIRE_HOT);
}

static void one_that_waits_and_cools_down_waits_no_longer(void **state)
{
	uint32_t slots[3];
	char name[32];

	(void)state;
	for (int i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "hot_%d_total", i);
		slots[i] = inside_make(&in, SHM_COUNTER, name);
	}
	inside_fold(&in, FOLD_NS);
	for (unsigned int i = 0; i < 3; i++)
		inside_add_cold(&in, slots[i], HOT_ADDS);
	inside_fold(&in, FOLD_NS);
	assert_int_equal(in.space->t->rows_waiting, 1);
	inside_second(&in);
	inside_fold(&in, FOLD_NS);
	inside_second(&in);
	assert_int_equal(in.space->t->rows_waiting, 0);
}

static void configuration_and_pins_come_before_rates(void **state)
{
	uint32_t yes, no, pinned;

	(void)state;
	rule("yes_*", SHM_HOT_YES);
	rule("no_*", SHM_HOT_NO);
	yes = inside_make(&in, SHM_COUNTER, "yes_total");
	no = inside_make(&in, SHM_COUNTER, "no_total");
	pinned = inside_make(&in, SHM_COUNTER, "no_but_pinned_total");
	assert_int_equal(heat_of(yes), WIRE_HOT);
	inside_fold(&in, FOLD_NS);
	heat_up(no, 10 * HOT_ADDS);
	inside_fold(&in, FOLD_NS);
	assert_int_equal(heat_of(no), WIRE_COLD);
	pin(pinned, SHM_HOT_YES);
	assert_int_equal(heat_of(pinned), WIRE_HOT);
	pin(pinned, SHM_HOT_AUTO);
	assert_int_equal(heat_of(pinned), WIRE_RETIRING);
	for (unsigned int s = 0; s < 2 * HEAT_QUIET_S; s++)
		inside_second(&in);
	assert_int_equal(heat_of(yes), WIRE_HOT);
}

static void new_rules_reach_counters_that_are_there(void **state)
{
	uint32_t slot = inside_make(&in, SHM_COUNTER, "later_total");

	(void)state;
	inside_fold(&in, FOLD_NS);
	rule("later_*", SHM_HOT_YES);
	space_configure(in.space, &in.config);
	inside_fold(&in, FOLD_NS);
	assert_int_equal(heat_of(slot), WIRE_HOT);
	in.config.rules[0].hot = SHM_HOT_NO;
	space_configure(in.space, &in.config);
	inside_fold(&in, FOLD_NS);
	assert_int_equal(heat_of(slot), WIRE_RETIRING);
}

static void members_and_other_get_rows_and_removed_never(void **state)
{
	uint32_t family = inside_make(&in, SHM_FAMILY, "keys_total");
	const struct name_shm *n = dir_name(in.space->d, space_slot(in.space, family)->name);
	uint32_t member = inside_member(&in, family, "one");

	(void)state;
	inside_fold(&in, FOLD_NS);
	inside_add_cold(&in, member, HOT_ADDS);
	inside_add_cold(&in, n->other, HOT_ADDS);
	inside_add_cold(&in, n->removed, HOT_ADDS);
	inside_fold(&in, FOLD_NS);
	assert_int_equal(heat_of(member), WIRE_HOT);
	assert_int_equal(heat_of(n->other), WIRE_HOT);
	assert_int_equal(heat_of(n->removed), WIRE_COLD);
}

static void without_a_good_self_test_only_rows_that_were_never_owned_are_given(void **state)
{
	uint32_t one = inside_make(&in, SHM_COUNTER, "one_total"), row;
	uint32_t two = inside_make(&in, SHM_COUNTER, "two_total");

	(void)state;
	shm_set32(&in.space->d->promotion, SHM_REUSE_OFF);
	pin(one, SHM_HOT_YES);
	row = rows_of_slot(in.space, one);
	pin(one, SHM_HOT_NO);
	inside_grace(&in);
	pin(two, SHM_HOT_YES);
	assert_int_not_equal(rows_of_slot(in.space, two), row);
	shm_set32(&in.space->d->promotion, SHM_ROWS_OFF | SHM_REUSE_OFF);
	pin(one, SHM_HOT_YES);
	assert_int_equal(heat_of(one), WIRE_PROMOTING);
	shm_set32(&in.space->d->promotion, 0);
	registry_read_begin();
	heat_allowed(in.space, &in.config);
	registry_read_end();
	assert_int_equal(heat_of(one), WIRE_HOT);
	assert_int_equal(rows_of_slot(in.space, one), row);
}

static void a_new_worker_finds_rows_pins_and_unfinished_retirements(void **state)
{
	uint32_t hot = inside_make(&in, SHM_COUNTER, "hot_total");
	uint32_t leaving = inside_make(&in, SHM_COUNTER, "leaving_total");

	(void)state;
	pin(hot, SHM_HOT_YES);
	pin(leaving, SHM_HOT_YES);
	inside_add_row(&in, hot, 0, 3);
	inside_add_row(&in, leaving, 0, 4);
	pin(leaving, SHM_HOT_NO);
	inside_restart(&in);
	assert_int_equal(heat_of(hot), WIRE_HOT);
	assert_int_equal(heat_of(leaving), WIRE_RETIRING);
	assert_int_equal(inside_grace(&in), 1);
	assert_int_equal(heat_of(leaving), WIRE_COLD);
	inside_fold(&in, FOLD_NS);
	assert_int_equal(inside_total(&in, hot), 3);
	assert_int_equal(inside_total(&in, leaving), 4);
}

static void history_tells_what_happened_and_why(void **state)
{
	uint32_t slot = inside_make(&in, SHM_COUNTER, "hot_total");
	struct change_shm changes[16];
	uint64_t first;
	uint32_t nr;

	(void)state;
	inside_fold(&in, FOLD_NS);
	heat_up(slot, HOT_ADDS);
	pin(slot, SHM_HOT_NO);
	inside_grace(&in);
	nr = changes_copy(in.space->t, 0, changes, 16, &first);
	assert_int_equal(first, 0);
	assert_int_equal(nr, 4);
	assert_int_equal(changes[0].kind, SHM_CHANGE_HOT);
	assert_int_equal(changes[0].why, SHM_WHY_RATE);
	assert_true(changes[0].rate >= 100000.0f);
	assert_int_equal(changes[1].kind, SHM_CHANGE_PINNED_COLD);
	assert_int_equal(changes[2].kind, SHM_CHANGE_RETIRING);
	assert_int_equal(changes[2].why, SHM_WHY_PIN);
	assert_int_equal(changes[3].kind, SHM_CHANGE_COLD);
	for (uint32_t i = 0; i < nr; i++) {
		assert_int_equal(changes[i].name_len, strlen("hot_total"));
		assert_memory_equal(changes[i].name, "hot_total", changes[i].name_len);
	}
}

static void history_may_be_asked_for_from_any_number_on(void **state)
{
	const struct change_shm change = { .kind = SHM_CHANGE_STRAY };
	struct change_shm changes[16];
	uint64_t first;

	(void)state;
	for (unsigned int i = 0; i < SHM_CHANGES_NR; i++)
		changes_put(in.space, &change);
	assert_int_equal(changes_copy(in.space->t, UINT64_MAX, changes, 16, &first), 0);
	assert_int_equal(first, SHM_CHANGES_NR);
	assert_int_equal(changes_copy(in.space->t, SHM_CHANGES_NR - 1, changes, 16, &first), 1);
}

/* --- suspects ------------------------------------------------------------------------------------ */

static void a_counter_that_falls_freezes_until_somebody_accepts(void **state)
{
	uint32_t slot = inside_make(&in, SHM_COUNTER, "fell_total");
	uint32_t other = inside_make(&in, SHM_COUNTER, "fine_total");

	(void)state;
	inside_add_cold(&in, slot, 100);
	inside_fold(&in, FOLD_NS);
	inside_add_cold(&in, slot, (uint64_t)-60);
	inside_add_cold(&in, other, 5);
	inside_fold(&in, FOLD_NS);
	assert_int_equal(inside_total(&in, slot), 100);
	assert_int_equal(space_states(in.space)[slot] & SHM_T_STATE, SHM_T_SUSPECT);
	assert_int_equal(in.space->suspects.nr, 1);
	/* Even when it rises above that again, and for a new worker. */
	inside_add_cold(&in, slot, 500);
	inside_fold(&in, FOLD_NS);
	inside_restart(&in);
	inside_fold(&in, FOLD_NS);
	inside_fold(&in, FOLD_NS);
	assert_int_equal(inside_total(&in, slot), 100);
	assert_int_equal(in.space->suspects.nr, 1);
	inside_add_cold(&in, slot, (uint64_t)-500);
	assert_int_equal(suspect_accept(in.space, slot, 0), 0);
	inside_fold(&in, FOLD_NS);
	inside_fold(&in, FOLD_NS);
	assert_int_equal(inside_total(&in, slot), 40);
	assert_int_equal(space_states(in.space)[slot] & SHM_T_STATE, SHM_T_OK);
	assert_int_equal(inside_total(&in, other), 5);
	assert_int_equal(suspect_accept(in.space, slot, 0), -EINVAL);
	inside_add_cold(&in, slot, (uint64_t)-1);
	inside_fold(&in, FOLD_NS);
	assert_int_equal(inside_total(&in, slot), 40);
}

static void an_accepted_fall_is_not_a_leave_to_fall_later(void **state)
{
	uint32_t slot = inside_make(&in, SHM_COUNTER, "fell_total");

	(void)state;
	inside_add_cold(&in, slot, 100);
	inside_fold(&in, FOLD_NS);
	inside_add_cold(&in, slot, (uint64_t)-60);
	inside_fold(&in, FOLD_NS);
	inside_add_cold(&in, slot, 70); /* above what is shown: nothing falls when it is accepted */
	assert_int_equal(suspect_accept(in.space, slot, 0), 0);
	inside_fold(&in, FOLD_NS);
	assert_int_equal(inside_total(&in, slot), 110);
	inside_add_cold(&in, slot, (uint64_t)-1);
	inside_fold(&in, FOLD_NS);
	assert_int_equal(inside_total(&in, slot), 110);
	assert_int_equal(in.space->suspects.nr, 1);
}

static void a_level_may_fall(void **state)
{
	uint32_t slot = inside_make(&in, SHM_LEVEL, "level");

	(void)state;
	inside_add_cold(&in, slot, 10);
	inside_fold(&in, FOLD_NS);
	inside_add_cold(&in, slot, (uint64_t)-30);
	inside_fold(&in, FOLD_NS);
	assert_int_equal(inside_total(&in, slot), -20);
	assert_int_equal(in.space->suspects.nr, 0);
}

static void a_cell_that_nobody_owns_is_told_once_and_counts_for_nobody(void **state)
{
	uint32_t slot = inside_make(&in, SHM_COUNTER, "mine_total"), next;

	(void)state;
	inside_fold(&in, FOLD_NS);
	inside_add_cold(&in, slot + 1, 77);
	inside_fold(&in, FOLD_NS);
	inside_fold(&in, FOLD_NS);
	assert_int_equal(in.space->t->strays_nr, 1);
	next = inside_make(&in, SHM_COUNTER, "next_total");
	assert_int_equal(next, slot + 1);
	inside_add_cold(&in, next, 3);
	inside_fold(&in, FOLD_NS);
	assert_int_equal(inside_total(&in, next), 3);
	inside_restart(&in);
	inside_fold(&in, FOLD_NS);
	assert_int_equal(inside_total(&in, next), 3);
	assert_int_equal(in.space->t->strays_nr, 1);
	assert_int_equal(suspect_accept(in.space, SHM_SLOT_NONE, 0), 0);
	assert_int_equal(in.space->t->strays_nr, 0);
}

static void so_is_a_free_row_that_changes(void **state)
{
	uint32_t one = inside_make(&in, SHM_COUNTER, "one_total"), row;
	uint32_t two = inside_make(&in, SHM_COUNTER, "two_total");

	(void)state;
	pin(one, SHM_HOT_YES);
	inside_add_row(&in, one, 0, 9);
	row = slot_row(space_slot(in.space, one)->route);
	pin(one, SHM_HOT_NO);
	inside_grace(&in);
	inside_second(&in);
	assert_int_equal(in.space->t->strays_nr, 0);
	shm_count_add((uint64_t *)(in.shards + shards_lane(1) + row), 5);
	inside_second(&in);
	inside_second(&in);
	assert_int_equal(in.space->t->strays_nr, 1);
	pin(two, SHM_HOT_YES);
	inside_add_row(&in, two, 1, 4);
	inside_fold(&in, FOLD_NS);
	assert_int_equal(inside_total(&in, two), 4);
	assert_int_equal(inside_total(&in, one), 9);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
#define TEST_TWO(f) cmocka_unit_test_setup_teardown(f, set_up_two_rows, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_counter_has_a_row_within_two_folds_of_crossing_the_threshold),
		TEST(a_quiet_one_gives_its_row_back_and_keeps_its_count),
		TEST(hysteresis_keeps_one_between_the_thresholds),
		TEST(while_it_retires_a_row_is_summed_and_may_be_kept),
		TEST(a_grace_for_an_earlier_retirement_does_not_end_a_later_one),
		TEST_TWO(when_rows_run_out_the_hottest_keep_them_and_the_rest_wait),
		TEST_TWO(nobody_gives_way_where_rows_are_not_used_again),
		TEST_TWO(one_that_waits_and_cools_down_waits_no_longer),
		TEST(configuration_and_pins_come_before_rates),
		TEST(new_rules_reach_counters_that_are_there),
		TEST(members_and_other_get_rows_and_removed_never),
		TEST(without_a_good_self_test_only_rows_that_were_never_owned_are_given),
		TEST(a_new_worker_finds_rows_pins_and_unfinished_retirements),
		TEST(history_tells_what_happened_and_why),
		TEST(history_may_be_asked_for_from_any_number_on),
		TEST(a_counter_that_falls_freezes_until_somebody_accepts),
		TEST(an_accepted_fall_is_not_a_leave_to_fall_later),
		TEST(a_level_may_fall),
		TEST(a_cell_that_nobody_owns_is_told_once_and_counts_for_nobody),
		TEST(so_is_a_free_row_that_changes),
	};
	int failed;

	registry_enter();
	failed = cmocka_run_group_tests_name("heat", tests, NULL, NULL);
	registry_leave();
	return failed;
}

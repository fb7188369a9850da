/*
 * Members of families that go: where their sum goes, when their slot comes again and when it does not,
 * what becomes of adds that come late, and time to live.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/worker/space/busy.h"
#include "daemon/worker/space/rows.h"
#include "daemon/worker/space/idle.h"
#include "daemon/worker/space/remove.h"
#include "tests/lib/clock.h"
#include "tests/lib/members.h"

#define SECOND_NS 1000000000ull

/* --- removal ---------------------------------------------------------------------------------- */

static void a_member_that_goes_is_not_found_and_its_sum_is_in_removed(void **state)
{
	uint32_t a = member("a"), b = member("b"), quota_nr = space->quota.counted_nr, g;

	(void)state;
	shm_count_add(cell(a), 30);
	shm_count_add(cell(b), 5);
	fold();
	forget(a);
	assert_int_equal(find("a", &g), SHM_SLOT_NONE);
	assert_int_equal(generation(a) & 1, 0);
	assert_int_equal(space->quota.members_nr, 1);
	assert_int_equal(space->quota.members_of[family], 1);
	assert_int_equal(space->quota.counted_nr, quota_nr - 1);
	shm_count_add(cell(a), 4); /* by a section that began before */
	fold();
	assert_int_equal(total(a) + total(b) + total(removed), 39);
	assert_int_equal(total(removed), 0);
	grace();
	assert_int_equal(space->d->moves % 2, 0);
	fold();
	assert_int_equal(total(a), 0);
	assert_int_equal(total(removed), 34);
	assert_int_equal(total(b), 5);
	assert_int_equal(space_states(space)[a], SHM_T_UNUSED);
	assert_int_equal(space->t->removed_nr, 1);
	assert_int_equal(find("b", &g), b);
}

static void a_removal_is_asked_for_twice_and_for_nothing_else_than_members(void **state)
{
	uint32_t a = member("a"), counter = make(SHM_COUNTER, "plain_total", 11, 0);

	(void)state;
	forget(a);
	forget(a);
	assert_int_equal(space->quota.members_nr, 0);
	grace();
	registry_read_begin();
	assert_int_equal(remove_begin(space, a, SHM_WHY_FORGET, 0), -EINVAL);
	assert_int_equal(remove_begin(space, counter, SHM_WHY_FORGET, 0), -EINVAL);
	assert_int_equal(remove_begin(space, family, SHM_WHY_FORGET, 0), -EINVAL);
	assert_int_equal(remove_begin(space, removed, SHM_WHY_FORGET, 0), -EINVAL);
	assert_int_equal(remove_begin(space, 0, SHM_WHY_FORGET, 0), -EINVAL);
	assert_int_equal(remove_begin(space, SHM_SLOTS_MAX - 1, SHM_WHY_FORGET, 0), -EINVAL);
	registry_read_end();
}

static void a_row_goes_with_its_member_and_comes_to_another(void **state)
{
	uint32_t a = member("a"), b = member("b"), row;
	uint64_t *lane;
	int64_t stray;

	(void)state;
	assert_int_equal(rows_allocate(space, a, &stray), 0);
	row = rows_of_slot(space, a);
	lane = (uint64_t *)(void *)(shards + SHM_S_LANES + row * 8ull);
	shm_count_add(cell(a), 1);
	shm_count_add(lane, 100);
	fold();
	forget(a);
	shm_count_add(lane, 10);
	fold();
	assert_int_equal(total(a), 111);
	grace();
	assert_int_equal(space->rows.used_nr, 0);
	assert_int_equal(space->rows.retiring_nr, 0);
	assert_int_equal(rows_allocate(space, b, &stray), 0);
	assert_int_equal(stray, 0);
	assert_int_equal(rows_of_slot(space, b), row);
	shm_count_add(lane, 1000);
	fold();
	assert_int_equal(total(removed), 111);
	assert_int_equal(total(b), 1000);
	assert_int_equal(total(a), 0);
}

static void a_key_that_comes_again_while_it_goes_is_another_member(void **state)
{
	uint32_t a = member("a"), again;

	(void)state;
	shm_count_add(cell(a), 3);
	forget(a);
	again = member("a");
	assert_int_not_equal(again, a);
	shm_count_add(cell(again), 2);
	grace();
	fold();
	assert_int_equal(total(removed), 3);
	assert_int_equal(total(again), 2);
}

/* --- reuse ------------------------------------------------------------------------------------ */

static void a_slot_comes_again_after_its_quarantine_with_its_name_record(void **state)
{
	uint32_t a = member("key 1"), g = generation(a), b;
	uint64_t names_bytes, at = name_offset(space_slot(space, a)->name);

	(void)state;
	shm_count_add(cell(a), 9);
	forget(a);
	grace();
	fold();
	fold();
	urcu_memb_barrier();
	clock_ahead_s += SHM_QUARANTINE_NS / SECOND_NS - 1;
	assert_int_not_equal(member("key 2"), a);
	clock_ahead_s += 1;
	assert_int_not_equal(member("a key of another size"), a);
	names_bytes = space->d->names_bytes;
	b = member("key 003");
	assert_int_equal(b, a);
	assert_int_equal(space->d->names_bytes, names_bytes);
	assert_int_equal(name_offset(space_slot(space, b)->name), at);
	assert_int_equal(generation(b), g + 2);
	fold();
	assert_int_equal(total(b), 0);
	shm_count_add(cell(b), 1);
	fold();
	assert_int_equal(total(b), 1);
	assert_int_equal(total(removed), 9);
	assert_int_equal(find("key 003", &g), b);
	assert_int_equal(find("key 1", &g), SHM_SLOT_NONE);
}

static void the_rate_of_a_slot_that_comes_again_is_its_new_members(void **state)
{
	const struct busy_shm *list = (const struct busy_shm *)(const void *)
		((const char *)space->t + SHM_T_BUSY + SHM_T_BUSY_BYTES);
	uint32_t a = member("a");

	(void)state;
	shm_count_add(cell(a), 9);
	fold();
	busy_tick(space, SECOND_NS, SECOND_NS);
	forget(a);
	quarantine_pass(); /* and no tick: the worker was stopped */
	assert_int_equal(member("b"), a);
	shm_count_add(cell(a), 30);
	fold();
	busy_tick(space, SECOND_NS, SECOND_NS);
	busy_tick(space, SECOND_NS, SECOND_NS);
	assert_int_equal(space->t->busy_tick, 3);
	assert_int_equal(list->slot[list->nr - 1], a);
	assert_int_equal(list->generation[list->nr - 1], generation(a));
	assert_true(list->rates[list->nr - 1][1] == 30.0f);
}

static void nothing_comes_again_before_the_fold_has_shown_that_it_is_gone(void **state)
{
	uint32_t a = member("key 1");

	(void)state;
	shm_count_add(cell(a), 9);
	fold();
	fold();
	forget(a);
	grace();
	urcu_memb_barrier();
	clock_ahead_s += 2 * SHM_QUARANTINE_NS / SECOND_NS;
	fold(); /* one copy says 0, the other 9 */
	assert_int_not_equal(member("key 2"), a);
	fold();
	clock_ahead_s += SHM_QUARANTINE_NS / SECOND_NS;
	assert_int_equal(member("key 3"), a);
}

static void nothing_comes_again_without_a_passed_self_test_or_beside_adds_without_rseq(void **state)
{
	struct shards_shm *head = (struct shards_shm *)(void *)shards;
	uint32_t a = member("key 1");

	(void)state;
	forget(a);
	quarantine_pass();
	shm_set32(&space->d->promotion, SHM_REUSE_OFF);
	assert_int_not_equal(member("key 2"), a);
	shm_set32(&space->d->promotion, 0);
	head->fallback_used = 1;
	assert_int_not_equal(member("key 3"), a);
	head->fallback_used = 0;
	assert_int_equal(member("key 4"), a);
}

struct reader {
	pthread_t thread;
	uint32_t is_reading, is_over;
};

static void *reader_hold(void *arg)
{
	struct reader *r = arg;

	registry_enter();
	registry_read_begin();
	shm_publish32(&r->is_reading, 1);
	while (!shm_take32(&r->is_over))
		usleep(1000);
	registry_read_end();
	registry_leave();
	return NULL;
}

static void nothing_comes_again_while_a_thread_may_still_have_its_record(void **state)
{
	struct reader r = { 0 };
	uint32_t a = member("key 1");

	(void)state;
	assert_int_equal(pthread_create(&r.thread, NULL, reader_hold, &r), 0);
	while (!shm_take32(&r.is_reading))
		usleep(1000);
	forget(a);
	grace();
	fold();
	fold();
	clock_ahead_s += SHM_QUARANTINE_NS / SECOND_NS;
	usleep(50000);
	assert_int_not_equal(member("key 2"), a);
	shm_publish32(&r.is_over, 1);
	pthread_join(r.thread, NULL);
	urcu_memb_barrier();
	assert_int_equal(member("key 3"), a);
}

static void a_slot_whose_generations_are_used_up_never_comes_again(void **state)
{
	uint32_t a = member("key 1"), b = member("key 2");

	(void)state;
	space_slot(space, a)->route = slot_route(SHM_GENERATION_LAST - 1, SHM_ROW_NONE);
	space_slot(space, b)->route = slot_route(SHM_GENERATION_LAST - 3, SHM_ROW_NONE);
	forget(a);
	forget(b);
	quarantine_pass();
	assert_int_equal(member("key 3"), b);
	assert_int_equal(generation(b), SHM_GENERATION_LAST - 1);
	assert_int_not_equal(member("key 4"), a);
	assert_int_equal(generation(a), SHM_GENERATION_LAST);
}

static void versions_go_on_from_one_owner_to_the_next(void **state)
{
	uint32_t a = member("key 1"), version;

	(void)state;
	for (uint32_t i = 0; i < 4; i++) {
		version = state_version(space_slot(space, a)->state);
		shm_count_add(cell(a), i);
		forget(a);
		quarantine_pass();
		assert_int_equal(member("key 1"), a);
		assert_int_equal(state_version(space_slot(space, a)->state), version + 3);
		fold();
		assert_int_equal(total(a), 0);
	}
}

static void a_new_worker_finds_who_is_free_and_ends_who_was_going(void **state)
{
	uint32_t a = member("key 1"), b = member("key 2"), g;

	(void)state;
	shm_count_add(cell(a), 1);
	shm_count_add(cell(b), 2);
	forget(a);
	grace();
	forget(b);
	members_restart();
	assert_int_equal(find("key 2", &g), SHM_SLOT_NONE);
	assert_int_equal(space->quota.members_nr, 0);
	fold();
	assert_int_equal(total(b), 2);
	quarantine_pass();
	assert_int_equal(total(removed), 3);
	assert_int_equal(member("key 3"), a);
	assert_int_equal(member("key 4"), b);
}

/* --- late ------------------------------------------------------------------------------------- */

static void an_add_without_rseq_that_comes_late_moves_to_removed(void **state)
{
	struct shards_shm *head = (struct shards_shm *)(void *)shards;
	uint32_t a = member("a");

	(void)state;
	shm_count_add(cell(a), 2);
	forget(a);
	grace();
	fold();
	head->fallback_used = 1;
	shm_count_add(cell(a), 40);
	shm_count_add(cell(removed), 500); /* by who saw the even generation */
	fold();
	fold();
	assert_int_equal(total(a), 0);
	assert_int_equal(total(removed), 542);
	assert_int_equal(space->t->strays_nr, 0);
	remove_second(space);
	assert_int_equal(space->t->late_adds, 540);
}

static void a_cell_of_nobody_that_changes_is_a_stray_and_is_no_ones_count(void **state)
{
	uint32_t a = member("key 1");

	(void)state;
	forget(a);
	quarantine_pass();
	shm_count_add(cell(a), 40);
	/* Handed out before the fold has seen it, it would hide that. */
	assert_int_not_equal(member("key 2"), a);
	fold();
	assert_int_equal(space->t->strays_nr, 1);
	assert_int_equal(total(a), 0);
	clock_ahead_s += SHM_QUARANTINE_NS / SECOND_NS;
	assert_int_equal(member("key 3"), a);
	fold();
	assert_int_equal(total(a), 0);
	assert_int_equal(total(removed), 0);
}

/* --- time to live ----------------------------------------------------------------------------- */

static void second(void)
{
	registry_read_begin();
	idle_second(space, &config);
	registry_read_end();
	grace();
	fold();
}

static bool is_live(uint32_t slot)
{
	return generation(slot) & 1;
}

static void members_go_when_they_were_idle_for_their_time_to_live(void **state)
{
	uint32_t idle = member("idle"), busy = member("busy"), keep = member("keep"), other, stays;
	struct timespec t;

	(void)state;
	other = make(SHM_FAMILY, "views_total", 11, 0);
	stays = make(SHM_MEMBER, "idle", 4, other);
	second();
	assert_int_equal(space->rates.changed_s[idle], 0); /* no rule: nobody looked */
	config.rules[0] = (struct config_rule){ .glob = "likes_*", .ttl_s = 100 };
	config.rules[1] = (struct config_rule){ .glob = "likes_total{key=\"ke*\"}", .ttl_s = 0 };
	config.rules[2] = (struct config_rule){ .glob = "*", .ttl_s = CONFIG_TTL_UNSET };
	config.rules_nr = 3;
	shm_count_add(cell(idle), 1);
	second();
	clock_ahead_s += 99;
	second();
	assert_true(is_live(idle) && is_live(busy));
	clock_gettime(CLOCK_MONOTONIC, &t);
	space->rates.changed_s[busy] = (uint32_t)t.tv_sec;
	clock_ahead_s += 2;
	second();
	assert_false(is_live(idle));
	assert_true(is_live(busy) && is_live(keep) && is_live(stays));
	assert_int_equal(total(removed), 1);
	clock_ahead_s += 100;
	second();
	assert_false(is_live(busy));
	assert_true(is_live(keep) && is_live(stays));
}

#define MEMBERS_TEST(f) cmocka_unit_test_setup_teardown(f, members_set_up, members_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		MEMBERS_TEST(a_member_that_goes_is_not_found_and_its_sum_is_in_removed),
		MEMBERS_TEST(a_removal_is_asked_for_twice_and_for_nothing_else_than_members),
		MEMBERS_TEST(a_row_goes_with_its_member_and_comes_to_another),
		MEMBERS_TEST(a_key_that_comes_again_while_it_goes_is_another_member),
		MEMBERS_TEST(a_slot_comes_again_after_its_quarantine_with_its_name_record),
		MEMBERS_TEST(the_rate_of_a_slot_that_comes_again_is_its_new_members),
		MEMBERS_TEST(nothing_comes_again_before_the_fold_has_shown_that_it_is_gone),
		MEMBERS_TEST(
			nothing_comes_again_without_a_passed_self_test_or_beside_adds_without_rseq),
		MEMBERS_TEST(nothing_comes_again_while_a_thread_may_still_have_its_record),
		MEMBERS_TEST(a_slot_whose_generations_are_used_up_never_comes_again),
		MEMBERS_TEST(versions_go_on_from_one_owner_to_the_next),
		MEMBERS_TEST(a_new_worker_finds_who_is_free_and_ends_who_was_going),
		MEMBERS_TEST(an_add_without_rseq_that_comes_late_moves_to_removed),
		MEMBERS_TEST(a_cell_of_nobody_that_changes_is_a_stray_and_is_no_ones_count),
		MEMBERS_TEST(members_go_when_they_were_idle_for_their_time_to_live),
	};

	registry_enter();
	return cmocka_run_group_tests(tests, NULL, NULL);
}

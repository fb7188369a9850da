/*
 * The fold's parts on a region in this process: totals from rows, cold cells and bases however slots
 * are mixed, the copy that a dead worker left half written, the list of the busiest, and what happens
 * without memory. The test itself is the client that adds.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/worker/space/busy.h"
#include "daemon/worker/space/quota.h"
#include "daemon/worker/space/register.h"
#include "daemon/worker/space/totals.h"
#include "tests/lib/inside.h"

#define SECOND_NS 1000000000ull

static struct inside in;
static bool is_out_of_memory;

/* Stands before libc's: memory is committed by madvise alone (pages.c). */
int madvise(void *at, size_t bytes, int advice)
{
	if (is_out_of_memory && (advice == 22 || advice == 23)) { /* MADV_POPULATE_* */
		errno = ENOMEM;
		return -1;
	}
	return (int)syscall(SYS_madvise, at, bytes, advice);
}

static int set_up(void **state)
{
	struct config_rule *rule = &in.config.rules[0];

	(void)state;
	inside_start(&in, 10000);
	in.config.rules_nr = 1;
	strcpy(rule->glob, "hot_*");
	rule->hot = SHM_HOT_YES;
	rule->ttl_s = CONFIG_TTL_UNSET;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	inside_stop(&in);
	return 0;
}

static struct wire_result make_counter(unsigned int number, bool is_cold)
{
	char name[64];
	struct why why;
	struct claim c = {
		.type = SHM_COUNTER, .uid = 1000, .name = name,
		.help = "Of a test.", .help_len = 10,
	};
	struct wire_result r;
	struct quota quota;

	c.name_len = (uint32_t)snprintf(name, sizeof(name), "%s_%u_total",
					is_cold ? "cold" : "hot", number);
	registry_read_begin();
	quota_init(&quota, in.space, &in.config);
	register_claim(in.space, &quota, &c, &r, &why);
	registry_read_end();
	return r;
}

static int64_t fold_total(uint32_t slot)
{
	return (int64_t)space_totals(in.space, in.space->t->epoch & 1)[slot];
}

static void fold(void)
{
	static const struct fold_times times = { .mono_ns = 1, .real_ns = 1 };

	totals_fold(in.space, &times);
}

/* --- totals ----------------------------------------------------------------------------------- */

static void totals_are_rows_and_cold_cells_however_slots_are_mixed(void **state)
{
	static int64_t want[6000];
	static uint32_t slots[6000];
	unsigned int seed = 3;

	(void)state;
	for (unsigned int i = 0; i < 6000; i++) {
		/* Long runs with a row, long ones without, and every mix between them. */
		bool is_cold = i / 1000 % 3 == 1 || (i / 1000 % 3 == 2 && rand_r(&seed) & 1);
		struct wire_result r = make_counter(i, is_cold);

		assert_int_equal(r.err, 0);
		slots[i] = r.slot;
		inside_add_cold(&in, r.slot, (int64_t)i * 3 + 1);
		want[i] = (int64_t)i * 3 + 1;
		if (is_cold)
			continue;
		for (uint32_t cpu = 0; cpu < in.space->pages.lanes_nr; cpu++) {
			inside_add_row(&in, r.slot, cpu, (uint64_t)i << 20 | cpu);
			want[i] += (int64_t)i << 20 | cpu;
		}
	}
	for (unsigned int round = 0; round < 3; round++) {
		fold();
		for (unsigned int i = 0; i < 6000; i++)
			assert_true(fold_total(slots[i]) == want[i]);
		inside_add_cold(&in, slots[round * 2000], 7);
		want[round * 2000] += 7;
		if (round == 1)
			inside_restart(&in);
	}
}

static void a_base_is_part_of_the_total_after_a_restart_too(void **state)
{
	uint32_t slot = make_counter(1, false).slot;
	struct slot_shm *s = space_slot(in.space, slot);

	(void)state;
	inside_add_cold(&in, slot, 5);
	/* As PROTOCOL 2 commits a base: the other one first, then the state that makes it valid. */
	s->base[(state_version(s->state) + 1) & 1] = 1000;
	s->state = state_make(state_version(s->state) + 1, state_flags(s->state),
			      slot_row(s->state));
	inside_restart(&in);
	fold();
	assert_true(fold_total(slot) == 1005);
}

static void a_copy_that_a_dead_worker_left_half_written_is_made_whole(void **state)
{
	uint32_t slot = make_counter(1, false).slot, other = make_counter(2, false).slot;
	uint64_t epoch;

	(void)state;
	inside_add_cold(&in, slot, 5);
	fold();
	fold();
	epoch = in.space->t->epoch;
	space_totals(in.space, (epoch + 1) & 1)[slot] = 77;
	space_totals(in.space, (epoch + 1) & 1)[other] = 78;
	inside_restart(&in);
	fold();
	assert_true(in.space->t->epoch == epoch + 1);
	assert_true(fold_total(slot) == 5 && fold_total(other) == 0);
}

/* --- the busiest ------------------------------------------------------------------------------ */

static const struct busy_shm *second(void)
{
	fold();
	busy_tick(in.space, SECOND_NS, SECOND_NS);
	return (const struct busy_shm *)((const char *)in.space->t + SHM_T_BUSY +
					 (in.space->t->busy_tick & 1) * SHM_T_BUSY_BYTES);
}

static void the_busiest_are_listed_with_rates_and_lanes(void **state)
{
	uint32_t slow = inside_make(&in, SHM_LEVEL, "slow"), fast = make_counter(2, false).slot;
	const struct busy_shm *b;

	(void)state;
	b = second();
	assert_true(b->nr == 0 && b->all == 1);
	for (unsigned int i = 0; i < 3; i++) {
		inside_add_cold(&in, slow, 10);
		for (uint32_t cpu = 0; cpu < in.space->pages.lanes_nr && cpu < 2; cpu++)
			inside_add_row(&in, fast, cpu, cpu ? 100 : 300);
		b = second();
	}
	assert_true(b->nr == 2 && b->all == 1 && b->slot[0] == fast && b->slot[1] == slow);
	assert_true(b->generation[0] == slot_generation(space_slot(in.space, fast)->route));
	assert_true(b->rates[1][0] == 10 && b->rates[1][2] == 10 && b->rates[1][3] == 0);
	if (in.space->pages.lanes_nr > 1) {
		assert_true(b->rates[0][0] == 400 && b->lanes[0] == 2);
		assert_true(b->imbalance[0] == 1.5f); /* 300 over a mean of 200 */
	}
	inside_add_cold(&in, slow, (uint64_t)-4000);
	b = second();
	assert_true(b->slot[0] == slow && b->rates[0][0] == -4000 && b->rates[0][1] == 10);
}

static void what_no_longer_changes_leaves_the_list_after_a_minute(void **state)
{
	uint32_t slot = make_counter(1, true).slot;
	const struct busy_shm *b;

	(void)state;
	inside_add_cold(&in, slot, 6);
	b = second();
	for (unsigned int i = 1; i < SHM_HISTORY_NR; i++) {
		b = second();
		assert_true(b->nr == 1 && b->rates[0][i] == 6);
	}
	b = second();
	assert_true(b->nr == 0 && b->all == 1);
}

static void more_than_fit_list_the_busiest_and_say_so(void **state)
{
	const unsigned int nr = SHM_BUSY_NR + 500;
	uint32_t first = make_counter(0, true).slot;
	const struct busy_shm *b;

	(void)state;
	for (unsigned int i = 1; i < nr; i++)
		assert_int_equal(make_counter(i, true).slot, first + i);
	for (unsigned int i = 0; i < nr; i++)
		inside_add_cold(&in, first + i, i + 1);
	b = second();
	assert_true(b->nr == SHM_BUSY_NR && b->all == 0);
	for (unsigned int i = 0; i < SHM_BUSY_NR; i++)
		assert_true(b->slot[i] == first + nr - 1 - i && b->rates[i][0] == (float)(nr - i));
	/* One that was not listed overtakes: what it did before is not known. */
	inside_add_cold(&in, first, 100000);
	b = second();
	assert_true(b->nr == SHM_BUSY_NR && b->slot[0] == first && b->rates[0][0] == 100000);
	assert_true(isnan(b->rates[0][1]));
	for (unsigned int i = 0; i < SHM_HISTORY_NR; i++)
		b = second();
	assert_true(b->nr == 0 && b->all == 1);
}

static void a_new_worker_goes_on_with_the_list(void **state)
{
	uint32_t slot = make_counter(1, true).slot;
	const struct busy_shm *b;

	(void)state;
	inside_add_cold(&in, slot, 6);
	second();
	inside_add_cold(&in, slot, 7);
	second();
	inside_restart(&in);
	inside_add_cold(&in, slot, 8);
	b = second();
	assert_true(b->nr == 1 && b->all == 1 && b->tick == 3);
	assert_true(b->rates[0][0] == 8 && b->rates[0][1] == 7 && b->rates[0][2] == 6);
}

/* --- memory ----------------------------------------------------------------------------------- */

static void without_memory_new_counters_are_refused_and_later_ones_are_not(void **state)
{
	unsigned int made = 0;
	struct wire_result r = { .err = 0 };
	uint64_t refusals = in.space->d->refusals;
	uint32_t slots_nr;

	(void)state;
	/* What is committed already can be handed out; then nothing can. */
	is_out_of_memory = true;
	while (made < 100000 && (r = make_counter(made, true)).err == 0)
		made++;
	assert_int_equal(r.err, -ENOMEM);
	assert_int_equal(r.slot, SHM_SLOT_OVERFLOW);
	assert_true(in.space->d->refusals == refusals + 1);
	slots_nr = space_slots_nr(in.space);
	is_out_of_memory = false;
	r = make_counter(made, true);
	assert_true(r.err == 0 && r.slot == slots_nr);
	for (unsigned int i = 0; i < made; i++)
		assert_int_equal(make_counter(i, true).slot, r.slot - made + i);
}

static void without_memory_for_rows_a_counter_is_cold(void **state)
{
	struct wire_result r;

	(void)state;
	is_out_of_memory = true;
	r = make_counter(1, false);
	is_out_of_memory = false;
	assert_int_equal(r.err, 0);
	assert_int_equal(slot_row(space_slot(in.space, r.slot)->route), SHM_ROW_NONE);
	assert_int_equal(in.space->heat.waiting_nr, 1);
}

int main(void)
{
#define FOLD_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		FOLD_TEST(totals_are_rows_and_cold_cells_however_slots_are_mixed),
		FOLD_TEST(a_base_is_part_of_the_total_after_a_restart_too),
		FOLD_TEST(a_copy_that_a_dead_worker_left_half_written_is_made_whole),
		FOLD_TEST(the_busiest_are_listed_with_rates_and_lanes),
		FOLD_TEST(what_no_longer_changes_leaves_the_list_after_a_minute),
		FOLD_TEST(more_than_fit_list_the_busiest_and_say_so),
		FOLD_TEST(a_new_worker_goes_on_with_the_list),
		FOLD_TEST(without_memory_new_counters_are_refused_and_later_ones_are_not),
		FOLD_TEST(without_memory_for_rows_a_counter_is_cold),
	};

	registry_enter();
	return cmocka_run_group_tests(tests, NULL, NULL);
}

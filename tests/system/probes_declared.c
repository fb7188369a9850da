/*
 * Declared probes on the real kernel: every kind of event, filter and amount, counted exactly, and what
 * is refused. Root only. Keys are probes_declared_keys.c.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/lib/declared.h"
#include "tests/lib/usdt.h"

/* --- what is counted -------------------------------------------------------------------------- */

static uint64_t sum_of_keys(const struct probe_live *live)
{
	uint32_t keys_nr;

	return declared_kept(live, &keys_nr);
}

long declared_target(long a, int b);
__attribute__((noinline)) long declared_target(long a, int b)
{
	__asm__ volatile("" : "+r"(a) : "r"(b));
	return a < 0 ? -EAGAIN : a * 2;
}

int declared_int_target(int a);
__attribute__((noinline)) int declared_int_target(int a)
{
	__asm__ volatile("" : "+r"(a));
	return -a;
}

/* a: each of 0 to 9 `times` times; b: -3. */
static void call_targets(unsigned int times)
{
	for (unsigned int i = 0; i < 10 * times; i++)
		declared_target(i % 10, -3);
}

USDT_SEMAPHORE(declared_semaphore);

/* Two sites, whose compilers would have put their arguments at different places. */
__attribute__((noinline)) static void fire(long a, int b)
{
	USDT2(talea, fired, declared_semaphore, a, b);
}

__attribute__((noinline)) static void fire_constant(void)
{
	USDT2(talea, fired, declared_semaphore, 77L, -7);
}

__attribute__((noinline)) static void fire_unwatched(short a)
{
	USDT1(talea, unwatched, a);
}

/* --- events ----------------------------------------------------------------------------------- */

static void a_raw_tracepoint_counts_each_call(void **state)
{
	struct probe_live live;

	(void)state;
	declared_begin("raw_tp:sys_enter if arg1 == $RARE and tgid == $TGID", &live);
	declared_call(1000);
	assert_int_equal(declared_total(&live), 1000);
	declared_end(&live);
}

static void a_typed_tracepoint_counts_each_call(void **state)
{
	struct probe_live live;

	(void)state;
	declared_begin("tp_btf:sys_enter if arg1 == $RARE and tgid == $TGID", &live);
	declared_call(1000);
	assert_int_equal(declared_total(&live), 1000);
	declared_end(&live);
}

static void a_uprobe_counts_each_call_of_a_function_of_this_program(void **state)
{
	struct probe_live live;

	(void)state;
	declared_begin("uprobe:$SELF:declared_target if tgid == $TGID", &live);
	call_targets(100);
	assert_int_equal(declared_total(&live), 1000);
	declared_end(&live);
	call_targets(1);
}

static void a_library_is_found_by_its_name(void **state)
{
	struct probe_live live;
	void *volatile p;

	(void)state;
	if (TEST_IS_SANITIZED)
		test_skip("malloc is the sanitizer's here");
	declared_begin("uprobe:libc.so.6:malloc if tgid == $TGID and arg0 == 7777", &live);
	for (unsigned int i = 0; i < 1000; i++) {
		p = malloc(7777);
		free(p);
	}
	assert_int_equal(declared_total(&live), 1000);
	declared_end(&live);
}

static void a_uretprobe_knows_the_result(void **state)
{
	struct probe_live live;

	(void)state;
	declared_begin("uretprobe:$SELF:declared_target by retval if tgid == $TGID", &live);
	call_targets(100);
	for (int64_t a = 0; a < 10; a++)
		assert_int_equal(declared_member_of(&live, 2 * a), 100);
	assert_int_equal(live.sources[0].def.keys[0].kind, TALEA_KEY_S64);
	declared_end(&live);
}

static void a_result_of_int_or_long_is_an_error_number(void **state)
{
	struct probe_live wide, narrow;

	(void)state;
	declared_begin("uretprobe:$SELF:declared_target by errno if tgid == $TGID", &wide);
	declared_begin("uretprobe:$SELF:declared_int_target by errno if tgid == $TGID", &narrow);
	for (unsigned int i = 0; i < 300; i++) {
		declared_target(-1, 0);
		declared_int_target(EIO);
	}
	call_targets(1);
	declared_int_target(-5);
	declared_int_target(4096);
	assert_int_equal(declared_member_of(&wide, EAGAIN), 300);
	assert_int_equal(declared_member_of(&wide, 0), 10);
	assert_int_equal(declared_member_of(&narrow, EIO), 300);
	assert_int_equal(declared_member_of(&narrow, 0), 2);
	declared_end(&wide);
	declared_end(&narrow);
}

static void a_usdt_counts_at_all_its_sites_with_each_site_s_arguments(void **state)
{
	struct probe_live live;

	(void)state;
	assert_int_equal(declared_semaphore, 0);
	declared_begin("usdt:$SELF:talea:fired by arg0,arg1 if tgid == $TGID", &live);
	assert_true(declared_semaphore > 0);
	assert_true(live.links_nr >= 2);
	for (long i = 0; i < 300; i++) {
		fire(i % 3, -1);
		fire_constant();
	}
	for (int64_t a = 0; a < 3; a++)
		assert_int_equal(declared_member(&live, (int64_t[]){ a, -1 }), 100);
	assert_int_equal(declared_member(&live, (int64_t[]){ 77, -7 }), 300);
	assert_int_equal(sum_of_keys(&live), 600);
	assert_int_equal(live.sources[0].def.keys[1].kind, TALEA_KEY_S64);
	declared_end(&live);
	assert_int_equal(declared_semaphore, 0);
}

static void a_usdt_without_a_semaphore_counts_too(void **state)
{
	struct probe_live live;

	(void)state;
	declared_begin("usdt:$SELF:talea:unwatched by arg0 if tgid == $TGID", &live);
	for (int i = 0; i < 100; i++)
		fire_unwatched((short)-i);
	for (int64_t a = 0; a > -100; a--)
		assert_int_equal(declared_member_of(&live, a), 1);
	declared_end(&live);
}

static void skip_where_refused(const char *declared)
{
	struct probe_live live;

	if (declared_try(declared, &live) == -EPERM) {
		print_message("# %s\n", live.reason);
		test_skip("this kernel forbids fentry and fexit");
	}
	if (live.state != WIRE_PROBE_ATTACHED)
		fail_msg("%s: %s", declared, live.reason);
	declared_end(&live);
}

static void a_kernel_function_is_counted_at_entry(void **state)
{
	struct probe_live live;

	(void)state;
	skip_where_refused("fentry:vfs_write");
	declared_begin("fentry:__x64_sys_sched_get_priority_max if tgid == $TGID", &live);
	declared_call(1000);
	assert_int_equal(declared_total(&live), 1000);
	declared_end(&live);
}

static void a_kernel_function_s_result_is_known_at_return(void **state)
{
	struct probe_live live;

	(void)state;
	skip_where_refused("fexit:vfs_write");
	declared_begin("fexit:__x64_sys_close by errno,retval if tgid == $TGID", &live);
	for (unsigned int i = 0; i < 100; i++)
		close(-1);
	assert_int_equal(declared_member(&live, (int64_t[]){ EBADF, -EBADF }), 100);
	declared_end(&live);
}

/* --- filters and amounts ---------------------------------------------------------------------- */

static void each_comparison_lets_through_what_it_says(void **state)
{
	static const struct {
		const char *filter;
		unsigned int tenths;
	} filters[] = {
		{ "arg0 == 3", 1 }, { "arg0 != 3", 9 }, { "arg0 < 3", 3 }, { "arg0 <= 3", 4 },
		{ "arg0 > 3", 6 }, { "arg0 >= 3", 7 }, { "arg0 & 1", 5 }, { "arg0 & 16", 0 },
		{ "arg0 > -1", 10 }, { "arg0 < 0", 0 }, { "arg0 >= 2 and arg0 < 4", 2 },
		{ "comm == no-such", 0 }, { "comm != no-such", 10 }, { "uid == 0", 10 },
		{ "uid != 0", 0 }, { "pid == $TGID", 10 }, { "cpu >= 0", 10 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++) {
		struct probe_live live;
		char declared[160];

		snprintf(declared, sizeof(declared),
			 "uprobe:$SELF:declared_target if tgid == $TGID and %s", filters[i].filter);
		declared_begin(declared, &live);
		call_targets(20);
		if (declared_total(&live) != 20 * filters[i].tenths)
			fail_msg("%s: %llu", filters[i].filter,
				 (unsigned long long)declared_total(&live));
		declared_end(&live);
	}
}

static void amounts_are_summed_and_their_events_counted(void **state)
{
	struct probe_live plain, keyed;

	(void)state;
	declared_begin("uprobe:$SELF:declared_target if tgid == $TGID add arg0", &plain);
	declared_begin("uprobe:$SELF:declared_target by tgid if tgid == $TGID add arg0", &keyed);
	assert_int_equal(plain.sources[0].is_amount, 1);
	call_targets(100);
	assert_int_equal(declared_total(&plain), 100 * 45);
	assert_int_equal(declared_cell(&plain, TALEA_SOURCE_EVENTS), 1000);
	assert_int_equal(declared_member_of(&keyed, getpid()), 100 * 45);
	assert_int_equal(declared_cell(&keyed, TALEA_SOURCE_EVENTS), 1000);
	assert_int_equal(declared_total(&keyed), 0);
	declared_end(&plain);
	declared_end(&keyed);
}

static void an_amount_below_zero_adds_nothing(void **state)
{
	struct probe_live live;

	(void)state;
	declared_begin("uretprobe:$SELF:declared_target if tgid == $TGID add retval", &live);
	for (long i = 0; i < 100; i++) {
		declared_target(-1, 0);
		declared_target(5, 0);
	}
	assert_int_equal(declared_total(&live), 1000);
	assert_int_equal(declared_cell(&live, TALEA_SOURCE_EVENTS), 200);
	declared_end(&live);
}

/* --- what is wrong ---------------------------------------------------------------------------- */

static void what_cannot_be_is_refused_in_words(void **state)
{
	static const char *const refused[][3] = {
		{ "tp_btf:sched_swich", "no tracepoint sched_swich", "" },
		{ "raw_tp:sched_swich", "no tracepoint sched_swich", "" },
		{ "fentry:vfs_raed", "no kernel function vfs_raed", "" },
		{ "tp_btf:sys_enter by arg4", "sys_enter has no arg4: they are arg0 to arg1", "" },
		{ "tp_btf:sched_switch add arg1", "the amount is a pointer", "" },
		{ "uprobe:$SELF:no_such", "has no function no_such", "talea probes --available" },
		{ "uprobe:libnosuch.so.1:f", "no library libnosuch.so.1 is where the", "ldconfig" },
		{ "uprobe:/no/such/file:f", "there is no file /no/such/file", "" },
		{ "uprobe:/etc/passwd:f", "/etc/passwd is no 64-bit program or library", "" },
		{ "uprobe:libc.so.6:memcpy", "chosen when a program starts", "" },
		{ "usdt:$SELF:talea:no_such", "has no USDT talea:no_such", "talea probes --avail" },
		{ "usdt:$SELF:talea:fired by arg2", "talea:fired has no arg2", "" },
		{ "raw_tp:sys_enter if cgroup == /no/such", "there is no cgroup /no/such", "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		struct probe_live live;

		assert_true(declared_try(refused[i][0], &live) < 0);
		assert_int_equal(live.state, WIRE_PROBE_FAILED);
		assert_int_equal(live.links_nr, 0);
		if (!strstr(live.reason, refused[i][1]) || !strstr(live.fix, refused[i][2]))
			fail_msg("%s: %s; fix: %s", refused[i][0], live.reason, live.fix);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_raw_tracepoint_counts_each_call),
		cmocka_unit_test(a_typed_tracepoint_counts_each_call),
		cmocka_unit_test(a_uprobe_counts_each_call_of_a_function_of_this_program),
		cmocka_unit_test(a_library_is_found_by_its_name),
		cmocka_unit_test(a_uretprobe_knows_the_result),
		cmocka_unit_test(a_result_of_int_or_long_is_an_error_number),
		cmocka_unit_test(a_usdt_counts_at_all_its_sites_with_each_site_s_arguments),
		cmocka_unit_test(a_usdt_without_a_semaphore_counts_too),
		cmocka_unit_test(a_kernel_function_is_counted_at_entry),
		cmocka_unit_test(a_kernel_function_s_result_is_known_at_return),
		cmocka_unit_test(each_comparison_lets_through_what_it_says),
		cmocka_unit_test(amounts_are_summed_and_their_events_counted),
		cmocka_unit_test(an_amount_below_zero_adds_nothing),
		cmocka_unit_test(what_cannot_be_is_refused_in_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

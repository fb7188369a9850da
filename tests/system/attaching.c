/*
 * Adds made before there is a daemon, after the handle's object was closed, through two daemons, and
 * before any fold has seen the counter: each counted exactly once, where it belongs.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include "client/include/talea.h"
#include "tests/lib/child.h"
#include "tests/lib/client.h"
#include "tests/lib/harness.h"

static struct harness h;

static int start(void **state)
{
	(void)state;
	harness_start(&h, NULL, NULL);
	return 0;
}

static int clean_up(void **state)
{
	(void)state;
	harness_cleanup(&h);
	return 0;
}

static int add_before_the_daemon(void *arg)
{
	struct talea *t = client_open("default");
	struct talea_status s = { .size = sizeof(s) };
	struct talea_counter c;
	struct talea_family f;
	const int *ready = arg;
	char byte = 1;
	int status;
	pid_t pid;

	CHECK(talea_counter(t, &c, "early_total", "Of a test.", NULL) <= 0);
	CHECK(talea_family(t, &f, "early_keys_total", "Of a test.", "key:u64") <= 0);
	talea_add(c, 100);
	for (uint64_t key = 0; key < 10; key++)
		talea_family_add(&f, &key, sizeof(key), key);
	/* The child has its own private adds and none of its parent's. */
	pid = test_fork();
	if (pid == 0) {
		talea_add(c, 10);
		CHECK(write(ready[1], &byte, 1) == 1);
		for (int i = 0; i < 3000; i++) {
			talea_status(t, &s);
			if (s.connected && !s.private_adds)
				_exit(0);
			harness_sleep_ms(10);
		}
		_exit(1);
	}
	CHECK(talea_status(t, &s) <= 0);
	CHECK(!s.connected && s.private_adds == 100 + 45);
	CHECK(write(ready[1], &byte, 1) == 1);
	for (int i = 0; i < 3000 && !(s.connected && !s.private_adds); i++) {
		talea_status(t, &s);
		harness_sleep_ms(10);
	}
	CHECK(s.connected && !s.private_adds);
	talea_add(c, 1);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	talea_close(t);
	return 0;
}

static void adds_made_before_the_daemon_are_carried_over_once(void **state)
{
	int ready[2];
	char byte;
	pid_t pid;

	(void)state;
	harness_prepare(&h, NULL, NULL);
	assert_int_equal(pipe(ready), 0);
	pid = harness_client(&h, add_before_the_daemon, ready);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	harness_launch(&h);
	assert_int_equal(harness_wait(pid), 0);
	client_expect(&h, "default", "early_total", 111);
	client_expect(&h, "default", "early_keys_total{key=\"9\"}", 9);
	client_expect(&h, "default", "early_keys_total{key=\"1\"}", 1);
	close(ready[0]);
	close(ready[1]);
	harness_stop(&h);
}

/* Adds before, while and after there is no daemon; the second region begins at zero. */
static int add_through_two_daemons(void *arg)
{
	struct talea *t = client_open("default");
	struct talea_status s = { .size = sizeof(s) };
	struct talea_counter c = client_declare(t, "two_total");
	int *steps = arg;
	char byte = 1;

	talea_add(c, 5);
	CHECK(write(steps[1], &byte, 1) == 1);
	CHECK(read(steps[2], &byte, 1) == 1); /* the second daemon is there */
	for (int i = 0; i < 3000; i++) {
		if (talea_status(t, &s) == 0 && s.connected && !s.private_adds)
			break;
		harness_sleep_ms(10);
	}
	CHECK(s.connected);
	for (int i = 0; i < 1000; i++)
		talea_inc(c);
	talea_close(t);
	return 0;
}

static void a_handle_counts_in_the_region_of_the_next_daemon(void **state)
{
	int out[2], in[2], steps[3];
	struct wire_status s;
	char byte = 1;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(out), 0);
	assert_int_equal(pipe(in), 0);
	steps[1] = out[1];
	steps[2] = in[0];
	pid = harness_client(&h, add_through_two_daemons, steps);
	assert_int_equal(read(out[0], &byte, 1), 1);
	harness_status(&h, &s);
	kill((pid_t)s.keeper_pid, SIGTERM);
	while (kill(-h.pid, 0) == 0) {
		while (waitpid(-h.pid, NULL, WNOHANG) > 0)
			;
		harness_sleep_ms(5);
	}
	harness_launch(&h);
	assert_int_equal(write(in[1], &byte, 1), 1);
	assert_int_equal(harness_wait(pid), 0);
	client_expect(&h, "default", "two_total", 1000);
	harness_stop(&h);
}

static int add_after_close(void *arg)
{
	struct talea *t = client_open("default");
	struct talea_counter c = client_declare(t, "closed_total");

	(void)arg;
	talea_inc(c);
	talea_close(t);
	talea_add(c, 9);
	return 0;
}

static void a_handle_counts_after_close(void **state)
{
	(void)state;
	harness_run(&h, add_after_close, NULL);
	client_expect(&h, "default", "closed_total", 10);
	harness_stop(&h);
}

static int note_value(const char *name, const struct talea_total *total, void *arg)
{
	(void)name;
	*(int64_t *)arg = *(int64_t *)arg * 10 + total->value;
	return 0;
}

/* The fold comes once a second here: what is made just after one is unknown to T for long. */
static int sum_what_no_fold_has_seen(void *arg)
{
	struct talea *t = client_open("default");
	struct talea_family f;

	(void)arg;
	CHECK(talea_family(t, &f, "young_total", "Of a test.", "key:u64") == 0);
	CHECK(talea_sync(t, 10000) == 0);
	for (uint64_t key = 0; key < 4; key++) {
		int64_t digits = 0;

		CHECK(talea_family_add(&f, &key, sizeof(key), key + 1) == (key < 3 ? 0 : -EDQUOT));
		CHECK(talea_each(t, "young_total", TALEA_SUM, note_value, &digits) == 0);
		/* `other` has the lowest slot, so it comes first. */
		CHECK(digits == (key == 3 ? 4123 : key == 2 ? 123 : key == 1 ? 12 : 1));
	}
	talea_close(t);
	return 0;
}

static void the_sum_of_all_sees_counters_that_no_fold_has_seen(void **state)
{
	(void)state;
	harness_start(&h, "bpf = off\nfold = 1s", "[counter young_total]\nlabels-max = 3\n");
	harness_run(&h, sum_what_no_fold_has_seen, NULL);
	harness_stop(&h);
}

#define ATTACH_TEST(f) cmocka_unit_test_setup_teardown(f, start, clean_up)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(adds_made_before_the_daemon_are_carried_over_once, clean_up),
		ATTACH_TEST(a_handle_counts_in_the_region_of_the_next_daemon),
		ATTACH_TEST(a_handle_counts_after_close),
		cmocka_unit_test_teardown(the_sum_of_all_sees_counters_that_no_fold_has_seen,
					  clean_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

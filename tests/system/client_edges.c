/*
 * The library where it is asked for what cannot be, interrupted, or short of something: one bad
 * declaration, thread, limit or closed file must not cost another counter its adds.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "client/include/talea.h"
#include "shm/order.h"
#include "tests/lib/child.h"
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

static struct talea *open_with(const char *sock, unsigned int flags, int timeout_ms)
{
	struct talea_options options = { .size = sizeof(options), .socket = sock, .flags = flags,
					 .timeout_ms = timeout_ms };
	struct talea *t;

	CHECK(talea_open(&t, &options) == 0);
	return t;
}

static int64_t sum_of(struct talea *t, const char *name)
{
	struct talea_total n = { .size = sizeof(n) };

	CHECK(talea_read_name(t, name, TALEA_SUM, 0, &n) == 0);
	return n.value;
}

static uint64_t private_adds(struct talea *t)
{
	struct talea_status s = { .size = sizeof(s) };

	CHECK(talea_status(t, &s) == 0);
	return s.private_adds;
}

static int declare_what_is_too_long(void *arg)
{
	struct talea *t = open_with(NULL, 0, 0);
	struct talea_counter c, after;
	struct talea_family f;
	static char text[3000];

	(void)arg;
	memset(text, 'h', 2000);
	CHECK(talea_counter(t, &c, "long_total", text, NULL) == -EINVAL);
	CHECK(strstr(talea_strerror(t, -EINVAL), "help"));
	talea_inc(c);
	CHECK(talea_family(t, &f, text, "Of a test.", "key") == -EINVAL);
	CHECK(talea_family_add(&f, "a", 1, 2) == -EINVAL);
	CHECK(talea_family(t, &f, "", "Of a test.", "key") == -EINVAL);
	CHECK(talea_family_add(&f, "a", 1, 4) == -EINVAL);
	CHECK(talea_counter(t, &after, "after_total", "Of a test.", NULL) == 0);
	talea_add(after, 8);
	CHECK(private_adds(t) == 0);
	CHECK(sum_of(t, "after_total") == 8);
	CHECK(sum_of(t, "talea_overflow_total") == 7);
	talea_close(t);
	return 0;
}

static void what_is_too_long_is_refused_alone(void **state)
{
	(void)state;
	harness_run(&h, declare_what_is_too_long, NULL);
	harness_stop(&h);
}

static int declare_a_family_twice(void *arg)
{
	struct talea *t = open_with(NULL, 0, 0);
	struct talea_family f, g;
	struct talea_level l;

	(void)arg;
	CHECK(talea_family(t, &f, "twice_total", "Of a test.", "key") == 0);
	CHECK(talea_family_add(&f, "a", 1, 5) == 0);
	CHECK(talea_level_family(t, &g, "twice_total", "Of a test.", "key") == -EEXIST);
	CHECK(talea_level_family_add(&g, "a", 1, -3) == -EINVAL);
	CHECK(talea_level_family_get(&g, "a", 1, &l) == -EINVAL);
	talea_level_add(l, -1);
	CHECK(sum_of(t, "twice_total{key=\"a\"}") == 5);
	CHECK(sum_of(t, "talea_overflow") == -4);
	talea_close(t);
	return 0;
}

static void a_family_declared_as_another_counts_in_overflow(void **state)
{
	(void)state;
	harness_run(&h, declare_a_family_twice, NULL);
	harness_stop(&h);
}

static int add_through_read_only(void *arg)
{
	struct talea *w = open_with(NULL, 0, 0), *t = open_with(NULL, TALEA_READ_ONLY, 0);
	struct talea_family f, known, unknown;
	struct talea_counter c;

	(void)arg;
	CHECK(talea_family(w, &f, "seen_total", "Of a test.", "key") == 0);
	CHECK(talea_family_add(&f, "a", 1, 5) == 0);
	CHECK(talea_family(t, &known, "seen_total", "Of a test.", "key") == 0);
	CHECK(talea_family(t, &unknown, "unseen_total", "Of a test.", "key") == 0);
	CHECK(talea_family_get(&known, "a", 1, &c) == 0);
	talea_add(c, 1);
	CHECK(talea_family_get(&unknown, "a", 1, &c) == 0);
	talea_add(c, 2);
	CHECK(talea_family_add(&known, "", 0, 4) == -EINVAL);
	CHECK(talea_family_add(&unknown, "", 0, 8) == -EINVAL);
	CHECK(private_adds(t) == 15);
	CHECK(sum_of(w, "seen_total{key=\"a\"}") == 5);
	talea_close(t);
	talea_close(w);
	return 0;
}

static void families_of_a_read_only_attachment_count_privately(void **state)
{
	(void)state;
	harness_run(&h, add_through_read_only, NULL);
	harness_stop(&h);
}

static int misuse(void *arg)
{
	struct talea_options o = { .size = sizeof(o), .socket = "/nonexistent",
				   .flags = TALEA_NEED_DAEMON };
	struct talea *t = (struct talea *)&o;
	struct talea_family f = { NULL };
	struct talea_counter c = { NULL };
	const char *labels[65] = { NULL };

	(void)arg;
	CHECK(talea_open(&t, &o) == -ECONNREFUSED && !t);
	t = open_with(NULL, 0, 0);
	CHECK(talea_family(t, &f, NULL, "Of a test.", "key") == -EINVAL);
	CHECK(talea_family_add(&f, "a", 1, 1) == -EINVAL);
	CHECK(talea_family_get(&f, "a", 1, &c) == -EINVAL);
	talea_inc(c);
	for (int i = 0; i < 64; i++)
		labels[i] = i & 1 ? "v" : "same";
	CHECK(talea_counter_v(t, &c, "repeated_total", "Of a test.", labels) == -EINVAL);
	talea_inc(c);
#define FOUR(a) a "0", "v", a "1", "v", a "2", "v", a "3", "v"
#define PAIRS(a) FOUR(a "x"), FOUR(a "y")
	CHECK(talea_counter(t, &c, "labelled_total", "Of a test.", PAIRS("a"), PAIRS("b"),
			    PAIRS("c"), PAIRS("d"), NULL) == 0);
	CHECK(talea_counter(t, &c, "labelled_total", "Of a test.", PAIRS("a"), PAIRS("b"),
			    PAIRS("c"), PAIRS("d"), "e", "v", NULL) == -EINVAL);
	talea_close(t);
	return 0;
}

static void every_failed_call_leaves_what_it_promises(void **state)
{
	(void)state;
	harness_run(&h, misuse, NULL);
	harness_stop(&h);
}

static int name_a_key_twice(void *arg)
{
	struct talea *t = open_with(NULL, 0, 200);
	const struct talea_key keys[2] = { { "x", 1, 0 }, { "x", 1, 0 } };
	struct talea_counter c[2], late;
	struct talea_family f;
	pid_t worker = *(pid_t *)arg;
	uint64_t since = 0;

	CHECK(talea_family(t, &f, "double_total", "Of a test.", "key") == 0);
	CHECK(talea_family_get_many(&f, keys, 2, c) == 0);
	CHECK(kill(worker, SIGSTOP) == 0);
	CHECK(talea_counter(t, &late, "late_total", "Of a test.", NULL) == -ETIMEDOUT);
	talea_add(late, 7);
	CHECK(kill(worker, SIGCONT) == 0);
	while (private_adds(t) && harness_waits(&since))
		;
	CHECK(sum_of(t, "late_total") == 7);
	_exit(0); /* without the last chance at exit */
}

static void a_key_named_twice_leaves_later_ones_carried_over(void **state)
{
	struct wire_status s;
	pid_t worker;

	(void)state;
	harness_status(&h, &s);
	worker = (pid_t)s.worker_pid;
	harness_run(&h, name_a_key_twice, &worker);
	harness_stop(&h);
}

static void *declare_one(void *arg)
{
	struct talea_counter c;

	talea_counter(arg, &c, "cancelled_total", "Of a test.", NULL);
	return NULL;
}

static int cancel_a_waiting_thread(void *arg)
{
	struct talea *t = open_with(NULL, 0, 500);
	pid_t worker = *(pid_t *)arg, pid;
	struct talea_counter c;
	pthread_t thread;
	int status;

	CHECK(kill(worker, SIGSTOP) == 0);
	CHECK(pthread_create(&thread, NULL, declare_one, t) == 0);
	harness_sleep_ms(50);
	CHECK(pthread_cancel(thread) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(kill(worker, SIGCONT) == 0);
	CHECK(talea_counter(t, &c, "others_total", "Of a test.", NULL) == 0);
	alarm(60);
	pid = test_fork();
	if (pid == 0)
		_exit(0);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	return 0;
}

static void a_cancelled_thread_takes_no_lock_along(void **state)
{
	struct wire_status s;
	pid_t worker;

	(void)state;
	harness_status(&h, &s);
	worker = (pid_t)s.worker_pid;
	harness_run(&h, cancel_a_waiting_thread, &worker);
	harness_stop(&h);
}

static int attach_in_little_space(void *arg)
{
	struct rlimit limit = { 6ul << 30, 6ul << 30 };
	struct talea *t;
	long pages = 0;
	FILE *f;

	(void)arg;
	CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
	for (int i = 0; i < 10; i++) {
		CHECK(talea_open(&t, NULL) == -ENOMEM);
		talea_close(t);
	}
	f = fopen("/proc/self/statm", "re");
	CHECK(f && fscanf(f, "%ld", &pages) == 1);
	fclose(f);
	CHECK(pages < 1 << 18); /* 1 GiB */
	return 0;
}

static void a_failed_mapping_leaves_no_address_space_taken(void **state)
{
	(void)state;
	if (TEST_IS_SANITIZED)
		test_skip("sanitizers need address space of their own");
	harness_run(&h, attach_in_little_space, NULL);
	harness_stop(&h);
}

static int close_all_files(void *arg)
{
	struct talea *t = open_with(NULL, 0, 0);
	struct talea_counter c;
	char text[8] = "";
	int ends[2];

	(void)arg;
	closefrom(3);
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0);
	CHECK(send(ends[0], "mine", 5, 0) == 5 && send(ends[1], "mine", 5, 0) == 5);
	CHECK(talea_counter(t, &c, "closed_total", "Of a test.", NULL) == 0);
	CHECK(recv(ends[0], text, sizeof(text), MSG_DONTWAIT) == 5);
	CHECK(recv(ends[1], text, sizeof(text), MSG_DONTWAIT) == 5);
	talea_close(t);
	CHECK(send(ends[0], "mine", 5, 0) == 5);
	return 0;
}

static void a_socket_in_place_of_ours_is_neither_read_nor_closed(void **state)
{
	(void)state;
	harness_run(&h, close_all_files, NULL);
	harness_stop(&h);
}

static int attach_to_a_full_queue(void *arg)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	struct talea_counter c;
	struct talea *t[4];

	(void)arg;
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/full", h.folder);
	CHECK(bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0 && listen(fd, 0) == 0);
	for (int i = 0; i < 4; i++) {
		uint64_t begin = harness_now_ns();
		int other = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0);

		connect(other, (struct sockaddr *)&sa, sizeof(sa));
		t[i] = open_with(sa.sun_path, 0, 100);
		CHECK(harness_now_ns() - begin >= 100000000);
	}
	CHECK(talea_counter(t[0], &c, "queued_total", "Of a test.", NULL) == -ETIMEDOUT);
	talea_inc(c);
	return 0;
}

static void a_full_queue_is_a_daemon_that_does_not_answer(void **state)
{
	(void)state;
	harness_run(&h, attach_to_a_full_queue, NULL);
	harness_stop(&h);
}

/* --- records of two attachments ------------------------------------------------------------- */

#define KEYS 20000
#define OTHERS 20000
static struct talea_counter others[OTHERS];
static int made;
static uint32_t stop;

static void *declare_others(void *arg)
{
	while (made < OTHERS && !shm_read32(&stop)) {
		char name[64];

		snprintf(name, sizeof(name), "other_%d_total", made);
		talea_counter(arg, &others[made++], name, "Of a test.", NULL);
	}
	return NULL;
}

/* One thread binds what was private, another cannot get the lock and makes private counters. */
static int bind_beside_private_declarations(void *arg)
{
	static uint64_t values[KEYS];
	static struct talea_key keys[KEYS];
	struct talea *absent = open_with("/nonexistent", 0, 1), *t;
	char link[128], name[64];
	struct talea_family f;
	pthread_t thread;

	(void)arg;
	snprintf(link, sizeof(link), "%s/late", h.folder);
	t = open_with(link, 0, 5000);
	CHECK(talea_family(t, &f, "beside_total", "Of a test.", "key:u64") == 0);
	for (int i = 0; i < KEYS; i++) {
		values[i] = (uint64_t)i;
		keys[i] = (struct talea_key){ &values[i], 8, 1 };
	}
	CHECK(talea_family_add_many(&f, keys, KEYS) == 0);
	CHECK(private_adds(t) == KEYS);
	CHECK(pthread_create(&thread, NULL, declare_others, absent) == 0);
	CHECK(symlink(h.socket, link) == 0);
	for (int i = 0; i < 20 && private_adds(t); i++)
		;
	shm_set32(&stop, 1);
	CHECK(pthread_join(thread, NULL) == 0);
	for (int i = 0; i < made; i++)
		talea_add(others[i], 3);
	CHECK(private_adds(absent) == 3 * (uint64_t)made);
	for (int i = 0; i < KEYS; i++) {
		snprintf(name, sizeof(name), "beside_total{key=\"%d\"}", i);
		CHECK(sum_of(t, name) == 1);
	}
	_exit(0);
}

static void binding_and_private_declarations_share_no_record(void **state)
{
	(void)state;
	harness_run(&h, bind_beside_private_declarations, NULL);
	harness_stop(&h);
}

#define EDGE_TEST(f) cmocka_unit_test_setup_teardown(f, start, clean_up)

static int declare_a_name_of_taleas_own(void *arg)
{
	struct talea *t = open_with(NULL, 0, 0);
	struct talea_total n = { .size = sizeof(n) };
	struct talea_counter c;
	char help[1025];

	(void)arg;
	CHECK(talea_read_name(t, "kernel_context_switches_total", TALEA_COMPACTED, 0, &n) == 0);
	snprintf(help, sizeof(help), "%s", n.help);
	CHECK(talea_counter(t, &c, "kernel_context_switches_total", help, NULL) == -EINVAL);
	CHECK(strstr(talea_strerror(t, -EINVAL), "counted by talea itself"));
	talea_add(c, 1000000000000);
	CHECK(talea_sync(t, 5000) == 0);
	CHECK(talea_read_name(t, "kernel_context_switches_total", TALEA_COMPACTED, 0, &n) == 0);
	CHECK(n.value < 1000000000000);
	CHECK(sum_of(t, "talea_overflow_total") == 1000000000000);
	talea_close(t);
	return 0;
}

static void a_program_cannot_add_to_what_the_kernel_counts(void **state)
{
	(void)state;
	harness_stop(&h);
	harness_start(&h, "probes = context_switches\n", NULL);
	harness_run(&h, declare_a_name_of_taleas_own, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		EDGE_TEST(what_is_too_long_is_refused_alone),
		EDGE_TEST(a_family_declared_as_another_counts_in_overflow),
		EDGE_TEST(families_of_a_read_only_attachment_count_privately),
		EDGE_TEST(every_failed_call_leaves_what_it_promises),
		EDGE_TEST(a_key_named_twice_leaves_later_ones_carried_over),
		EDGE_TEST(a_cancelled_thread_takes_no_lock_along),
		EDGE_TEST(a_failed_mapping_leaves_no_address_space_taken),
		EDGE_TEST(a_socket_in_place_of_ours_is_neither_read_nor_closed),
		EDGE_TEST(a_full_queue_is_a_daemon_that_does_not_answer),
		EDGE_TEST(binding_and_private_declarations_share_no_record),
		EDGE_TEST(a_program_cannot_add_to_what_the_kernel_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * Counters with keys through a real daemon: ordered by an admin over the socket, filled by system
 * calls that nothing else on a host makes, so that each number is exact. Readers check all the
 * while that the sum over a family never falls, whichever process is killed and whichever keys are
 * freed.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <talea.h>

#include "tests/lib/child.h"
#include "tests/lib/harness.h"
#include "tests/lib/needs.h"
#include "tests/lib/raw.h"

#define EVENT(name) name "_total=raw_tp:sys_enter"
#define RARE	    " if arg1 == %d"
#define CALLS	    211u
#define CALLS_MANY  300000

static struct harness h;
static struct talea *client;

/* --- orders ----------------------------------------------------------------------------------- */

static int order_sock = -1;

/* What the daemon says to it: 0 with the record if there is one, or the error with its words. */
static int order_by(int sock, uint32_t op, const char *text, uint32_t is_checked_only,
		    struct wire_probe *ret, char *words)
{
	_Alignas(8) char buf[WIRE_MAX];
	struct wire_probe_change *m = (void *)buf;
	struct wire_answer *a = (void *)buf;
	struct wire_error *e = (void *)buf;
	ssize_t got;

	raw_begin(buf, WIRE_PROBE, 7, sizeof(*m) + strlen(text));
	m->op = op;
	m->bytes = (uint32_t)strlen(text);
	m->ms = op == WIRE_PROBE_COST ? 100 : 0;
	m->is_checked_only = is_checked_only;
	memcpy(m->text, text, m->bytes);
	assert_int_equal(wire_send(sock, m, NULL, 0, 0), 0);
	got = raw_recv(sock, buf, sizeof(buf));
	assert_true(got > 0);
	assert_int_equal(wire_admin_check(buf, (size_t)got), 0);
	assert_int_equal(m->head.number, 7);
	if (m->head.kind == WIRE_ERROR) {
		if (words)
			strcpy(words, e->text);
		else
			print_message("# %s\n", e->text);
		return e->err;
	}
	assert_int_equal(m->head.kind, WIRE_ANSWER);
	assert_int_equal(a->nr, op != WIRE_PROBE_COST);
	if (ret)
		memcpy(ret, a->records, sizeof(*ret));
	return 0;
}

static int order(uint32_t op, const char *text, struct wire_probe *ret, char *words)
{
	return order_by(order_sock, op, text, 0, ret, words);
}

/* Attaches what counts the rare call, as the text says; the name of the probe goes to ret_name. */
static void attach(const char *text, char *ret_name)
{
	struct wire_probe probe;
	char spec[WIRE_TEXT_MAX];

	snprintf(spec, sizeof(spec), text, (int)SYS_sched_rr_get_interval);
	assert_int_equal(order(WIRE_PROBE_ATTACH, spec, &probe, NULL), 0);
	assert_int_equal(probe.state, WIRE_PROBE_ATTACHED);
	assert_int_equal(probe.origin, WIRE_PROBE_COMMAND);
	strcpy(ret_name, probe.name);
}

static void detach(const char *name, struct wire_probe *ret)
{
	assert_int_equal(order(WIRE_PROBE_DETACH, name, ret, NULL), 0);
	assert_int_equal(ret->state, WIRE_PROBE_OFF);
}

static void greet(void)
{
	struct wire_welcome welcome;

	order_sock = raw_connect(h.socket);
	assert_true(order_sock >= 0);
	assert_int_equal(raw_hello(order_sock, "default", WIRE_READ, &welcome, NULL), 0);
}

/* --- the daemon ------------------------------------------------------------------------------- */

static int start(void **state)
{
	struct talea_options options = { .size = sizeof(options), .timeout_ms = 20000,
					 .flags = TALEA_NEED_DAEMON };

	(void)state;
	if (geteuid())
		return 0;
	harness_start(&h, "bpf = auto\nprobes = none", NULL);
	options.socket = h.socket;
	assert_int_equal(talea_open(&client, &options), 0);
	greet();
	return 0;
}

static int end(void **state)
{
	(void)state;
	talea_close(client);
	client = NULL;
	if (order_sock >= 0)
		close(order_sock);
	order_sock = -1;
	harness_cleanup(&h);
	return 0;
}

/* --- events ----------------------------------------------------------------------------------- */

static void calls(unsigned int nr)
{
	while (nr--)
		syscall(SYS_sched_rr_get_interval, 0, NULL);
}

static pid_t caller(unsigned int nr)
{
	pid_t pid = test_fork();

	assert_true(pid >= 0);
	if (pid)
		return pid;
	calls(nr);
	_exit(0);
}

static void callers(unsigned int nr, unsigned int calls_nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		pid_t pid = caller(calls_nr);

		assert_int_equal(waitpid(pid, NULL, 0), pid);
	}
}

/* --- reading ---------------------------------------------------------------------------------- */

struct family {
	int64_t sum, kept, other, removed;
	uint32_t members_nr;
};

static int add_up(const char *name, const struct talea_total *total, void *arg)
{
	struct family *f = arg;

	f->sum += total->value;
	if (strstr(name, "{talea=\"other\"}")) {
		f->other += total->value;
	} else if (strstr(name, "{talea=\"removed\"}")) {
		f->removed += total->value;
	} else {
		f->kept += total->value;
		f->members_nr++;
	}
	return total->origin == TALEA_KERNEL && total->type == TALEA_TYPE_COUNTER ? 0 : -EPROTO;
}

static int family_read(struct talea *t, const char *name, struct family *ret)
{
	*ret = (struct family){ 0 };
	return talea_each(t, name, TALEA_COMPACTED, add_up, ret);
}

static struct family family(const char *name)
{
	struct family f;

	assert_int_equal(talea_sync(client, 20000), 0);
	assert_int_equal(family_read(client, name, &f), 0);
	return f;
}

/* Until the keeper has freed as much as that. */
static struct family family_removed(const char *name, int64_t removed)
{
	struct family f = family(name);
	uint64_t since = 0;

	while (f.removed < removed && harness_waits(&since))
		f = family(name);
	return f;
}

/* A reader in a process of its own: no epoch says less than one before. Ended by SIGTERM. */
static volatile sig_atomic_t is_over;

static void over(int signo)
{
	(void)signo;
	is_over = 1;
}

static int watch(void *arg)
{
	struct talea_options options = { .size = sizeof(options), .timeout_ms = 20000,
					 .flags = TALEA_NEED_DAEMON };
	struct family now;
	int64_t last = 0;
	struct talea *t;

	signal(SIGTERM, over);
	CHECK(talea_open(&t, &options) == 0);
	while (!is_over) {
		int err = family_read(t, arg, &now);

		if (err == -EAGAIN)
			continue;
		CHECK(err == 0);
		if (now.sum < last)
			fprintf(stderr, "# %s fell from %lld to %lld (kept %lld, other %lld, removed "
				"%lld)\n", (char *)arg, (long long)last, (long long)now.sum,
				(long long)now.kept, (long long)now.other, (long long)now.removed);
		CHECK(now.sum >= last);
		last = now.sum;
		usleep(500);
	}
	talea_close(t);
	return 0;
}

static void watch_end(pid_t pid)
{
	assert_int_equal(kill(pid, SIGTERM), 0);
	assert_int_equal(harness_wait(pid), 0);
}

/* --- tests ------------------------------------------------------------------------------------ */

static void what_finds_no_room_is_in_other(void **state)
{
	struct wire_probe probe;
	pid_t watcher;
	struct family f;
	char name[48];

	(void)state;
	test_needs_bpf();
	attach(EVENT("flood") " by pid" RARE " max 16", name);
	watcher = harness_client(&h, watch, "flood_total*");
	callers(64, CALLS);
	f = family("flood_total");
	assert_int_equal(f.sum, 64 * CALLS);
	assert_true(f.other >= (64 - 16 - 16) * (int64_t)CALLS);
	detach(name, &probe);
	assert_int_equal(probe.events, 64 * CALLS);
	assert_int_equal(probe.overflow, f.other);
	assert_int_equal(probe.keys_max, 16);
	watch_end(watcher);
	assert_int_equal(family("flood_total").sum, 64 * CALLS);
}

static void keys_of_processes_that_end_move_into_removed(void **state)
{
	struct wire_probe probe;
	pid_t watcher;
	struct family f;
	char name[48];

	(void)state;
	test_needs_bpf();
	attach(EVENT("short") " by pid,comm" RARE, name);
	watcher = harness_client(&h, watch, "short_total*");
	callers(40, CALLS);
	f = family("short_total");
	assert_int_equal(f.sum, 40 * CALLS);
	f = family_removed("short_total", 40 * CALLS);
	assert_int_equal(f.removed, 40 * CALLS);
	assert_int_equal(f.sum, 40 * CALLS);
	assert_int_equal(f.members_nr, 0);
	calls(3); /* of this process, which lives */
	f = family("short_total");
	assert_int_equal(f.kept, 3);
	assert_int_equal(f.members_nr, 1);
	detach(name, &probe);
	assert_int_equal(probe.folded, 40 * CALLS);
	assert_int_equal(probe.freed_nr, 40);
	watch_end(watcher);
}

/* Kills the worker while children count and end. */
static void a_killed_worker_loses_and_doubles_nothing(void **state)
{
	struct wire_probe probe;
	pid_t watcher, pids[8];
	struct family f;
	char name[48];
	int64_t all = 0;

	(void)state;
	test_needs_bpf();
	attach(EVENT("killed") " by tgid" RARE " max 32", name);
	watcher = harness_client(&h, watch, "killed_total*");
	for (int round = 0; round < harness_times(3, 12); round++) {
		for (int i = 0; i < 8; i++)
			pids[i] = caller(CALLS_MANY);
		harness_kill_worker(&h);
		callers(20, 50);
		harness_kill_worker(&h);
		for (int i = 0; i < 8; i++)
			assert_int_equal(waitpid(pids[i], NULL, 0), pids[i]);
		all += 8 * CALLS_MANY + 20 * 50;
		f = family("killed_total");
		assert_int_equal(f.sum, all);
	}
	close(order_sock);
	greet();
	f = family_removed("killed_total", all - f.other);
	assert_int_equal(f.sum, all);
	detach(name, &probe);
	assert_int_equal(probe.events, all);
	watch_end(watcher);
	assert_int_equal(family("killed_total").sum, all);
}

static void a_probe_attached_again_goes_on_with_its_totals(void **state)
{
	struct wire_probe probe;
	pid_t watcher;
	char name[48];

	(void)state;
	test_needs_bpf();
	watcher = harness_client(&h, watch, "again_total*");
	for (unsigned int i = 1; i <= 3; i++) {
		attach(EVENT("again") " by comm" RARE, name);
		calls(100);
		callers(2, 50);
		detach(name, &probe);
		assert_int_equal(probe.events, 200);
		calls(1000); /* nobody counts */
		assert_int_equal(family("again_total").sum, 200 * i);
		assert_int_equal(family("again_total").members_nr, 1);
		if (i == 2) {
			harness_kill_worker(&h);
			close(order_sock);
			greet();
			assert_int_equal(family("again_total").sum, 200 * i);
		}
	}
	watch_end(watcher);
}

static void a_counter_without_keys_goes_on_too(void **state)
{
	struct wire_probe probe;
	char name[48];

	(void)state;
	test_needs_bpf();
	for (unsigned int i = 1; i <= 2; i++) {
		attach(EVENT("plain") RARE, name);
		calls(100);
		assert_int_equal(family("plain_total").sum, 100 * i);
		harness_kill_worker(&h);
		close(order_sock);
		greet();
		assert_int_equal(family("plain_total").sum, 100 * i);
		detach(name, &probe);
		assert_int_equal(family("plain_total").sum, 100 * i);
	}
}

static void orders_are_checked_before_anything_is_done(void **state)
{
	char words[WIRE_TEXT_MAX], name[48];
	struct wire_probe probe;

	(void)state;
	test_needs_bpf();
	assert_int_equal(order(WIRE_PROBE_ATTACH, "nonsense", NULL, words), -EINVAL);
	assert_true(strlen(words) > 10);
	assert_int_equal(order(WIRE_PROBE_DETACH, "no_such_probe", NULL, words), -ENOENT);
	assert_non_null(strstr(words, "there is no probe no_such_probe"));
	assert_int_equal(order_by(order_sock, WIRE_PROBE_ATTACH, "dry_total=raw_tp:sys_enter by pid",
				  1, &probe, words), 0);
	assert_int_equal(probe.state, WIRE_PROBE_OFF);
	assert_string_equal(probe.counters, "dry_total");
	assert_int_equal(order(WIRE_PROBE_DETACH, probe.name, NULL, words), -ENOENT);

	/* A name that has other labels, or is a program's, is said before anything is attached. */
	attach(EVENT("taken") " by comm" RARE, name);
	detach(name, &probe);
	assert_int_equal(order(WIRE_PROBE_ATTACH, "taken_total=raw_tp:sys_enter by pid", NULL, words),
			 -EEXIST);
	assert_non_null(strstr(words, "taken_total is there by comm"));
	assert_int_equal(order(WIRE_PROBE_COST, "", NULL, NULL), 0);
}

static int order_as_other(void *arg)
{
	_Alignas(8) char buf[WIRE_MAX];
	struct wire_probe_change *m = (void *)buf;
	struct wire_error *e = (void *)buf;
	struct wire_welcome welcome;
	uint64_t since = 0;
	int sock;

	(void)arg;
	CHECK(setresuid(HARNESS_OTHER_UID, HARNESS_OTHER_UID, HARNESS_OTHER_UID) == 0);
	/* Until the configuration that lets this user read is in force. */
	while ((sock = raw_connect(getenv("TALEA_SOCKET"))) >= 0 &&
	       raw_hello(sock, "default", WIRE_READ, &welcome, NULL)) {
		close(sock);
		CHECK(harness_waits(&since));
	}
	CHECK(sock >= 0);
	raw_begin(buf, WIRE_PROBE, 7, sizeof(*m) + 1);
	m->op = WIRE_PROBE_DETACH;
	m->bytes = 1;
	m->text[0] = 'x';
	CHECK(wire_send(sock, m, NULL, 0, 0) == 0);
	CHECK(raw_recv(sock, buf, sizeof(buf)) > 0);
	CHECK(e->head.kind == WIRE_ERROR && e->err == -EACCES);
	CHECK(strstr(e->text, "may not change probes") != NULL);
	return 0;
}

static void who_is_no_admin_is_told_so(void **state)
{
	(void)state;
	test_needs_bpf();
	harness_configure(&h, "bpf = auto\nprobes = none", "[namespace default]\nread-users = 65533\n");
	assert_int_equal(kill(h.pid, SIGHUP), 0);
	harness_run(&h, order_as_other, NULL);
}

static void an_order_outlives_who_gave_it(void **state)
{
	_Alignas(8) char buf[1024];
	struct wire_probe_change *m = (void *)buf;
	struct wire_probe probe;
	char words[WIRE_TEXT_MAX];
	int err = -ENOENT;

	(void)state;
	test_needs_bpf();
	raw_begin(buf, WIRE_PROBE, 7, sizeof(*m) + strlen("left_total=raw_tp:sys_enter by comm"));
	m->op = WIRE_PROBE_ATTACH;
	m->bytes = (uint32_t)strlen("left_total=raw_tp:sys_enter by comm");
	memcpy(m->text, "left_total=raw_tp:sys_enter by comm", m->bytes);
	assert_int_equal(wire_send(order_sock, m, NULL, 0, 0), 0);
	close(order_sock);
	greet();
	for (int i = 0; i < 100 && err == -ENOENT; i++) {
		harness_sleep_ms(50);
		err = order_by(order_sock, WIRE_PROBE_ATTACH,
			       "left_total=raw_tp:sys_enter by comm", 1, &probe, words);
		assert_int_equal(err, 0);
		err = order(WIRE_PROBE_DETACH, probe.name, NULL, words);
	}
	assert_int_equal(err, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_finds_no_room_is_in_other),
		cmocka_unit_test(keys_of_processes_that_end_move_into_removed),
		cmocka_unit_test(a_killed_worker_loses_and_doubles_nothing),
		cmocka_unit_test(a_probe_attached_again_goes_on_with_its_totals),
		cmocka_unit_test(a_counter_without_keys_goes_on_too),
		cmocka_unit_test(orders_are_checked_before_anything_is_done),
		cmocka_unit_test(an_order_outlives_who_gave_it),
		cmocka_unit_test(who_is_no_admin_is_told_so),
	};

	return cmocka_run_group_tests(tests, start, end);
}

/*
 * What outlives a talead: pinned probes count on while none runs and the next one goes on with them,
 * exactly; another layout is refused in words; what nobody wants any more ends. What pins do without
 * a daemon is probes_pins.c. Root only; the daemon mounts in the private mount namespace of the test.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <talea.h>
#include <unistd.h>

#include "daemon/keeper/probe/pins.h"
#include "tests/lib/child.h"
#include "tests/lib/harness.h"
#include "tests/lib/needs.h"

/* A call that nothing else on a host makes, so that its count can be exact. */
#define RARE_CALL SYS_sched_get_priority_min
#define RARE_NAME "kernel_syscalls_total{syscall=\"sched_get_priority_min\"}"
#define CALLS     30011u

static void calls(uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++)
		syscall(RARE_CALL, 0);
}

static struct harness daemon_of;

struct question {
	const char *name;
	uint64_t *answer; /* shared */
};

static int ask(void *arg)
{
	struct question *q = arg;
	struct talea_total t = { .size = sizeof(t) };
	struct talea *client;

	CHECK(talea_open(&client, NULL) == 0);
	CHECK(talea_sync(client, 5000) == 0);
	CHECK(talea_read_name(client, q->name, TALEA_COMPACTED, 0, &t) == 0);
	*q->answer = (uint64_t)t.value;
	return 0;
}

/* Asked by a process of its own: each daemon has regions of its own, and a process keeps them all. */
static uint64_t total(const char *name)
{
	struct question q = { .name = name };
	uint64_t sum;

	q.answer = mmap(NULL, sizeof(*q.answer), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			-1, 0);
	assert_ptr_not_equal(q.answer, MAP_FAILED);
	harness_run(&daemon_of, ask, &q);
	sum = *q.answer;
	munmap(q.answer, sizeof(*q.answer));
	return sum;
}

/* Ends all its processes: the keeper is asked, or all are killed at once. */
static void end_daemon(int signal)
{
	struct wire_status status;
	uint64_t since = 0;

	harness_status(&daemon_of, &status);
	assert_int_equal(kill(signal == SIGKILL ? -daemon_of.pid : (pid_t)status.keeper_pid, signal),
			 0);
	while (kill(-daemon_of.pid, 0) == 0 && harness_waits(&since))
		while (waitpid(-daemon_of.pid, NULL, WNOHANG) > 0)
			;
	assert_int_equal(kill(-daemon_of.pid, 0), -1);
}

/* Starts a program of ours; what it says comes into the daemon's log. */
static pid_t start(const char *program, const char *a, const char *b, const char *c)
{
	char path[256];
	pid_t pid = test_fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		if (!freopen(daemon_of.log, "a", stderr) || !freopen(daemon_of.log, "a", stdout))
			_exit(126);
		setenv("TALEA_SOCKET", daemon_of.socket, 1);
		execl(harness_built(program, path, sizeof(path)), program, a, b, c, NULL);
		_exit(127);
	}
	return pid;
}

static int replace_syscalls(void)
{
	return harness_wait(start("talea", "attach", "--replace", "syscalls"));
}

static int unpin(void)
{
	return harness_wait(start("talead", "-c", daemon_of.config, "--unpin"));
}

/* A pinned probe's programs live on until the kernel has cleaned up behind the last unpin. */
static bool is_counting(void)
{
	struct bpf_prog_info info;
	uint32_t id = 0, bytes;

	while (!bpf_prog_get_next_id(id, &id)) {
		int fd = bpf_prog_get_fd_by_id(id);

		memset(&info, 0, bytes = sizeof(info));
		if (fd < 0)
			continue;
		if (!bpf_obj_get_info_by_fd(fd, &info, &bytes) && !strcmp(info.name, "syscalls")) {
			close(fd);
			return true;
		}
		close(fd);
	}
	return false;
}

static int end_harness(void **state)
{
	(void)state;
	harness_cleanup(&daemon_of);
	return 0;
}

static void counting_goes_on_while_no_talead_runs(void **state)
{
	static const int ways[] = { SIGTERM, SIGKILL };
	uint64_t before;

	(void)state;
	test_needs_bpf();
	harness_start(&daemon_of, "probes = syscalls", NULL);
	calls(1); /* a counter is there when its first event was seen */
	before = total(RARE_NAME);
	for (unsigned int i = 0; i < 2; i++) {
		calls(CALLS);
		end_daemon(ways[i]);
		calls(CALLS);
		harness_launch(&daemon_of);
		assert_int_equal(total(RARE_NAME) - before, 2 * CALLS);
		before += 2 * CALLS;
	}
	assert_int_equal(harness_kill_keeper(&daemon_of) > 0, 1);
	calls(CALLS);
	assert_int_equal(total(RARE_NAME) - before, CALLS);
}

/* kill -9 of all its processes, at a moment that is another each time: while it mounts, makes a folder,
 * takes up what is pinned. */
static void kills_at_the_start_leave_all_or_nothing_of_a_probe(void **state)
{
	char path[256];
	uint64_t before;

	(void)state;
	test_needs_bpf();
	harness_start(&daemon_of, "probes = syscalls", NULL);
	calls(1);
	before = total(RARE_NAME);
	end_daemon(SIGKILL);
	harness_configure(&daemon_of, "probes = syscalls forks execs exits softirqs signals", NULL);
	for (unsigned int i = 0; i < 25; i++) {
		pid_t pid = test_fork();

		assert_true(pid >= 0);
		if (pid == 0) {
			setpgid(0, 0);
			if (!freopen(daemon_of.log, "a", stderr))
				_exit(126);
			execl(harness_built("talead", path, sizeof(path)), "talead", "-c",
			      daemon_of.config, NULL);
			_exit(127);
		}
		setpgid(pid, pid);
		calls(100);
		harness_sleep_ms(7 * i);
		assert_int_equal(kill(-pid, SIGKILL), 0);
		while (waitpid(-pid, NULL, 0) > 0)
			;
	}
	harness_launch(&daemon_of);
	assert_int_equal(total(RARE_NAME) - before, 2500);
	assert_false(harness_log_has(&daemon_of, "not loaded"));
}

/* The control: without pins the count of each life begins again. */
static void without_pins_it_does_not(void **state)
{
	(void)state;
	test_needs_bpf();
	harness_start(&daemon_of, "probes = syscalls\npin = no", NULL);
	calls(1);
	total(RARE_NAME);
	end_daemon(SIGTERM);
	calls(CALLS);
	harness_launch(&daemon_of);
	calls(1);
	assert_in_range(total(RARE_NAME), 1, CALLS - 1);
}

/* What a command attached stands in no configuration: its pins alone know of it. */
static void a_probe_of_a_command_comes_back_with_its_counts(void **state)
{
	static struct probe_spec spec;
	const struct probe_desired desired = { .spec = &spec,
					 .origin = PROBE_OF_COMMAND };
	char text[96], why[256];
	static struct probe_live live;
	struct pins pins;

	(void)state;
	test_needs_bpf();
	snprintf(text, sizeof(text), "probe_rare_total=raw_tp:sys_enter if arg1 == %ld",
		 (long)RARE_CALL);
	assert_int_equal(spec_parse("rare", text, &spec, why, sizeof(why)), 0);
	harness_start(&daemon_of, "probes = none", NULL);
	end_daemon(SIGTERM);
	pins_open(&pins, daemon_of.state);
	if (probe_attach(&pins, &desired, &live))
		fail_msg("%s", live.reason);
	probe_close(&live);
	calls(CALLS);
	harness_launch(&daemon_of);
	assert_int_equal(total("probe_rare_total"), CALLS);
	end_daemon(SIGKILL);
	calls(CALLS);
	harness_launch(&daemon_of);
	assert_int_equal(total("probe_rare_total"), 2 * CALLS);
	pins_close(&pins);
}

/* --- orders and kills ------------------------------------------------------------------------- */

static bool is_pinned(const char *name)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/bpf/%s/meta", daemon_of.state, name);
	return access(path, F_OK) == 0;
}

/* Of what is pinned each event is counted once, of what is not none. */
static void counts_as_it_is_pinned(const char *name, const char *counter, uint32_t nr)
{
	uint64_t before = total(counter);

	calls(nr);
	assert_int_equal(total(counter) - before, is_pinned(name) ? nr : 0);
}

static void an_order_under_way_at_a_kill_is_carried_out_or_not_at_all(void **state)
{
	uint32_t nr, rounds = (uint32_t)harness_times(24, 600), seed = (uint32_t)getpid(), done = 0;
	uint64_t begun, made = 0;
	char spec[128];
	pid_t pid;
	bool was;

	(void)state;
	test_needs_bpf();
	snprintf(spec, sizeof(spec), "rare_total=raw_tp:sys_enter if arg1 == %ld", (long)RARE_CALL);
	harness_start(&daemon_of, "probes = syscalls", NULL);
	assert_int_equal(harness_wait(start("talea", "attach", spec, NULL)), 0);
	calls(1);
	begun = total(RARE_NAME);
	for (uint32_t round = 0; round < rounds; round++) {
		was = is_pinned("rare");
		pid = start("talea", was ? "detach" : "attach", was ? "rare" : spec, NULL);
		usleep((useconds_t)rand_r(&seed) % 30000);
		if (round % 2)
			harness_kill_worker(&daemon_of);
		else
			harness_kill_keeper(&daemon_of);
		harness_wait(pid);
		done += is_pinned("rare") != was;
		nr = 1 + (uint32_t)rand_r(&seed) % 200;
		counts_as_it_is_pinned("rare", "rare_total", nr);
		made += nr;
	}
	print_message("# %u kills, %u orders carried out\n", rounds, done);
	assert_true(done >= rounds / 4);
	assert_int_equal(total(RARE_NAME) - begun, made);
}

static void switching_pins_off_ends_what_was_pinned(void **state)
{
	(void)state;
	test_needs_bpf();
	harness_start(&daemon_of, "probes = syscalls", NULL);
	end_daemon(SIGTERM);
	assert_true(is_counting());
	harness_configure(&daemon_of, "bpf = off", NULL);
	harness_launch(&daemon_of);
	assert_true(harness_log_has(&daemon_of, "1 probe that a former talead had pinned ends: bpf"));
}

/* Then descriptors keep them alive: the standby has all of them, also of what came after its birth. */
static void without_pins_they_outlive_the_keeper(void **state)
{
	uint64_t before;

	(void)state;
	test_needs_bpf();
	harness_start(&daemon_of, "probes = none\npin = no", NULL);
	harness_configure(&daemon_of, "probes = syscalls\npin = no", NULL);
	assert_int_equal(kill(daemon_of.pid, SIGHUP), 0);
	for (int i = 0; i < 2000 && !harness_log_has(&daemon_of, "was read again"); i++)
		harness_sleep_ms(5);
	calls(1);
	before = total(RARE_NAME);
	for (int i = 0; i < 3; i++) {
		calls(CALLS);
		harness_kill_keeper(&daemon_of);
		calls(CALLS);
		harness_kill_worker(&daemon_of);
	}
	assert_int_equal(total(RARE_NAME) - before, 6 * CALLS);
}

static void unpin_ends_what_counts_and_only_when_no_talead_runs(void **state)
{
	(void)state;
	test_needs_bpf();
	harness_start(&daemon_of, "probes = syscalls", NULL);
	assert_int_equal(unpin(), 1);
	assert_true(harness_log_has(&daemon_of, "fix: talead --stop"));
	calls(1);
	total(RARE_NAME);
	end_daemon(SIGKILL);
	assert_true(is_counting());
	assert_int_equal(unpin(), 0);
	assert_true(harness_log_has(&daemon_of, "1 probe ended"));
	assert_int_equal(unpin(), 0);
	assert_true(harness_log_has(&daemon_of, "nothing is pinned"));
	calls(CALLS);
	harness_launch(&daemon_of);
	calls(1);
	assert_in_range(total(RARE_NAME), 1, CALLS - 1);
}

static void what_the_configuration_no_longer_asks_for_ends(void **state)
{
	struct pins pins;
	struct pin_meta m;

	(void)state;
	test_needs_bpf();
	harness_start(&daemon_of, "probes = syscalls forks", NULL);
	end_daemon(SIGTERM);
	harness_configure(&daemon_of, "probes = forks", NULL);
	harness_launch(&daemon_of);
	assert_true(harness_log_has(&daemon_of, "probe syscalls ends"));
	pins_open(&pins, daemon_of.state);
	assert_int_equal(pin_find(&pins, "syscalls", &m), -ENOENT);
	assert_int_equal(pin_find(&pins, "forks", &m), 0);
	harness_configure(&daemon_of, "probes = none", NULL);
	assert_int_equal(kill(daemon_of.pid, SIGHUP), 0);
	for (int i = 0; i < 1000 && !pin_find(&pins, "forks", &m); i++)
		harness_sleep_ms(5);
	assert_int_equal(pin_find(&pins, "forks", &m), -ENOENT);
	pins_close(&pins);
}

/* A count that a talead would not understand is neither mixed with its own nor thrown away. */
static void another_layout_is_refused_in_words_and_counts_on(void **state)
{
	struct pins pins;
	struct pin_meta m;

	(void)state;
	test_needs_bpf();
	harness_start(&daemon_of, "probes = syscalls forks", NULL);
	calls(CALLS);
	end_daemon(SIGTERM);
	pins_open(&pins, daemon_of.state);
	assert_int_equal(pin_find(&pins, "syscalls", &m), 0);
	m.sources[0].dense_nr--;
	m.layout_hash++;
	assert_int_equal(pin_update(&pins, "syscalls", &m), 0);
	harness_launch(&daemon_of);
	assert_true(harness_log_has(&daemon_of, "probe syscalls not loaded: what is pinned of it"));
	assert_true(harness_log_has(&daemon_of, "fix: talea attach --replace syscalls"));
	assert_false(harness_log_has(&daemon_of, "forks not loaded"));
	end_daemon(SIGTERM);
	assert_int_equal(pin_find(&pins, "syscalls", &m), 0);
	m.sources[0].dense_nr++;
	m.layout_hash--;
	assert_int_equal(pin_update(&pins, "syscalls", &m), 0);
	harness_launch(&daemon_of);
	assert_true(total(RARE_NAME) >= CALLS);
	pins_close(&pins);
}

static void another_layout_is_replaced_when_an_admin_asks_for_it(void **state)
{
	struct pins pins;
	struct pin_meta m;

	(void)state;
	test_needs_bpf();
	harness_start(&daemon_of, "probes = syscalls", NULL);
	calls(CALLS);
	end_daemon(SIGTERM);
	pins_open(&pins, daemon_of.state);
	assert_int_equal(pin_find(&pins, "syscalls", &m), 0);
	m.sources[0].dense_nr--;
	m.layout_hash++;
	assert_int_equal(pin_update(&pins, "syscalls", &m), 0);
	harness_launch(&daemon_of);
	assert_int_equal(replace_syscalls(), 0);
	calls(1);
	assert_in_range(total(RARE_NAME), 1, CALLS - 1);
	assert_int_equal(replace_syscalls(), 1);
	assert_true(harness_log_has(&daemon_of, "there is nothing to replace"));
	pins_close(&pins);
}

#define WITH_DAEMON(test) cmocka_unit_test_teardown(test, end_harness)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_DAEMON(counting_goes_on_while_no_talead_runs),
		WITH_DAEMON(without_pins_it_does_not),
		WITH_DAEMON(without_pins_they_outlive_the_keeper),
		WITH_DAEMON(kills_at_the_start_leave_all_or_nothing_of_a_probe),
		WITH_DAEMON(a_probe_of_a_command_comes_back_with_its_counts),
		WITH_DAEMON(an_order_under_way_at_a_kill_is_carried_out_or_not_at_all),
		WITH_DAEMON(unpin_ends_what_counts_and_only_when_no_talead_runs),
		WITH_DAEMON(what_the_configuration_no_longer_asks_for_ends),
		WITH_DAEMON(switching_pins_off_ends_what_was_pinned),
		WITH_DAEMON(another_layout_is_refused_in_words_and_counts_on),
		WITH_DAEMON(another_layout_is_replaced_when_an_admin_asks_for_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * Keeper, standby and worker: what each may do, what happens when one is killed, and that nothing
 * is left after a normal end.
 */
#include "tests/lib/test.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/lib/child.h"
#include "tests/lib/harness.h"
#include "tests/lib/raw.h"

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

/* The value behind a key of /proc/PID/status. */
static uint64_t proc_value(uint32_t pid, const char *key, int base)
{
	char path[64], line[256];
	uint64_t value = UINT64_MAX;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%u/status", pid);
	f = fopen(path, "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (!strncmp(line, key, strlen(key)))
			value = strtoull(line + strlen(key), NULL, base);
	}
	fclose(f);
	assert_true(value != UINT64_MAX);
	return value;
}

static void assert_worker_has_no_rights(uint32_t pid)
{
	assert_true(proc_value(pid, "CapEff:", 16) == 0);
	assert_true(proc_value(pid, "CapPrm:", 16) == 0);
	assert_true(proc_value(pid, "CapInh:", 16) == 0);
	assert_true(proc_value(pid, "CapBnd:", 16) == 0);
	assert_true(proc_value(pid, "CapAmb:", 16) == 0);
	assert_int_equal(proc_value(pid, "NoNewPrivs:", 10), 1);
	if (getuid() == 0)
		assert_int_not_equal(proc_value(pid, "Uid:", 10), 0);
}

static void the_worker_has_no_capability_and_no_new_privileges(void **state)
{
	struct wire_status s;

	(void)state;
	harness_status(&h, &s);
	assert_worker_has_no_rights(s.worker_pid);
	harness_kill_worker(&h);
	harness_status(&h, &s);
	assert_worker_has_no_rights(s.worker_pid);
	harness_kill_keeper(&h);
	harness_status(&h, &s);
	assert_worker_has_no_rights(s.worker_pid);
	harness_stop(&h);
}

/* Every fd but 0, 1, 2 is CLOEXEC; their number. */
static int count_cloexec_fds(uint32_t pid)
{
	char path[320], line[128];
	struct dirent *e;
	int nr = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%u/fdinfo", pid);
	dir = opendir(path);
	assert_non_null(dir);
	while ((e = readdir(dir))) {
		unsigned long flags = 0;
		FILE *f;

		if (e->d_name[0] == '.' || atoi(e->d_name) <= 2)
			continue;
		snprintf(path, sizeof(path), "/proc/%u/fdinfo/%s", pid, e->d_name);
		f = fopen(path, "re");
		if (!f)
			continue;
		while (fgets(line, sizeof(line), f)) {
			if (!strncmp(line, "flags:", 6))
				flags = strtoul(line + 6, NULL, 8);
		}
		fclose(f);
		if (!(flags & O_CLOEXEC))
			fail_msg("fd %s of process %u is not CLOEXEC", e->d_name, pid);
		nr++;
	}
	closedir(dir);
	return nr;
}

static void every_descriptor_is_closed_on_exec(void **state)
{
	struct wire_status s;

	(void)state;
	for (int round = 0; round < 3; round++) {
		harness_status(&h, &s);
		assert_true(count_cloexec_fds(s.keeper_pid) > 6);
		assert_true(count_cloexec_fds(s.standby_pid) > 6);
		assert_true(count_cloexec_fds(s.worker_pid) > 6);
		if (round == 0)
			harness_kill_worker(&h);
		else if (round == 1)
			harness_kill_keeper(&h);
	}
	harness_stop(&h);
}

static void clients_that_come_and_go_leave_no_descriptor(void **state)
{
	struct wire_status s;
	int before[3], after[3];
	uint64_t since = 0;

	(void)state;
	harness_status(&h, &s);
	for (int round = 0; round < 201; round++) {
		struct wire_status now;

		if (round == 1) {
			harness_sleep_ms(200);
			before[0] = count_cloexec_fds(s.keeper_pid);
			before[1] = count_cloexec_fds(s.standby_pid);
			before[2] = count_cloexec_fds(s.worker_pid);
		}
		assert_int_equal(raw_status_once(h.socket, &now), 0);
	}
	do {
		after[0] = count_cloexec_fds(s.keeper_pid);
		after[1] = count_cloexec_fds(s.standby_pid);
		after[2] = count_cloexec_fds(s.worker_pid);
	} while ((after[0] > before[0] || after[1] > before[1] || after[2] > before[2]) &&
		 harness_waits(&since));
	for (int i = 0; i < 3; i++)
		assert_int_equal(after[i], before[i]);
	harness_stop(&h);
}

static void a_second_talead_names_the_holder(void **state)
{
	char path[256], out[4096] = "", want[32];
	struct wire_status s;
	int ends[2], code;
	size_t got = 0;
	ssize_t n;
	pid_t pid;

	(void)state;
	harness_status(&h, &s);
	assert_int_equal(pipe(ends), 0);
	pid = test_fork();
	if (pid == 0) {
		dup2(ends[1], 1);
		dup2(ends[1], 2);
		execl(harness_built("talead", path, sizeof(path)), "talead", "-c", h.config,
		      "--socket", "/tmp/talea-test-not-this-one", NULL);
		_exit(127);
	}
	close(ends[1]);
	while ((n = read(ends[0], out + got, sizeof(out) - 1 - got)) > 0)
		got += (size_t)n;
	close(ends[0]);
	code = harness_wait(pid);
	snprintf(want, sizeof(want), "%u", s.keeper_pid);
	if (code != 1 || !strstr(out, want))
		fail_msg("exit %d, holder %s, said: %s", code, want, out);
	assert_int_equal(access("/tmp/talea-test-not-this-one", F_OK), -1);
	harness_stop(&h);
}

static void a_normal_end_leaves_no_process_and_no_socket(void **state)
{
	struct wire_status s;
	uint64_t since = 0;

	(void)state;
	harness_status(&h, &s);
	assert_true(s.keeper_pid && s.standby_pid && s.worker_pid);
	assert_int_equal(s.keeper_pid, h.pid);
	assert_int_equal(kill((pid_t)s.keeper_pid, SIGTERM), 0);
	while (!harness_is_gone((pid_t)s.keeper_pid) && harness_waits(&since))
		;
	assert_true(harness_is_gone((pid_t)s.keeper_pid));
	assert_true(harness_is_gone((pid_t)s.worker_pid));
	assert_true(harness_is_gone((pid_t)s.standby_pid));
	assert_int_equal(access(h.socket, F_OK), -1);
	assert_int_equal(harness_wait((pid_t)s.keeper_pid), 0);
}

/* SIGTERM at random moments after a kill: all of it must still end. */
static void a_stop_in_the_middle_of_a_restart_ends_everything(void **state)
{
	(void)state;
	for (int round = 0; round < 6; round++) {
		struct wire_status s;
		uint64_t since = 0;

		if (round)
			harness_start(&h, NULL, NULL);
		harness_status(&h, &s);
		kill((pid_t)(round & 1 ? s.worker_pid : s.standby_pid), SIGKILL);
		harness_sleep_ms((unsigned int)round * 3);
		kill((pid_t)s.keeper_pid, SIGTERM);
		while (kill(-h.pid, 0) == 0 && harness_waits(&since))
			while (waitpid(-h.pid, NULL, WNOHANG) > 0)
				;
		if (kill(-h.pid, 0) == 0) {
			harness_log_show(&h);
			fail_msg("round %d: a process is left", round);
		}
		harness_cleanup(&h);
	}
}

static void a_killed_standby_is_made_anew(void **state)
{
	struct wire_status before, now;
	uint64_t since = 0;

	(void)state;
	harness_status(&h, &before);
	assert_int_equal(kill((pid_t)before.standby_pid, SIGKILL), 0);
	do {
		harness_status(&h, &now);
	} while ((!now.standby_pid || now.standby_pid == before.standby_pid) &&
		 harness_waits(&since));
	assert_int_not_equal(now.standby_pid, 0);
	assert_int_not_equal(now.standby_pid, before.standby_pid);
	assert_int_equal(now.worker_pid, before.worker_pid);
	harness_kill_keeper(&h);
	harness_stop(&h);
}

#define PROCESS_TEST(f) cmocka_unit_test_setup_teardown(f, start, clean_up)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PROCESS_TEST(a_normal_end_leaves_no_process_and_no_socket),
		PROCESS_TEST(the_worker_has_no_capability_and_no_new_privileges),
		PROCESS_TEST(every_descriptor_is_closed_on_exec),
		PROCESS_TEST(clients_that_come_and_go_leave_no_descriptor),
		PROCESS_TEST(a_second_talead_names_the_holder),
		PROCESS_TEST(a_killed_standby_is_made_anew),
		PROCESS_TEST(a_stop_in_the_middle_of_a_restart_ends_everything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

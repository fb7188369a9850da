/* See harness.h. Owns the processes and the folder of each struct harness. */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include "tests/lib/child.h"
#include "tests/lib/harness.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "tests/lib/raw.h"

#define PATIENCE_NS 60000000000ull /* a busy machine may be slow */
#define HARNESS_CLIENTS_MAX 64

static pid_t clients[HARNESS_CLIENTS_MAX]; /* started and not yet waited for */

uint64_t harness_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

void harness_sleep_ms(unsigned int ms)
{
	struct timespec t = { ms / 1000, (long)(ms % 1000) * 1000000 };

	nanosleep(&t, NULL);
}

bool harness_waits(uint64_t *since)
{
	if (!*since)
		*since = harness_now_ns();
	else if (harness_now_ns() - *since > PATIENCE_NS)
		return false;
	harness_sleep_ms(2);
	return true;
}

int harness_times(int in_ci, int in_long)
{
	const char *is_long = getenv("TALEA_LONG");

	return is_long && *is_long && strcmp(is_long, "0") ? in_long : in_ci;
}

/* The build folder: from the runner, else the test's own program is <build>/tests/system/name. */
const char *harness_built(const char *name, char *buf, size_t size)
{
	const char *build = getenv("TALEA_BUILD");
	char self[256] = "";

	if (!build && readlink("/proc/self/exe", self, sizeof(self) - 1) > 0) {
		for (int up = 0; up < 3 && strrchr(self, '/'); up++)
			*strrchr(self, '/') = 0;
		build = self;
	}
	snprintf(buf, size, "%s/%s", build ? build : ".", name);
	return buf;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	remove(path);
	return 0;
}

static void remove_folder(const struct harness *h)
{
	char pins[sizeof(h->state) + 8];

	/* A mount of the daemon's would stay, and what it has pinned would count on. */
	snprintf(pins, sizeof(pins), "%s/bpf", h->state);
	umount2(pins, MNT_DETACH | UMOUNT_NOFOLLOW);
	nftw(h->folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* Waits for the end of the test, however it comes, in a process that holds nothing of it. */
static void start_guard(struct harness *h)
{
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	h->guard_pid = test_fork();
	assert_true(h->guard_pid >= 0);
	if (h->guard_pid == 0) {
		pid_t group = 0;
		ssize_t n;

		setpgid(0, 0);
		signal(SIGTERM, SIG_IGN);
		signal(SIGINT, SIG_IGN);
		close(ends[1]);
		close(STDOUT_FILENO);
		close(STDERR_FILENO);
		do
			n = read(ends[0], &group, sizeof(group));
		while (n > 0 || (n < 0 && errno == EINTR));
		if (group)
			kill(-group, SIGKILL);
		remove_folder(h);
		_exit(0);
	}
	close(ends[0]);
	h->guard = ends[1];
}

void harness_configure(struct harness *h, const char *daemon, const char *sections)
{
	FILE *f = fopen(h->config, "we");

	assert_non_null(f);
	fprintf(f, "[daemon]\nsocket = %s\nstate = %s\n%s\n%s", h->socket, h->state,
		daemon ? daemon : "bpf = off", sections ? sections : "");
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(h->config, 0644), 0);
}

static void exec_daemon(const struct harness *h)
{
	char path[256];
	int log = open(h->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	setpgid(0, 0);
	/* What this test inherited without CLOEXEC is not the daemon's doing. */
	if (log < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0 ||
	    close_range(3, ~0u, CLOSE_RANGE_CLOEXEC))
		_exit(126);
	execl(harness_built("talead", path, sizeof(path)), "talead", "-c", h->config, NULL);
	fprintf(stderr, "%s: %s\n", path, strerror(errno));
	_exit(127);
}

void harness_log_show(const struct harness *h)
{
	char line[512];
	FILE *f = fopen(h->log, "re");

	while (f && fgets(line, sizeof(line), f))
		print_message("# talead: %s", line);
	if (f)
		fclose(f);
}

int harness_log_has(const struct harness *h, const char *text)
{
	char line[1024];
	FILE *f = fopen(h->log, "re");
	int found = 0;

	while (f && !found && fgets(line, sizeof(line), f))
		found = strstr(line, text) != NULL;
	if (f)
		fclose(f);
	return found;
}

void harness_prepare(struct harness *h, const char *daemon, const char *sections)
{
	memset(h, 0, sizeof(*h));
	strcpy(h->folder, "/tmp/talea-test-XXXXXX");
	assert_non_null(mkdtemp(h->folder));
	assert_int_equal(chmod(h->folder, 0755), 0);
	snprintf(h->socket, sizeof(h->socket), "%s/sock", h->folder);
	snprintf(h->state, sizeof(h->state), "%s/state", h->folder);
	snprintf(h->config, sizeof(h->config), "%s/talea.conf", h->folder);
	snprintf(h->log, sizeof(h->log), "%s/log", h->folder);
	harness_configure(h, daemon, sections);
	/* A standby that outlives its keeper becomes this process's child, to be waited for. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	start_guard(h);
}

void harness_launch(struct harness *h)
{
	uint64_t begin = harness_now_ns();
	struct wire_status status;
	int result;

	h->pid = test_fork();
	assert_true(h->pid >= 0);
	if (h->pid == 0)
		exec_daemon(h);
	setpgid(h->pid, h->pid);
	assert_int_equal(write(h->guard, &h->pid, sizeof(h->pid)), sizeof(h->pid));
	while (raw_status_once(h->socket, &status) || !status.standby_pid) {
		if (waitpid(h->pid, &result, WNOHANG) == h->pid ||
		    harness_now_ns() - begin > PATIENCE_NS) {
			harness_log_show(h);
			harness_cleanup(h);
			fail_msg("talead did not start");
		}
		harness_sleep_ms(5);
	}
}

void harness_start(struct harness *h, const char *daemon, const char *sections)
{
	harness_prepare(h, daemon, sections);
	harness_launch(h);
}

/* Ends the guard, which kills what is left of the group and removes the folder. */
static void end_guard(struct harness *h)
{
	for (int i = 0; i < HARNESS_CLIENTS_MAX; i++) {
		if (clients[i] && kill(clients[i], SIGKILL) == 0)
			harness_wait(clients[i]);
	}
	close(h->guard);
	waitpid(h->guard_pid, NULL, 0);
	while (h->pid && waitpid(-h->pid, NULL, 0) > 0)
		;
	h->pid = 0;
	h->guard_pid = 0;
}

void harness_cleanup(struct harness *h)
{
	if (h->guard_pid)
		end_guard(h);
}

void harness_stop(struct harness *h)
{
	struct wire_status status;
	int result, code = -1;
	uint64_t since = 0;
	pid_t pid;

	harness_status(h, &status);
	assert_int_equal(kill((pid_t)status.keeper_pid, SIGTERM), 0);
	/* All of the group must end by itself; who is not this process's child yet will be. */
	while (kill(-h->pid, 0) == 0 && harness_waits(&since))
		while ((pid = waitpid(-h->pid, &result, WNOHANG)) > 0) {
			if (pid == (pid_t)status.keeper_pid)
				code = WIFEXITED(result) ? WEXITSTATUS(result) :
							   128 + WTERMSIG(result);
		}
	if (harness_log_has(h, "Bad system call")) {
		harness_log_show(h);
		fail_msg("a worker did what its sandbox forbids");
	}
	if (kill(-h->pid, 0) == 0 || code != 0) {
		harness_log_show(h);
		end_guard(h);
		fail_msg("talead ended with %d, or left a process behind", code);
	}
	end_guard(h);
}

void harness_status(const struct harness *h, struct wire_status *ret)
{
	uint64_t begin = harness_now_ns();
	int err;

	while ((err = raw_status_once(h->socket, ret))) {
		if (harness_now_ns() - begin > PATIENCE_NS) {
			harness_log_show(h);
			fail_msg("talead does not answer: %s", strerror(-err));
		}
		harness_sleep_ms(2);
	}
}

uint64_t harness_kill_worker(const struct harness *h)
{
	struct wire_status before, now;
	uint64_t begin;

	harness_status(h, &before);
	begin = harness_now_ns();
	assert_int_equal(kill((pid_t)before.worker_pid, SIGKILL), 0);
	do {
		harness_status(h, &now);
		if (harness_now_ns() - begin > PATIENCE_NS) {
			harness_log_show(h);
			fail_msg("no new worker: %u was killed, %u answers", before.worker_pid,
				 now.worker_pid);
		}
	} while (now.incarnation == before.incarnation);
	assert_int_equal(now.keeper_pid, before.keeper_pid);
	assert_int_equal(now.worker_restarts, before.worker_restarts + 1);
	return harness_now_ns() - begin;
}

uint64_t harness_kill_keeper(const struct harness *h)
{
	struct wire_status before, now;
	uint64_t begin, took = 0;

	harness_status(h, &before);
	begin = harness_now_ns();
	assert_int_equal(kill((pid_t)before.keeper_pid, SIGKILL), 0);
	do {
		harness_status(h, &now);
		if (!took && now.keeper_pid != before.keeper_pid)
			took = harness_now_ns() - begin;
		if (harness_now_ns() - begin > PATIENCE_NS) {
			harness_log_show(h);
			fail_msg("no new keeper with a standby");
		}
	} while (!took || !now.standby_pid);
	assert_int_equal(now.keeper_pid, before.standby_pid);
	assert_int_equal(now.keeper_takeovers, before.keeper_takeovers + 1);
	return took;
}

static void client_note(pid_t from, pid_t to)
{
	for (int i = 0; i < HARNESS_CLIENTS_MAX; i++) {
		if (clients[i] == from) {
			clients[i] = to;
			return;
		}
	}
}

pid_t harness_client(const struct harness *h, int (*run)(void *arg), void *arg)
{
	pid_t parent = getpid(), pid = test_fork();

	assert_true(pid >= 0);
	if (pid) {
		client_note(0, pid);
		return pid;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	setenv("TALEA_SOCKET", h->socket, 1);
	_exit(run(arg));
}

int harness_wait(pid_t pid)
{
	int result;

	while (waitpid(pid, &result, 0) < 0)
		assert_int_equal(errno, EINTR);
	client_note(pid, 0);
	return WIFEXITED(result) ? WEXITSTATUS(result) : 128 + WTERMSIG(result);
}

void harness_run(const struct harness *h, int (*run)(void *arg), void *arg)
{
	int code = harness_wait(harness_client(h, run, arg));

	if (code) {
		harness_log_show(h);
		fail_msg("a client ended with %d", code);
	}
}

int harness_is_gone(pid_t pid)
{
	char path[64], line[256] = "", *state;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return 1;
	if (!fgets(line, sizeof(line), f))
		line[0] = 0;
	fclose(f);
	state = strrchr(line, ')');
	return !state || state[2] == 'Z' || state[2] == 'X';
}

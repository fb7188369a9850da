/*
 * The sandbox of the real worker: /proc and `talea status` show what it gave up, and all that a worker
 * does in its life works where a violation kills. What the sandbox forbids is tests/unit/sandbox.c's.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <dirent.h>
#include <linux/landlock.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/lib/child.h"
#include "tests/lib/client.h"
#include "tests/lib/harness.h"
#include "tests/lib/needs.h"
#include "tests/lib/raw.h"

static struct harness h;

#define SECTION "[counter *]\nhot = yes\n"

static int start(void **state)
{
	(void)state;
	setenv("TALEA_SANDBOX", "kill", 1);
	harness_start(&h, NULL, SECTION);
	return 0;
}

static int start_in_service(void **state)
{
	(void)state;
	unsetenv("TALEA_SANDBOX");
	harness_start(&h, NULL, SECTION);
	return 0;
}

static int clean_up(void **state)
{
	(void)state;
	harness_cleanup(&h);
	return 0;
}

/* Skips where this machine or this build has no such part: "no PART" or nothing of it. */
static void needs(const struct wire_status *status, const char *part)
{
	const char *at = strstr(status->sandbox, part);

	if (at && (at == status->sandbox || strncmp(at - 3, "no ", 3)))
		return;
	print_message("# skipped: %s\n", status->sandbox);
	harness_stop(&h);
	skip();
}

/* The value of a line of /proc/.../status, as text; false: there is no such task any more. */
static bool status_line(const char *path, const char *key, char *ret, size_t size)
{
	size_t length = strlen(key);
	char line[256];
	FILE *f = fopen(path, "re");

	ret[0] = '\0';
	if (!f)
		return false;
	while (fgets(line, sizeof(line), f))
		if (strncmp(line, key, length) == 0 && line[length] == ':')
			snprintf(ret, size, "%s", line + length + 1 + strspn(line + length + 1, " \t"));
	fclose(f);
	ret[strcspn(ret, "\n")] = '\0';
	return true;
}

static void expect_line(const char *path, const char *key, const char *value)
{
	char is[128];

	assert_true(status_line(path, key, is, sizeof(is)));
	if (strcmp(is, value))
		fail_msg("%s: %s is %s, not %s", path, key, is, value);
}

static bool is_inside(const char *path)
{
	static const char *const lines[][2] = { { "Seccomp", "2" }, { "NoNewPrivs", "1" },
						{ "CapEff", "0000000000000000" },
						{ "CapPrm", "0000000000000000" } };
	char is[128];

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		if (!status_line(path, lines[i][0], is, sizeof(is)) || strcmp(is, lines[i][1])) {
			print_message("# %s: %s is %s\n", path, lines[i][0], is);
			return false;
		}
	return true;
}

/* How many threads there are. One that ends meanwhile, as the self-test's does, shows nothing. */
static unsigned int expect_threads_inside(pid_t pid)
{
	char path[384], folder[64];
	struct dirent *e;
	unsigned int nr = 0;
	DIR *d;

	snprintf(folder, sizeof(folder), "/proc/%d/task", pid);
	d = opendir(folder);
	assert_non_null(d);
	while ((e = readdir(d)))
		if (e->d_name[0] != '.') {
			snprintf(path, sizeof(path), "%s/%s/status", folder, e->d_name);
			if (is_inside(path))
				nr++;
			else if (access(path, F_OK) == 0)
				fail_msg("%s is not inside", path);
		}
	closedir(d);
	return nr;
}

static void every_thread_of_the_worker_shows_what_it_gave_up(void **state)
{
	struct wire_status status;
	uint64_t since = 0;

	(void)state;
	harness_status(&h, &status);
	needs(&status, "seccomp");
	while (expect_threads_inside((pid_t)status.worker_pid) < 2)
		assert_true(harness_waits(&since));
	expect_line("/proc/self/status", "Seccomp", "0");
	expect_line("/proc/self/status", "NoNewPrivs", "0");
	harness_stop(&h);
}

static int owner_is(pid_t pid, uid_t uid)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	return stat(path, &st) == 0 && st.st_uid == uid;
}

/* A process of another uid that waits; dumpable, as one is that was started by it. */
static pid_t dumpable_other(void)
{
	pid_t pid = test_fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (setresuid(HARNESS_OTHER_UID, HARNESS_OTHER_UID, HARNESS_OTHER_UID) ||
		    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))
			_exit(1);
		pause();
		_exit(1);
	}
	return pid;
}

static void the_worker_cannot_be_dumped_or_traced_by_its_own_uid(void **state)
{
	struct wire_status status;
	char path[64], line[256];
	int is_none = 0;
	pid_t other;
	FILE *f;

	(void)state;
	harness_status(&h, &status);
	needs(&status, "not dumpable");
	if (geteuid() != 0) {
		harness_stop(&h);
		test_skip("needs root: who owns /proc/PID tells");
	}
	assert_true(owner_is((pid_t)status.worker_pid, 0));
	other = dumpable_other();
	for (int i = 0; i < 500 && !owner_is(other, HARNESS_OTHER_UID); i++)
		harness_sleep_ms(10);
	assert_true(owner_is(other, HARNESS_OTHER_UID));
	kill(other, SIGKILL);
	harness_wait(other);
	snprintf(path, sizeof(path), "/proc/%u/limits", status.worker_pid);
	f = fopen(path, "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		unsigned int soft, hard;

		if (sscanf(line, "Max core file size %u %u", &soft, &hard) == 2)
			is_none = !soft && !hard;
	}
	fclose(f);
	assert_true(is_none);
	/* Root may: a debugger is started by an operator. */
	assert_int_equal(ptrace(PTRACE_SEIZE, status.worker_pid, NULL, NULL), 0);
	assert_int_equal(ptrace(PTRACE_INTERRUPT, status.worker_pid, NULL, NULL), 0);
	assert_int_equal(waitpid((pid_t)status.worker_pid, NULL, __WALL), status.worker_pid);
	assert_int_equal(ptrace(PTRACE_DETACH, status.worker_pid, NULL, NULL), 0);
	harness_stop(&h);
}

static int cli_says(const char *words)
{
	char command[512], path[256], line[512];
	int found = 0;
	FILE *f;

	snprintf(command, sizeof(command), "TALEA_SOCKET=%s %s status", h.socket,
		 harness_built("talea", path, sizeof(path)));
	f = popen(command, "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		found |= strstr(line, words) != NULL;
	assert_int_equal(pclose(f), 0);
	return found;
}

static int has_landlock(void)
{
	return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) > 0;
}

/* The words against what the kernel says. */
static void expect_words(const char *seccomp)
{
	struct wire_status status;
	char path[64], is[16];

	harness_status(&h, &status);
	assert_true(cli_says(status.sandbox));
	snprintf(path, sizeof(path), "/proc/%u/status", status.worker_pid);
	status_line(path, "Seccomp", is, sizeof(is));
	if (strcmp(is, "2") == 0)
		assert_true(strncmp(status.sandbox, seccomp, strlen(seccomp)) == 0);
	else
		assert_non_null(strstr(status.sandbox, "no seccomp"));
	if (!has_landlock())
		assert_non_null(strstr(status.sandbox, "no landlock: "));
	else if (!strstr(status.sandbox, "sanitizer"))
		assert_non_null(strstr(status.sandbox, ", landlock, "));
	harness_stop(&h);
}

static void status_says_what_the_sandbox_is_in_tests(void **state)
{
	(void)state;
	expect_words("seccomp (kills), ");
}

static void status_says_what_the_sandbox_is_in_service(void **state)
{
	(void)state;
	expect_words("seccomp, ");
}

#define COUNTERS 3000
#define MEMBERS 500

static int work(void *arg)
{
	struct talea *t = client_open(arg);
	struct talea_counter c = client_declare(t, "sandbox_work_total");
	struct talea_family family;
	char name[64];

	for (int i = 0; i < COUNTERS; i++) {
		snprintf(name, sizeof(name), "sandbox_%d_total", i);
		talea_inc(client_declare(t, name));
	}
	CHECK(talea_family(t, &family, "sandbox_keys_total", "Of a test.", "key:u64") == 0);
	for (uint64_t key = 0; key < MEMBERS; key++)
		CHECK(talea_family_add(&family, &key, sizeof(key), 1) == 0);
	for (int i = 0; i < 100000; i++)
		talea_inc(c);
	CHECK(talea_sync(t, 5000) == 0);
	talea_close(t);
	return 0;
}

static void change(int sock, enum wire_change_op op, const char *name)
{
	union {
		struct wire_change m;
		struct wire_registered reply;
		char bytes[1024];
	} b;
	uint32_t length = (uint32_t)strlen(name) + 1;

	memset(&b, 0, sizeof(b));
	raw_begin(&b, WIRE_CHANGE, 7, sizeof(b.m) + length);
	b.m.op = op;
	b.m.nr = 1;
	b.m.bytes = length;
	memcpy(b.m.names, name, length);
	assert_int_equal(wire_send(sock, &b, NULL, 0, 0), 0);
	assert_true(raw_recv(sock, &b, sizeof(b)) >= (ssize_t)sizeof(b.reply));
	assert_int_equal(b.m.head.kind, WIRE_REGISTERED);
	assert_int_equal(b.reply.results[0].err, 0);
}

/* A row that is given back and a member that goes: the grace thread visits the CPUs for both. */
static void change_all(void)
{
	struct wire_status before, now;
	struct wire_welcome welcome;
	uint64_t since = 0;
	int sock = raw_connect(h.socket);

	assert_true(sock >= 0);
	assert_int_equal(raw_hello(sock, "default", WIRE_READ, &welcome, NULL), 0);
	assert_int_equal(raw_status(sock, &before), 0);
	change(sock, WIRE_PIN_COLD, "sandbox_1_total");
	change(sock, WIRE_FORGET, "sandbox_keys_total{key=\"1\"}");
	do {
		assert_true(harness_waits(&since));
		assert_int_equal(raw_status(sock, &now), 0);
	} while (now.graces_nr == before.graces_nr || now.removed_nr == before.removed_nr ||
		 now.rows_used >= before.rows_used);
	close(sock);
}

static int is_there(void *arg)
{
	struct talea_options options = { .size = sizeof(options), .ns = arg,
					 .flags = TALEA_NEED_DAEMON };
	struct talea *t;
	int err = talea_open(&t, &options);

	if (!err)
		talea_close(t);
	return err ? 1 : 0;
}

static void reload(const char *daemon, const char *sections, const char *name_space)
{
	struct wire_status status;
	uint64_t since = 0;

	harness_configure(&h, daemon, sections);
	harness_status(&h, &status);
	assert_int_equal(kill((pid_t)status.keeper_pid, SIGHUP), 0);
	while (harness_wait(harness_client(&h, is_there, (void *)(uintptr_t)name_space)))
		assert_true(harness_waits(&since));
}

/* Everything that a worker does in its life; `daemon` are its lines of [daemon]. */
static void live(const char *daemon)
{
	char first[] = "default", second[] = "second";
	struct wire_status status;

	setenv("TALEA_SANDBOX", "kill", 1);
	harness_start(&h, NULL, SECTION);
	harness_run(&h, work, first);
	reload(daemon, SECTION "[namespace second]\n", second);
	harness_run(&h, work, second);
	change_all();
	harness_status(&h, &status);
	assert_int_equal(status.worker_restarts, 0);
	harness_kill_worker(&h);
	harness_run(&h, work, first);
	client_expect(&h, first, "sandbox_work_total", 200000);
	harness_kill_keeper(&h);
	harness_run(&h, work, second);
	client_expect(&h, second, "sandbox_work_total", 200000);
	assert_false(harness_log_has(&h, "Bad system call"));
	harness_stop(&h);
}

static void a_whole_life_of_a_worker_breaks_no_rule(void **state)
{
	(void)state;
	live(NULL);
}

static void a_whole_life_with_probes_breaks_no_rule(void **state)
{
	(void)state;
	test_needs_bpf();
	live("bpf = auto\nprobes = default");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_thread_of_the_worker_shows_what_it_gave_up,
						start, clean_up),
		cmocka_unit_test_setup_teardown(the_worker_cannot_be_dumped_or_traced_by_its_own_uid,
						start, clean_up),
		cmocka_unit_test_setup_teardown(status_says_what_the_sandbox_is_in_tests, start,
						clean_up),
		cmocka_unit_test_setup_teardown(status_says_what_the_sandbox_is_in_service,
						start_in_service, clean_up),
		cmocka_unit_test_teardown(a_whole_life_of_a_worker_breaks_no_rule, clean_up),
		cmocka_unit_test_teardown(a_whole_life_with_probes_breaks_no_rule, clean_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

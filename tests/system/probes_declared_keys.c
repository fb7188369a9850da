/*
 * The keys of declared probes on the real kernel: each kind of key, counted exactly; more keys than
 * there is room for; tasks and interrupts that add to one cell. Root only.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/lib/child.h"
#include "tests/lib/declared.h"
#include "tests/lib/needs.h"

#define MILLION 1000000u

static uint64_t sum_of_keys(const struct probe_live *live)
{
	uint32_t keys_nr;

	return declared_kept(live, &keys_nr);
}

static void million_calls(void)
{
	if (prctl(PR_SET_NAME, "millionaire"))
		_exit(1);
	for (unsigned int i = 0; i < MILLION; i++)
		syscall(SYS_getppid);
}

static void a_million_calls_of_one_process_are_a_million_by_comm_and_by_tgid(void **state)
{
	char comm[16] = "millionaire", declared[96];
	struct probe_live by_comm, by_tgid;
	pid_t pid;
	int status;

	(void)state;
	snprintf(declared, sizeof(declared), "raw_tp:sys_enter by comm if arg1 == %d",
		 (int)SYS_getppid);
	declared_begin(declared, &by_comm);
	snprintf(declared, sizeof(declared), "tp_btf:sys_enter by tgid if arg1 == %d",
		 (int)SYS_getppid);
	declared_begin(declared, &by_tgid);
	pid = test_fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		million_calls();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(declared_member(&by_comm, comm), MILLION);
	assert_int_equal(declared_member_of(&by_tgid, pid), MILLION);
	declared_end(&by_comm);
	declared_end(&by_tgid);
}

static void *call_in_thread(void *ret_tid)
{
	*(pid_t *)ret_tid = gettid();
	declared_call(100);
	return NULL;
}

static void a_thread_is_told_from_its_process(void **state)
{
	struct probe_live live;
	pthread_t thread;
	pid_t tid = 0;

	(void)state;
	declared_begin("raw_tp:sys_enter by pid,tgid if arg1 == $RARE and tgid == $TGID", &live);
	assert_int_equal(pthread_create(&thread, NULL, call_in_thread, &tid), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	declared_call(50);
	assert_int_equal(declared_member(&live, (int64_t[]){ tid, getpid() }), 100);
	assert_int_equal(declared_member(&live, (int64_t[]){ getpid(), getpid() }), 50);
	declared_end(&live);
}

static void call_as_another_user(void)
{
	if (syscall(SYS_setresuid, 54321, 54321, 54321))
		_exit(1);
	declared_call(100);
}

static void users_and_cpus_are_keys(void **state)
{
	struct probe_live live;
	cpu_set_t before, one;
	int cpu;

	(void)state;
	assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
	for (cpu = CPU_SETSIZE - 1; !CPU_ISSET(cpu, &before);)
		cpu--;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	declared_begin("raw_tp:sys_enter by uid,cpu if arg1 == $RARE", &live);
	declared_in_child(call_as_another_user);
	assert_int_equal(declared_member(&live, (int64_t[]){ 54321, cpu }), 100);
	assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
	declared_end(&live);
}

/* The id of this process's cgroup is the inode number of its folder. */
static bool own_cgroup(char *path, size_t size, uint64_t *ret_id)
{
	FILE *f = fopen("/proc/self/cgroup", "re"), *mounts = fopen("/proc/self/mounts", "re");
	char line[4096], at[512] = "", type[64], full[PATH_MAX];
	struct stat st;

	path[0] = '\0';
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, "0::", 3))
			snprintf(path, size, "%.*s", (int)strcspn(line + 3, "\n"), line + 3);
	while (mounts && fgets(line, sizeof(line), mounts))
		if (sscanf(line, "%*s %511s %63s", full, type) == 2 && !strcmp(type, "cgroup2") && !*at)
			snprintf(at, sizeof(at), "%.511s", full);
	if (f)
		fclose(f);
	if (mounts)
		fclose(mounts);
	snprintf(full, sizeof(full), "%s%s", at, path);
	if (!*at || !*path || stat(full, &st))
		return false;
	*ret_id = st.st_ino;
	return true;
}

static void a_cgroup_is_a_key_and_a_filter(void **state)
{
	char path[100], declared[256];
	struct probe_live live, others;
	uint64_t id = 0;

	(void)state;
	test_needs_bpf();
	if (!own_cgroup(path, sizeof(path), &id))
		test_skip("no cgroup2 is mounted");
	snprintf(declared, sizeof(declared),
		 "raw_tp:sys_enter by cgroup if arg1 == $RARE and cgroup == %s and tgid == $TGID",
		 path);
	declared_begin(declared, &live);
	snprintf(declared, sizeof(declared),
		 "raw_tp:sys_enter if arg1 == $RARE and cgroup != %s and tgid == $TGID", path);
	declared_begin(declared, &others);
	declared_call(100);
	assert_int_equal(declared_member_of(&live, (int64_t)id), 100);
	assert_int_equal(declared_total(&others), 0);
	declared_end(&live);
	declared_end(&others);
}

static void an_error_of_a_system_call_is_a_key(void **state)
{
	struct probe_live live, typed;

	(void)state;
	declared_begin("raw_tp:sys_exit by errno if tgid == $TGID and retval == -9", &live);
	declared_begin("tp_btf:sys_exit by retval,arg1 if tgid == $TGID and errno == EBADF", &typed);
	for (unsigned int i = 0; i < 100; i++)
		close(-1);
	assert_int_equal(declared_member_of(&live, EBADF), 100);
	assert_int_equal(declared_member(&typed, (int64_t[]){ -EBADF, -EBADF }), 100);
	assert_int_equal(typed.sources[0].def.keys[1].kind, TALEA_KEY_S64);
	declared_end(&live);
	declared_end(&typed);
}

static void three_keys_stand_together(void **state)
{
	struct {
		char comm[16];
		int64_t tgid, number;
	} key = { "three keys", getpid(), DECLARED_RARE };
	struct probe_live live;
	char before[16];

	(void)state;
	declared_begin("raw_tp:sys_enter by comm,tgid,arg1 if tgid == $TGID and arg1 == $RARE", &live);
	assert_int_equal(prctl(PR_GET_NAME, before), 0);
	assert_int_equal(prctl(PR_SET_NAME, key.comm), 0);
	declared_call(100);
	assert_int_equal(prctl(PR_SET_NAME, before), 0);
	declared_call(10);
	assert_int_equal(declared_member(&live, &key), 100);
	assert_int_equal(sum_of_keys(&live), 110);
	declared_end(&live);
}

static void a_pointer_is_a_key_as_a_number(void **state)
{
	struct probe_live live;

	(void)state;
	declared_begin("tp_btf:sys_enter by arg0 if arg1 == $RARE and tgid == $TGID", &live);
	declared_call(100);
	assert_int_equal(sum_of_keys(&live), 100);
	declared_end(&live);
}

/* --- floods ----------------------------------------------------------------------------------- */

#define FLOOD_KEYS 20000u
#define FLOOD_FIRST 100000u /* numbers of no system call */

static void flood(unsigned int part, unsigned int parts)
{
	for (unsigned int i = part; i < MILLION; i += parts)
		syscall((long)(FLOOD_FIRST + (i * 7919ull) % FLOOD_KEYS));
}

static void flood_half(void)
{
	pid_t other = test_fork();
	int status;

	if (other < 0)
		_exit(1);
	flood(other ? 0 : 1, 2);
	if (other && (waitpid(other, &status, 0) != other || status))
		_exit(1);
}

static void a_flood_of_keys_loses_nothing(void **state)
{
	char declared[96];
	struct probe_live live;
	uint64_t sum, overflow;
	uint32_t keys;

	(void)state;
	snprintf(declared, sizeof(declared), "raw_tp:sys_enter by arg1 if arg1 >= %u max 1024",
		 FLOOD_FIRST);
	declared_begin(declared, &live);
	declared_in_child(flood_half);
	sum = declared_kept(&live, &keys);
	overflow = declared_total(&live);
	print_message("# kept %llu in %u keys, overflow %llu\n", (unsigned long long)sum, keys,
		      (unsigned long long)overflow);
	assert_int_equal(sum + overflow, MILLION);
	assert_int_equal(declared_cell(&live, TALEA_SOURCE_REFUSED), overflow);
	assert_int_equal(keys, 1024);
	declared_end(&live);
}

/* The kernel's timers send from interrupts what this task sends itself: both add to the same cells. */
static void tasks_and_interrupts_lose_nothing_to_each_other(void **state)
{
	const int from_task = SIGRTMIN + 6, from_timer = SIGRTMIN + 7;
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = from_timer };
	struct itimerspec every = { { 0, 20000 }, { 0, 20000 } };
	struct probe_live all, each;
	char declared[160];
	sigset_t set;
	timer_t timer;

	(void)state;
	signal(from_task, SIG_IGN);
	snprintf(declared, sizeof(declared), "raw_tp:signal_generate if arg0 >= %d and arg0 <= %d",
		 from_task, from_timer);
	declared_begin(declared, &all);
	snprintf(declared, sizeof(declared),
		 "tp_btf:signal_generate by arg0 if arg0 >= %d and arg0 <= %d", from_task, from_timer);
	declared_begin(declared, &each);
	sigemptyset(&set);
	sigaddset(&set, from_timer);
	assert_int_equal(sigprocmask(SIG_BLOCK, &set, NULL), 0);
	assert_int_equal(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
	assert_int_equal(timer_settime(timer, 0, &every, NULL), 0);
	for (unsigned int i = 0; i < 300000; i++) {
		struct timespec none = { 0, 0 };

		syscall(SYS_tgkill, getpid(), gettid(), from_task);
		if (i % 4 == 0)
			sigtimedwait(&set, NULL, &none);
	}
	assert_int_equal(timer_delete(timer), 0);
	print_message("# from interrupts: %llu\n",
		      (unsigned long long)declared_member_of(&each, from_timer));
	assert_int_equal(declared_member_of(&each, from_task), 300000);
	assert_true(declared_member_of(&each, from_timer) > 100);
	assert_int_equal(declared_total(&all), sum_of_keys(&each));
	declared_end(&all);
	declared_end(&each);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_million_calls_of_one_process_are_a_million_by_comm_and_by_tgid),
		cmocka_unit_test(a_thread_is_told_from_its_process),
		cmocka_unit_test(users_and_cpus_are_keys),
		cmocka_unit_test(a_cgroup_is_a_key_and_a_filter),
		cmocka_unit_test(an_error_of_a_system_call_is_a_key),
		cmocka_unit_test(three_keys_stand_together),
		cmocka_unit_test(a_pointer_is_a_key_as_a_number),
		cmocka_unit_test(a_flood_of_keys_loses_nothing),
		cmocka_unit_test(tasks_and_interrupts_lose_nothing_to_each_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

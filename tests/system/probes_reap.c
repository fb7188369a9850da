/*
 * Whose keys are freed and whose are not: processes and threads that live, are dead, are given
 * another's number; cgroups that are removed; a keeper that cannot see them. On maps of the kernel's
 * own that the test fills. What a keeper that dies in the middle leaves is probes_reap_kills.c. Root
 * only.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <bpf/bpf.h>
#include <cap-ng.h>
#include <errno.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "daemon/keeper/probe/probe.h"
#include "daemon/worker/kernel/maps.h"
#include "order.h"
#include "tests/lib/child.h"
#include "tests/lib/clock.h"
#include "tests/lib/harness.h"
#include "tests/lib/keys.h"
#include "tests/lib/needs.h"

#define NOBODY	 5000000u /* and up: more than any process's number can be */
#define MANY	 30000u
#define CALL_MAX_NS 60000000u /* of CPU, for a call that has 8 ms for its work */

static struct probe_live live;
static uint32_t place; /* another one for each test: nothing is remembered of the test before */

static void begin(void)
{
	test_needs_bpf();
	keys_cpus_nr = maps_cpus_nr();
	keys_source = (struct probe_source){ 0 };
	place++;
}

static void begin_by(enum talea_key_kind kind)
{
	begin();
	keys_def(0, "owner", kind, 8);
	keys_maps_make();
	live = (struct probe_live){ .sources_nr = 1, .sources[0] = keys_source };
}

static void end(void)
{
	keys_maps_drop();
}

static void put(uint64_t key, uint64_t sum)
{
	keys_store(&key, sum);
}

/* What a key holds; -1: it is not there. */
static int64_t held(const void *key)
{
	uint64_t values[SHM_CPUS_MAX], sum = 0;

	if (bpf_map_lookup_elem(keys_source.keys_fd, key, values))
		return -1;
	for (uint32_t cpu = 0; cpu < keys_cpus_nr; cpu++)
		sum += values[cpu];
	return (int64_t)sum;
}

static int64_t held_of(uint64_t key)
{
	return held(&key);
}

static struct probe_ledger ledger(void)
{
	struct probe_ledger l;
	uint32_t zero = 0;

	assert_int_equal(bpf_map_lookup_elem(keys_source.ledger_fd, &zero, &l), 0);
	return l;
}

/* A look, a second later than what was before. */
static void look(void)
{
	clock_ahead_s++;
	probe_reap(place, &live);
}

static void look_twice(void)
{
	look();
	look();
}

/* --- processes and threads -------------------------------------------------------------------- */

static void the_second_look_frees_and_none_sooner_than_a_second_after_the_first(void **state)
{
	struct probe_ledger l;

	(void)state;
	begin_by(TALEA_KEY_TGID);
	put(NOBODY, 1000);
	put(NOBODY + 1, 234);
	for (int i = 0; i < 50; i++)
		probe_reap(place, &live);
	assert_int_equal(held_of(NOBODY), 1000);
	assert_int_equal(ledger().seq, 0);
	look();
	assert_int_equal(held_of(NOBODY), -1);
	l = ledger();
	assert_int_equal(l.folded, 1234);
	assert_int_equal(l.freed_nr, 2);
	assert_int_equal(l.seq, 4);
	put(NOBODY, 5); /* the next one of that number: seen for the first time */
	look();
	assert_int_equal(held_of(NOBODY), 5);
	look();
	assert_int_equal(ledger().folded, 1239);
	end();
}

static int ends[2];

static void *until_told(void *ret_tid)
{
	char c;

	shm_set32(ret_tid, (uint32_t)syscall(SYS_gettid));
	while (read(ends[0], &c, 1) < 0)
		;
	return NULL;
}

static void wait_gone(pid_t tid)
{
	for (int i = 0; i < 2000 && !kill(tid, 0); i++)
		harness_sleep_ms(1);
}

static void a_thread_keeps_its_key_as_long_as_it_lives(void **state)
{
	uint32_t tid = 0;
	pthread_t thread;

	(void)state;
	begin_by(TALEA_KEY_PID);
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(pthread_create(&thread, NULL, until_told, &tid), 0);
	while (!shm_read32(&tid))
		harness_sleep_ms(1);
	put(tid, 77);
	put((uint64_t)getpid(), 88);
	put(0, 99); /* the idle tasks */
	put(1, 11);
	for (int i = 0; i < 5; i++)
		look();
	assert_int_equal(held_of(tid), 77);
	assert_int_equal(write(ends[1], "x", 1), 1);
	assert_int_equal(pthread_join(thread, NULL), 0);
	wait_gone((pid_t)tid);
	look_twice();
	assert_int_equal(held_of(tid), -1);
	assert_int_equal(held_of((uint64_t)getpid()), 88);
	assert_int_equal(held_of(0), 99);
	assert_int_equal(held_of(1), 11);
	assert_int_equal(ledger().folded, 77);
	close(ends[0]);
	close(ends[1]);
	end();
}

/* Its number is not given out again before it has been waited for. */
static void a_process_keeps_its_key_until_it_has_been_waited_for(void **state)
{
	siginfo_t info;
	pid_t pid;

	(void)state;
	begin_by(TALEA_KEY_TGID);
	pid = test_fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		pause();
		_exit(0);
	}
	put((uint64_t)pid, 5);
	look_twice();
	assert_int_equal(held_of((uint64_t)pid), 5);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	look_twice();
	assert_int_equal(held_of((uint64_t)pid), 5);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	look_twice();
	assert_int_equal(held_of((uint64_t)pid), -1);
	assert_int_equal(ledger().folded, 5);
	end();
}

/* Dead at one look and alive at the next: the number was given out again. */
static void who_gets_a_number_between_two_looks_keeps_its_key(void **state)
{
	pid_t pid, again;

	(void)state;
	begin_by(TALEA_KEY_TGID);
	pid = test_fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	put((uint64_t)pid, 5);
	look();
	/* The kernel is told the number. */
	again = (pid_t)syscall(SYS_clone3, &(struct clone_args){
		.exit_signal = SIGCHLD, .set_tid = (uintptr_t)&pid, .set_tid_size = 1 },
		sizeof(struct clone_args));
	if (again == 0) {
		pause();
		_exit(0);
	}
	if (again < 0) {
		end();
		test_skip("the number was given to another process meanwhile");
	}
	assert_int_equal(again, pid);
	look();
	look();
	assert_int_equal(held_of((uint64_t)pid), 5);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	look_twice();
	assert_int_equal(held_of((uint64_t)pid), -1);
	end();
}

struct key2 {
	char comm[16];
	uint64_t tgid;
};

static void one_part_that_is_gone_is_enough_and_text_is_nobodys(void **state)
{
	struct key2 mine = { "me", (uint64_t)getpid() }, theirs = { "they", NOBODY };

	(void)state;
	begin();
	keys_def(0, "comm", TALEA_KEY_TEXT, 16);
	keys_def(1, "tgid", TALEA_KEY_TGID, 8);
	keys_maps_make();
	live = (struct probe_live){ .sources_nr = 1, .sources[0] = keys_source };
	keys_store(&mine, 1);
	keys_store(&theirs, 2);
	look_twice();
	assert_int_equal(held(&mine), 1);
	assert_int_equal(held(&theirs), -1);
	end();
}

static void numbers_that_only_look_like_a_process_are_never_freed(void **state)
{
	static const enum talea_key_kind kinds[] = { TALEA_KEY_U64, TALEA_KEY_UID, TALEA_KEY_CPU };

	(void)state;
	for (unsigned int i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		begin_by(kinds[i]);
		put(NOBODY, 5);
		look_twice();
		look();
		assert_int_equal(held_of(NOBODY), 5);
		end();
	}
}

/* Of this thread: what others take of the CPU meanwhile is no part of a call. */
static uint64_t own_cpu_ns(void)
{
	struct timespec now;

	assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now), 0);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static void many_are_freed_in_short_calls_and_their_sum_is_exact(void **state)
{
	uint64_t all = 0, begin_ns, took_ns, longest_ns = 0;
	uint32_t calls = 0;

	(void)state;
	begin_by(TALEA_KEY_PID);
	for (uint32_t i = 0; i < MANY; i++) {
		put(NOBODY + i, 1 + i % 97);
		all += 1 + i % 97;
	}
	put((uint64_t)getpid(), 4);
	for (; ledger().freed_nr < MANY && calls < 1000; calls++) {
		clock_ahead_s++;
		begin_ns = own_cpu_ns();
		probe_reap(place, &live);
		took_ns = own_cpu_ns() - begin_ns;
		longest_ns = took_ns > longest_ns ? took_ns : longest_ns;
	}
	print_message("# %u keys in %u calls, the longest %llu us\n", MANY, calls,
		      (unsigned long long)longest_ns / 1000);
	assert_int_equal(ledger().freed_nr, MANY);
	assert_int_equal(ledger().folded, all);
	assert_int_equal(held_of((uint64_t)getpid()), 4);
	if (!TEST_IS_SANITIZED)
		assert_in_range(longest_ns, 0, CALL_MAX_NS);
	end();
}

/* --- namespaces ------------------------------------------------------------------------------- */

/* The claims of a child. */
static void run_in_child(int (*run)(void))
{
	pid_t pid = test_fork();

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(run());
	assert_int_equal(harness_wait(pid), 0);
}

static int reap_in_a_pid_namespace(void)
{
	pid_t pid;

	CHECK(unshare(CLONE_NEWPID | CLONE_NEWNS) == 0);
	CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	pid = test_fork();
	CHECK(pid >= 0);
	if (pid)
		return harness_wait(pid);
	CHECK(mount("proc", "/proc", "proc", 0, NULL) == 0);
	look_twice();
	CHECK(probe_reap_why_not(&live) != NULL);
	CHECK(strstr(probe_reap_why_not(&live), "pid namespace") != NULL);
	return 0;
}

/* Its own numbers are others than those that programs see: what it does not find may live. */
static void a_keeper_in_a_pid_namespace_frees_nothing_and_says_so(void **state)
{
	(void)state;
	begin_by(TALEA_KEY_PID);
	assert_null(probe_reap_why_not(&live));
	put(NOBODY, 5);
	put((uint64_t)getpid(), 6);
	run_in_child(reap_in_a_pid_namespace);
	assert_int_equal(held_of(NOBODY), 5);
	assert_int_equal(held_of((uint64_t)getpid()), 6);
	end();
}

/* --- cgroups ---------------------------------------------------------------------------------- */

static char unified[256], ours[300];

static void find_unified(void)
{
	char line[4096];
	FILE *f = fopen("/proc/self/mountinfo", "re");

	unified[0] = '\0';
	while (f && !unified[0] && fgets(line, sizeof(line), f))
		if (strstr(line, " - cgroup2 "))
			sscanf(line, "%*s %*s %*s %*s %255s", unified);
	if (f)
		fclose(f);
}

/* Makes a cgroup of the test's own; its id. */
static uint64_t cgroup_make(void)
{
	uint64_t id;

	snprintf(ours, sizeof(ours), "%s/talea-test-%d", unified, getpid());
	if (!unified[0] || mkdir(ours, 0755)) {
		end();
		test_skip("no cgroup can be made here: no cgroup2, or it may not be written");
	}
	assert_int_equal(cgroup_id(ours + strlen(unified), &id), 0);
	return id;
}

static void path_is(uint64_t id, const char *path)
{
	char buf[256];

	assert_int_equal(cgroup_path(id, buf, sizeof(buf)), 0);
	assert_string_equal(buf, path);
}

static void a_removed_cgroup_frees_its_key(void **state)
{
	uint64_t id, root;
	char buf[256];

	(void)state;
	begin_by(TALEA_KEY_CGROUP);
	find_unified();
	id = cgroup_make();
	assert_int_equal(cgroup_id("/", &root), 0);
	path_is(id, ours + strlen(unified));
	path_is(root, "/");
	assert_null(probe_reap_why_not(&live));
	put(id, 5);
	put(root, 6);
	look_twice();
	assert_int_equal(held_of(id), 5);
	assert_int_equal(rmdir(ours), 0);
	assert_int_equal(cgroup_path(id, buf, sizeof(buf)), -ENOENT);
	look_twice();
	assert_int_equal(held_of(id), -1);
	assert_int_equal(held_of(root), 6);
	assert_int_equal(ledger().folded, 5);
	end();
}

static uint64_t child_id;

static int reap_by_the_list(void)
{
	char below[320], buf[320];
	uint64_t deep;

	capng_get_caps_process();
	capng_update(CAPNG_DROP, CAPNG_EFFECTIVE | CAPNG_PERMITTED, CAP_DAC_READ_SEARCH);
	CHECK(capng_apply(CAPNG_SELECT_CAPS) == 0);
	CHECK(cgroup_path(child_id, buf, sizeof(buf)) == 0);
	CHECK(!strcmp(buf, ours + strlen(unified)));
	snprintf(below, sizeof(below), "%s/below", ours);
	CHECK(mkdir(below, 0755) == 0);
	CHECK(cgroup_id(below + strlen(unified), &deep) == 0);
	clock_ahead_s++;
	CHECK(cgroup_path(deep, buf, sizeof(buf)) == 0);
	CHECK(!strcmp(buf, below + strlen(unified)));
	look_twice();
	CHECK(held_of(child_id) == 5);
	CHECK(rmdir(below) == 0 && rmdir(ours) == 0);
	clock_ahead_s++;
	CHECK(cgroup_path(deep, buf, sizeof(buf)) == -ENOENT);
	look_twice();
	CHECK(held_of(child_id) == -1);
	return 0;
}

static void without_the_right_to_open_handles_cgroups_are_found_too(void **state)
{
	(void)state;
	begin_by(TALEA_KEY_CGROUP);
	find_unified();
	child_id = cgroup_make();
	put(child_id, 5);
	run_in_child(reap_by_the_list);
	assert_int_equal(ledger().folded, 5);
	end();
}

static int reap_without_cgroup2(void)
{
	char buf[64];

	CHECK(unshare(CLONE_NEWNS) == 0);
	CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	for (find_unified(); unified[0]; find_unified())
		CHECK(umount2(unified, MNT_DETACH) == 0);
	CHECK(cgroup_path(child_id, buf, sizeof(buf)) == -ENODEV);
	CHECK(cgroup_id("/", &child_id) == -ENODEV);
	look_twice();
	CHECK(probe_reap_why_not(&live) != NULL);
	return 0;
}

/* As a container has it: a part of the hierarchy, and no right to open handles. */
static int reap_in_a_cgroup_namespace(void)
{
	char procs[320], point[] = "/tmp/talea-test-XXXXXX";
	FILE *f;

	snprintf(procs, sizeof(procs), "%s/cgroup.procs", ours);
	f = fopen(procs, "we");
	CHECK(f && fprintf(f, "0") == 1 && fclose(f) == 0);
	CHECK(unshare(CLONE_NEWCGROUP | CLONE_NEWNS) == 0);
	CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	for (find_unified(); unified[0]; find_unified())
		CHECK(umount2(unified, MNT_DETACH) == 0);
	CHECK(mkdtemp(point) != NULL);
	CHECK(mount("none", point, "cgroup2", 0, NULL) == 0);
	capng_get_caps_process();
	capng_update(CAPNG_DROP, CAPNG_EFFECTIVE | CAPNG_PERMITTED, CAP_DAC_READ_SEARCH);
	CHECK(capng_apply(CAPNG_SELECT_CAPS) == 0);
	look_twice();
	look_twice();
	CHECK(umount2(point, MNT_DETACH) == 0 && rmdir(point) == 0);
	return 0;
}

/* The key of the root: alive, and nowhere to be seen. */
static void a_keeper_that_does_not_see_all_cgroups_frees_none(void **state)
{
	uint64_t root;

	(void)state;
	begin_by(TALEA_KEY_CGROUP);
	find_unified();
	child_id = cgroup_make();
	assert_int_equal(cgroup_id("/", &root), 0);
	put(root, 5);
	put(child_id, 6);
	run_in_child(reap_without_cgroup2);
	run_in_child(reap_in_a_cgroup_namespace);
	assert_int_equal(held_of(root), 5);
	assert_int_equal(held_of(child_id), 6);
	assert_int_equal(rmdir(ours), 0);
	end();
}

static int remove_ours(void **state)
{
	(void)state;
	if (ours[0])
		rmdir(ours);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_second_look_frees_and_none_sooner_than_a_second_after_the_first),
		cmocka_unit_test(a_thread_keeps_its_key_as_long_as_it_lives),
		cmocka_unit_test(a_process_keeps_its_key_until_it_has_been_waited_for),
		cmocka_unit_test(who_gets_a_number_between_two_looks_keeps_its_key),
		cmocka_unit_test(one_part_that_is_gone_is_enough_and_text_is_nobodys),
		cmocka_unit_test(numbers_that_only_look_like_a_process_are_never_freed),
		cmocka_unit_test(many_are_freed_in_short_calls_and_their_sum_is_exact),
		cmocka_unit_test(a_keeper_in_a_pid_namespace_frees_nothing_and_says_so),
		cmocka_unit_test(a_removed_cgroup_frees_its_key),
		cmocka_unit_test(without_the_right_to_open_handles_cgroups_are_found_too),
		cmocka_unit_test(a_keeper_that_does_not_see_all_cgroups_frees_none),
	};

	return cmocka_run_group_tests(tests, NULL, remove_ours);
}

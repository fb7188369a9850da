/*
 * That probes are independent of each other, and that what the kernel calls their keys reaches every
 * process that names them: one that attaches late, a new worker, a keeper that takes over. Root only.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <unistd.h>

#include "tests/lib/kernel.h"
#include "tests/lib/needs.h"

static int old_mounts = -1, old_root = -1, old_folder = -1;

/* Entering a namespace of mounts goes to its root, which is not that of a chroot. */
static int clean_up(void **state)
{
	if (old_mounts >= 0) {
		if (setns(old_mounts, CLONE_NEWNS) || fchdir(old_root) || chroot(".") ||
		    fchdir(old_folder))
			return -1;
		close(old_mounts);
		close(old_root);
		close(old_folder);
		old_mounts = -1;
	}
	return kernel_teardown(state);
}

static void wait_a_while(void)
{
	harness_sleep_ms(60);
}

/* Without type information the tp_btf probes fail, the raw_tp ones have nothing to do with it. */
static void one_that_fails_stops_no_other(void **state)
{
	(void)state;
	test_needs_bpf();
	old_root = open("/", O_PATH | O_CLOEXEC);
	old_folder = open(".", O_PATH | O_CLOEXEC);
	old_mounts = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("tmpfs", "/sys/kernel/btf", "tmpfs", 0, "size=64k"))
		test_skip("needs a mount namespace");
	kernel_start("probes = context_switches, exits, softirqs, task_wakeups");
	assert_true(harness_log_has(&kernel_daemon, "probes context_switches, exits not loaded: "
						    "this kernel has no type information"));
	assert_true(harness_log_has(&kernel_daemon, "fix: boot a kernel built with "
						    "CONFIG_DEBUG_INFO_BTF=y"));
	assert_false(kernel_is_known("kernel_context_switches_total"));
	assert_true(kernel_is_known("kernel_task_wakeups_total"));
	kernel_counts("kernel_task_wakeups_total", wait_a_while, 1);
	kernel_counts("kernel_softirqs_total{vector=\"nr_*\"}", wait_a_while, 1);
}

static void assert_goes_on(uint64_t *last)
{
	kernel_counts("kernel_softirqs_total", wait_a_while, 1);
	assert_true(kernel_count("kernel_softirqs_total") > *last);
	*last = kernel_count("kernel_softirqs_total");
	assert_int_equal(kernel_count("kernel_softirqs_total{vector=\"nr_*\"}"), 0);
}

static void names_reach_who_comes_later(void **state)
{
	uint64_t last = 0, since = 0;

	(void)state;
	test_needs_bpf();
	kernel_start("probes = none");
	assert_int_equal(kernel_count("kernel_*"), 0);
	harness_configure(&kernel_daemon, "probes = softirqs, execs", NULL);
	assert_int_equal(kill(kernel_daemon.pid, SIGHUP), 0);
	while (!kernel_count("kernel_softirqs_total") && harness_waits(&since))
		;
	assert_goes_on(&last);
	harness_kill_worker(&kernel_daemon);
	assert_goes_on(&last);
	harness_kill_keeper(&kernel_daemon);
	assert_goes_on(&last);
	harness_kill_worker(&kernel_daemon);
	assert_goes_on(&last);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(one_that_fails_stops_no_other, clean_up),
		cmocka_unit_test_teardown(names_reach_who_comes_later, clean_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * The visit to every CPU: it is over when this thread ran on each that is online, and says how many it
 * could not reach. What the visit is for, tests/torture/reuse.c shows.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/worker/fold/grace.h"

static int online_fd(const char *text)
{
	int fd = text ? memfd_create("online", MFD_CLOEXEC) :
			open("/sys/devices/system/cpu/online", O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	if (text)
		assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	return fd;
}

static uint32_t visit(const char *text)
{
	int fd = online_fd(text);
	uint32_t blocked = grace_visit(fd);

	close(fd);
	return blocked;
}

static void every_cpu_is_visited(void **state)
{
	cpu_set_t set;

	(void)state;
	assert_int_equal(visit(NULL), 0);
	/* Where the last one left the thread. */
	assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
	assert_int_equal(CPU_COUNT(&set), 1);
	assert_int_equal(sched_getcpu(), (int)sysconf(_SC_NPROCESSORS_ONLN) - 1);
}

static void a_cpu_where_the_daemon_may_not_run_is_told(void **state)
{
	(void)state;
	/* CPUs that the machine does not have stand for those that a cpuset keeps back. */
	assert_int_equal(visit("0,1000-1001\n"), 2);
	assert_int_equal(visit("0,1023\n"), 1);
}

static void without_a_list_nothing_is_taken_for_visited(void **state)
{
	(void)state;
	assert_true(visit("") > 0);
	assert_true(visit("\n") > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_cpu_is_visited),
		cmocka_unit_test(a_cpu_where_the_daemon_may_not_run_is_told),
		cmocka_unit_test(without_a_list_nothing_is_taken_for_visited),
	};

	return cmocka_run_group_tests_name("grace", tests, NULL, NULL);
}

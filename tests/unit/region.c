/*
 * The protections of the region's memory: what a client that holds a descriptor cannot do. Each has a
 * control that takes the protection away and sees the harm.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/layout.h"
#include "shm/region.h"

#include "tests/lib/child.h"

static int rw, ro;

static int make_directory(void **state)
{
	(void)state;
	return region_make(REGION_D, "unit", &rw, &ro);
}

static int close_directory(void **state)
{
	(void)state;
	close(rw);
	close(ro);
	return 0;
}

/* A memfd without seals, of the mode that memfds are born with on older kernels. */
static int unprotected_memfd(off_t size)
{
	int fd = memfd_create("unprotected", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	assert_int_equal(fchmod(fd, 0777), 0);
	return fd;
}

static void sealed_parts_can_neither_shrink_nor_grow(void **state)
{
	int control = unprotected_memfd(8192);

	(void)state;
	for (enum region_part part = REGION_D; part < REGION_PARTS; part++) {
		int part_rw, part_ro;
		struct stat st;

		assert_int_equal(region_make(part, "unit", &part_rw, &part_ro), 0);
		assert_int_equal(ftruncate(part_rw, 0), -1);
		assert_int_equal(errno, EPERM);
		assert_int_equal(ftruncate(part_rw, (off_t)region_bytes(part) + 4096), -1);
		assert_int_equal(errno, EPERM);
		assert_int_equal(ftruncate(part_ro, 0), -1);
		assert_int_equal(fcntl(part_rw, F_ADD_SEALS, F_SEAL_WRITE), -1);
		assert_int_equal(fstat(part_rw, &st), 0);
		assert_int_equal(st.st_size, region_bytes(part));
		assert_int_equal(st.st_mode & 0777, 0600);
		assert_int_equal(fcntl(part_rw, F_GETFD), FD_CLOEXEC);
		assert_int_equal(fcntl(part_ro, F_GETFD), FD_CLOEXEC);
		close(part_rw);
		close(part_ro);
	}
	assert_int_equal(ftruncate(control, 0), 0);
	close(control);
}

static void a_read_only_descriptor_cannot_be_mapped_writable(void **state)
{
	void *p, *map;

	(void)state;
	assert_int_equal(region_map(ro, REGION_D, true, &p), -EACCES);
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ro, 0);
	assert_ptr_equal(p, MAP_FAILED);
	assert_int_equal(region_map(ro, REGION_D, false, &map), 0);
	assert_int_equal(mprotect(map, 4096, PROT_READ | PROT_WRITE), -1);
	assert_int_equal(errno, EACCES);
	assert_int_equal(fallocate(ro, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
	assert_int_equal(errno, EBADF);
	munmap(map, region_bytes(REGION_D));
	assert_int_equal(region_map(rw, REGION_D, true, &map), 0);
	*(volatile uint64_t *)map = 1;
	munmap(map, region_bytes(REGION_D));
}

/* What open(O_RDWR) through /proc gives to a process of another uid that inherited the fd. */
static int reopen_as_another_uid(int fd)
{
	pid_t pid = test_fork();
	int status;

	if (pid == 0) {
		char path[64];

		/* Dumpable again, or /proc/self itself would refuse and prove nothing. */
		if (setgid(65534) || setuid(65534) || prctl(PR_SET_DUMPABLE, 1))
			_exit(200);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		_exit(open(path, O_RDWR) >= 0 ? 0 : errno);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void another_uid_cannot_reopen_a_part_writable(void **state)
{
	int control;

	(void)state;
	if (getuid() != 0)
		test_skip("needs root, to become another uid");
	assert_int_equal(reopen_as_another_uid(ro), EACCES);
	assert_int_equal(reopen_as_another_uid(rw), EACCES);
	control = unprotected_memfd(8192);
	assert_int_equal(reopen_as_another_uid(control), 0);
	close(control);
}

static uint64_t committed_bytes(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void mapping_under_mlockall_commits_nothing(void **state)
{
	struct rlimit limit;
	int control, status;
	pid_t pid;

	(void)state;
	if (TEST_IS_SANITIZED)
		test_skip("needs a build without sanitizer, which would lock its shadow memory");
	getrlimit(RLIMIT_MEMLOCK, &limit);
	if (getuid() != 0 && limit.rlim_cur != RLIM_INFINITY)
		test_skip("needs RLIMIT_MEMLOCK to be unlimited");
	control = unprotected_memfd(1 << 20);
	pid = test_fork();
	if (pid == 0) {
		void *map;

		if (mlockall(MCL_FUTURE) || region_map(rw, REGION_D, true, &map))
			_exit(1);
		mmap(NULL, 1 << 20, PROT_READ, MAP_SHARED, control, 0);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(committed_bytes(rw), 0);
	assert_int_equal(committed_bytes(control), 1 << 20);
	close(control);
}

static void parts_of_another_size_or_without_seals_are_refused(void **state)
{
	const char *why = NULL;
	int fd, pipes[2];

	(void)state;
	assert_int_equal(region_check(rw, REGION_D, &why), 0);
	assert_int_equal(region_check(ro, REGION_D, &why), 0);
	assert_null(why);
	assert_int_equal(region_check(rw, REGION_T, &why), -EBADF);
	assert_non_null(why);
	why = NULL;
	fd = unprotected_memfd((off_t)region_bytes(REGION_D));
	assert_int_equal(region_check(fd, REGION_D, &why), -EBADF);
	assert_non_null(why);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	assert_int_equal(region_check(fd, REGION_D, &why), -EBADF);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SEAL), 0);
	assert_int_equal(region_check(fd, REGION_D, &why), 0);
	close(fd);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	assert_int_equal(region_check(pipes[0], REGION_D, &why), -EBADF);
	close(pipes[0]);
	close(pipes[1]);
	assert_int_equal(region_check(-1, REGION_D, &why), -EBADF);
}

static void parts_are_mapped_at_their_alignment(void **state)
{
	void *maps[4];

	(void)state;
	for (int i = 0; i < 4; i++) {
		assert_int_equal(region_map(ro, REGION_D, false, &maps[i]), 0);
		assert_int_equal((uintptr_t)maps[i] & (REGION_ALIGN - 1), 0);
		assert_int_equal(((const volatile char *)maps[i])[region_bytes(REGION_D) - 1], 0);
	}
	for (int i = 0; i < 4; i++)
		munmap(maps[i], region_bytes(REGION_D));
}

#define REGION_TEST(f) cmocka_unit_test_setup_teardown(f, make_directory, close_directory)

int main(void)
{
	const struct CMUnitTest tests[] = {
		REGION_TEST(sealed_parts_can_neither_shrink_nor_grow),
		REGION_TEST(a_read_only_descriptor_cannot_be_mapped_writable),
		REGION_TEST(another_uid_cannot_reopen_a_part_writable),
		REGION_TEST(mapping_under_mlockall_commits_nothing),
		REGION_TEST(parts_of_another_size_or_without_seals_are_refused),
		REGION_TEST(parts_are_mapped_at_their_alignment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * What the probes of block devices, of io_uring and of memory that runs short count. The device is a
 * loop device over a file in a small tmpfs, in a mount namespace of the test's own. Root only.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/loop.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/lib/child.h"
#include "tests/lib/kernel.h"

#define BLOCKS	   50
#define BLOCK	   4096
#define DISK_BYTES (16u << 20)

/* What the child found; shared with it. */
static struct found {
	uint64_t written, failed; /* blocks */
	uint64_t requests, sectors; /* as the device's own statistics have them */
	bool is_lacking;
} *found;

static int setup(void **state)
{
	found = mmap(NULL, sizeof(*found), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return found == MAP_FAILED ? -1 : kernel_setup(state);
}

/* --- block devices ---------------------------------------------------------------------------- */

/* A loop device that ends with its last descriptor; -1: there is none to be had. */
static int loop_open(const char *file, int *ret_nr)
{
	struct loop_config config = { .info.lo_flags = LO_FLAGS_AUTOCLEAR };
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), loop = -1;
	char path[32];

	config.fd = (uint32_t)open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK((int)config.fd >= 0 && ftruncate((int)config.fd, DISK_BYTES) == 0);
	for (int i = 0; control >= 0 && loop < 0 && i < 10; i++) {
		*ret_nr = ioctl(control, LOOP_CTL_GET_FREE);
		snprintf(path, sizeof(path), "/dev/loop%d", *ret_nr);
		loop = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
		if (loop >= 0 && ioctl(loop, LOOP_CONFIGURE, &config)) { /* another was faster */
			close(loop);
			loop = -1;
		}
	}
	return loop;
}

/* Requests and sectors written by now. */
static void disk_reference(int nr, uint64_t *ret_requests, uint64_t *ret_sectors)
{
	unsigned long long requests, sectors;
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/sys/block/loop%d/stat", nr);
	f = fopen(path, "re");
	CHECK(f && fscanf(f, "%*u %*u %*u %*u %llu %*u %llu", &requests, &sectors) == 2);
	fclose(f);
	*ret_requests = requests;
	*ret_sectors = sectors;
}

static void fill_a_small_disk(void)
{
	char folder[] = "/tmp/talea-disk.XXXXXX", file[64];
	uint64_t requests, sectors;
	int loop, nr;
	void *block;

	CHECK(unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	CHECK(mkdtemp(folder) && mount("tmpfs", folder, "tmpfs", 0, "size=64k") == 0);
	snprintf(file, sizeof(file), "%s/disk", folder);
	loop = loop_open(file, &nr);
	umount2(folder, MNT_DETACH);
	rmdir(folder);
	memset(found, 0, sizeof(*found));
	found->is_lacking = loop < 0;
	if (loop < 0)
		return;
	block = aligned_alloc(BLOCK, BLOCK);
	CHECK(block);
	memset(block, 1, BLOCK);
	disk_reference(nr, &requests, &sectors);
	for (int i = 0; i < BLOCKS; i++)
		if (pwrite(loop, block, BLOCK, i * BLOCK) == BLOCK)
			found->written++;
		else
			found->failed++;
	disk_reference(nr, &found->requests, &found->sectors);
	found->requests -= requests;
	found->sectors -= sectors;
}

static void requests_are_issued_and_end_well_or_fail(void **state)
{
	(void)state;
	kernel_needs("block_issued");
	kernel_needs("block_completed");
	kernel_run(fill_a_small_disk);
	if (found->is_lacking)
		test_skip("needs a loop device");
	assert_true(found->written > 0 && found->failed > 0);
	assert_int_equal(found->written + found->failed, BLOCKS);
	assert_int_equal(found->requests, BLOCKS);
	kernel_counts_about("kernel_disk_requests_issued_total{operation=\"write\"}",
			    fill_a_small_disk, BLOCKS);
	kernel_counts_about("kernel_disk_requests_completed_total{operation=\"write\"}",
			    fill_a_small_disk, found->written);
	kernel_counts_about("kernel_disk_requests_failed_total{operation=\"write\"}",
			    fill_a_small_disk, found->failed);
	kernel_counts_about("kernel_disk_bytes_total{operation=\"write\"}", fill_a_small_disk,
			    found->written * BLOCK);
}

/* --- io_uring --------------------------------------------------------------------------------- */

#define OPERATIONS 300

static void submit_nops(void)
{
	struct io_uring_params p = { 0 };
	int ring = (int)syscall(SYS_io_uring_setup, 8, &p);
	struct io_uring_sqe *entries;
	unsigned int *tail, *array, *cq_head, *cq_tail, mask;
	size_t bytes;
	char *shared;

	found->is_lacking = ring < 0;
	if (ring < 0)
		return;
	bytes = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
	shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	entries = mmap(NULL, p.sq_entries * sizeof(*entries), PROT_READ | PROT_WRITE, MAP_SHARED,
		       ring, IORING_OFF_SQES);
	CHECK(p.features & IORING_FEAT_SINGLE_MMAP && shared != MAP_FAILED && entries != MAP_FAILED);
	tail = (unsigned int *)(void *)(shared + p.sq_off.tail);
	array = (unsigned int *)(void *)(shared + p.sq_off.array);
	mask = *(unsigned int *)(void *)(shared + p.sq_off.ring_mask);
	cq_head = (unsigned int *)(void *)(shared + p.cq_off.head);
	cq_tail = (unsigned int *)(void *)(shared + p.cq_off.tail);
	for (int i = 0; i < OPERATIONS; i++) { /* the system call orders what both sides see */
		unsigned int at = *tail & mask;

		entries[at] = (struct io_uring_sqe){ .opcode = IORING_OP_NOP };
		array[at] = at;
		++*tail;
		CHECK(syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) == 1);
		*cq_head = *cq_tail;
	}
}

static void operations_of_io_uring_are_counted_exactly(void **state)
{
	(void)state;
	kernel_needs("io_uring");
	kernel_run(submit_nops);
	if (found->is_lacking)
		test_skip("io_uring is forbidden here");
	assert_int_equal(kernel_counts("kernel_io_uring_submissions_total{operation=\"nop\"}",
				       submit_nops, OPERATIONS), OPERATIONS);
}

/* --- memory ----------------------------------------------------------------------------------- */

static char group[128]; /* a memory cgroup of the test's own */

static bool write_file(const char *folder, const char *name, const char *text)
{
	char path[256];
	ssize_t put;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	put = fd < 0 ? -1 : write(fd, text, strlen(text));
	close(fd);
	return put == (ssize_t)strlen(text);
}

/* With a limit of 8 MiB, in the first or the second kind of cgroups. */
static bool group_make(void)
{
	static const char *const parents[2] = { "/sys/fs/cgroup/memory", "/sys/fs/cgroup" };
	static const char *const limits[2] = { "memory.limit_in_bytes", "memory.max" };

	for (int i = 0; i < 2; i++) {
		snprintf(group, sizeof(group), "%s/talea-test-%d", parents[i], getpid());
		if (mkdir(group, 0755))
			continue;
		if (write_file(group, limits[i], "8388608"))
			return true;
		rmdir(group);
	}
	return false;
}

static void want_too_much(void)
{
	const size_t bytes = 64u << 20;
	char pid[16];
	char *memory;

	snprintf(pid, sizeof(pid), "%d", getpid());
	if (!write_file(group, "cgroup.procs", pid))
		_exit(2);
	memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (size_t at = 0; memory != MAP_FAILED && at < bytes; at += 4096)
		((volatile char *)memory)[at] = 1;
	_exit(3);
}

static void be_killed_for_memory(void)
{
	pid_t pid = test_fork();
	int status;

	if (pid == 0)
		want_too_much();
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static uint64_t reference_oom(void)
{
	return kernel_reference("/proc/vmstat", "oom_kill ", 1);
}

static void oom_kills_are_those_of_proc_vmstat(void **state)
{
	(void)state;
	kernel_needs("oom_kills");
	if (!group_make())
		test_skip("no cgroup with a limit of memory can be made");
	kernel_compare("kernel_oom_kills_total", reference_oom, be_killed_for_memory, 1);
}

static int group_remove(void **state)
{
	(void)state;
	for (int i = 0; i < 100 && group[0] && rmdir(group) && errno == EBUSY; i++)
		harness_sleep_ms(10);
	return 0;
}

static void compact(void)
{
	found->is_lacking = !write_file("/proc/sys/vm", "compact_memory", "1");
}

/* Of the zones of this machine, asked for by hand. */
static void compactions_have_the_kernel_s_results(void **state)
{
	(void)state;
	kernel_needs("compactions");
	if (kernel_reference("/proc/meminfo", "MemTotal:", 1) >> 20 > 64)
		test_skip("this machine has too much memory to compact it for a test");
	kernel_run(compact);
	if (found->is_lacking)
		test_skip("this kernel does not compact when it is told");
	kernel_counts("kernel_compactions_total{result=\"complete\"}", compact, 1);
	assert_int_equal(kernel_count("kernel_compactions_total{result=\"nr_*\"}"), 0);
	assert_int_equal(kernel_count("kernel_compactions_total{result=\"other\"}"), 0);
}

static uint64_t reference_stalls(void)
{
	static const char *const zones[] = { "dma", "dma32", "normal", "movable", "device" };
	char key[32];
	uint64_t sum = 0;

	for (size_t i = 0; i < sizeof(zones) / sizeof(zones[0]); i++) {
		snprintf(key, sizeof(key), "allocstall_%s ", zones[i]);
		sum += kernel_reference("/proc/vmstat", key, 1);
	}
	return sum;
}

static void use_some_memory(void)
{
	volatile char *memory = malloc(32u << 20);

	for (size_t at = 0; memory && at < 32u << 20; at += 4096)
		memory[at] = 1;
}

/* A test does not make the whole machine's memory short: where there is enough, both say 0. */
static void direct_reclaims_are_those_of_proc_vmstat(void **state)
{
	(void)state;
	kernel_needs("direct_reclaims");
	kernel_compare("kernel_direct_reclaims_total", reference_stalls, use_some_memory, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_are_issued_and_end_well_or_fail),
		cmocka_unit_test(operations_of_io_uring_are_counted_exactly),
		cmocka_unit_test_teardown(oom_kills_are_those_of_proc_vmstat, group_remove),
		cmocka_unit_test(compactions_have_the_kernel_s_results),
		cmocka_unit_test(direct_reclaims_are_those_of_proc_vmstat),
	};

	return cmocka_run_group_tests(tests, setup, kernel_teardown);
}

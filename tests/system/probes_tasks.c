/*
 * What the probes of tasks count: switches, starts and ends, faults, interrupts, signals, errors of
 * system calls, locks. Root only.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/lib/child.h"
#include "tests/lib/kernel.h"

#define TASKS 40
#define ROUNDS 5000
#define PAGES 1000u
#define CALLS 20011u

static int cpus_allowed(cpu_set_t *set)
{
	if (sched_getaffinity(0, sizeof(*set), set))
		return 0;
	return CPU_COUNT(set);
}

static int nth_cpu(int nth)
{
	cpu_set_t set;

	cpus_allowed(&set);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &set) && nth-- == 0)
			return cpu;
	return 0;
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	CHECK(sched_setaffinity(0, sizeof(set), &set) == 0);
}

/* --- tasks ------------------------------------------------------------------------------------ */

static void *do_nothing(void *arg)
{
	return arg;
}

static void start_tasks(void)
{
	pthread_t thread;

	for (int i = 0; i < TASKS; i++) {
		pid_t pid = test_fork();

		CHECK(pid >= 0);
		if (pid == 0) {
			execl("/bin/true", "true", NULL);
			_exit(1);
		}
		CHECK(waitpid(pid, NULL, 0) == pid);
		CHECK(pthread_create(&thread, NULL, do_nothing, NULL) == 0);
		CHECK(pthread_join(thread, NULL) == 0);
	}
}

static uint64_t reference_processes(void)
{
	return kernel_reference("/proc/stat", "processes ", 1);
}

static void forks_are_those_of_proc_stat(void **state)
{
	(void)state;
	kernel_needs("forks");
	kernel_compare("kernel_forks_total", reference_processes, start_tasks, 2 * TASKS);
}

static void tasks_are_counted_by_kind_when_they_start_run_and_end(void **state)
{
	(void)state;
	kernel_needs("exits");
	kernel_counts_about("kernel_task_starts_total{kind=\"process\"}", start_tasks, TASKS);
	kernel_counts_about("kernel_task_starts_total{kind=\"thread\"}", start_tasks, TASKS);
	kernel_counts_about("kernel_execs_total", start_tasks, TASKS);
	kernel_counts_about("kernel_task_exits_total{kind=\"process\"}", start_tasks, TASKS);
	kernel_counts_about("kernel_task_exits_total{kind=\"thread\"}", start_tasks, TASKS);
}

/* Two processes on one CPU that hand a byte to and fro: each waits, and each is woken. */
static void ping_pong(void)
{
	int there[2], back[2];
	char byte = 0;
	pid_t pid;

	pin(nth_cpu(0));
	CHECK(pipe(there) == 0 && pipe(back) == 0);
	pid = test_fork();
	for (int i = 0; i < ROUNDS; i++)
		if (pid)
			CHECK(write(there[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1);
		else
			CHECK(read(there[0], &byte, 1) == 1 && write(back[1], &byte, 1) == 1);
	if (!pid)
		_exit(0);
	CHECK(waitpid(pid, NULL, 0) == pid);
}

static uint64_t reference_switches(void)
{
	return kernel_reference("/proc/stat", "ctxt ", 1);
}

static void switches_are_those_of_proc_stat(void **state)
{
	(void)state;
	kernel_needs("context_switches");
	kernel_compare("kernel_context_switches_total", reference_switches, ping_pong, 2 * ROUNDS);
	kernel_compare("kernel_task_switches_total", reference_switches, ping_pong, 2 * ROUNDS);
}

/* What the kernel keeps of the processes that this one has waited for. */
static struct rusage reference_children(void)
{
	struct rusage usage;

	assert_int_equal(getrusage(RUSAGE_CHILDREN, &usage), 0);
	return usage;
}

/*
 * The kernel tells how often our two processes waited: that is the least, and twice that is enough,
 * beside what others make. ending: of those who end nobody is woken any more.
 */
static void counts_each_wait(const char *glob, uint64_t ending)
{
	uint64_t counted = 0, waited = 0, others = 0;

	for (int i = 0; i < 20; i++) {
		uint64_t begin = harness_now_ns();

		waited = (uint64_t)reference_children().ru_nvcsw;
		counted = kernel_counts(glob, ping_pong, ROUNDS) + ending;
		waited = (uint64_t)reference_children().ru_nvcsw - waited;
		assert_true(counted >= waited);
		others = kernel_counts_of_others(glob, harness_now_ns() - begin);
		if (counted <= 2 * waited + others)
			return;
	}
	fail_msg("%s went up by %llu where two processes waited %llu times and others make %llu", glob,
		 (unsigned long long)counted, (unsigned long long)waited, (unsigned long long)others);
}

static void one_that_waits_is_voluntary_and_is_woken(void **state)
{
	(void)state;
	kernel_needs("context_switches");
	kernel_needs("task_wakeups");
	counts_each_wait("kernel_task_switches_total{kind=\"voluntary\"}", 0);
	counts_each_wait("kernel_task_wakeups_total", 2);
}

static struct rusage own_usage(void)
{
	struct rusage usage;

	CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
	return usage;
}

/* Until the other one has taken the CPU away four times. */
static void compete_for_one_cpu(void)
{
	uint64_t begin_ns = harness_now_ns();
	pid_t pid;

	pin(nth_cpu(0));
	pid = test_fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			;
	}
	while (own_usage().ru_nivcsw < 4 && harness_now_ns() - begin_ns < 60000000000ull)
		;
	CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
}

static void one_that_wants_to_go_on_is_preempted(void **state)
{
	long before;
	uint64_t counted;

	(void)state;
	kernel_needs("context_switches");
	before = reference_children().ru_nivcsw;
	counted = kernel_counts("kernel_task_switches_total{kind=\"preempted\"}",
				compete_for_one_cpu, 4);
	assert_in_range(reference_children().ru_nivcsw - before, 4, counted);
}

static void move_to_and_fro(void)
{
	int cpus[2] = { nth_cpu(0), nth_cpu(1) };

	for (int i = 0; i < 200; i++)
		pin(cpus[i & 1]);
}

static void a_move_to_another_cpu_is_a_migration(void **state)
{
	cpu_set_t set;

	(void)state;
	kernel_needs("task_migrations");
	if (cpus_allowed(&set) < 2)
		test_skip("needs two CPUs");
	kernel_counts("kernel_task_migrations_total", move_to_and_fro, 199);
}

/* --- memory ----------------------------------------------------------------------------------- */

static char *fresh_pages(void)
{
	char *pages = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(pages != MAP_FAILED && madvise(pages, PAGES * 4096, MADV_NOHUGEPAGE) == 0);
	return pages;
}

static void touch_pages(void)
{
	volatile char *pages = fresh_pages();

	for (size_t i = 0; i < PAGES; i++)
		pages[i * 4096] = 1;
}

static void let_the_kernel_touch_pages(void)
{
	char *pages = fresh_pages();
	int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);

	for (size_t i = 0; i < PAGES; i++)
		CHECK(read(zero, pages + i * 4096, 1) == 1);
}

static void page_faults_are_the_program_s_or_the_kernel_s(void **state)
{
	(void)state;
	kernel_needs("page_faults_user");
	kernel_needs("page_faults_kernel");
	kernel_counts_about("kernel_page_faults_total{mode=\"user\"}", touch_pages, PAGES);
	kernel_counts_about("kernel_page_faults_total{mode=\"kernel\"}", let_the_kernel_touch_pages,
			    PAGES);
}

/* --- interrupts ------------------------------------------------------------------------------- */

static const char *vector;

static uint64_t reference_softirq(void)
{
	char key[32];

	snprintf(key, sizeof(key), "%s:", vector);
	return kernel_reference("/proc/softirqs", key, 4096);
}

static void work_a_while(void)
{
	ping_pong();
	harness_sleep_ms(100);
}

static void softirqs_are_those_of_proc_softirqs(void **state)
{
	static const char *const vectors[] = { "TIMER", "SCHED", "RCU", "NET_RX", "TASKLET" };
	char glob[64];

	(void)state;
	kernel_needs("softirqs");
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		vector = vectors[i];
		snprintf(glob, sizeof(glob), "kernel_softirqs_total{vector=\"%s\"}", vector);
		kernel_compare(glob, reference_softirq, work_a_while, 0);
	}
	assert_int_equal(kernel_count("kernel_softirqs_total{vector=\"other\"}"), 0);
	assert_int_equal(kernel_count("kernel_softirqs_total{vector=\"nr_*\"}"), 0);
}

/* The numbered lines: the others are not devices'. */
static uint64_t reference_interrupts(void)
{
	char key[16];
	uint64_t sum = 0;

	for (int irq = 0; irq < 256; irq++) {
		snprintf(key, sizeof(key), "%d:", irq);
		sum += kernel_reference("/proc/interrupts", key,
				   (unsigned int)sysconf(_SC_NPROCESSORS_ONLN));
	}
	return sum;
}

static void write_through_to_the_disk(void)
{
	char path[] = "/var/tmp/talea-irq.XXXXXX";
	int fd = mkstemp(path);

	CHECK(fd >= 0);
	unlink(path);
	for (int i = 0; i < 20; i++)
		CHECK(pwrite(fd, path, sizeof(path), i * 4096) == sizeof(path) && fsync(fd) == 0);
}

/* A line of several devices counts once in the book: then ours may be more. */
static void device_interrupts_are_those_of_proc_interrupts(void **state)
{
	uint64_t all;

	(void)state;
	kernel_needs("hardirqs");
	if (system("cut -c 1-6 --complement /proc/interrupts | grep -q ,") == 0)
		test_skip("devices share interrupts here");
	kernel_compare("kernel_interrupts_total", reference_interrupts, write_through_to_the_disk, 0);
	all = kernel_count("kernel_interrupts_total");
	assert_true(kernel_count("kernel_interrupts_total{device=\"*\",irq=\"*\"}") >= all);
}

/* --- signals, errors, locks ------------------------------------------------------------------- */

#define SIG_QUEUED  50 /* real-time signals that nobody else here uses */
#define SIG_IGNORED 51
#define SIG_ONCE    SIGSTKFLT
#define SIGNALS	    300

static void send_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIG_QUEUED);
	sigaddset(&set, SIG_ONCE);
	CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	signal(SIG_IGNORED, SIG_IGN);
	for (int i = 0; i < SIGNALS; i++)
		CHECK(kill(getpid(), SIG_QUEUED) == 0 && kill(getpid(), SIG_IGNORED) == 0 &&
		      kill(getpid(), SIG_ONCE) == 0);
}

static void signals_are_counted_by_what_becomes_of_them(void **state)
{
	(void)state;
	kernel_needs("signals");
	assert_int_equal(kernel_counts("kernel_signals_total{result=\"delivered\",signal=\"nr_50\"}",
				       send_signals, SIGNALS), SIGNALS);
	assert_int_equal(kernel_counts("kernel_signals_total{result=\"ignored\",signal=\"nr_51\"}",
				       send_signals, SIGNALS), SIGNALS);
	assert_int_equal(kernel_counts("kernel_signals_total{result=\"already_pending\","
				       "signal=\"SIGSTKFLT\"}", send_signals, SIGNALS - 1),
			 SIGNALS - 1);
}

/* A filter makes an error that no call here has. */
static void fail_with_el2hlt(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);

	CHECK(filter && seccomp_rule_add(filter, SCMP_ACT_ERRNO(EL2HLT), SCMP_SYS(getppid), 0) == 0);
	CHECK(seccomp_load(filter) == 0);
	seccomp_release(filter);
	for (unsigned int i = 0; i < CALLS; i++)
		CHECK(syscall(SYS_getppid) == -1 && errno == EL2HLT);
}

static void errors_of_calls_are_counted_exactly(void **state)
{
	(void)state;
	kernel_needs("syscall_errors");
	assert_int_equal(kernel_counts("kernel_syscall_errors_total{errno=\"EL2HLT\"}",
				       fail_with_el2hlt, CALLS), CALLS);
}

static void *map_and_unmap(void *arg)
{
	for (int i = 0; i < 20000; i++) {
		void *at = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (at != MAP_FAILED)
			munmap(at, 4096);
	}
	return arg;
}

static void map_in_two_threads(void)
{
	pthread_t thread;

	CHECK(pthread_create(&thread, NULL, map_and_unmap, NULL) == 0);
	map_and_unmap(NULL);
	CHECK(pthread_join(thread, NULL) == 0);
}

static void waits_for_a_lock_are_counted_by_its_kind(void **state)
{
	cpu_set_t set;

	(void)state;
	kernel_needs("lock_contention");
	if (cpus_allowed(&set) < 2)
		test_skip("needs two CPUs");
	kernel_counts("kernel_lock_contentions_total{lock=\"rwsem:W\"}", map_in_two_threads, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(forks_are_those_of_proc_stat),
		cmocka_unit_test(tasks_are_counted_by_kind_when_they_start_run_and_end),
		cmocka_unit_test(switches_are_those_of_proc_stat),
		cmocka_unit_test(one_that_waits_is_voluntary_and_is_woken),
		cmocka_unit_test(one_that_wants_to_go_on_is_preempted),
		cmocka_unit_test(a_move_to_another_cpu_is_a_migration),
		cmocka_unit_test(page_faults_are_the_program_s_or_the_kernel_s),
		cmocka_unit_test(softirqs_are_those_of_proc_softirqs),
		cmocka_unit_test(device_interrupts_are_those_of_proc_interrupts),
		cmocka_unit_test(signals_are_counted_by_what_becomes_of_them),
		cmocka_unit_test(errors_of_calls_are_counted_exactly),
		cmocka_unit_test(waits_for_a_lock_are_counted_by_its_kind),
	};

	return cmocka_run_group_tests(tests, kernel_setup, kernel_teardown);
}

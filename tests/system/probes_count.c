/*
 * What the probes count, against loads whose number is known and against the kernel's own books.
 * Attaches by itself, without a daemon, as root; the names of keys are tested without.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "bpf/talea_kernel.h"
#include "daemon/keeper/probe/probe.h"
#include "daemon/spec/probe_names.h"
#include "order.h"
#include "tests/lib/child.h"
#include "tests/lib/needs.h"

#define CALLS 20011u /* of each child that makes calls */

/* A call that nothing else on a host makes, so that its count can be exact. */
#define RARE_CALL SYS_sched_rr_get_interval
#define RARE_CALL_I386 161

struct probe {
	struct probe_live live;
	uint64_t *map;
};

static struct probe probes[PROBE_NR];

/* A tracepoint that this kernel has not is a reason to skip; any other is a failure. */
static void need_probe(enum probe_id id)
{
	test_needs_bpf();
	if (probes[id].map)
		return;
	if (!strstr(probes[id].live.reason, "has no tracepoint"))
		fail_msg("%s: %s", probe_types[id].name, probes[id].live.reason);
	print_message("# %s: %s\n", probe_types[id].name, probes[id].live.reason);
	skip();
}

static const struct pins no_pins = { .fd = -1 };

static int attach_all(void **state)
{
	(void)state;
	for (int id = 0; id < PROBE_NR && geteuid() == 0; id++) {
		struct probe_spec spec;
		struct probe_desired desired = { .spec = &spec, .origin = PROBE_OF_PACK };
		struct probe *p = &probes[id];
		void *map;

		pack_spec((enum probe_id)id, &spec);
		if (!probe_types[id].keys_nr || probe_attach(&no_pins, &desired, &p->live))
			continue;
		map = mmap(NULL, source_map_bytes(&p->live, 0), PROT_READ, MAP_SHARED,
			   p->live.sources[0].counts_fd, 0);
		if (map == MAP_FAILED)
			return -1;
		p->map = map;
	}
	return 0;
}

static int detach_all(void **state)
{
	(void)state;
	for (int id = 0; id < PROBE_NR; id++) {
		if (probes[id].map)
			munmap(probes[id].map, source_map_bytes(&probes[id].live, 0));
		if (probes[id].live.state == WIRE_PROBE_ATTACHED)
			probe_end(&no_pins, &probes[id].live);
	}
	return 0;
}

static uint64_t counted_on(enum probe_id id, uint32_t cpu, uint32_t key)
{
	return shm_count_read(&probes[id].map[cpu * probe_types[id].stride + key]);
}

static uint64_t counted(enum probe_id id, uint32_t key)
{
	uint64_t sum = 0;

	for (uint32_t cpu = 0; cpu < probes[id].live.cpus_nr; cpu++)
		sum += counted_on(id, cpu, key);
	return sum;
}

static const char *labels_of(enum probe_id id, uint32_t nth, uint32_t at)
{
	const struct probe_counter *c = &probe_types[id].counters[nth];
	static char labels[PROBE_LABELS_MAX];
	int length = c->labels(id, c, at, labels, sizeof(labels));

	assert_int_equal(length, strlen(labels));
	return labels;
}

/* The first or second CPU that this process may run on, or -1. */
static int allowed_cpu(int nth)
{
	cpu_set_t set;

	assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &set) && nth-- == 0)
			return cpu;
	return -1;
}

static pid_t run_pinned(int cpu, void (*load)(void))
{
	pid_t pid = test_fork();
	cpu_set_t set;

	assert_true(pid >= 0);
	if (pid)
		return pid;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		_exit(1);
	load();
	_exit(0);
}

static int end_of(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void calls_rare(void)
{
	for (unsigned int i = 0; i < CALLS; i++)
		syscall(RARE_CALL, 0, NULL);
}

static void calls_of_one_child_are_counted_exactly(void **state)
{
	uint32_t cpu = (uint32_t)allowed_cpu(0);
	uint64_t before, here_before;

	(void)state;
	need_probe(PROBE_SYSCALLS);
	before = counted(PROBE_SYSCALLS, RARE_CALL);
	here_before = counted_on(PROBE_SYSCALLS, cpu, RARE_CALL);
	assert_int_equal(end_of(run_pinned((int)cpu, calls_rare)), 0);
	assert_int_equal(counted(PROBE_SYSCALLS, RARE_CALL) - before, CALLS);
	assert_int_equal(counted_on(PROBE_SYSCALLS, cpu, RARE_CALL) - here_before, CALLS);
}

static void calls_on_two_cpus_at_once_are_counted_exactly(void **state)
{
	int cpus[2] = { allowed_cpu(0), allowed_cpu(1) };
	uint64_t before[2];
	pid_t pids[2];

	(void)state;
	need_probe(PROBE_SYSCALLS);
	if (cpus[1] < 0) {
		print_message("# needs two CPUs\n");
		skip();
	}
	for (int i = 0; i < 2; i++)
		before[i] = counted_on(PROBE_SYSCALLS, (uint32_t)cpus[i], RARE_CALL);
	for (int i = 0; i < 2; i++)
		pids[i] = run_pinned(cpus[i], calls_rare);
	for (int i = 0; i < 2; i++)
		assert_int_equal(end_of(pids[i]), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(counted_on(PROBE_SYSCALLS, (uint32_t)cpus[i], RARE_CALL) -
				 before[i], CALLS);
}

#ifdef __x86_64__
static void calls_i386(void)
{
	for (unsigned int i = 0; i < CALLS; i++) {
		long result = RARE_CALL_I386;

		__asm__ volatile("int $0x80"
				 : "+a"(result)
				 : "b"(0L), "c"(0L)
				 : "memory", "r8", "r9", "r10", "r11");
	}
}

static void calls_of_the_32_bit_abi_have_keys_of_their_own(void **state)
{
	const uint32_t key = TALEA_SYSCALLS_COMPAT + RARE_CALL_I386;
	uint64_t before, native_before;
	int status;

	(void)state;
	need_probe(PROBE_SYSCALLS);
	before = counted(PROBE_SYSCALLS, key);
	native_before = counted(PROBE_SYSCALLS, RARE_CALL_I386);
	status = end_of(run_pinned(allowed_cpu(0), calls_i386));
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV) {
		print_message("# this kernel runs no 32-bit calls\n");
		skip();
	}
	assert_int_equal(status, 0);
	assert_int_equal(counted(PROBE_SYSCALLS, key) - before, CALLS);
	assert_int_equal(counted(PROBE_SYSCALLS, RARE_CALL_I386) - native_before, 0);
	assert_string_equal(labels_of(PROBE_SYSCALLS, 0, key),
			    "abi=\"i386\",syscall=\"sched_rr_get_interval\"");
}
#endif

static void calls_out_of_range(void)
{
	for (unsigned int i = 0; i < CALLS; i++) {
		syscall(TALEA_SYSCALLS_NR, 0);
		syscall(1000000, 0);
		syscall(-1, 0);
		syscall(TALEA_SYSCALLS_NR - 1, 0);
	}
}

static void numbers_out_of_range_count_as_other(void **state)
{
	uint64_t other, last;

	(void)state;
	need_probe(PROBE_SYSCALLS);
	other = counted(PROBE_SYSCALLS, TALEA_SYSCALLS_OTHER);
	last = counted(PROBE_SYSCALLS, TALEA_SYSCALLS_NR - 1);
	assert_int_equal(end_of(run_pinned(allowed_cpu(0), calls_out_of_range)), 0);
	assert_int_equal(counted(PROBE_SYSCALLS, TALEA_SYSCALLS_OTHER) - other, 3 * CALLS);
	assert_int_equal(counted(PROBE_SYSCALLS, TALEA_SYSCALLS_NR - 1) - last, CALLS);
}

static uint64_t proc_stat_ctxt(void)
{
	FILE *f = fopen("/proc/stat", "re");
	char *line = NULL;
	size_t size = 0;
	unsigned long long n = 0;

	assert_non_null(f);
	while (getline(&line, &size, f) > 0 && sscanf(line, "ctxt %llu", &n) != 1)
		;
	free(line);
	fclose(f);
	return n;
}

/* Two processes that hand one byte to and fro: two switches a round on one CPU. */
static void ping_pong(void)
{
	int there[2], back[2];
	char byte = 0;

	if (pipe(there) || pipe(back))
		_exit(1);
	if (test_fork() == 0) {
		for (int i = 0; i < 5000; i++)
			if (read(there[0], &byte, 1) != 1 || write(back[1], &byte, 1) != 1)
				_exit(1);
		_exit(0);
	}
	for (int i = 0; i < 5000; i++)
		if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
			_exit(1);
	wait(NULL);
}

static uint64_t switches(void)
{
	uint64_t sum = 0;

	for (uint32_t key = 0; key < TALEA_CONTEXT_SWITCHES_KEYS; key++)
		sum += counted(PROBE_CONTEXT_SWITCHES, key);
	return sum;
}

static void context_switches_lie_between_two_readings_of_proc_stat(void **state)
{
	uint64_t book[4], map[2], under_way;

	(void)state;
	need_probe(PROBE_CONTEXT_SWITCHES);
	book[0] = proc_stat_ctxt();
	map[0] = switches();
	book[1] = proc_stat_ctxt();
	assert_int_equal(end_of(run_pinned(allowed_cpu(0), ping_pong)), 0);
	book[2] = proc_stat_ctxt();
	map[1] = switches();
	book[3] = proc_stat_ctxt();

	/* The kernel counts just before it calls the probe: one switch a CPU may be between. */
	under_way = probes[PROBE_CONTEXT_SWITCHES].live.cpus_nr;
	assert_true(map[1] - map[0] >= 10000);
	assert_in_range(map[1] - map[0], book[2] - book[1] - under_way,
			book[3] - book[0] + under_way);
	assert_int_equal(probe_missed(&probes[PROBE_CONTEXT_SWITCHES].live), 0);
}

static void no_process_can_write_the_map(void **state)
{
	(void)state;
	test_needs_bpf();
	for (int id = 0; id < PROBE_NR; id++) {
		const struct probe *p = &probes[id];
		size_t bytes = source_map_bytes(&p->live, 0);
		uint64_t value = 1;
		uint32_t key = 0;
		void *map;
		int fd;

		if (!p->map)
			continue;
		fd = p->live.sources[0].counts_fd;
		map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		assert_ptr_equal(map, MAP_FAILED);
		assert_int_equal(errno, EPERM);
		assert_int_equal(mprotect(p->map, bytes, PROT_READ | PROT_WRITE), -1);
		assert_int_equal(errno, EACCES);
		assert_int_equal(bpf_map_update_elem(fd, &key, &value, BPF_ANY), -EPERM);
	}
}

static void descriptors_do_not_pass_to_other_programs(void **state)
{
	(void)state;
	test_needs_bpf();
	for (int id = 0; id < PROBE_NR; id++) {
		const struct probe_live *live = &probes[id].live;

		if (!probes[id].map)
			continue;
		assert_true(fcntl(live->sources[0].counts_fd, F_GETFD) & FD_CLOEXEC);
		assert_true(fcntl(live->prog_fds[0], F_GETFD) & FD_CLOEXEC);
		assert_true(fcntl(live->link_fds[0], F_GETFD) & FD_CLOEXEC);
		assert_true(fcntl(live->slot_fds[0], F_GETFD) & FD_CLOEXEC);
	}
}

/* --- names ---------------------------------------------------------------------------------- */

static void keys_have_the_names_of_their_calls(void **state)
{
	(void)state;
	assert_string_equal(labels_of(PROBE_SYSCALLS, 0, SYS_read), "syscall=\"read\"");
	assert_string_equal(labels_of(PROBE_SYSCALLS, 0, SYS_getppid), "syscall=\"getppid\"");
	assert_string_equal(labels_of(PROBE_SYSCALLS, 0, 511), "syscall=\"nr_511\"");
	assert_string_equal(labels_of(PROBE_SYSCALLS, 0, TALEA_SYSCALLS_OTHER),
			    "syscall=\"other\"");
#ifdef __x86_64__
	assert_string_equal(labels_of(PROBE_SYSCALLS, 0, TALEA_SYSCALLS_COMPAT + 3),
			    "abi=\"i386\",syscall=\"read\"");
	assert_string_equal(labels_of(PROBE_SYSCALLS, 0, TALEA_SYSCALLS_COMPAT + 511),
			    "abi=\"i386\",syscall=\"nr_511\"");
#endif
}

static void keys_have_the_names_that_the_c_library_knows(void **state)
{
	(void)state;
	assert_string_equal(labels_of(PROBE_SYSCALL_ERRORS, 0, ENOENT), "errno=\"ENOENT\"");
	assert_string_equal(labels_of(PROBE_SYSCALL_ERRORS, 0, 512), "errno=\"nr_512\"");
	assert_string_equal(labels_of(PROBE_LOCK_CONTENTION, 0, 32), "lock=\"mutex\"");
	assert_string_equal(labels_of(PROBE_CONTEXT_SWITCHES, 1, TALEA_SWITCH_PREEMPTED),
			    "kind=\"preempted\"");
}

/* Those that only the running kernel knows were read when the probe was attached. */
static void keys_have_the_names_that_the_kernel_has_for_them(void **state)
{
	(void)state;
	need_probe(PROBE_SOFTIRQS);
	assert_string_equal(labels_of(PROBE_SOFTIRQS, 0, 3), "vector=\"NET_RX\"");
	assert_string_equal(labels_of(PROBE_SOFTIRQS, 0, 15), "vector=\"nr_15\"");
	assert_string_equal(labels_of(PROBE_BLOCK_COMPLETED, 2, 1), "operation=\"write\"");
	assert_string_equal(labels_of(PROBE_TCP_STATES, 0, 7 * TALEA_TCP_STATES + 2),
			    "from=\"close\",to=\"syn_sent\"");
	assert_string_equal(labels_of(PROBE_PACKET_DROPS, 0, 3), "reason=\"no_socket\"");
	assert_string_equal(labels_of(PROBE_PACKET_DROPS, 0, TALEA_DROPS_OTHER),
			    "reason=\"other\"");
	assert_string_equal(labels_of(PROBE_SIGNALS, 0, TALEA_SIGNALS_NR + SIGUSR1),
			    "result=\"ignored\",signal=\"SIGUSR1\"");
	assert_string_equal(labels_of(PROBE_IO_URING, 0, 0), "operation=\"nop\"");
}

static void no_two_keys_have_the_same_name(void **state)
{
	static char names[TALEA_SYSCALLS_KEYS][PROBE_LABELS_MAX];

	(void)state;
	for (int id = 0; id < PROBE_NR; id++)
		for (uint32_t nth = 0; probe_types[id].counters[nth].name; nth++) {
			const struct probe_counter *c = &probe_types[id].counters[nth];

			assert_in_range(c->nr, 1, TALEA_SYSCALLS_KEYS);
			assert_true(c->from + c->nr <= probe_types[id].keys_nr);
			for (uint32_t i = 0; c->labels && i < c->nr; i++) {
				strcpy(names[i], labels_of(id, nth, i));
				for (uint32_t j = 0; j < i; j++)
					assert_string_not_equal(names[i], names[j]);
			}
		}
}

static void a_key_that_is_none_and_a_short_buffer_are_errors(void **state)
{
	char labels[PROBE_LABELS_MAX];

	(void)state;
	for (int id = 0; id < PROBE_NR; id++)
		for (const struct probe_counter *c = probe_types[id].counters; c->name; c++) {
			if (!c->labels)
				continue;
			assert_int_equal(c->labels(id, c, c->nr, labels, sizeof(labels)), -EINVAL);
			assert_int_equal(c->labels(id, c, UINT32_MAX, labels, sizeof(labels)),
					 -EINVAL);
			assert_int_equal(c->labels(id, c, 0, labels, 4), -EMSGSIZE);
		}
}

static void what_cannot_stand_in_a_label_becomes_an_underscore(void **state)
{
	static const char long_name[] = "a-name-of-a-device-that-goes-on-and-on-without-any-"
					"end-in-sight-for-those-who-have-to-read-it";
	static struct probe_names n;
	const char *second;

	(void)state;
	probe_names_put(&n, 3, "eth0\"\\{x}", 9);
	probe_names_put(&n, 3, "another", 7);
	probe_names_put(&n, 4, "", 0);
	probe_names_put(&n, 70000, "too far", 7);
	probe_names_put(&n, 5, long_name, strlen(long_name));
	assert_string_equal(n.packed + 2, "eth0___x_");
	second = n.packed + 2 + 10;
	assert_int_equal(second[0], 5);
	assert_int_equal(strlen(second + 2), 63);
	assert_int_equal(n.bytes, 2 + 10 + 2 + 64);
	for (uint32_t key = 6; key < 5000; key++)
		probe_names_put(&n, key, "filler", 6);
	assert_in_range(n.bytes, sizeof(n.packed) - 8, sizeof(n.packed));
}

static void cpus_share_no_line_and_no_cache_set(void **state)
{
	(void)state;
	for (int id = 0; id < PROBE_NR; id++) {
		uint32_t lines = probe_types[id].stride / TALEA_LINE_U64S;

		if (!probe_types[id].keys_nr) /* laid out by talea.bpf.h */
			continue;
		assert_true(probe_types[id].stride >= probe_types[id].keys_nr);
		assert_int_equal(probe_types[id].stride % TALEA_LINE_U64S, 0);
		assert_true(lines % 2 == 1 && lines >= 3);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calls_of_one_child_are_counted_exactly),
		cmocka_unit_test(calls_on_two_cpus_at_once_are_counted_exactly),
#ifdef __x86_64__
		cmocka_unit_test(calls_of_the_32_bit_abi_have_keys_of_their_own),
#endif
		cmocka_unit_test(numbers_out_of_range_count_as_other),
		cmocka_unit_test(context_switches_lie_between_two_readings_of_proc_stat),
		cmocka_unit_test(no_process_can_write_the_map),
		cmocka_unit_test(descriptors_do_not_pass_to_other_programs),
		cmocka_unit_test(keys_have_the_names_of_their_calls),
		cmocka_unit_test(keys_have_the_names_that_the_c_library_knows),
		cmocka_unit_test(keys_have_the_names_that_the_kernel_has_for_them),
		cmocka_unit_test(no_two_keys_have_the_same_name),
		cmocka_unit_test(a_key_that_is_none_and_a_short_buffer_are_errors),
		cmocka_unit_test(what_cannot_stand_in_a_label_becomes_an_underscore),
		cmocka_unit_test(cpus_share_no_line_and_no_cache_set),
	};

	return cmocka_run_group_tests(tests, attach_all, detach_all);
}

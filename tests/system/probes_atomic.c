/*
 * That the probes' adds are atomic, by looking at the programs that the kernel holds, and why they
 * must be: the control makes two small programs that count the same calls in one cell, one with a
 * plain add and one with an atomic one. Root only.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/keeper/probe/probe.h"
#include "tests/lib/child.h"
#include "tests/lib/needs.h"

#define CALLS 300000u

#define INSNS_MAX 4096u

/* How many atomic adds the program has; fails at any other store outside the stack. */
static uint32_t atomic_adds(int prog_fd)
{
	static struct bpf_insn insns[INSNS_MAX];
	struct bpf_prog_info info = {
		.xlated_prog_insns = (uintptr_t)insns,
		.xlated_prog_len = sizeof(insns),
	};
	uint32_t bytes = sizeof(info), adds = 0;

	assert_int_equal(bpf_obj_get_info_by_fd(prog_fd, &info, &bytes), 0);
	assert_in_range(info.xlated_prog_len, sizeof(insns[0]), sizeof(insns));
	for (uint32_t i = 0; i < info.xlated_prog_len / sizeof(insns[0]); i++) {
		uint8_t class = BPF_CLASS(insns[i].code);

		if ((class != BPF_STX && class != BPF_ST) || insns[i].dst_reg == BPF_REG_10)
			continue;
		assert_int_equal(insns[i].code, BPF_STX | BPF_DW | BPF_ATOMIC);
		assert_int_equal(insns[i].imm, BPF_ADD);
		adds++;
	}
	return adds;
}

/* The program that the event's trampoline calls. */
static int program_in(int slot_fd)
{
	uint32_t key = 0, id = 0;
	int fd;

	assert_int_equal(bpf_map_lookup_elem(slot_fd, &key, &id), 0);
	fd = bpf_prog_get_fd_by_id(id);
	assert_true(fd >= 0);
	return fd;
}

static void the_only_stores_outside_the_stack_are_atomic_adds(void **state)
{
	static struct probe_live live;
	const struct pins pins = { .fd = -1 };

	(void)state;
	test_needs_bpf();
	for (uint32_t id = 0; id < PROBE_NR; id++) {
		struct probe_spec spec;
		struct probe_desired desired = { .spec = &spec, .origin = PROBE_OF_PACK };
		uint32_t adds = 0;

		pack_spec(id, &spec);
		if (probe_attach(&pins, &desired, &live) && strstr(live.reason, "has no tracepoint"))
			continue;
		assert_int_equal(live.state, WIRE_PROBE_ATTACHED);
		for (uint32_t i = 0; i < live.progs_nr; i++) {
			int slot = live.slot_fds[i];
			int program = program_in(slot);

			assert_int_equal(atomic_adds(live.prog_fds[i]), 0); /* a trampoline */
			adds += atomic_adds(program);
			close(program);
		}
		probe_end(&pins, &live);
		assert_true(adds >= 1);
	}
}

/* A raw tracepoint program that adds one to cell 0 of a map for each RARE number. */
#define RARE SYS_sched_get_priority_max

static int load_counter(int map, int atomic)
{
	const struct bpf_insn add[2][3] = {
		{ { BPF_LDX | BPF_DW | BPF_MEM, 1, 0, 0, 0 },	/* r1 = *r0; r1 += 1; *r0 = r1 */
		  { BPF_ALU64 | BPF_ADD | BPF_K, 1, 0, 0, 1 },
		  { BPF_STX | BPF_DW | BPF_MEM, 0, 1, 0, 0 } },
		{ { BPF_ALU64 | BPF_MOV | BPF_K, 1, 0, 0, 1 },	/* r1 = 1; lock *r0 += r1 */
		  { BPF_STX | BPF_DW | BPF_ATOMIC, 0, 1, 0, BPF_ADD },
		  { BPF_ALU64 | BPF_MOV | BPF_K, 1, 0, 0, 0 } },
	};
	const struct bpf_insn *a = add[atomic];
	const struct bpf_insn insns[] = {
		{ BPF_LDX | BPF_DW | BPF_MEM, 1, 1, 8, 0 },	/* r1 = number */
		{ BPF_JMP | BPF_JNE | BPF_K, 1, 0, 10, RARE },
		{ BPF_ST | BPF_W | BPF_MEM, 10, 0, -4, 0 },
		{ BPF_ALU64 | BPF_MOV | BPF_X, 2, 10, 0, 0 },
		{ BPF_ALU64 | BPF_ADD | BPF_K, 2, 0, 0, -4 },
		{ BPF_LD | BPF_DW | BPF_IMM, 1, BPF_PSEUDO_MAP_FD, 0, map },
		{ 0, 0, 0, 0, 0 },
		{ BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_map_lookup_elem },
		{ BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 3, 0 },
		a[0], a[1], a[2],
		{ BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0 },
		{ BPF_JMP | BPF_EXIT, 0, 0, 0, 0 },
	};

	return bpf_prog_load(BPF_PROG_TYPE_RAW_TRACEPOINT, "add_control", "Dual MIT/GPL", insns,
			     sizeof(insns) / sizeof(insns[0]), NULL);
}

static void call_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		_exit(1);
	for (unsigned int i = 0; i < CALLS; i++)
		syscall(RARE, 0, NULL);
	_exit(0);
}

static uint64_t counted_by(int atomic, const int cpus[2])
{
	int map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "add_control", 4, 8, 1, NULL);
	int prog = load_counter(map, atomic);
	int link = bpf_raw_tracepoint_open("sys_enter", prog);
	uint32_t key = 0;
	uint64_t n = 0;
	pid_t pids[2];

	assert_true(map >= 0 && prog >= 0 && link >= 0);
	for (int i = 0; i < 2; i++) {
		pids[i] = test_fork();
		assert_true(pids[i] >= 0);
		if (pids[i] == 0)
			call_on(cpus[i]);
	}
	for (int i = 0; i < 2; i++) {
		int status;

		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
	assert_int_equal(bpf_map_lookup_elem(map, &key, &n), 0);
	close(link);
	close(prog);
	close(map);
	return n;
}

static void plain_adds_to_one_cell_lose_and_atomic_ones_do_not(void **state)
{
	int cpus[2], nr = 0;
	cpu_set_t set;
	uint64_t plain = 0;

	(void)state;
	test_needs_bpf();
	assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
	for (int cpu = 0; cpu < CPU_SETSIZE && nr < 2; cpu++)
		if (CPU_ISSET(cpu, &set))
			cpus[nr++] = cpu;
	if (nr < 2) {
		print_message("# needs two CPUs\n");
		skip();
	}
	assert_int_equal(counted_by(1, cpus), 2 * CALLS);
	for (int i = 0; i < 5; i++) { /* the control: on a busy machine they may not overlap */
		plain = counted_by(0, cpus);
		if (plain < 2 * CALLS)
			break;
	}
	print_message("# plain: %llu of %u lost\n", 2ull * CALLS - plain, 2 * CALLS);
	assert_true(plain < 2 * CALLS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_only_stores_outside_the_stack_are_atomic_adds),
		cmocka_unit_test(plain_adds_to_one_cell_lose_and_atomic_ones_do_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * What the probes' programs make of an event's arguments: those that no test can cause, or had better
 * not, and numbers that the map has no room for. The kernel runs each program once with arguments of
 * ours (BPF_PROG_TEST_RUN), attached to nothing. Root only.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <string.h>

#include "bpf/talea_kernel.h"
#include "daemon/keeper/probe/embedded.h"
#include "tests/lib/needs.h"

#define NONE UINT32_MAX

static const struct made {
	uint32_t probe;
	uint64_t args[6];
	uint32_t key;	 /* that counts one; NONE: no key does */
	uint32_t amount_key; /* that counts `amount`, where there is an amount */
	uint64_t amount;
} made[] = {
	{ PROBE_DIRECT_RECLAIMS, { 37 }, 0, TALEA_RECLAIMS_PAGES, 37 },
	{ PROBE_DIRECT_RECLAIMS, { 0 }, 0, 0, 0 },
	{ PROBE_OOM_KILLS, { 0 }, 0, 0, 0 },
	{ PROBE_EXECS, { 0 }, 0, 0, 0 },
	{ PROBE_TASK_WAKEUPS, { 0 }, 0, 0, 0 },
	{ PROBE_TASK_MIGRATIONS, { 0 }, 0, 0, 0 },
	{ PROBE_PAGE_FAULTS_USER, { 0 }, 0, 0, 0 },
	{ PROBE_PAGE_FAULTS_KERNEL, { 0 }, 0, 0, 0 },
	{ PROBE_TCP_RESETS_RECEIVED, { 0 }, 0, 0, 0 },
	{ PROBE_TCP_SYNACK_RETRANSMITS, { 0 }, 0, 0, 0 },
	{ PROBE_FORKS, { 0, 0x11 }, TALEA_TASK_PROCESS, 0, 0 },
	{ PROBE_FORKS, { 0, 0x10000 }, TALEA_TASK_THREAD, 0, 0 },
	{ PROBE_FORKS, { 0, 1ull << 32 }, TALEA_TASK_PROCESS, 0, 0 },
	{ PROBE_SOFTIRQS, { 3 }, 3, 0, 0 },
	{ PROBE_SOFTIRQS, { TALEA_SOFTIRQS_OTHER }, TALEA_SOFTIRQS_OTHER, 0, 0 },
	{ PROBE_SOFTIRQS, { UINT32_MAX }, TALEA_SOFTIRQS_OTHER, 0, 0 },
	{ PROBE_HARDIRQS, { TALEA_HARDIRQS_OTHER - 1 }, TALEA_HARDIRQS_OTHER - 1, 0, 0 },
	{ PROBE_HARDIRQS, { 5000 }, TALEA_HARDIRQS_OTHER, 0, 0 },
	{ PROBE_SYSCALL_ERRORS, { 0, (uint64_t)-ENOENT }, ENOENT, 0, 0 },
	{ PROBE_SYSCALL_ERRORS, { 0, (uint64_t)-4095 }, TALEA_ERRNOS_OTHER, 0, 0 },
	{ PROBE_SYSCALL_ERRORS, { 0, (uint64_t)-4096 }, NONE, 0, 0 },
	{ PROBE_SYSCALL_ERRORS, { 0, 0 }, NONE, 0, 0 },
	{ PROBE_SYSCALL_ERRORS, { 0, 4096 }, NONE, 0, 0 },
	{ PROBE_SYSCALL_ERRORS, { 0, (uint32_t)-ENOENT }, NONE, 0, 0 },
	{ PROBE_PACKET_DROPS, { 0, 0, 6 }, 6, 0, 0 },
	{ PROBE_PACKET_DROPS, { 0, 0, 3 << 16 | 9 }, TALEA_DROPS_SUBSYS + 3, 0, 0 },
	{ PROBE_PACKET_DROPS, { 0, 0, TALEA_DROPS_SUBSYS }, TALEA_DROPS_OTHER, 0, 0 },
	{ PROBE_PACKET_DROPS, { 0, 0, 100 << 16 | 1 }, TALEA_DROPS_OTHER, 0, 0 },
	{ PROBE_SIGNALS, { 9, 0, 0, 0, 0 }, 9, 0, 0 },
	{ PROBE_SIGNALS, { 64, 0, 0, 1, 4 }, 4 * TALEA_SIGNALS_NR + 64, 0, 0 },
	{ PROBE_SIGNALS, { TALEA_SIGNALS_NR, 0, 0, 0, 0 }, TALEA_SIGNALS_OTHER, 0, 0 },
	{ PROBE_SIGNALS, { 9, 0, 0, 0, TALEA_SIGNALS_RESULTS }, TALEA_SIGNALS_OTHER, 0, 0 },
	{ PROBE_LOCK_CONTENTION, { 0, 3 }, 3, 0, 0 },
	{ PROBE_LOCK_CONTENTION, { 0, TALEA_LOCKS_OTHER }, TALEA_LOCKS_OTHER, 0, 0 },
	{ PROBE_COMPACTIONS, { 0, 0, 0, 1, 5 }, 5, 0, 0 },
	{ PROBE_COMPACTIONS, { 0, 0, 0, 1, 1000 }, TALEA_COMPACTIONS_OTHER, 0, 0 },
};

/* The program itself, without the one that events enter by. */
static struct bpf_object *load(uint32_t id, uint32_t cpus_nr)
{
	struct bpf_object *obj;
	struct bpf_map *counts;
	size_t bytes;
	const void *elf = embedded_object(&probe_types[id], &bytes);

	libbpf_set_print(NULL);
	obj = bpf_object__open_mem(elf, bytes, NULL);
	assert_non_null(obj);
	counts = bpf_object__find_map_by_name(obj, "counts");
	assert_int_equal(bpf_map__set_max_entries(counts, cpus_nr * probe_types[id].stride), 0);
	assert_int_equal(bpf_object__load(obj), 0);
	return obj;
}

static uint64_t read_key(const struct bpf_object *obj, uint32_t id, uint32_t cpus_nr, uint32_t key)
{
	int map = bpf_map__fd(bpf_object__find_map_by_name(obj, "counts"));
	uint64_t sum = 0, cell;

	for (uint32_t cpu = 0; cpu < cpus_nr; cpu++) {
		uint32_t at = cpu * probe_types[id].stride + key;

		assert_int_equal(bpf_map_lookup_elem(map, &at, &cell), 0);
		sum += cell;
	}
	return sum;
}

static void run(const struct made *m)
{
	const uint32_t cpus_nr = (uint32_t)libbpf_num_possible_cpus();
	const char *name = probe_types[m->probe].name;
	struct bpf_object *obj = load(m->probe, cpus_nr);
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = m->args, .ctx_size_in = sizeof(m->args));
	int fd = bpf_program__fd(bpf_object__find_program_by_name(obj, name));

	assert_int_equal(bpf_prog_test_run_opts(fd, &opts), 0);
	for (uint32_t key = 0; key < probe_types[m->probe].keys_nr; key++) {
		uint64_t want = m->amount && key == m->amount_key ? m->amount : key == m->key;
		uint64_t is = read_key(obj, m->probe, cpus_nr, key);

		if (is != want)
			fail_msg("%s(%#llx, %#llx, %#llx...): key %u has %llu, not %llu", name,
				 (unsigned long long)m->args[0], (unsigned long long)m->args[1],
				 (unsigned long long)m->args[2], key, (unsigned long long)is,
				 (unsigned long long)want);
	}
	bpf_object__close(obj);
}

static void each_event_counts_in_its_key_alone(void **state)
{
	(void)state;
	test_needs_bpf();
	for (size_t i = 0; i < sizeof(made) / sizeof(made[0]); i++)
		run(&made[i]);
}

/* What is not made here takes a pointer of the kernel's, and is caused by another test. */
static void every_probe_without_a_pointer_is_made(void **state)
{
	(void)state;
	for (uint32_t id = 0; id < PROBE_NR; id++) {
		bool is_made = strncmp(probe_types[id].attach, "raw_tp:", 7);

		for (size_t i = 0; i < sizeof(made) / sizeof(made[0]); i++)
			is_made |= made[i].probe == id;
		if (!is_made)
			fail_msg("%s", probe_types[id].name);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_event_counts_in_its_key_alone),
		cmocka_unit_test(every_probe_without_a_pointer_is_made),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

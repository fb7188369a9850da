/*
 * Pins as keeper/probe makes them, without a daemon: a pinned probe is gone on with, another layout
 * is refused and replaced on request alone, and another version of a program takes the place of the
 * old one between two events. Root only; all mounts are made in the private mount namespace of the
 * test.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "order.h"
#include "tests/lib/harness.h"
#include "tests/lib/needs.h"
#include "tests/lib/probing.h"

/* A call that nothing else on a host makes, so that its count can be exact. */
#define RARE_CALL SYS_sched_get_priority_min
#define CALLS	  30011u
#define CALLS_WHILE_REPLACED 500000u /* or more */
#define STORES_MIN	     3000u

static void calls(uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++)
		syscall(RARE_CALL, 0);
}

static uint64_t counted(void)
{
	size_t bytes = source_map_bytes(&probing.live, 0);
	uint64_t *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED,
			     probing.live.sources[0].counts_fd, 0), sum = 0;

	assert_ptr_not_equal(map, MAP_FAILED);
	for (uint32_t cpu = 0; cpu < probing.live.cpus_nr; cpu++)
		sum += shm_count_read(&map[cpu * probe_types[PROBE_SYSCALLS].stride + RARE_CALL]);
	munmap(map, bytes);
	return sum;
}

static void a_pinned_probe_is_gone_on_with(void **state)
{
	uint64_t since, before;

	(void)state;
	test_needs_bpf();
	assert_int_equal(probing_attach(PROBE_SYSCALLS, false), 0);
	assert_true(probing.live.is_pinned && !probing.live.is_adopted);
	since = probing.live.since_real_ns;
	before = counted();
	probe_close(&probing.live);
	calls(CALLS);
	assert_int_equal(probing_attach(PROBE_SYSCALLS, false), 0);
	assert_true(probing.live.is_pinned && probing.live.is_adopted);
	assert_int_equal(probing.live.since_real_ns, since);
	assert_int_equal(counted() - before, CALLS);
	probe_end(&probing.pins, &probing.live);
	assert_int_equal(probing_attach(PROBE_SYSCALLS, false), 0);
	assert_false(probing.live.is_adopted);
	assert_in_range(counted(), 0, CALLS - 1);
	probe_end(&probing.pins, &probing.live);
}

static void another_layout_is_replaced_on_request_alone(void **state)
{
	struct pin_meta m;

	(void)state;
	test_needs_bpf();
	assert_int_equal(probing_attach(PROBE_SYSCALLS, false), 0);
	calls(CALLS);
	probe_close(&probing.live);
	assert_int_equal(pin_find(&probing.pins, "syscalls", &m), 0);
	m.cpus_nr++;
	m.layout_hash++;
	assert_int_equal(pin_update(&probing.pins, "syscalls", &m), 0);
	assert_int_equal(probing_attach(PROBE_SYSCALLS, false), -EEXIST);
	assert_int_equal(probing.live.state, WIRE_PROBE_FAILED);
	assert_true(strtoull(strstr(probing.live.reason, "counted ") + 8, NULL, 10) >= CALLS);
	assert_non_null(strstr(probing.live.reason, " CPUs, and here can be "));
	assert_non_null(strstr(probing.live.reason, " since 20"));
	assert_string_equal(probing.live.fix, "talea attach --replace syscalls");
	assert_int_equal(probing_attach(PROBE_SYSCALLS, true), 0);
	assert_true(probing.live.is_pinned && !probing.live.is_adopted);
	assert_in_range(counted(), 0, CALLS - 1);
	probe_close(&probing.live);
	assert_int_equal(probing_attach(PROBE_SYSCALLS, false), 0);
	assert_true(probing.live.is_adopted);
	probe_end(&probing.pins, &probing.live);
}

static void what_another_version_has_pinned_is_refused(void **state)
{
	struct pin_meta m;

	(void)state;
	test_needs_bpf();
	assert_int_equal(probing_attach(PROBE_SYSCALLS, false), 0);
	probe_close(&probing.live);
	assert_int_equal(pin_find(&probing.pins, "syscalls", &m), 0);
	m.version++;
	assert_int_equal(pin_update(&probing.pins, "syscalls", &m), 0);
	assert_int_equal(probing_attach(PROBE_SYSCALLS, false), -EEXIST);
	assert_non_null(strstr(probing.live.reason, "another version of talead"));
	assert_int_equal(probing_attach(PROBE_SYSCALLS, true), 0);
	probe_end(&probing.pins, &probing.live);
}

static void what_a_killed_talead_left_half_made_goes(void **state)
{
	char half[96], without_meta[96], whole[96];
	struct stat st;

	(void)state;
	test_needs_bpf();
	assert_int_equal(probing_attach(PROBE_SYSCALLS, false), 0);
	probe_close(&probing.live);
	snprintf(half, sizeof(half), "%s/bpf/+forks", probing.folder);
	snprintf(without_meta, sizeof(without_meta), "%s/bpf/execs", probing.folder);
	snprintf(whole, sizeof(whole), "%s/bpf/syscalls/meta", probing.folder);
	assert_int_equal(mkdir(half, 0700), 0);
	assert_int_equal(mkdir(without_meta, 0700), 0);
	pins_close(&probing.pins);
	pins_open(&probing.pins, probing.folder);
	assert_int_equal(stat(half, &st), -1);
	assert_int_equal(stat(without_meta, &st), -1);
	assert_int_equal(stat(whole, &st), 0);
	assert_int_equal(pins_remove(&probing.pins, "syscalls"), 0);
	assert_int_equal(pins_remove(&probing.pins, "syscalls"), -ENOENT);
}

/* --- another program -------------------------------------------------------------------------- */

static uint32_t is_enough; /* shm_set32: the thread may end once it has made its calls */

static void *calls_in_a_thread(void *ret_made)
{
	uint64_t *made = ret_made;

	*made = 0;
	while (*made < CALLS_WHILE_REPLACED || !shm_read32(&is_enough)) {
		calls(1000);
		*made += 1000;
	}
	return NULL;
}

/* A descriptor of the program that is in the tail-call slot now. */
static int program_now(void)
{
	uint32_t key = 0, id = 0;
	int fd;

	assert_int_equal(bpf_map_lookup_elem(probing.live.slot_fds[0], &key, &id), 0);
	fd = bpf_prog_get_fd_by_id(id);
	assert_true(fd >= 0);
	return fd;
}

/* Goes on with it as a talead does that brings another version of the program. */
static void adopt_as_another_version_of(uint32_t id)
{
	const char *name = probe_types[id].name;
	struct pin_meta m;
	uint64_t ours;

	assert_int_equal(pin_find(&probing.pins, name, &m), 0);
	ours = m.program_hash;
	m.program_hash++;
	assert_int_equal(pin_update(&probing.pins, name, &m), 0);
	probe_close(&probing.live);
	assert_int_equal(probing_attach(id, false), 0);
	assert_true(probing.live.is_adopted);
	assert_int_equal(pin_find(&probing.pins, name, &m), 0);
	assert_int_equal(m.program_hash, ours);
}

static void adopt_as_another_version(void)
{
	adopt_as_another_version_of(PROBE_SYSCALLS);
}

static void a_program_is_replaced_without_an_event_missed_or_doubled(void **state)
{
	uint32_t key = 0, stored = 0, adopted = 0;
	uint64_t before, made;
	int bodies[2];
	pthread_t thread;

	(void)state;
	test_needs_bpf();
	assert_int_equal(probing_attach(PROBE_SYSCALLS, false), 0);
	bodies[0] = program_now();
	adopt_as_another_version();
	bodies[1] = program_now();
	before = counted();
	shm_set32(&is_enough, 0);
	assert_int_equal(pthread_create(&thread, NULL, calls_in_a_thread, &made), 0);
	while (pthread_tryjoin_np(thread, NULL) == EBUSY) {
		for (int i = 0; i < 64; i++, stored++)
			assert_int_equal(bpf_map_update_elem(probing.live.slot_fds[0], &key,
							     &bodies[stored % 2], BPF_ANY), 0);
		if (stored % 512 == 0 && ++adopted)
			adopt_as_another_version();
		shm_set32(&is_enough, stored >= STORES_MIN);
	}
	print_message("# %llu calls, %u programs stored, %u of them new\n",
		      (unsigned long long)made, stored, adopted);
	assert_int_equal(counted() - before, made);
	close(bodies[0]);
	close(bodies[1]);
	probe_end(&probing.pins, &probing.live);
}

/* The control: taking the link away and making another. */
static void a_program_that_is_detached_and_attached_misses_some(void **state)
{
	const struct pins none = { .fd = -1 };
	struct probe_spec spec;
	const struct probe_desired desired = { .spec = &spec, .origin = PROBE_OF_PACK };
	const struct timespec pause = { .tv_nsec = 1000000 };
	uint64_t before, made, missed;
	uint32_t replaced = 0;
	pthread_t thread;

	(void)state;
	test_needs_bpf();
	pack_spec(PROBE_SYSCALLS, &spec);
	assert_int_equal(probe_attach(&none, &desired, &probing.live), 0);
	before = counted();
	shm_set32(&is_enough, 0);
	assert_int_equal(pthread_create(&thread, NULL, calls_in_a_thread, &made), 0);
	while (pthread_tryjoin_np(thread, NULL) == EBUSY) {
		close(probing.live.link_fds[0]);
		nanosleep(&pause, NULL); /* beside another probe there a gap may be too short to hit */
		probing.live.link_fds[0] = bpf_raw_tracepoint_open(NULL, probing.live.prog_fds[0]);
		assert_true(probing.live.link_fds[0] >= 0);
		nanosleep(&pause, NULL);
		shm_set32(&is_enough, ++replaced >= 20);
	}
	missed = made - (counted() - before);
	print_message("# %llu of %llu missed in %u gaps\n", (unsigned long long)missed,
		      (unsigned long long)made, replaced);
	assert_in_range(missed, 1, made - 1);
	probe_end(&none, &probing.live);
}

static uint32_t program_id(int fd)
{
	struct bpf_prog_info info = { 0 };
	uint32_t bytes = sizeof(info);

	assert_int_equal(bpf_obj_get_info_by_fd(fd, &info, &bytes), 0);
	return info.id;
}

static uint32_t map_id(int fd)
{
	struct bpf_map_info info = { 0 };
	uint32_t bytes = sizeof(info);

	assert_int_equal(bpf_obj_get_info_by_fd(fd, &info, &bytes), 0);
	return info.id;
}

/* Of the program that the first trampoline of an object calls. */
static uint32_t first_program_id(void)
{
	uint32_t key = 0, id = 0;

	assert_int_equal(bpf_map_lookup_elem(probing.live.slot_fds[0], &key, &id), 0);
	return id;
}

/* The same trampolines and maps, other programs behind them; no program of the old version is left. */
static void an_objects_programs_are_replaced_and_its_counts_go_on(void **state)
{
	uint32_t trampoline, old, maps[2], nr;
	int fd;

	(void)state;
	test_needs_bpf();
	assert_int_equal(probing_attach(PROBE_INTERFACE_TRAFFIC, false), 0);
	trampoline = program_id(probing.live.prog_fds[0]);
	old = first_program_id();
	maps[0] = map_id(probing.live.sources[0].counts_fd);
	maps[1] = map_id(probing.live.sources[0].keys_fd);
	nr = probing.live.links_nr;
	adopt_as_another_version_of(PROBE_INTERFACE_TRAFFIC);
	assert_int_equal(probing.live.links_nr, nr);
	assert_int_equal(program_id(probing.live.prog_fds[0]), trampoline);
	assert_int_not_equal(first_program_id(), old);
	assert_int_equal(map_id(probing.live.sources[0].counts_fd), maps[0]);
	assert_int_equal(map_id(probing.live.sources[0].keys_fd), maps[1]);
	for (int i = 0; i < 500; i++) {
		fd = bpf_prog_get_fd_by_id(old);
		if (fd < 0)
			break;
		close(fd);
		harness_sleep_ms(10);
	}
	assert_int_equal(bpf_prog_get_fd_by_id(old), -ENOENT);
	probe_close(&probing.live);
	assert_int_equal(probing_attach(PROBE_INTERFACE_TRAFFIC, false), 0);
	assert_true(probing.live.is_adopted && probing.live.links_nr == nr);
	probe_end(&probing.pins, &probing.live);
}

/* Killed when the old programs had ended and no new one had begun: begun again, and told. */
static void what_a_kill_left_between_two_objects_begins_again(void **state)
{
	const char *name = probe_types[PROBE_INTERFACE_TRAFFIC].name;
	struct pin_meta m;
	uint32_t map, nr;

	(void)state;
	test_needs_bpf();
	assert_int_equal(probing_attach(PROBE_INTERFACE_TRAFFIC, false), 0);
	map = map_id(probing.live.sources[0].counts_fd);
	nr = probing.live.links_nr;
	assert_int_equal(pin_find(&probing.pins, name, &m), 0);
	m.program_hash = 0;
	m.progs_nr = m.links_nr = 0;
	assert_int_equal(pin_update(&probing.pins, name, &m), 0);
	assert_int_equal(pin_drop_programs(&probing.pins, name), 0);
	probe_close(&probing.live);
	assert_int_equal(probing_attach(PROBE_INTERFACE_TRAFFIC, false), 0);
	assert_true(probing.live.is_adopted);
	assert_int_equal(probing.live.replaced, PROBE_REPLACED_GAP_KILLED);
	assert_int_equal(probing.live.links_nr, nr);
	assert_int_equal(map_id(probing.live.sources[0].counts_fd), map);
	probe_close(&probing.live);
	assert_int_equal(probing_attach(PROBE_INTERFACE_TRAFFIC, false), 0);
	assert_int_equal(probing.live.replaced, PROBE_SAME);
	probe_end(&probing.pins, &probing.live);
}

static uint64_t counted_by_comm(const char *comm)
{
	char key[TALEA_KEY_BYTES] = "";
	uint64_t values[1024] = { 0 }, sum = 0;

	memcpy(key, comm, strlen(comm));
	if (bpf_map_lookup_elem(probing.live.sources[0].keys_fd, key, values))
		return 0;
	for (int cpu = 0; cpu < libbpf_num_possible_cpus(); cpu++)
		sum += values[cpu];
	return sum;
}

static void a_declared_program_is_replaced_and_its_keys_go_on(void **state)
{
	struct pin_meta m;
	uint64_t before;

	(void)state;
	test_needs_bpf();
	assert_int_equal(probing_attach_by_comm(&probing.pins), 0);
	probing_run_true();
	before = counted_by_comm("true");
	assert_true(before >= 1);
	assert_int_equal(pin_find(&probing.pins, probing_by_comm.name, &m), 0);
	m.program_hash++;
	assert_int_equal(pin_update(&probing.pins, probing_by_comm.name, &m), 0);
	probe_close(&probing.live);
	probing_run_true();
	assert_int_equal(probing_attach_by_comm(&probing.pins), 0);
	assert_true(probing.live.is_adopted);
	probing_run_true();
	assert_true(counted_by_comm("true") >= before + 2);
	probe_end(&probing.pins, &probing.live);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		PROBING_TEST(a_pinned_probe_is_gone_on_with),
		PROBING_TEST(another_layout_is_replaced_on_request_alone),
		PROBING_TEST(what_another_version_has_pinned_is_refused),
		PROBING_TEST(what_a_killed_talead_left_half_made_goes),
		PROBING_TEST(a_program_is_replaced_without_an_event_missed_or_doubled),
		PROBING_TEST(a_program_that_is_detached_and_attached_misses_some),
		PROBING_TEST(an_objects_programs_are_replaced_and_its_counts_go_on),
		PROBING_TEST(what_a_kill_left_between_two_objects_begins_again),
		PROBING_TEST(a_declared_program_is_replaced_and_its_keys_go_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * Pins as daemon/probe makes them, without a daemon: a pinned probe is gone on with, another layout is
 * refused and replaced on request alone, another version of a program takes the place of the old one
 * between two events, and what a worker is given cannot write. Root only; all mounts are made in the
 * private mount namespace of the test.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include "daemon/probe/pins.h"
#include "order.h"
#include "tests/lib/harness.h"
#include "tests/lib/needs.h"

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

static char folder[] = "/tmp/talea-test-XXXXXX";
static struct pins pins = { .fd = -1 };
static struct probe_live live;

static int make_folder(void **state)
{
	(void)state;
	strcpy(folder, "/tmp/talea-test-XXXXXX");
	pins = (struct pins){ .fd = -1 };
	if (!mkdtemp(folder))
		return -1;
	if (geteuid() == 0)
		pins_open(&pins, folder);
	return 0;
}

static int remove_folder(void **state)
{
	char path[64];

	(void)state;
	pins_close(&pins);
	pins_remove_all(folder);
	snprintf(path, sizeof(path), "%s/bpf", folder);
	umount2(path, MNT_DETACH);
	rmdir(path);
	rmdir(folder);
	return 0;
}

static int attach_of_table(uint32_t id, bool is_replacing)
{
	const struct probe_wish wish = { .id = id, .origin = PROBE_OF_TABLE,
					 .is_replacing = is_replacing };
	int err = probe_attach(&pins, &wish, &live);

	if (err)
		print_message("# %s. fix: %s\n", live.reason, live.fix);
	return err;
}

static int attach(bool is_replacing)
{
	return attach_of_table(PROBE_SYSCALLS, is_replacing);
}

static uint64_t counted(void)
{
	size_t bytes = probe_map_bytes(PROBE_SYSCALLS, &live);
	uint64_t *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, live.map_fd, 0), sum = 0;

	assert_ptr_not_equal(map, MAP_FAILED);
	for (uint32_t cpu = 0; cpu < live.cpus_nr; cpu++)
		sum += shm_count_read(&map[cpu * probe_types[PROBE_SYSCALLS].stride + RARE_CALL]);
	munmap(map, bytes);
	return sum;
}

static void a_pinned_probe_is_gone_on_with(void **state)
{
	uint64_t since, before;

	(void)state;
	test_needs_bpf();
	assert_int_equal(attach(false), 0);
	assert_true(live.is_pinned && !live.is_adopted);
	since = live.since_real_ns;
	before = counted();
	probe_close(&live);
	calls(CALLS);
	assert_int_equal(attach(false), 0);
	assert_true(live.is_pinned && live.is_adopted);
	assert_int_equal(live.since_real_ns, since);
	assert_int_equal(counted() - before, CALLS);
	probe_end(&pins, PROBE_SYSCALLS, &live);
	assert_int_equal(attach(false), 0);
	assert_false(live.is_adopted);
	assert_in_range(counted(), 0, CALLS - 1);
	probe_end(&pins, PROBE_SYSCALLS, &live);
}

static void another_layout_is_replaced_on_request_alone(void **state)
{
	struct pin_meta m;

	(void)state;
	test_needs_bpf();
	assert_int_equal(attach(false), 0);
	calls(CALLS);
	probe_close(&live);
	assert_int_equal(pin_find(&pins, "syscalls", &m), 0);
	m.cpus_nr++;
	m.layout_hash++;
	assert_int_equal(pin_update(&pins, "syscalls", &m), 0);
	assert_int_equal(attach(false), -EEXIST);
	assert_int_equal(live.state, WIRE_PROBE_FAILED);
	assert_true(strtoull(strstr(live.reason, "counted ") + 8, NULL, 10) >= CALLS);
	assert_non_null(strstr(live.reason, " CPUs, and here can be "));
	assert_non_null(strstr(live.reason, " since 20"));
	assert_string_equal(live.fix, "talea attach --replace syscalls");
	assert_int_equal(attach(true), 0);
	assert_true(live.is_pinned && !live.is_adopted);
	assert_in_range(counted(), 0, CALLS - 1);
	probe_close(&live);
	assert_int_equal(attach(false), 0);
	assert_true(live.is_adopted);
	probe_end(&pins, PROBE_SYSCALLS, &live);
}

static void what_another_version_has_pinned_is_refused(void **state)
{
	struct pin_meta m;

	(void)state;
	test_needs_bpf();
	assert_int_equal(attach(false), 0);
	probe_close(&live);
	assert_int_equal(pin_find(&pins, "syscalls", &m), 0);
	m.version++;
	assert_int_equal(pin_update(&pins, "syscalls", &m), 0);
	assert_int_equal(attach(false), -EEXIST);
	assert_non_null(strstr(live.reason, "another version of talead"));
	assert_int_equal(attach(true), 0);
	probe_end(&pins, PROBE_SYSCALLS, &live);
}

static void what_a_killed_talead_left_half_made_goes(void **state)
{
	char half[96], without_meta[96], whole[96];
	struct stat st;

	(void)state;
	test_needs_bpf();
	assert_int_equal(attach(false), 0);
	probe_close(&live);
	snprintf(half, sizeof(half), "%s/bpf/+forks", folder);
	snprintf(without_meta, sizeof(without_meta), "%s/bpf/execs", folder);
	snprintf(whole, sizeof(whole), "%s/bpf/syscalls/meta", folder);
	assert_int_equal(mkdir(half, 0700), 0);
	assert_int_equal(mkdir(without_meta, 0700), 0);
	pins_close(&pins);
	pins_open(&pins, folder);
	assert_int_equal(stat(half, &st), -1);
	assert_int_equal(stat(without_meta, &st), -1);
	assert_int_equal(stat(whole, &st), 0);
	assert_int_equal(pins_remove(&pins, "syscalls"), 0);
	assert_int_equal(pins_remove(&pins, "syscalls"), -ENOENT);
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

/* A descriptor of the program that the stub goes on to now. */
static int body(void)
{
	uint32_t key = 0, id = 0;
	int fd;

	assert_int_equal(bpf_map_lookup_elem(live.jump_fd, &key, &id), 0);
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

	assert_int_equal(pin_find(&pins, name, &m), 0);
	ours = m.program_hash;
	m.program_hash++;
	assert_int_equal(pin_update(&pins, name, &m), 0);
	probe_close(&live);
	assert_int_equal(attach_of_table(id, false), 0);
	assert_true(live.is_adopted);
	assert_int_equal(pin_find(&pins, name, &m), 0);
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
	assert_int_equal(attach(false), 0);
	bodies[0] = body();
	adopt_as_another_version();
	bodies[1] = body();
	before = counted();
	shm_set32(&is_enough, 0);
	assert_int_equal(pthread_create(&thread, NULL, calls_in_a_thread, &made), 0);
	while (pthread_tryjoin_np(thread, NULL) == EBUSY) {
		for (int i = 0; i < 64; i++, stored++)
			assert_int_equal(bpf_map_update_elem(live.jump_fd, &key, &bodies[stored % 2],
							     BPF_ANY), 0);
		if (stored % 512 == 0 && ++adopted)
			adopt_as_another_version();
		shm_set32(&is_enough, stored >= STORES_MIN);
	}
	print_message("# %llu calls, %u programs stored, %u of them new\n",
		      (unsigned long long)made, stored, adopted);
	assert_int_equal(counted() - before, made);
	close(bodies[0]);
	close(bodies[1]);
	probe_end(&pins, PROBE_SYSCALLS, &live);
}

/* The control: taking the link away and making another. */
static void a_program_that_is_detached_and_attached_misses_some(void **state)
{
	const struct pins none = { .fd = -1 };
	const struct probe_wish wish = { .id = PROBE_SYSCALLS, .origin = PROBE_OF_TABLE };
	const struct timespec pause = { .tv_nsec = 1000000 };
	uint64_t before, made, missed;
	uint32_t replaced = 0;
	pthread_t thread;

	(void)state;
	test_needs_bpf();
	assert_int_equal(probe_attach(&none, &wish, &live), 0);
	before = counted();
	shm_set32(&is_enough, 0);
	assert_int_equal(pthread_create(&thread, NULL, calls_in_a_thread, &made), 0);
	while (pthread_tryjoin_np(thread, NULL) == EBUSY) {
		close(live.link_fds[0]);
		nanosleep(&pause, NULL); /* beside another probe there a gap may be too short to hit */
		live.link_fds[0] = bpf_raw_tracepoint_open(NULL, live.prog_fds[0]);
		assert_true(live.link_fds[0] >= 0);
		nanosleep(&pause, NULL);
		shm_set32(&is_enough, ++replaced >= 20);
	}
	missed = made - (counted() - before);
	print_message("# %llu of %llu missed in %u gaps\n", (unsigned long long)missed,
		      (unsigned long long)made, replaced);
	assert_in_range(missed, 1, made - 1);
	probe_end(&none, PROBE_SYSCALLS, &live);
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

/* It has no stub: other programs, but the same maps; and no program of the old version is left. */
static void an_objects_programs_are_replaced_and_its_counts_go_on(void **state)
{
	uint32_t old, maps[2], nr;
	int fd;

	(void)state;
	test_needs_bpf();
	assert_int_equal(attach_of_table(PROBE_INTERFACE_TRAFFIC, false), 0);
	assert_int_equal(live.jump_fd, -1);
	old = program_id(live.prog_fds[0]);
	maps[0] = map_id(live.sources[0].counts_fd);
	maps[1] = map_id(live.sources[0].keys_fd);
	nr = live.links_nr;
	adopt_as_another_version_of(PROBE_INTERFACE_TRAFFIC);
	assert_int_equal(live.links_nr, nr);
	assert_int_not_equal(program_id(live.prog_fds[0]), old);
	assert_int_equal(map_id(live.sources[0].counts_fd), maps[0]);
	assert_int_equal(map_id(live.sources[0].keys_fd), maps[1]);
	for (int i = 0; i < 500; i++) {
		fd = bpf_prog_get_fd_by_id(old);
		if (fd < 0)
			break;
		close(fd);
		harness_sleep_ms(10);
	}
	assert_int_equal(bpf_prog_get_fd_by_id(old), -ENOENT);
	probe_close(&live);
	assert_int_equal(attach_of_table(PROBE_INTERFACE_TRAFFIC, false), 0);
	assert_true(live.is_adopted && live.links_nr == nr);
	probe_end(&pins, PROBE_INTERFACE_TRAFFIC, &live);
}

/* --- what the worker may have ----------------------------------------------------------------- */

static const struct probe_spec by_comm = {
	.name = "raw_tp_sched_process_exec",
	.counter = "probe_sched_process_exec_total",
	.target = "sched_process_exec",
	.event = SPEC_RAW_TP,
	.keys_max = 64,
	.keys_nr = 1,
	.keys = { { .field = SPEC_COMM } },
	.text = "raw_tp:sched_process_exec by comm",
};

static int attach_by_comm(const struct pins *where)
{
	const struct probe_wish wish = { .id = PROBE_NR, .spec = &by_comm,
					 .origin = PROBE_OF_COMMAND };

	return probe_attach(where, &wish, &live);
}

static void run_true(void)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		execlp("true", "true", NULL);
		_exit(127);
	}
	assert_int_equal(harness_wait(pid), 0);
}

static uint64_t counted_by_comm(const char *comm)
{
	char key[TALEA_KEY_BYTES] = "";
	uint64_t values[1024] = { 0 }, sum = 0;

	memcpy(key, comm, strlen(comm));
	if (bpf_map_lookup_elem(live.sources[0].keys_fd, key, values))
		return 0;
	for (int cpu = 0; cpu < libbpf_num_possible_cpus(); cpu++)
		sum += values[cpu];
	return sum;
}

/* NULL, or what a worker can do with its descriptors that it must not. */
static const char *worker_can(void)
{
	struct probe_live worker = live;
	struct probe_source *s = &worker.sources[0];
	char key[TALEA_KEY_BYTES] = "true", next[TALEA_KEY_BYTES];
	uint64_t values[1024] = { 0 };
	struct probe_ledger ledger = { 0 };
	uint32_t zero = 0;

	probe_for_worker(&worker);
	if (worker.jump_fd >= 0 || worker.prog_fds[0] >= 0 || worker.link_fds[0] >= 0)
		return "change the program";
	if (!bpf_map_update_elem(s->keys_fd, key, values, BPF_ANY))
		return "write keys";
	if (!bpf_map_delete_elem(s->keys_fd, key) || errno == ENOENT)
		return "delete keys";
	if (s->ledger_fd >= 0 && !bpf_map_update_elem(s->ledger_fd, &zero, &ledger, BPF_ANY))
		return "write the ledger";
	if (!bpf_map_update_elem(s->counts_fd, &zero, values, BPF_ANY))
		return "write counts";
	if (bpf_map_get_next_key(s->keys_fd, NULL, next) ||
	    bpf_map_lookup_elem(s->keys_fd, next, values))
		return "not read keys";
	if (s->ledger_fd >= 0 && bpf_map_lookup_elem(s->ledger_fd, &zero, &ledger))
		return "not read the ledger";
	return NULL;
}

static void a_declared_program_is_replaced_and_its_keys_go_on(void **state)
{
	struct pin_meta m;
	uint64_t before;

	(void)state;
	test_needs_bpf();
	assert_int_equal(attach_by_comm(&pins), 0);
	run_true();
	before = counted_by_comm("true");
	assert_true(before >= 1);
	assert_int_equal(pin_find(&pins, by_comm.name, &m), 0);
	m.program_hash++;
	assert_int_equal(pin_update(&pins, by_comm.name, &m), 0);
	probe_close(&live);
	run_true();
	assert_int_equal(attach_by_comm(&pins), 0);
	assert_true(live.is_adopted);
	run_true();
	assert_true(counted_by_comm("true") >= before + 2);
	probe_end(&pins, PROBE_NR, &live);
}

static void a_worker_reads_keys_and_ledger_and_writes_neither(void **state)
{
	const struct pins none = { .fd = -1, .why = "a test" };

	(void)state;
	test_needs_bpf();
	for (int pinned = 0; pinned < 2; pinned++) {
		assert_int_equal(attach_by_comm(pinned ? &pins : &none), 0);
		assert_int_equal(live.is_pinned, pinned);
		assert_string_equal(live.unpinned_why, pinned ? "" : "a test");
		assert_true(live.sources[0].ledger_fd >= 0);
		run_true();
		assert_ptr_equal(worker_can(), NULL);
		probe_end(&pins, PROBE_NR, &live);
	}
}

/* --- as an ordinary user ---------------------------------------------------------------------- */

static int as_nobody(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	const uint64_t caps = 1ull << CAP_BPF | 1ull << CAP_PERFMON;
	struct __user_cap_data_struct data[2] = {
		{ .effective = (uint32_t)caps, .permitted = (uint32_t)caps },
		{ .effective = (uint32_t)(caps >> 32), .permitted = (uint32_t)(caps >> 32) },
	};

	if (prctl(PR_SET_KEEPCAPS, 1) || setresgid(65534, 65534, 65534) ||
	    setresuid(65534, 65534, 65534))
		return -errno;
	return syscall(SYS_capset, &head, data) ? -errno : 0;
}

/* Who may not mount: nothing is pinned, and why is said; keys can then be written by nobody. */
static int without_a_mount(void)
{
	CHECK(as_nobody() == 0);
	pins_open(&pins, folder);
	CHECK(pins.fd < 0 && strstr(pins.why, "may not mount. fix, as root: d=/"));
	CHECK(attach_by_comm(&pins) == 0);
	CHECK(!live.is_pinned && !strcmp(live.unpinned_why, pins.why));
	CHECK(live.sources[0].keys_fd >= 0 && live.sources[0].ledger_fd < 0);
	run_true();
	CHECK(worker_can() == NULL);
	return 0;
}

/* Where somebody has mounted it for him he pins, and goes on, as root does. */
static int with_a_mount(void)
{
	CHECK(as_nobody() == 0);
	pins_open(&pins, folder);
	CHECK(pins.fd >= 0);
	CHECK(attach_by_comm(&pins) == 0);
	CHECK(live.is_pinned && live.sources[0].ledger_fd >= 0);
	probe_close(&live);
	run_true();
	CHECK(attach_by_comm(&pins) == 0);
	CHECK(live.is_adopted);
	CHECK(worker_can() == NULL);
	probe_end(&pins, PROBE_NR, &live);
	return 0;
}

static void run_child(int (*run)(void))
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(run());
	assert_int_equal(harness_wait(pid), 0);
}

static void an_ordinary_user_pins_where_a_bpffs_was_mounted_for_him(void **state)
{
	char path[64];

	(void)state;
	test_needs_bpf();
	snprintf(path, sizeof(path), "%s/bpf", folder);
	assert_int_equal(chown(folder, 65534, 65534), 0);
	pins_close(&pins);
	assert_int_equal(umount2(path, MNT_DETACH), 0);
	run_child(without_a_mount);
	assert_int_equal(mount("bpf", path, "bpf", 0, NULL), 0);
	assert_int_equal(chown(path, 65534, 65534), 0);
	assert_int_equal(chmod(path, 0700), 0);
	run_child(with_a_mount);
	assert_int_equal(chmod(path, 0777), 0);
	pins_open(&pins, folder);
	assert_int_equal(pins.fd, -1);
	assert_non_null(strstr(pins.why, "others may write it"));
}

/*
 * Above the bpffs others may own folders, and in one that was mounted for a user he may make links:
 * nothing that these lead to is touched.
 */
static void what_another_puts_in_the_place_of_a_folder_is_left_alone(void **state)
{
	char away[64], decoy[64], victim[96], path[96];

	(void)state;
	test_needs_bpf();
	assert_int_equal(attach(false), 0);
	snprintf(away, sizeof(away), "%s.away", folder);
	snprintf(decoy, sizeof(decoy), "%s/bpf/syscalls", folder);
	snprintf(victim, sizeof(victim), "%s/victim", decoy);
	assert_int_equal(rename(folder, away), 0);
	assert_int_equal(mkdir(folder, 0755), 0);
	snprintf(path, sizeof(path), "%s/bpf", folder);
	assert_int_equal(mkdir(path, 0755), 0);
	assert_int_equal(mkdir(decoy, 0755), 0);
	close(open(victim, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	probe_end(&pins, PROBE_SYSCALLS, &live);
	assert_int_equal(access(victim, F_OK), 0);
	snprintf(path, sizeof(path), "%s/bpf/syscalls", away);
	assert_int_equal(access(path, F_OK), -1);
	snprintf(path, sizeof(path), "%s/bpf/link", away);
	assert_int_equal(symlink(decoy, path), 0);
	assert_int_equal(pins_remove_all(away), 0);
	assert_int_equal(access(victim, F_OK), 0);
	assert_int_equal(unlink(victim), 0);
	assert_int_equal(rmdir(decoy), 0);
	pins_close(&pins);
	snprintf(path, sizeof(path), "%s/bpf", away);
	umount2(path, MNT_DETACH);
	rmdir(path);
	rmdir(away);
}

#define WITH_PINS(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_PINS(a_pinned_probe_is_gone_on_with),
		WITH_PINS(another_layout_is_replaced_on_request_alone),
		WITH_PINS(what_another_version_has_pinned_is_refused),
		WITH_PINS(what_a_killed_talead_left_half_made_goes),
		WITH_PINS(a_program_is_replaced_without_an_event_missed_or_doubled),
		WITH_PINS(a_program_that_is_detached_and_attached_misses_some),
		WITH_PINS(an_objects_programs_are_replaced_and_its_counts_go_on),
		WITH_PINS(a_declared_program_is_replaced_and_its_keys_go_on),
		WITH_PINS(a_worker_reads_keys_and_ledger_and_writes_neither),
		WITH_PINS(an_ordinary_user_pins_where_a_bpffs_was_mounted_for_him),
		WITH_PINS(what_another_puts_in_the_place_of_a_folder_is_left_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

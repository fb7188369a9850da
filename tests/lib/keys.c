/* See keys.h. */
#define _GNU_SOURCE
#include "tests/lib/keys.h"

#include "tests/lib/test.h"

#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/worker/kernel/maps.h"
#include "shm/names.h"
#include "tests/lib/needs.h"

#define KEYS_MAX 64000u

struct inside keys_inside;
struct kernel *keys_kernel;
struct probe_source keys_source;
struct probe_ledger keys_ledger;
uint64_t *keys_counts;
uint32_t keys_cpus_nr;
int keys_link[2];
int64_t keys_sum;

static uint64_t since_ns = 1000000;

/* --- maps ------------------------------------------------------------------------------------- */

static int bpf(int cmd, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, cmd, attr, sizeof(*attr));
}

static int map_make(uint32_t type, uint32_t key_bytes, uint32_t value_bytes, uint32_t max,
		    uint32_t flags)
{
	union bpf_attr attr = { .map_type = type, .key_size = key_bytes, .value_size = value_bytes,
				.max_entries = max, .map_flags = flags };
	int fd = bpf(BPF_MAP_CREATE, &attr);

	assert_true(fd >= 0);
	return fd;
}

static void map_store(int fd, const void *key, const void *value)
{
	union bpf_attr attr = { .map_fd = (uint32_t)fd, .key = (uintptr_t)key,
				.value = (uintptr_t)value };

	assert_int_equal(bpf(BPF_MAP_UPDATE_ELEM, &attr), 0);
}

bool keys_delete(const void *key)
{
	union bpf_attr attr = { .map_fd = (uint32_t)keys_source.keys_fd, .key = (uintptr_t)key };

	return bpf(BPF_MAP_DELETE_ELEM, &attr) == 0;
}

/* A key's sum: not all on one CPU. */
void keys_store(const void *key, uint64_t sum)
{
	uint64_t values[SHM_CPUS_MAX] = { sum / 3 };

	values[keys_cpus_nr - 1] += sum - sum / 3;
	map_store(keys_source.keys_fd, key, values);
}

void keys_overflow(uint64_t n)
{
	keys_counts[TALEA_SOURCE_TOTAL] += n;
	keys_counts[TALEA_SOURCE_REFUSED]++;
}

void keys_ledger_store(void)
{
	uint32_t at = 0;

	map_store(keys_source.ledger_fd, &at, &keys_ledger);
}

/* As the keeper frees a key that held this. */
void keys_free(const void *key, uint64_t held)
{
	keys_ledger.seq++;
	keys_ledger.value = held;
	keys_ledger_store();
	assert_true(keys_delete(key));
	keys_ledger.seq++;
	keys_ledger.folded += held;
	keys_ledger.freed_nr++;
	keys_ledger_store();
}

/* --- a probe and its worker ------------------------------------------------------------------- */

void keys_def(uint32_t at, const char *label, enum talea_key_kind kind, uint8_t bytes)
{
	struct talea_key_def *k = &keys_source.def.keys[at];

	*k = (struct talea_key_def){ .kind = (uint8_t)kind, .bytes = bytes };
	snprintf(k->label, sizeof(k->label), "%s", label);
	keys_source.def.keys_nr = at + 1;
}

void keys_maps_make(void)
{
	uint32_t key_bytes = counter_key_bytes(&keys_source.def);
	size_t bytes = ((size_t)keys_cpus_nr * TALEA_SOURCE_STRIDE * 8 + 4095) / 4096 * 4096;

	keys_source.keys_max = KEYS_MAX;
	keys_source.stride = TALEA_SOURCE_STRIDE;
	keys_source.counts_fd = map_make(BPF_MAP_TYPE_ARRAY, 4, 8,
					 keys_cpus_nr * TALEA_SOURCE_STRIDE, BPF_F_MMAPABLE);
	keys_counts = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
			   keys_source.counts_fd, 0);
	assert_true(keys_counts != MAP_FAILED);
	keys_source.keys_fd = keys_source.ledger_fd = -1;
	if (key_bytes) {
		keys_source.keys_fd = map_make(BPF_MAP_TYPE_PERCPU_HASH, key_bytes, 8, KEYS_MAX, 0);
		keys_source.ledger_fd = map_make(BPF_MAP_TYPE_ARRAY, 4, sizeof(keys_ledger), 1, 0);
	}
	keys_ledger = (struct probe_ledger){ 0 };
	since_ns += 1000000;
}

void keys_maps_drop(void)
{
	size_t bytes = ((size_t)keys_cpus_nr * TALEA_SOURCE_STRIDE * 8 + 4095) / 4096 * 4096;

	munmap(keys_counts, bytes);
	close(keys_source.counts_fd);
	if (keys_source.keys_fd >= 0) {
		close(keys_source.keys_fd);
		close(keys_source.ledger_fd);
	}
}

/* What a worker is given: fds of its own. */
static struct probe_live *live_make(bool is_attached)
{
	struct probe_live *live = malloc(sizeof(*live));

	assert_non_null(live);
	probe_live_init(KEYS_PROBE, live);
	if (!is_attached)
		return live;
	live->state = WIRE_PROBE_ATTACHED;
	live->origin = PROBE_OF_COMMAND;
	live->cpus_nr = keys_cpus_nr;
	live->since_real_ns = since_ns;
	live->sources_nr = 1;
	live->sources[0] = keys_source;
	live->sources[0].counts_fd = dup(keys_source.counts_fd);
	live->sources[0].keys_fd = keys_source.keys_fd < 0 ? -1 : dup(keys_source.keys_fd);
	live->sources[0].ledger_fd = keys_source.ledger_fd < 0 ? -1 : dup(keys_source.ledger_fd);
	return live;
}

uint32_t keys_slot(const char *name)
{
	uint32_t generation;

	return name_find(keys_inside.space->d, name, &generation);
}

/* The sum over the whole family in the last epoch, of members that go too. */
static int64_t family_now(void)
{
	uint32_t family = keys_slot("fam_total");
	int64_t sum = 0;

	for (uint32_t slot = 1; slot < space_slots_nr(keys_inside.space); slot++) {
		uint64_t name = space_slot(keys_inside.space, slot)->name;

		if (name_is_member(name) && dir_member(keys_inside.space->d, name)->family == family)
			sum += inside_total(&keys_inside, slot);
	}
	return sum;
}

void keys_fold(void)
{
	int64_t now;

	registry_grow(&keys_inside.registry, 0);
	registry_read_begin();
	kernel_fold(keys_kernel, true);
	registry_read_end();
	inside_fold(&keys_inside, 10000000);
	registry_read_begin();
	kernel_parts_folded(&keys_kernel->parts);
	registry_read_end();
	assert_int_equal(keys_inside.space->suspects.nr, 0);
	now = family_now();
	if (now < keys_sum)
		fail_msg("the family fell from %lld to %lld", (long long)keys_sum, (long long)now);
	keys_sum = now;
}

void keys_tell(bool is_attached)
{
	struct probe_live *live = live_make(is_attached);

	registry_read_begin();
	while (kernel_ends(keys_kernel, KEYS_PROBE, live)) {
		registry_read_end();
		keys_fold();
		registry_read_begin();
	}
	assert_int_equal(kernel_probe(keys_kernel, KEYS_PROBE, live), 0);
	registry_read_end();
	free(live);
}

static void worker_start(bool is_attached)
{
	keys_kernel = calloc(1, sizeof(*keys_kernel));
	assert_non_null(keys_kernel);
	assert_int_equal(kernel_open(keys_kernel, keys_inside.space, keys_link[0]), 0);
	if (is_attached)
		keys_tell(true);
	registry_read_begin();
	kernel_settle(keys_kernel);
	registry_read_end();
}

/* The worker is killed between two folds, and another comes. */
void keys_worker_again(bool is_attached)
{
	kernel_close(keys_kernel);
	free(keys_kernel);
	inside_restart(&keys_inside);
	worker_start(is_attached);
}

void keys_set_up(void)
{
	test_needs_bpf();
	keys_cpus_nr = maps_cpus_nr();
	inside_start(&keys_inside, 64);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
				    keys_link), 0);
	keys_source = (struct probe_source){ 0 };
	strcpy(keys_source.def.name, "fam_total");
	strcpy(keys_source.def.help, "Of a test.");
	keys_sum = 0;
}

void keys_begin(void)
{
	keys_maps_make();
	worker_start(true);
}

void keys_by_comm(void)
{
	keys_set_up();
	keys_def(0, "comm", TALEA_KEY_TEXT, 16);
	keys_begin();
}

void keys_by_pid(void)
{
	keys_set_up();
	keys_def(0, "pid", TALEA_KEY_PID, 8);
	keys_begin();
}

void keys_finish(void)
{
	kernel_close(keys_kernel);
	free(keys_kernel);
	keys_maps_drop();
	inside_stop(&keys_inside);
	close(keys_link[0]);
	close(keys_link[1]);
}

int64_t keys_total(const char *name)
{
	uint32_t slot = keys_slot(name);

	return slot == SHM_SLOT_NONE ? -1 : inside_total(&keys_inside, slot);
}

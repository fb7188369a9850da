/* See kernel.h. */
#include "daemon/worker/kernel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/space/register.h"
#include "daemon/space/rows.h"

#define LABELS_MAX 128

/* The canonical name of a key's counter; its length, or -errno. */
static int key_name(enum probe_id id, uint32_t key, char *buf, size_t size)
{
	char labels[LABELS_MAX];
	int len = probe_types[id].labels(key, labels, sizeof(labels));

	if (len < 0)
		return len;
	return snprintf(buf, size, len ? "%s{%s}" : "%s", probe_types[id].counter, labels);
}

/* The slot of a key's counter: found, or made when it is not there. */
static int key_slot(struct kernel *k, enum probe_id id, uint32_t key, uint32_t *ret_slot)
{
	const struct probe_type *type = &probe_types[id];
	char name[SHM_NAME_MAX];
	int len = key_name(id, key, name, sizeof(name));
	struct claim c = {
		.type = SHM_COUNTER, .origin = SHM_ORIGIN_KERNEL,
		.name = name, .help = type->help, .help_len = (uint32_t)strlen(type->help),
	};

	if (len < 0)
		return len;
	c.name_len = (uint32_t)len;
	return register_own(k->space, &c, ret_slot);
}

static void key_state(struct kernel *k, enum probe_id id, uint32_t key)
{
	const struct kernel_probe *p = &k->probes[id];
	uint8_t *state = &space_states(k->space)[p->slots[key]];

	/* What fell stays suspect until somebody accepts. */
	if (p->slots[key] != SHM_SLOT_NONE && (*state & SHM_T_STATE) != SHM_T_SUSPECT)
		shm_set8(state, p->map ? SHM_T_OK : SHM_T_UNKNOWN);
}

static int key_make(struct kernel *k, enum probe_id id, uint32_t key)
{
	struct kernel_probe *p = &k->probes[id];
	int err = key_slot(k, id, key, &p->slots[key]);

	if (err)
		return err;
	shm_count_set(&p->keys_nr, p->keys_nr + 1);
	key_state(k, id, key);
	return 0;
}

static bool is_keyless(enum probe_id id)
{
	char labels[LABELS_MAX];

	return probe_types[id].labels(0, labels, sizeof(labels)) == 0;
}

static void probe_find_keys(struct kernel *k, enum probe_id id)
{
	struct kernel_probe *p = &k->probes[id];
	char name[SHM_NAME_MAX];
	uint32_t generation;

	for (uint32_t key = 0; key < probe_types[id].keys_nr; key++) {
		int len = key_name(id, key, name, sizeof(name));

		if (len < 0)
			continue;
		p->slots[key] = dir_find(k->space->d, 0, name, (size_t)len, &generation);
		if (p->slots[key] != SHM_SLOT_NONE)
			p->keys_nr++;
		key_state(k, id, key);
	}
}

int kernel_open(struct kernel *k, struct space *space)
{
	k->space = space;
	for (unsigned int id = 0; id < PROBE_NR; id++) {
		struct kernel_probe *p = &k->probes[id];
		size_t nr = probe_types[id].keys_nr;

		p->sums = calloc(nr, sizeof(*p->sums));
		p->applied = calloc(nr, sizeof(*p->applied));
		p->slots = calloc(nr, sizeof(*p->slots));
		if (!p->sums || !p->applied || !p->slots)
			return -ENOMEM;
		probe_find_keys(k, id);
	}
	return 0;
}

void kernel_close(struct kernel *k)
{
	for (unsigned int id = 0; id < PROBE_NR; id++) {
		struct kernel_probe *p = &k->probes[id];

		if (p->map)
			munmap((void *)(uintptr_t)p->map, p->map_bytes);
		free(p->sums);
		free(p->applied);
		free(p->slots);
	}
}

int kernel_attach(struct kernel *k, enum probe_id id, struct probe_live *live)
{
	struct kernel_probe *p = &k->probes[id];
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	int err = 0;
	void *map;

	if (live->map_fd < 0)
		return 0;
	if (!p->map) {
		p->map_bytes = (probe_map_bytes(id, live) + page - 1) / page * page;
		map = mmap(NULL, p->map_bytes, PROT_READ, MAP_SHARED, live->map_fd, 0);
		err = map == MAP_FAILED ? -errno : 0;
		p->cpus_nr = live->cpus_nr;
		p->map = err ? NULL : map;
		for (uint32_t key = 0; key < probe_types[id].keys_nr; key++)
			key_state(k, id, key);
	}
	close(live->map_fd);
	live->map_fd = -1;
	return err;
}

void kernel_configure(struct kernel *k, const struct config *config)
{
	for (unsigned int id = 0; id < PROBE_NR; id++) {
		struct kernel_probe *p = &k->probes[id];

		p->is_wanted = config->probes >> id & 1;
		if (p->is_wanted && is_keyless(id) && p->slots[0] == SHM_SLOT_NONE)
			key_make(k, id, 0); /* without memory now: at its first event */
	}
}

static void probe_fold(struct kernel *k, enum probe_id id)
{
	const struct probe_type *type = &probe_types[id];
	struct kernel_probe *p = &k->probes[id];
	uint64_t events = 0;

	rows_sum(p->map, type->stride * sizeof(uint64_t), p->cpus_nr, 0, type->keys_nr, p->sums);
	for (uint32_t key = 0; key < type->keys_nr; key++) {
		uint64_t sum = p->sums[key];

		events += sum;
		if (sum == p->applied[key])
			continue;
		if (p->slots[key] == SHM_SLOT_NONE && key_make(k, id, key))
			continue; /* no memory: the next fold tries again, nothing is lost */
		space_apart_add(k->space, p->slots[key], (int64_t)(sum - p->applied[key]));
		p->applied[key] = sum;
	}
	shm_count_set(&p->events, events);
}

void kernel_fold(struct kernel *k)
{
	for (unsigned int id = 0; id < PROBE_NR; id++)
		if (k->probes[id].map)
			probe_fold(k, id);
}

void kernel_look(const struct kernel *k, enum probe_id id, uint32_t *ret_keys_nr,
		 uint64_t *ret_events)
{
	*ret_keys_nr = (uint32_t)shm_count_read(&k->probes[id].keys_nr);
	*ret_events = shm_count_read(&k->probes[id].events);
}

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

/*
 * A probe's entries are its counters' label sets in the order of the table: one of a counter
 * without labels, else one a key.
 */
static uint32_t entries_of(const struct probe_counter *c)
{
	return c->labels ? c->nr : 1;
}

static uint32_t entries_nr(enum probe_id id)
{
	uint32_t nr = 0;

	for (const struct probe_counter *c = probe_types[id].counters; c->name; c++)
		nr += entries_of(c);
	return nr;
}

/* The canonical name of a counter's n-th entry; its length, or -errno. */
static int entry_name(enum probe_id id, const struct probe_counter *c, uint32_t n, char *buf,
		      size_t size)
{
	char labels[PROBE_LABELS_MAX];
	int len;

	if (!c->labels)
		return snprintf(buf, size, "%s", c->name);
	len = c->labels(id, c, n, labels, sizeof(labels));
	return len < 0 ? len : snprintf(buf, size, "%s{%s}", c->name, labels);
}

/* The slot of an entry's counter: found, or made when it is not there. */
static int entry_slot(struct kernel *k, enum probe_id id, const struct probe_counter *counter,
		      uint32_t n, uint32_t *ret_slot)
{
	char name[SHM_NAME_MAX];
	int len = entry_name(id, counter, n, name, sizeof(name));
	struct claim c = {
		.type = SHM_COUNTER, .origin = SHM_ORIGIN_KERNEL, .name = name,
		.help = counter->help, .help_len = (uint32_t)strlen(counter->help),
	};

	if (len < 0)
		return len;
	c.name_len = (uint32_t)len;
	return register_own(k->space, &c, ret_slot);
}

static void entry_state(struct kernel *k, const struct kernel_probe *p, uint32_t entry)
{
	uint8_t *state = &space_states(k->space)[p->slots[entry]];

	/* What fell stays suspect until somebody accepts. */
	if (p->slots[entry] != SHM_SLOT_NONE && (*state & SHM_T_STATE) != SHM_T_SUSPECT)
		shm_set8(state, p->map ? SHM_T_OK : SHM_T_UNKNOWN);
}

static int entry_make(struct kernel *k, enum probe_id id, const struct probe_counter *c, uint32_t n,
		      uint32_t entry)
{
	struct kernel_probe *p = &k->probes[id];
	int err = entry_slot(k, id, c, n, &p->slots[entry]);

	if (err)
		return err;
	shm_count_set(&p->keys_nr, p->keys_nr + 1);
	entry_state(k, p, entry);
	return 0;
}

/* Finds the counters that are there already. */
static void probe_find(struct kernel *k, enum probe_id id)
{
	struct kernel_probe *p = &k->probes[id];
	char name[SHM_NAME_MAX];
	uint32_t entry = 0, generation;
	uint64_t keys_nr = 0;

	for (const struct probe_counter *c = probe_types[id].counters; c->name; c++)
		for (uint32_t n = 0; n < entries_of(c); n++, entry++) {
			int len = entry_name(id, c, n, name, sizeof(name));

			if (len >= 0 && p->slots[entry] == SHM_SLOT_NONE)
				p->slots[entry] = dir_find(k->space->d, 0, name, (size_t)len,
							   &generation);
			keys_nr += p->slots[entry] != SHM_SLOT_NONE;
			entry_state(k, p, entry);
		}
	shm_count_set(&p->keys_nr, keys_nr);
}

int kernel_open(struct kernel *k, struct space *space)
{
	k->space = space;
	for (unsigned int id = 0; id < PROBE_NR; id++) {
		struct kernel_probe *p = &k->probes[id];
		size_t nr = entries_nr(id);

		p->sums = calloc(probe_types[id].keys_nr, sizeof(*p->sums));
		p->applied = calloc(nr, sizeof(*p->applied));
		p->slots = calloc(nr, sizeof(*p->slots));
		if (!p->sums || !p->applied || !p->slots)
			return -ENOMEM;
		for (size_t entry = 0; entry < nr; entry++)
			p->slots[entry] = SHM_SLOT_NONE;
		probe_find(k, id);
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
		probe_find(k, id); /* its keys may have got names */
	}
	close(live->map_fd);
	live->map_fd = -1;
	return err;
}

void kernel_configure(struct kernel *k, const struct config *config)
{
	for (unsigned int id = 0; id < PROBE_NR; id++) {
		struct kernel_probe *p = &k->probes[id];
		uint32_t entry = 0;

		p->is_wanted = config->probes >> id & 1;
		for (const struct probe_counter *c = probe_types[id].counters; c->name; c++) {
			if (p->is_wanted && !c->labels && p->slots[entry] == SHM_SLOT_NONE)
				entry_make(k, id, c, 0, entry); /* without memory now: later */
			entry += entries_of(c);
		}
	}
}

static void entry_fold(struct kernel *k, enum probe_id id, const struct probe_counter *c,
		       uint32_t n, uint32_t entry, uint64_t sum)
{
	struct kernel_probe *p = &k->probes[id];

	if (sum == p->applied[entry])
		return;
	if (p->slots[entry] == SHM_SLOT_NONE && entry_make(k, id, c, n, entry))
		return; /* no memory: the next fold tries again, nothing is lost */
	space_apart_add(k->space, p->slots[entry], (int64_t)(sum - p->applied[entry]));
	p->applied[entry] = sum;
}

static void probe_fold(struct kernel *k, enum probe_id id)
{
	const struct probe_type *type = &probe_types[id];
	struct kernel_probe *p = &k->probes[id];
	uint32_t entry = 0, events_nr = type->events_nr ? type->events_nr : type->keys_nr;
	uint64_t events = 0;

	rows_sum(p->map, type->stride * sizeof(uint64_t), p->cpus_nr, 0, type->keys_nr, p->sums);
	for (uint32_t key = 0; key < events_nr; key++)
		events += p->sums[key];
	for (const struct probe_counter *c = type->counters; c->name; c++) {
		const uint64_t *sums = p->sums + c->from;
		uint64_t all = 0;

		for (uint32_t n = 0; n < c->nr; n++) {
			all += sums[n];
			if (c->labels)
				entry_fold(k, id, c, n, entry++, sums[n]);
		}
		if (!c->labels)
			entry_fold(k, id, c, 0, entry++, all);
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

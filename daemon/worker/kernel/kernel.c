/* See kernel.h. */
#include "daemon/worker/kernel/kernel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/worker/space/register.h"
#include "daemon/worker/space/lanes.h"

#define ENDS_MAX 4u /* folds for the last sums of a probe whose keys come and go */

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
	return register_own(k->parts.space, &c, ret_slot);
}

/* Its probe counts in it from now on. */
static void entry_begin(struct kernel *k, enum probe_id id, uint32_t entry)
{
	uint32_t slot = k->table[id].slots[entry];

	if (k->lives[id])
		parts_begin(&k->parts, slot, k->lives[id]);
	parts_state(&k->parts, slot, k->lives[id] != 0);
}

static int entry_make(struct kernel *k, enum probe_id id, const struct probe_counter *c, uint32_t n,
		      uint32_t entry)
{
	struct kernel_table *p = &k->table[id];
	int err = entry_slot(k, id, c, n, &p->slots[entry]);

	if (err)
		return err;
	shm_count_set(&p->keys_nr, p->keys_nr + 1);
	entry_begin(k, id, entry);
	return 0;
}

/* Finds the counters that are there already. */
static void table_find(struct kernel *k, enum probe_id id)
{
	struct kernel_table *p = &k->table[id];
	char name[SHM_NAME_MAX];
	uint32_t entry = 0, generation;
	uint64_t keys_nr = 0;

	for (const struct probe_counter *c = probe_types[id].counters; c->name; c++)
		for (uint32_t n = 0; n < entries_of(c); n++, entry++) {
			int len = entry_name(id, c, n, name, sizeof(name));

			if (len >= 0 && p->slots[entry] == SHM_SLOT_NONE)
				p->slots[entry] = dir_find(k->parts.space->d, 0, name, (size_t)len,
							   &generation);
			keys_nr += p->slots[entry] != SHM_SLOT_NONE;
			if (p->slots[entry] != SHM_SLOT_NONE)
				entry_begin(k, id, entry);
		}
	shm_count_set(&p->keys_nr, keys_nr);
}

static int table_open(struct kernel *k, enum probe_id id)
{
	struct kernel_table *p = &k->table[id];

	p->sums = calloc(probe_types[id].keys_nr, sizeof(*p->sums));
	p->slots = calloc(entries_nr(id), sizeof(*p->slots));
	if (!p->sums || !p->slots)
		return -ENOMEM;
	for (uint32_t entry = 0; entry < entries_nr(id); entry++)
		p->slots[entry] = SHM_SLOT_NONE;
	return 0;
}

int kernel_open(struct kernel *k, struct space *space, int link_fd)
{
	int err = parts_open(&k->parts, space);

	key_names_init(&k->names, link_fd);
	for (unsigned int id = 0; id < PROBE_NR && !err; id++)
		err = table_open(k, id);
	return err;
}

void kernel_close(struct kernel *k)
{
	for (unsigned int id = 0; id < PROBE_NR; id++) {
		struct kernel_table *p = &k->table[id];

		if (p->map)
			munmap((void *)(uintptr_t)p->map, p->map_bytes);
		free(p->sums);
		free(p->slots);
	}
	for (unsigned int id = 0; id < PROBES_MAX; id++)
		for (uint32_t i = 0; i < k->custom[id].sources_nr; i++)
			source_close(k->custom[id].sources[i]);
	key_names_fini(&k->names);
	parts_close(&k->parts);
}

/* --- folding the table ----------------------------------------------------------------------- */

static void entry_fold(struct kernel *k, enum probe_id id, const struct probe_counter *c,
		       uint32_t n, uint32_t entry, uint64_t sum)
{
	struct kernel_table *p = &k->table[id];

	if (p->slots[entry] == SHM_SLOT_NONE && (!sum || entry_make(k, id, c, n, entry)))
		return; /* no memory: the next fold tries again, nothing is lost */
	parts_set(&k->parts, p->slots[entry], sum);
}

static void table_fold(struct kernel *k, enum probe_id id)
{
	const struct probe_type *type = &probe_types[id];
	struct kernel_table *p = &k->table[id];
	uint32_t entry = 0, events_nr = type->events_nr ? type->events_nr : type->keys_nr;
	uint64_t events = 0;

	lanes_sum(p->map, type->stride * sizeof(uint64_t), p->cpus_nr, 0, type->keys_nr, p->sums);
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

/* --- beginning and ending --------------------------------------------------------------------- */

static int table_begin(struct kernel *k, enum probe_id id, const struct probe_live *live)
{
	struct kernel_table *p = &k->table[id];
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *map;

	p->map_bytes = (probe_map_bytes(id, live) + page - 1) / page * page;
	map = mmap(NULL, p->map_bytes, PROT_READ, MAP_SHARED, live->map_fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	p->cpus_nr = live->cpus_nr;
	p->map = map;
	k->lives[id] = parts_life(live->since_real_ns);
	table_find(k, id); /* its keys may have got names */
	return 0;
}

static void table_end(struct kernel *k, enum probe_id id)
{
	struct kernel_table *p = &k->table[id];

	table_fold(k, id);
	munmap((void *)(uintptr_t)p->map, p->map_bytes);
	p->map = NULL;
	for (uint32_t entry = 0; entry < entries_nr(id); entry++) {
		if (p->slots[entry] == SHM_SLOT_NONE)
			continue;
		parts_commit(&k->parts, p->slots[entry]);
		parts_end(&k->parts, p->slots[entry]);
		parts_state(&k->parts, p->slots[entry], false);
	}
}

static int custom_begin(struct kernel *k, uint32_t id, struct probe_live *live)
{
	struct kernel_custom *p = &k->custom[id];
	int err = 0;

	p->look = (struct source_look){ 0 };
	k->lives[id] = parts_life(live->since_real_ns);
	for (uint32_t i = 0; i < live->sources_nr && i < PROBE_SOURCES_MAX; i++) {
		int failed = source_open(&p->sources[p->sources_nr], &k->parts, &k->names,
					 &live->sources[i], live->cpus_nr, k->lives[id]);

		p->sources_nr += !failed;
		err = err ? err : failed;
	}
	return err;
}

static void custom_look(struct kernel_custom *p)
{
	struct source_look now = { 0 };

	for (uint32_t i = 0; i < p->sources_nr; i++)
		source_look(p->sources[i], &now);
	shm_count_set(&p->look.keys_nr, now.keys_nr);
	shm_count_set(&p->look.kept, now.kept);
	shm_count_set(&p->look.overflow, now.overflow);
	shm_count_set(&p->look.refused, now.refused);
	shm_count_set(&p->look.folded, now.folded);
	shm_count_set(&p->look.freed_nr, now.freed_nr);
	shm_count_set(&p->look.is_conflict, now.is_conflict);
}

static void custom_end(struct kernel *k, uint32_t id)
{
	struct kernel_custom *p = &k->custom[id];

	for (uint32_t i = 0; i < p->sources_nr; i++)
		source_end(p->sources[i]);
	p->sources_nr = 0;
	p->ends_nr = 0;
}

static void fds_close(struct probe_live *live)
{
	if (live->map_fd >= 0)
		close(live->map_fd);
	live->map_fd = -1;
	for (uint32_t i = 0; i < live->sources_nr && i < PROBE_SOURCES_MAX; i++) {
		int *fds[] = { &live->sources[i].counts_fd, &live->sources[i].keys_fd,
			       &live->sources[i].ledger_fd };

		for (unsigned int n = 0; n < 3; n++) {
			if (*fds[n] >= 0)
				close(*fds[n]);
			*fds[n] = -1;
		}
	}
}

static uint64_t life_of(uint32_t id, const struct probe_live *live)
{
	bool is_attached = live->origin && live->state == WIRE_PROBE_ATTACHED &&
			   (probe_has_sources(id) || live->map_fd >= 0);

	return is_attached ? parts_life(live->since_real_ns) : 0;
}

bool kernel_ends(struct kernel *k, uint32_t id, const struct probe_live *live)
{
	struct kernel_custom *p = &k->custom[id];
	bool is_more = false;

	if (k->lives[id] == life_of(id, live) || p->ends_nr == ENDS_MAX)
		return false;
	for (uint32_t i = 0; i < p->sources_nr; i++)
		is_more |= source_ends(p->sources[i]);
	p->ends_nr += is_more;
	return is_more;
}

int kernel_probe(struct kernel *k, uint32_t id, struct probe_live *live)
{
	uint64_t life = life_of(id, live);
	int err = 0;

	if (k->lives[id] && k->lives[id] != life) {
		if (probe_has_sources(id))
			custom_end(k, id);
		else
			table_end(k, id);
		k->lives[id] = 0;
	}
	if (life && !k->lives[id])
		err = probe_has_sources(id) ? custom_begin(k, id, live) : table_begin(k, id, live);
	fds_close(live);
	return err;
}

void kernel_settle(struct kernel *k)
{
	for (unsigned int id = 0; id < PROBE_NR; id++)
		if (!k->lives[id])
			table_find(k, id);
	parts_settle(&k->parts);
}

void kernel_cgroup(struct kernel *k, uint64_t id, const char *path)
{
	key_names_cgroup(&k->names, id, path);
}

void kernel_configure(struct kernel *k, const struct config *config)
{
	for (unsigned int id = 0; id < PROBE_NR; id++) {
		struct kernel_table *p = &k->table[id];
		uint32_t entry = 0;

		p->is_wanted = config->probes >> id & 1;
		for (const struct probe_counter *c = probe_types[id].counters; c->name; c++) {
			if (p->is_wanted && !c->labels && p->slots[entry] == SHM_SLOT_NONE)
				entry_make(k, id, c, 0, entry); /* without memory now: later */
			entry += entries_of(c);
		}
	}
}

/* --- all probes -------------------------------------------------------------------------------- */

void kernel_fold(struct kernel *k, bool is_last)
{
	for (unsigned int id = 0; id < PROBE_NR; id++)
		if (k->table[id].map)
			table_fold(k, id);
	for (unsigned int id = 0; id < PROBES_MAX; id++) {
		struct kernel_custom *p = &k->custom[id];

		if (!p->sources_nr)
			continue;
		for (uint32_t i = 0; i < p->sources_nr; i++)
			source_fold(p->sources[i], is_last);
		custom_look(p);
	}
}

void kernel_folded(struct kernel *k)
{
	parts_folded(&k->parts);
}

void kernel_look(const struct kernel *k, uint32_t id, struct source_look *ret)
{
	const struct source_look *l = &k->custom[id].look;

	*ret = (struct source_look){ 0 };
	if (!probe_has_sources(id)) {
		ret->keys_nr = shm_count_read(&k->table[id].keys_nr);
		ret->kept = shm_count_read(&k->table[id].events);
		return;
	}
	ret->keys_nr = shm_count_read(&l->keys_nr);
	ret->kept = shm_count_read(&l->kept);
	ret->overflow = shm_count_read(&l->overflow);
	ret->refused = shm_count_read(&l->refused);
	ret->folded = shm_count_read(&l->folded);
	ret->freed_nr = shm_count_read(&l->freed_nr);
	ret->is_conflict = shm_count_read(&l->is_conflict);
}

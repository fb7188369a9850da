/* See dense.h. */
#include "daemon/worker/kernel/dense.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/worker/space/lanes.h"
#include "daemon/worker/space/register.h"

/*
 * The entries are the counters' label sets in the order of the list: one of a counter without
 * labels, else one a key.
 */
static uint32_t entries_of(const struct probe_counter *c)
{
	return c->labels ? c->nr : 1;
}

static uint32_t entries_nr(const struct probe_type *type)
{
	uint32_t nr = 0;

	for (const struct probe_counter *c = type->counters; c->name; c++)
		nr += entries_of(c);
	return nr;
}

/* The canonical name of a counter's n-th entry; its length, or -errno. */
static int entry_name(const struct dense *d, const struct probe_counter *c, uint32_t n, char *buf,
		      size_t size)
{
	char labels[PROBE_LABELS_MAX];
	int len;

	if (!c->labels)
		return snprintf(buf, size, "%s", c->name);
	len = c->labels((enum probe_id)(d->type - probe_types), c, n, labels, sizeof(labels));
	return len < 0 ? len : snprintf(buf, size, "%s{%s}", c->name, labels);
}

/* The slot of an entry's counter: found, or made when it is not there. */
static int entry_slot(const struct dense *d, const struct probe_counter *counter, uint32_t n,
		      uint32_t *ret_slot)
{
	char name[SHM_NAME_MAX];
	int len = entry_name(d, counter, n, name, sizeof(name));
	struct claim c = {
		.type = SHM_COUNTER, .origin = SHM_ORIGIN_KERNEL, .name = name,
		.help = counter->help, .help_len = (uint32_t)strlen(counter->help),
	};

	if (len < 0)
		return len;
	c.name_len = (uint32_t)len;
	return register_own(d->parts->space, &c, ret_slot);
}

/* The probe counts in it from now on, if it is attached. */
static void entry_begin(struct dense *d, uint32_t entry)
{
	if (d->incarnation)
		kernel_part_begin(d->parts, d->slots[entry], d->incarnation);
	kernel_part_state(d->parts, d->slots[entry], d->incarnation != 0);
}

static int entry_make(struct dense *d, const struct probe_counter *c, uint32_t n, uint32_t entry)
{
	int err = entry_slot(d, c, n, &d->slots[entry]);

	if (err)
		return err;
	shm_count_set(&d->keys_nr, d->keys_nr + 1);
	entry_begin(d, entry);
	return 0;
}

static void entry_fold(struct dense *d, const struct probe_counter *c, uint32_t n, uint32_t entry,
		       uint64_t sum)
{
	if (d->slots[entry] == SHM_SLOT_NONE && (!sum || entry_make(d, c, n, entry)))
		return; /* no memory: the next fold tries again, nothing is lost */
	kernel_part_set(d->parts, d->slots[entry], sum);
}

int dense_init(struct dense *d, enum probe_id id, struct kernel_parts *parts)
{
	const struct probe_type *type = &probe_types[id];
	uint32_t nr = entries_nr(type);

	*d = (struct dense){ .type = type, .parts = parts };
	if (!nr) /* its object declares its counters */
		return 0;
	d->sums = calloc(type->keys_nr, sizeof(*d->sums));
	d->slots = calloc(nr, sizeof(*d->slots));
	if (!d->sums || !d->slots)
		return -ENOMEM;
	for (uint32_t entry = 0; entry < nr; entry++)
		d->slots[entry] = SHM_SLOT_NONE;
	return 0;
}

void dense_fini(struct dense *d)
{
	free(d->sums);
	free(d->slots);
}

void dense_find(struct dense *d)
{
	char name[SHM_NAME_MAX];
	uint32_t entry = 0, generation;
	uint64_t keys_nr = 0;

	for (const struct probe_counter *c = d->type->counters; c->name; c++)
		for (uint32_t n = 0; n < entries_of(c); n++, entry++) {
			int len = entry_name(d, c, n, name, sizeof(name));

			if (len >= 0 && d->slots[entry] == SHM_SLOT_NONE)
				d->slots[entry] = dir_find(d->parts->space->d, 0, name, (size_t)len,
							   &generation);
			keys_nr += d->slots[entry] != SHM_SLOT_NONE;
			if (d->slots[entry] != SHM_SLOT_NONE)
				entry_begin(d, entry);
		}
	shm_count_set(&d->keys_nr, keys_nr);
}

void dense_make(struct dense *d)
{
	uint32_t entry = 0;

	for (const struct probe_counter *c = d->type->counters; c->name; c++) {
		if (!c->labels && d->slots[entry] == SHM_SLOT_NONE)
			entry_make(d, c, 0, entry); /* without memory now: later */
		entry += entries_of(c);
	}
}

void dense_begin(struct dense *d, uint64_t incarnation)
{
	d->incarnation = incarnation;
	dense_find(d); /* its keys may have got names */
}

uint64_t dense_fold(struct dense *d, const char *counts, uint32_t cpus_nr)
{
	const struct probe_type *type = d->type;
	uint32_t entry = 0, events_nr = type->events_nr ? type->events_nr : type->keys_nr;
	uint64_t events = 0;

	lanes_sum(counts, type->stride * sizeof(uint64_t), cpus_nr, 0, type->keys_nr, d->sums);
	for (uint32_t key = 0; key < events_nr; key++)
		events += d->sums[key];
	for (const struct probe_counter *c = type->counters; c->name; c++) {
		const uint64_t *sums = d->sums + c->from;
		uint64_t all = 0;

		for (uint32_t n = 0; n < c->nr; n++) {
			all += sums[n];
			if (c->labels)
				entry_fold(d, c, n, entry++, sums[n]);
		}
		if (!c->labels)
			entry_fold(d, c, 0, entry++, all);
	}
	return events;
}

void dense_end(struct dense *d)
{
	for (uint32_t entry = 0; entry < entries_nr(d->type); entry++) {
		if (d->slots[entry] == SHM_SLOT_NONE)
			continue;
		kernel_part_commit(d->parts, d->slots[entry]);
		kernel_part_end(d->parts, d->slots[entry]);
		kernel_part_state(d->parts, d->slots[entry], false);
	}
	d->incarnation = 0;
}

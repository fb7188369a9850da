/*
 * Names that are like one that does not exist: explain_nearest of explain.h. Walks the names that such
 * an event can have (the kernel's types, a file's symbols) and keeps the three with the least edits.
 * Owns nothing.
 */
#include <stdio.h>
#include <string.h>

#include "daemon/keeper/probe/symbols/elf.h"
#include "daemon/keeper/probe/explain.h"
#include "daemon/keeper/probe/symbols/types.h"

#define NAME_BYTES 64u
#define BEST_NR	   3u

struct nearest {
	const char *target;
	bool is_function;
	uint32_t nr;
	uint32_t costs[BEST_NR]; /* rising */
	char names[BEST_NR][NAME_BYTES];
};

static uint32_t least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* How many letters must be added, taken away or changed; both names are shorter than NAME_BYTES. */
static uint32_t edits(const char *a, const char *b)
{
	uint32_t row[NAME_BYTES + 1], length = (uint32_t)strlen(b);

	for (uint32_t j = 0; j <= length; j++)
		row[j] = j;
	for (uint32_t i = 0; a[i]; i++) {
		uint32_t corner = row[0];

		row[0] = i + 1;
		for (uint32_t j = 0; j < length; j++) {
			uint32_t changed = corner + (a[i] != b[j]);

			corner = row[j + 1];
			row[j + 1] = least(changed, least(row[j], row[j + 1]) + 1);
		}
	}
	return row[length];
}

/* A name is alike that needs few edits, or has the other in it: `switch` finds sched_switch. */
static void offer(struct nearest *n, const char *name)
{
	uint32_t length = (uint32_t)strlen(n->target), cost, at;

	if (length >= NAME_BYTES || strlen(name) >= NAME_BYTES)
		return;
	cost = edits(n->target, name);
	if (length >= 4 && strstr(name, n->target))
		cost = least(cost, 2 + (uint32_t)strlen(name) / 16);
	if (cost > length / 3 + 1)
		return;
	for (at = 0; at < n->nr; at++)
		if (!strcmp(n->names[at], name))
			return;
	for (at = n->nr; at && n->costs[at - 1] > cost; at--)
		if (at < BEST_NR) {
			n->costs[at] = n->costs[at - 1];
			memcpy(n->names[at], n->names[at - 1], NAME_BYTES);
		}
	if (at == BEST_NR)
		return;
	n->costs[at] = cost;
	snprintf(n->names[at], NAME_BYTES, "%s", name);
	n->nr += n->nr < BEST_NR;
}

static int offer_types(const struct btf *btf, uint32_t first, void *arg)
{
	struct nearest *n = arg;

	for (uint32_t id = first; id < btf__type_cnt(btf); id++) {
		const struct btf_type *type = btf__type_by_id(btf, id);
		const char *name = btf__name_by_offset(btf, type->name_off);

		if (n->is_function && btf_is_func(type))
			offer(n, name);
		else if (!n->is_function && btf_is_typedef(type) &&
			 !strncmp(name, TYPES_TRACEPOINT, strlen(TYPES_TRACEPOINT)))
			offer(n, name + strlen(TYPES_TRACEPOINT));
	}
	return 0;
}

static int offer_symbol(const char *name, void *arg)
{
	offer(arg, name);
	return 0;
}

static int offer_usdt(const struct elf_usdt *u, void *arg)
{
	offer(arg, u->name);
	return 0;
}

void explain_nearest(uint32_t event, const char *file, const char *target, char *buf, size_t size)
{
	struct nearest n = {
		.target = target, .is_function = event == SPEC_FENTRY || event == SPEC_FEXIT,
	};
	char path[512];
	size_t used = 0;

	buf[0] = '\0';
	if (event <= SPEC_FEXIT)
		types_each(offer_types, &n);
	else if (!file || elf_library_find(file, path, sizeof(path)))
		return;
	else if (event == SPEC_USDT)
		elf_usdt_each(path, offer_usdt, &n);
	else
		elf_symbols_each(path, offer_symbol, &n);
	for (uint32_t i = 0; i < n.nr && used < size; i++)
		used += (size_t)snprintf(buf + used, size - used, "%s%s",
					 !i ? "" : i + 1 < n.nr ? ", " : " or ", n.names[i]);
}

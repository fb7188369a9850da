/*
 * Names that are like one that does not exist: explain_nearest of explain.h. It reads the names
 * that such an event can have (the kernel's types, a file's symbols) and keeps the three nearest
 * ones. Owns nothing.
 */
#include <stdio.h>
#include <string.h>

#include "daemon/keeper/probe/explain.h"
#include "daemon/keeper/probe/symbols/elf.h"
#include "daemon/keeper/probe/symbols/types.h"
#include "shm/base/near.h"
#include "shm/base/text.h"

#define NAME_BYTES 64u
#define BEST_NR	   3u

struct nearest {
	const char *target;
	bool is_function;
	uint32_t nr;
	uint32_t costs[BEST_NR]; /* rising */
	char names[BEST_NR][NAME_BYTES];
};

/* A name is alike if it needs few edits, or contains the other: `switch` finds sched_switch. */
static void nearest_offer(struct nearest *n, const char *name)
{
	uint32_t length = (uint32_t)strlen(n->target), cost, within, at;

	if (length >= NAME_BYTES || strlen(name) >= NAME_BYTES)
		return;
	cost = near_distance(n->target, name);
	within = 2 + (uint32_t)strlen(name) / 16;
	if (length >= 4 && within < cost && strstr(name, n->target))
		cost = within;
	if (!near_is_meant(cost, n->target))
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

static int nearest_offer_types(const struct btf *btf, uint32_t first, void *arg)
{
	struct nearest *n = arg;

	for (uint32_t id = first; id < btf__type_cnt(btf); id++) {
		const struct btf_type *type = btf__type_by_id(btf, id);
		const char *name = btf__name_by_offset(btf, type->name_off);

		if (n->is_function && btf_is_func(type))
			nearest_offer(n, name);
		else if (!n->is_function && btf_is_typedef(type) &&
			 !strncmp(name, TYPES_TRACEPOINT, strlen(TYPES_TRACEPOINT)))
			nearest_offer(n, name + strlen(TYPES_TRACEPOINT));
	}
	return 0;
}

static int nearest_offer_symbol(const char *name, void *arg)
{
	nearest_offer(arg, name);
	return 0;
}

static int nearest_offer_usdt(const struct elf_usdt *u, void *arg)
{
	nearest_offer(arg, u->name);
	return 0;
}

void explain_nearest(uint32_t event, const char *file, const char *target, char *buf, size_t size)
{
	struct nearest n = {
		.target = target, .is_function = event == SPEC_FENTRY || event == SPEC_FEXIT,
	};
	char path[512];
	struct text t;

	text_init(&t, buf, size);
	if (event <= SPEC_FEXIT)
		types_each(nearest_offer_types, &n);
	else if (!file || elf_library_find(file, path, sizeof(path)))
		return;
	else if (event == SPEC_USDT)
		elf_usdt_each(path, nearest_offer_usdt, &n);
	else
		elf_symbols_each(path, nearest_offer_symbol, &n);
	for (uint32_t i = 0; i < n.nr; i++)
		text_put(&t, "%s%s", !i ? "" : i + 1 < n.nr ? ", " : " or ", n.names[i]);
}

/*
 * Many counters on one screen; see group.h.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "shm/names.h"
#include "tools/show/group.h"
#include "tools/show/show.h"

struct group {
	char *base;
	size_t nr;
	struct talea_total sum;
};

static int group_order(const void *a, const void *b)
{
	return strcmp(((const struct group *)a)->base, ((const struct group *)b)->base);
}

static void group_free(void *node)
{
	struct group *group = node;

	free(group->base);
	free(group);
}

void groups_begin(struct groups *groups)
{
	groups_fini(groups);
}

void groups_fini(struct groups *groups)
{
	tdestroy(groups->tree, group_free);
	groups->tree = NULL;
}

static struct group *group_find(const struct groups *groups, char *base)
{
	struct group key = { .base = base };
	struct group **node = tfind(&key, &groups->tree, group_order);

	return node ? *node : NULL;
}

/* The name without its labels, in a buffer of NAME_DISPLAY_MAX + 1. false: it has no labels. */
static bool base_of(const char *name, char *base)
{
	size_t len = strcspn(name, "{");

	if (!name[len] || len > NAME_DISPLAY_MAX)
		return false;
	memcpy(base, name, len);
	base[len] = '\0';
	return true;
}

/* An unknown rate makes the rate of the sum unknown: a sum with NaN is NaN. */
static void sum_add(struct group *group, const struct talea_total *total)
{
	if (group->nr++ == 0) {
		group->sum = *total;
		return;
	}
	if (total->state != TALEA_UNKNOWN && group->sum.state != TALEA_SUSPECT)
		group->sum.state = total->state;
	group->sum.value += total->value;
	group->sum.rate += total->rate;
	for (size_t i = 0; i < sizeof(total->history) / sizeof(total->history[0]); i++)
		group->sum.history[i] += total->history[i];
}

int groups_add(struct groups *groups, const char *name, const struct talea_total *total)
{
	char base[NAME_DISPLAY_MAX + 1];
	struct group *group;

	if (!base_of(name, base))
		return 0;
	group = group_find(groups, base);
	if (!group) {
		group = calloc(1, sizeof(*group));
		if (!group)
			return -ENOMEM;
		group->base = strdup(base);
		if (!group->base || !tsearch(group, &groups->tree, group_order)) {
			group_free(group);
			return -ENOMEM;
		}
	}
	sum_add(group, total);
	return 0;
}

/* --- fitting -------------------------------------------------------------------------------- */

/* One line of the screen: a counter, or a group and how many of its members stand below it. */
struct line {
	const struct row *row;
	const struct group *group;
	size_t members_nr;
};

static double line_rate(const struct line *line)
{
	double rate = line->group ? line->group->sum.rate : line->row->total.rate;

	return isnan(rate) ? -1 : fabs(rate);
}

static int by_line_rate(const void *a, const void *b)
{
	double x = line_rate(a), y = line_rate(b);

	return x < y ? 1 : x > y ? -1 : 0;
}

static bool is_listed(const struct line *lines, size_t nr, const struct group *group)
{
	for (size_t i = 0; i < nr; i++)
		if (lines[i].group == group)
			return true;
	return false;
}

/* The counters without other label sets, and the groups, in the order of the rows. */
static size_t lines_make(const struct groups *groups, const struct table *rows, struct line *lines)
{
	char base[NAME_DISPLAY_MAX + 1];
	struct group *group, *last = NULL;
	size_t nr = 0;

	for (size_t i = 0; i < rows->nr; i++) {
		group = base_of(rows->rows[i].name, base) ? group_find(groups, base) : NULL;
		if (group && group->nr < 2)
			group = NULL;
		if (group && (group == last || is_listed(lines, nr, group)))
			continue;
		last = group;
		lines[nr++] = (struct line){ .row = &rows->rows[i], .group = group };
	}
	return nr;
}

/* Gives the free lines to the groups, one each in turn. */
static void lines_deal(struct line *lines, size_t nr, size_t room)
{
	bool is_dealt = true;

	while (room && is_dealt) {
		is_dealt = false;
		for (size_t i = 0; i < nr && room; i++) {
			if (!lines[i].group || lines[i].members_nr == lines[i].group->nr)
				continue;
			lines[i].members_nr++;
			room--;
			is_dealt = true;
		}
	}
}

static int group_put(const struct line *line, const struct table *busiest, struct table *ret)
{
	const char *base = line->group->base;
	size_t len = strlen(base), left = line->members_nr;
	char name[NAME_DISPLAY_MAX + SHOW_TEXT], count[SHOW_TEXT];
	int rc;

	snprintf(name, sizeof(name), "%s (%s)", base,
		 show_exact(count, (int64_t)line->group->nr));
	rc = table_put(ret, name, &line->group->sum);
	for (size_t i = 0; !rc && left && i < busiest->nr; i++) {
		const struct row *row = &busiest->rows[i];

		if (strncmp(row->name, base, len) || row->name[len] != '{')
			continue;
		snprintf(name, sizeof(name), "  %s", row->name + len);
		rc = table_put(ret, name, &row->total);
		left--;
	}
	return rc;
}

int groups_fit(const struct groups *groups, const struct table *rows, const struct table *busiest,
	       size_t room, struct table *ret, size_t *ret_hidden)
{
	struct line *lines = calloc(rows->nr + 1, sizeof(*lines));
	size_t nr, shown = 0;
	int rc = 0;

	if (!lines)
		return -ENOMEM;
	nr = lines_make(groups, rows, lines);
	if (nr > room) {
		qsort(lines, nr, sizeof(*lines), by_line_rate);
		nr = room;
	}
	lines_deal(lines, nr, room - nr);
	for (size_t i = 0; !rc && i < nr; i++) {
		if (lines[i].group)
			rc = group_put(&lines[i], busiest, ret);
		else
			rc = table_put(ret, lines[i].row->name, &lines[i].row->total);
		shown += lines[i].group ? lines[i].members_nr : 1;
	}
	*ret_hidden = rows->nr - shown;
	free(lines);
	return rc;
}

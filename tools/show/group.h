/*
 * Many counters on one screen: the label sets of one name become one line with their sum, and the
 * remaining lines show the busiest of each. Owns the sums between groups_begin and groups_fini. The
 * sums include every visited counter, also those whose rows watch.c dropped. Called by watch.c.
 */
#ifndef TOOLS_SHOW_GROUP_H
#define TOOLS_SHOW_GROUP_H

#include <stddef.h>

#include <talea.h>

#include "tools/show/table.h"

struct groups {
	void *tree;
};
void groups_begin(struct groups *groups);
int groups_add(struct groups *groups, const char *name, const struct talea_total *total);
void groups_fini(struct groups *groups);
/* Puts at most room lines into *ret: rows in their order, label sets of one name as their sum and the
 * first of them in `busiest`, which holds the same rows by rate. *ret_hidden: rows not shown. */
int groups_fit(const struct groups *groups, const struct table *rows, const struct table *busiest,
	       size_t room, struct table *ret, size_t *ret_hidden);

#endif

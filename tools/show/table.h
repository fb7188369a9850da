/*
 * Counters in aligned columns: name, total, rate, age, the last minute. Owns the rows that were put
 * into a table until table_clear. Called by get.c, watch.c and group.c.
 */
#ifndef TOOLS_SHOW_TABLE_H
#define TOOLS_SHOW_TABLE_H

#include <stddef.h>
#include <stdio.h>

#include <talea.h>

struct row {
	char *name;
	struct talea_total total;
};
struct table {
	struct row *rows;
	size_t nr, max;
};
enum table_flags { TABLE_AGE = 1, TABLE_GREY = 2, TABLE_HEAD = 4, TABLE_FRAME = 8 };

int table_put(struct table *table, const char *name, const struct talea_total *total);
void table_cut(struct table *table, size_t nr); /* keeps the first nr */
void table_clear(struct table *table);
void table_fini(struct table *table);
/* *name_width keeps columns steady from batch to batch; 0 at first. TABLE_FRAME ends each line by
 * erasing what an earlier frame left there. */
void table_print(FILE *f, const struct table *table, unsigned int flags, int *name_width);

#endif

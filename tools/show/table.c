/*
 * Counters in aligned columns; see table.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shm/base/array.h"
#include "tools/expo/pick.h"
#include "tools/show/show.h"
#include "tools/show/table.h"

#define NAME_LEAST 16
#define VALUE_COLUMNS 11
#define RATE_COLUMNS 11
#define AGE_COLUMNS 9
#define SPARK_LEAST 10
#define SPARK_MOST 60

int table_put(struct table *table, const char *name, const struct talea_total *total)
{
	if (array_reserve(&table->rows, table->nr + 1, &table->max))
		return -ENOMEM;
	table->rows[table->nr].name = strdup(name);
	if (!table->rows[table->nr].name)
		return -ENOMEM;
	table->rows[table->nr++].total = *total;
	return 0;
}

void table_cut(struct table *table, size_t nr)
{
	while (table->nr > nr)
		free(table->rows[--table->nr].name);
}

void table_clear(struct table *table)
{
	table_cut(table, 0);
}

void table_fini(struct table *table)
{
	table_clear(table);
	free(table->rows);
	*table = (struct table){ 0 };
}

struct columns {
	int name, age, spark;
};

/* Which columns fit: first the whole name, then the last minute, then the age. */
static struct columns columns_fit(const struct table *table, unsigned int flags, int *name_width)
{
	struct columns c = { .name = *name_width > NAME_LEAST ? *name_width : NAME_LEAST };
	int left;

	for (size_t i = 0; i < table->nr; i++) {
		int width = show_width(table->rows[i].name);

		if (width > c.name)
			c.name = width;
	}
	*name_width = c.name;
	left = show.columns - 1 - VALUE_COLUMNS - RATE_COLUMNS;
	if (flags & TABLE_AGE && left - AGE_COLUMNS >= NAME_LEAST)
		c.age = AGE_COLUMNS;
	left -= c.age;
	if (c.name > left - SPARK_LEAST - 2 && left - SPARK_LEAST - 2 >= 2 * NAME_LEAST)
		c.name = left - SPARK_LEAST - 2;
	if (c.name > left)
		c.name = left > NAME_LEAST ? left : NAME_LEAST;
	left -= c.name + 2;
	c.spark = left < SPARK_LEAST ? 0 : left > SPARK_MOST ? SPARK_MOST : left;
	return c;
}

static void table_end_line(FILE *f, unsigned int flags)
{
	show_style(f, SHOW_PLAIN);
	fputs(flags & TABLE_FRAME ? "\033[K\n" : "\n", f);
}

static void table_print_head(FILE *f, const struct columns *c, unsigned int flags)
{
	show_style(f, flags & TABLE_GREY ? SHOW_GREY : SHOW_BOLD);
	show_padded(f, "COUNTER", c->name);
	fprintf(f, "%*s%*s", VALUE_COLUMNS, "TOTAL  ", RATE_COLUMNS, "RATE/s  ");
	if (c->age)
		fprintf(f, "%*s", AGE_COLUMNS, "AGE");
	if (c->spark)
		fprintf(f, "  %*s", c->spark, c->spark >= 11 ? "LAST MINUTE" : "MINUTE");
	table_end_line(f, flags);
}

static void table_print_row(FILE *f, const struct row *row, const struct columns *c, unsigned int flags)
{
	const struct talea_total *total = &row->total;
	bool is_grey = flags & TABLE_GREY;
	bool is_known = total->state != TALEA_UNKNOWN;
	bool is_past = is_ended(total->state, total->value);
	char text[SHOW_TEXT];

	show_style(f, is_grey ? SHOW_GREY : SHOW_PLAIN);
	show_padded(f, row->name, c->name);
	if (!is_grey && total->state != TALEA_OK)
		show_style(f, SHOW_BAD);
	fprintf(f, "%*s", VALUE_COLUMNS,
		is_known || is_past ? show_human(text, total->value) : "unknown  ");
	if (!is_grey)
		show_style(f, SHOW_RATE);
	fprintf(f, "%*s", RATE_COLUMNS, is_known ? show_rate(text, total->rate) : "-  ");
	if (!is_grey)
		show_style(f, SHOW_PLAIN);
	if (c->age)
		fprintf(f, "%*s", AGE_COLUMNS, show_ns(text, total->age_ns));
	if (c->spark && is_known) {
		fputs("  ", f);
		if (!is_grey)
			show_style(f, SHOW_GOOD);
		show_spark(f, total->history, sizeof(total->history) / sizeof(total->history[0]),
			   c->spark);
	}
	if (total->state == TALEA_SUSPECT)
		fputs("  suspect", f);
	else if (is_past)
		fputs("  ended", f);
	table_end_line(f, flags);
}

void table_print(FILE *f, const struct table *table, unsigned int flags, int *name_width)
{
	struct columns c = columns_fit(table, flags, name_width);

	if (flags & TABLE_HEAD)
		table_print_head(f, &c, flags);
	for (size_t i = 0; i < table->nr; i++)
		table_print_row(f, &table->rows[i], &c, flags);
}

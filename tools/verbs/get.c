/*
 * The verbs `get` and `list`: totals and names, once or again and again, as a table, as lines for
 * pipes, or as JSON. Owns the lines. Called from the table of verbs.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shm/base/clock.h"
#include "tools/cli.h"
#include "tools/expo/expo.h"
#include "tools/select.h"
#include "tools/show/show.h"
#include "tools/show/table.h"

#define HELP_LEAST 20
#define BATCH 512 /* rows of a table that are kept to find its widths, of maybe a million */

struct output {
	const struct cli *c;
	bool is_list;
	struct expo_stream json;
	size_t nr;
	uint64_t age_ns;    /* the oldest of what was shown */
	bool has_unknown;
	size_t ended_nr;
	size_t suspects_nr;
	char *first_name;   /* pipes: kept until a second counter comes; alone it has no name */
	struct talea_total first;
	struct table table;
	int name_width;
};

/* --- lines ---------------------------------------------------------------------------------- */

static void print_value(const struct talea_total *total)
{
	if (total->state == TALEA_UNKNOWN && !is_ended(total->state, total->value))
		puts("unknown");
	else
		printf("%" PRId64 "\n", total->value);
}

static int line_visit(struct output *out, const char *name, const struct talea_total *total)
{
	if (out->nr == 0) {
		out->first = *total;
		out->first_name = strdup(name);
		return out->first_name ? 0 : -ENOMEM;
	}
	if (out->first_name) {
		printf("%s ", out->first_name);
		print_value(&out->first);
		free(out->first_name);
		out->first_name = NULL;
	}
	printf("%s ", name);
	print_value(total);
	return 0;
}

static void line_end(struct output *out)
{
	if (out->first_name)
		print_value(&out->first);
	free(out->first_name);
	out->first_name = NULL;
}

/* --- tables --------------------------------------------------------------------------------- */

static void list_table(struct output *out, bool is_first)
{
	const struct table *table = &out->table;
	int width = out->name_width < 24 ? 24 : out->name_width;
	int most = show.columns - 30 < 24 ? 24 : show.columns - 30, left;
	bool has_help;

	for (size_t i = 0; i < table->nr; i++)
		if (show_width(table->rows[i].name) > width)
			width = show_width(table->rows[i].name);
	out->name_width = width = width > most ? most : width;
	left = show.columns - width - 20;
	has_help = left >= HELP_LEAST;
	if (is_first) {
		show_head("%-*s  %-7s  %-6s%s", width, "COUNTER", "TYPE", "ORIGIN",
			  has_help ? "  HELP" : "");
	}
	for (size_t i = 0; i < table->nr; i++) {
		const struct row *row = &table->rows[i];

		show_padded(stdout, row->name, width);
		printf("  %-7s  ", pick_type_text(row->total.type));
		show_styled(SHOW_RATE, "%-6s", pick_origin_text(row->total.origin));
		if (row->total.state == TALEA_SUSPECT) {
			show_styled(SHOW_BAD, "  suspect");
		} else if (has_help && row->total.help) {
			fputs("  ", stdout);
			show_padded(stdout, row->total.help,
				    show_width(row->total.help) < left ?
					    show_width(row->total.help) : left);
		}
		putchar('\n');
	}
}

static void table_flush(struct output *out)
{
	bool is_first = out->nr <= BATCH;

	if (out->is_list)
		list_table(out, is_first);
	else
		table_print(stdout, &out->table, TABLE_AGE | (is_first ? TABLE_HEAD : 0u),
			    &out->name_width);
	table_clear(&out->table);
}

static int table_visit(struct output *out, const char *name, const struct talea_total *total)
{
	if (out->table.nr == BATCH)
		table_flush(out);
	return table_put(&out->table, name, total);
}

/* --- the verbs ------------------------------------------------------------------------------ */

static int visit(const char *name, const struct talea_total *total, void *arg)
{
	struct output *out = arg;
	int rc;

	if (ferror(stdout))
		return CLI_PIPE; /* finish() in talea.c finds out why */
	if (out->c->json)
		rc = expo_stream_put(&out->json, name, total);
	else if (show.is_tty)
		rc = table_visit(out, name, total);
	else if (out->is_list)
		rc = puts(name) < 0 ? CLI_PIPE : 0;
	else
		rc = line_visit(out, name, total);
	out->nr++;
	if (total->age_ns > out->age_ns)
		out->age_ns = total->age_ns;
	if (is_ended(total->state, total->value))
		out->ended_nr++;
	else if (total->state == TALEA_UNKNOWN)
		out->has_unknown = true;
	out->suspects_nr += total->state == TALEA_SUSPECT;
	return rc;
}

static int check_age(const struct cli *c, const struct output *out)
{
	char age[SHOW_TEXT], most[SHOW_TEXT];

	if (!c->max_age_ns || out->age_ns <= c->max_age_ns)
		return CLI_OK;
	return cli_fail(c, CLI_STALE, "the totals are %s old, more than %s. try: talea status",
			show_ns(age, out->age_ns), show_ns(most, c->max_age_ns));
}

/* One answer of get or list. */
static int once(const struct cli *c, bool is_list)
{
	struct output out = { .c = c,
			      .is_list = is_list,
			      .json = { .f = stdout,
					.st = &c->session.st,
					.is_one_line = c->watch_ns != 0 } };
	int rc;

	rc = select_each(c, c->watch_ns != 0, visit, &out);
	if (rc == CLI_OK || rc == CLI_NO_MATCH) {
		if (c->json && expo_stream_end(&out.json))
			rc = CLI_FAILED;
		else if (!c->json && show.is_tty && out.nr)
			table_flush(&out);
	}
	line_end(&out);
	table_fini(&out.table);
	if (rc == CLI_OK && !is_list)
		rc = check_age(c, &out);
	if (out.suspects_nr && !c->json && !c->watch_ns)
		cli_fail(c, CLI_OK, "%zu of them %s suspect: frozen when %s fell. try: talea accept",
			 out.suspects_nr, out.suspects_nr == 1 ? "is" : "are",
			 out.suspects_nr == 1 ? "it" : "they");
	if (out.ended_nr && !is_list && !c->json && !c->watch_ns)
		cli_fail(c, CLI_OK, "nothing counts %s now; the last total is shown. try: talea probes",
			 out.nr == 1 ? "it" : out.ended_nr == out.nr ? "them" : "some of them");
	if (rc == CLI_OK && out.nr == 1 && out.has_unknown && !is_list && !c->json && !show.is_tty)
		rc = cli_fail(c, CLI_FAILED, "nothing counts it yet. try: talea probes");
	return rc;
}

/* Until a frame fails or stdout closes. A name that does not exist yet is no failure. */
static int again(struct cli *c)
{
	uint64_t next = mono_ns();
	struct timespec until;
	int rc;

	for (;;) {
		rc = once(c, false);
		if (fflush(stdout) || (rc != CLI_OK && rc != CLI_NO_MATCH && rc != CLI_STALE))
			return rc;
		if (show.is_tty && !c->json)
			putchar('\n');
		next += c->watch_ns;
		if (next < mono_ns())
			next = mono_ns();
		until.tv_sec = (time_t)(next / NS_PER_S);
		until.tv_nsec = (long)(next % NS_PER_S);
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
		c->session.st.size = sizeof(c->session.st);
		talea_status(c->session.t, &c->session.st);
	}
}

int verb_get(struct cli *c) { return c->watch_ns ? again(c) : once(c, false); }

int verb_list(struct cli *c) { return once(c, true); }

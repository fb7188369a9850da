/*
 * The verbs `get` and `list`: totals and names, once or again and again, as a table, as lines for
 * pipes, or as JSON. Owns the frame of the JSON document. Called from the table of verbs.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/cli.h"

#define HELP_LEAST 20
#define BATCH 512 /* rows a table holds back to find its widths: a million are not kept */

struct output {
	const struct cli *c;
	const struct talea_status *st;
	bool is_list;
	size_t nr;
	uint64_t age_ns;    /* the oldest of what was shown */
	bool has_unknown;
	size_t ended_nr;
	size_t suspects_nr;
	char *first_name;   /* pipes: held back until it is clear whether it is alone */
	struct talea_total first;
	struct table table;
	int name_width;
};

/* --- JSON ----------------------------------------------------------------------------------- */

/* The document up to its first counter. One line with --watch, one a counter otherwise. */
static int json_begin(const struct output *out, uint64_t epoch, uint64_t as_of_ns, uint64_t age_ns)
{
	json_t *name_space = json_text(out->st->namespace_name);
	char *quoted = name_space ? json_dumps(name_space, JSON_ENCODE_ANY) : NULL;
	char time[SHOW_TEXT];

	json_decref(name_space);
	if (!quoted)
		return -ENOMEM;
	printf("{\"schema\":%d,\"namespace\":%s,\"epoch\":%" PRIu64 ",\"as_of\":\"%s\""
	       ",\"age_ns\":%" PRIu64 ",\"counters\":[",
	       CLI_SCHEMA, quoted, epoch, show_utc(time, as_of_ns), age_ns);
	free(quoted);
	return 0;
}

static int json_visit(struct output *out, const char *name, const struct talea_total *total)
{
	const char *line = out->c->watch_ns ? "" : "\n";
	json_t *counter;
	char *text;
	int rc;

	if (out->nr == 0) {
		rc = json_begin(out, total->epoch, total->as_of_ns, total->age_ns);
		if (rc)
			return rc;
	}
	counter = json_counter(name, total);
	text = counter ? json_dumps(counter, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
	json_decref(counter);
	if (!text)
		return -ENOMEM;
	printf("%s%s%s", out->nr ? "," : "", line, text);
	free(text);
	return 0;
}

static int json_end(struct output *out)
{
	int rc;

	if (out->nr == 0) {
		rc = json_begin(out, out->st->epoch, show_now_ns() - out->st->age_ns,
				out->st->age_ns);
		if (rc)
			return rc;
	}
	puts(out->c->watch_ns || !out->nr ? "]}" : "\n]}");
	return 0;
}

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

static void list_print(struct output *out, bool is_first)
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
		show_style(stdout, SHOW_BOLD);
		show_padded(stdout, "COUNTER", width);
		printf("  %-7s  %-6s%s", "TYPE", "ORIGIN", has_help ? "  HELP" : "");
		show_style(stdout, SHOW_PLAIN);
		putchar('\n');
	}
	for (size_t i = 0; i < table->nr; i++) {
		const struct row *row = &table->rows[i];
		static const char *const origins[] = { "user", "kernel", "own" };

		show_padded(stdout, row->name, width);
		printf("  %-7s  ", row->total.type == TALEA_TYPE_LEVEL ? "level" : "counter");
		show_style(stdout, SHOW_RATE);
		printf("%-6s", origins[row->total.origin]);
		show_style(stdout, SHOW_PLAIN);
		if (row->total.state == TALEA_SUSPECT) {
			show_style(stdout, SHOW_BAD);
			fputs("  suspect", stdout);
			show_style(stdout, SHOW_PLAIN);
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
		list_print(out, is_first);
	else
		table_print(stdout, &out->table, out->table.nr,
			    TABLE_AGE | (is_first ? TABLE_HEAD : 0u), &out->name_width);
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
		rc = json_visit(out, name, total);
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
	fprintf(stderr, "talea get: the totals are %s old, more than %s. try: talea status\n",
		show_ns(age, out->age_ns), show_ns(most, c->max_age_ns));
	return CLI_STALE;
}

/* One answer of get or list. */
static int once(const struct cli *c, struct talea *t, const struct talea_status *st, bool is_list)
{
	struct output out = { .c = c, .st = st, .is_list = is_list };
	int rc;

	rc = select_each(c, t, c->watch_ns != 0, visit, &out);
	if (rc == CLI_OK || rc == CLI_NO_MATCH) {
		if (c->json && json_end(&out))
			rc = CLI_FAILED;
		else if (!c->json && show.is_tty && out.nr)
			table_flush(&out);
	}
	line_end(&out);
	table_fini(&out.table);
	if (rc == CLI_OK && !is_list)
		rc = check_age(c, &out);
	if (out.suspects_nr && !c->json && !c->watch_ns)
		fprintf(stderr, "talea %s: %zu of them %s suspect: frozen when %s fell. try: talea "
			"accept\n", c->verb->name, out.suspects_nr, out.suspects_nr == 1 ? "is" : "are",
			out.suspects_nr == 1 ? "it" : "they");
	if (out.ended_nr && !is_list && !c->json && !c->watch_ns)
		fprintf(stderr, "talea get: nothing counts %s now; what %s came to is shown. try: "
			"talea probes\n",
			out.nr == 1 ? "it" : out.ended_nr == out.nr ? "them" : "some of them",
			out.nr == 1 ? "it" : "they");
	if (rc == CLI_OK && out.nr == 1 && out.has_unknown && !is_list && !c->json && !show.is_tty) {
		fprintf(stderr, "talea get: nothing counts it yet. try: talea probes\n");
		rc = CLI_FAILED;
	}
	return rc;
}

/* Until the frame fails or stdout closes; a name that is not there yet is waited for. */
static int again(const struct cli *c, struct talea *t, struct talea_status *st)
{
	uint64_t next = term_now_ns();
	struct timespec until;
	int rc;

	for (;;) {
		rc = once(c, t, st, false);
		if (fflush(stdout) || (rc != CLI_OK && rc != CLI_NO_MATCH && rc != CLI_STALE))
			return rc;
		if (show.is_tty && !c->json)
			putchar('\n');
		next += c->watch_ns;
		if (next < term_now_ns())
			next = term_now_ns();
		until.tv_sec = (time_t)(next / 1000000000);
		until.tv_nsec = (long)(next % 1000000000);
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
		st->size = sizeof(*st);
		talea_status(t, st);
	}
}

int verb_get(struct cli *c)
{
	struct talea_status st;
	struct talea *t;
	int rc;

	rc = attach_open(c, TALEA_READ_ONLY, &t, &st);
	if (rc != CLI_OK)
		return rc;
	rc = c->watch_ns ? again(c, t, &st) : once(c, t, &st, false);
	talea_close(t);
	return rc;
}

int verb_list(struct cli *c)
{
	struct talea_status st;
	struct talea *t;
	int rc;

	rc = attach_open(c, TALEA_READ_ONLY, &t, &st);
	if (rc != CLI_OK)
		return rc;
	rc = once(c, t, &st, true);
	talea_close(t);
	return rc;
}

/*
 * The verb `probes`: the kernel's probes as the worker knows them, what their runs cost, and, by way
 * of talead, what could be attached here. Owns how a probe is shown to people. Called from the table
 * of verbs.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "shm/base/clock.h"
#include "tools/cli.h"
#include "tools/expo/json.h"
#include "tools/expo/probe.h"
#include "tools/run.h"
#include "tools/show/show.h"
#include "tools/verbs/probes.h"

#define NAME_LEAST 12
#define NAME_MOST  28
#define NUMBERS_COLUMNS 52 /* between the name and ATTACHED TO */
#define TEXT_MAX   (sizeof(((struct wire_probe *)0)->attach) + 32)

struct probes {
	struct wire_probe *list;
	uint32_t nr;
	int name_width;
};

static bool is_on(const struct wire_probe *p)
{
	return p->state == WIRE_PROBE_ATTACHED;
}

static bool is_failed(const struct wire_probe *p)
{
	return p->state == WIRE_PROBE_FAILED;
}

/* --- a table -------------------------------------------------------------------------------- */

static bool is_unasked(const struct wire_probe *p)
{
	return p->state == WIRE_PROBE_OFF && !p->reason[0];
}

/* The name of the first counter, and how many more there are. */
static const char *counters_text(const struct wire_probe *p, char *buf)
{
	size_t first = probe_counter(p, 0);
	int more = 0;

	for (const char *c = p->counters; *c; c++)
		more += *c == ' ';
	if (more)
		snprintf(buf, TEXT_MAX, "%.*s and %d more", (int)first, p->counters, more);
	else
		snprintf(buf, TEXT_MAX, "%.*s", (int)first, p->counters);
	return buf;
}

/* The width of the widest text of all rows: of the counters, or of ATTACHED TO. */
static int widest(const struct probes *probes, bool is_counter)
{
	char text[TEXT_MAX];
	int most = 0;

	for (uint32_t i = 0; i < probes->nr; i++) {
		const struct wire_probe *p = &probes->list[i];
		int width = show_width(is_counter ? counters_text(p, text) : p->attach);

		if (!is_unasked(p) && width > most)
			most = width;
	}
	return most;
}

static const char *pin_text(const struct wire_probe *p)
{
	return !is_on(p) ? "-" : !p->is_pinned ? "no" : p->is_adopted ? "adopted" : "yes";
}

static const char *keys_text(const struct wire_probe *p, char *buf)
{
	if (p->keys_max)
		snprintf(buf, SHOW_TEXT, "%" PRIu32 "/%" PRIu32, p->keys_nr, p->keys_max);
	else
		snprintf(buf, SHOW_TEXT, "%" PRIu32, p->keys_nr);
	return buf;
}

static void indented(const char *label, const char *text)
{
	printf("  %s", label);
	show_text(stdout, text);
	putchar('\n');
}

/* What not every probe has: keys without room, and freed keys. */
static void print_more(const struct wire_probe *p)
{
	char a[SHOW_TEXT], b[SHOW_TEXT];

	if (is_on(p) && (p->overflow || p->refused)) {
		show_styled(SHOW_BAD,
			    "  overflow: %s in {talea=\"other\"}, %s adds found no room for their "
			    "key\n",
			    show_exact(a, (int64_t)p->overflow),
			    show_exact(b, (int64_t)p->refused));
	}
	if (is_on(p) && p->freed_nr)
		printf("  freed: %s keys whose owner is gone; %s in {talea=\"removed\"}\n",
		       show_exact(a, (int64_t)p->freed_nr), show_exact(b, (int64_t)p->folded));
}

static void print_probe(const struct wire_probe *p, const struct probes *probes, int attach_width,
			bool has_counter)
{
	char events[SHOW_TEXT] = "-", missed[SHOW_TEXT] = "-", keys[SHOW_TEXT] = "-";
	char text[TEXT_MAX];

	if (is_on(p)) {
		show_exact(events, (int64_t)p->events);
		show_exact(missed, (int64_t)p->missed);
		keys_text(p, keys);
	}
	show_padded(stdout, p->name, probes->name_width);
	show_styled(is_on(p) ? SHOW_GOOD : is_failed(p) ? SHOW_BAD : SHOW_GREY, "  %-8s",
		    probe_state_text(p));
	printf("  %14s  %6s  %9s", events, missed, keys);
	show_styled(is_on(p) && !p->is_pinned ? SHOW_BAD : SHOW_PLAIN, "  %-7s", pin_text(p));
	if (attach_width) {
		fputs("  ", stdout);
		show_padded(stdout, p->attach, has_counter ? attach_width : show_width(p->attach));
	} else {
		putchar('\n');
		indented("at: ", p->attach);
	}
	if (has_counter) {
		fputs("  ", stdout);
		show_text(stdout, counters_text(p, text));
	}
	if (attach_width)
		putchar('\n');
	print_more(p);
}

static void probes_print_table(const struct probes *probes)
{
	int left = show.columns - probes->name_width - NUMBERS_COLUMNS;
	int attach_width = widest(probes, false);
	bool has_counter = attach_width + 2 + widest(probes, true) <= left;

	if (!attach_width)
		return;
	if (attach_width > left)
		attach_width = 0;
	show_head("%-*s  %-8s  %14s  %6s  %9s  %-7s%s%-*s%s", probes->name_width, "PROBE", "STATE",
		  "EVENTS", "MISSED", "KEYS", "PINNED", attach_width ? "  " : "",
		  has_counter ? attach_width : 0, attach_width ? "ATTACHED TO" : "",
		  has_counter ? "  COUNTER" : "");
	for (uint32_t i = 0; i < probes->nr; i++)
		if (!is_unasked(&probes->list[i]))
			print_probe(&probes->list[i], probes, attach_width, has_counter);
}

/* Does the same sentence below the table describe p and `like`? */
typedef bool alike(const struct wire_probe *p, const struct wire_probe *like);

static bool off_alike(const struct wire_probe *p, const struct wire_probe *like)
{
	return is_unasked(p) && is_unasked(like);
}

static bool unpinned_alike(const struct wire_probe *p, const struct wire_probe *like)
{
	return is_on(p) && !p->is_pinned && is_on(like) && !like->is_pinned &&
	       !strcmp(p->unpinned_why, like->unpinned_why);
}

static bool failed_alike(const struct wire_probe *p, const struct wire_probe *like)
{
	return is_failed(p) && is_failed(like) && !strcmp(p->reason, like->reason) &&
	       !strcmp(p->fix, like->fix);
}

/* Is the probe at `at` the first of those that are alike? *ret_nr: how many they are. */
static bool is_first(const struct wire_probe *list, uint32_t nr, uint32_t at, alike *alike,
		     uint32_t *ret_nr)
{
	*ret_nr = 0;
	for (uint32_t i = 0; i < nr; i++) {
		if (!alike(&list[i], &list[at]))
			continue;
		if (i < at)
			return false;
		++*ret_nr;
	}
	return *ret_nr > 0;
}

/* The names of those that are alike, in lines as wide as the screen. */
static void print_names(const struct probes *probes, alike *alike, const struct wire_probe *like)
{
	int at = 2;
	bool is_later = false;

	fputs("  ", stdout);
	for (uint32_t i = 0; i < probes->nr; i++) {
		int width = show_width(probes->list[i].name);

		if (!alike(&probes->list[i], like))
			continue;
		if (is_later && at + 2 + width > show.columns - 1) {
			fputs(",\n  ", stdout);
			at = 2;
		} else if (is_later) {
			fputs(", ", stdout);
			at += 2;
		}
		is_later = true;
		show_text(stdout, probes->list[i].name);
		at += width;
	}
	putchar('\n');
}

/* What several probes have in common, once for all of them. */
static void print_groups(const struct probes *probes)
{
	uint32_t nr;

	for (uint32_t i = 0; i < probes->nr; i++) {
		const struct wire_probe *p = &probes->list[i];

		if (is_first(probes->list, probes->nr, i, failed_alike, &nr)) {
			printf("\n%" PRIu32 " failed\n", nr);
			indented("why: ", p->reason);
			if (p->fix[0])
				indented("fix: ", p->fix);
			print_names(probes, failed_alike, p);
		}
		if (is_first(probes->list, probes->nr, i, unpinned_alike, &nr)) {
			printf("\n%" PRIu32 " not pinned: counting ends with talead\n", nr);
			if (p->unpinned_why[0])
				indented("why: ", p->unpinned_why);
			print_names(probes, unpinned_alike, p);
		}
	}
	for (uint32_t i = 0; i < probes->nr; i++)
		if (is_first(probes->list, probes->nr, i, off_alike, &nr)) {
			printf("\n%" PRIu32 " off\n  why: not asked for\n"
			       "  fix: name it in talead's configuration: [daemon] probes = default, "
			       "%s\n",
			       nr, probes->list[i].name);
			print_names(probes, off_alike, &probes->list[i]);
		}
}

char *probes_failed(const struct wire_probe *probes, uint32_t nr, uint32_t at)
{
	char *text = NULL;
	uint32_t alike_nr;
	size_t bytes;
	FILE *f;

	if (!is_first(probes, nr, at, failed_alike, &alike_nr))
		return NULL;
	f = open_memstream(&text, &bytes);
	if (!f)
		return NULL;
	fputs(alike_nr > 1 ? "probes " : "probe ", f);
	for (uint32_t i = at; i < nr; i++)
		if (failed_alike(&probes[i], &probes[at]))
			fprintf(f, "%s%s", i > at ? ", " : "", probes[i].name);
	return fclose(f) ? NULL : text;
}

/* --- lines ---------------------------------------------------------------------------------- */

static void probes_print_lines(const struct probes *probes)
{
	char keys[SHOW_TEXT];

	for (uint32_t i = 0; i < probes->nr; i++) {
		const struct wire_probe *p = &probes->list[i];

		if (is_on(p))
			printf("%s %s %" PRIu64 " %" PRIu64 " %" PRIu64 " %s %s ", p->name,
			       probe_state_text(p), p->events, p->missed, p->overflow,
			       keys_text(p, keys), pin_text(p));
		else
			printf("%s %s - - - - - ", p->name, probe_state_text(p));
		show_text(stdout, p->attach);
		putchar('\n');
	}
	fflush(stdout);
	for (uint32_t i = 0; i < probes->nr; i++) {
		const struct wire_probe *p = &probes->list[i];
		char *names = probes_failed(probes->list, probes->nr, i);

		if (names)
			fprintf(stderr, "%s not attached: %s.%s%s\n", names, p->reason,
				p->fix[0] ? " fix: " : "", p->fix);
		free(names);
	}
}

/* --- cost ----------------------------------------------------------------------------------- */

static double cpu_percent(const struct wire_probe *p)
{
	return p->cost_ms ? (double)p->cost_ns / (p->cost_ms * 1e6) * 100 : 0;
}

static int probes_order(const void *a, const void *b)
{
	double x = cpu_percent(a), y = cpu_percent(b);

	return x < y ? 1 : x > y ? -1 : 0;
}

static void print_cost_row(const char *name, int width, double per_s, double ns, double percent,
			   bool has_ns)
{
	char rate[SHOW_TEXT], each[SHOW_TEXT] = "-";

	if (has_ns)
		snprintf(each, sizeof(each), "%.0f", ns);
	if (!show.is_tty) {
		printf("%s %.1f %s %.4f\n", name, per_s, each, percent);
		return;
	}
	show_padded(stdout, name, width);
	printf("  %11s  %8s  %8.3f\n", show_rate(rate, per_s), each, percent);
}

/* The most expensive first. */
static void print_cost(struct probes *probes)
{
	double runs = 0, percent = 0;
	uint32_t ms = 0;

	qsort(probes->list, probes->nr, sizeof(*probes->list), probes_order);
	if (show.is_tty)
		show_head("%-*s  %11s  %8s  %8s", probes->name_width, "PROBE", "RUNS/s  ",
			  "ns A RUN", "% OF CPU");
	for (uint32_t i = 0; i < probes->nr; i++) {
		const struct wire_probe *p = &probes->list[i];
		double per_s;

		if (!is_on(p) || !p->cost_ms)
			continue;
		per_s = (double)p->cost_runs * 1000 / p->cost_ms;
		print_cost_row(p->name, probes->name_width, per_s,
			       p->cost_runs ? (double)p->cost_ns / (double)p->cost_runs : 0,
			       cpu_percent(p), p->cost_runs);
		runs += per_s;
		percent += cpu_percent(p);
		ms = p->cost_ms;
	}
	if (!ms) {
		fprintf(stderr, "no probe is attached: nothing was measured\n");
		return;
	}
	if (!show.is_tty)
		return;
	show_style(stdout, SHOW_BOLD);
	print_cost_row("all", probes->name_width, runs, 0, percent, false);
	show_style(stdout, SHOW_PLAIN);
	printf("measured for %.1f s, on all CPUs; 100 is one CPU\n", ms / 1000.0);
}

/* --- the verb ------------------------------------------------------------------------------- */

/* Reads all probes; with --cost the worker measures first. */
static int probes_read(const struct cli *c, struct probes *ret)
{
	const struct wire_probe_change change = { .op = WIRE_PROBE_COST,
						  .ms = (uint32_t)(c->cost_ns / NS_PER_MS) };
	int rc = CLI_OK;

	if (c->cost_ns)
		rc = session_probe(c, &change, NULL, NULL);
	if (rc == CLI_OK)
		rc = session_probes(c, &ret->list, &ret->nr);
	ret->name_width = NAME_LEAST;
	for (uint32_t i = 0; rc == CLI_OK && i < ret->nr; i++) {
		int width = show_width(ret->list[i].name);

		if (!is_unasked(&ret->list[i]) && width > ret->name_width)
			ret->name_width = width < NAME_MOST ? width : NAME_MOST;
	}
	return rc;
}

static int probes_show(const struct cli *c, struct probes *probes)
{
	json_t *doc;

	if (c->json) {
		doc = json_document(NULL);
		json_object_set_new(doc, "probes", probes_json(probes->list, probes->nr));
		return cli_json(doc);
	}
	if (c->cost_ns) {
		print_cost(probes);
	} else if (!show.is_tty) {
		probes_print_lines(probes);
	} else {
		probes_print_table(probes);
		print_groups(probes);
	}
	return CLI_OK;
}

static int probes_available(const struct cli *c)
{
	const char *const args[] = { "--available", c->available, c->json ? "--json" : NULL, NULL };

	return run_become(c, args);
}

int verb_probes_begin(struct cli *c) { return c->available ? probes_available(c) : CLI_OK; }

int verb_probes(struct cli *c)
{
	struct probes probes = { 0 };
	int rc = probes_read(c, &probes);

	if (rc == CLI_OK)
		rc = probes_show(c, &probes);
	free(probes.list);
	return rc;
}

/*
 * The verb `watch`: totals and rates redrawn in place. When the daemon is gone or stands still, the
 * last totals stay, in grey and with their time. Owns the frame; term.c owns the terminal. Without a
 * terminal it prints one frame after the other; with --json it is `get --watch --json`.
 */
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shm/base/clock.h"
#include "tools/cli.h"
#include "tools/select.h"
#include "tools/show/group.h"
#include "tools/show/show.h"
#include "tools/show/table.h"
#include "tools/show/term.h"

#define STALE_NS (2 * NS_PER_S)
#define KEEP_MOST 8192 /* rows; when there are more, the less busy half is dropped */

enum health { HEALTH_LIVE, HEALTH_STALE, HEALTH_GONE };

struct view {
	struct cli *c;
	struct table table, next;
	struct groups groups;
	enum health health;
	uint64_t last_real_ns; /* the start of the newest fold that was seen */
	size_t dropped, next_dropped;
	bool is_screen;
	int name_width;
};

static int view_order(const void *a, const void *b)
{
	const struct row *x = a, *y = b;
	double rx = isnan(x->total.rate) ? -1 : fabs(x->total.rate);
	double ry = isnan(y->total.rate) ? -1 : fabs(y->total.rate);

	return rx < ry ? 1 : rx > ry ? -1 : strcmp(x->name, y->name);
}

static int view_visit(const char *name, const struct talea_total *total, void *arg)
{
	struct view *v = arg;

	if (v->next.nr == KEEP_MOST) {
		qsort(v->next.rows, v->next.nr, sizeof(*v->next.rows), view_order);
		table_cut(&v->next, KEEP_MOST / 2);
		v->next_dropped += KEEP_MOST - KEEP_MOST / 2;
	}
	if (groups_add(&v->groups, name, total) || table_put(&v->next, name, total))
		return CLI_FAILED;
	return 0;
}

/* Is the newest fold older than --max-age, or two seconds? */
static bool is_stale(const struct view *v, uint64_t now)
{
	uint64_t most = v->c->max_age_ns ? v->c->max_age_ns : STALE_NS;

	return now > v->last_real_ns + most;
}

/* Reads the newest totals; when there are none, keeps the last ones. */
static int view_read(struct view *v)
{
	struct talea_status *st = &v->c->session.st;
	uint64_t now = real_ns();
	struct table old;
	int rc;

	st->size = sizeof(*st);
	if (talea_status(v->c->session.t, st))
		st->connected = 0;
	if (st->age_ns != UINT64_MAX && now > st->age_ns)
		v->last_real_ns = now - st->age_ns;
	v->health = !st->connected ? HEALTH_GONE : is_stale(v, now) ? HEALTH_STALE : HEALTH_LIVE;
	if (v->health == HEALTH_GONE)
		return CLI_OK;
	v->next_dropped = 0;
	groups_begin(&v->groups);
	rc = select_each(v->c, true, view_visit, v);
	if (rc != CLI_OK && rc != CLI_NO_MATCH) {
		table_clear(&v->next);
		return rc;
	}
	old = v->table;
	v->table = v->next;
	v->dropped = v->next_dropped;
	v->next = old;
	table_clear(&v->next);
	return CLI_OK;
}

static void view_end_line(const struct view *v)
{
	show_style(stdout, SHOW_PLAIN);
	fputs(v->is_screen ? "\033[K\n" : "\n", stdout);
}

/* Prints text if it fits into what is left of the line. */
static void piece(int *left, enum show_style style, const char *text)
{
	int width = show_width(text);

	if (width > *left)
		return;
	*left -= width;
	show_style(stdout, style);
	fputs(text, stdout);
	show_style(stdout, SHOW_PLAIN);
}

/* One line: namespace, age and state of the daemon; on a narrow screen less of it. */
static void view_print_head(const struct view *v)
{
	static const char quit[] = "  q ends";
	const struct talea_status *st = &v->c->session.st;
	const char *dot = show.utf8 ? "●" : "*";
	uint64_t now = real_ns();
	uint64_t behind = now > v->last_real_ns ? now - v->last_real_ns : 0;
	char text[3 * SHOW_TEXT], part[SHOW_TEXT];
	int left = v->is_screen ? show.columns - 1 - (int)strlen(quit) : INT_MAX;

	piece(&left, SHOW_BOLD, "talea");
	snprintf(text, sizeof(text), " %s", st->namespace_name);
	piece(&left, SHOW_PLAIN, text);
	if (v->health == HEALTH_LIVE) {
		snprintf(text, sizeof(text), "  %s live", dot);
		piece(&left, SHOW_GOOD, text);
		snprintf(text, sizeof(text), "  age %s", show_ns(part, st->age_ns));
		piece(&left, SHOW_PLAIN, text);
		snprintf(text, sizeof(text), "  epoch %s", show_exact(part, (int64_t)st->epoch));
		piece(&left, SHOW_PLAIN, text);
	} else {
		snprintf(text, sizeof(text), "  %s %s since %s", dot,
			 v->health == HEALTH_GONE ? "no daemon" : "the daemon stands still",
			 show_clock(part, v->last_real_ns));
		piece(&left, SHOW_BAD, text);
		snprintf(text, sizeof(text), "  (%s ago)", show_ns(part, behind));
		piece(&left, SHOW_PLAIN, text);
		piece(&left, SHOW_PLAIN, "; these are its last totals");
	}
	snprintf(text, sizeof(text), "  %s", show_clock(part, now));
	piece(&left, SHOW_GREY, text);
	if (v->is_screen) {
		left += (int)strlen(quit);
		piece(&left, SHOW_GREY, quit);
	}
	view_end_line(v);
}

static void print_foot(const struct view *v, size_t hidden)
{
	char number[SHOW_TEXT];

	show_style(stdout, SHOW_GREY);
	if (hidden) {
		printf("%s more, less busy%s", show_exact(number, (int64_t)hidden),
		       show.columns < 60 ? "" : ". narrow it down: talea watch GLOB");
		view_end_line(v);
	} else if (v->table.nr == 0) {
		printf("nothing here yet%s. in another shell: talea add hello_total",
		       v->c->args_nr ? " with such a name" : "");
		view_end_line(v);
	}
	show_style(stdout, SHOW_PLAIN);
}

/* Puts as many rows as fit into v->next, which no read uses now. Returns how many are hidden. */
static size_t fit(struct view *v, size_t room)
{
	struct table busiest = { 0 };
	size_t hidden = 0;

	busiest.nr = v->table.nr;
	busiest.rows = malloc((v->table.nr + 1) * sizeof(*busiest.rows));
	if (!busiest.rows)
		return v->table.nr;
	memcpy(busiest.rows, v->table.rows, v->table.nr * sizeof(*busiest.rows));
	qsort(busiest.rows, busiest.nr, sizeof(*busiest.rows), view_order);
	if (groups_fit(&v->groups, &v->table, &busiest, room, &v->next, &hidden))
		hidden = v->table.nr;
	free(busiest.rows); /* the names are the table's */
	return hidden + v->dropped;
}

static void draw(struct view *v)
{
	unsigned int flags = TABLE_HEAD | (v->health == HEALTH_LIVE ? 0u : TABLE_GREY) |
			     (v->is_screen ? TABLE_FRAME : 0u);
	size_t room = (size_t)(show.lines > 5 ? show.lines - 5 : 1), hidden = 0;
	bool is_fitted = v->is_screen && (v->table.nr > room || v->dropped);
	const struct table *shown = is_fitted ? &v->next : &v->table;

	if (is_fitted)
		hidden = fit(v, room);
	if (v->is_screen)
		fputs("\033[?2026h\033[H", stdout);
	view_print_head(v);
	view_end_line(v);
	if (shown->nr)
		table_print(stdout, shown, flags, &v->name_width);
	print_foot(v, hidden);
	fputs(v->is_screen ? "\033[J\033[?2026l" : "\n", stdout);
	fflush(stdout);
	table_clear(&v->next);
}

static void sleep_until(uint64_t at_ns)
{
	struct timespec until = { .tv_sec = (time_t)(at_ns / NS_PER_S),
				  .tv_nsec = (long)(at_ns % NS_PER_S) };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

static int view_run(struct view *v)
{
	uint64_t next = mono_ns();
	enum term_event event = TERM_TICK;
	int rc;

	for (;;) {
		rc = view_read(v);
		if (rc != CLI_OK)
			return rc;
		draw(v);
		if (ferror(stdout))
			return CLI_OK;
		next += v->c->watch_ns;
		if (next < mono_ns())
			next = mono_ns() + v->c->watch_ns;
		if (!v->is_screen) {
			sleep_until(next);
			continue;
		}
		while ((event = term_wait(next)) == TERM_RESIZE) {
			show_measure();
			v->name_width = 0;
			fputs("\033[2J", stdout);
			draw(v);
		}
		if (event == TERM_QUIT)
			return CLI_OK;
	}
}

int verb_watch_begin(struct cli *c)
{
	if (!c->watch_ns)
		c->watch_ns = NS_PER_S;
	return CLI_OK;
}

int verb_watch(struct cli *c)
{
	const char *term = getenv("TERM");
	struct view v = { .c = c };
	int rc;

	if (c->json)
		return verb_get(c);
	v.is_screen = show.is_tty && term && *term && strcmp(term, "dumb");
	if (v.is_screen && term_open())
		v.is_screen = false;
	rc = view_run(&v);
	if (v.is_screen)
		term_close();
	table_fini(&v.table);
	table_fini(&v.next);
	groups_fini(&v.groups);
	return rc;
}

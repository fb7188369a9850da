/*
 * The verb `explain`: why a counter is hot or cold, since when, its rates before and after, and what
 * would change it; for a suspect counter its frozen total and the sum of its cells. Owns the
 * sentences. Called from the table of verbs.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "shm/base/clock.h"
#include "shm/layout.h"
#include "tools/cli.h"
#include "tools/expo/json.h"
#include "tools/expo/probe.h"
#include "tools/select.h"
#include "tools/show/show.h"

#define EXPLAIN_MOST 64 /* counters at a time; more is a question for list */

/* The probes, read once, and only when they count one of the counters. */
struct sources {
	struct wire_probe *list;
	uint32_t nr;
};

static const char *const heats[] = { [WIRE_COLD] = "cold",
				     [WIRE_PROMOTING] = "promoting",
				     [WIRE_HOT] = "hot",
				     [WIRE_RETIRING] = "retiring" };
static const char *const rules[] = { [SHM_HOT_AUTO] = "auto",
				     [SHM_HOT_YES] = "hot",
				     [SHM_HOT_NO] = "cold" };

/* --- who counts it -------------------------------------------------------------------------- */

/* The next probe from *at on that counts it now; NULL: none. */
static const struct wire_probe *next_source(const struct sources *s, const char *name, uint32_t *at)
{
	size_t length = strcspn(name, "{");

	for (; *at < s->nr; ++*at)
		if (s->list[*at].state == WIRE_PROBE_ATTACHED &&
		    probe_feeds(&s->list[*at], name, length))
			return &s->list[(*at)++];
	return NULL;
}

static json_t *sources_json(const struct pick *pick, const struct sources *s)
{
	json_t *list = json_array();
	const struct wire_probe *p;

	for (uint32_t at = 0; (p = next_source(s, pick->name, &at));)
		json_array_append_new(list, json_text(p->name));
	return list;
}

static void print_sources(const struct pick *pick, const struct sources *s)
{
	const struct wire_probe *p;
	uint32_t at = 0, nr = 0;
	char since[SHOW_TEXT];

	if (pick->origin != TALEA_KERNEL)
		return;
	for (; (p = next_source(s, pick->name, &at)); nr++)
		show_line(nr ? "" : "counted", "by probe %s (%s), since %s", p->name, p->attach,
			  show_time(since, p->since_real_ns));
	if (!nr)
		show_line("counted", "by nothing now: its probe is not attached. try: talea probes");
}

/* --- JSON ----------------------------------------------------------------------------------- */

static json_t *explain_json(const struct pick *pick, const struct wire_explain *e,
			    const struct sources *sources)
{
	bool has_row = e->row != SHM_ROW_NONE;
	json_t *doc = json_pack(
		"{s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:i, s:o}", "name",
		json_base(pick->name), "labels", json_labels(pick->name), "heat", heats[e->heat],
		"since", json_time(e->since_real_ns), "why", json_why(e->why), "rate",
		json_rate(e->rate), "rate_before", json_rate(e->rate_before), "rate_after",
		json_rate(e->rate_after), "imbalance",
		e->imbalance > 0 ? json_rate(e->imbalance) : json_null(), "lanes",
		(int)e->lanes_nr, "row", has_row ? json_integer(e->row) : json_null());

	json_object_set_new(doc, "probes", sources_json(pick, sources));
	json_object_set_new(doc, "pin", json_string(rules[e->pin]));
	json_object_set_new(doc, "rule", json_string(rules[e->rule]));
	json_object_set_new(doc, "can_have_row", json_boolean(e->can_have_row));
	json_object_set_new(doc, "suspect", json_boolean(e->is_suspect));
	json_object_set_new(doc, "value", json_integer(e->frozen));
	json_object_set_new(doc, "cells", json_integer(e->summed));
	json_object_set_new(doc, "thresholds",
			    json_pack("{s:f, s:f, s:i}", "up", (double)e->rate_up, "down",
				      (double)e->rate_down, "quiet_s", (int)e->quiet_s));
	json_object_set_new(doc, "ttl_s", e->ttl_s ? json_integer(e->ttl_s) : json_null());
	json_object_set_new(doc, "idle_s",
			    e->idle_s == UINT32_MAX ? json_null() : json_integer(e->idle_s));
	return doc;
}

/* --- words ---------------------------------------------------------------------------------- */

/* A threshold is a round number: no digits that say nothing. */
static const char *round_speed(char *buf, double rate)
{
	snprintf(buf, SHOW_TEXT, rate >= 1000 ? "%g k" : "%g", rate >= 1000 ? rate / 1000 : rate);
	return buf;
}

static void print_state(const struct pick *pick, const struct wire_explain *e)
{
	char text[SHOW_TEXT];

	show_style(stdout, SHOW_BOLD);
	show_text(stdout, pick->name);
	show_style(stdout, SHOW_PLAIN);
	fputs(": ", stdout);
	show_styled(e->heat == WIRE_HOT ? SHOW_GOOD : SHOW_RATE, "%s", heats[e->heat]);
	if (e->since_real_ns)
		printf(" since %s", show_since(text, e->since_real_ns));
	else
		fputs(" since it was registered", stdout);
	if (isnan(e->rate))
		fputs(": rate not known yet", stdout);
	else
		printf(": %s adds/s", show_speed(text, e->rate));
	if (e->row != SHM_ROW_NONE && e->lanes_nr)
		printf(" on %u CPU%s", e->lanes_nr, e->lanes_nr == 1 ? "" : "s");
	if (e->row != SHM_ROW_NONE)
		printf("; row %u", e->row);
	putchar('\n');
}

static void print_why(const struct wire_explain *e)
{
	char up[SHOW_TEXT], down[SHOW_TEXT];

	round_speed(up, (double)e->rate_up);
	round_speed(down, (double)e->rate_down);
	switch (e->why) {
	case SHM_WHY_RATE:
		if (e->heat == WIRE_HOT || e->heat == WIRE_PROMOTING)
			show_line("why", "it moved faster than %s adds/s", up);
		else
			show_line("why", "it stayed under %s adds/s for %u s", down, e->quiet_s);
		break;
	case SHM_WHY_PIN:
		show_line("why", "an operator's pin or unpin: talea history");
		break;
	case SHM_WHY_CONFIG:
		show_line("why", "the configuration: hot = in a section [counter GLOB]");
		break;
	case SHM_WHY_BUDGET:
		show_line("why", "a hotter counter took its row, or rows-max went down");
		break;
	case SHM_WHY_RESTART:
		show_line("why", "a new worker finished what the former began");
		break;
	}
}

static void print_rates(const struct wire_explain *e)
{
	bool has_before = !isnan(e->rate_before), has_after = !isnan(e->rate_after);
	char before[SHOW_TEXT], after[SHOW_TEXT];

	show_speed(before, (double)e->rate_before);
	show_speed(after, (double)e->rate_after);
	if (e->since_real_ns && (has_before || has_after))
		show_line("change", "%s%s%s%s%s", has_before ? before : "",
			  has_before ? " adds/s just before" : "",
			  has_before && has_after ? ", " : "", has_after ? after : "",
			  has_after && has_before ? " in the second after" :
			  has_after		  ? " adds/s in the second after" : "");
	if (e->imbalance > 0)
		show_line("imbalance", "%.2f: the busiest CPU over the mean of the %u that add",
			  (double)e->imbalance, e->lanes_nr);
}

/* What would change it. */
static void print_next(const struct wire_explain *e)
{
	char up[SHOW_TEXT], down[SHOW_TEXT];

	round_speed(up, (double)e->rate_up);
	round_speed(down, (double)e->rate_down);
	if (!e->can_have_row)
		show_line("next", "it never gets a row: the kernel's counters have lanes of their own, "
				  "families and what was removed need none");
	else if (e->pin != SHM_HOT_AUTO)
		show_line("next", "pinned %s: so it stays until talea unpin", rules[e->pin]);
	else if (e->rule != SHM_HOT_AUTO)
		show_line("next", "the configuration keeps it %s; talea pin comes before it",
			  rules[e->rule]);
	else if (e->heat == WIRE_HOT)
		show_line("next", "cold when it stays under %s adds/s for %u s, or when one twice as "
				  "hot needs its row; talea pin keeps it", down, e->quiet_s);
	else if (e->heat == WIRE_PROMOTING)
		show_line("next", "hot when a row is free, or one has less than half its rate: raise "
				  "rows-max in the section of the namespace");
	else if (e->heat == WIRE_RETIRING)
		show_line("next", "cold when every CPU has been visited; its row is summed until then");
	else
		show_line("next", "hot at once when it moves faster than %s adds/s; talea pin makes it "
				  "so", up);
}

static void print_suspect(const struct pick *pick, const struct wire_explain *e)
{
	char frozen[SHOW_TEXT], summed[SHOW_TEXT];

	if (!e->is_suspect)
		return;
	show_style(stdout, SHOW_BAD);
	show_line("suspect", "it fell without a correction: it shows %s, its last good total; its "
			     "cells say %s", show_exact(frozen, e->frozen),
		  show_exact(summed, e->summed));
	show_line("fix", "end the program that stores where it must not (talea clients), then: "
			 "talea accept '%s' --apply", pick->name);
}

static void print_idle(const struct wire_explain *e)
{
	char idle[SHOW_TEXT], ttl[SHOW_TEXT];

	if (e->idle_s == UINT32_MAX)
		strcpy(idle, "no change since the worker began");
	else
		show_ns(idle, e->idle_s * NS_PER_S);
	if (e->ttl_s)
		show_line("idle", "%s; it is removed after %s without a change", idle,
			  show_ns(ttl, e->ttl_s * NS_PER_S));
	else if (e->idle_s != UINT32_MAX && e->idle_s > 1)
		show_line("idle", "for %s", idle);
}

static void explain_print(const struct pick *pick, const struct wire_explain *e,
			  const struct sources *sources, bool is_first)
{
	if (!is_first)
		putchar('\n');
	print_state(pick, e);
	print_sources(pick, sources);
	print_suspect(pick, e);
	print_why(e);
	print_rates(e);
	print_idle(e);
	print_next(e);
}

/* --- the verb ------------------------------------------------------------------------------- */

static int explain_all(const struct cli *c, const struct picks *picks,
		       const struct sources *sources)
{
	json_t *list = c->json ? json_array() : NULL, *doc;
	int rc = CLI_OK;

	for (size_t i = 0; rc == CLI_OK && i < picks->nr; i++) {
		const struct wire_explain *e;

		rc = session_explain(c, picks->list[i].name, &e);
		if (rc != CLI_OK)
			break;
		if (c->json)
			json_array_append_new(list, explain_json(&picks->list[i], e, sources));
		else
			explain_print(&picks->list[i], e, sources, i == 0);
	}
	if (!c->json || rc != CLI_OK) {
		json_decref(list);
		return rc;
	}
	doc = json_document(NULL);
	json_object_set_new(doc, "counters", list);
	return cli_json(doc);
}

static int sources_get(const struct cli *c, const struct picks *picks, struct sources *ret)
{
	for (size_t i = 0; i < picks->nr; i++)
		if (picks->list[i].origin == TALEA_KERNEL)
			return session_probes(c, &ret->list, &ret->nr);
	return CLI_OK;
}

int verb_explain(struct cli *c)
{
	struct sources sources = { 0 };
	struct picks picks = { 0 };
	int rc = select_picks(c, NULL, &picks);

	if (rc == CLI_OK && picks.nr > EXPLAIN_MOST)
		rc = cli_fail(c, CLI_USAGE,
			      "%zu counters match, more than %d: name fewer. try: talea list %s",
			      picks.nr, EXPLAIN_MOST, c->args[0]);
	if (rc == CLI_OK)
		rc = sources_get(c, &picks, &sources);
	if (rc == CLI_OK)
		rc = explain_all(c, &picks, &sources);
	free(sources.list);
	picks_fini(&picks);
	return rc;
}

/*
 * The verb `lanes`: how fast one counter moves on each CPU, from differences between two or more
 * samples of its row; with --heat as a map of the last second. Owns the samples. Called from the
 * table of verbs.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shm/base/clock.h"
#include "shm/layout.h"
#include "tools/cli.h"
#include "tools/expo/json.h"
#include "tools/select.h"
#include "tools/show/show.h"

#define SAMPLE_MS 500 /* between the two samples */
#define HEAT_MS 50   /* between those of a map */
#define HEAT_NR 24
#define HEAT_LINES 32 /* with more CPUs, several share a line */
#define BAR_COLUMNS 30

struct sample {
	uint64_t mono_ns, cold;
	uint32_t slot, generation, row, cpus_nr;
	uint64_t lanes[SHM_CPUS_MAX];
};

struct lanes {
	const char *name;
	uint32_t row, cpus_nr;
	size_t spans_nr;	/* between samples */
	double seconds[HEAT_NR];
	float *rates;		/* [span][cpu] */
	double mean[SHM_CPUS_MAX]; /* over all spans */
	double cold;
	double all, most;	/* of all CPUs, of the busiest one */
	uint32_t busy_nr;	/* CPUs that added */
};

static int sample_take(const struct cli *c, const char *name, struct sample *ret)
{
	const struct wire_answer *answer;
	const struct wire_lanes *l;
	int rc = session_ask(c, WIRE_LANES, name, 0, &answer);

	if (rc != CLI_OK)
		return rc;
	l = (const struct wire_lanes *)(const void *)answer->records;
	*ret = (struct sample){ .mono_ns = l->mono_ns,
				.cold = l->cold,
				.slot = l->slot,
				.generation = l->generation,
				.row = l->row,
				.cpus_nr = l->cpus_nr };
	memcpy(ret->lanes, l->lanes, l->cpus_nr * sizeof(l->lanes[0]));
	return CLI_OK;
}

/* Are two samples of the same cells? */
static bool is_same(const struct sample *a, const struct sample *b)
{
	return a->slot == b->slot && a->generation == b->generation && a->row == b->row &&
	       a->cpus_nr == b->cpus_nr && b->mono_ns > a->mono_ns;
}

static void span_take(struct lanes *l, const struct sample *from, const struct sample *to)
{
	double seconds = (double)(to->mono_ns - from->mono_ns) / 1e9;
	float *rates = l->rates + l->spans_nr * SHM_CPUS_MAX;

	for (uint32_t cpu = 0; cpu < to->cpus_nr; cpu++)
		rates[cpu] = (float)((double)(int64_t)(to->lanes[cpu] - from->lanes[cpu]) / seconds);
	l->seconds[l->spans_nr++] = seconds;
}

static void lanes_sum(struct lanes *l, const struct sample *first, const struct sample *last)
{
	double seconds = (double)(last->mono_ns - first->mono_ns) / 1e9;

	l->cold = (double)(int64_t)(last->cold - first->cold) / seconds;
	for (uint32_t cpu = 0; cpu < l->cpus_nr; cpu++) {
		l->mean[cpu] = (double)(int64_t)(last->lanes[cpu] - first->lanes[cpu]) / seconds;
		l->all += l->mean[cpu];
		l->busy_nr += l->mean[cpu] != 0;
		if (fabs(l->mean[cpu]) > fabs(l->most))
			l->most = l->mean[cpu];
	}
}

/* Takes samples. When the counter got or lost its row meanwhile, begins again from there. */
static int lanes_take(const struct cli *c, struct lanes *l, size_t spans_nr, uint32_t ms)
{
	const struct timespec pause = { ms / 1000, (long)(ms % 1000 * NS_PER_MS) };
	struct sample *samples = malloc(3 * sizeof(*samples)), *first, *last, *now;
	int rc, tries = 0;

	if (!samples)
		return CLI_FAILED;
	first = &samples[0];
	last = &samples[1];
	now = &samples[2];
	rc = sample_take(c, l->name, first);
	*last = *first;
	while (rc == CLI_OK && l->spans_nr < spans_nr) {
		nanosleep(&pause, NULL);
		rc = sample_take(c, l->name, now);
		if (rc != CLI_OK)
			break;
		if (!is_same(last, now) && ++tries < 3) {
			l->spans_nr = 0;
			*first = *last = *now;
			continue;
		}
		if (!is_same(last, now)) {
			fputs("talea lanes: the counter gets and loses its row all the time. try: "
			      "talea history '", stderr);
			show_name(stderr, l->name);
			fputs("'\n", stderr);
			rc = CLI_FAILED;
			break;
		}
		span_take(l, last, now);
		*last = *now;
	}
	l->row = last->row;
	l->cpus_nr = last->cpus_nr;
	if (rc == CLI_OK)
		lanes_sum(l, first, last);
	free(samples);
	return rc;
}

static double imbalance(const struct lanes *l)
{
	return l->busy_nr && l->all != 0 ? l->most / (l->all / l->busy_nr) : NAN;
}

/* --- JSON ----------------------------------------------------------------------------------- */

static int lanes_json(const struct lanes *l, bool has_heat)
{
	json_t *doc = json_document(NULL), *list = json_array(), *heat;

	json_object_set_new(doc, "name", json_base(l->name));
	json_object_set_new(doc, "labels", json_labels(l->name));
	json_object_set_new(doc, "row", l->row == SHM_ROW_NONE ? json_null() : json_integer(l->row));
	json_object_set_new(doc, "rate", json_rate(l->all + l->cold));
	json_object_set_new(doc, "cold_rate", json_rate(l->cold));
	json_object_set_new(doc, "imbalance", json_rate(imbalance(l)));
	for (uint32_t cpu = 0; cpu < l->cpus_nr; cpu++)
		json_array_append_new(list, json_pack("{s:i, s:o}", "cpu", (int)cpu, "rate",
						      json_rate(l->mean[cpu])));
	json_object_set_new(doc, "lanes", list);
	if (!has_heat)
		return cli_json(doc);
	heat = json_array();
	for (size_t i = 0; i < l->spans_nr; i++) {
		json_t *rates = json_array();

		for (uint32_t cpu = 0; cpu < l->cpus_nr; cpu++)
			json_array_append_new(
				rates, json_rate((double)l->rates[i * SHM_CPUS_MAX + cpu]));
		json_array_append_new(heat, json_pack("{s:f, s:o}", "seconds", l->seconds[i],
						      "rates", rates));
	}
	json_object_set_new(doc, "heat", heat);
	return cli_json(doc);
}

/* --- words ---------------------------------------------------------------------------------- */

static void print_summary(const struct lanes *l)
{
	char rate[SHOW_TEXT];

	show_style(stdout, SHOW_BOLD);
	show_text(stdout, l->name);
	show_style(stdout, SHOW_PLAIN);
	printf(": row %u, %s adds/s on %u of %u CPU%s", l->row, show_speed(rate, l->all), l->busy_nr,
	       l->cpus_nr, show_plural(l->cpus_nr));
	if (l->busy_nr)
		printf("; imbalance %.2f", imbalance(l));
	putchar('\n');
}

static void print_cold(const struct lanes *l)
{
	char rate[SHOW_TEXT];

	if (l->row != SHM_ROW_NONE && l->cold == 0)
		return;
	show_styled(SHOW_GREY,
		    "and %s adds/s to the cell of all CPUs: interrupted adds, threads without rseq\n",
		    show_speed(rate, l->cold));
}

static const double *sorted_by; /* qsort has no argument of its own */
static int lanes_order(const void *a, const void *b)
{
	double x = fabs(sorted_by[*(const uint32_t *)a]), y = fabs(sorted_by[*(const uint32_t *)b]);

	return x < y ? 1 : x > y ? -1 : *(const uint32_t *)a < *(const uint32_t *)b ? -1 : 1;
}

/* A line for each CPU, in their order; when they do not fit the screen, the busiest ones. */
static void print_cpus(const struct lanes *l)
{
	uint32_t order[SHM_CPUS_MAX], nr = l->cpus_nr, room = (uint32_t)show.lines - 5;
	char rate[SHOW_TEXT];

	for (uint32_t cpu = 0; cpu < nr; cpu++)
		order[cpu] = cpu;
	if (show.is_tty && show.lines > 6 && nr > room) {
		sorted_by = l->mean;
		qsort(order, nr, sizeof(order[0]), lanes_order);
		nr = room;
	}
	show_head("%5s  %9s  %7s", "CPU", "RATE/s  ", "SHARE");
	for (uint32_t i = 0; i < nr; i++) {
		double mean = l->mean[order[i]], share = l->all != 0 ? mean / l->all : 0;

		printf("%5u  %9s  %5.1f %%  ", order[i], show_rate(rate, mean), share * 100);
		show_style(stdout, SHOW_RATE);
		show_bar(stdout, l->most != 0 ? mean / l->most : 0, BAR_COLUMNS);
		show_style(stdout, SHOW_PLAIN);
		putchar('\n');
	}
	if (nr < l->cpus_nr)
		printf("%u more CPUs, less busy; all of them: talea lanes NAME | cat\n",
		       l->cpus_nr - nr);
}

/* The highest rate of a group of CPUs in a span; an average would hide one busy CPU. */
static double group_rate(const struct lanes *l, size_t span, uint32_t from, uint32_t to)
{
	double most = 0;

	for (uint32_t cpu = from; cpu < to; cpu++)
		most = fmax(most, fabs((double)l->rates[span * SHM_CPUS_MAX + cpu]));
	return most;
}

static void print_heat(const struct lanes *l)
{
	uint32_t step = (l->cpus_nr + HEAT_LINES - 1) / HEAT_LINES;
	double most = 0, seconds = 0;
	char text[SHOW_TEXT], number[SHOW_TEXT];

	for (size_t i = 0; i < l->spans_nr; i++) {
		most = fmax(most, group_rate(l, i, 0, l->cpus_nr));
		seconds += l->seconds[i];
	}
	show_style(stdout, SHOW_BOLD);
	printf("%9s  the last %.1f s, now at the right; ", "CPU", seconds);
	show_shade(stdout, 1);
	printf(" is %s adds/s", show_speed(number, most));
	show_style(stdout, SHOW_PLAIN);
	putchar('\n');
	for (uint32_t cpu = 0; cpu < l->cpus_nr; cpu += step) {
		uint32_t end = cpu + step < l->cpus_nr ? cpu + step : l->cpus_nr;
		double mean = 0;

		if (end - cpu == 1)
			snprintf(text, sizeof(text), "%u", cpu);
		else
			snprintf(text, sizeof(text), "%u-%u", cpu, end - 1);
		printf("%9s  ", text);
		show_style(stdout, SHOW_RATE);
		for (size_t i = 0; i < l->spans_nr; i++)
			for (int twice = 0; twice < 2; twice++) /* about as wide as high */
				show_shade(stdout, most > 0 ? group_rate(l, i, cpu, end) / most : 0);
		show_style(stdout, SHOW_PLAIN);
		for (uint32_t i = cpu; i < end; i++)
			mean += l->mean[i];
		printf(" %9s\n", show_rate(number, mean));
	}
}

static void lanes_print_rates(const struct lanes *l)
{
	for (uint32_t cpu = 0; cpu < l->cpus_nr; cpu++)
		printf("%u %.0f\n", cpu, l->mean[cpu]);
}

static void lanes_print(const struct lanes *l, bool has_heat)
{
	char rate[SHOW_TEXT];

	if (l->row == SHM_ROW_NONE) {
		show_name(stderr, l->name);
		fprintf(stderr, " is cold: it has no lanes, all CPUs add to one cell (%s adds/s now). "
				"try: talea explain '", show_speed(rate, l->cold));
		show_name(stderr, l->name);
		fputs("'\n", stderr);
		return;
	}
	if (!show.is_tty && !has_heat) {
		lanes_print_rates(l);
		return;
	}
	print_summary(l);
	if (has_heat)
		print_heat(l);
	else
		print_cpus(l);
	print_cold(l);
}

/* --- the verb ------------------------------------------------------------------------------- */

static int lanes_of(const struct cli *c, const char *name)
{
	struct lanes *l = calloc(1, sizeof(*l));
	int rc = CLI_FAILED;

	if (!l)
		return rc;
	l->name = name;
	l->rates = calloc((size_t)HEAT_NR * SHM_CPUS_MAX, sizeof(*l->rates));
	if (l->rates)
		rc = lanes_take(c, l, c->heat ? HEAT_NR : 1, c->heat ? HEAT_MS : SAMPLE_MS);
	if (rc == CLI_OK && c->json)
		rc = lanes_json(l, c->heat);
	else if (rc == CLI_OK)
		lanes_print(l, c->heat);
	free(l->rates);
	free(l);
	return rc;
}

int verb_lanes(struct cli *c)
{
	struct picks picks = { 0 };
	int rc = select_picks(c, NULL, &picks);

	if (rc == CLI_OK && picks.nr > 1)
		rc = cli_fail(c, CLI_USAGE,
			      "%zu counters match %s: name one of them. try: talea list %s",
			      picks.nr, c->args[0], c->args[0]);
	if (rc == CLI_OK)
		rc = lanes_of(c, picks.list[0].name);
	picks_fini(&picks);
	return rc;
}

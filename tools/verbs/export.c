/*
 * The verb `export`: all totals of one epoch for other programs, as OpenMetrics 1.0, CSV or one
 * JSON object a line. Owns the frame of each format; talea's own metrics come from metrics.c.
 * Called from the table of verbs.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli.h"

/* --- OpenMetrics ---------------------------------------------------------------------------- */

static size_t base_len(const char *name)
{
	return strcspn(name, "{");
}

static int base_compare(const char *x, const char *y)
{
	size_t x_len = base_len(x), y_len = base_len(y);
	int order = memcmp(x, y, x_len < y_len ? x_len : y_len);

	return order ? order : x_len < y_len ? -1 : x_len > y_len;
}

/* By base name, and within one in the order they had: all samples of a family stand together. */
static int by_base(const void *a, const void *b)
{
	const struct pick *x = *(const struct pick *const *)a, *y = *(const struct pick *const *)b;
	int order = base_compare(x->name, y->name);

	return order ? order : x < y ? -1 : x > y;
}

/* The base unit that a family's name ends in, "" for none. */
static const char *unit_of(const char *family, size_t len)
{
	static const char *const units[] = { "amperes", "bytes",  "celsius", "grams", "joules",
					     "kelvin",	"meters", "ratio",   "seconds", "volts" };

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		size_t n = strlen(units[i]);

		if (len > n + 1 && family[len - n - 1] == '_' && !memcmp(family + len - n, units[i], n))
			return units[i];
	}
	return "";
}

static void put_escaped(const char *text)
{
	for (; *text; text++) {
		if (*text == '\\' || *text == '"')
			putchar('\\');
		if (*text == '\n')
			fputs("\\n", stdout);
		else
			putchar(*text);
	}
}

static void put_family(const char *family, int len, const char *type, const char *help)
{
	const char *unit = unit_of(family, (size_t)len);

	printf("# TYPE %.*s %s\n", len, family, type);
	if (*unit)
		printf("# UNIT %.*s %s\n", len, family, unit);
	printf("# HELP %.*s ", len, family);
	put_escaped(help ? help : "");
	putchar('\n');
}

/* Is there a counter whose family, or whose _created, a level's name would be mistaken for? */
static bool is_taken(const struct pick *const *sorted, size_t nr, const char *name, size_t len)
{
	static const char created[] = "_created";
	const size_t created_len = sizeof(created) - 1;
	char counter[SHM_NAME_MAX + 16];
	size_t low = 0, high = nr;

	if (len > created_len && !memcmp(name + len - created_len, created, created_len))
		len -= created_len;
	snprintf(counter, sizeof(counter), "%.*s_total", (int)len, name);
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = base_compare(sorted[middle]->name, counter);

		if (!order)
			return true;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

/* One counter or level with all its label sets, from sorted[at] on; where the next begins. */
static size_t put_picks(const struct pick *const *sorted, size_t nr, size_t at)
{
	const struct pick *first = sorted[at];
	size_t len = base_len(first->name);
	bool is_counter = first->type == TALEA_TYPE_COUNTER;
	/* _total belongs to the sample, not to the family. */
	int family_len = (int)(is_counter && len > 6 ? len - 6 : len);
	bool is_renamed = !is_counter && is_taken(sorted, nr, first->name, len);
	char family[SHM_NAME_MAX + 16];

	snprintf(family, sizeof(family), "%.*s%s", family_len, first->name, is_renamed ? "_level" : "");
	put_family(family, (int)strlen(family), is_counter ? "counter" : "gauge", first->help);
	for (; at < nr; at++) {
		const struct pick *pick = sorted[at];

		if (base_len(pick->name) != len || memcmp(pick->name, first->name, len))
			break;
		/* Nothing counts it: it is there, and has no sample. */
		if (pick->state != TALEA_UNKNOWN)
			printf("%s%s%s %" PRId64 "\n", family, is_counter ? "_total" : "",
			       pick->name + len, pick->value);
	}
	return at;
}

static void put_metric(const struct metric *m)
{
	printf("%s%s", m->family, m->is_counter ? "_total" : "");
	if (m->label) {
		printf("{%s=\"", m->label);
		put_escaped(m->label_value);
		fputs("\"}", stdout);
	}
	/* A count in full, a measurement in as many digits as it has. */
	printf(" %.*g\n", m->value == floor(m->value) ? 17 : 9, m->value);
}

static void put_metrics(const struct metrics *metrics)
{
	for (size_t i = 0; i < metrics->nr; i++) {
		const struct metric *m = &metrics->list[i];

		if (!i || strcmp(m->family, m[-1].family))
			put_family(m->family, (int)strlen(m->family),
				   m->is_counter ? "counter" : "gauge", m->help);
		put_metric(m);
	}
}

static int put_openmetrics(const struct cli *c, struct talea *t, const struct talea_status *st,
			   const struct picks *picks)
{
	const struct pick **sorted = malloc((picks->nr + 1) * sizeof(*sorted));
	struct metrics metrics = { 0 };
	int rc;

	if (!sorted)
		return attach_failed(NULL, "export", -ENOMEM);
	rc = metrics_take(c, t, st, &metrics);
	for (size_t i = 0; i < picks->nr; i++)
		sorted[i] = &picks->list[i];
	qsort(sorted, picks->nr, sizeof(*sorted), by_base);
	for (size_t at = 0; rc == CLI_OK && at < picks->nr && !ferror(stdout);)
		at = put_picks(sorted, picks->nr, at);
	if (rc == CLI_OK) {
		put_metrics(&metrics);
		puts("# EOF");
	}
	metrics_fini(&metrics);
	free(sorted);
	return rc;
}

/* --- CSV and NDJSON ------------------------------------------------------------------------- */

static const char *type_text(const struct pick *pick)
{
	return pick->type == TALEA_TYPE_LEVEL ? "level" : "counter";
}

static const char *state_text(const struct pick *pick)
{
	return pick->state == TALEA_SUSPECT	    ? "suspect" :
	       is_ended(pick->state, pick->value) ? "ended" :
	       pick->state == TALEA_UNKNOWN	    ? "unknown" : "ok";
}

static const char *origin_text(const struct pick *pick)
{
	return pick->origin == TALEA_KERNEL ? "kernel" : pick->origin == TALEA_OWN ? "own" : "user";
}

/* A field of RFC 4180. */
static void put_field(const char *text, size_t len)
{
	putchar('"');
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '"')
			putchar('"');
		putchar(text[i]);
	}
	putchar('"');
}

static void put_csv(const struct picks *picks)
{
	char time[SHOW_TEXT];

	puts("name,labels,type,origin,value,rate,state,hot,epoch,as_of");
	show_utc(time, picks->as_of_ns);
	for (size_t i = 0; i < picks->nr && !ferror(stdout); i++) {
		const struct pick *pick = &picks->list[i];
		size_t len = base_len(pick->name);

		printf("%.*s,", (int)len, pick->name);
		put_field(pick->name + len, strlen(pick->name + len));
		printf(",%s,%s,", type_text(pick), origin_text(pick));
		if (pick->state != TALEA_UNKNOWN || pick->value)
			printf("%" PRId64, pick->value);
		putchar(',');
		if (pick->state != TALEA_UNKNOWN && !isnan(pick->rate))
			printf("%.9g", pick->rate);
		printf(",%s,%d,%" PRIu64 ",%s\n", state_text(pick), pick->is_hot, picks->epoch, time);
	}
}

static int put_ndjson(const struct picks *picks, const struct talea_status *st)
{
	char *text;

	for (size_t i = 0; i < picks->nr && !ferror(stdout); i++) {
		const struct pick *pick = &picks->list[i];
		bool is_known = pick->state != TALEA_UNKNOWN;
		json_t *o = json_pack(
			"{s:i, s:o, s:I, s:o, s:o, s:s, s:s, s:o, s:o, s:o, s:s, s:b}", "schema",
			CLI_SCHEMA, "namespace", json_text(st->namespace_name), "epoch",
			(json_int_t)picks->epoch, "as_of", json_time(picks->as_of_ns), "name",
			json_base(pick->name), "type", type_text(pick), "origin", origin_text(pick),
			"labels", json_labels(pick->name), "value",
			is_known || pick->value ? json_integer(pick->value) : json_null(), "rate",
			is_known ? json_rate(pick->rate) : json_null(), "state", state_text(pick),
			"hot", pick->is_hot);

		text = o ? json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
		json_decref(o);
		if (!text)
			return CLI_FAILED;
		puts(text);
		free(text);
	}
	return CLI_OK;
}

/* --- the verb ------------------------------------------------------------------------------- */

static int export_run(struct cli *c, struct talea *t, const struct talea_status *st,
		      const char *format)
{
	bool is_openmetrics = !strcmp(format, "openmetrics");
	struct picks picks = { 0 };
	int rc;

	/* A glob may mean talea's own metrics alone: then it is no fault that no counter matches. */
	c->may_miss = calloc(c->args_nr + 1, sizeof(*c->may_miss));
	if (!c->may_miss)
		return attach_failed(t, "export", -ENOMEM);
	for (size_t i = 0; is_openmetrics && i < c->args_nr; i++)
		c->may_miss[i] = metrics_has(c->args[i]);
	rc = select_picks(c, t, &picks);
	if (rc == CLI_OK && is_openmetrics)
		rc = put_openmetrics(c, t, st, &picks);
	else if (rc == CLI_OK && !strcmp(format, "csv"))
		put_csv(&picks);
	else if (rc == CLI_OK)
		rc = put_ndjson(&picks, st);
	free(c->may_miss);
	c->may_miss = NULL;
	picks_fini(&picks);
	return rc;
}

int verb_export(struct cli *c)
{
	const char *format = c->format ? c->format : c->json ? "ndjson" : "openmetrics";
	struct talea_status st;
	struct talea *t;
	int rc;

	if (strcmp(format, "openmetrics") && strcmp(format, "csv") && strcmp(format, "ndjson")) {
		fprintf(stderr, "talea export: no format %s; there are openmetrics, csv and ndjson\n",
			format);
		return CLI_USAGE;
	}
	if (c->json && strcmp(format, "ndjson")) {
		fprintf(stderr, "talea export: --json is --format ndjson, not %s\n", format);
		return CLI_USAGE;
	}
	rc = attach_open(c, TALEA_READ_ONLY, &t, &st);
	if (rc != CLI_OK)
		return rc;
	rc = export_run(c, t, &st, format);
	talea_close(t);
	return rc;
}

/*
 * OpenMetrics 1.0; see expo.h. Owns the rules of that format: the samples of a family follow each
 * other, a counter's samples end in _total, and no gauge has the name of a counter's family.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "shm/layout.h"
#include "tools/expo/expo.h"

static size_t openmetrics_base(const char *name)
{
	return strcspn(name, "{");
}

static int openmetrics_order(const char *x, const char *y)
{
	size_t x_len = openmetrics_base(x), y_len = openmetrics_base(y);
	int order = memcmp(x, y, x_len < y_len ? x_len : y_len);

	return order ? order : x_len < y_len ? -1 : x_len > y_len;
}

/* By base name, then in the order of registration: the samples of a family follow each other. */
static int openmetrics_compare(const void *a, const void *b)
{
	const struct pick *x = *(const struct pick *const *)a, *y = *(const struct pick *const *)b;
	int order = openmetrics_order(x->name, y->name);

	return order ? order : x < y ? -1 : x > y;
}

/* The base unit that a family's name ends in, "" for none. */
static const char *openmetrics_unit(const char *family, size_t len)
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

static void openmetrics_escaped(FILE *f, const char *text)
{
	for (; *text; text++) {
		if (*text == '\\' || *text == '"')
			fputc('\\', f);
		if (*text == '\n')
			fputs("\\n", f);
		else
			fputc(*text, f);
	}
}

static void openmetrics_family(FILE *f, const char *family, int len, const char *type,
		       const char *help)
{
	const char *unit = openmetrics_unit(family, (size_t)len);

	fprintf(f, "# TYPE %.*s %s\n", len, family, type);
	if (*unit)
		fprintf(f, "# UNIT %.*s %s\n", len, family, unit);
	fprintf(f, "# HELP %.*s ", len, family);
	openmetrics_escaped(f, help ? help : "");
	fputc('\n', f);
}

/* Is a level's name that of a counter's family, or of the family's _created? */
static bool openmetrics_taken(const struct pick *const *sorted, size_t nr, const char *name, size_t len)
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
		int order = openmetrics_order(sorted[middle]->name, counter);

		if (!order)
			return true;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

/* Writes one counter or level with all its label sets, from sorted[at] on. Returns where the next one
 * begins. */
static size_t openmetrics_picks(FILE *f, const struct pick *const *sorted, size_t nr, size_t at)
{
	const struct pick *first = sorted[at];
	size_t len = openmetrics_base(first->name);
	bool is_counter = first->type == TALEA_TYPE_COUNTER;
	/* _total belongs to the sample, not to the family. */
	int family_len = (int)(is_counter && len > 6 ? len - 6 : len);
	bool is_renamed = !is_counter && openmetrics_taken(sorted, nr, first->name, len);
	char family[SHM_NAME_MAX + 16];

	snprintf(family, sizeof(family), "%.*s%s", family_len, first->name, is_renamed ? "_level" : "");
	openmetrics_family(f, family, (int)strlen(family), is_counter ? "counter" : "gauge",
			   first->help);
	for (; at < nr; at++) {
		const struct pick *pick = sorted[at];

		if (openmetrics_base(pick->name) != len || memcmp(pick->name, first->name, len))
			break;
		/* A counter that nothing counts has a family without a sample. */
		if (pick->state != TALEA_UNKNOWN)
			fprintf(f, "%s%s%s %" PRId64 "\n", family, is_counter ? "_total" : "",
			       pick->name + len, pick->value);
	}
	return at;
}

static void openmetrics_sample(FILE *f, const struct metric *m)
{
	fprintf(f, "%s%s", m->family, m->is_counter ? "_total" : "");
	if (m->label) {
		fprintf(f, "{%s=\"", m->label);
		openmetrics_escaped(f, m->label_value);
		fputs("\"}", f);
	}
	/* A count in full, a measurement in as many digits as it has. */
	fprintf(f, " %.*g\n", m->value == floor(m->value) ? 17 : 9, m->value);
}

static void openmetrics_own(FILE *f, const struct metrics *metrics)
{
	for (size_t i = 0; i < metrics->nr; i++) {
		const struct metric *m = &metrics->list[i];

		if (!i || strcmp(m->family, m[-1].family))
			openmetrics_family(f, m->family, (int)strlen(m->family),
				   m->is_counter ? "counter" : "gauge", m->help);
		openmetrics_sample(f, m);
	}
}

int expo_openmetrics(FILE *f, const struct picks *picks, const struct metrics *metrics)
{
	const struct pick **sorted = malloc((picks->nr + 1) * sizeof(*sorted));

	if (!sorted)
		return -ENOMEM;
	for (size_t i = 0; i < picks->nr; i++)
		sorted[i] = &picks->list[i];
	qsort(sorted, picks->nr, sizeof(*sorted), openmetrics_compare);
	for (size_t at = 0; at < picks->nr && !ferror(f);)
		at = openmetrics_picks(f, sorted, picks->nr, at);
	openmetrics_own(f, metrics);
	fputs("# EOF\n", f);
	free(sorted);
	return 0;
}

/*
 * Talea's own metrics: how the daemon is, as numbers with names, for OpenMetrics. Owns the table of
 * names and their help, and a list of metrics until metrics_fini. What is not known has no sample
 * (invariant I10). Called by the writer of OpenMetrics and by its callers.
 */
#ifndef TOOLS_EXPO_METRICS_H
#define TOOLS_EXPO_METRICS_H

#include <stdbool.h>
#include <stddef.h>

#include "shm/base/why.h"
#include "tools/expo/ask.h"
#include "tools/expo/pick.h"

struct metric {
	const char *family; /* without _total */
	const char *help;
	bool is_counter;    /* else a gauge */
	const char *label;  /* NULL: none */
	char *label_value;
	double value;
};
struct metrics {
	struct metric *list; /* those of one family in a row */
	size_t nr, max;
};

/* Those whose names the selection includes. 0, or -errno with why; *ret ends with metrics_fini. */
int metrics_take(const struct selection *s, struct talea *t, const struct talea_status *st,
		 struct ask *ask, struct metrics *ret, struct why *why);
void metrics_fini(struct metrics *metrics);

bool metrics_match(const char *glob); /* is there a metric of such a name? */

#endif

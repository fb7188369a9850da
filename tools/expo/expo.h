/*
 * The writers of counters for other programs: OpenMetrics 1.0, CSV, one JSON object a line, and one
 * JSON document. They write to the caller's FILE (open_memstream and fopencookie make one of memory
 * or of a socket) and stop at its first error, which ferror() shows. They know neither a command
 * line nor a terminal, and own nothing. Called by the verbs.
 */
#ifndef TOOLS_EXPO_EXPO_H
#define TOOLS_EXPO_EXPO_H

#include <stdint.h>
#include <stdio.h>

#include <talea.h>

#include "tools/expo/metrics.h"
#include "tools/expo/pick.h"

/* Each: 0 or -ENOMEM. */
int expo_openmetrics(FILE *f, const struct picks *picks, const struct metrics *metrics);
int expo_csv(FILE *f, const struct picks *picks);
int expo_ndjson(FILE *f, const struct picks *picks, const char *namespace_name);

/*
 * One document with all counters, written while the library visits them: put for each, then end. The
 * first put also writes the beginning of the document, which has the epoch of that counter.
 */
struct expo_stream {
	FILE *f;
	const struct talea_status *st; /* for the namespace, and for the epoch of an empty document */
	bool is_one_line;	       /* else a line for each counter */
	size_t nr;		       /* counters so far */
};
int expo_stream_put(struct expo_stream *s, const char *name, const struct talea_total *total);
int expo_stream_end(struct expo_stream *s);

#endif

/*
 * JSON of many counters, written one by one so that a million of them need no memory: an object a
 * line, or one document; see expo.h. Owns the frame of the document; the objects are json.h's.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "shm/base/clock.h"
#include "shm/base/text.h"
#include "tools/expo/expo.h"
#include "tools/expo/json.h"

static json_t *stream_pick(const struct picks *picks, const struct pick *pick,
			   const char *namespace_name)
{
	bool is_known = pick->state != TALEA_UNKNOWN;

	return json_pack("{s:i, s:o, s:I, s:o, s:o, s:s, s:s, s:o, s:o, s:o, s:s, s:b}", "schema",
			 EXPO_SCHEMA, "namespace", json_text(namespace_name), "epoch",
			 (json_int_t)picks->epoch, "as_of", json_time(picks->as_of_ns), "name",
			 json_base(pick->name), "type", pick_type_text(pick->type), "origin",
			 pick_origin_text(pick->origin), "labels", json_labels(pick->name), "value",
			 is_known || pick->value ? json_integer(pick->value) : json_null(), "rate",
			 is_known ? json_rate(pick->rate) : json_null(), "state",
			 pick_state_text(pick->state, pick->value), "hot", pick->is_hot);
}

int expo_ndjson(FILE *f, const struct picks *picks, const char *namespace_name)
{
	for (size_t i = 0; i < picks->nr && !ferror(f); i++) {
		char *text = json_line(stream_pick(picks, &picks->list[i], namespace_name));

		if (!text)
			return -ENOMEM;
		fprintf(f, "%s\n", text);
		free(text);
	}
	return 0;
}

/* --- one document --------------------------------------------------------------------------- */

static int stream_begin(const struct expo_stream *s, uint64_t epoch, uint64_t as_of_ns,
			uint64_t age_ns)
{
	char *quoted = json_line(json_text(s->st->namespace_name));
	char time[TEXT_UTC_BYTES];

	if (!quoted)
		return -ENOMEM;
	fprintf(s->f,
		"{\"schema\":%d,\"namespace\":%s,\"epoch\":%" PRIu64 ",\"as_of\":\"%s\""
		",\"age_ns\":%" PRIu64 ",\"counters\":[",
		EXPO_SCHEMA, quoted, epoch, text_utc(time, as_of_ns), age_ns);
	free(quoted);
	return 0;
}

int expo_stream_put(struct expo_stream *s, const char *name, const struct talea_total *total)
{
	const char *line = s->is_one_line ? "" : "\n";
	char *text;
	int rc;

	if (s->nr == 0) {
		rc = stream_begin(s, total->epoch, total->as_of_ns, total->age_ns);
		if (rc)
			return rc;
	}
	text = json_line(json_counter(name, total));
	if (!text)
		return -ENOMEM;
	fprintf(s->f, "%s%s%s", s->nr++ ? "," : "", line, text);
	free(text);
	return 0;
}

int expo_stream_end(struct expo_stream *s)
{
	int rc;

	if (s->nr == 0) {
		rc = stream_begin(s, s->st->epoch, real_ns() - s->st->age_ns, s->st->age_ns);
		if (rc)
			return rc;
	}
	fputs(s->is_one_line || !s->nr ? "]}\n" : "\n]}\n", s->f);
	return 0;
}

/*
 * CSV by RFC 4180 (with a bare newline); see expo.h.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "shm/base/text.h"
#include "tools/expo/expo.h"

static void csv_quoted(FILE *f, const char *text)
{
	fputc('"', f);
	for (; *text; text++) {
		if (*text == '"')
			fputc('"', f);
		fputc(*text, f);
	}
	fputc('"', f);
}

int expo_csv(FILE *f, const struct picks *picks)
{
	char time[TEXT_UTC_BYTES];

	fputs("name,labels,type,origin,value,rate,state,hot,epoch,as_of\n", f);
	text_utc(time, picks->as_of_ns);
	for (size_t i = 0; i < picks->nr && !ferror(f); i++) {
		const struct pick *pick = &picks->list[i];
		size_t length = strcspn(pick->name, "{");

		fprintf(f, "%.*s,", (int)length, pick->name);
		csv_quoted(f, pick->name + length);
		fprintf(f, ",%s,%s,", pick_type_text(pick->type), pick_origin_text(pick->origin));
		if (pick->state != TALEA_UNKNOWN || pick->value)
			fprintf(f, "%" PRId64, pick->value);
		fputc(',', f);
		if (pick->state != TALEA_UNKNOWN && !isnan(pick->rate))
			fprintf(f, "%.9g", pick->rate);
		fprintf(f, ",%s,%d,%" PRIu64 ",%s\n", pick_state_text(pick->state, pick->value),
			pick->is_hot, picks->epoch, time);
	}
	return 0;
}

/*
 * What probe_spec.c and probe_text.c have in common: the words of the grammar, and how a mistake is
 * reported. For these two, and for files that show the words of a spec. Owns nothing.
 */
#ifndef DAEMON_PROBE_WORDS_H
#define DAEMON_PROBE_WORDS_H

#include "daemon/spec/probe_spec.h"

#define SPEC_ARGS_NR  6u
#define SPEC_COMM_MAX 15u /* the kernel's TASK_COMM_LEN without its NUL */

/* Ends with a NULL text. Arguments are no words of the list. */
struct spec_word {
	const char *text;
	uint32_t value;
};
extern const struct spec_word spec_events[], spec_fields[];

struct spec_why {
	char *buf;
	size_t size;
};

/* Writes the reason and returns -EINVAL. */
__attribute__((format(printf, 2, 3))) int spec_refuse(struct spec_why *why, const char *format, ...);

/* Printable ASCII without blanks. */
bool spec_is_graphic(const char *s);

/* UTF-8 without control characters; may be empty. */
bool spec_is_line(const char *s);

int spec_check_name(const char *name, struct spec_why *why);

/* The rules of names.h for the counter and each of its labels. def: NULL for none. */
int spec_check_counter(const char *counter, const char *help, const struct talea_counter_def *def,
		       struct spec_why *why);

#endif

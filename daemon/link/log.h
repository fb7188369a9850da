/*
 * The log: one line on stderr per call, `talead: ` before it, written by one write(2) so that lines
 * of keeper, standby and worker never mix. A message says what failed, why, and what to type. A
 * function logs where it decides what to do about a failure. MT-safe, keeps errno.
 */
#ifndef DAEMON_LOG_H
#define DAEMON_LOG_H

#include <stdint.h>

#define LOG_LINE_MAX 2048

/* Control characters, which a client's name may hold, come out as `?`; longer lines are cut. */
void log_line(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The same for a text that is whole: for those who take a function. */
void log_text(const char *text);

/*
 * For what a client can cause at will: at most one line each 10 s through one limit, with the
 * number of lines that were held back. A zeroed limit is ready; one thread per limit.
 */
struct log_limit {
	uint64_t next_ns;
	uint64_t held_nr;
};
void log_limited(struct log_limit *limit, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#endif

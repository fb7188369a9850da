/*
 * Text and units: appending to a buffer of fixed size, decimal numbers and durations as people
 * write them. Owns nothing; knows neither terminals nor JSON. MT-safe.
 */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A buffer of the caller's that is filled from its beginning. What does not fit is cut; is_cut
 * tells. The text always ends with a NUL. */
struct text {
	char *buf;
	size_t size, used; /* used: without the NUL */
	bool is_cut;
};

void text_init(struct text *t, char *buf, size_t size);
void text_put(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_vput(struct text *t, const char *format, va_list args)
	__attribute__((format(printf, 2, 0)));

/* Decimal digits alone (strtoull takes signs, blanks and 0x too). Moves *text behind them. 0;
 * -EINVAL: there is none; -ERANGE. *ret is untouched on failure. */
int text_digits(const char **text, uint64_t *ret);

/* A whole number and its unit: ns, us, ms, s, m, h, d. 0; -EINVAL; -ENODATA: the unit is missing;
 * -ERANGE. */
int text_duration(const char *text, uint64_t *ret_ns);

/* The same, also with a fraction ("1.5s"), and in seconds when the unit is missing. 0 or -EINVAL. */
int text_duration_decimal(const char *text, uint64_t *ret_ns);

/* Writes a duration as text_duration reads it, in the largest unit that keeps it whole: "90s". */
void text_put_duration(struct text *t, uint64_t ns);

#define TEXT_UTC_BYTES 40

/* A time of CLOCK_REALTIME by RFC 3339, with nanoseconds, in a buffer of TEXT_UTC_BYTES; returns buf:
 * "2026-11-23T20:06:39.000000001Z". */
const char *text_utc(char *buf, uint64_t real_ns);

#endif

/*
 * Why something failed: one sentence, and what to type. Every function that can fail for a reason
 * that a person should read takes a struct why and fills it; who decides what to do with it (a log
 * line, an answer on a socket, stderr) writes it with why_text. Owns no memory. MT-safe: a struct
 * why belongs to its caller.
 */
#ifndef BASE_WHY_H
#define BASE_WHY_H

#include <stdarg.h>
#include <stddef.h>

#define WHY_MAX 512 /* of each of the two, NUL included */

struct why {
	char reason[WHY_MAX]; /* what failed and why: a clause, without a full stop */
	char fix[WHY_MAX]; /* what to type; "": nothing is known that helps */
};

/* Sets the reason, and removes a fix that stood there. Returns err, so that a check can end with
 * it. why may be NULL: nobody wants to know. */
int why_set(struct why *why, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
int why_vset(struct why *why, int err, const char *format, va_list args)
	__attribute__((format(printf, 3, 0)));

/* Adds what to type. */
void why_fix(struct why *why, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "REASON. fix: FIX", or the reason alone; returns buf. What does not fit is cut. */
const char *why_text(const struct why *why, char *buf, size_t size);

#endif

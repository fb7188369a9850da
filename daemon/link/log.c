/* See log.h. */
#define _GNU_SOURCE
#include "daemon/link/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "shm/base/clock.h"

#define LIMIT_NS (10 * NS_PER_S)

static void log_write(const char *fmt, va_list args, uint64_t held_nr)
{
	static const char prefix[] = "talead: ";
	char line[LOG_LINE_MAX];
	size_t at = sizeof(prefix) - 1, room = sizeof(line) - 1;
	int err = errno, n;

	memcpy(line, prefix, at);
	n = vsnprintf(line + at, room - at, fmt, args);
	at += n < 0 ? 0 : (size_t)n < room - at ? (size_t)n : room - at - 1;
	if (held_nr) {
		n = snprintf(line + at, room - at, " (and %llu like it since the last such line)",
			     (unsigned long long)held_nr);
		at += (size_t)n < room - at ? (size_t)n : room - at - 1;
	}
	for (size_t i = sizeof(prefix) - 1; i < at; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = '?';
		else if ((unsigned char)line[i] == 0xc2 && i + 1 < at &&
			 (line[i + 1] & 0xe0) == 0x80) /* U+0080 to U+009F */
			line[i] = line[i + 1] = '?';
	line[at++] = '\n';
	/* stderr may be closed: then nobody reads the log. */
	if (write(STDERR_FILENO, line, at) < 0)
		at = 0;
	errno = err;
}

void log_line(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	log_write(fmt, args, 0);
	va_end(args);
}

void log_text(const char *text)
{
	log_line("%s", text);
}

void log_limited(struct log_limit *limit, const char *fmt, ...)
{
	uint64_t now = mono_ns();
	va_list args;

	if (now < limit->next_ns) {
		limit->held_nr++;
		return;
	}
	va_start(args, fmt);
	log_write(fmt, args, limit->held_nr);
	va_end(args);
	limit->held_nr = 0;
	limit->next_ns = now + LIMIT_NS;
}

/* Text and units; see text.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shm/base/clock.h"
#include "shm/base/text.h"

void text_init(struct text *t, char *buf, size_t size)
{
	*t = (struct text){ .buf = buf, .size = size };
	if (size)
		buf[0] = '\0';
}

void text_vput(struct text *t, const char *format, va_list args)
{
	size_t left = t->size - t->used;
	int n;

	if (!t->size)
		return;
	n = vsnprintf(t->buf + t->used, left, format, args);
	if (n >= 0 && (size_t)n < left) {
		t->used += (size_t)n;
	} else {
		t->used = t->size - 1;
		t->is_cut = true;
	}
}

void text_put(struct text *t, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	text_vput(t, format, args);
	va_end(args);
}

int text_digits(const char **text, uint64_t *ret)
{
	const char *p = *text;
	uint64_t v = 0;

	if (*p < '0' || *p > '9')
		return -EINVAL;
	for (; *p >= '0' && *p <= '9'; p++)
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
			return -ERANGE;
	*text = p;
	*ret = v;
	return 0;
}

static const struct {
	const char *name;
	uint64_t ns;
} units[] = { { "d", 86400 * NS_PER_S },
	      { "h", 3600 * NS_PER_S },
	      { "m", 60 * NS_PER_S },
	      { "s", NS_PER_S },
	      { "ms", NS_PER_MS },
	      { "us", NS_PER_US },
	      { "ns", 1 } };

/* How many nanoseconds a unit has; 0: there is no such unit. */
static uint64_t unit_ns(const char *name)
{
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (!strcmp(name, units[i].name))
			return units[i].ns;
	return 0;
}

int text_duration(const char *text, uint64_t *ret_ns)
{
	uint64_t v;
	int err = text_digits(&text, &v);

	if (err)
		return err;
	if (!*text)
		return -ENODATA;
	if (!unit_ns(text))
		return -EINVAL;
	if (__builtin_mul_overflow(v, unit_ns(text), &v))
		return -ERANGE;
	*ret_ns = v;
	return 0;
}

int text_duration_decimal(const char *text, uint64_t *ret_ns)
{
	char *end;
	double n = strtod(text, &end), ns = n * (double)unit_ns(*end ? end : "s");

	if (end == text || (*end && !unit_ns(end)) || !(n >= 0) || ns > (double)(INT64_MAX / 2))
		return -EINVAL;
	*ret_ns = (uint64_t)ns;
	return 0;
}

void text_put_duration(struct text *t, uint64_t ns)
{
	size_t i = 0;

	while (ns % units[i].ns)
		i++;
	text_put(t, "%llu%s", (unsigned long long)(ns / units[i].ns), units[i].name);
}

const char *text_utc(char *buf, uint64_t real_ns)
{
	time_t s = (time_t)(real_ns / NS_PER_S);
	struct tm tm;
	size_t used;

	gmtime_r(&s, &tm);
	used = strftime(buf, TEXT_UTC_BYTES, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(buf + used, TEXT_UTC_BYTES - used, ".%09uZ", (unsigned int)(real_ns % NS_PER_S));
	return buf;
}

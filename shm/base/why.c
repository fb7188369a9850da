/* Why something failed; see why.h. */
#include <stdio.h>

#include "shm/base/why.h"

int why_vset(struct why *why, int err, const char *format, va_list args)
{
	if (!why)
		return err;
	vsnprintf(why->reason, sizeof(why->reason), format, args);
	why->fix[0] = '\0';
	return err;
}

int why_set(struct why *why, int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	why_vset(why, err, format, args);
	va_end(args);
	return err;
}

void why_fix(struct why *why, const char *format, ...)
{
	va_list args;

	if (!why)
		return;
	va_start(args, format);
	vsnprintf(why->fix, sizeof(why->fix), format, args);
	va_end(args);
}

const char *why_text(const struct why *why, char *buf, size_t size)
{
	snprintf(buf, size, "%s%s%s", why->reason, why->fix[0] ? ". fix: " : "", why->fix);
	return buf;
}

/*
 * A rate over the last second: how much a total has changed since the last tick, and over how long.
 * The one mechanism for the busiest counters, for rows and for counters that wait for a row. Owns
 * nothing; a struct rate belongs to its caller.
 */
#ifndef SPACE_RATES_H
#define SPACE_RATES_H

#include <stdint.h>

struct rate {
	int64_t last; /* the total at the last tick */
	float per_s;  /* its size; NaN before the first tick */
};

static inline float rate_per_s(int64_t delta, double seconds)
{
	return (float)((double)delta / seconds);
}

/* The change of a total since the last tick, which this one ends. */
static inline int64_t rate_delta(int64_t *last, int64_t total)
{
	int64_t delta = total - *last;

	*last = total;
	return delta;
}

static inline void rate_tick(struct rate *rate, int64_t total, double seconds)
{
	float per_s = rate_per_s(rate_delta(&rate->last, total), seconds);

	rate->per_s = per_s < 0 ? -per_s : per_s;
}

#endif

/*
 * The clocks, in nanoseconds. All programs read time here; none keeps a wrapper of its own.
 * Async-signal-safe, MT-safe; a call costs what clock_gettime costs (no system call where the
 * kernel has a vDSO for that clock).
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define NS_PER_US 1000ull
#define NS_PER_MS 1000000ull
#define NS_PER_S 1000000000ull

static inline uint64_t clock_read_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* For intervals and deadlines: never goes back, stands still while the machine sleeps. */
static inline uint64_t mono_ns(void) { return clock_read_ns(CLOCK_MONOTONIC); }

/* For what people and other hosts read; may go back. */
static inline uint64_t real_ns(void) { return clock_read_ns(CLOCK_REALTIME); }

/* For calls that wait. */
static inline struct timespec clock_timespec(uint64_t ns)
{
	return (struct timespec){ (time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S) };
}

#endif

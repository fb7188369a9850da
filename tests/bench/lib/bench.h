/*
 * How the benchmarks measure and report; see bench.c.
 *
 * A figure is one loop. bench_run() measures all figures of a program in alternating blocks, so
 * that what the rest of the machine does meanwhile hits all of them, and keeps the median. A ratio
 * is that of two medians; a ratio beyond its reach makes the program exit with 1, and nothing else
 * is done about it. Only JSON lines go to stdout.
 */
#ifndef BENCH_LIB_BENCH_H
#define BENCH_LIB_BENCH_H

#include <stdint.h>

#define BENCH_BLOCKS 15
#define BENCH_SLICES 31 /* at most */

#ifdef __clang__
#define BENCH_LOOP __attribute__((noinline, aligned(64)))
#else /* gcc would make a clone of its own for a constant argument */
#define BENCH_LOOP __attribute__((noinline, noclone, aligned(64)))
#endif

/* Makes the compiler believe that v is used. */
#define BENCH_USE(v) __asm__ volatile("" : : "r"(v))

enum bench_by {
	BY_ONE = 0, /* pinned to a CPU, in its CPU time */
	BY_THREADS, /* two pinned threads at once: the mean of both, each in its CPU time */
	BY_PROCESSES, /* two pinned processes at once, likewise */
	BY_WALL, /* one, in elapsed time: others work for it */
};

struct figure {
	const char *name;
	void (*run)(uint64_t rounds); /* the loop; `per` operations or bytes a round */
	enum bench_by by;
	double per; /* 0: one */
	int is_bandwidth; /* GB/s, `per` being the bytes of a round; else ns an operation */
	uint64_t rounds; /* of a block; 0: as many as take some 25 ms */
	const char *more; /* further JSON members, or NULL */
	/*
	 * Not NULL: the figure is what a round takes more between these two than outside of them.
	 * Each block is the median of `slices` such differences of `rounds` rounds, which must be
	 * given: what changes slowly is in both sides of a difference.
	 */
	void (*begin)(const struct figure *f);
	void (*end)(const struct figure *f);
	unsigned int slices;
	void *arg; /* for these two */

	double block[BENCH_BLOCKS];
	double value, min, max;
};

/* Chooses the CPUs. Call it first. */
void bench_init(const char *program);

/* Measures all of them. */
void bench_run(struct figure *figures, unsigned int nr);

/* Prints a figure that is only reported. */
void bench_report(const struct figure *f);

/*
 * Prints f with its ratio to another figure and judges it. limit is what may not be passed: the
 * most that the ratio may be, or the least. aim (0: none) is the better value; between it and
 * the limit the spread has to be looked at. The line has both.
 */
enum bench_limit { AT_MOST, AT_LEAST };
void bench_ratio(const struct figure *f, const struct figure *to, enum bench_limit kind,
		 double limit, double aim);

/* Says on stderr why a measure is not what its name says, and fails the program. */
void bench_wrong(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Ends the program when what it needs cannot be had. */
_Noreturn void bench_die(const char *what, const char *why);

/* The exit code. */
int bench_done(void);

#endif

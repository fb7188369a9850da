/*
 * What reading a hot counter costs: talea_peek with epoch and age beside one load, talea_read with
 * its own clock, and the exact sum over the CPUs of this machine. Called by tests/bench/run.
 *
 * The age of a peek is one subtraction from a clock that the caller has read: the loop reads the
 * clock once a block and computes an age for each value.
 */
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "shm/order.h"
#include "tests/bench/lib/attach.h"
#include "tests/bench/lib/bench.h"

#define LIMIT_LOAD 3

static struct talea *talea;
static struct talea_counter hits = TALEA_COUNTER_INIT;
static uint64_t cell[8] __attribute__((aligned(64)));

static void BENCH_LOOP run_peek(uint64_t n)
{
	struct talea_stamp stamp = { 0 };
	struct timespec ts;
	uint64_t now;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	now = (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
	for (uint64_t i = 0; i < n; i++) {
		talea_peek(hits, &stamp);
		BENCH_USE(stamp.value);
		BENCH_USE(stamp.epoch);
		BENCH_USE(now - stamp.as_of_mono_ns);
	}
}

static void BENCH_LOOP run_load(uint64_t n)
{
	const uint64_t *p = cell;

	__asm__("" : "+r"(p));
	for (uint64_t i = 0; i < n; i++)
		BENCH_USE(shm_count_read(p));
}

static void BENCH_LOOP run_full(uint64_t n)
{
	struct talea_total total = { .size = sizeof(total) };

	for (uint64_t i = 0; i < n; i++)
		talea_read(talea, hits, TALEA_COMPACTED, 0, &total);
	BENCH_USE(total.value);
}

static void BENCH_LOOP run_sum(uint64_t n)
{
	struct talea_total total = { .size = sizeof(total) };

	for (uint64_t i = 0; i < n; i++)
		talea_read(talea, hits, TALEA_SUM, 0, &total);
	BENCH_USE(total.value);
}

int main(void)
{
	enum { LOAD, PEEK, FULL, SUM, NR };
	char cpus[64];
	struct figure f[NR] = {
		[LOAD] = { .name = "plain_load", .run = run_load },
		[PEEK] = { .name = "read_compacted",
			   .run = run_peek,
			   .more = "\"how\":\"talea_peek\"" },
		[FULL] = { .name = "read_full",
			   .run = run_full,
			   .more = "\"how\":\"talea_read, its own clock, rates and state\"" },
		[SUM] = { .name = "read_sum", .run = run_sum, .more = cpus },
	};

	bench_init("read");
	snprintf(cpus, sizeof(cpus), "\"how\":\"talea_read\",\"cpus\":%ld",
		 sysconf(_SC_NPROCESSORS_CONF));
	talea = attach_open("default");
	hits = attach_counter(talea, "bench_reads_total", "one", 1);
	for (int i = 0; i < 1000000; i++)
		talea_inc(hits);
	bench_run(f, NR);
	bench_report(&f[LOAD]);
	bench_ratio(&f[PEEK], &f[LOAD], AT_MOST, LIMIT_LOAD, 0);
	bench_report(&f[FULL]);
	bench_report(&f[SUM]);
	return bench_done();
}

/*
 * What an add costs where no counter has a row (rows-max = 0): 256 counters in turn, beside the
 * same number of atomic cells in private memory, and one counter alone. Called by tests/bench/run.
 */
#include <stdio.h>

#include "shm/order.h"
#include "tests/bench/lib/attach.h"
#include "tests/bench/lib/bench.h"

#define COUNTERS 256
#define LIMIT_ATOMIC 1.3

static struct talea_counter cold[COUNTERS];
static uint64_t cells[COUNTERS] __attribute__((aligned(64)));

static void BENCH_LOOP run_cold(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		talea_inc(cold[i % COUNTERS]);
}

static void BENCH_LOOP run_cold_1(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		talea_inc(cold[0]);
}

static void BENCH_LOOP run_atomic(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		shm_count_add(&cells[i % COUNTERS], 1);
}

static void BENCH_LOOP run_atomic_1(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		shm_count_add(&cells[0], 1);
}

int main(void)
{
	enum { COLD, ATOMIC, COLD_1, ATOMIC_1, NR };
	struct figure f[NR] = {
		[COLD] = { .name = "add_cold_256", .run = run_cold },
		[ATOMIC] = { .name = "atomic_private_256", .run = run_atomic },
		[COLD_1] = { .name = "add_cold_1", .run = run_cold_1 },
		[ATOMIC_1] = { .name = "atomic_private_1", .run = run_atomic_1 },
	};
	struct talea *t;
	char key[8];

	bench_init("cold");
	t = attach_open("cold");
	for (int i = 0; i < COUNTERS; i++) {
		snprintf(key, sizeof(key), "%d", i);
		cold[i] = attach_counter(t, "bench_cold_total", key, 0);
	}
	bench_run(f, NR);
	bench_report(&f[ATOMIC]);
	bench_ratio(&f[COLD], &f[ATOMIC], AT_MOST, LIMIT_ATOMIC, 0);
	bench_report(&f[ATOMIC_1]);
	bench_report(&f[COLD_1]);
	return bench_done();
}

/*
 * What one add to a hot counter of a real region costs: inline, exported, from two processes,
 * eight counters in turn; beside the cheapest add there is (one instruction on private memory),
 * one shared atomic, and PCP's memory-mapped values. With --without-rseq (and GLIBC_TUNABLES
 * saying so) only the inline add, which then takes the out-of-line path. Called by
 * tests/bench/run.
 *
 * The rows lie where the daemon put them: a row whose place in its page is that of a word which
 * the add loads costs more on many CPUs, and the counters here are not chosen to avoid it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pcp/pmapi.h>
#include <pcp/mmv_stats.h>

#include "shm/order.h"
#include "tests/bench/lib/attach.h"
#include "tests/bench/lib/bench.h"

#define LIMIT_PLAIN 3.8 /* with the spread shown, which every line has; 3.5 without */
#define AIM_PLAIN 3.5
#define LIMIT_2PROC 1.15
#define LIMIT_ATOMIC 30
#define LIMIT_PCP 7

static struct talea_counter hits = TALEA_COUNTER_INIT;
static struct talea_counter hits8[8];
static uint64_t private_cell[8] __attribute__((aligned(64)));
static uint64_t shared_cell[8] __attribute__((aligned(64)));
static void *mmv;
static pmAtomValue *mmv_value;

static void BENCH_LOOP run_inc(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		talea_inc(hits);
}

static void BENCH_LOOP run_exported(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		talea_add_fn(hits, 1);
}

static void BENCH_LOOP run_8(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		talea_inc(hits8[0]);
		talea_inc(hits8[1]);
		talea_inc(hits8[2]);
		talea_inc(hits8[3]);
		talea_inc(hits8[4]);
		talea_inc(hits8[5]);
		talea_inc(hits8[6]);
		talea_inc(hits8[7]);
	}
}

static void BENCH_LOOP run_plain(uint64_t n)
{
	uint64_t *cell = private_cell;

	__asm__("" : "+r"(cell)); /* stays in a register: the operand is not indexed */
	for (uint64_t i = 0; i < n; i++) {
#ifdef __x86_64__
		__asm__ volatile("addq $1, (%0)" : : "r"(cell) : "cc", "memory");
#else
		(*(volatile uint64_t *)cell)++;
#endif
	}
}

static void BENCH_LOOP run_atomic(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		shm_count_add(shared_cell, 1);
}

static void BENCH_LOOP run_mmv(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		mmv_inc(mmv, mmv_value);
}

/* As mmv_stats_registry(3) and mmv_lookup_value_desc(3) say; no service of PCP is needed. */
static const char *open_mmv(void)
{
	static char version[64];
	pmUnits count = MMV_UNITS(0, 0, 1, 0, 0, PM_COUNT_ONE);
	mmv_registry_t *registry = mmv_stats_registry("talea_bench", 1, 0);

	if (!registry || mmv_stats_add_metric(registry, "hits", 1, MMV_TYPE_U64, MMV_SEM_COUNTER,
					      count, 0, "hits", "Made by the benchmark.") < 0)
		bench_die("mmv_stats_add_metric", strerror(errno));
	mmv = mmv_stats_start(registry);
	if (!mmv)
		bench_die("mmv_stats_start", strerror(errno));
	mmv_value = mmv_lookup_value_desc(mmv, "hits", NULL);
	if (!mmv_value)
		bench_die("mmv_lookup_value_desc", "no such value");
	snprintf(version, sizeof(version), "\"peer\":\"PCP mmv_inc\",\"version\":\"%s\"",
		 pmGetConfig("PCP_VERSION"));
	return version;
}

static void declare(struct talea *t)
{
	char key[8];

	hits = attach_counter(t, "bench_hits_total", "one", 1);
	for (int i = 0; i < 8; i++) {
		snprintf(key, sizeof(key), "%d", i);
		hits8[i] = attach_counter(t, "bench_hits_total", key, 1);
	}
}

static void without_rseq(void)
{
	struct figure add = { .name = "add_inline_without_rseq",
			      .run = run_inc,
			      .more = "\"how\":\"GLIBC_TUNABLES=glibc.pthread.rseq=0\"" };

	hits = attach_counter(attach_open("default"), "bench_hits_total", "one", 1);
	bench_run(&add, 1);
	bench_report(&add);
}

int main(int argc, char **argv)
{
	enum { PLAIN, INLINE, EXPORTED, EIGHT, ATOMIC, MMV, INLINE_2P, ATOMIC_2T, MMV_2T, NR };
	struct figure f[NR] = {
		[PLAIN] = { .name = "plain_add", .run = run_plain },
		[INLINE] = { .name = "add_inline", .run = run_inc },
		[EXPORTED] = { .name = "add_exported", .run = run_exported },
		[EIGHT] = { .name = "add_8_counters", .run = run_8, .per = 8 },
		[ATOMIC] = { .name = "atomic_1t", .run = run_atomic },
		[MMV] = { .name = "pcp_mmv_1t", .run = run_mmv },
		[INLINE_2P] = { .name = "add_inline_2proc", .run = run_inc, .by = BY_PROCESSES },
		[ATOMIC_2T] = { .name = "shared_atomic_2t", .run = run_atomic, .by = BY_THREADS },
		[MMV_2T] = { .name = "pcp_mmv_2t", .run = run_mmv, .by = BY_THREADS },
	};

	bench_init("add");
	if (argc > 1 && strcmp(argv[1], "--without-rseq") == 0) {
		without_rseq();
		return bench_done();
	}
	declare(attach_open("default"));
	f[MMV].more = f[MMV_2T].more = open_mmv();
	bench_run(f, NR);
	mmv_stats_stop("talea_bench", mmv);

	bench_report(&f[PLAIN]);
	bench_ratio(&f[INLINE], &f[PLAIN], AT_MOST, LIMIT_PLAIN, AIM_PLAIN);
	bench_ratio(&f[INLINE_2P], &f[INLINE], AT_MOST, LIMIT_2PROC, 0);
	bench_ratio(&f[ATOMIC_2T], &f[INLINE_2P], AT_LEAST, LIMIT_ATOMIC, 0);
	bench_ratio(&f[MMV_2T], &f[INLINE_2P], AT_LEAST, LIMIT_PCP, 0);
	bench_report(&f[EXPORTED]);
	bench_report(&f[EIGHT]);
	bench_report(&f[ATOMIC]);
	bench_report(&f[MMV]);
	return bench_done();
}

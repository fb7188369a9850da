/*
 * What reading the lanes of many CPUs costs, in a simulated region of 128 lanes with the real
 * geometry: the fold's loop (daemon/worker/space/lanes.c) over 64 lanes of 100,000 rows beside the
 * fastest plain read of the same bytes, and the exact sum of one counter over 2, 64 and 128 lanes
 * (client/read.c) beside the same loop with lanes a multiple of a page apart, which is why they
 * are not. Needs no daemon. Called by tests/bench/run.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "client/read.h"
#include "daemon/worker/space/lanes.h"
#include "shm/region.h"
#include "tests/bench/lib/bench.h"

#define LANES 64u
#define LANES_MAX 128u
#define ROWS 100000u
#define LIMIT_BANDWIDTH 0.85
#define FINALISTS 3
#define PAGE_STRIDE 0x101000u
#define SLOT 1000u
#define ROW 1000u

static struct dir_shm *d;
static char *s;
static const char *lane0;
static struct region region;
static uint64_t totals[ROWS] __attribute__((aligned(64)));

/* --- the fold and the limit ------------------------------------------------------------------ */

static void run_fold(uint64_t n)
{
	while (n--)
		lanes_sum(lane0, SHM_LANE_STRIDE, LANES, 0, ROWS, totals);
	BENCH_USE(totals);
}

/*
 * Plain reads of the same bytes, summed in registers: `lanes` of them side by side, `step` vectors
 * at a time of each, fetched `ahead` bytes before they are needed (0: left to the CPU).
 */
#define DEFINE_READ(name, target, vec, lanes, step, ahead)                                         \
	target static void name(uint64_t n)                                                        \
	{                                                                                          \
		vec sum[(lanes) * (step)] = { 0 };                                                 \
		uint64_t all = 0;                                                                  \
                                                                                                   \
		while (n--)                                                                        \
			for (unsigned int l = 0; l < LANES; l += (lanes)) {                        \
				const char *at = lane0 + (size_t)l * SHM_LANE_STRIDE;              \
				const char *end = at + ROWS * 8;                                   \
                                                                                                   \
				for (; at < end; at += (step) * sizeof(vec)) {                     \
					_Pragma("GCC unroll 16") for (unsigned int i = 0;          \
								      i < (lanes) * (step); i++)   \
					{                                                          \
						const char *p = at + i / (step)*SHM_LANE_STRIDE +  \
								i % (step) * sizeof(vec);          \
						if ((ahead) && i % (step) * sizeof(vec) % 64 == 0) \
							__builtin_prefetch(p + (ahead), 0, 0);     \
						sum[i] += *(const volatile vec *)p;                \
					}                                                          \
				}                                                                  \
			}                                                                          \
		for (unsigned int i = 0; i < (lanes) * (step); i++)                                \
			for (unsigned int k = 0; k < sizeof(vec) / 8; k++)                         \
				all += sum[i][k];                                                  \
		BENCH_USE(all);                                                                    \
	}

typedef uint64_t vec16 __attribute__((vector_size(16), aligned(8), may_alias));
typedef uint64_t vec32 __attribute__((vector_size(32), aligned(8), may_alias));
typedef uint64_t vec64 __attribute__((vector_size(64), aligned(8), may_alias));

#define NO_TARGET
DEFINE_READ(plain_1, NO_TARGET, vec16, 1, 8, 0)
DEFINE_READ(plain_4, NO_TARGET, vec16, 4, 2, 0)
#ifdef __x86_64__
#define AVX2 __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f")))
DEFINE_READ(avx2_1, AVX2, vec32, 1, 8, 0)
DEFINE_READ(avx2_4, AVX2, vec32, 4, 2, 0)
DEFINE_READ(avx512_1, AVX512, vec64, 1, 4, 0)
DEFINE_READ(avx512_1_ahead, AVX512, vec64, 1, 4, 2048)
DEFINE_READ(avx512_2, AVX512, vec64, 2, 4, 0)
DEFINE_READ(avx512_4, AVX512, vec64, 4, 4, 0)
DEFINE_READ(avx512_8, AVX512, vec64, 8, 2, 0)
DEFINE_READ(avx512_8_ahead, AVX512, vec64, 8, 2, 1024)
DEFINE_READ(avx512_16, AVX512, vec64, 16, 1, 0)
#endif

struct way {
	void (*run)(uint64_t n);
	const char *more;
	int level; /* 1: AVX2, 2: AVX-512 */
};
static const struct way ways[] = {
	{ plain_1, "\"way\":\"16-byte vectors, 1 lane at a time\"", 0 },
	{ plain_4, "\"way\":\"16-byte vectors, 4 lanes at a time\"", 0 },
#ifdef __x86_64__
	{ avx2_1, "\"way\":\"AVX2, 1 lane at a time\"", 1 },
	{ avx2_4, "\"way\":\"AVX2, 4 lanes at a time\"", 1 },
	{ avx512_1, "\"way\":\"AVX-512, 1 lane at a time\"", 2 },
	{ avx512_1_ahead, "\"way\":\"AVX-512, 1 lane at a time, prefetched\"", 2 },
	{ avx512_2, "\"way\":\"AVX-512, 2 lanes at a time\"", 2 },
	{ avx512_4, "\"way\":\"AVX-512, 4 lanes at a time\"", 2 },
	{ avx512_8, "\"way\":\"AVX-512, 8 lanes at a time\"", 2 },
	{ avx512_8_ahead, "\"way\":\"AVX-512, 8 lanes at a time, prefetched\"", 2 },
	{ avx512_16, "\"way\":\"AVX-512, 16 lanes at a time\"", 2 },
#endif
};
#define WAYS (sizeof(ways) / sizeof(ways[0]))

static int cpu_level(void)
{
#ifdef __x86_64__
	return __builtin_cpu_supports("avx512f") ? 2 : __builtin_cpu_supports("avx2") ? 1 : 0;
#else
	return 0;
#endif
}

static int by_bandwidth(const void *a, const void *b)
{
	double x = ((const struct figure *)a)->value, y = ((const struct figure *)b)->value;

	return (x < y) - (x > y);
}

/*
 * All ways once, then the fold beside the best few alone, so that they are measured close
 * together: the bandwidth of a shared machine changes within seconds. The limit is the best of
 * these.
 */
static void bandwidth(void)
{
	static char vector[64];
	struct figure all[WAYS], f[1 + FINALISTS] = { 0 };
	struct figure *best = &f[1];
	unsigned int nr = 0;

	snprintf(vector, sizeof(vector), "\"way\":\"lanes_sum, %s\"", lanes_vector_name());
	for (unsigned int i = 0; i < WAYS; i++)
		if (ways[i].level <= cpu_level())
			all[nr++] = (struct figure){ .name = "read_limit_1e5x64",
						     .run = ways[i].run,
						     .more = ways[i].more,
						     .is_bandwidth = 1,
						     .per = (double)LANES * ROWS * 8 };
	bench_run(all, nr);
	qsort(all, nr, sizeof(all[0]), by_bandwidth);
	for (unsigned int i = 0; i < nr; i++)
		fprintf(stderr, "bench lanes: %s: %.4g GB/s\n", all[i].more, all[i].value);
	nr = nr < FINALISTS ? nr : FINALISTS;
	memcpy(f + 1, all, nr * sizeof(all[0]));
	f[0] = (struct figure){ .name = "fold_1e5x64",
				.run = run_fold,
				.more = vector,
				.is_bandwidth = 1,
				.per = (double)LANES * ROWS * 8 };
	bench_run(f, 1 + nr);
	for (unsigned int i = 1; i <= nr; i++)
		if (f[i].value > best->value)
			best = &f[i];
	bench_report(best);
	bench_ratio(&f[0], best, AT_LEAST, LIMIT_BANDWIDTH, 0);
}

/* --- exact sums ------------------------------------------------------------------------------ */

static void sum_lanes(uint64_t n, uint32_t lanes)
{
	int64_t v = 0;

	d->cpus_nr = lanes;
	while (n--)
		read_sum(&region, SLOT, &v);
	BENCH_USE(v);
}

static void BENCH_LOOP sum_stride(uint64_t n, size_t stride, uint32_t lanes)
{
	uint64_t sum = 0;

	__asm__("" : "+r"(stride), "+r"(lanes)); /* no constants: one code for both strides */
	while (n--)
		for (uint32_t l = 0; l < lanes; l++)
			sum += shm_count_read((const uint64_t *)(lane0 + l * stride + ROW * 8));
	BENCH_USE(sum);
}

static void run_sum_2(uint64_t n) { sum_lanes(n, 2); }
static void run_sum_64(uint64_t n) { sum_lanes(n, 64); }
static void run_sum_128(uint64_t n) { sum_lanes(n, 128); }
static void run_own_64(uint64_t n) { sum_stride(n, SHM_LANE_STRIDE, 64); }
static void run_own_128(uint64_t n) { sum_stride(n, SHM_LANE_STRIDE, 128); }
static void run_page_64(uint64_t n) { sum_stride(n, PAGE_STRIDE, 64); }
static void run_page_128(uint64_t n) { sum_stride(n, PAGE_STRIDE, 128); }

static void sums(void)
{
	static const char own[] = "\"lane_stride\":\"1 MiB + 4 KiB + 64\"";
	static const char page[] = "\"lane_stride\":\"1 MiB + 4 KiB\"";
	struct figure f[] = {
		{ .name = "sum_2", .run = run_sum_2, .more = own },
		{ .name = "sum_64", .run = run_sum_64, .more = own },
		{ .name = "sum_128", .run = run_sum_128, .more = own },
		{ .name = "sum_64_loop", .run = run_own_64, .more = own },
		{ .name = "sum_64_loop_page_stride", .run = run_page_64, .more = page },
		{ .name = "sum_128_loop", .run = run_own_128, .more = own },
		{ .name = "sum_128_loop_page_stride", .run = run_page_128, .more = page },
	};
	struct slot_shm *slot = (struct slot_shm *)((char *)d + SHM_D_SLOTS) + SLOT;

	_Static_assert(SHM_LANE_STRIDE == PAGE_STRIDE + 64, "the words above");
	slot->state = state_make(1, 0, ROW * 8);
	region.view = (struct shm_view){ .d = d, .s = s };
	bench_run(f, sizeof(f) / sizeof(f[0]));
	for (unsigned int i = 0; i < sizeof(f) / sizeof(f[0]); i++)
		bench_report(&f[i]);
}

/* --- the region ------------------------------------------------------------------------------ */

static void *map_part(enum region_part part)
{
	int rw, ro, err;
	void *p;

	err = region_make(part, "bench", &rw, &ro);
	if (!err)
		err = region_map(rw, part, true, &p);
	if (err)
		bench_die("making a region", strerror(-err));
	return p;
}

int main(void)
{
	bench_init("lanes");
	d = map_part(REGION_D);
	s = map_part(REGION_S);
	lane0 = s + SHM_S_LANES;
	for (unsigned int l = 0; l < LANES_MAX; l++)
		for (unsigned int row = 0; row < SHM_ROWS_MAX;
		     row += l < LANES && row < ROWS ? 1 : 512)
			*(uint64_t *)(s + shards_lane(l) + row * 8) = row + l;
	bandwidth();
	sums();
	return bench_done();
}

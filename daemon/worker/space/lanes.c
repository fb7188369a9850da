/* See rows.h. */
#include "daemon/worker/space/lanes.h"

#include <stdbool.h>
#include <string.h>

#include "shm/layout.h"

/*
 * Rows are summed in blocks whose sums stay in the first-level cache, many lanes at a time: one
 * lane at a time reaches half of the read bandwidth (too few reads in flight, and the sums are
 * loaded and stored again for each lane), a block held in registers little more (its visit of a
 * page is too short for the prefetcher). Sixteen lanes need their distance as a constant: as
 * addresses in registers they would not fit. More than that is half as fast again.
 */
#define LANES_BLOCK 2048

/* gcc keeps such a loop as a loop at -O2, at half the speed of the portable body. */
#ifdef __clang__
#define UNROLL
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* Alignment 8: a BPF map's stride need not be a multiple of the vector. */
typedef uint64_t vec16 __attribute__((vector_size(16), aligned(8), may_alias));
typedef uint64_t vec32 __attribute__((vector_size(32), aligned(8), may_alias));
typedef uint64_t vec64 __attribute__((vector_size(64), aligned(8), may_alias));

#define LANES_CASE(name, lanes)                                                                     \
	case lanes:                                                                                \
		if (is_first)                                                                      \
			name##_add(rows, stride, lanes, true, nr, ret + at);                       \
		else                                                                               \
			name##_add(rows, stride, lanes, false, nr, ret + at);                      \
		break;

/*
 * name_add: sums += the same rows of `lanes` lanes, or = for the first ones; both are constants, so
 * that the inner loop unrolls. name_blocks: all rows of all lanes, `most` lanes at a time.
 */
#define DEFINE_LANES(name, target, vec, shard_lanes)                                                \
	target ALWAYS_INLINE void name##_add(const char *rows, size_t stride, unsigned int lanes,  \
					     bool is_first, size_t rows_nr, uint64_t *sums)        \
	{                                                                                          \
		const size_t step = sizeof(vec) / sizeof(uint64_t);                                \
		size_t i = 0;                                                                      \
                                                                                                   \
		for (; i + step <= rows_nr; i += step) {                                           \
			vec sum = is_first ? (vec){ 0 } : *(vec *)(sums + i);                      \
                                                                                                   \
			UNROLL                                                                     \
			for (unsigned int l = 0; l < lanes; l++)                                   \
				sum += *(const vec *)(rows + l * stride + i * 8);                  \
			*(vec *)(sums + i) = sum;                                                  \
		}                                                                                  \
		for (; i < rows_nr; i++) {                                                         \
			sums[i] = is_first ? 0 : sums[i];                                          \
			for (unsigned int l = 0; l < lanes; l++)                                   \
				sums[i] += *(const volatile uint64_t *)(rows + l * stride + i * 8); \
		}                                                                                  \
	}                                                                                          \
                                                                                                   \
	target ALWAYS_INLINE void name##_blocks(const char *lane0, size_t stride,                  \
						unsigned int most, unsigned int cpus_nr,           \
						size_t first_row, size_t rows_nr, uint64_t *ret)   \
	{                                                                                          \
		for (size_t at = 0; at < rows_nr; at += LANES_BLOCK) {                              \
			size_t nr = rows_nr - at < LANES_BLOCK ? rows_nr - at : LANES_BLOCK;         \
			const char *rows = lane0 + (first_row + at) * 8;                           \
			bool is_first = true;                                                      \
                                                                                                   \
			if (!cpus_nr)                                                              \
				memset(ret + at, 0, nr * 8);                                       \
			for (unsigned int left = cpus_nr, step; left; left -= step) {              \
				step = left >= most ? most : left >= 8 ? 8 : left >= 4 ? 4 :       \
				       left >= 2 ? 2 : 1;                                          \
				switch (step) {                                                    \
				LANES_CASE(name, 16)                                                \
				LANES_CASE(name, 8)                                                 \
				LANES_CASE(name, 4)                                                 \
				LANES_CASE(name, 2)                                                 \
				LANES_CASE(name, 1)                                                 \
				}                                                                  \
				rows += step * stride;                                             \
				is_first = false;                                                  \
			}                                                                          \
		}                                                                                  \
	}                                                                                          \
                                                                                                   \
	target static void name(const char *lane0, size_t stride, unsigned int cpus_nr,            \
				size_t first_row, size_t rows_nr, uint64_t *ret)                   \
	{                                                                                          \
		if (stride == SHM_LANE_STRIDE)                                                     \
			name##_blocks(lane0, SHM_LANE_STRIDE, shard_lanes, cpus_nr, first_row,     \
				      rows_nr, ret);                                               \
		else                                                                               \
			name##_blocks(lane0, stride, 8, cpus_nr, first_row, rows_nr, ret);         \
	}

#define NO_TARGET
DEFINE_LANES(lanes_portable, NO_TARGET, vec16, 8)
#ifdef __x86_64__
DEFINE_LANES(lanes_avx2, __attribute__((target("avx2"))), vec32, 8)
DEFINE_LANES(lanes_avx512f, __attribute__((target("avx512f"))), vec64, 16)
#endif

lanes_sum_fn *lanes_body(unsigned int idx, const char **ret_name)
{
	/* Best first; one that the machine cannot run is left out. */
#ifdef __x86_64__
	if (__builtin_cpu_supports("avx512f") && idx-- == 0) {
		*ret_name = "avx512f";
		return lanes_avx512f;
	}
	if (__builtin_cpu_supports("avx2") && idx-- == 0) {
		*ret_name = "avx2";
		return lanes_avx2;
	}
#endif
	if (idx == 0) {
		*ret_name = "portable";
		return lanes_portable;
	}
	return NULL;
}

void lanes_sum(const char *lane0, size_t stride, unsigned int cpus_nr, size_t first_row,
	      size_t rows_nr, uint64_t *ret)
{
	const char *name;

	lanes_body(0, &name)(lane0, stride, cpus_nr, first_row, rows_nr, ret);
}

const char *lanes_vector_name(void)
{
	const char *name;

	lanes_body(0, &name);
	return name;
}

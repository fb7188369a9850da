/*
 * Summing lanes (daemon/worker/space/lanes.h): every vector body gives what the portable one gives, and
 * what adding one by one gives, and none touches a byte that is not its.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "daemon/worker/space/lanes.h"
#include "shm/layout.h"

#define PAGE 4096u
#define LANES_MAX 21u
#define ROWS_MAX 5000u
#define CANARY 0x5ca1ab1edeadbeefull

/* Cells that end at a page that faults. */
struct cells {
	char *map;
	size_t map_bytes;
	uint64_t *cells;
};

static struct cells cells_make(size_t nr, unsigned int *seed)
{
	size_t bytes = (nr * 8 + PAGE - 1) / PAGE * PAGE;
	struct cells c = { .map_bytes = bytes + PAGE };

	c.map = mmap(NULL, c.map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(c.map, MAP_FAILED);
	assert_int_equal(mprotect(c.map + bytes, PAGE, PROT_NONE), 0);
	c.cells = (uint64_t *)(void *)(c.map + bytes) - nr;
	/* Large values too: sums go past 2^64 and come back, as counts of levels do. */
	for (size_t i = 0; i < nr; i++)
		c.cells[i] = (uint64_t)rand_r(seed) << 40 | (uint64_t)rand_r(seed) << 15 |
			     (uint64_t)(rand_r(seed) & 0x7fff);
	return c;
}

static void cells_free(struct cells *c)
{
	munmap(c->map, c->map_bytes);
}

static void assert_sums(lanes_sum_fn *sum, const struct cells *c, size_t stride, unsigned int lanes,
			size_t first, size_t nr)
{
	uint64_t *ret = malloc((nr + 1) * sizeof(*ret));

	assert_non_null(ret);
	memset(ret, 0xa5, nr * sizeof(*ret));
	ret[nr] = CANARY;
	sum((const char *)c->cells, stride, lanes, first, nr, ret);
	for (size_t row = 0; row < nr; row++) {
		uint64_t want = 0;

		for (unsigned int lane = 0; lane < lanes; lane++)
			want += c->cells[lane * (stride / 8) + first + row];
		assert_true(ret[row] == want);
	}
	assert_true(ret[nr] == CANARY);
	free(ret);
}

static void every_body_sums_every_shape(void **state)
{
	unsigned int seed = 1;
	const char *name;

	(void)state;
	for (unsigned int round = 0; round < 300; round++) {
		unsigned int lanes = 1 + (unsigned int)rand_r(&seed) % LANES_MAX;
		size_t first = (size_t)rand_r(&seed) % 9;
		size_t nr = (size_t)rand_r(&seed) % (round % 10 ? 70 : ROWS_MAX);
		size_t stride = (first + nr + (size_t)rand_r(&seed) % 3) * 8;
		/* The last lane ends with its last row, and that with the page. */
		struct cells c = cells_make((lanes - 1) * (stride / 8) + first + nr, &seed);

		for (unsigned int i = 0; lanes_body(i, &name); i++)
			assert_sums(lanes_body(i, &name), &c, stride, lanes, first, nr);
		assert_sums(lanes_sum, &c, stride, lanes, first, nr);
		cells_free(&c);
	}
}

static void the_geometry_of_the_shards_is_summed(void **state)
{
	unsigned int seed = 2;
	struct cells c = cells_make(20 * (SHM_LANE_STRIDE / 8) + 3000, &seed);
	const char *name;

	(void)state;
	for (unsigned int i = 0; lanes_body(i, &name); i++)
		assert_sums(lanes_body(i, &name), &c, SHM_LANE_STRIDE, 21, 500, 2500);
	cells_free(&c);
}

static void no_lane_is_a_sum_of_zero(void **state)
{
	uint64_t ret[3] = { 1, 2, CANARY };
	const char *name;

	(void)state;
	for (unsigned int i = 0; lanes_body(i, &name); i++) {
		ret[0] = ret[1] = 1;
		lanes_body(i, &name)(NULL, 16, 0, 0, 2, ret);
		assert_true(!ret[0] && !ret[1] && ret[2] == CANARY);
	}
}

static void the_portable_body_is_always_there(void **state)
{
	const char *name = NULL, *last = NULL;

	(void)state;
	for (unsigned int i = 0; lanes_body(i, &name); i++)
		last = name;
	assert_string_equal(last, "portable");
	lanes_body(0, &name);
	assert_string_equal(name, lanes_vector_name());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_body_sums_every_shape),
		cmocka_unit_test(the_geometry_of_the_shards_is_summed),
		cmocka_unit_test(no_lane_is_a_sum_of_zero),
		cmocka_unit_test(the_portable_body_is_always_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

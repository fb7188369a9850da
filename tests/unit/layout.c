/*
 * What is said twice must agree: the constants that talea_add.h inlines into programs and the layout
 * in shm/, and the parts of each memfd must not overlap.
 */
#include "tests/lib/test.h"

#include <string.h>

#include "client/include/talea.h"
#include "shm/directory.h"
#include "shm/region.h"

static void inlined_constants_are_those_of_the_layout(void **state)
{
	(void)state;
	assert_int_equal(TALEA_LANE_STRIDE_, SHM_LANE_STRIDE);
	assert_int_equal(TALEA_CPUS_MAX_, SHM_CPUS_MAX);
	assert_int_equal(TALEA_TOTALS_EPOCH_, offsetof(struct totals_shm, epoch));
	assert_int_equal(TALEA_TOTALS_TIME_, offsetof(struct totals_shm, fold_mono_ns));
	assert_int_equal(TALEA_TOTALS_COPY_, SHM_T_TOTALS);
	assert_int_equal(TALEA_TOTALS_BYTES_, SHM_T_COPY);
	assert_int_equal(TALEA_TOTALS_ALIGN_, REGION_ALIGN);
	assert_true(SHM_T_BYTES <= TALEA_TOTALS_ALIGN_);
	assert_int_equal(sizeof(struct talea_target_), 64);
	assert_int_equal(TALEA_ABI, SHM_ABI);
}

static void rows_fit_their_lane_and_lanes_do_not_share_sets(void **state)
{
	(void)state;
	assert_true(SHM_ROWS_MAX * 8ull <= SHM_LANE_STRIDE);
	assert_int_equal(SHM_LANE_STRIDE % 64, 0);
	assert_int_not_equal(SHM_LANE_STRIDE % 4096, 0);
	assert_true(SHM_ROWS_MAX * 8ull < 1ull << 31);
	assert_true(shards_lane(SHM_CPUS_MAX - 1) + SHM_ROWS_MAX * 8ull <= SHM_S_BYTES);
	assert_int_equal(shards_lane(0), SHM_S_COLD + SHM_SLOTS_MAX * 8ull);
	assert_true(shards_cold(SHM_SLOTS_MAX - 1) + 8 <= shards_lane(0));
}

static void parts_of_the_directory_do_not_overlap(void **state)
{
	uint64_t last = index_make(SHM_INDEX_ORDER_MAX, 1);

	(void)state;
	assert_true(sizeof(struct dir_shm) <= SHM_D_SLOTS);
	assert_true(SHM_D_SLOTS + SHM_SLOTS_MAX * sizeof(struct slot_shm) <= SHM_D_ADJ);
	assert_true(SHM_D_INDEX + (index_first(last) + (1ull << SHM_INDEX_ORDER_MAX)) * 4 <=
		    SHM_D_NAMES);
	assert_true(1u << SHM_INDEX_ORDER_MAX >= 2 * SHM_SLOTS_MAX);
	assert_int_equal(SHM_D_BYTES, SHM_D_NAMES + SHM_NAMES_BYTES);
	for (enum region_part part = REGION_D; part < REGION_PARTS; part++)
		assert_int_equal(region_bytes(part) % 4096, 0);
}

static void index_tables_of_all_orders_are_apart(void **state)
{
	(void)state;
	for (uint32_t a = SHM_INDEX_ORDER_MIN; a < SHM_INDEX_ORDER_MAX; a++) {
		uint64_t first = index_first(index_make(a, 0));

		assert_true(first + (1ull << a) <= index_first(index_make(a + 1, 0)));
		assert_true(first + (1ull << a) <= index_first(index_make(a, 1)));
	}
}

static void packed_words_give_back_what_was_put_in(void **state)
{
	uint64_t name = name_make((1ull << 40) - 8, 65535, SHM_REMOVED);
	uint64_t s = state_make(0xabcdef, 0x5a, 0x7ffffff8), r = slot_route(0xffffffff, 8);

	(void)state;
	assert_true(name_offset(name) == (1ull << 40) - 8);
	assert_int_equal(name_length(name), 65535);
	assert_int_equal(name_type(name), SHM_REMOVED);
	assert_int_equal(state_version(s), 0xabcdef);
	assert_int_equal(state_flags(s), 0x5a);
	assert_int_equal(slot_row(s), 0x7ffffff8);
	assert_int_equal(state_version(state_make(0x1000001, 0, 0)), 1);
	assert_int_equal(slot_generation(r), 0xffffffff);
	assert_int_equal(slot_row(r), 8);
	/* "No row" is no offset below 2^31: one signed compare serves (PROTOCOL 1). */
	assert_true(SHM_ROW_NONE >= 1u << 31);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(inlined_constants_are_those_of_the_layout),
		cmocka_unit_test(rows_fit_their_lane_and_lanes_do_not_share_sets),
		cmocka_unit_test(parts_of_the_directory_do_not_overlap),
		cmocka_unit_test(index_tables_of_all_orders_are_apart),
		cmocka_unit_test(packed_words_give_back_what_was_put_in),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

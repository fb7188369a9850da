/* What all programs share (shm/base): growing arrays, text and units, the nearest name, why
 * something failed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shm/base/array.h"
#include "shm/base/clock.h"
#include "shm/base/near.h"
#include "shm/base/text.h"
#include "shm/base/why.h"
#include "tests/lib/test.h"

static void an_array_keeps_its_elements_while_it_grows(void **state)
{
	uint64_t *list = NULL;
	uint32_t nr, max = 0;

	(void)state;
	for (nr = 0; nr < 10000; nr++) {
		assert_int_equal(array_reserve(&list, nr + 1, &max), 0);
		assert_true(max > nr);
		list[nr] = nr;
	}
	for (uint32_t i = 0; i < nr; i++)
		assert_int_equal(list[i], i);
	free(list);
}

static void an_array_that_cannot_grow_is_as_before(void **state)
{
	uint64_t *list = NULL;
	size_t max = 0;

	(void)state;
	assert_int_equal(array_reserve(&list, 3, &max), 0);
	list[2] = 7;
	assert_int_equal(array_reserve(&list, SIZE_MAX / 4, &max), -ENOMEM);
	assert_int_equal(max, ARRAY_FIRST);
	assert_int_equal(list[2], 7);
	free(list);
}

static void text_that_does_not_fit_is_cut_and_says_so(void **state)
{
	char buf[8];
	struct text t;

	(void)state;
	text_init(&t, buf, sizeof(buf));
	text_put(&t, "%d-", 12);
	assert_false(t.is_cut);
	text_put(&t, "%s", "345678");
	assert_true(t.is_cut);
	assert_string_equal(buf, "12-3456");
	assert_int_equal(t.used, 7);
	text_put(&t, "more");
	assert_string_equal(buf, "12-3456");
}

static void durations_are_read_as_they_are_written(void **state)
{
	static const struct {
		const char *text;
		uint64_t ns;
	} right[] = { { "1ns", 1 },
		      { "10ms", 10000000 },
		      { "90s", 90000000000 },
		      { "2h", 7200000000000 },
		      { "3d", 259200000000000 } };
	char buf[32];
	uint64_t ns = 5;

	(void)state;
	for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++) {
		struct text t;

		assert_int_equal(text_duration(right[i].text, &ns), 0);
		assert_int_equal(ns, right[i].ns);
		text_init(&t, buf, sizeof(buf));
		text_put_duration(&t, ns);
		assert_int_equal(text_duration(buf, &ns), 0);
		assert_int_equal(ns, right[i].ns);
	}
	assert_int_equal(text_duration("90", &ns), -ENODATA);
	assert_int_equal(text_duration("", &ns), -EINVAL);
	assert_int_equal(text_duration("-1s", &ns), -EINVAL);
	assert_int_equal(text_duration("1 s", &ns), -EINVAL);
	assert_int_equal(text_duration("0x1s", &ns), -EINVAL);
	assert_int_equal(text_duration("99999999999999999999s", &ns), -ERANGE);
	assert_int_equal(text_duration("9999999999d", &ns), -ERANGE);
	assert_int_equal(ns, right[4].ns);
	assert_int_equal(text_duration_decimal("1.5s", &ns), 0);
	assert_int_equal(ns, 1500 * NS_PER_MS);
	assert_int_equal(text_duration_decimal("2", &ns), 0);
	assert_int_equal(ns, 2 * NS_PER_S);
	assert_int_equal(text_duration_decimal("", &ns), -EINVAL);
	assert_int_equal(text_duration_decimal("-1s", &ns), -EINVAL);
	assert_int_equal(text_duration_decimal("nan", &ns), -EINVAL);
	assert_int_equal(text_duration_decimal("1e30d", &ns), -EINVAL);
	assert_int_equal(text_duration_decimal("soon", &ns), -EINVAL);
	assert_int_equal(ns, 2 * NS_PER_S);
}

static void a_time_is_shown_by_rfc_3339(void **state)
{
	char buf[TEXT_UTC_BYTES];

	(void)state;
	assert_string_equal(text_utc(buf, 0), "1970-01-01T00:00:00.000000000Z");
	assert_string_equal(text_utc(buf, 1795464399 * NS_PER_S + 7),
			    "2026-11-23T20:06:39.000000007Z");
}

static void one_slip_of_the_hand_is_one_edit(void **state)
{
	(void)state;
	assert_int_equal(near_distance("status", "status"), 0);
	assert_int_equal(near_distance("status", "statsu"), 1);
	assert_int_equal(near_distance("status", "stats"), 1);
	assert_int_equal(near_distance("", "abc"), 3);
	assert_int_equal(near_distance("kitten", "sitting"), 3);
}

static void the_nearest_name_is_found_and_a_far_one_is_not(void **state)
{
	static const char *const names[] = { "status", "list", "history", NULL };
	char longest[200];

	(void)state;
	memset(longest, 'a', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	assert_string_equal(near_word("statu", names), "status");
	assert_string_equal(near_word("hsitory", names), "history");
	assert_null(near_word("frobnicate", names));
	assert_null(near_word(longest, names));
	assert_int_equal(near_distance(longest, longest), NEAR_FAR);
}

static void why_is_a_reason_and_what_to_type(void **state)
{
	struct why why;
	char buf[64];

	(void)state;
	assert_int_equal(why_set(&why, -EINVAL, "%s is no name", "a-b"), -EINVAL);
	assert_string_equal(why_text(&why, buf, sizeof(buf)), "a-b is no name");
	why_fix(&why, "use a_b");
	assert_string_equal(why_text(&why, buf, sizeof(buf)), "a-b is no name. fix: use a_b");
	assert_int_equal(why_set(&why, -ENOENT, "gone"), -ENOENT);
	assert_string_equal(why_text(&why, buf, sizeof(buf)), "gone");
	assert_int_equal(why_set(NULL, -ENOENT, "nobody asks"), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_array_keeps_its_elements_while_it_grows),
		cmocka_unit_test(an_array_that_cannot_grow_is_as_before),
		cmocka_unit_test(text_that_does_not_fit_is_cut_and_says_so),
		cmocka_unit_test(durations_are_read_as_they_are_written),
		cmocka_unit_test(a_time_is_shown_by_rfc_3339),
		cmocka_unit_test(one_slip_of_the_hand_is_one_edit),
		cmocka_unit_test(the_nearest_name_is_found_and_a_far_one_is_not),
		cmocka_unit_test(why_is_a_reason_and_what_to_type),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * Names: one canonical spelling, the rules of registration, display and look-up of any slot of a
 * directory, and globs.
 */
#include "tests/lib/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/names.h"
#include "tests/lib/writer.h"

static void assert_normal(const char *text, const char *want)
{
	char buf[NAME_DISPLAY_MAX];
	int n = name_normalise(text, buf, sizeof(buf));

	if (!want) {
		assert_int_equal(n, -EINVAL);
		return;
	}
	assert_int_equal(n, strlen(want));
	assert_string_equal(buf, want);
}

static void canonical_names_are_sorted_and_escaped(void **state)
{
	const char *labels[] = { "zone", "eu", "app", "a\"b\\c\nd", "path", "/", NULL };
	const char *twice[] = { "a", "1", "b", "2", "a", "3", NULL };
	const char *odd[] = { "a", "1", "b", NULL };
	char buf[128];

	(void)state;
	assert_true(name_canonical("x_total", labels, buf, sizeof(buf)) > 0);
	assert_string_equal(buf, "x_total{app=\"a\\\"b\\\\c\\nd\",path=\"/\",zone=\"eu\"}");
	assert_int_equal(name_canonical("x_total", NULL, buf, sizeof(buf)), 7);
	assert_string_equal(buf, "x_total");
	assert_int_equal(name_canonical("x_total", twice, buf, sizeof(buf)), -EINVAL);
	assert_int_equal(name_canonical("x_total", odd, buf, sizeof(buf)), -EINVAL);
	assert_int_equal(name_canonical("x_total", labels, buf, 20), -ENAMETOOLONG);
	assert_int_equal(name_canonical("x_total", NULL, buf, 7), -ENAMETOOLONG);
	assert_int_equal(name_canonical("x_total", NULL, buf, 8), 7);
}

static void any_spelling_is_brought_to_the_canonical_one(void **state)
{
	(void)state;
	assert_normal("x_total", "x_total");
	assert_normal(" x_total ", "x_total");
	assert_normal("x_total{}", "x_total");
	assert_normal("x_total { b = \"2\" , a=\"1\", }", "x_total{a=\"1\",b=\"2\"}");
	assert_normal("x{a=\"q\\\"{},\\\\\"}", "x{a=\"q\\\"{},\\\\\"}");
	assert_normal("x{ab=\"1\",a=\"2\"}", "x{a=\"2\",ab=\"1\"}");
	assert_normal("", NULL);
	assert_normal("{a=\"1\"}", NULL);
	assert_normal("x{a=\"1\"", NULL);
	assert_normal("x{a=\"1}", NULL);
	assert_normal("x{a=1}", NULL);
	assert_normal("x{a}", NULL);
	assert_normal("x{=\"1\"}", NULL);
	assert_normal("x{a=\"\\q\"}", NULL);
	assert_normal("x{a=\"1\"}y", NULL);
	assert_normal("x{a=\"1\" b=\"2\"}", NULL);
	assert_normal("x{a=\"1\",a=\"2\"}", NULL);
	assert_normal("x y", NULL);
	assert_normal("x{,}", NULL);
}

static int rules(enum shm_slot_type type, const char *name, const char *help, const char *label)
{
	char why[256] = "";
	int err = name_check(type, name, strlen(name), help, strlen(help), label,
			     label ? strlen(label) : 0, why, sizeof(why));

	assert_int_equal(err != 0, why[0] != 0);
	return err;
}

static void good_names_pass_the_rules(void **state)
{
	static const char *const counters[] = {
		"demo_requests_total", "demo_requests_total{app=\"demo\"}", "a_total", "_x_total",
		"demo_sent_bytes_total", "demo_cpu_seconds_total", "demo_thermometers_total",
		"x_total{a=\"1\",ab=\"2\",b=\"\\n\\\"\\\\\"}", "x_total{App=\"\xc3\xa4\"}",
	};
	char why[256];

	(void)state;
	for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++)
		assert_int_equal(rules(SHM_COUNTER, counters[i], "Help.", NULL), 0);
	assert_int_equal(rules(SHM_LEVEL, "demo_connections", "Help \xe2\x82\xac.", NULL), 0);
	assert_int_equal(rules(SHM_FAMILY, "likes_total", "Help.", "post"), 0);
	assert_int_equal(rules(SHM_LEVEL_FAMILY, "likes", "Help.", "post"), 0);
	assert_int_equal(name_check_value(SHM_KEY_TEXT, "x", 1, why, sizeof(why)), 0);
	assert_int_equal(name_check_value(SHM_KEY_U64, "12345678", 8, why, sizeof(why)), 0);
}

static void bad_counters_are_refused_with_a_reason(void **state)
{
	static const char *const bad[] = {
		"", "_total", "requests", "9x_total", "a-b_total", "a.b_total", "a:b_total",
		"fooBar_total", "talea_x_total", "kernel_x_total", "x_ms_total", "x_b_total",
		"x_milliseconds_total", "x_minutes_total", "x_kilobytes_total", "x_counter_total",
		"\xff_total", "x_total{}", "x_total{a=\"1\"} ", " x_total", "x_total{a=\"\"}",
		"x_total{b=\"1\",a=\"2\"}", "x_total{a=\"1\",a=\"2\"}", "x_total{a=\"1\", b=\"2\"}",
		"x_total{a=\"1\",}", "x_total{a =\"1\"}", "x_total{9=\"1\"}", "x_total{__a=\"1\"}",
		"x_total{talea=\"1\"}", "x_total{le=\"1\"}", "x_total{a=\"\xff\"}",
		"x_total{ab=\"1\",a=\"2\"}", "x_total{a=\"1\"}}", "x_total{a=\"1\"}{b=\"2\"}",
	};
	char long_name[SHM_NAME_MAX + 2];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(rules(SHM_COUNTER, bad[i], "Help.", NULL), -EINVAL);
	memset(long_name, 'x', sizeof(long_name));
	strcpy(long_name + SHM_NAME_MAX - 6, "_total");
	assert_int_equal(rules(SHM_COUNTER, long_name, "Help.", NULL), 0);
	strcpy(long_name + SHM_NAME_MAX - 6, "x_total");
	assert_int_equal(rules(SHM_COUNTER, long_name, "Help.", NULL), -EINVAL);
	assert_int_equal(rules(SHM_COUNTER, "x_total", "Help.", "label"), -EINVAL);
	assert_int_equal(rules(SHM_MEMBER, "x_total", "Help.", NULL), -EINVAL);
}

static void bad_levels_families_helps_and_keys_are_refused(void **state)
{
	char why[256], long_help[SHM_NAME_MAX + 2] = "";

	(void)state;
	assert_int_equal(rules(SHM_LEVEL, "x_total", "Help.", NULL), -EINVAL);
	assert_int_equal(rules(SHM_LEVEL, "x_sum", "Help.", NULL), -EINVAL);
	assert_int_equal(rules(SHM_FAMILY, "likes_total{a=\"1\"}", "Help.", "post"), -EINVAL);
	assert_int_equal(rules(SHM_FAMILY, "likes_total", "Help.", NULL), -EINVAL);
	assert_int_equal(rules(SHM_FAMILY, "likes_total", "Help.", "po st"), -EINVAL);
	assert_int_equal(rules(SHM_FAMILY, "likes_total", "Help.", "talea"), -EINVAL);
	assert_int_equal(rules(SHM_COUNTER, "x_total", "", NULL), -EINVAL);
	assert_int_equal(rules(SHM_COUNTER, "x_total", "two\nlines", NULL), -EINVAL);
	assert_int_equal(rules(SHM_COUNTER, "x_total", "\xc0\xaf overlong", NULL), -EINVAL);
	assert_int_equal(rules(SHM_COUNTER, "x_total", "\xed\xa0\x80 surrogate", NULL), -EINVAL);
	memset(long_help, 'h', sizeof(long_help) - 1);
	assert_int_equal(rules(SHM_COUNTER, "x_total", long_help, NULL), -EINVAL);
	assert_int_equal(name_check_value(SHM_KEY_TEXT, "", 0, why, sizeof(why)), -EINVAL);
	assert_int_equal(name_check_value(SHM_KEY_TEXT, "a\0b", 3, why, sizeof(why)), -EINVAL);
	assert_int_equal(name_check_value(SHM_KEY_TEXT, "\xe2\x82", 2, why, sizeof(why)), -EINVAL);
	assert_int_equal(name_check_value(SHM_KEY_TEXT, long_help, SHM_NAME_MAX + 1, why,
					  sizeof(why)), -EINVAL);
	assert_int_equal(name_check_value(SHM_KEY_U64, "1234567", 7, why, sizeof(why)), -EINVAL);
	assert_int_equal(name_check_value(77, "12345678", 8, why, sizeof(why)), -EINVAL);
}

static struct writer w;

static int open_directory(void **state)
{
	(void)state;
	return writer_init(&w);
}

static int close_directory(void **state)
{
	(void)state;
	writer_fini(&w);
	return 0;
}

static void assert_found_as(uint32_t slot, const char *name)
{
	char buf[NAME_DISPLAY_MAX];
	uint32_t generation = 0;

	assert_int_equal(name_display(w.d, slot, buf, sizeof(buf)), strlen(name));
	assert_string_equal(buf, name);
	assert_int_equal(name_find(w.d, name, &generation), slot);
	assert_int_equal(generation, slot_generation(writer_slot(&w, slot)->route));
}

static void every_slot_is_shown_and_found_by_the_same_name(void **state)
{
	uint64_t big = UINT64_MAX, zero = 0, a = 42;
	uint32_t likes, posts, opens, slot;

	(void)state;
	slot = writer_name(&w, SHM_COUNTER, "plain_total", NULL, 0);
	assert_found_as(slot, "plain_total");
	slot = writer_name(&w, SHM_LEVEL, "labelled{a=\"1\",b=\"x\\\"y\"}", NULL, 0);
	assert_found_as(slot, "labelled{a=\"1\",b=\"x\\\"y\"}");
	slot = writer_name(&w, SHM_COUNTER, "one_total{post=\"42\"}", NULL, 0);
	assert_found_as(slot, "one_total{post=\"42\"}");
	likes = writer_name(&w, SHM_FAMILY, "likes_total", "post", SHM_KEY_U64);
	assert_found_as(likes, "likes_total");
	assert_found_as(writer_member(&w, SHM_MEMBER, likes, &a, 8, 0), "likes_total{post=\"42\"}");
	assert_found_as(writer_member(&w, SHM_MEMBER, likes, &zero, 8, 0),
			"likes_total{post=\"0\"}");
	assert_found_as(writer_member(&w, SHM_MEMBER, likes, &big, 8, 0),
			"likes_total{post=\"18446744073709551615\"}");
	posts = writer_name(&w, SHM_LEVEL_FAMILY, "posts", "by", SHM_KEY_TEXT);
	slot = writer_member(&w, SHM_LEVEL_MEMBER, posts, "a\"b\\c\nd", 7, 0);
	assert_found_as(slot, "posts{by=\"a\\\"b\\\\c\\nd\"}");
	slot = writer_member(&w, SHM_LEVEL_MEMBER, posts, "12345678", 8, 0);
	assert_found_as(slot, "posts{by=\"12345678\"}");
	opens = writer_name(&w, SHM_FAMILY, "opens_total", "comm,pid", SHM_KEY_LABELS);
	slot = writer_member(&w, SHM_MEMBER, opens, "comm=\"a,b}\\\"\",pid=\"3\"", 21, 0);
	assert_found_as(slot, "opens_total{comm=\"a,b}\\\"\",pid=\"3\"}");
	assert_found_as(dir_name(w.d, writer_slot(&w, opens)->name)->removed,
			"opens_total{talea=\"removed\"}");
	assert_found_as(dir_name(w.d, writer_slot(&w, likes)->name)->other,
			"likes_total{talea=\"other\"}");
	assert_found_as(dir_name(w.d, writer_slot(&w, posts)->name)->removed,
			"posts{talea=\"removed\"}");
}

static void what_is_not_there_is_not_found(void **state)
{
	static const char *const absent[] = {
		"", "x", "likes_total{post=\"43\"}", "likes_total{post=\"042\"}",
		"likes_total{post=\"\"}", "likes_total{post=\"18446744073709551658\"}",
		"likes_total{post=\"-1\"}", "likes_total{user=\"42\"}", "likes_total{talea=\"x\"}",
		"likes_total{post=\"42\"", "plain_total{talea=\"other\"}", "posts{by=\"\"}",
		"likes_total{post=\"42\",b=\"1\"}", "likes_total{talea=\"\"}",
		"opens_total{comm=\"a\"}", "opens_total{pid=\"3\",comm=\"a\"}",
		"opens_total{comm=\"a\", pid=\"3\"}", "opens_total{comm=\"a\",pid=\"4\"}",
	};
	char long_name[NAME_DISPLAY_MAX + 10], buf[64];
	uint32_t likes, slot, generation = 77;
	uint64_t a = 42;

	(void)state;
	slot = writer_name(&w, SHM_FAMILY, "opens_total", "comm,pid", SHM_KEY_LABELS);
	writer_member(&w, SHM_MEMBER, slot, "comm=\"a\",pid=\"3\"", 16, 0);
	writer_name(&w, SHM_COUNTER, "plain_total", NULL, 0);
	writer_name(&w, SHM_LEVEL_FAMILY, "posts", "by", SHM_KEY_TEXT);
	likes = writer_name(&w, SHM_FAMILY, "likes_total", "post", SHM_KEY_U64);
	slot = writer_member(&w, SHM_MEMBER, likes, &a, 8, 0);
	for (size_t i = 0; i < sizeof(absent) / sizeof(absent[0]); i++)
		assert_int_equal(name_find(w.d, absent[i], &generation), SHM_SLOT_NONE);
	memset(long_name, 'x', sizeof(long_name));
	long_name[sizeof(long_name) - 1] = 0;
	assert_int_equal(name_find(w.d, long_name, &generation), SHM_SLOT_NONE);
	assert_int_equal(generation, 77);
	assert_int_equal(name_display(w.d, 0, buf, sizeof(buf)), -ENOENT);
	assert_int_equal(name_display(w.d, 999, buf, sizeof(buf)), -ENOENT);
	assert_int_equal(name_display(w.d, UINT32_MAX, buf, sizeof(buf)), -ENOENT);
	assert_int_equal(name_display(w.d, slot, buf, 10), -ENAMETOOLONG);
	writer_remove(&w, slot);
	assert_int_equal(name_find(w.d, "likes_total{post=\"42\"}", &generation), SHM_SLOT_NONE);
	assert_int_equal(name_display(w.d, slot, buf, sizeof(buf)), -ENOENT);
}

static void a_removed_slot_keeps_its_last_name_until_it_is_handed_out_again(void **state)
{
	uint32_t likes = writer_name(&w, SHM_FAMILY, "likes_total", "post", SHM_KEY_U64), slot;
	uint32_t generation = 77;
	uint64_t a = 42, b = 43;
	char buf[NAME_DISPLAY_MAX];

	(void)state;
	slot = writer_member(&w, SHM_MEMBER, likes, &a, 8, 0);
	assert_int_equal(name_display_last(w.d, slot, buf, sizeof(buf), &generation), 22);
	assert_int_equal(generation, 1);
	writer_remove(&w, slot);
	assert_int_equal(name_display(w.d, slot, buf, sizeof(buf)), -ENOENT);
	assert_int_equal(name_display_last(w.d, slot, buf, sizeof(buf), &generation), 22);
	assert_string_equal(buf, "likes_total{post=\"42\"}");
	assert_int_equal(generation, 2);
	writer_member(&w, SHM_MEMBER, likes, &b, 8, slot);
	assert_int_equal(name_display_last(w.d, slot, buf, sizeof(buf), &generation), 22);
	assert_string_equal(buf, "likes_total{post=\"43\"}");
	assert_int_equal(generation, 3);
	/* One that was never handed out has none. */
	assert_int_equal(name_display_last(w.d, slot + 1, buf, sizeof(buf), &generation), -ENOENT);
	assert_int_equal(name_display_last(w.d, 0, buf, sizeof(buf), &generation), -ENOENT);
	assert_int_equal(generation, 3);
}

static void damaged_slots_have_no_name(void **state)
{
	uint32_t slot, generation;
	char buf[NAME_DISPLAY_MAX];
	struct slot_shm *s;
	uint64_t good;

	(void)state;
	slot = writer_name(&w, SHM_COUNTER, "plain_total", NULL, 0);
	s = writer_slot(&w, slot);
	good = s->name;
	s->name = name_make(SHM_NAMES_BYTES - 8, 11, SHM_COUNTER);
	assert_int_equal(name_display(w.d, slot, buf, sizeof(buf)), -ENOENT);
	assert_int_equal(name_find(w.d, "plain_total", &generation), SHM_SLOT_NONE);
	s->name = name_make(name_offset(good) + 1, 11, SHM_COUNTER);
	assert_int_equal(name_display(w.d, slot, buf, sizeof(buf)), -ENOENT);
	s->name = name_make(1ull << 39, 11, SHM_MEMBER);
	assert_int_equal(name_display(w.d, slot, buf, sizeof(buf)), -ENOENT);
	s->name = name_make(name_offset(good), 0xffff, SHM_COUNTER);
	assert_int_equal(name_display(w.d, slot, buf, sizeof(buf)), -ENOENT);
	s->name = name_make(name_offset(good), 40, SHM_COUNTER); /* NULs behind the text */
	assert_int_equal(name_display(w.d, slot, buf, sizeof(buf)), -ENOENT);
	s->name = name_make(name_offset(good), 11, SHM_MEMBER); /* its family: no slot */
	assert_int_equal(name_display(w.d, slot, buf, sizeof(buf)), -ENOENT);
	s->name = good;
	assert_found_as(slot, "plain_total");
}

static void globs_match_as_documented(void **state)
{
	static const struct { const char *glob, *name; int want; } cases[] = {
		{ "*", "x_total{a=\"1\"}", 1 },
		{ "x_total", "x_total", 1 },
		{ "x_total", "x_total{a=\"1\"}", 1 },
		{ "x_total", "x_totals", 0 },
		{ "x", "x_total", 0 },
		{ "x*l", "x_total{a=\"1\"}", 1 },
		{ "*tot*", "x_total", 1 },
		{ "?_total", "x_total", 1 },
		{ "?_total", "xx_total", 0 },
		{ "[a-x]_total", "x_total", 1 },
		{ "[!a-x]_total", "x_total", 0 },
		{ "[xyz_total", "[xyz_total", 1 },
		{ "[]x]_total", "x_total", 1 },
		{ "*a*a*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac", 0 },
		{ "", "x_total", 0 },
		{ "x_total{}", "x_total{a=\"1\"}", 1 },
		{ "x_total{a=\"1\"}", "x_total{a=\"1\",b=\"2\"}", 1 },
		{ "x_total{b=\"2\"}", "x_total{a=\"1\",b=\"2\"}", 1 },
		{ "x_total{a=\"1\"}", "x_total{a=\"12\"}", 0 },
		{ "x_total{a=\"1*\"}", "x_total{a=\"12\"}", 1 },
		{ "x_total{a=1*}", "x_total{a=\"12\"}", 1 },
		{ "x*{a=\"1?\"}", "x_total{a=\"12\"}", 1 },
		{ "x_total{c=\"*\"}", "x_total{a=\"12\"}", 0 },
		{ "x_total{a=\"1\"}", "x_total", 0 },
		{ "x_total{a=\"q\\\"\"}", "x_total{a=\"q\\\"\"}", 1 },
		{ "x_total{a=\"\\*\"}", "x_total{a=\"*\"}", 1 },
		{ "x_total{a=\"\\*\"}", "x_total{a=\"b\"}", 0 },
		{ "x_total{a=\"\\n\"}", "x_total{a=\"\\n\"}", 1 },
		{ "x_total{a=\"n\"}", "x_total{a=\"\\n\"}", 0 },
		{ "x_total{a=\"}\"}", "x_total{a=\"}\"}", 1 },
		{ "x_total{a=\"1\"", "x_total{a=\"1\"}", 0 },
		{ "likes_total{post=\"4*\"}", "likes_total{post=\"42\"}", 1 },
		{ "likes_total{post=\"4*\"}", "likes_total{talea=\"other\"}", 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (name_match(cases[i].glob, cases[i].name) != cases[i].want)
			fail_msg("%s against %s is not %d", cases[i].glob, cases[i].name,
				 cases[i].want);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(canonical_names_are_sorted_and_escaped),
		cmocka_unit_test(any_spelling_is_brought_to_the_canonical_one),
		cmocka_unit_test(good_names_pass_the_rules),
		cmocka_unit_test(bad_counters_are_refused_with_a_reason),
		cmocka_unit_test(bad_levels_families_helps_and_keys_are_refused),
		cmocka_unit_test_setup_teardown(every_slot_is_shown_and_found_by_the_same_name,
						open_directory, close_directory),
		cmocka_unit_test_setup_teardown(what_is_not_there_is_not_found, open_directory,
						close_directory),
		cmocka_unit_test_setup_teardown(
			a_removed_slot_keeps_its_last_name_until_it_is_handed_out_again,
			open_directory, close_directory),
		cmocka_unit_test_setup_teardown(damaged_slots_have_no_name, open_directory,
						close_directory),
		cmocka_unit_test(globs_match_as_documented),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

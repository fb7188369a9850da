/*
 * The writers of tools/expo: OpenMetrics, CSV and JSON of counters that were picked, into memory, as
 * a web server would use them: without a command line, a terminal or a daemon.
 */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/test.h"
#include "tools/expo/expo.h"
#include "tools/expo/json.h"
#include "tools/expo/probe.h"

#define AS_OF_NS 1795464399000000007ull
#define AS_OF	 "2026-11-23T20:06:39.000000007Z"

static struct pick list[] = {
	{ .name = "jobs", .help = "Jobs now.", .value = -3, .rate = 0, .state = TALEA_OK,
	  .type = TALEA_TYPE_LEVEL },
	{ .name = "likes_total{post=\"4\\\"2\"}", .help = "Likes\nof a \"post\".", .value = INT64_MAX,
	  .rate = 17.5, .state = TALEA_OK, .type = TALEA_TYPE_COUNTER, .is_hot = true },
	{ .name = "jobs_total", .help = "", .value = 7, .rate = NAN, .state = TALEA_SUSPECT,
	  .type = TALEA_TYPE_COUNTER },
	{ .name = "likes_total{post=\"43\"}", .help = "Likes\nof a \"post\".", .value = 0,
	  .rate = NAN, .state = TALEA_UNKNOWN, .type = TALEA_TYPE_COUNTER,
	  .origin = TALEA_KERNEL },
};
static const struct picks picks = { .list = list, .nr = 4, .epoch = 9, .as_of_ns = AS_OF_NS };

struct sink {
	FILE *f;
	char *text;
	size_t bytes;
};

static void sink_open(struct sink *sink)
{
	sink->f = open_memstream(&sink->text, &sink->bytes);
	assert_non_null(sink->f);
}

static void sink_holds(struct sink *sink, const char *expected)
{
	assert_int_equal(fclose(sink->f), 0);
	assert_string_equal(sink->text, expected);
	free(sink->text);
}

static void openmetrics_keeps_families_together_and_names_distinct(void **state)
{
	struct metric metric = { .family = "talea_rows", .help = "Rows by state.", .label = "state",
				 .label_value = (char *)(uintptr_t)"hot", .value = 2 };
	const struct metrics metrics = { .list = &metric, .nr = 1 };
	struct sink sink;

	(void)state;
	sink_open(&sink);
	assert_int_equal(expo_openmetrics(sink.f, &picks, &metrics), 0);
	sink_holds(&sink, "# TYPE jobs_level gauge\n"
			  "# HELP jobs_level Jobs now.\n"
			  "jobs_level -3\n"
			  "# TYPE jobs counter\n"
			  "# HELP jobs \n"
			  "jobs_total 7\n"
			  "# TYPE likes counter\n"
			  "# HELP likes Likes\\nof a \\\"post\\\".\n"
			  "likes_total{post=\"4\\\"2\"} 9223372036854775807\n"
			  "# TYPE talea_rows gauge\n"
			  "# HELP talea_rows Rows by state.\n"
			  "talea_rows{state=\"hot\"} 2\n"
			  "# EOF\n");
}

static void csv_quotes_labels_and_leaves_unknown_fields_empty(void **state)
{
	struct sink sink;

	(void)state;
	sink_open(&sink);
	assert_int_equal(expo_csv(sink.f, &picks), 0);
	sink_holds(&sink, "name,labels,type,origin,value,rate,state,hot,epoch,as_of\n"
			  "jobs,\"\",level,user,-3,0,ok,0,9," AS_OF "\n"
			  "likes_total,\"{post=\"\"4\\\"\"2\"\"}\",counter,user,"
			  "9223372036854775807,17.5,ok,1,9," AS_OF "\n"
			  "jobs_total,\"\",counter,user,7,,suspect,0,9," AS_OF "\n"
			  "likes_total,\"{post=\"\"43\"\"}\",counter,kernel,,,unknown,0,9," AS_OF "\n");
}

static void ndjson_is_an_object_a_line(void **state)
{
	const struct picks one = { .list = &list[1], .nr = 1, .epoch = 9, .as_of_ns = AS_OF_NS };
	struct sink sink;

	(void)state;
	sink_open(&sink);
	assert_int_equal(expo_ndjson(sink.f, &one, "default"), 0);
	sink_holds(&sink, "{\"schema\":1,\"namespace\":\"default\",\"epoch\":9,\"as_of\":\"" AS_OF
			  "\",\"name\":\"likes_total\",\"type\":\"counter\",\"origin\":\"user\","
			  "\"labels\":{\"post\":\"4\\\"2\"},\"value\":9223372036854775807,"
			  "\"rate\":17.5,"
			  "\"state\":\"ok\",\"hot\":true}\n");
}

static void a_stream_is_one_document_of_any_length(void **state)
{
	struct talea_status st = { .epoch = 9, .age_ns = 5 };
	struct talea_total total = { .value = 3, .rate = NAN, .how = TALEA_SUM, .state = TALEA_OK };

	(void)state;
	snprintf(st.namespace_name, sizeof(st.namespace_name), "a\"b");
	for (int nr = 0; nr < 4; nr++) {
		struct sink sink;
		struct expo_stream stream = { .st = &st, .is_one_line = nr % 2 };
		json_t *doc;

		sink_open(&sink);
		stream.f = sink.f;
		for (int i = 0; i < nr; i++)
			assert_int_equal(expo_stream_put(&stream, "hello_total", &total), 0);
		assert_int_equal(expo_stream_end(&stream), 0);
		assert_int_equal(fclose(sink.f), 0);
		doc = json_loads(sink.text, 0, NULL);
		assert_non_null(doc);
		assert_string_equal(json_string_value(json_object_get(doc, "namespace")), "a\"b");
		assert_int_equal(json_array_size(json_object_get(doc, "counters")), nr);
		assert_int_equal(memchr(sink.text, '\n', sink.bytes - 1) != NULL,
				 nr && !stream.is_one_line);
		json_decref(doc);
		free(sink.text);
	}
}

static void text_that_is_no_utf8_is_shown_with_question_marks(void **state)
{
	json_t *text = json_text("a\xff" "b");

	(void)state;
	assert_string_equal(json_string_value(text), "a?b");
	json_decref(text);
}

static void a_probe_s_counters_come_one_by_one(void **state)
{
	struct wire_probe probe = { .name = "p", .counters = "a_total bb_total" };

	(void)state;
	assert_int_equal(probe_counter(&probe, 0), 7);
	assert_int_equal(probe_counter_next(&probe, 0), 8);
	assert_int_equal(probe_counter(&probe, 8), 8);
	assert_int_equal(probe_counter(&probe, probe_counter_next(&probe, 8)), 0);
	assert_true(probe_feeds(&probe, "bb_total{x=\"1\"}", 8));
	assert_false(probe_feeds(&probe, "bb", 2));
	assert_ptr_equal(probe_find(&probe, 1, "p"), &probe);
	assert_null(probe_find(&probe, 1, "q"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(openmetrics_keeps_families_together_and_names_distinct),
		cmocka_unit_test(csv_quotes_labels_and_leaves_unknown_fields_empty),
		cmocka_unit_test(ndjson_is_an_object_a_line),
		cmocka_unit_test(a_stream_is_one_document_of_any_length),
		cmocka_unit_test(text_that_is_no_utf8_is_shown_with_question_marks),
		cmocka_unit_test(a_probe_s_counters_come_one_by_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

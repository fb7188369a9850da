/*
 * What `talea attach` and [probe NAME] may say: the grammar, its mistakes in words, and that a spec
 * from elsewhere is checked to the last byte. No kernel is asked here.
 */
#include "tests/lib/test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/spec/probe_spec.h"

static struct probe_spec spec_of(const char *text)
{
	struct probe_spec s;
	char why[512];

	if (spec_parse(NULL, text, &s, why, sizeof(why)))
		fail_msg("%s: %s", text, why);
	return s;
}

static void refused(const char *text, const char *words)
{
	struct probe_spec s, before;
	char why[512] = "";

	memset(&s, 0x5a, sizeof(s));
	before = s;
	assert_int_equal(spec_parse(NULL, text, &s, why, sizeof(why)), -EINVAL);
	if (!strstr(why, words))
		fail_msg("\"%s\": \"%s\", and not \"%s\"", text, why, words);
	assert_null(strchr(why, '\n'));
	assert_memory_equal(&s, &before, sizeof(s));
}

static void every_event_has_its_parts(void **state)
{
	static const struct {
		const char *text;
		uint32_t event;
		const char *file, *provider, *target;
	} events[] = {
		{ "tp_btf:tcp_retransmit_skb", SPEC_TP_BTF, "", "", "tcp_retransmit_skb" },
		{ "raw_tp:sched_process_exec", SPEC_RAW_TP, "", "", "sched_process_exec" },
		{ "fentry:vfs_read", SPEC_FENTRY, "", "", "vfs_read" },
		{ "fexit:vfs_read", SPEC_FEXIT, "", "", "vfs_read" },
		{ "uprobe:libc.so.6:malloc", SPEC_UPROBE, "libc.so.6", "", "malloc" },
		{ "uprobe:/a:b=c/d:main.(*T).f", SPEC_UPROBE, "/a:b=c/d", "", "main.(*T).f" },
		{ "uretprobe:/bin/sh:main", SPEC_URETPROBE, "/bin/sh", "", "main" },
		{ "usdt:/bin/sh:p:n", SPEC_USDT, "/bin/sh", "p", "n" },
		{ " \tusdt:/a:b:p:n\t ", SPEC_USDT, "/a:b", "p", "n" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
		struct probe_spec s = spec_of(events[i].text);

		assert_int_equal(s.event, events[i].event);
		assert_string_equal(s.file, events[i].file);
		assert_string_equal(s.provider, events[i].provider);
		assert_string_equal(s.target, events[i].target);
		assert_int_equal(s.keys_nr, 0);
		assert_int_equal(s.keys_max, 0);
		assert_int_equal(s.amount.field, SPEC_NONE);
	}
}

static void every_key_becomes_a_label(void **state)
{
	static const struct {
		const char *word;
		uint8_t field, arg, kind, bytes;
	} keys[] = {
		{ "cpu", SPEC_CPU, 0, TALEA_KEY_CPU, 8 },
		{ "pid", SPEC_PID, 0, TALEA_KEY_PID, 8 },
		{ "tgid", SPEC_TGID, 0, TALEA_KEY_TGID, 8 },
		{ "uid", SPEC_UID, 0, TALEA_KEY_UID, 8 },
		{ "comm", SPEC_COMM, 0, TALEA_KEY_TEXT, 16 },
		{ "cgroup", SPEC_CGROUP, 0, TALEA_KEY_CGROUP, 8 },
		{ "arg0", SPEC_ARG, 0, TALEA_KEY_U64, 8 },
		{ "arg5", SPEC_ARG, 5, TALEA_KEY_U64, 8 },
		{ "retval", SPEC_RETVAL, 0, TALEA_KEY_S64, 8 },
		{ "errno", SPEC_ERRNO, 0, TALEA_KEY_ERRNO, 8 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		struct talea_counter_def def;
		struct probe_spec s;
		char text[64];

		snprintf(text, sizeof(text), "fexit:f by %s", keys[i].word);
		s = spec_of(text);
		assert_int_equal(s.keys_nr, 1);
		assert_int_equal(s.keys[0].field, keys[i].field);
		assert_int_equal(s.keys[0].arg, keys[i].arg);
		assert_int_equal(s.keys_max, SPEC_KEYS_MAX_DEFAULT);
		spec_counter(&s, &def);
		assert_string_equal(def.keys[0].label, keys[i].word);
		assert_int_equal(def.keys[0].kind, keys[i].kind);
		assert_int_equal(counter_key_bytes(&def), keys[i].bytes);
		assert_string_equal(def.map, "counts");
		assert_int_equal(def.version, TALEA_BPF_VERSION);
	}
}

static void clauses_are_read_in_any_order_with_any_blanks(void **state)
{
	struct probe_spec a = spec_of("x_total=fexit:f by comm,tgid,arg2 if retval<0 and uid != 1000 "
				      "and comm==\"a b\" and arg1&0x10 add arg3 max 17");
	struct probe_spec b = spec_of("x_total=fexit:f\tmax 17  add arg3 if retval < 0 and uid!=1000 "
				      "and comm = \"a b\" and arg1 & 16   by comm , tgid , arg2 ");
	static const uint32_t ops[] = { SPEC_LT, SPEC_NE, SPEC_EQ, SPEC_AND };
	struct talea_counter_def def;

	(void)state;
	assert_true(spec_equals(&a, &b));
	assert_int_equal(a.keys_nr, 3);
	assert_int_equal(a.keys_max, 17);
	assert_int_equal(a.filters_nr, 4);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(a.filters[i].op, ops[i]);
	assert_int_equal(a.filters[1].value, 1000);
	assert_string_equal(a.filters[2].text, "a b");
	assert_int_equal(a.filters[3].value, 16);
	assert_int_equal(a.amount.field, SPEC_ARG);
	assert_int_equal(a.amount.arg, 3);
	spec_counter(&a, &def);
	assert_int_equal(counter_key_bytes(&def), 32);
}

static void every_operator_and_number_is_read(void **state)
{
	static const struct {
		const char *text;
		uint32_t op;
		int64_t value;
	} filters[] = {
		{ "arg0 == 1", SPEC_EQ, 1 }, { "arg0=1", SPEC_EQ, 1 },
		{ "arg0 != -1", SPEC_NE, -1 }, { "arg0<2", SPEC_LT, 2 },
		{ "arg0 <= 0", SPEC_LE, 0 }, { "arg0>3", SPEC_GT, 3 },
		{ "arg0 >= 9223372036854775807", SPEC_GE, INT64_MAX },
		{ "arg0 >= -9223372036854775808", SPEC_GE, INT64_MIN },
		{ "arg0 & 0xffffffffffffffff", SPEC_AND, -1 },
		{ "arg0 == 0X7f", SPEC_EQ, 127 }, { "errno == EAGAIN", SPEC_EQ, EAGAIN },
		{ "errno == 11", SPEC_EQ, 11 }, { "retval == 007", SPEC_EQ, 7 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++) {
		struct probe_spec s;
		char text[96];

		snprintf(text, sizeof(text), "fexit:f if %s", filters[i].text);
		s = spec_of(text);
		assert_int_equal(s.filters[0].op, filters[i].op);
		assert_true(s.filters[0].value == filters[i].value);
	}
	assert_string_equal(spec_of("raw_tp:a if cgroup == /x.slice").filters[0].text, "/x.slice");
}

static const char *const mistakes[][2] = {
	{ "", "expected an event, such as" },
	{ "kprobe:x", "there are no kprobes: for a kernel function use fentry:x" },
	{ "sys_enter", "sys_enter is no event: which one? try raw_tp:sys_enter" },
	{ "zebra:x", "there is no event zebra; expected tp_btf:" },
	{ "raw_tp", "expected raw_tp:NAME" },
	{ "raw_tp:", "expected raw_tp:NAME" },
	{ "raw_tp:a:b", "expected raw_tp:NAME" },
	{ "uprobe:malloc", "expected uprobe:FILE:SYMBOL" },
	{ "uprobe::malloc", "expected uprobe:FILE:SYMBOL" },
	{ "uprobe:/a:", "expected uprobe:FILE:SYMBOL" },
	{ "usdt:/a:b", "expected usdt:FILE:PROVIDER:NAME" },
	{ "usdt:/a::b", "expected usdt:FILE:PROVIDER:NAME" },
	{ "uprobe:./a:b", "expected an absolute path" },
	{ "uprobe:a/b:c", "expected an absolute path" },
	{ "raw_tp:a by com", "there is no field com (did you mean comm?)" },
	{ "raw_tp:a by", "expected a field: cpu, pid" },
	{ "raw_tp:a by comm,", "expected a field: cpu, pid" },
	{ "raw_tp:a by comm,comm", "the same key twice" },
	{ "raw_tp:a by cpu,pid,tgid,uid", "at most 3 keys together" },
	{ "raw_tp:a by arg6", "expected arg0 to arg5, got arg6" },
	{ "raw_tp:a by arg01", "expected arg0 to arg5, got arg01" },
	{ "raw_tp:a by retval", "expected fexit, uretprobe, or the tracepoint sys_exit" },
	{ "raw_tp:sys_enter by errno", "expected fexit, uretprobe, or the tracepoint" },
	{ "uretprobe:/a:b by arg0", "the arguments are gone when a function returns" },
	{ "raw_tp:a bye comm", "expected by, if, add or max, got bye (did you mean by?)" },
	{ "raw_tp:a by comm by pid", "by stands there twice" },
	{ "raw_tp:a if pid", "expected one of == != <" },
	{ "raw_tp:a if pid ~ 3", "expected one of == != <" },
	{ "raw_tp:a if pid ==", "expected a value behind" },
	{ "raw_tp:a if pid == x", "expected a number (42, -1, 0xff), got \"x\"" },
	{ "raw_tp:a if pid == 1x", "expected a number" },
	{ "raw_tp:a if pid == -", "expected a number" },
	{ "raw_tp:a if pid == 0x", "expected a number" },
	{ "raw_tp:a if pid == 9223372036854775808", "expected a number" },
	{ "raw_tp:a if pid == 99999999999999999999", "expected a number" },
	{ "fexit:a if errno == EBANANA", "or a name as EAGAIN, got \"EBANANA\"" },
	{ "raw_tp:a if comm < x", "compared with == and != alone" },
	{ "raw_tp:a if comm == 1234567890123456", "the kernel keeps 15 bytes" },
	{ "raw_tp:a if comm == \"\"", "the kernel keeps 15 bytes" },
	{ "raw_tp:a if comm == \"x", "expected \" at the end" },
	{ "raw_tp:a if cgroup == x", "expected a cgroup's path below" },
	{ "raw_tp:a if cgroup > /x", "compared with == and != alone" },
	{ "raw_tp:a if cpu==1 and cpu==2 and cpu==3 and cpu==4 and cpu==5", "at most 4 comp" },
	{ "raw_tp:a if cpu == 1 and", "expected a field" },
	{ "raw_tp:a add comm", "expected an argument (arg0 to arg5) or retval" },
	{ "raw_tp:a add 7", "there is no field 7" },
	{ "raw_tp:a max 7", "without keys" },
	{ "raw_tp:a by comm max 0", "expected a number from 1 to 1048576" },
	{ "raw_tp:a by comm max 1048577", "expected a number from 1 to 1048576" },
	{ "raw_tp:a by comm max", "expected a number from 1 to 1048576" },
	{ "=raw_tp:a", "expected the name of a counter before =" },
	{ "a_total{b=\"c\"}=raw_tp:a", "labels come from the keys alone" },
	{ "uprobe:/proc/self/exe:main", "is talead's own here" },
	{ "execs=raw_tp:a", "a counter's name ends in _total: execs_total" },
	{ "kernel_x_total=raw_tp:a", "talea's own" },
	{ "raw_tp:a\nby comm", "control character" },
	{ "raw_tp:a if comm == \xc2\x9b" "31m", "control character" },
	{ "raw_tp:a if comm == \xff", "not UTF-8" },
	{ "raw_tp:\xc3\xa4", "a character that no name has" },
};

static void mistakes_are_said_in_words(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++)
		refused(mistakes[i][0], mistakes[i][1]);
}

static void what_is_too_long_is_refused_and_what_fits_is_not(void **state)
{
	char text[SPEC_TEXT_MAX + 64], name[400];

	(void)state;
	memset(name, 'a', sizeof(name));
	snprintf(text, sizeof(text), "raw_tp:%.127s", name);
	assert_int_equal(strlen(spec_of(text).target), 127);
	snprintf(text, sizeof(text), "raw_tp:%.128s", name);
	refused(text, "has 128 bytes, at most 127 fit");
	snprintf(text, sizeof(text), "uprobe:/%.254s:f", name);
	assert_int_equal(strlen(spec_of(text).file), 255);
	snprintf(text, sizeof(text), "uprobe:/%.255s:f", name);
	refused(text, "has 256 bytes, at most 255 fit");
	snprintf(text, sizeof(text), "usdt:/a:%.64s:f", name);
	refused(text, "has 64 bytes, at most 63 fit");
	memset(text, ' ', sizeof(text));
	memcpy(text, "raw_tp:a", 8);
	memcpy(text + SPEC_TEXT_MAX - 10, "by comm", 8);
	assert_int_equal(strlen(spec_of(text).text), SPEC_TEXT_MAX - 3);
	memset(text + 8, ' ', SPEC_TEXT_MAX);
	memcpy(text + SPEC_TEXT_MAX - 6, "by comm", 8);
	refused(text, "has 513 bytes, at most 511 fit");
}

/* Whatever an event is called, its probe and its counter have names that may be. */
static void names_made_of_events_follow_the_rules(void **state)
{
	static const char *const names[][3] = {
		{ "raw_tp:sched_switch", "probe_sched_switch_total", "sched_switch" },
		{ "uprobe:/a:_ZN3Foo3barEv", "probe_zn3foo3barev_total", "zn3foo3barev" },
		{ "uprobe:/a:sleep_ms", "probe_sleepms_total", "sleepms" },
		{ "uprobe:/a:bits", "probe_xbits_total", "xbits" },
		{ "uprobe:/a:do_x_y_ms", "probe_doxyms_total", "doxyms" },
		{ "uprobe:/a:read_bytes", "probe_read_bytes_total", "read_bytes" },
		{ "uprobe:/a:...", "probe_x_total", "x" },
		{ "uprobe:/a:9", "probe_9_total", "9" },
		{ "uprobe:/a:forks", "probe_forks_total", "forks_probe" },
		{ "opens_total=raw_tp:a", "opens_total", "opens" },
	};
	struct probe_spec s, other;
	char text[200];

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		s = spec_of(names[i][0]);
		assert_string_equal(s.counter, names[i][1]);
		assert_string_equal(s.name, names[i][2]);
	}
	snprintf(text, sizeof(text), "raw_tp:%0127d", 1);
	s = spec_of(text);
	snprintf(text, sizeof(text), "raw_tp:%0127d", 2);
	other = spec_of(text);
	assert_string_not_equal(s.counter, other.counter);
	assert_string_not_equal(s.name, other.name);
}

static void a_name_that_is_given_is_the_probe_s(void **state)
{
	struct probe_spec s;
	char why[512];

	(void)state;
	assert_int_equal(spec_parse("my.probe-1", "raw_tp:a", &s, why, sizeof(why)), 0);
	assert_string_equal(s.name, "my.probe-1");
	assert_int_equal(spec_parse("a/b", "raw_tp:a", &s, why, sizeof(why)), -EINVAL);
	assert_int_equal(spec_parse("..", "raw_tp:a", &s, why, sizeof(why)), -EINVAL);
	assert_int_equal(spec_parse("", "raw_tp:a", &s, why, sizeof(why)), -EINVAL);
	assert_int_equal(spec_parse("forks", "raw_tp:a", &s, why, sizeof(why)), -EINVAL);
	assert_non_null(strstr(why, "talead's own"));
}

/* No byte of a spec may be anything: each that is changed is found out, or means another probe. */
static void a_spec_from_elsewhere_is_checked_to_the_last_byte(void **state)
{
	const struct probe_spec good = spec_of("usdt:/a:p:n by comm,arg1 if comm == x and pid > 3 "
					       "add arg0");
	struct probe_spec s = good;
	char why[512];

	(void)state;
	assert_int_equal(spec_check(&good, why, sizeof(why)), 0);
	for (size_t at = 0; at < sizeof(s); at++) {
		unsigned char *byte = (unsigned char *)&s + at;
		bool is_words = at < offsetof(struct probe_spec, file) ||
				at >= offsetof(struct probe_spec, text);

		*byte ^= 0x80;
		why[0] = '\0';
		if (!spec_check(&s, why, sizeof(why)))
			assert_true(is_words || !spec_equals(&s, &good));
		else
			assert_true(*why);
		*byte ^= 0x80;
	}
	memset(&s, 0xff, sizeof(s));
	assert_int_equal(spec_check(&s, why, sizeof(why)), -EINVAL);
	memset(&s, 0, sizeof(s));
	assert_int_equal(spec_check(&s, why, sizeof(why)), -EINVAL);
}

#define check_refused(spec, change)                                           \
	do {                                                                  \
		struct probe_spec s = (spec);                                 \
		char why[512];                                                \
		change;                                                       \
		if (spec_check(&s, why, sizeof(why)) != -EINVAL)              \
			fail_msg("line %d: %s was let through", __LINE__, #change); \
	} while (0)

static void what_no_text_could_say_is_refused(void **state)
{
	const struct probe_spec plain = spec_of("raw_tp:a"), keyed = spec_of("raw_tp:a by comm,arg0");
	const struct probe_spec filtered = spec_of("raw_tp:a if comm == x and pid == 3");

	(void)state;
	check_refused(plain, memset(s.name, 'a', sizeof(s.name)));
	check_refused(plain, memset(s.text, 'a', sizeof(s.text)));
	check_refused(plain, strcpy(s.name, "../a"));
	check_refused(plain, s.name[sizeof(s.name) - 1] = 'x');
	check_refused(plain, s.event = 0);
	check_refused(plain, s.event = SPEC_EVENTS_NR);
	check_refused(plain, s.event = SPEC_UPROBE);
	check_refused(plain, s.event = SPEC_OBJECT);
	check_refused(plain, strcpy(s.file, "/x"));
	check_refused(plain, strcpy(s.target, "a b"));
	check_refused(plain, s.target[0] = '\0');
	check_refused(plain, s.keys_max = 1);
	check_refused(plain, s.keys[0].field = SPEC_CPU);
	check_refused(plain, s.filters[3].value = 1);
	check_refused(plain, s.amount.arg = 1);
	check_refused(plain, s.amount.field = SPEC_CPU);
	check_refused(plain, s.help[0] = '\0');
	check_refused(plain, strcpy(s.counter, "talea_x_total"));
	check_refused(plain, strcpy(s.counter, "a_total{x=\"y\"}"));
	check_refused(keyed, s.keys_nr = TALEA_KEYS_MAX + 1);
	check_refused(keyed, s.keys_nr = UINT32_MAX);
	check_refused(keyed, s.keys_nr = 1);
	check_refused(keyed, s.keys_nr = 3);
	check_refused(keyed, s.keys_max = 0);
	check_refused(keyed, s.keys_max = SPEC_KEYS_MAX_MAX + 1);
	check_refused(keyed, s.keys[0].arg = 1);
	check_refused(keyed, s.keys[1].arg = 6);
	check_refused(keyed, s.keys[0].field = SPEC_FIELDS_NR);
	check_refused(keyed, s.keys[1].reserved[5] = 1);
	check_refused(filtered, s.filters_nr = SPEC_FILTERS_MAX + 1);
	check_refused(filtered, s.filters_nr = 1);
	check_refused(filtered, s.filters[0].op = 0);
	check_refused(filtered, s.filters[0].op = SPEC_OPS_NR);
	check_refused(filtered, s.filters[0].op = SPEC_GT);
	check_refused(filtered, s.filters[0].value = 1);
	check_refused(filtered, memset(s.filters[0].text, 'a', sizeof(s.filters[0].text)));
	check_refused(filtered, s.filters[1].text[0] = 'a');
	check_refused(filtered, s.filters[1].reserved = 1);
}

static void an_object_has_a_name_and_a_path_and_nothing_else(void **state)
{
	struct probe_spec good = { .name = "mine", .file = "/etc/x.bpf.o", .event = SPEC_OBJECT,
				   .text = "object:/etc/x.bpf.o" };
	char why[512];

	(void)state;
	assert_int_equal(spec_check(&good, why, sizeof(why)), 0);
	check_refused(good, strcpy(s.file, "x.bpf.o"));
	check_refused(good, s.file[0] = '\0');
	check_refused(good, strcpy(s.target, "x"));
	check_refused(good, strcpy(s.counter, "x_total"));
	check_refused(good, s.keys_max = 1);
	check_refused(good, s.amount.field = SPEC_ARG);
	refused("object:/etc/x.bpf.o", "there is no event object");
}

static void specs_are_equal_but_for_their_names(void **state)
{
	static const char *const others[] = {
		"a_total=tp_btf:a by comm", "a_total=raw_tp:b by comm", "a_total=raw_tp:a",
		"a_total=raw_tp:a by pid", "a_total=raw_tp:a by comm max 3", "b_total=raw_tp:a by comm",
		"a_total=raw_tp:a by comm if pid==3", "a_total=raw_tp:a by comm add arg0",
	};
	struct probe_spec a = spec_of("a_total=raw_tp:a by comm"), b = a;

	(void)state;
	strcpy(b.name, "other");
	strcpy(b.help, "Other words.");
	strcpy(b.text, "a_total=raw_tp:a  by comm");
	assert_true(spec_equals(&a, &b));
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		b = spec_of(others[i]);
		assert_false(spec_equals(&a, &b));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_event_has_its_parts),
		cmocka_unit_test(every_key_becomes_a_label),
		cmocka_unit_test(clauses_are_read_in_any_order_with_any_blanks),
		cmocka_unit_test(every_operator_and_number_is_read),
		cmocka_unit_test(mistakes_are_said_in_words),
		cmocka_unit_test(what_is_too_long_is_refused_and_what_fits_is_not),
		cmocka_unit_test(names_made_of_events_follow_the_rules),
		cmocka_unit_test(a_name_that_is_given_is_the_probe_s),
		cmocka_unit_test(a_spec_from_elsewhere_is_checked_to_the_last_byte),
		cmocka_unit_test(what_no_text_could_say_is_refused),
		cmocka_unit_test(an_object_has_a_name_and_a_path_and_nothing_else),
		cmocka_unit_test(specs_are_equal_but_for_their_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

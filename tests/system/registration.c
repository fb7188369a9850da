/*
 * Registering over the control socket, spoken by hand and through the library: batches, repeats,
 * conflicts, quotas and caps. What is refused still counts, in a place that can be named.
 */
#include "tests/lib/test.h"

#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "client/include/talea.h"
#include "tests/lib/harness.h"
#include "tests/lib/raw.h"

#define BATCH 1000

static struct harness h;
static _Alignas(8) char request[WIRE_MAX], reply[WIRE_MAX];

static int start(void **state)
{
	(void)state;
	harness_start(&h, NULL,
		      "[namespace small]\ncounters-max = 10\n"
		      "[namespace shared]\nusers = root,65533\nread-users = 65532\n"
		      "counters-max-per-uid = 5\n"
		      "[counter capped_total]\nlabels-max = 5\n"
		      "[counter capped]\nlabels-max = 3\n");
	return 0;
}

static int clean_up(void **state)
{
	(void)state;
	harness_cleanup(&h);
	return 0;
}

static int connect_to(const char *name_space)
{
	int sock = raw_connect(h.socket);

	assert_true(sock >= 0);
	assert_int_equal(raw_hello(sock, name_space, WIRE_WRITE, NULL, NULL), 0);
	return sock;
}

static struct wire_register *make_batch(uint32_t number, const char *prefix, unsigned int nr)
{
	struct wire_register *m = (void *)request;
	char name[64];

	raw_begin(m, WIRE_REGISTER, number, sizeof(*m));
	for (unsigned int i = 0; i < nr; i++) {
		snprintf(name, sizeof(name), "%s_%u_total", prefix, i);
		assert_int_equal(raw_put_counter(m, name, "Of a test."), 0);
	}
	return m;
}

static const struct wire_registered *exchange(int sock)
{
	const struct wire_register *m = (void *)request;
	const struct wire_registered *r = (void *)reply;
	ssize_t n;

	assert_int_equal(wire_send(sock, m, NULL, 0, 0), 0);
	n = raw_recv(sock, reply, sizeof(reply));
	assert_true(n > 0);
	assert_int_equal(wire_admin_check(reply, (size_t)n), 0);
	assert_int_equal(r->head.kind, WIRE_REGISTERED);
	assert_int_equal(r->head.number, m->head.number);
	assert_int_equal(r->nr, m->nr);
	return r;
}

static int order_of_slots(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void a_thousand_names_are_registered_in_one_exchange_and_found_again(void **state)
{
	uint32_t slots[BATCH], sorted[BATCH];
	const struct wire_registered *r;
	int sock = connect_to("default");
	uint64_t begin;

	(void)state;
	make_batch(41, "batch", BATCH);
	begin = harness_now_ns();
	r = exchange(sock);
	print_message("# register_%d: %.2f ms\n", BATCH,
		      (double)(harness_now_ns() - begin) / 1e6);
	for (int i = 0; i < BATCH; i++) {
		assert_int_equal(r->results[i].err, 0);
		assert_int_equal(r->results[i].generation & 1, 1);
		assert_true(r->results[i].slot >= SHM_SLOT_FIRST);
		slots[i] = sorted[i] = r->results[i].slot;
	}
	qsort(sorted, BATCH, sizeof(sorted[0]), order_of_slots);
	for (int i = 1; i < BATCH; i++)
		assert_int_not_equal(sorted[i], sorted[i - 1]);
	/* The same again, then by another connection, then by another worker, then another keeper. */
	for (int round = 0; round < 4; round++) {
		if (round == 2)
			harness_kill_worker(&h);
		else if (round == 3)
			harness_kill_keeper(&h);
		if (round) {
			close(sock);
			sock = connect_to("default");
		}
		r = exchange(sock);
		for (int i = 0; i < BATCH; i++) {
			assert_int_equal(r->results[i].err, 0);
			assert_int_equal(r->results[i].slot, slots[i]);
		}
	}
	close(sock);
	harness_stop(&h);
}

static void a_batch_may_name_one_counter_twice(void **state)
{
	int sock = connect_to("default");
	const struct wire_registered *r;

	(void)state;
	make_batch(5, "twice", 1);
	raw_put_counter((void *)request, "twice_0_total", "Of a test.");
	r = exchange(sock);
	assert_int_equal(r->results[0].err, 0);
	assert_int_equal(r->results[1].err, 0);
	assert_int_equal(r->results[0].slot, r->results[1].slot);
	close(sock);
	harness_stop(&h);
}

static void bad_entries_are_refused_alone_with_a_reason(void **state)
{
	int sock = connect_to("default");
	const struct wire_registered *r;
	struct wire_entry e = { .type = SHM_HISTOGRAM, .name_bytes = 7, .help_bytes = 1 };
	struct wire_register *m;

	(void)state;
	m = make_batch(5, "good", 2);
	raw_put_counter(m, "no_suffix", "Of a test.");
	raw_put_counter(m, "talea_mine_total", "Of a test.");
	wire_entry_put(m, &e, "x_total", "h", NULL);
	e.type = SHM_MEMBER;
	e.family = 4000000;
	e.family_generation = 1;
	wire_entry_put(m, &e, "x_total", "h", NULL);
	e.type = SHM_REMOVED;
	wire_entry_put(m, &e, "x_total", "h", NULL);
	r = exchange(sock);
	assert_int_equal(r->results[0].err, 0);
	assert_int_equal(r->results[1].err, 0);
	assert_int_equal(r->results[2].err, -EINVAL);
	assert_int_equal(r->results[3].err, -EINVAL);
	assert_int_equal(r->results[4].err, -EOPNOTSUPP);
	assert_int_equal(r->results[5].err, -EINVAL);
	assert_true(r->results[6].err < 0);
	for (int i = 2; i < 7; i++) {
		const char *text = (const char *)&r->results[r->nr] + r->results[i].text_at;

		assert_true(strlen(text) > 10);
		assert_true(r->results[i].slot == SHM_SLOT_OVERFLOW);
	}
	close(sock);
	harness_stop(&h);
}

/* --- through the library ------------------------------------------------------------------- */

static struct talea *open_in(const char *name_space)
{
	struct talea_options options = { .size = sizeof(options), .ns = name_space,
					 .flags = TALEA_NEED_DAEMON };
	struct talea *t;

	CHECK(talea_open(&t, &options) == 0);
	return t;
}

static int64_t value_of(struct talea *t, const char *name)
{
	struct talea_total n = { .size = sizeof(n) };

	CHECK(talea_sync(t, 5000) == 0);
	CHECK(talea_read_name(t, name, TALEA_COMPACTED, 0, &n) == 0);
	return n.value;
}

static int declare_first(void *arg)
{
	struct talea *t = open_in("default");
	struct talea_counter c;
	struct talea_level l;

	(void)arg;
	CHECK(talea_counter(t, &c, "conflict_total", "One help.", NULL) == 0);
	talea_add(c, 7);
	CHECK(talea_level(t, &l, "conflicting", "One help.", 0, NULL) == 0);
	talea_close(t);
	return 0;
}

static int declare_otherwise(void *arg)
{
	struct talea *t = open_in("default");
	struct talea_counter c;
	struct talea_family f;
	struct talea_level l;
	const char *text;

	(void)arg;
	CHECK(talea_counter(t, &c, "conflict_total", "Another help.", NULL) == -EEXIST);
	text = talea_strerror(t, -EEXIST);
	CHECK(strstr(text, "One help.") && strstr(text, "Another help."));
	talea_add(c, 11);
	CHECK(talea_family(t, &f, "conflict_total", "One help.", "key") == -EEXIST);
	text = talea_strerror(t, -EEXIST);
	CHECK(strstr(text, "counter") && strstr(text, "family"));
	CHECK(talea_level(t, &l, "conflicting", "Another help.", 0, NULL) == -EEXIST);
	talea_level_add(l, -5);
	CHECK(value_of(t, "conflict_total") == 7);
	CHECK(value_of(t, "talea_overflow_total") == 11);
	CHECK(value_of(t, "talea_overflow") == -5);
	talea_close(t);
	return 0;
}

/* The same inside one program: the first declaration stands, the second counts in overflow. */
static int declare_twice(void *arg)
{
	struct talea *t = open_in("default");
	struct talea_counter c;

	(void)arg;
	CHECK(talea_counter(t, &c, "conflict_total", "One help.", NULL) == 0);
	talea_add(c, 1);
	CHECK(talea_counter(t, &c, "conflict_total", "Another help.", NULL) == -EEXIST);
	talea_add(c, 1);
	CHECK(talea_counter(t, &c, "conflict_total", "One help.", NULL) == 0);
	talea_add(c, 1);
	CHECK(value_of(t, "conflict_total") == 9);
	CHECK(value_of(t, "talea_overflow_total") == 12);
	talea_close(t);
	return 0;
}

static void a_conflict_says_both_sides_and_counts_in_overflow(void **state)
{
	(void)state;
	harness_run(&h, declare_first, NULL);
	harness_run(&h, declare_otherwise, NULL);
	harness_run(&h, declare_twice, NULL);
	harness_stop(&h);
}

static int fill_namespace(void *arg)
{
	struct talea *t = open_in("small");
	struct talea_counter c;
	char name[64];
	int refused = 0;

	(void)arg;
	for (int i = 0; i < 30; i++) {
		int err;

		snprintf(name, sizeof(name), "quota_%d_total", i);
		err = talea_counter(t, &c, name, "Of a test.", NULL);
		CHECK(err == 0 || err == -EDQUOT);
		CHECK((err != 0) == (i >= 10));
		refused += err == -EDQUOT;
		talea_add(c, 3);
	}
	CHECK(refused == 20);
	CHECK(strstr(talea_strerror(t, -EDQUOT), "counters-max"));
	for (int i = 0; i < 10; i++) {
		snprintf(name, sizeof(name), "quota_%d_total", i);
		CHECK(value_of(t, name) == 3);
	}
	CHECK(value_of(t, "talea_overflow_total") == 60);
	talea_close(t);
	/* Other namespaces have room. */
	t = open_in("default");
	CHECK(talea_counter(t, &c, "quota_29_total", "Of a test.", NULL) == 0);
	talea_close(t);
	return 0;
}

static void over_quota_kept_and_overflow_make_all_adds(void **state)
{
	(void)state;
	harness_run(&h, fill_namespace, NULL);
	harness_stop(&h);
}

static int fill_family(void *arg)
{
	struct talea *t = open_in("default");
	struct talea_counter c;
	struct talea_family f;
	int64_t sum = 0;

	(void)arg;
	CHECK(talea_family(t, &f, "capped_total", "Of a test.", "key:u64") == 0);
	for (uint64_t key = 0; key < 20; key++) {
		int err = talea_family_add(&f, &key, sizeof(key), 2);

		CHECK(err == (key < 5 ? 0 : -EDQUOT));
	}
	for (uint64_t key = 0; key < 20; key++) {
		CHECK(talea_family_get(&f, &key, sizeof(key), &c) == (key < 5 ? 0 : -EDQUOT));
		talea_add(c, 1);
	}
	for (int key = 0; key < 5; key++) {
		char name[64];

		snprintf(name, sizeof(name), "capped_total{key=\"%d\"}", key);
		CHECK(value_of(t, name) == 3);
		sum += 3;
	}
	CHECK(sum + value_of(t, "capped_total{talea=\"other\"}") == 60);
	talea_close(t);
	return 0;
}

static int fill_level_family(void *arg)
{
	struct talea *t = open_in("default");
	struct talea_family f;

	(void)arg;
	CHECK(talea_level_family(t, &f, "capped", "Of a test.", "key") == 0);
	for (int i = 0; i < 6; i++) {
		char key = (char)('a' + i);

		CHECK(talea_level_family_add(&f, &key, 1, -2) == (i < 3 ? 0 : -EDQUOT));
	}
	CHECK(value_of(t, "capped{key=\"a\"}") == -2);
	CHECK(value_of(t, "capped{talea=\"other\"}") == -6);
	talea_close(t);
	return 0;
}

static void a_family_over_its_cap_counts_in_other(void **state)
{
	(void)state;
	harness_run(&h, fill_family, NULL);
	harness_run(&h, fill_level_family, NULL);
	harness_stop(&h);
}

/* --- other uids ---------------------------------------------------------------------------- */

static void become(uid_t uid)
{
	CHECK(setgroups(0, NULL) == 0 && setgid(uid) == 0 && setuid(uid) == 0);
}

static int stranger_is_refused(void *arg)
{
	struct talea_options options = { .size = sizeof(options), .flags = TALEA_NEED_DAEMON };
	struct talea *t = NULL;
	int fds[3], sock;

	(void)arg;
	become(65533);
	CHECK(talea_open(&t, &options) == -EACCES);
	CHECK(t == NULL);
	sock = raw_connect(h.socket);
	CHECK(sock >= 0);
	CHECK(raw_hello(sock, "default", WIRE_READ, NULL, fds) == -EACCES);
	close(sock);
	sock = raw_connect(h.socket);
	CHECK(raw_hello(sock, "default", WIRE_WRITE, NULL, fds) == -EACCES);
	close(sock);
	sock = raw_connect(h.socket);
	CHECK(raw_hello(sock, "no_such", WIRE_WRITE, NULL, fds) < 0);
	close(sock);
	return 0;
}

static int member_may_add(void *arg)
{
	struct talea_counter c;
	struct talea *t;
	char name[64];

	(void)arg;
	become(65533);
	t = open_in("shared");
	for (int i = 0; i < 5; i++) {
		snprintf(name, sizeof(name), "member_%d_total", i);
		CHECK(talea_counter(t, &c, name, "Of a test.", NULL) == 0);
		talea_add(c, 4);
		CHECK(value_of(t, name) == 4);
	}
	CHECK(talea_counter(t, &c, "member_5_total", "Of a test.", NULL) == -EDQUOT);
	CHECK(strstr(talea_strerror(t, -EDQUOT), "per-uid"));
	talea_close(t);
	return 0;
}

static int reader_may_only_read(void *arg)
{
	struct wire_welcome welcome;
	int fds[3], sock;
	void *map;

	(void)arg;
	become(65532);
	sock = raw_connect(h.socket);
	CHECK(raw_hello(sock, "shared", WIRE_WRITE, NULL, NULL) == -EACCES);
	close(sock);
	sock = raw_connect(h.socket);
	CHECK(raw_hello(sock, "shared", WIRE_READ, &welcome, fds) == 0);
	for (int i = 0; i < 3; i++) {
		char path[64];

		map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fds[i], 0);
		CHECK(map == MAP_FAILED);
		map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fds[i], 0);
		CHECK(map != MAP_FAILED);
		CHECK(mprotect(map, 4096, PROT_READ | PROT_WRITE) != 0);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fds[i]);
		CHECK(access(path, W_OK) != 0);
	}
	make_batch(9, "reader", 1);
	CHECK(wire_send(sock, request, NULL, 0, 0) == 0);
	CHECK(raw_recv(sock, reply, sizeof(reply)) > 0);
	CHECK(((struct wire_error *)(void *)reply)->head.kind == WIRE_ERROR);
	CHECK(((struct wire_error *)(void *)reply)->err == -EACCES);
	close(sock);
	return 0;
}

static int writer_gets_only_shards_writable(void *arg)
{
	int fds[3], sock;

	(void)arg;
	become(65533);
	sock = raw_connect(h.socket);
	CHECK(raw_hello(sock, "shared", WIRE_WRITE, NULL, fds) == 0);
	CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0) == MAP_FAILED);
	CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fds[1], 0) != MAP_FAILED);
	CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fds[2], 0) == MAP_FAILED);
	close(sock);
	return 0;
}

static void each_uid_gets_what_its_namespace_allows(void **state)
{
	(void)state;
	if (getuid() != 0)
		test_skip("needs root, to become other uids");
	harness_run(&h, stranger_is_refused, NULL);
	harness_run(&h, member_may_add, NULL);
	harness_run(&h, reader_may_only_read, NULL);
	harness_run(&h, writer_gets_only_shards_writable, NULL);
	harness_kill_worker(&h);
	harness_run(&h, stranger_is_refused, NULL);
	harness_stop(&h);
}

#define REGISTRATION_TEST(f) cmocka_unit_test_setup_teardown(f, start, clean_up)

int main(void)
{
	const struct CMUnitTest tests[] = {
		REGISTRATION_TEST(a_thousand_names_are_registered_in_one_exchange_and_found_again),
		REGISTRATION_TEST(a_batch_may_name_one_counter_twice),
		REGISTRATION_TEST(bad_entries_are_refused_alone_with_a_reason),
		REGISTRATION_TEST(a_conflict_says_both_sides_and_counts_in_overflow),
		REGISTRATION_TEST(over_quota_kept_and_overflow_make_all_adds),
		REGISTRATION_TEST(a_family_over_its_cap_counts_in_other),
		REGISTRATION_TEST(each_uid_gets_what_its_namespace_allows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

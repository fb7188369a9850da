/*
 * Clients that break every rule of the socket and of their own shards: they get an error or lose their
 * connection. The daemon goes on as the same process, and a well-behaved client beside them
 * registers, adds and reads without one wrong number.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "client/include/talea.h"
#include "shm/order.h"
#include "shm/region.h"
#include "tests/lib/harness.h"
#include "tests/lib/raw.h"

struct shared {
	uint64_t has_ended, rounds;
};

static struct harness h;
static struct shared *shared;
static pid_t good_pid;
static struct wire_status before;
static _Alignas(8) char buffer[2 * WIRE_MAX];

/* --- the client that must not notice ------------------------------------------------------- */

static int good_client(void *arg)
{
	struct talea_options options = { .size = sizeof(options), .ns = "default",
					 .flags = TALEA_NEED_DAEMON, .timeout_ms = 10000 };
	struct talea_counter c, fresh;
	struct talea_family f;
	uint64_t added = 0;
	struct talea *t;

	(void)arg;
	CHECK(talea_open(&t, &options) == 0);
	CHECK(talea_counter(t, &c, "good_total", "Of a test.", NULL) == 0);
	CHECK(talea_family(t, &f, "good_keys_total", "Of a test.", "key:u64") == 0);
	while (!shm_count_read(&shared->has_ended)) {
		struct talea_total n = { .size = sizeof(n) };
		uint64_t key = shm_count_read(&shared->rounds);
		char name[64];

		for (int i = 0; i < 1000; i++, added++)
			talea_inc(c);
		snprintf(name, sizeof(name), "good_%llu_total", (unsigned long long)key);
		CHECK(talea_counter(t, &fresh, name, "Of a test.", NULL) == 0);
		talea_add(fresh, key);
		CHECK(talea_family_add(&f, &key, sizeof(key), 3) == 0);
		CHECK(talea_sync(t, 10000) == 0);
		CHECK(talea_read(t, c, TALEA_COMPACTED, 0, &n) == 0);
		CHECK(n.value == (int64_t)added);
		CHECK(talea_read(t, fresh, TALEA_SUM, 0, &n) == 0);
		CHECK(n.value == (int64_t)key);
		shm_count_add(&shared->rounds, 1);
	}
	talea_close(t);
	return 0;
}

static int start(void **state)
{
	(void)state;
	harness_start(&h, NULL, "[namespace dirty]\n[namespace spare]\n");
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return -1;
	harness_status(&h, &before);
	good_pid = harness_client(&h, good_client, NULL);
	return 0;
}

static int clean_up(void **state)
{
	(void)state;
	harness_cleanup(&h);
	munmap(shared, sizeof(*shared));
	return 0;
}

static void wait_rounds(uint64_t more)
{
	uint64_t goal = shm_count_read(&shared->rounds) + more, since = 0;

	while (shm_count_read(&shared->rounds) < goal && !harness_is_gone(good_pid) &&
	       harness_waits(&since))
		;
	if (shm_count_read(&shared->rounds) < goal) {
		harness_log_show(&h);
		fail_msg("the well-behaved client came no further");
	}
}

/* The good client still makes progress, nothing was restarted, and all ends as usual. */
static void nobody_noticed(void)
{
	struct wire_status now;

	wait_rounds(2);
	shm_count_set(&shared->has_ended, 1);
	assert_int_equal(harness_wait(good_pid), 0);
	harness_status(&h, &now);
	if (now.worker_pid != before.worker_pid || now.keeper_pid != before.keeper_pid ||
	    now.standby_pid != before.standby_pid)
		harness_log_show(&h);
	assert_int_equal(now.worker_pid, before.worker_pid);
	assert_int_equal(now.keeper_pid, before.keeper_pid);
	assert_int_equal(now.standby_pid, before.standby_pid);
	harness_stop(&h);
}

/* --- the socket ---------------------------------------------------------------------------- */

static int connected(void)
{
	int sock = raw_connect(h.socket);

	assert_true(sock >= 0);
	return sock;
}

static int greeted(void)
{
	int sock = connected();

	assert_int_equal(raw_hello(sock, "dirty", WIRE_WRITE, NULL, NULL), 0);
	return sock;
}

/* The error that a message is answered with; 0 for the end of the connection without one. */
static int answer_to(int sock, const void *msg, size_t bytes)
{
	const struct wire_error *e = (void *)buffer;
	ssize_t n;

	if (send(sock, msg, bytes, MSG_NOSIGNAL) != (ssize_t)bytes)
		return -errno;
	n = raw_recv(sock, buffer, WIRE_MAX);
	if (n == 0 || n == -ECONNRESET)
		return 0;
	assert_true(n > 0);
	assert_int_equal(wire_admin_check(buffer, (size_t)n), 0);
	assert_int_equal(e->head.kind, WIRE_ERROR);
	return e->err;
}

static void assert_ended(int sock)
{
	ssize_t n = raw_recv(sock, buffer, WIRE_MAX);

	assert_true(n == 0 || n == -ECONNRESET);
	close(sock);
}

static void each_bad_message_is_answered_with_its_error_and_the_end(void **state)
{
	_Alignas(8) char msg[WIRE_MAX + 4096];
	struct wire_head *head = (void *)msg;
	static const struct { uint16_t kind; size_t bytes; int err; } bad[] = {
		{ 0, 16, -EPROTO },
		{ 11, 16, -EPROTO },
		{ WIRE_PROBE, 16, -EMSGSIZE },
		{ WIRE_CHANGE, 16, -EMSGSIZE },
		{ WIRE_CHANGE, sizeof(struct wire_change), -EPROTO },
		{ 32, 16, -EPROTO },
		{ 65535, 4096, -EPROTO },
		{ WIRE_HELLO, 16, -EMSGSIZE },
		{ WIRE_HELLO, 4096, -EMSGSIZE },
		{ WIRE_QUERY, 16, -EMSGSIZE },
		{ WIRE_REGISTER, sizeof(struct wire_register), -EPROTO },
		{ WIRE_REGISTER, 4096, -EPROTO },
		{ WIRE_REGISTERED, 4096, -EPROTO },
		{ WIRE_RESUME, sizeof(struct wire_resume), -EPROTO },
		{ WIRE_WELCOME, sizeof(struct wire_welcome), -EPROTO },
	};
	int sock;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		sock = greeted();
		raw_begin(msg, bad[i].kind, 3, bad[i].bytes);
		if (answer_to(sock, msg, bad[i].bytes) != bad[i].err)
			fail_msg("kind %u of %zu bytes", bad[i].kind, bad[i].bytes);
		assert_ended(sock);
	}
	sock = greeted();
	raw_begin(msg, WIRE_QUERY, 3, sizeof(struct wire_query));
	head->version = 2;
	assert_int_equal(answer_to(sock, msg, sizeof(struct wire_query)), -EPROTONOSUPPORT);
	assert_ended(sock);
	sock = greeted();
	raw_begin(msg, WIRE_QUERY, 3, sizeof(struct wire_query));
	head->length++;
	assert_int_equal(answer_to(sock, msg, sizeof(struct wire_query)), -EMSGSIZE);
	assert_ended(sock);
	sock = greeted();
	raw_begin(msg, WIRE_REGISTER, 3, sizeof(msg));
	assert_int_equal(answer_to(sock, msg, sizeof(msg)), -EMSGSIZE);
	assert_ended(sock);
	sock = greeted();
	assert_int_equal(answer_to(sock, "x", 1), -EMSGSIZE);
	assert_ended(sock);
	nobody_noticed();
}

static void the_first_message_must_be_a_hello_that_fits(void **state)
{
	_Alignas(8) char msg[4096];
	struct wire_hello *hello = (void *)msg;
	int sock = connected();

	(void)state;
	raw_begin(msg, WIRE_QUERY, 3, sizeof(struct wire_query));
	assert_int_equal(answer_to(sock, msg, sizeof(struct wire_query)), -EPROTO);
	assert_ended(sock);
	for (int i = 0; i < 3; i++) {
		sock = connected();
		raw_begin(msg, WIRE_HELLO, 3, sizeof(*hello));
		hello->abi = SHM_ABI + (i == 0);
		hello->fingerprint = shm_fingerprint() + (i == 1);
		hello->access = WIRE_WRITE;
		strcpy(hello->name_space, i == 2 ? "nowhere" : "dirty");
		assert_int_equal(answer_to(sock, msg, sizeof(*hello)),
				 i == 2 ? -ENOENT : -EPROTONOSUPPORT);
		assert_non_null(strstr(((struct wire_error *)(void *)buffer)->text, "fix:"));
		assert_ended(sock);
	}
	nobody_noticed();
}

static void reserved_kinds_are_refused_and_the_connection_goes_on(void **state)
{
	_Alignas(8) char msg[4096];
	struct wire_status s;
	int sock = greeted();

	(void)state;
	for (uint16_t kind = WIRE_RING; kind <= WIRE_KIND_RESERVED_LAST; kind++) {
		raw_begin(msg, kind, 3, 64u + kind);
		assert_int_equal(answer_to(sock, msg, 64u + kind), -EOPNOTSUPP);
	}
	assert_int_equal(raw_status(sock, &s), 0);
	close(sock);
	nobody_noticed();
}

static uint64_t random_state = 0x853c49e6748fea9bull;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/* A message that was right until some of its bytes were changed. */
static size_t make_mutated(char *msg)
{
	size_t bytes, flips = next_random() % 5;

	if (next_random() % 3 == 0) {
		bytes = sizeof(struct wire_hello);
		raw_begin(msg, WIRE_HELLO, 1, bytes);
		((struct wire_hello *)(void *)msg)->abi = SHM_ABI;
		((struct wire_hello *)(void *)msg)->fingerprint = shm_fingerprint();
		((struct wire_hello *)(void *)msg)->access = WIRE_WRITE;
		strcpy(((struct wire_hello *)(void *)msg)->name_space, "dirty");
	} else if (next_random() % 3 == 0) {
		bytes = sizeof(struct wire_query);
		raw_begin(msg, WIRE_QUERY, 2, bytes);
		((struct wire_query *)(void *)msg)->what = 1 + next_random() % 3;
	} else {
		raw_begin(msg, WIRE_REGISTER, 3, sizeof(struct wire_register));
		for (int i = 0; i < 4; i++) {
			char name[64];

			snprintf(name, sizeof(name), "fuzz_%llu_total",
				 (unsigned long long)next_random() % 5000);
			raw_put_counter((void *)msg, name, "Of a test.");
		}
		bytes = ((struct wire_head *)(void *)msg)->length;
	}
	for (size_t i = 0; i < flips; i++)
		msg[next_random() % (next_random() & 1 ? bytes : 48) % bytes] = (char)next_random();
	if (next_random() % 8 == 0)
		bytes = next_random() % (bytes + 1);
	return bytes;
}

static void random_traffic_ends_its_own_connection_alone(void **state)
{
	_Alignas(8) char msg[4096];
	int sock = -1, sent = 0;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		size_t bytes;

		if (sock < 0)
			sock = next_random() & 1 ? greeted() : connected();
		bytes = make_mutated(msg);
		if (send(sock, msg, bytes, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ||
		    next_random() % 32 == 0) {
			close(sock);
			sock = -1;
			continue;
		}
		sent++;
		while (recv(sock, buffer, sizeof(buffer), MSG_DONTWAIT) > 0)
			;
	}
	close(sock);
	assert_true(sent > 10000);
	nobody_noticed();
}

static int count_fds(uint32_t pid)
{
	char path[64];
	int nr = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%u/fd", pid);
	dir = opendir(path);
	assert_non_null(dir);
	while (readdir(dir))
		nr++;
	closedir(dir);
	return nr;
}

static void descriptors_that_a_client_sends_are_closed(void **state)
{
	_Alignas(8) char msg[4096];
	int fds[8] = { 0, 1, 2, 0, 1, 2, 0, 1 }, sock = greeted(), first;

	(void)state;
	wait_rounds(1);
	first = count_fds(before.worker_pid);
	raw_begin(msg, WIRE_QUERY, 3, sizeof(struct wire_query));
	((struct wire_query *)(void *)msg)->what = WIRE_STATUS;
	for (int i = 0; i < 500; i++) {
		assert_int_equal(wire_send(sock, msg, fds, 8, 0), 0);
		assert_true(raw_recv(sock, buffer, WIRE_MAX) > 0);
	}
	assert_in_range(count_fds(before.worker_pid), 1, first + 2);
	close(sock);
	nobody_noticed();
}

/* Asks without ever reading an answer, until nothing more can be sent. */
static void flood(int sock, const void *msg, size_t bytes)
{
	for (int i = 0; i < 3000; i++) {
		struct pollfd p = { .fd = sock, .events = POLLOUT };

		if (send(sock, msg, bytes, MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
			continue;
		if (errno != EAGAIN || poll(&p, 1, 5) <= 0)
			return;
	}
}

static void a_flood_without_reading_blocks_nobody_else(void **state)
{
	_Alignas(8) char query[64];
	struct wire_register *m = (void *)(buffer + WIRE_MAX);
	int socks[40];

	(void)state;
	raw_begin(query, WIRE_QUERY, 3, sizeof(struct wire_query));
	((struct wire_query *)(void *)query)->what = WIRE_STATUS;
	raw_begin(m, WIRE_REGISTER, 4, sizeof(*m));
	for (int i = 0; i < 500; i++) {
		char name[64];

		snprintf(name, sizeof(name), "flood_%d_total", i);
		raw_put_counter(m, name, "Of a test.");
	}
	for (int i = 0; i < 40; i++) {
		socks[i] = greeted();
		if (i & 1)
			flood(socks[i], query, sizeof(struct wire_query));
		else
			flood(socks[i], m, m->head.length);
		shutdown(socks[i], i % 4 == 2 ? SHUT_RD : i % 4 == 3 ? SHUT_WR : -1);
	}
	wait_rounds(5);
	for (int i = 0; i < 40; i++)
		close(socks[i]);
	nobody_noticed();
}

/* More half-open connections than the daemon serves: those that are served go on, and when the others
 * are gone new ones are let in. */
static void half_open_connections_keep_nobody_from_working(void **state)
{
	struct rlimit limit = { 6000, 6000 };
	enum { NR = 5000 };
	static int socks[NR];
	struct wire_status s;
	int open = 0, first = count_fds(before.keeper_pid), err;

	(void)state;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		test_skip("needs 6000 open files");
	for (int i = 0; i < NR; i++) {
		struct sockaddr_un address = { .sun_family = AF_UNIX };

		strcpy(address.sun_path, h.socket);
		socks[i] = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (socks[i] < 0)
			break;
		open += connect(socks[i], (struct sockaddr *)&address, sizeof(address)) == 0;
		if (i % 64 == 0)
			harness_sleep_ms(1);
	}
	assert_true(open > 500);
	wait_rounds(3);
	for (int i = 0; i < NR; i++) {
		if (socks[i] >= 0)
			close(socks[i]);
	}
	for (int i = 0; i < 2000 && (err = raw_status_once(h.socket, &s)); i++)
		harness_sleep_ms(5);
	assert_int_equal(err, 0);
	for (int i = 0; i < 1000 && count_fds(before.keeper_pid) > first + 2; i++)
		harness_sleep_ms(5);
	assert_in_range(count_fds(before.keeper_pid), 1, first + 2);
	print_message("# %d half-open connections\n", open);
	nobody_noticed();
}

/* --- the shards ---------------------------------------------------------------------------- */

/* Registers, then stores random values in every cell it can reach, again and again. */
static int scribbler(void *arg)
{
	uint64_t *cold;
	struct wire_register *m = (void *)buffer;
	int fds[3], sock = raw_connect(h.socket);
	void *map;

	(void)arg;
	CHECK(sock >= 0 && raw_hello(sock, "dirty", WIRE_WRITE, NULL, fds) == 0);
	raw_begin(m, WIRE_REGISTER, 4, sizeof(*m));
	for (int i = 0; i < 900; i++) {
		char name[64];

		snprintf(name, sizeof(name), "dirty_%d_total", i);
		raw_put_counter(m, name, "Of a test.");
	}
	CHECK(wire_send(sock, m, NULL, 0, 0) == 0);
	CHECK(raw_recv(sock, buffer, WIRE_MAX) > 0);
	CHECK(region_map(fds[REGION_S], REGION_S, true, &map) == 0);
	cold = (void *)((char *)map + SHM_S_COLD);
	for (uint64_t end = harness_now_ns() + 700000000; harness_now_ns() < end;) {
		*(volatile uint64_t *)map = next_random();
		for (int i = 0; i < 4096; i++)
			shm_count_set(&cold[i], next_random());
		for (uint32_t cpu = 0; cpu < 4; cpu++) {
			uint64_t *lane = (void *)((char *)map + shards_lane(cpu));

			for (int i = 0; i < 4096; i++)
				shm_count_set(&lane[i], next_random());
		}
		/* Beyond the last CPU and the last slot. */
		shm_count_set((void *)((char *)map + shards_lane(SHM_CPUS_MAX - 1)), next_random());
		shm_count_set(&cold[SHM_SLOTS_MAX - 1], next_random());
		if (next_random() % 8 == 0)
			fallocate(fds[REGION_S], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
				  (off_t)shards_lane(4));
	}
	return 0;
}

/* The names of the dirty namespace, its directory and new counters in it are as good as before. */
static int look_at_the_dirty_namespace(void *arg)
{
	struct talea_options options = { .size = sizeof(options), .ns = "dirty",
					 .flags = TALEA_NEED_DAEMON };
	struct talea_total n = { .size = sizeof(n) };
	struct talea_counter c;
	struct talea *t;
	char name[64];

	(void)arg;
	CHECK(talea_open(&t, &options) == 0);
	for (int i = 0; i < 900; i++) {
		snprintf(name, sizeof(name), "dirty_%d_total", i);
		CHECK(talea_read_name(t, name, TALEA_COMPACTED, 0, &n) == 0);
	}
	CHECK(talea_counter(t, &c, "clean_total", "Of a test.", NULL) == 0);
	CHECK(talea_sync(t, 5000) == 0);
	talea_close(t);
	return 0;
}

static void status_of(const char *name_space, struct wire_status *ret)
{
	int sock = raw_connect(h.socket);

	assert_true(sock >= 0);
	assert_int_equal(raw_hello(sock, name_space, WIRE_READ, NULL, NULL), 0);
	assert_int_equal(raw_status(sock, ret), 0);
	close(sock);
}

static void scribbled_shards_harm_no_other_namespace(void **state)
{
	struct wire_status s;
	pid_t pids[2];

	(void)state;
	for (int i = 0; i < 2; i++) {
		next_random();
		pids[i] = harness_client(&h, scribbler, NULL);
	}
	for (int i = 0; i < 2; i++)
		assert_int_equal(harness_wait(pids[i]), 0);
	harness_run(&h, look_at_the_dirty_namespace, NULL);
	/* The culprit's namespace is suspect, and says so; its neighbours are not. */
	status_of("dirty", &s);
	assert_true(s.suspects_nr > 0 && s.strays_nr > 0);
	assert_true(harness_log_has(&h, "namespace dirty: a counter"));
	assert_true(harness_log_has(&h, "namespace dirty: a cell that nobody owns"));
	status_of("default", &s);
	assert_true(s.suspects_nr == 0 && s.strays_nr == 0);
	nobody_noticed();
}

static void a_new_worker_accepts_a_scribbled_namespace(void **state)
{
	(void)state;
	harness_run(&h, scribbler, NULL);
	harness_kill_worker(&h);
	harness_kill_keeper(&h);
	harness_run(&h, look_at_the_dirty_namespace, NULL);
	harness_status(&h, &before);
	nobody_noticed();
}

#define HOSTILE_TEST(f) cmocka_unit_test_setup_teardown(f, start, clean_up)

int main(void)
{
	const struct CMUnitTest tests[] = {
		HOSTILE_TEST(each_bad_message_is_answered_with_its_error_and_the_end),
		HOSTILE_TEST(the_first_message_must_be_a_hello_that_fits),
		HOSTILE_TEST(reserved_kinds_are_refused_and_the_connection_goes_on),
		HOSTILE_TEST(random_traffic_ends_its_own_connection_alone),
		HOSTILE_TEST(descriptors_that_a_client_sends_are_closed),
		HOSTILE_TEST(a_flood_without_reading_blocks_nobody_else),
		HOSTILE_TEST(half_open_connections_keep_nobody_from_working),
		HOSTILE_TEST(scribbled_shards_harm_no_other_namespace),
		HOSTILE_TEST(a_new_worker_accepts_a_scribbled_namespace),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * Everything at once that the worker's threads do beside each other: names are made and looked up,
 * counters get hot and cold, members come and are forgotten, operators ask, clients come and go, the
 * configuration is read again and brings namespaces. Nothing is lost by it; with SAN=thread this is the
 * program in which ThreadSanitizer watches fold, control, grace and reclaim together.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "shm/layout.h"
#include "tests/lib/client.h"
#include "tests/lib/harness.h"
#include "tests/lib/raw.h"

#define MOVING_NR  8
#define KEYS_NR	   64
#define SPACES_NR  3
#define RELOADS_NR 12
/* With ThreadSanitizer long enough for slots of removed members to be handed out again. */
#define RUN_NS	   harness_times(TEST_IS_TSAN ? 8 : 3, 30) * 1000000000ull

static const char settings[] = "bpf = off\nfold = 2ms";
static const char sections[] = "[namespace default]\nrows-max = 4\n"
			       "[counter rcu_keys_total]\nttl = 1s\n";

struct fixture {
	struct harness harness;
	uint64_t end_ns; /* the clients inherit it */
};

static int set_up(void **state)
{
	*state = calloc(1, sizeof(struct fixture));
	return *state ? 0 : -1;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	harness_cleanup(&f->harness);
	free(f);
	return 0;
}

static bool is_going_on(const struct fixture *f)
{
	return harness_now_ns() < f->end_ns;
}

/* --- clients ---------------------------------------------------------------------------------- */

/* Names that did not exist, one at a time, and one that does. */
static int make_names(void *arg)
{
	const struct fixture *f = arg;
	struct talea *t = client_open("default");
	struct talea_counter c, known = client_declare(t, "rcu_known_total");
	char name[64];
	uint64_t nr = 0;

	for (; is_going_on(f) || !nr; nr++) {
		snprintf(name, sizeof(name), "rcu_name_%d_%llu_total", (int)getpid(),
			 (unsigned long long)nr);
		c = client_declare(t, name);
		talea_inc(c);
		talea_inc(known);
		client_declare(t, "rcu_known_total");
	}
	CHECK(talea_sync(t, 5000) == 0);
	talea_close(t);
	return 0;
}

/* One counter after the other is hot: more of them than there are rows. */
static int move_heat(void *arg)
{
	const struct fixture *f = arg;
	struct talea *t = client_open("default");
	struct talea_counter moving[MOVING_NR], all = client_declare(t, "rcu_adds_total");
	char name[64];

	for (int i = 0; i < MOVING_NR; i++) {
		snprintf(name, sizeof(name), "rcu_moving_%d_total", i);
		moving[i] = client_declare(t, name);
	}
	for (unsigned int round = 0; is_going_on(f); round++) {
		for (unsigned int i = 0; i < 20000; i++)
			talea_inc(moving[round / 16 % MOVING_NR]);
		talea_add(all, 20000);
	}
	CHECK(talea_sync(t, 5000) == 0);
	talea_close(t);
	return 0;
}

/* Asks for a CHANGE of one counter and takes whatever is answered. */
static void change(int sock, uint32_t op, const char *name)
{
	_Alignas(8) char buf[WIRE_MAX];
	struct wire_change *m = (struct wire_change *)(void *)buf;
	size_t len = strlen(name) + 1;

	raw_begin(m, WIRE_CHANGE, 3, sizeof(*m) + len);
	m->op = op;
	m->nr = 1;
	m->bytes = (uint32_t)len;
	m->reserved = 0;
	memcpy(m->names, name, len);
	CHECK(wire_send(sock, m, NULL, 0, 0) == 0);
	CHECK(raw_recv(sock, buf, sizeof(buf)) > 0);
}

static void query(int sock, uint32_t what, const char *name)
{
	_Alignas(8) char buf[WIRE_MAX];
	struct wire_query *m = (struct wire_query *)(void *)buf;
	size_t len = strlen(name);

	raw_begin(m, WIRE_QUERY, 4, sizeof(*m) + len);
	m->what = what;
	m->name_bytes = (uint32_t)len;
	m->from = 0;
	memcpy(m->name, name, len);
	CHECK(wire_send(sock, m, NULL, 0, 0) == 0);
	CHECK(raw_recv(sock, buf, sizeof(buf)) > 0);
}

static int connect_to(const char *name_space)
{
	int sock = raw_connect(getenv("TALEA_SOCKET"));

	CHECK(sock >= 0);
	CHECK(raw_hello(sock, name_space, WIRE_READ | WIRE_WRITE, NULL, NULL) == 0);
	return sock;
}

/* Members that are added to while this very client has them forgotten. */
static int forget_members(void *arg)
{
	const struct fixture *f = arg;
	struct talea *t = client_open("default");
	struct talea_counter all = client_declare(t, "rcu_kept_total");
	int sock = connect_to("default");
	struct talea_family keys;
	char name[64];

	CHECK(talea_family(t, &keys, "rcu_keys_total", "Of a test.", "key") == 0);
	for (unsigned int round = 0; is_going_on(f); round++) {
		unsigned int key = round % KEYS_NR;
		int len = snprintf(name, sizeof(name), "k%u", key);

		CHECK(talea_family_add(&keys, name, (size_t)len, 3) == 0);
		talea_add(all, 3);
		if (round % 3)
			continue;
		snprintf(name, sizeof(name), "rcu_keys_total{key=\"k%u\"}", round * 7 % KEYS_NR);
		change(sock, WIRE_FORGET, name);
	}
	close(sock);
	CHECK(talea_sync(t, 5000) == 0);
	talea_close(t);
	return 0;
}

/* What `talea status`, `clients`, `explain`, `lanes`, `history`, `pin` and `unpin` ask for. */
static int ask(void *arg)
{
	static const uint32_t named[] = { WIRE_EXPLAIN, WIRE_LANES };
	static const uint32_t others[] = { WIRE_STATUS, WIRE_CLIENTS, WIRE_CHANGES, WIRE_PROBES };
	static const uint32_t changes[] = { WIRE_PIN_HOT, WIRE_UNPIN, WIRE_PIN_COLD, WIRE_UNPIN };
	const struct fixture *f = arg;
	char name[64];

	for (unsigned int round = 0; is_going_on(f); round++) {
		int sock = connect_to("default");

		snprintf(name, sizeof(name), "rcu_moving_%u_total", round / 4 % MOVING_NR);
		for (size_t i = 0; i < sizeof(named) / sizeof(named[0]); i++)
			query(sock, named[i], name);
		for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
			query(sock, others[i], "");
		change(sock, changes[round % 4], name);
		query(sock, WIRE_EXPLAIN, "rcu_keys_total{key=\"k1\"}");
		close(sock);
	}
	return 0;
}

/* --- the test --------------------------------------------------------------------------------- */

static void reload(struct harness *h, unsigned int round)
{
	char text[1024];
	size_t at = (size_t)snprintf(text, sizeof(text), "%s", sections);
	struct wire_status status;

	at += (size_t)snprintf(text + at, sizeof(text) - at,
			       "[counter rcu_moving_%u_total]\nhot = %s\n", round % MOVING_NR,
			       round & 1 ? "yes" : "no");
	for (unsigned int i = 0; i < SPACES_NR && i < round / 2; i++)
		at += (size_t)snprintf(text + at, sizeof(text) - at, "[namespace late%u]\n", i);
	harness_configure(h, settings, text);
	harness_status(h, &status);
	assert_int_equal(kill((pid_t)status.keeper_pid, SIGHUP), 0);
}

static int add_up(const char *name, const struct talea_total *total, void *arg)
{
	(void)name;
	*(int64_t *)arg += total->value;
	return 0;
}

static int64_t sum_of(struct talea *t, const char *glob)
{
	int64_t sum = 0;

	CHECK(talea_each(t, glob, TALEA_SUM, add_up, &sum) == 0);
	return sum;
}

/* What was added, and the same by another way. */
static int all_is_there(void *arg)
{
	struct talea *t = client_open("default");
	int64_t adds = sum_of(t, "rcu_adds_total"), moving = sum_of(t, "rcu_moving_*");
	int64_t kept = sum_of(t, "rcu_kept_total"), keys = sum_of(t, "rcu_keys_total");
	int64_t known = sum_of(t, "rcu_known_total"), names = sum_of(t, "rcu_name_*");

	if (!adds || !kept || !names || adds != moving || kept != keys || known != names)
		fprintf(stderr, "# adds %lld %lld, members %lld %lld, names %lld %lld\n",
			(long long)adds, (long long)moving, (long long)kept, (long long)keys,
			(long long)known, (long long)names);
	CHECK(adds && adds == moving);
	CHECK(kept && kept == keys);
	CHECK(names && known == names);
	talea_close(t);
	(void)arg;
	return 0;
}

static void threads_of_a_busy_daemon_lose_nothing(void **state)
{
	static int (*const run[])(void *) = { make_names, make_names, move_heat, forget_members, ask };
	pid_t clients[sizeof(run) / sizeof(run[0])];
	struct fixture *f = *state;
	struct harness *h = &f->harness;
	struct wire_status status;

	harness_start(h, settings, sections);
	f->end_ns = harness_now_ns() + RUN_NS;
	for (size_t i = 0; i < sizeof(run) / sizeof(run[0]); i++)
		clients[i] = harness_client(h, run[i], f);
	for (unsigned int round = 0; round < RELOADS_NR; round++) {
		harness_sleep_ms((unsigned int)(RUN_NS / 1000000 / RELOADS_NR));
		reload(h, round);
	}
	for (size_t i = 0; i < sizeof(run) / sizeof(run[0]); i++) {
		int code = harness_wait(clients[i]);

		if (code) {
			harness_log_show(h);
			fail_msg("client %zu ended with %d", i, code);
		}
	}
	harness_run(h, all_is_there, NULL);
	harness_status(h, &status);
	print_message("# %llu rows given, %llu taken back, %llu members removed, %llu graces, "
		      "%u namespaces\n", (unsigned long long)status.row_changes[1],
		      (unsigned long long)status.row_changes[3],
		      (unsigned long long)status.removed_nr, (unsigned long long)status.graces_nr,
		      status.namespaces_nr);
	assert_int_equal(status.worker_restarts, 0);
	assert_int_equal(status.namespaces_nr, 1 + SPACES_NR);
	assert_true(status.row_changes[1] > 0 && status.row_changes[3] > 0);
	assert_true(status.removed_nr > 0);
	harness_stop(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(threads_of_a_busy_daemon_lose_nothing, set_up,
						tear_down),
	};

	return cmocka_run_group_tests_name("threads", tests, NULL, NULL);
}

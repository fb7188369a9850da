/*
 * kill -9 of the worker, the keeper and of clients under load: no add is lost, none counts twice, and a
 * reader never sees less than was done before it asked nor more than was begun when it had its
 * answer. TALEA_LONG=1 kills more often.
 */
#include "tests/lib/test.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "client/include/talea.h"
#include "shm/order.h"
#include "tests/lib/client.h"
#include "tests/lib/harness.h"

#define WRITERS 3
#define THREADS 2
#define KEYS 200
#define LATE_ADDS 100

enum kind { HOT, COLD, KEYED, LEVEL, KINDS };

static const char *const names[KINDS] = { "kill_hot_total", "kill_cold_total", "kill_keys_total",
					  "kill_level" };

/* What one thread began and finished adding; one writer, any reader. */
struct account {
	uint64_t begun[KINDS], done[KINDS];
} __attribute__((aligned(128)));

/* Shared by all processes of a test. */
struct ledger {
	uint64_t has_ended, late_done, reads, ready;
	struct account of[WRITERS * THREADS + 1];
};

static struct harness h;
static struct ledger *ledger;

static int start(void **state)
{
	(void)state;
	harness_start(&h, NULL, "[counter kill_hot_total]\nhot = yes\n[namespace cold]\nrows-max = 0\n"
		      "[namespace few]\nrows-max = 100\n[counter made_?_total]\nhot = yes\n"
		      "[counter made_??_total]\nhot = yes\n");
	ledger = mmap(NULL, sizeof(*ledger), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return ledger == MAP_FAILED;
}

static int clean_up(void **state)
{
	(void)state;
	harness_cleanup(&h);
	munmap(ledger, sizeof(*ledger));
	return 0;
}

static int64_t begun(enum kind kind)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < sizeof(ledger->of) / sizeof(ledger->of[0]); i++)
		sum += shm_count_read(&ledger->of[i].begun[kind]);
	return (int64_t)sum;
}

static int64_t done(enum kind kind)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < sizeof(ledger->of) / sizeof(ledger->of[0]); i++)
		sum += shm_take(&ledger->of[i].done[kind]);
	return (int64_t)sum;
}

/* --- writers ------------------------------------------------------------------------------- */

struct handles {
	struct talea *t, *t_cold;
	struct talea_counter hot, cold;
	struct talea_level level;
	struct talea_family keys;
};

/* Declares everything, waiting out a daemon that is being restarted. */
static void open_handles(struct handles *hs)
{
	int err;

	hs->t = client_open("default");
	hs->t_cold = client_open("cold");
	do
		err = talea_counter(hs->t, &hs->hot, names[HOT], "Of a test.", NULL);
	while (err == -ETIMEDOUT || err == -ECONNREFUSED);
	CHECK(err == 0);
	do
		err = talea_counter(hs->t_cold, &hs->cold, names[COLD], "Of a test.", NULL);
	while (err == -ETIMEDOUT || err == -ECONNREFUSED);
	CHECK(err == 0);
	do
		err = talea_level(hs->t, &hs->level, names[LEVEL], "Of a test.", 0, NULL);
	while (err == -ETIMEDOUT || err == -ECONNREFUSED);
	CHECK(err == 0);
	do
		err = talea_family(hs->t, &hs->keys, names[KEYED], "Of a test.", "key:u64");
	while (err == -ETIMEDOUT || err == -ECONNREFUSED);
	CHECK(err == 0);
}

static void add_one(struct handles *hs, struct account *a, enum kind kind, uint64_t key)
{
	int err;

	shm_publish(&a->begun[kind], a->begun[kind] + 1);
	switch (kind) {
	case HOT: talea_inc(hs->hot); break;
	case COLD: talea_inc(hs->cold); break;
	case LEVEL: talea_level_add(hs->level, 1); break;
	default:
		err = talea_family_add(&hs->keys, &key, sizeof(key), 1);
		CHECK(err == 0 || err == -ETIMEDOUT || err == -ECONNREFUSED);
	}
	shm_publish(&a->done[kind], a->done[kind] + 1);
}

struct thread {
	struct handles *handles;
	int at;
};

static void *write_until_the_end(void *arg)
{
	struct thread *th = arg;
	struct account *a = &ledger->of[th->at];
	uint64_t i = 0;

	for (; !shm_count_read(&ledger->has_ended); i++) {
		/* A key nobody had yet, now and then: it asks the daemon, dead or alive. */
		uint64_t key = i % 20000 ? i % KEYS : (uint64_t)th->at << 40 | i;

		add_one(th->handles, a, (enum kind)(i % KINDS), key);
		if (i == KEYS * KINDS)
			shm_count_add(&ledger->ready, 1);
	}
	return NULL;
}

/* The private adds, if any, must reach the region before this process ends. */
static void settle(struct talea *t)
{
	struct talea_status s = { .size = sizeof(s) };

	for (int i = 0; i < 3000; i++) {
		int err = talea_status(t, &s);

		if (err == 0 && s.connected && !s.private_adds)
			return;
		harness_sleep_ms(10);
	}
	CHECK(!"private adds were carried over within 30 s");
}

static int writer(void *arg)
{
	int first = *(int *)arg * THREADS;
	struct thread threads[THREADS];
	pthread_t ids[THREADS];
	struct handles hs;

	open_handles(&hs);
	for (int i = 0; i < THREADS; i++) {
		threads[i] = (struct thread){ &hs, first + i };
		CHECK(pthread_create(&ids[i], NULL, write_until_the_end, &threads[i]) == 0);
	}
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_join(ids[i], NULL) == 0);
	settle(hs.t);
	settle(hs.t_cold);
	talea_close(hs.t);
	talea_close(hs.t_cold);
	return 0;
}

/* Opens whenever it may be, adds before it is attached, and is carried over exactly once. */
static int latecomer(void *arg)
{
	(void)arg;
	while (!shm_count_read(&ledger->has_ended)) {
		struct talea *t = client_open("default");
		struct talea_counter c;
		int err = talea_counter(t, &c, "kill_late_total", "Of a test.", NULL);

		CHECK(err == 0 || err == -ETIMEDOUT || err == -ECONNREFUSED);
		for (int i = 0; i < LATE_ADDS; i++)
			talea_inc(c);
		settle(t);
		talea_close(t);
		shm_count_add(&ledger->late_done, 1);
		harness_sleep_ms(1);
	}
	return 0;
}

/* --- readers ------------------------------------------------------------------------------- */

static int add_up(const char *name, const struct talea_total *total, void *arg)
{
	(void)name;
	*(int64_t *)arg += total->value;
	return 0;
}

/* 0 and the value, or -errno while there is nothing to read from. */
static int read_kind(struct handles *hs, enum kind kind, enum talea_how how, int64_t *ret)
{
	struct talea_total n = { .size = sizeof(n) };
	int64_t sum = 0;
	int err;

	if (kind == KEYED) {
		err = talea_each(hs->t, names[KEYED], how, add_up, &sum);
		*ret = sum;
		return err;
	}
	if (kind == LEVEL)
		err = talea_read_level(hs->t, hs->level, how, 0, &n);
	else
		err = talea_read(kind == COLD ? hs->t_cold : hs->t, kind == COLD ? hs->cold : hs->hot,
				 how, 0, &n);
	*ret = n.value;
	return err;
}

static void check_between(enum kind kind, const char *how, int64_t low, int64_t v)
{
	int64_t high = begun(kind);

	if (low <= v && v <= high)
		return;
	fprintf(stderr, "# %s, %s: %lld is not between %lld and %lld\n", names[kind], how,
		(long long)v, (long long)low, (long long)high);
	_exit(1);
}

static int reader(void *arg)
{
	int64_t compacted[KINDS] = { 0 };
	struct handles hs;

	(void)arg;
	open_handles(&hs);
	while (!shm_count_read(&ledger->has_ended)) {
		for (enum kind kind = HOT; kind < KINDS; kind++) {
			int64_t low = done(kind), v;

			CHECK(read_kind(&hs, kind, TALEA_SUM, &v) == 0);
			check_between(kind, "sum", low, v);
			/* The compacted value may be old, but never falls nor runs ahead. */
			CHECK(read_kind(&hs, kind, TALEA_COMPACTED, &v) == 0);
			check_between(kind, "compacted", compacted[kind], v);
			compacted[kind] = v;
			low = done(kind);
			if (shm_count_read(&ledger->reads) % 8 == 0 && talea_sync(hs.t, 200) == 0 &&
			    talea_sync(hs.t_cold, 200) == 0) {
				CHECK(read_kind(&hs, kind, TALEA_COMPACTED, &v) == 0);
				check_between(kind, "compacted after sync", low, v);
			}
		}
		shm_count_add(&ledger->reads, 1);
		harness_sleep_ms(1);
	}
	talea_close(hs.t);
	talea_close(hs.t_cold);
	return 0;
}

/* Between what was done and what was begun; when nobody was killed both are the same. */
static int final_totals(void *arg)
{
	struct talea_total n = { .size = sizeof(n) };
	struct handles hs;
	int64_t v;

	(void)arg;
	open_handles(&hs);
	CHECK(talea_sync(hs.t, 10000) == 0 && talea_sync(hs.t_cold, 10000) == 0);
	for (enum kind kind = HOT; kind < KINDS; kind++) {
		for (enum talea_how how = TALEA_SUM; how <= TALEA_COMPACTED; how++) {
			CHECK(read_kind(&hs, kind, how, &v) == 0);
			if (v < done(kind) || v > begun(kind))
				fprintf(stderr, "# %s: %lld done, %lld counted, %lld begun\n",
					names[kind], (long long)done(kind), (long long)v,
					(long long)begun(kind));
			CHECK(done(kind) <= v && v <= begun(kind));
		}
	}
	if (ledger->late_done) {
		CHECK(talea_read_name(hs.t, "kill_late_total", TALEA_SUM, 0, &n) == 0);
		CHECK(n.value == (int64_t)ledger->late_done * LATE_ADDS);
	}
	talea_close(hs.t);
	talea_close(hs.t_cold);
	return 0;
}

/* --- tests --------------------------------------------------------------------------------- */

struct load {
	pid_t pids[WRITERS + 2];
	int numbers[WRITERS];
};

static void load_begin(struct load *l)
{
	for (int i = 0; i < WRITERS; i++) {
		l->numbers[i] = i;
		l->pids[i] = harness_client(&h, writer, &l->numbers[i]);
	}
	l->pids[WRITERS] = harness_client(&h, latecomer, NULL);
	l->pids[WRITERS + 1] = harness_client(&h, reader, NULL);
	for (int i = 0; i < 3000 && shm_count_read(&ledger->ready) < WRITERS * THREADS; i++)
		harness_sleep_ms(10);
	assert_int_equal(ledger->ready, WRITERS * THREADS);
}

static void load_end(struct load *l)
{
	int failed = 0;

	shm_count_set(&ledger->has_ended, 1);
	for (int i = 0; i < WRITERS + 2; i++)
		failed += harness_wait(l->pids[i]) != 0;
	if (failed)
		harness_log_show(&h);
	assert_int_equal(failed, 0);
	for (enum kind kind = HOT; kind < KINDS; kind++)
		assert_true(done(kind) == begun(kind));
	assert_true(ledger->late_done > 0);
	assert_true(ledger->reads > 0);
	harness_run(&h, final_totals, NULL);
	print_message("# %lld adds, %llu latecomers, %llu rounds of reads\n",
		      (long long)(done(HOT) + done(COLD) + done(KEYED) + done(LEVEL)),
		      (unsigned long long)ledger->late_done, (unsigned long long)ledger->reads);
}

static int order_of_times(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void kill_under_load(uint64_t (*kill_one)(const struct harness *), const char *what, int nr)
{
	uint64_t *took = calloc((size_t)nr, sizeof(*took));
	struct load l;

	assert_non_null(took);
	srandom(1);
	load_begin(&l);
	for (int i = 0; i < nr; i++) {
		harness_sleep_ms((unsigned int)random() % 30);
		took[i] = kill_one(&h);
	}
	load_end(&l);
	qsort(took, (size_t)nr, sizeof(*took), order_of_times);
	print_message("# %s killed %d times, back after %.1f ms (median), %.1f ms (longest)\n",
		      what, nr, (double)took[nr / 2] / 1e6, (double)took[nr - 1] / 1e6);
	free(took);
	harness_stop(&h);
}

static void killing_the_worker_loses_nothing(void **state)
{
	(void)state;
	kill_under_load(harness_kill_worker, "worker", harness_times(25, 500));
}

static void killing_the_keeper_loses_nothing(void **state)
{
	(void)state;
	kill_under_load(harness_kill_keeper, "keeper", harness_times(10, 50));
}

/* A client that is killed at any moment; its account is the last one. */
static int victim(void *arg)
{
	struct thread th = { .at = WRITERS * THREADS };
	struct handles hs;

	(void)arg;
	open_handles(&hs);
	shm_publish(&ledger->ready, 1);
	th.handles = &hs;
	/* begun and done go on from those of the victim before. */
	for (enum kind kind = HOT; kind < KINDS; kind++)
		ledger->of[th.at].done[kind] = shm_take(&ledger->of[th.at].done[kind]);
	write_until_the_end(&th);
	return 0;
}

static void killing_clients_keeps_what_they_did_and_nothing_else(void **state)
{
	int nr = harness_times(300, 10000), early = 0;
	uint64_t random_state = 12345;
	struct wire_status s;

	(void)state;
	for (int i = 0; i < nr; i++) {
		pid_t pid;

		shm_publish(&ledger->ready, 0);
		pid = harness_client(&h, victim, NULL);
		random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
		/* One in eight is killed while it attaches; the others while they add. */
		for (int wait = 0; i % 8 && wait < 5000 && !shm_take(&ledger->ready); wait++)
			usleep(200);
		usleep((useconds_t)(random_state >> 33) % 3000);
		early += !shm_take(&ledger->ready);
		kill(pid, SIGKILL);
		assert_int_equal(harness_wait(pid), 128 + SIGKILL);
	}
	assert_true(done(HOT) > nr);
	assert_true(begun(HOT) - done(HOT) <= nr);
	harness_run(&h, final_totals, NULL);
	print_message("# %d clients killed, %d of them before they had attached\n", nr, early);
	harness_status(&h, &s);
	assert_int_equal(s.worker_restarts, 0);
	assert_true(s.clients_nr <= 2);
	harness_stop(&h);
}

/* --- registering while the worker dies ----------------------------------------------------- */

#define NAMES 3000
#define REGISTRARS 3

/* Declares the same names as the others, in another order, and adds 1 to each. */
static int registrar(void *arg)
{
	static const uint32_t steps[REGISTRARS] = { 1, 7, 1009 };
	uint32_t step = steps[*(int *)arg];
	struct talea_options options = { .size = sizeof(options), .ns = "few", .timeout_ms = 30000 };
	struct talea_family f;
	struct talea *t;

	CHECK(talea_open(&t, &options) == 0);
	CHECK(talea_family(t, &f, "made_keys_total", "Of a test.", "key") == 0);
	for (uint32_t i = 0; i < NAMES; i++) {
		struct talea_counter c;
		char name[64];
		int n = snprintf(name, sizeof(name), "made_%u_total", i * step % NAMES), err;

		err = talea_counter(t, &c, name, "Of a test.", NULL);
		if (err)
			fprintf(stderr, "# %s: %s: %s\n", name, strerror(-err),
				talea_strerror(t, err));
		CHECK(err == 0);
		talea_inc(c);
		CHECK(talea_family_add(&f, name, (size_t)n, 1) == 0);
		shm_count_add(&ledger->ready, 1);
	}
	settle(t);
	talea_close(t);
	return 0;
}

struct made {
	unsigned char counters[NAMES], members[NAMES];
	int others;
};

static int note_made(const char *name, const struct talea_total *total, void *arg)
{
	struct made *m = arg;
	unsigned int i;

	CHECK(total->value == REGISTRARS || !strncmp(name, "talea_", 6));
	if (sscanf(name, "made_%u_total", &i) == 1 && i < NAMES)
		m->counters[i]++;
	else if (sscanf(name, "made_keys_total{key=\"made_%u_total\"}", &i) == 1 && i < NAMES)
		m->members[i]++;
	else
		m->others += strncmp(name, "talea_", 6) != 0;
	return 0;
}

static int each_name_is_there_once(void *arg)
{
	static const enum talea_how hows[] = { TALEA_SUM, TALEA_COMPACTED };
	struct talea *t = client_open("few");

	(void)arg;
	CHECK(talea_sync(t, 10000) == 0);
	for (int how = 0; how < 2; how++) {
		struct made m = { .others = 0 };

		CHECK(talea_each(t, "*", hows[how], note_made, &m) == 0);
		CHECK(m.others == 0);
		for (int i = 0; i < NAMES; i++)
			CHECK(m.counters[i] == 1 && m.members[i] == 1);
	}
	talea_close(t);
	return 0;
}

static void names_made_while_the_worker_dies_are_made_once(void **state)
{
	int numbers[REGISTRARS], kills = 0;
	pid_t pids[REGISTRARS];

	(void)state;
	srandom(2);
	for (int i = 0; i < REGISTRARS; i++) {
		numbers[i] = i;
		pids[i] = harness_client(&h, registrar, &numbers[i]);
	}
	while (shm_count_read(&ledger->ready) < (uint64_t)NAMES * REGISTRARS) {
		bool is_alive = false;

		for (int i = 0; i < REGISTRARS; i++)
			is_alive |= !harness_is_gone(pids[i]);
		if (!is_alive)
			break;
		usleep((useconds_t)random() % 8000);
		if (random() % 5)
			harness_kill_worker(&h);
		else
			harness_kill_keeper(&h);
		kills++;
	}
	for (int i = 0; i < REGISTRARS; i++)
		assert_int_equal(harness_wait(pids[i]), 0);
	harness_run(&h, each_name_is_there_once, NULL);
	harness_kill_worker(&h);
	harness_run(&h, each_name_is_there_once, NULL);
	print_message("# %d names made during %d kills\n", 2 * NAMES, kills);
	assert_true(kills > 3);
	harness_stop(&h);
}

#define KILL_TEST(f) cmocka_unit_test_setup_teardown(f, start, clean_up)

int main(void)
{
	const struct CMUnitTest tests[] = {
		KILL_TEST(killing_the_worker_loses_nothing),
		KILL_TEST(killing_the_keeper_loses_nothing),
		KILL_TEST(names_made_while_the_worker_dies_are_made_once),
		KILL_TEST(killing_clients_keeps_what_they_did_and_nothing_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * Members of families that are removed while they are added to, by handle, by key and without rseq,
 * through kills of the worker: nothing is lost, and who reads the whole family in another process never
 * sees it fall or leave what was begun and finished. handles.c has the steps one by one.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shm/order.h"
#include "tests/lib/client.h"
#include "tests/lib/raw.h"

#define KEYS_NR 40
#define ADDERS_NR 3

static struct harness h;

/* What the processes of a test share, by a memfd that also a program started anew can map. */
static struct shared {
	uint64_t begun[ADDERS_NR + 1][8], finished[ADDERS_NR + 1][8]; /* a cache line each */
	uint64_t has_ended;
	uint64_t summed, compacted, forgotten;
} *shared;
static int shared_fd = -1;

static void map_shared(void)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, shared_fd, 0);
	if (shared == MAP_FAILED)
		abort();
}

static int start(void **state)
{
	(void)state;
	harness_start(&h, NULL, "[counter members_hot_total]\nhot = yes\n"
				"[counter members_cold_total]\nhot = no\n");
	shared_fd = memfd_create("members", 0);
	assert_true(shared_fd >= 0);
	assert_int_equal(ftruncate(shared_fd, sizeof(*shared)), 0);
	map_shared();
	return 0;
}

static int clean_up(void **state)
{
	(void)state;
	if (shared)
		munmap(shared, sizeof(*shared));
	close(shared_fd);
	harness_cleanup(&h);
	return 0;
}

/* --- an operator ------------------------------------------------------------------------------- */

/* Asks for the removal of members; how many went. */
static int forget(int sock, const char *family, const uint64_t *keys, uint32_t nr)
{
	static char buf[WIRE_MAX] __attribute__((aligned(8)));
	struct wire_change *m = (struct wire_change *)buf;
	const struct wire_registered *r = (const struct wire_registered *)buf;
	size_t bytes = 0;
	int gone = 0;

	for (uint32_t i = 0; i < nr; i++)
		bytes += (size_t)snprintf(m->names + bytes, sizeof(buf) - sizeof(*m) - bytes,
					  "%s{key=\"%llu\"}", family, (unsigned long long)keys[i]) + 1;
	m->head = (struct wire_head){ WIRE_MAGIC, WIRE_VERSION, WIRE_CHANGE, 1,
				      (uint32_t)(sizeof(*m) + bytes) };
	m->op = WIRE_FORGET;
	m->nr = nr;
	m->bytes = (uint32_t)bytes;
	m->reserved = 0;
	if (wire_send(sock, m, NULL, 0, 0) || raw_recv(sock, buf, sizeof(buf)) <= 0 ||
	    r->head.kind != WIRE_REGISTERED || r->nr != nr)
		return -1;
	for (uint32_t i = 0; i < nr; i++) {
		if (r->results[i].err && r->results[i].err != -ENOENT)
			return -1;
		gone += !r->results[i].err;
	}
	return gone;
}

/* Asks a worker that was killed meanwhile no second time: connects anew instead. */
static int operator_connect(void)
{
	const struct timeval patience = { .tv_usec = 300000 };
	struct wire_welcome w;
	int sock = raw_connect(getenv("TALEA_SOCKET"));

	if (sock >= 0)
		setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (sock >= 0 && raw_hello(sock, "default", WIRE_WRITE, &w, NULL) == 0)
		return sock;
	if (sock >= 0)
		close(sock);
	return -1;
}

/* Forgets some keys of both families, again and again, through kills of the worker. */
static int forget_all_the_while(void *arg)
{
	static const char *const family[] = { "members_cold_total", "members_hot_total" };
	uint64_t keys[KEYS_NR], seed = 1;
	int sock = -1;

	(void)arg;
	while (!shm_take(&shared->has_ended)) {
		uint32_t nr = 0;
		int gone;

		for (uint64_t key = 0; key < KEYS_NR; key++) {
			seed = seed * 6364136223846793005ull + 1442695040888963407ull;
			if (seed >> 62 == 0)
				keys[nr++] = key;
		}
		if (sock < 0)
			sock = operator_connect();
		gone = sock < 0 ? -1 : forget(sock, family[nr & 1], keys, nr);
		if (gone < 0 && sock >= 0) {
			close(sock);
			sock = -1;
		}
		shm_count_add(&shared->forgotten, gone > 0 ? (uint64_t)gone : 0);
		harness_sleep_ms(3);
	}
	return 0;
}

/* --- adders: each adds to both families ---------------------------------------------------------- */

/* The next add of adder `who`, which add_done must follow. */
static uint64_t add_begin(int who)
{
	uint64_t n = 1 + shared->begun[who][0] % 3;

	shm_publish(&shared->begun[who][0], shared->begun[who][0] + n);
	return n;
}

static void add_done(int who)
{
	shm_publish(&shared->finished[who][0], shared->begun[who][0]);
}

static int add_by_handle(void *arg)
{
	struct talea *t = client_open("default");
	struct talea_family families[2] = { client_family(t, "members_cold_total"),
					    client_family(t, "members_hot_total") };
	struct talea_counter handles[2 * KEYS_NR];
	struct talea_status s = { .size = sizeof(s) };

	(void)arg;
	for (uint64_t i = 0; i < 2 * KEYS_NR; i++) {
		uint64_t key = i / 2;

		CHECK(talea_family_get(&families[i & 1], &key, sizeof(key), &handles[i]) == 0);
	}
	for (uint64_t i = 0; !shm_take(&shared->has_ended); i++) {
		talea_add(handles[i * 7 % (2 * KEYS_NR)], add_begin(0));
		add_done(0);
		if (i % 5000 == 0)
			talea_status(t, &s);
	}
	talea_close(t);
	return 0;
}

static void add_by_key(int who)
{
	struct talea *t = client_open("default");
	struct talea_family families[2] = { client_family(t, "members_cold_total"),
					    client_family(t, "members_hot_total") };

	for (uint64_t i = 0; !shm_take(&shared->has_ended); i++) {
		uint64_t key = i * 11 % KEYS_NR;

		talea_family_add(&families[i & 1], &key, sizeof(key), add_begin(who));
		add_done(who);
	}
	talea_close(t);
}

static int add_by_key_with_rseq(void *arg)
{
	(void)arg;
	add_by_key(1);
	return 0;
}

/* A program started anew: glibc reads this at its start. */
static int add_without_rseq(void *arg)
{
	char fd[16];

	(void)arg;
	snprintf(fd, sizeof(fd), "%d", shared_fd);
	CHECK(setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0", 1) == 0);
	execl("/proc/self/exe", "members", "without-rseq", fd, NULL);
	return 1;
}

static int main_without_rseq(const char *fd)
{
	struct talea_status s = { .size = sizeof(s) };
	struct talea *t;

	shared_fd = atoi(fd);
	map_shared();
	t = client_open("default");
	CHECK(talea_status(t, &s) == 0 && !s.rseq);
	add_by_key(2);
	talea_close(t);
	return 0;
}

static int64_t all(uint64_t (*of)[8])
{
	uint64_t sum = 0;

	for (int i = 0; i < ADDERS_NR; i++)
		sum += shm_take(&of[i][0]);
	return (int64_t)sum;
}

/* --- readers ----------------------------------------------------------------------------------- */

struct seen {
	int64_t sum;
	int nr, compacted_nr, hot_nr;
};

static int note(const char *name, const struct talea_total *n, void *arg)
{
	struct seen *s = arg;

	(void)name;
	s->sum += n->value;
	s->nr++;
	s->compacted_nr += n->how == TALEA_COMPACTED;
	s->hot_nr += n->hot;
	return 0;
}

static int read_all_the_while(void *arg)
{
	enum talea_how how = *(enum talea_how *)arg;
	struct talea *t = client_open("default");
	int64_t last = 0;

	while (!shm_take(&shared->has_ended)) {
		int64_t low = all(shared->finished), high;
		struct seen s = { 0 };
		bool is_sum;

		if (talea_each(t, "members_*", how, note, &s) == -EAGAIN)
			continue;
		shm_fence();
		high = all(shared->begun);
		is_sum = how == TALEA_SUM && !s.compacted_nr;
		shm_count_add(is_sum ? &shared->summed : &shared->compacted, 1);
		if (s.sum > high || (is_sum && s.sum < low)) {
			fprintf(stderr, "# %s %lld outside %lld to %lld\n",
				is_sum ? "sum" : "compacted", (long long)s.sum, (long long)low,
				(long long)high);
			return 1;
		}
		if (how == TALEA_SUM && !is_sum)
			continue;
		if (s.sum < last) {
			fprintf(stderr, "# fell from %lld to %lld\n", (long long)last,
				(long long)s.sum);
			return 1;
		}
		last = s.sum;
		harness_sleep_ms(1);
	}
	talea_close(t);
	return 0;
}

/* What was counted in the end; arg: the total. */
static int is_exact(void *arg)
{
	struct talea *t = client_open("default");
	int64_t want = *(int64_t *)arg;
	struct seen sum, compacted;
	uint64_t since = 0;

	do { /* the last removals may not have ended */
		sum = compacted = (struct seen){ 0 };
		CHECK(talea_sync(t, 5000) == 0);
		CHECK(talea_each(t, "members_*", TALEA_SUM, note, &sum) == 0);
		CHECK(talea_each(t, "members_*", TALEA_COMPACTED, note, &compacted) == 0);
	} while ((sum.sum != want || compacted.sum != want) && harness_waits(&since));
	fprintf(stderr, "# %d counters, %d of them hot: %lld by sum, %lld compacted, %lld added\n",
		compacted.nr, compacted.hot_nr, (long long)sum.sum, (long long)compacted.sum,
		(long long)want);
	CHECK(sum.sum == want && compacted.sum == want);
	talea_close(t);
	return 0;
}

/* Runs it all for some seconds, killing the worker meanwhile, and reckons up. */
static void run_all(bool has_one_without_rseq, int kills)
{
	static const enum talea_how hows[] = { TALEA_SUM, TALEA_COMPACTED };
	pid_t pids[6];
	uint64_t since = 0;
	int64_t total;
	int nr = 0;

	memset(shared, 0, sizeof(*shared));
	pids[nr++] = harness_client(&h, add_by_handle, NULL);
	pids[nr++] = harness_client(&h, add_by_key_with_rseq, NULL);
	if (has_one_without_rseq)
		pids[nr++] = harness_client(&h, add_without_rseq, NULL);
	for (int i = 0; i < 2; i++)
		pids[nr++] = harness_client(&h, read_all_the_while, (void *)&hows[i]);
	pids[nr++] = harness_client(&h, forget_all_the_while, NULL);
	for (int i = 0; i < kills; i++) {
		harness_sleep_ms((unsigned int)harness_times(500, 10000));
		harness_kill_worker(&h);
	}
	harness_sleep_ms(500);
	while ((shm_count_read(&shared->forgotten) <= 50 || shm_count_read(&shared->summed) <= 20) &&
	       harness_waits(&since))
		;
	shm_publish(&shared->has_ended, 1);
	for (int i = 0; i < nr; i++)
		assert_int_equal(harness_wait(pids[i]), 0);
	print_message("# %llu members forgotten, read %llu times by sum and %llu compacted\n",
		      (unsigned long long)shared->forgotten, (unsigned long long)shared->summed,
		      (unsigned long long)shared->compacted);
	assert_true(shared->forgotten > 50);
	assert_true(shared->summed > 20);
	total = all(shared->finished);
	harness_run(&h, is_exact, &total);
}

static void families_are_exact_while_their_members_come_and_go(void **state)
{
	struct wire_status s;
	uint64_t since = 0;

	(void)state;
	run_all(false, 2);
	harness_status(&h, &s);
	assert_int_equal(s.fallback_used, 0);
	assert_true(s.removed_nr > 0);
	while (!s.late_adds && harness_waits(&since)) /* sent once a second */
		harness_status(&h, &s);
	assert_true(s.late_adds > 0);
	harness_stop(&h);
}

static void a_program_without_rseq_says_so_and_loses_nothing(void **state)
{
	struct wire_status s;

	(void)state;
	run_all(true, 1);
	harness_status(&h, &s);
	assert_int_equal(s.fallback_used, 1);
	harness_stop(&h);
}

#define MEMBERS_TEST(f) cmocka_unit_test_setup_teardown(f, start, clean_up)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		MEMBERS_TEST(families_are_exact_while_their_members_come_and_go),
		MEMBERS_TEST(a_program_without_rseq_says_so_and_loses_nothing),
	};

	if (argc == 3 && !strcmp(argv[1], "without-rseq"))
		return main_without_rseq(argv[2]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

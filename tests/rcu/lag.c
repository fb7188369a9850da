/*
 * Why the worker's threads share their names by RCU: a scrape walks all of them, and the fold thread,
 * which looks names up and adds some meanwhile, must not wait for it. worker/registry.c is compiled in
 * here a second time so that a rwlock can take RCU's place: the control, in which the fold lags by
 * most of a walk. Only figures of one run are compared.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "daemon/worker/registry.h"

#include "tests/lib/harness.h"

/* These three are global: what takes the place of RCU's functions has no argument for them. */
static bool is_rwlock; /* changed while no other thread runs */
static _Thread_local bool is_folding; /* who stores takes the lock to write */

/* Writers first: else two scrapes in turn would keep the fold out for ever. */
static pthread_rwlock_t rwlock;

static void section_begin(void)
{
	if (!is_rwlock)
		urcu_memb_read_lock();
	else if (is_folding)
		pthread_rwlock_wrlock(&rwlock);
	else
		pthread_rwlock_rdlock(&rwlock);
}

static void section_end(void)
{
	if (is_rwlock)
		pthread_rwlock_unlock(&rwlock);
	else
		urcu_memb_read_unlock();
}

#define urcu_memb_read_lock   section_begin
#define urcu_memb_read_unlock section_end
#include "daemon/worker/registry.c"

#define NAMES_NR   (TEST_IS_SANITIZED ? 100000u : 300000u)
#define SCRAPES_NR 2
#define ROUNDS_NR  8 /* in each of two blocks of either kind */
#define BLOCKS_NR  2
#define TIMES      20 /* so much longer waits who waits for a walk; thousands are seen */

struct fixture {
	struct config config;
	struct registry registry;
	struct record *records;
	uint32_t records_nr;
	uint32_t is_over;
	uint64_t walks_nr, walked_ns;
};

static uint64_t hash_of(uint32_t where)
{
	return where * 0x9e3779b97f4a7c15ull;
}

static bool is_record(const struct record *rec, const void *key)
{
	return rec->where == *(const uint32_t *)key;
}

static void name_add(struct fixture *f)
{
	struct record *rec = &f->records[f->records_nr];

	rec->where = f->records_nr++;
	registry_add(&f->registry, rec, hash_of(rec->where));
}

static void *scrape(void *arg)
{
	struct fixture *f = arg;
	struct cds_lfht *names = f->registry.names;

	registry_enter();
	while (!shm_read32(&f->is_over)) {
		uint64_t begin_ns = harness_now_ns(), sum = 0;
		struct cds_lfht_iter iter;
		struct cds_lfht_node *node;

		registry_read_begin();
		cds_lfht_for_each(names, &iter, node)
			sum += caa_container_of(node, struct record, node)->where;
		registry_read_end();
		shm_count_add(&f->walked_ns, harness_now_ns() - begin_ns);
		shm_count_add(&f->walks_nr, sum != 0);
	}
	registry_leave();
	return NULL;
}

/* What the fold thread does for a client that asks for one name that exists and one that does not. */
static uint64_t serve(struct fixture *f, uint32_t round)
{
	uint32_t known = round * 7919 % NAMES_NR;
	uint64_t begin_ns = harness_now_ns();
	const struct record *rec;

	registry_read_begin();
	rec = registry_find(&f->registry, hash_of(known), is_record, &known);
	name_add(f);
	registry_read_end();
	begin_ns = harness_now_ns() - begin_ns;
	assert_ptr_equal(rec, &f->records[known]);
	return begin_ns;
}

/* Serves ROUNDS_NR times beside scrapes that never end; how long each took goes to lags. */
static void block_run(struct fixture *f, bool with_rwlock, uint64_t *lags,
		      uint64_t *ret_walk_ns)
{
	const struct timespec pause = { 0, 2000000 };
	pthread_t threads[SCRAPES_NR];

	is_rwlock = with_rwlock;
	f->walks_nr = f->walked_ns = 0;
	shm_set32(&f->is_over, 0);
	for (unsigned int i = 0; i < SCRAPES_NR; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, scrape, f), 0);
	/* Scrapes are under way. */
	while (shm_count_read(&f->walks_nr) < SCRAPES_NR)
		nanosleep(&pause, NULL);
	for (uint32_t i = 0; i < ROUNDS_NR; i++) {
		nanosleep(&pause, NULL);
		lags[i] = serve(f, i);
	}
	shm_set32(&f->is_over, 1);
	for (unsigned int i = 0; i < SCRAPES_NR; i++)
		pthread_join(threads[i], NULL);
	*ret_walk_ns = f->walked_ns / f->walks_nr;
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static uint64_t median(uint64_t *lags)
{
	qsort(lags, BLOCKS_NR * ROUNDS_NR, sizeof(*lags), by_size);
	return lags[BLOCKS_NR * ROUNDS_NR / 2];
}

static void the_fold_does_not_lag_with_a_scrape_but_with_a_rwlock_it_would(void **state)
{
	uint64_t lags[2][BLOCKS_NR * ROUNDS_NR], walk_ns[2], rcu_ns, rwlock_ns;
	struct fixture *f = *state;

	for (unsigned int block = 0; block < BLOCKS_NR; block++) /* in turns: the machine is shared */
		for (unsigned int kind = 0; kind < 2; kind++)
			block_run(f, kind, lags[kind] + block * ROUNDS_NR, &walk_ns[kind]);
	rcu_ns = median(lags[0]);
	rwlock_ns = median(lags[1]);
	print_message("# %u names, a walk of them takes %.1f ms; a request beside %d scrapes takes "
		      "%.1f us with RCU, %.1f us with a rwlock\n", f->records_nr,
		      (double)walk_ns[0] / 1e6, SCRAPES_NR, (double)rcu_ns / 1e3,
		      (double)rwlock_ns / 1e3);
	assert_true(rcu_ns * TIMES < walk_ns[0]);
	assert_true(rcu_ns * TIMES < rwlock_ns);
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	pthread_rwlockattr_t attr;

	if (!f)
		return -1;
	*state = f;
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&rwlock, &attr);
	f->records = calloc(NAMES_NR + 2 * BLOCKS_NR * ROUNDS_NR, sizeof(*f->records));
	if (!f->records || registry_init(&f->registry, &f->config))
		return -1;
	registry_enter();
	is_folding = true;
	registry_grow(&f->registry, NAMES_NR);
	registry_read_begin();
	while (f->records_nr < NAMES_NR)
		name_add(f);
	registry_read_end();
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	is_rwlock = false;
	registry_fini(&f->registry);
	registry_leave();
	free(f->records);
	free(f);
	pthread_rwlock_destroy(&rwlock);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_fold_does_not_lag_with_a_scrape_but_with_a_rwlock_it_would),
	};

	return cmocka_run_group_tests_name("lag", tests, set_up, tear_down);
}

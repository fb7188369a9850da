/*
 * Why a record that is removed waits for a grace period: a reader that found it before still reads it.
 * worker/registry.c is compiled in here with AddressSanitizer, whatever the rest is built with, and so
 * that its callback can be made to run at once: the control, in which the reader's read is reported.
 * Each scenario runs in a process of its own, because a report ends it.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/worker/registry.h"

#include "tests/lib/child.h"
#include "tests/lib/harness.h"

/* Global because what takes the place of call_rcu has no argument for it. */
static bool is_at_once;

static void removal_ends(struct rcu_head *head, void (*callback)(struct rcu_head *head))
{
	if (is_at_once)
		callback(head);
	else
		urcu_memb_call_rcu(head, callback);
}

#ifdef __has_feature /* clang's name for what gcc defines */
#if __has_feature(address_sanitizer) && !defined(__SANITIZE_ADDRESS__)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#define urcu_memb_call_rcu removal_ends
#include "daemon/worker/registry.c"

#define NAMES_NR   1000u
#define REMOVED_NR 100u
#define ROUNDS_NR  200u
#define HELD_NR	   512u
#define READERS_NR 2
#define PATIENCE_NS 60000000000ull

/* Each scenario's process has a copy of its own. */
struct fixture {
	struct config config;
	struct registry registry;
	struct record *records;
	struct registry_gone *gone;
	sem_t is_held, is_removed;
	uint32_t is_over;
	uint64_t read_nr;
};

static int set_up(void **state)
{
	*state = calloc(1, sizeof(struct fixture));
	return *state ? 0 : -1;
}

static int tear_down(void **state)
{
	free(*state);
	return 0;
}

static uint64_t hash_of(uint32_t where)
{
	return where * 0x9e3779b97f4a7c15ull;
}

static bool is_record(const struct record *rec, const void *key)
{
	return rec->where == *(const uint32_t *)key;
}

static void names_add(struct fixture *f, uint32_t from, uint32_t nr)
{
	registry_read_begin();
	for (uint32_t i = from; i < from + nr; i++) {
		registry_reclaim(&f->records[i]);
		f->records[i].where = i;
		registry_add(&f->registry, &f->records[i], hash_of(i));
	}
	registry_read_end();
}

static void registry_begin(struct fixture *f)
{
	f->records = calloc(NAMES_NR, sizeof(*f->records));
	f->gone = calloc(NAMES_NR, sizeof(*f->gone));
	CHECK(f->records && f->gone && !registry_init(&f->registry, &f->config));
	registry_enter();
	names_add(f, 0, NAMES_NR);
}

static void registry_end(struct fixture *f)
{
	registry_fini(&f->registry);
	registry_leave();
	for (uint32_t i = 0; i < NAMES_NR; i++)
		registry_reclaim(&f->records[i]);
	free(f->records);
	free(f->gone);
}

static void names_remove(struct fixture *f, uint32_t from, uint32_t nr)
{
	registry_read_begin();
	for (uint32_t i = from; i < from + nr; i++)
		registry_remove(&f->registry, &f->records[i], &f->gone[i]);
	registry_read_end();
}

static void names_await(struct fixture *f, uint32_t from, uint32_t nr)
{
	uint64_t begin_ns = harness_now_ns();

	for (uint32_t i = from; i < from + nr; i++) {
		while (!registry_is_gone(&f->gone[i])) {
			CHECK(harness_now_ns() - begin_ns < PATIENCE_NS);
			harness_sleep_ms(1);
		}
	}
}

/* --- one reader that holds one record --------------------------------------------------------- */

static void *hold(void *arg)
{
	struct fixture *f = arg;
	const uint32_t wanted = 17;
	const struct record *rec;

	registry_enter();
	registry_read_begin();
	rec = registry_find(&f->registry, hash_of(wanted), is_record, &wanted);
	CHECK(rec);
	sem_post(&f->is_held);
	sem_wait(&f->is_removed);
	CHECK(rec->where == wanted);
	registry_read_end();
	registry_leave();
	return NULL;
}

static void one_is_held(struct fixture *f)
{
	pthread_t reader;

	sem_init(&f->is_held, 0, 0);
	sem_init(&f->is_removed, 0, 0);
	registry_begin(f);
	CHECK(!pthread_create(&reader, NULL, hold, f));
	sem_wait(&f->is_held);
	names_remove(f, 17, 1);
	/* A grace period without readers takes less. */
	harness_sleep_ms(100);
	CHECK(is_at_once || !registry_is_gone(&f->gone[17]));
	sem_post(&f->is_removed);
	pthread_join(reader, NULL);
	names_await(f, 17, 1);
	/* Whoever touched it now would be told. */
	CHECK(__asan_address_is_poisoned(&f->records[17].where));
	registry_end(f);
}

/* --- readers that walk and look up ------------------------------------------------------------ */

static void *walk(void *arg)
{
	struct fixture *f = arg;
	struct registry *registry = &f->registry;

	registry_enter();
	while (!shm_read32(&f->is_over)) {
		const struct record *held[HELD_NR] = { NULL };
		struct cds_lfht_iter iter;
		struct cds_lfht_node *node;
		uint32_t at = 0;
		uint64_t nr = 0;

		registry_read_begin();
		cds_lfht_for_each(registry->names, &iter, node) {
			/* What was found first is read last. */
			if (held[at % HELD_NR])
				nr += registry_find(registry, hash_of(held[at % HELD_NR]->where),
						    is_record, &held[at % HELD_NR]->where) != NULL;
			held[at++ % HELD_NR] = caa_container_of(node, struct record, node);
		}
		registry_read_end();
		shm_count_add(&f->read_nr, nr);
	}
	registry_leave();
	return NULL;
}

static void many_come_and_go(struct fixture *f)
{
	pthread_t readers[READERS_NR];

	registry_begin(f);
	for (unsigned int i = 0; i < READERS_NR; i++)
		CHECK(!pthread_create(&readers[i], NULL, walk, f));
	for (uint32_t round = 0; round < ROUNDS_NR || !shm_count_read(&f->read_nr); round++) {
		uint32_t from = round * REMOVED_NR % NAMES_NR;

		names_remove(f, from, REMOVED_NR);
		names_await(f, from, REMOVED_NR);
		harness_sleep_ms(1); /* who still held one would read it now */
		names_add(f, from, REMOVED_NR);
	}
	shm_set32(&f->is_over, 1);
	for (unsigned int i = 0; i < READERS_NR; i++)
		pthread_join(readers[i], NULL);
	registry_end(f);
}

/* --- the tests -------------------------------------------------------------------------------- */

/* Runs a scenario in a child: its exit code; what it says on stderr goes to said. */
static int run(struct fixture *f, void (*scenario)(struct fixture *), bool at_once, char *said,
	       size_t size)
{
	FILE *out = tmpfile();
	size_t got;
	pid_t pid;
	int code;

	assert_non_null(out);
	pid = test_fork();
	assert_true(pid >= 0);
	if (!pid) {
		dup2(fileno(out), STDERR_FILENO);
		is_at_once = at_once;
		scenario(f);
		_exit(0);
	}
	code = harness_wait(pid);
	rewind(out);
	got = fread(said, 1, size - 1, out);
	said[got] = 0;
	fclose(out);
	return code;
}

static void is_silent(struct fixture *f, void (*scenario)(struct fixture *))
{
	char said[4096];
	int code = run(f, scenario, false, said, sizeof(said));

	if (code || *said)
		fail_msg("it ended with %d and said: %s", code, said);
}

static void what_a_reader_holds_outlives_its_removal(void **state)
{
	is_silent(*state, one_is_held);
}

static void freed_at_once_it_would_be_read_after_its_end(void **state)
{
	char said[4096];

	assert_int_not_equal(run(*state, one_is_held, true, said, sizeof(said)), 0);
	if (!strstr(said, "use-after-poison") || !strstr(said, "hold"))
		fail_msg("AddressSanitizer did not report the reader: %s", said);
}

static void walks_and_look_ups_beside_removals_read_nothing_that_is_gone(void **state)
{
	is_silent(*state, many_come_and_go);
}

#define REMOVAL_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		REMOVAL_TEST(what_a_reader_holds_outlives_its_removal),
		REMOVAL_TEST(freed_at_once_it_would_be_read_after_its_end),
		REMOVAL_TEST(walks_and_look_ups_beside_removals_read_nothing_that_is_gone),
	};

	return cmocka_run_group_tests_name("removal", tests, NULL, NULL);
}

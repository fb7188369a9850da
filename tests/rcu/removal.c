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

static struct registry registry;
static struct record *records;
static struct registry_gone *gone;
static sem_t is_held, is_removed;
static uint32_t is_over;
static uint64_t read_nr;

static uint64_t hash_of(uint32_t where)
{
	return where * 0x9e3779b97f4a7c15ull;
}

static bool is_record(const struct record *rec, const void *key)
{
	return rec->where == *(const uint32_t *)key;
}

static void names_add(uint32_t from, uint32_t nr)
{
	registry_read_begin();
	for (uint32_t i = from; i < from + nr; i++) {
		registry_reclaim(&records[i]);
		records[i].where = i;
		registry_add(&registry, &records[i], hash_of(i));
	}
	registry_read_end();
}

static void registry_begin(void)
{
	static struct config config;

	records = calloc(NAMES_NR, sizeof(*records));
	gone = calloc(NAMES_NR, sizeof(*gone));
	CHECK(records && gone && !registry_init(&registry, &config));
	registry_enter();
	names_add(0, NAMES_NR);
}

static void registry_end(void)
{
	registry_fini(&registry);
	registry_leave();
	for (uint32_t i = 0; i < NAMES_NR; i++)
		registry_reclaim(&records[i]);
	free(records);
	free(gone);
}

static void names_remove(uint32_t from, uint32_t nr)
{
	registry_read_begin();
	for (uint32_t i = from; i < from + nr; i++)
		registry_remove(&registry, &records[i], &gone[i]);
	registry_read_end();
}

static void names_await(uint32_t from, uint32_t nr)
{
	uint64_t begin_ns = harness_now_ns();

	for (uint32_t i = from; i < from + nr; i++) {
		while (!registry_is_gone(&gone[i])) {
			CHECK(harness_now_ns() - begin_ns < PATIENCE_NS);
			harness_sleep_ms(1);
		}
	}
}

/* --- one reader that holds one record --------------------------------------------------------- */

static void *hold(void *arg)
{
	const uint32_t wanted = 17;
	const struct record *rec;

	registry_enter();
	registry_read_begin();
	rec = registry_find(&registry, hash_of(wanted), is_record, &wanted);
	CHECK(rec);
	sem_post(&is_held);
	sem_wait(&is_removed);
	CHECK(rec->where == wanted);
	registry_read_end();
	registry_leave();
	return arg;
}

static void one_is_held(void)
{
	pthread_t reader;

	sem_init(&is_held, 0, 0);
	sem_init(&is_removed, 0, 0);
	registry_begin();
	CHECK(!pthread_create(&reader, NULL, hold, NULL));
	sem_wait(&is_held);
	names_remove(17, 1);
	/* A grace period without readers takes less. */
	harness_sleep_ms(100);
	CHECK(is_at_once || !registry_is_gone(&gone[17]));
	sem_post(&is_removed);
	pthread_join(reader, NULL);
	names_await(17, 1);
	/* Whoever touched it now would be told. */
	CHECK(__asan_address_is_poisoned(&records[17].where));
	registry_end();
}

/* --- readers that walk and look up ------------------------------------------------------------ */

static void *walk(void *arg)
{
	registry_enter();
	while (!shm_read32(&is_over)) {
		const struct record *held[HELD_NR] = { NULL };
		struct cds_lfht_iter iter;
		struct cds_lfht_node *node;
		uint32_t at = 0;
		uint64_t nr = 0;

		registry_read_begin();
		cds_lfht_for_each(registry.names, &iter, node) {
			/* What was found first is read last. */
			if (held[at % HELD_NR])
				nr += registry_find(&registry, hash_of(held[at % HELD_NR]->where),
						    is_record, &held[at % HELD_NR]->where) != NULL;
			held[at++ % HELD_NR] = caa_container_of(node, struct record, node);
		}
		registry_read_end();
		shm_count_add(&read_nr, nr);
	}
	registry_leave();
	return arg;
}

static void many_come_and_go(void)
{
	pthread_t readers[READERS_NR];

	registry_begin();
	for (unsigned int i = 0; i < READERS_NR; i++)
		CHECK(!pthread_create(&readers[i], NULL, walk, NULL));
	for (uint32_t round = 0; round < ROUNDS_NR || !shm_count_read(&read_nr); round++) {
		uint32_t from = round * REMOVED_NR % NAMES_NR;

		names_remove(from, REMOVED_NR);
		names_await(from, REMOVED_NR);
		harness_sleep_ms(1); /* who still held one would read it now */
		names_add(from, REMOVED_NR);
	}
	shm_set32(&is_over, 1);
	for (unsigned int i = 0; i < READERS_NR; i++)
		pthread_join(readers[i], NULL);
	registry_end();
}

/* --- the tests -------------------------------------------------------------------------------- */

/* Runs a scenario in a child: its exit code; what it says on stderr goes to said. */
static int run(void (*scenario)(void), bool at_once, char *said, size_t size)
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
		scenario();
		_exit(0);
	}
	code = harness_wait(pid);
	rewind(out);
	got = fread(said, 1, size - 1, out);
	said[got] = 0;
	fclose(out);
	return code;
}

static void is_silent(void (*scenario)(void))
{
	char said[4096];
	int code = run(scenario, false, said, sizeof(said));

	if (code || *said)
		fail_msg("it ended with %d and said: %s", code, said);
}

static void what_a_reader_holds_outlives_its_removal(void **state)
{
	(void)state;
	is_silent(one_is_held);
}

static void freed_at_once_it_would_be_read_after_its_end(void **state)
{
	char said[4096];

	(void)state;
	assert_int_not_equal(run(one_is_held, true, said, sizeof(said)), 0);
	if (!strstr(said, "use-after-poison") || !strstr(said, "hold"))
		fail_msg("AddressSanitizer did not report the reader: %s", said);
}

static void walks_and_look_ups_beside_removals_read_nothing_that_is_gone(void **state)
{
	(void)state;
	is_silent(many_come_and_go);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_a_reader_holds_outlives_its_removal),
		cmocka_unit_test(freed_at_once_it_would_be_read_after_its_end),
		cmocka_unit_test(walks_and_look_ups_beside_removals_read_nothing_that_is_gone),
	};

	return cmocka_run_group_tests_name("removal", tests, NULL, NULL);
}

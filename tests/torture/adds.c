/*
 * Many adds from many sides: four processes of four threads each count on hot rows, cold cells and
 * family members while their threads are moved between the CPUs and interrupted by signals whose
 * handler counts too. Afterwards every total is the expected number, bit for bit; during it readers
 * in processes of their own never see a value outside what was finished before and begun after.
 * Once with rows where the configuration wants them, once with three rows for which the policy lets
 * all counters compete. TALEA_LONG=1 makes it ten times as many adds.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <talea.h>
#include <time.h>

#include "tests/lib/harness.h"
#include "tests/lib/test.h"

#include "order.h"

#define PROCESSES 4
#define THREADS 4
#define KEYS 50u
#define CHUNK 600
#define KINDS 6 /* of an add: two hot counters, two cold ones, a family twice */

/* Shared by all processes of the test. */
struct ledger {
	uint64_t begun[PROCESSES][THREADS]; /* adds of kind 0 */
	uint64_t finished[PROCESSES][THREADS];
	uint64_t signals; /* adds made by signal handlers */
	uint64_t readings;
	uint64_t is_over;
};

/* A process that the test starts has a copy of its own, but for the ledger. */
struct fixture {
	struct ledger *ledger;
	struct talea *t;
	struct talea_counter counters[4], signalled;
	struct talea_family family;
};

struct job {
	struct fixture *fixture;
	bool is_by_rule; /* which counters are hot was configured */
	long chunks; /* of each thread */
	int process;
};

static const char *const names[] = { "torture_hot_one_total", "torture_hot_two_total",
				     "torture_cold_one_total", "torture_cold_two_total" };

static struct fixture *interrupted; /* global because a signal handler has no argument for it */

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->ledger = mmap(NULL, sizeof(*f->ledger), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(f->ledger != MAP_FAILED);
	f->signalled = (struct talea_counter)TALEA_COUNTER_INIT;
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	munmap(f->ledger, sizeof(*f->ledger));
	free(f);
	return 0;
}

static int declare_all(void *arg)
{
	struct fixture *f = arg;

	CHECK(talea_open(&f->t, NULL) == 0);
	CHECK(talea_counter(f->t, &f->signalled, "torture_signals_total", "From handlers.",
			    NULL) == 0);
	for (int i = 0; i < 4; i++)
		CHECK(talea_counter(f->t, &f->counters[i], names[i], "Torture.", NULL) == 0);
	CHECK(talea_family(f->t, &f->family, "torture_keys_total", "Torture.", "key:u64") == 0);
	for (uint64_t key = 0; key < KEYS; key++)
		CHECK(talea_family_add(&f->family, &key, sizeof(key), 0) == 0);
	return 0;
}

static void on_signal(int signal)
{
	struct fixture *f = interrupted;
	uint64_t key = 0;

	(void)signal;
	talea_inc(f->signalled);
	talea_family_add(&f->family, &key, sizeof(key), 1);
	shm_count_add(&f->ledger->signals, 1);
}

struct thread_job {
	struct job *job;
	int thread;
	pid_t tid;
};

static void *add_chunks(void *arg)
{
	struct thread_job *t = arg;
	struct fixture *f = t->job->fixture;
	const struct talea_counter *counters = f->counters;
	struct talea_family *family = &f->family;
	uint64_t *begun = &f->ledger->begun[t->job->process][t->thread];
	uint64_t *finished = &f->ledger->finished[t->job->process][t->thread];

	shm_set32((uint32_t *)&t->tid, (uint32_t)syscall(SYS_gettid));
	for (long c = 0; c < t->job->chunks; c++) {
		shm_publish(begun, (uint64_t)(c + 1) * (CHUNK / KINDS));
		for (uint64_t i = 0; i < CHUNK / KINDS; i++) {
			uint64_t a = i % KEYS, b = (i * 7 + 3) % KEYS;

			for (int k = 0; k < 4; k++)
				talea_inc(counters[k]);
			talea_family_add(family, &a, sizeof(a), 1);
			talea_family_add(family, &b, sizeof(b), 1);
		}
		shm_publish(finished, (uint64_t)(c + 1) * (CHUNK / KINDS));
	}
	return NULL;
}

/* Moves the threads about and interrupts them while they add. */
static int add_process(void *arg)
{
	struct job *job = arg;
	struct fixture *f = job->fixture;
	struct thread_job jobs[THREADS];
	pthread_t threads[THREADS];
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	struct timespec nap = { .tv_nsec = 200000 };
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	declare_all(f);
	interrupted = f;
	sigaction(SIGUSR1, &sa, NULL);
	for (int i = 0; i < THREADS; i++) {
		jobs[i] = (struct thread_job){ job, i, 0 };
		CHECK(pthread_create(&threads[i], NULL, add_chunks, &jobs[i]) == 0);
	}
	for (unsigned int round = 0;; round++) {
		bool is_done = true;

		for (int i = 0; i < THREADS; i++) {
			pid_t tid = (pid_t)shm_read32((uint32_t *)&jobs[i].tid);
			cpu_set_t set;

			is_done &= shm_take(&f->ledger->finished[job->process][i]) ==
				   (uint64_t)job->chunks * (CHUNK / KINDS);
			CPU_ZERO(&set);
			CPU_SET((round + (unsigned int)i) % (unsigned int)cpus, &set);
			if (!tid)
				continue;
			sched_setaffinity(tid, sizeof(set), &set);
			syscall(SYS_tgkill, getpid(), tid, SIGUSR1);
		}
		if (is_done)
			break;
		nanosleep(&nap, NULL);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	talea_close(f->t);
	return 0;
}

static uint64_t table_sum(uint64_t table[PROCESSES][THREADS])
{
	uint64_t sum = 0;

	for (int p = 0; p < PROCESSES; p++)
		for (int i = 0; i < THREADS; i++)
			sum += shm_take(&table[p][i]);
	return sum;
}

/* Sums one counter of each sort for as long as the writers run. */
static int read_process(void *arg)
{
	struct fixture *f = arg;
	struct ledger *l = f->ledger;
	int64_t last[4] = { 0 };

	declare_all(f);
	while (!shm_take(&l->is_over)) {
		for (int k = 0; k < 4; k++) {
			struct talea_total n = { .size = sizeof(n) };
			uint64_t finished = table_sum(l->finished), begun;

			CHECK(talea_read(f->t, f->counters[k], TALEA_SUM, 0, &n) == 0);
			begun = table_sum(l->begun);
			CHECK((uint64_t)n.value >= finished && (uint64_t)n.value <= begun);
			CHECK(n.value >= last[k]);
			last[k] = n.value;
			CHECK(talea_read(f->t, f->counters[k], TALEA_COMPACTED, 0, &n) == 0);
			CHECK((uint64_t)n.value <= table_sum(l->begun));
			CHECK(n.age_ns < 10000000000ull);
			shm_count_add(&l->readings, 1);
		}
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
	talea_close(f->t);
	return 0;
}

static int check_process(void *arg)
{
	struct job *job = arg;
	struct fixture *f = job->fixture;
	uint64_t rounds = (uint64_t)PROCESSES * THREADS * (uint64_t)job->chunks * (CHUNK / KINDS);
	uint64_t signals = shm_take(&f->ledger->signals), members = 0;
	struct talea_total n = { .size = sizeof(n) };

	declare_all(f);
	CHECK(talea_sync(f->t, 5000) == 0);
	for (int k = 0; k < 4; k++) {
		CHECK(talea_read(f->t, f->counters[k], TALEA_SUM, 0, &n) == 0);
		CHECK((uint64_t)n.value == rounds);
		CHECK(talea_read(f->t, f->counters[k], TALEA_COMPACTED, 0, &n) == 0);
		CHECK((uint64_t)n.value == rounds);
		CHECK(!job->is_by_rule || n.hot == (k < 2));
	}
	CHECK(talea_read(f->t, f->signalled, TALEA_COMPACTED, 0, &n) == 0);
	CHECK((uint64_t)n.value == signals && signals > 0);
	for (uint64_t key = 0; key < KEYS; key++) {
		char name[64];

		snprintf(name, sizeof(name), "torture_keys_total{key=\"%u\"}", (unsigned int)key);
		CHECK(talea_read_name(f->t, name, TALEA_COMPACTED, 0, &n) == 0);
		CHECK((uint64_t)n.value == rounds * 2 / KEYS + (key ? 0 : signals));
		members += (uint64_t)n.value;
	}
	CHECK(members == 2 * rounds + signals);
	CHECK(talea_read_name(f->t, "talea_overflow_total", TALEA_COMPACTED, 0, &n) == 0);
	CHECK(n.value == 0);
	talea_close(f->t);
	return 0;
}

static void run(struct fixture *f, const char *sections, bool is_by_rule, long adds)
{
	struct job jobs[PROCESSES];
	struct harness h;
	pid_t pids[PROCESSES], reader;
	struct ledger *l = f->ledger;

	harness_start(&h, NULL, sections);
	harness_run(&h, declare_all, f);
	reader = harness_client(&h, read_process, f);
	for (int p = 0; p < PROCESSES; p++) {
		jobs[p] = (struct job){ f, is_by_rule, adds / (PROCESSES * THREADS * CHUNK), p };
		pids[p] = harness_client(&h, add_process, &jobs[p]);
	}
	for (int p = 0; p < PROCESSES; p++)
		assert_int_equal(harness_wait(pids[p]), 0);
	shm_publish(&l->is_over, 1);
	assert_int_equal(harness_wait(reader), 0);
	harness_run(&h, check_process, &jobs[0]);
	print_message("# %ld adds a thread, %llu in handlers, %llu readings beside them\n",
		      jobs[0].chunks * CHUNK, (unsigned long long)l->signals,
		      (unsigned long long)l->readings);
	assert_true(l->readings > 0);
	harness_stop(&h);
}

static void every_add_of_threads_signals_and_migrations_is_counted_once(void **state)
{
	run(*state, "[counter torture_hot_*]\nhot = yes\n[counter torture_cold_*]\nhot = no\n"
	    "[counter torture_keys_total]\nhot = no\n", true,
	    harness_times(60000000, 1000000000));
}

static void and_while_counters_compete_for_rows(void **state)
{
	run(*state, "[namespace default]\nrows-max = 3\n", false,
	    harness_times(40000000, 1000000000));
}

#define ADDS_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ADDS_TEST(every_add_of_threads_signals_and_migrations_is_counted_once),
		ADDS_TEST(and_while_counters_compete_for_rows),
	};

	return cmocka_run_group_tests_name("adds", tests, NULL, NULL);
}

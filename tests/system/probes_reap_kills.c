/*
 * A keeper that dies while it frees keys: killed between any two of its instructions, or at random,
 * the next one loses and doubles nothing. Controls without the ledger's intent do. And through a
 * daemon whose keeper and worker are killed: kept + other + removed = events. Root only.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <talea.h>

#include "daemon/keeper/probe/reap.h"
#include "daemon/keeper/probe/probe.h"
#include "daemon/worker/kernel/maps.h"
#include "tests/lib/child.h"
#include "tests/lib/clock.h"
#include "tests/lib/harness.h"
#include "tests/lib/keys.h"
#include "tests/lib/needs.h"
#include "tests/lib/stepper.h"

#define NOBODY	  5000000u /* and up: more than any process's number can be */
#define STEPS_MAX 100000u
#define KILLS	  250u /* places, spread over all of what is stepped */
#define KEYS	  48u
#define HELD	  1000u
#define KILL_US_MAX 400u

/* --- maps of the test's own ------------------------------------------------------------------- */

static struct probe_live live;
static uint32_t place;

static void begin(void)
{
	test_needs_bpf();
	keys_cpus_nr = maps_cpus_nr();
	keys_source = (struct probe_source){ 0 };
	keys_def(0, "tgid", TALEA_KEY_TGID, 8);
	keys_maps_make();
	live = (struct probe_live){ .sources_nr = 1, .sources[0] = keys_source };
	place++;
}

static uint64_t held(uint64_t key)
{
	uint64_t values[SHM_CPUS_MAX], sum = 0;

	if (bpf_map_lookup_elem(keys_source.keys_fd, &key, values))
		return 0;
	for (uint32_t cpu = 0; cpu < keys_cpus_nr; cpu++)
		sum += values[cpu];
	return sum;
}

static bool is_there(uint64_t key)
{
	uint64_t values[SHM_CPUS_MAX];

	return !bpf_map_lookup_elem(keys_source.keys_fd, &key, values);
}

static void ledger_read(struct probe_ledger *l)
{
	uint32_t zero = 0;

	assert_int_equal(bpf_map_lookup_elem(keys_source.ledger_fd, &zero, l), 0);
}

static void ledger_write(const struct probe_ledger *l)
{
	uint32_t zero = 0;

	assert_int_equal(bpf_map_update_elem(keys_source.ledger_fd, &zero, l, BPF_ANY), 0);
}

/* --- killed between two instructions ---------------------------------------------------------- */

static const uint64_t dead = NOBODY;

static void freed_as_reap_does(void *arg)
{
	struct probe_ledger l;

	(void)arg;
	ledger_read(&l);
	stepper_stop();
	if (!reap_begin(&keys_source, &l, &dead, HELD))
		reap_finish(&keys_source, &l);
	stepper_stop();
}

static void deleted_first(void *arg)
{
	uint64_t values[SHM_CPUS_MAX];
	struct probe_ledger l;

	(void)arg;
	ledger_read(&l);
	stepper_stop();
	bpf_map_lookup_and_delete_elem(keys_source.keys_fd, &dead, values);
	for (uint32_t cpu = 0; cpu < keys_cpus_nr; cpu++)
		l.folded += values[cpu];
	ledger_write(&l);
	stepper_stop();
}

static void booked_first(void *arg)
{
	struct probe_ledger l;

	(void)arg;
	ledger_read(&l);
	l.folded += HELD;
	stepper_stop();
	ledger_write(&l);
	bpf_map_delete_elem(keys_source.keys_fd, &dead);
	stepper_stop();
}

struct killed {
	uint32_t nr, odd, replayed, lost, doubled;
};

/* Kills it in places all over what it does; each time the next keeper comes and looks. */
static void kill_all_over(void (*body)(void *arg), struct killed *ret)
{
	struct stepped all, one;
	struct probe_ledger l;
	uint64_t sum;

	*ret = (struct killed){ 0 };
	libbpf_num_possible_cpus(); /* reads a file once: not in what is stepped */
	keys_store(&dead, HELD);
	stepper_run(body, NULL, STEPS_MAX, NULL, &all);
	assert_in_range(all.steps, 100, STEPS_MAX - 1);
	for (uint64_t at = 0; at <= all.steps; at += 1 + all.steps / KILLS) {
		ledger_write(&(struct probe_ledger){ 0 });
		keys_store(&dead, HELD);
		stepper_run(body, NULL, at, NULL, &one);
		ledger_read(&l);
		ret->odd += l.seq & 1;
		ret->replayed += l.seq & 1 && !is_there(dead);
		probe_reap(place, &live);
		ledger_read(&l);
		assert_int_equal(l.seq & 1, 0);
		sum = l.folded + held(dead);
		ret->lost += sum < HELD;
		ret->doubled += sum > HELD;
		ret->nr++;
	}
	print_message("# %llu instructions, %u kills: %u left an intent, %u of them a deleted key; "
		      "%u lost, %u doubled\n", (unsigned long long)all.steps, ret->nr, ret->odd,
		      ret->replayed, ret->lost, ret->doubled);
}

static void a_kill_between_any_two_instructions_loses_and_doubles_nothing(void **state)
{
	struct killed k;

	(void)state;
	begin();
	kill_all_over(freed_as_reap_does, &k);
	assert_int_equal(k.lost, 0);
	assert_int_equal(k.doubled, 0);
	assert_true(k.replayed > 0);
	assert_true(k.odd > k.replayed);
	keys_maps_drop();
}

/* The controls. */
static void without_the_intent_kills_lose_or_double(void **state)
{
	struct killed k;

	(void)state;
	begin();
	kill_all_over(deleted_first, &k);
	assert_true(k.lost > 0);
	kill_all_over(booked_first, &k);
	assert_true(k.doubled > 0);
	keys_maps_drop();
}

/* --- what the next keeper makes of it --------------------------------------------------------- */

/* Stops where a keeper does that is killed behind its delete. */
static void intent_left(uint64_t held_before, bool is_deleted)
{
	struct probe_ledger l = { 0 };

	ledger_write(&l);
	keys_store(&dead, held_before);
	assert_int_equal(reap_begin(&keys_source, &l, &dead, held_before), 0);
	if (is_deleted)
		assert_true(keys_delete(&dead));
}

static void replay_is(uint64_t folded, uint64_t freed_nr, uint64_t kept)
{
	struct probe_ledger l;

	for (int i = 0; i < 2; i++) {
		probe_reap(place, &live);
		ledger_read(&l);
		assert_int_equal(l.seq, 2);
		assert_int_equal(l.folded, folded);
		assert_int_equal(l.freed_nr, freed_nr);
		assert_int_equal(held(dead), kept);
	}
}

static void a_replay_is_done_once_and_deletes_nobody_who_came_meanwhile(void **state)
{
	(void)state;
	begin();
	intent_left(HELD, true);
	replay_is(HELD, 1, 0);
	intent_left(HELD, false);
	replay_is(0, 0, HELD);
	/* Not deleted, and its number was given to somebody who counts on in it. */
	intent_left(HELD, false);
	keys_store(&dead, HELD + 7);
	replay_is(0, 0, HELD + 7);
	/* Deleted, and made anew by somebody. */
	intent_left(HELD, true);
	keys_store(&dead, 7);
	replay_is(HELD, 1, 7);
	/* A key that held nothing. */
	intent_left(0, true);
	replay_is(0, 1, 0);
	keys_maps_drop();
}

/* --- killed at random ------------------------------------------------------------------------- */

/* Its own clock kills it: on a busy machine another process would come too late. */
static void child_looks(unsigned int us)
{
	const struct itimerval in = { .it_value.tv_usec = (suseconds_t)us };

	/* What is found gone by two looks, a second between them, is freed. */
	clock_ahead_s++;
	probe_reap(place, &live);
	clock_ahead_s++;
	setitimer(ITIMER_REAL, &in, NULL);
	probe_reap(place, &live);
	pause();
}

/* A process of its own, as a new keeper is: it knows nothing of the looks before it. */
static void next_keeper_looks(void)
{
	pid_t pid = test_fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		probe_reap(place, &live);
		_exit(0);
	}
	assert_int_equal(harness_wait(pid), 0);
}

static void one_random_kill(unsigned int *seed, struct killed *k)
{
	struct probe_ledger before, l;
	uint64_t sum = 0, there = 0;
	unsigned int us = 1 + (unsigned int)rand_r(seed) % KILL_US_MAX;
	pid_t pid;

	ledger_read(&before);
	for (uint32_t i = 0; i < KEYS; i++) {
		uint64_t key = NOBODY + i;

		keys_store(&key, HELD + i);
		sum += HELD + i;
	}
	pid = test_fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		signal(SIGALRM, SIG_DFL);
		child_looks(us);
		_exit(0);
	}
	assert_int_equal(harness_wait(pid), 128 + SIGALRM);
	ledger_read(&l);
	k->odd += l.seq & 1;
	next_keeper_looks();
	ledger_read(&l);
	for (uint32_t i = 0; i < KEYS; i++) {
		there += is_there(NOBODY + i);
		sum -= held(NOBODY + i);
	}
	k->nr += there > 0 && there < KEYS;
	assert_int_equal(l.seq & 1, 0);
	assert_int_equal(l.folded - before.folded, sum);
	assert_int_equal(l.freed_nr - before.freed_nr, KEYS - there);
}

static void a_kill_at_a_random_moment_loses_and_doubles_nothing(void **state)
{
	unsigned int seed = (unsigned int)getpid();
	struct killed k = { 0 };
	int rounds = harness_times(400, 10000);

	(void)state;
	begin();
	for (int i = 0; i < rounds; i++)
		one_random_kill(&seed, &k);
	print_message("# %d kills: %u while keys were freed, %u with an intent\n", rounds, k.nr,
		      k.odd);
	assert_true(k.nr > 0);
	assert_true(k.odd > 0);
	keys_maps_drop();
}

/* --- through a daemon ------------------------------------------------------------------------- */

/* A call that hardly anything makes, by processes that are called as no others are. */
#define RARE_CALL SYS_sched_get_priority_max
#define ROUNDS	  6u
#define PROCESSES 150u
#define CALLS	  37u

static struct harness h;
static char called[16];

struct sums {
	int64_t kept, other, removed;
};

static int add_up(const char *name, const struct talea_total *total, void *arg)
{
	struct sums *s = arg;
	int64_t *to = strstr(name, "talea=\"other\"") ? &s->other :
		      strstr(name, "talea=\"removed\"") ? &s->removed : &s->kept;

	*to += total->value;
	return 0;
}

static int sums_read(void *arg)
{
	struct sums *ret = arg;
	struct talea *t;

	CHECK(talea_open(&t, NULL) == 0);
	CHECK(talea_sync(t, 20000) == 0);
	memset(ret, 0, sizeof(*ret));
	CHECK(talea_each(t, "short_total*", TALEA_COMPACTED, add_up, ret) == 0);
	return 0;
}

static void processes(void)
{
	for (uint32_t i = 0; i < PROCESSES; i++) {
		pid_t pid = test_fork();

		assert_true(pid >= 0);
		if (pid == 0) {
			prctl(PR_SET_NAME, called);
			for (uint32_t j = 0; j < CALLS; j++)
				syscall(RARE_CALL, 0);
			_exit(0);
		}
		assert_int_equal(waitpid(pid, NULL, 0), pid);
	}
}

static void sections(char *buf, size_t size)
{
	snprintf(buf, size,
		 "[probe short]\nattach = short_total=raw_tp:sys_enter by tgid if arg1 == %d "
		 "and comm == %s max 64\n",
		 (int)RARE_CALL, called);
}

/* 64 find room until the first of them are freed, the others count in `other`. */
static void kept_other_and_removed_are_all_events_whoever_is_killed(void **state)
{
	struct sums *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			      -1, 0);
	uint64_t since = 0;
	char probe[256];

	(void)state;
	test_needs_bpf();
	assert_ptr_not_equal(s, MAP_FAILED);
	snprintf(called, sizeof(called), "short%d", getpid());
	sections(probe, sizeof(probe));
	harness_start(&h, "probes = none", probe);
	for (uint32_t round = 1; round <= ROUNDS; round++) {
		processes();
		if (round % 3 == 1)
			harness_kill_keeper(&h);
		if (round % 3 == 2)
			harness_kill_worker(&h);
		harness_sleep_ms(1100);
		harness_run(&h, sums_read, s);
		print_message("# %lld kept, %lld other, %lld removed\n", (long long)s->kept,
			      (long long)s->other, (long long)s->removed);
		assert_int_equal(s->kept + s->other + s->removed, round * PROCESSES * CALLS);
	}
	assert_true(s->other > 0);
	assert_true(s->removed >= 2 * 64 * (int64_t)CALLS);
	while (s->kept && harness_waits(&since))
		harness_run(&h, sums_read, s);
	assert_int_equal(s->kept, 0);
	assert_int_equal(s->other + s->removed, ROUNDS * PROCESSES * CALLS);
	harness_stop(&h);
	munmap(s, sizeof(*s));
}

static int end_harness(void **state)
{
	(void)state;
	harness_cleanup(&h);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_kill_between_any_two_instructions_loses_and_doubles_nothing),
		cmocka_unit_test(without_the_intent_kills_lose_or_double),
		cmocka_unit_test(a_replay_is_done_once_and_deletes_nobody_who_came_meanwhile),
		cmocka_unit_test(a_kill_at_a_random_moment_loses_and_doubles_nothing),
		cmocka_unit_test_teardown(kept_other_and_removed_are_all_events_whoever_is_killed,
					  end_harness),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

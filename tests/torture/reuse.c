/*
 * A row that goes from one counter to another and back, while writers in processes of their own sit in
 * sections far longer than the real one: no add commits to a row after the grace, so both counters are
 * exact. This process is the daemon: it assigns and retires with the real code and visits the CPUs with
 * the real grace. Controls: without the grace, and with the route loaded outside the section, adds come
 * late. TALEA_LONG=1: 100,000 rounds instead of 2,000.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/worker/space/rows.h"
#include "daemon/worker/space/quota.h"
#include "daemon/worker/space/register.h"
#include "daemon/worker/space/suspect.h"
#include "daemon/link/rseq_selftest.h"
#include "daemon/worker/fold/grace.h"
#include "tests/lib/child.h"
#include "talea_rseq.h"
#include "tests/lib/harness.h"

#if defined(__x86_64__) && defined(__GLIBC__)

#include <sys/rseq.h>

#define WRITERS 4
#define COUNTERS 2

enum how { WITH_GRACE, WITHOUT_GRACE, ROUTE_OUTSIDE };

/* Shared with the writers. */
struct ledger {
	uint64_t is_over, ready, is_unlimited;
	uint64_t done[WRITERS][COUNTERS];
	uint64_t hot, aborted;
};

/* One for all tests; each writer has a copy of its own, but for the ledger. */
struct fixture {
	struct region_fds fds;
	struct config config;
	struct registry registry;
	struct space *space;
	uint32_t slots[COUNTERS];
	struct ledger *ledger;
	int online_fd;
};

/* --- the writers ------------------------------------------------------------------------------- */

enum section { ADDED, NO_ROW, ABORTED };

/* The add of talea_add.h with a pause before its last instruction. */
static enum section long_add(const uint64_t *word, uint64_t bias, char *lane0, uint32_t spins)
{
	__asm__ goto(TALEA_RSEQ_TABLE_(TALEA_RSEQ_CLEAR_ "jmp %l[aborted]")
		     TALEA_RSEQ_ARM_("rdx")
		     "1:\tmovl %%fs:4(%[rseq]), %%ecx\n\t"
		     "movq (%[word]), %%rax\n\t"
		     "subq %[bias], %%rax\n\t"
		     "cmpq $0x7fffffff, %%rax\n\t"
		     "ja 6f\n\t"
		     "imulq %[stride], %%rcx, %%rdx\n\t"
		     "addq %[lane0], %%rdx\n\t"
		     "addq %%rax, %%rdx\n\t"
		     "movl %[spins], %%ecx\n"
		     "5:\tdecl %%ecx\n\t"
		     "jnz 5b\n\t"
		     "addq $1, (%%rdx)\n"
		     "2:\t" TALEA_RSEQ_CLEAR_
		     "jmp 7f\n"
		     "6:\t" TALEA_RSEQ_CLEAR_
		     "jmp %l[none]\n"
		     "7:\n\t"
		     :
		     : [rseq] "r"(__rseq_offset), [word] "r"(word), [bias] "r"(bias),
		       [lane0] "r"(lane0), [spins] "r"(spins), [stride] "i"(SHM_LANE_STRIDE)
		     : "rax", "rcx", "rdx", "cc", "memory"
		     : aborted, none);
	return ADDED;
none:
	return NO_ROW;
aborted:
	return ABORTED;
}

static void move_about(uint32_t seed)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(seed % (uint32_t)sysconf(_SC_NPROCESSORS_ONLN), &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static _Noreturn void writer(const struct fixture *f, int at, enum how how)
{
	const uint32_t slots[COUNTERS] = { f->slots[0], f->slots[1] };
	struct ledger *ledger = f->ledger;
	uint32_t seed = 7919u * (uint32_t)(at + 1);
	void *d, *s;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	CHECK(region_map(f->fds.ro[REGION_D], REGION_D, false, &d) == 0);
	CHECK(region_map(f->fds.rw[REGION_S], REGION_S, true, &s) == 0);
	shm_count_add(&ledger->ready, 1);
	for (uint64_t i = 0; !shm_count_read(&ledger->is_over); i++) {
		uint32_t which = (seed = seed * 1664525u + 1013904223u) >> 31;
		const uint64_t *word = &dir_slot(d, slots[which])->route;
		uint64_t bias = (uint64_t)slot_generation(shm_count_read(word)) << 32;
		uint64_t outside = shm_take(word);

		/* Half of the writers stay where they are. */
		if (at % 2 && i % 256 == 0)
			move_about(seed >> 8);
		switch (long_add(how == ROUTE_OUTSIDE ? &outside : word, bias,
				 (char *)s + SHM_S_LANES, 1 + (seed >> 8) % 50000)) {
		case ADDED:
			shm_count_add(&ledger->hot, 1);
			shm_count_add(&ledger->done[at][which], 1);
			break;
		case NO_ROW: /* the cold cell, as the library does */
			shm_count_add((uint64_t *)((char *)s + shards_cold(slots[which])), 1);
			shm_count_add(&ledger->done[at][which], 1);
			break;
		case ABORTED:
			shm_count_add(&ledger->aborted, 1);
			break;
		}
	}
	_exit(0);
}

/* --- the daemon -------------------------------------------------------------------------------- */

static uint32_t make_counter(struct fixture *f, const char *name)
{
	static const char help[] = "Of a test.";
	const struct claim c = {
		.type = SHM_COUNTER, .uid = 1000, .name = name, .name_len = (uint32_t)strlen(name),
		.help = help, .help_len = sizeof(help) - 1,
	};
	struct why why;
	struct wire_result r;
	struct quota quota;

	registry_read_begin();
	quota_init(&quota, f->space, &f->config);
	register_claim(f->space, &quota, &c, &r, &why);
	registry_read_end();
	assert_int_equal(r.err, 0);
	return r.slot;
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	*state = f;
	strcpy(f->fds.name, "default");
	for (enum region_part part = REGION_D; part < REGION_PARTS; part++)
		assert_int_equal(region_make(part, "unit", &f->fds.rw[part], &f->fds.ro[part]), 0);
	f->ledger = mmap(NULL, sizeof(*f->ledger), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(f->ledger, MAP_FAILED);
	f->config.namespaces_nr = 1;
	f->config.namespaces[0] = (struct config_namespace){
		.name = "default", .counters_max = 1000, .counters_max_per_uid = 1000, .rows_max = 1,
	};
	f->online_fd = open("/sys/devices/system/cpu/online", O_RDONLY | O_CLOEXEC);
	assert_true(f->online_fd >= 0);
	registry_enter();
	assert_int_equal(registry_init(&f->registry, &f->config), 0);
	assert_int_equal(space_open(&f->space, &f->fds, 0, &f->registry, &f->config), 0);
	shm_set32(&f->space->d->promotion, 0);
	f->slots[0] = make_counter(f, "reuse_one_total");
	f->slots[1] = make_counter(f, "reuse_two_total");
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	registry_fini(&f->registry);
	space_close(f->space);
	registry_leave();
	close(f->online_fd);
	for (enum region_part part = REGION_D; part < REGION_PARTS; part++) {
		close(f->fds.rw[part]);
		close(f->fds.ro[part]);
	}
	munmap(f->ledger, sizeof(*f->ledger));
	free(f);
	return 0;
}

static void nap_us(long us)
{
	nanosleep(&(struct timespec){ .tv_nsec = us * 1000 }, NULL);
}

/* One life of the row: the adds that came to it after its grace. */
static uint64_t round_run(const struct fixture *f, uint32_t slot, enum how how)
{
	struct space *space = f->space;
	uint64_t quiet;
	int64_t stray;
	uint32_t seq, row;

	assert_int_equal(rows_allocate(space, slot, &stray), 0);
	row = rows_of_slot(space, slot);
	nap_us(20);
	seq = rows_retire(space, slot);
	if (how != WITHOUT_GRACE)
		assert_int_equal(grace_visit(f->online_fd), 0);
	assert_true(rows_free_retired(space, slot, seq));
	quiet = space->rows.list[row].quiet_sum;
	nap_us(50);
	quiet = rows_sum_one(space, row) - quiet;
	/* What came late is told once, and is not this test's counters'. */
	space->rows.list[row].quiet_sum += quiet;
	return quiet;
}

static void writers_start(const struct fixture *f, pid_t *pids, enum how how)
{
	memset(f->ledger, 0, sizeof(*f->ledger));
	for (int i = 0; i < WRITERS; i++) {
		pids[i] = test_fork();
		if (!pids[i])
			writer(f, i, how);
		assert_true(pids[i] > 0);
	}
	while (shm_count_read(&f->ledger->ready) < WRITERS)
		nap_us(1000);
}

static void writers_stop(const struct fixture *f, pid_t *pids)
{
	int status;

	shm_count_set(&f->ledger->is_over, 1);
	for (int i = 0; i < WRITERS; i++) {
		kill(pids[i], SIGCONT);
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
}

/* What a counter holds beyond the adds that were made to it since `before`. */
static int64_t excess(const struct fixture *f, int which, int64_t before)
{
	int64_t n = suspect_sum(f->space, f->slots[which]) - before;

	for (int i = 0; i < WRITERS; i++)
		n -= (int64_t)f->ledger->done[i][which];
	return n;
}

/* Rounds with writers beside them, some of which are stopped now and then. Returns the late adds. */
static uint64_t rounds_run(const struct fixture *f, int rounds, enum how how, bool is_stopping)
{
	int64_t before[COUNTERS] = { suspect_sum(f->space, f->slots[0]),
				     suspect_sum(f->space, f->slots[1]) };
	const struct ledger *ledger = f->ledger;
	uint64_t late = 0;
	pid_t pids[WRITERS];

	writers_start(f, pids, how);
	for (int i = 0; i < rounds; i++) {
		if (is_stopping && i % 16 == 0)
			kill(pids[i / 16 % WRITERS], SIGSTOP);
		late += round_run(f, f->slots[i % COUNTERS], how);
		if (is_stopping && i % 16 == 3)
			kill(pids[i / 16 % WRITERS], SIGCONT);
	}
	writers_stop(f, pids);
	print_message("# %d rounds, %llu adds to the row, %llu sections aborted, %llu late\n", rounds,
		      (unsigned long long)ledger->hot, (unsigned long long)ledger->aborted,
		      (unsigned long long)late);
	assert_true(ledger->hot > 0);
	if (how == WITH_GRACE)
		for (int which = 0; which < COUNTERS; which++)
			assert_int_equal(excess(f, which, before[which]), 0);
	return late;
}

/* --- tests --------------------------------------------------------------------------------------- */

static void no_add_comes_to_a_row_after_its_grace(void **state)
{
	assert_int_equal(rounds_run(*state, harness_times(1500, 90000), WITH_GRACE, false), 0);
}

static void nor_from_writers_that_were_stopped_in_a_section(void **state)
{
	assert_int_equal(rounds_run(*state, harness_times(300, 6000), WITH_GRACE, true), 0);
}

/* The daemon gets a fifth of a CPU: another process stops it for 4 ms of every 5. */
static void nor_when_the_daemon_has_little_cpu(void **state)
{
	pid_t me = getpid(), limiter = test_fork();
	struct fixture *f = *state;
	int status;

	if (!limiter) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (!shm_count_read(&f->ledger->is_unlimited)) {
			kill(me, SIGSTOP);
			nap_us(4000);
			kill(me, SIGCONT);
			nap_us(1000);
		}
		_exit(0);
	}
	assert_true(limiter > 0);
	status = rounds_run(f, harness_times(200, 4000), WITH_GRACE, false) != 0;
	shm_count_set(&f->ledger->is_unlimited, 1);
	waitpid(limiter, NULL, 0);
	assert_int_equal(status, 0);
}

static void nor_beside_a_real_time_task_that_never_sleeps(void **state)
{
	struct sched_param p = { .sched_priority = 1 };
	pid_t hog = test_fork();
	int status;

	if (!hog) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		move_about((uint32_t)sysconf(_SC_NPROCESSORS_ONLN) - 1);
		if (sched_setscheduler(0, SCHED_FIFO, &p))
			_exit(1);
		for (;;)
			__builtin_ia32_pause();
	}
	assert_true(hog > 0);
	nap_us(50000);
	if (waitpid(hog, &status, WNOHANG) == hog)
		test_skip("no right to SCHED_FIFO here");
	status = rounds_run(*state, harness_times(3, 20), WITH_GRACE, false) != 0;
	kill(hog, SIGKILL);
	waitpid(hog, NULL, 0);
	assert_int_equal(status, 0);
}

static void control_without_the_grace_adds_come_late(void **state)
{
	assert_true(rounds_run(*state, 200, WITHOUT_GRACE, false) > 0);
}

static void control_with_the_route_loaded_outside_adds_come_late(void **state)
{
	assert_true(rounds_run(*state, 400, ROUTE_OUTSIDE, false) > 0);
}

static void the_self_test_knows_sections_that_abort_from_those_that_do_not(void **state)
{
	cpu_set_t home;

	(void)state;
	assert_int_equal(sched_getaffinity(0, sizeof(home), &home), 0);
	assert_int_equal(rseq_selftest(1), 0);
	assert_int_equal(rseq_selftest(0), -1);
	assert_int_equal(sched_setaffinity(0, sizeof(home), &home), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_self_test_knows_sections_that_abort_from_those_that_do_not),
		cmocka_unit_test(no_add_comes_to_a_row_after_its_grace),
		cmocka_unit_test(nor_from_writers_that_were_stopped_in_a_section),
		cmocka_unit_test(nor_when_the_daemon_has_little_cpu),
		cmocka_unit_test(nor_beside_a_real_time_task_that_never_sleeps),
		/* These leave counters that are not exact: last. */
		cmocka_unit_test(control_without_the_grace_adds_come_late),
		cmocka_unit_test(control_with_the_route_loaded_outside_adds_come_late),
	};

	return cmocka_run_group_tests_name("reuse", tests, set_up, tear_down);
}

#else

int main(void)
{
	print_message("1..0 # SKIP the long section is written for x86-64 and glibc\n");
	return 0;
}

#endif

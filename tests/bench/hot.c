/*
 * What a row is worth and what giving rows costs: two processes on one counter with and without a row;
 * an add while 16 other counters get and lose their rows with every grace (at most 100 a second); and
 * how long it takes until the rows of 1,000 counters are free again. Called by tests/bench/run.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shm/order.h"
#include "tests/bench/lib/attach.h"
#include "tests/bench/lib/bench.h"

#define LIMIT_UNPROMOTED 25
#define LIMIT_REUSE 1.1
#define CHURNED 16u
#define BATCH 1000u
#define BATCHES 5

static struct talea_counter hot, cold;
static uint64_t *is_churning; /* shared with the process that pins */

static void BENCH_LOOP run_hot(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		talea_inc(hot);
}

static void BENCH_LOOP run_cold(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		talea_inc(cold);
}

static void run_reuse(uint64_t n)
{
	shm_publish(is_churning, 1);
	run_hot(n);
	shm_publish(is_churning, 0);
}

static void nap_ms(long ms)
{
	nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000 }, NULL);
}

/* Gives 16 counters rows and takes them back for as long as it is asked to. */
static pid_t churn_start(void)
{
	pid_t pid = fork();
	struct control c;

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	control_open(&c, "default");
	for (;;) {
		if (!shm_take(is_churning)) {
			nap_ms(1);
			continue;
		}
		control_change(&c, WIRE_PIN_HOT, "bench_churned_total", 0, CHURNED);
		nap_ms(5);
		control_change(&c, WIRE_PIN_COLD, "bench_churned_total", 0, CHURNED);
		nap_ms(5);
	}
}

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* From the order to retire 1,000 rows until all of them are free. */
static void measure_batch(struct talea *t)
{
	struct figure f = { .name = "grace_batch_1000_rows" };
	double took[BATCHES];
	struct wire_status st;
	struct control c;
	char key[16];

	for (unsigned int i = 0; i < BATCH; i++) {
		struct talea_counter one;

		snprintf(key, sizeof(key), "%u", i);
		if (talea_counter(t, &one, "bench_batch_total", "Made by the benchmark.", "key", key,
				  NULL))
			bench_die("bench_batch_total", talea_strerror(t, 0));
	}
	control_open(&c, "default");
	for (int i = 0; i < BATCHES; i++) {
		double begin;

		control_change(&c, WIRE_PIN_HOT, "bench_batch_total", 0, BATCH);
		begin = now_ns();
		control_change(&c, WIRE_PIN_COLD, "bench_batch_total", 0, BATCH);
		do
			control_status(&c, &st);
		while (st.rows_retiring);
		took[i] = now_ns() - begin;
	}
	control_change(&c, WIRE_UNPIN, "bench_batch_total", 0, BATCH);
	qsort(took, BATCHES, sizeof(took[0]), by_value);
	f.min = took[0];
	f.value = took[BATCHES / 2];
	f.max = took[BATCHES - 1];
	bench_report(&f);
}

int main(void)
{
	enum { HOT_2P, COLD_2P, ALONE, REUSE, NR };
	struct figure f[NR] = {
		[HOT_2P] = { .name = "add_inline_2proc_again", .run = run_hot, .by = BY_PROCESSES },
		[COLD_2P] = { .name = "hot_unpromoted_2proc", .run = run_cold, .by = BY_PROCESSES },
		[ALONE] = { .name = "add_inline_again", .run = run_hot },
		[REUSE] = { .name = "add_beside_reuse", .run = run_reuse },
	};
	struct talea *t, *t_cold;
	char key[16];
	pid_t churn;

	bench_init("hot");
	t = attach_open("default");
	t_cold = attach_open("cold");
	hot = attach_counter(t, "bench_hits_total", "reuse", 1);
	cold = attach_counter(t_cold, "bench_unpromoted_total", "one", 0);
	for (unsigned int i = 0; i < CHURNED; i++) {
		snprintf(key, sizeof(key), "%u", i);
		attach_counter(t, "bench_churned_total", key, 0);
	}
	is_churning = mmap(NULL, sizeof(*is_churning), PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (is_churning == MAP_FAILED)
		bench_die("mmap", "no memory");
	churn = churn_start();
	bench_run(f, NR);
	kill(churn, SIGKILL);
	waitpid(churn, NULL, 0);
	bench_report(&f[HOT_2P]);
	bench_ratio(&f[COLD_2P], &f[HOT_2P], AT_LEAST, LIMIT_UNPROMOTED, 0);
	bench_ratio(&f[REUSE], &f[ALONE], AT_MOST, LIMIT_REUSE, 0);
	measure_batch(t);
	return bench_done();
}

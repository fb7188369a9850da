/* See grace.h. */
#define _GNU_SOURCE
#include "daemon/worker/fold/grace.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "daemon/link/log.h"
#include "daemon/link/rseq_selftest.h"
#include "daemon/worker/fold/fold.h"
#include "shm/base/clock.h"
#include "shm/order.h"

#define ONLINE "/sys/devices/system/cpu/online"
#define SPACING_NS (NS_PER_S / 100) /* each visit interrupts the program that runs there */
#define CLOSE_NS (2 * NS_PER_S)
#define CLOSE_STEP_NS 200000

struct grace {
	struct fold *fold;
	struct request passed; /* served by the fold thread */
	pthread_t thread;
	sem_t asked;
	int online_fd;
	cpu_set_t home; /* where the thread may run between visits */
	uint32_t is_stopping, has_ended;
	uint32_t blocked;
	uint32_t selftest; /* enum shm_promotion, or UINT32_MAX */
	uint64_t last_ns;
};

static void nap(uint64_t ns)
{
	struct timespec t = clock_timespec(ns);

	nanosleep(&t, NULL);
}

/* --- visiting --------------------------------------------------------------------------------- */

/* The CPUs that are online now: "0-3,8". */
static int online_read(int fd, cpu_set_t *ret)
{
	char text[8192], *at = text;
	ssize_t got = pread(fd, text, sizeof(text) - 1, 0);

	if (got <= 0)
		return got ? -errno : -ENODATA;
	text[got] = '\0';
	CPU_ZERO(ret);
	while (*at >= '0' && *at <= '9') {
		unsigned long first = strtoul(at, &at, 10), last = first;

		if (*at == '-')
			last = strtoul(at + 1, &at, 10);
		for (; first <= last && first < CPU_SETSIZE; first++)
			CPU_SET(first, ret);
		at += *at == ',';
	}
	return CPU_COUNT(ret) ? 0 : -EINVAL;
}

/* Runs on one CPU: moving the thread there makes the scheduler switch. */
static bool cpu_visit(unsigned int cpu)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	if (sched_setaffinity(0, sizeof(one), &one))
		return false;
	return sched_getcpu() == (int)cpu;
}

uint32_t grace_visit(int online_fd)
{
	cpu_set_t online;
	uint32_t blocked = 0;

	/* ORDER(grace): the list of online CPUs is read after the route was stored. A CPU that
	 * comes online later has no section from before: what moves to it is aborted. */
	shm_fence();
	if (online_read(online_fd, &online))
		return SHM_CPUS_MAX;
	for (unsigned int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		cpu_set_t still;

		if (!CPU_ISSET(cpu, &online) || cpu_visit(cpu))
			continue;
		/* It went offline meanwhile: all that ran there was moved, and so aborted. */
		if (online_read(online_fd, &still) || CPU_ISSET(cpu, &still))
			blocked++;
	}
	return blocked;
}

/* --- the thread ------------------------------------------------------------------------------- */

static bool is_stopping(const struct grace *g)
{
	return shm_read32(&g->is_stopping);
}

static void passed_serve(struct fold *f, struct request *r, const struct config *config)
{
	(void)r;
	(void)config;
	fold_grace_passed(f);
}

static void grace_run(struct grace *g)
{
	uint64_t begin_ns = mono_ns();
	uint32_t blocked;

	while ((blocked = grace_visit(g->online_fd)) != 0 && !is_stopping(g)) {
		if (shm_read32(&g->blocked) != blocked)
			log_line("%u CPUs are online where talead may not run: no row and no cell is "
				 "reused until it may. fix: widen the cpuset of talead", blocked);
		shm_set32(&g->blocked, blocked);
		nap(NS_PER_S);
	}
	sched_setaffinity(0, sizeof(g->home), &g->home);
	if (blocked)
		return; /* stopping: the grace period has not passed, and nothing was given back */
	shm_set32(&g->blocked, 0);
	shm_count_set(&g->last_ns, mono_ns() - begin_ns);
	fold_ask(g->fold, &g->passed);
}

static uint32_t selftest_judge(int result)
{
	if (!result)
		return 0;
	log_line("rseq sections %s on this kernel: rows and cells are not reused%s. fix: another "
		 "kernel; counts stay exact", result == -ENOSYS ? "cannot be tested" :
		 "are not aborted by preemption",
#ifdef __x86_64__
		 ""
#else
		 " and there are no rows"
#endif
		);
#ifdef __x86_64__
	return SHM_REUSE_OFF;
#else
	return SHM_REUSE_OFF | SHM_ROWS_OFF;
#endif
}

static void *grace_thread(void *arg)
{
	struct grace *g = arg;
	uint64_t begin_ns;
	int result;

	prctl(PR_SET_NAME, "talea-grace");
	/* A busy machine may give no result: then the thread tries again. Nothing is reused
	 * before. */
	while ((result = rseq_selftest(1)) == -EAGAIN && !is_stopping(g))
		nap(NS_PER_S);
	if (result != -EAGAIN) /* otherwise the end came before a result */
		shm_set32(&g->selftest, selftest_judge(result));
	sched_setaffinity(0, sizeof(g->home), &g->home);
	for (;;) {
		while (sem_wait(&g->asked))
			;
		if (is_stopping(g))
			break;
		begin_ns = mono_ns();
		grace_run(g);
		if (mono_ns() - begin_ns < SPACING_NS)
			nap(SPACING_NS - (mono_ns() - begin_ns));
	}
	shm_set32(&g->has_ended, 1);
	return NULL;
}

int grace_open(struct grace **ret, struct fold *fold)
{
	struct grace *g = calloc(1, sizeof(*g));
	int err;

	if (!g)
		return -ENOMEM;
	g->fold = fold;
	g->passed.serve = passed_serve;
	g->selftest = UINT32_MAX;
	g->online_fd = open(ONLINE, O_RDONLY | O_CLOEXEC);
	if (g->online_fd < 0 || sched_getaffinity(0, sizeof(g->home), &g->home)) {
		err = -errno;
		goto out_memory;
	}
	sem_init(&g->asked, 0, 0);
	err = -pthread_create(&g->thread, NULL, grace_thread, g);
	if (err)
		goto out_memory;
	*ret = g;
	return 0;

out_memory:
	if (g->online_fd >= 0)
		close(g->online_fd);
	free(g);
	return err;
}

void grace_ask(struct grace *g)
{
	sem_post(&g->asked);
}

void grace_close(struct grace *g)
{
	uint64_t end_ns = mono_ns() + CLOSE_NS;

	shm_set32(&g->is_stopping, 1);
	sem_post(&g->asked);
	/* Polls, because the only join with a time limit that all tools know follows the wall
	 * clock. */
	while (!shm_read32(&g->has_ended) && mono_ns() < end_ns)
		nap(CLOSE_STEP_NS);
	if (!shm_read32(&g->has_ended))
		return; /* it waits for a CPU: memory and thread end with the process */
	pthread_join(g->thread, NULL);
	sem_destroy(&g->asked);
	close(g->online_fd);
	free(g);
}

uint32_t grace_blocked(const struct grace *g)
{
	return shm_read32(&g->blocked);
}

uint32_t grace_selftest_result(const struct grace *g)
{
	return shm_read32(&g->selftest);
}

uint64_t grace_last_ns(const struct grace *g)
{
	return shm_count_read(&g->last_ns);
}

/* See fold.h. */
#define _GNU_SOURCE
#include "daemon/worker/fold/fold.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "daemon/link/log.h"
#include "daemon/worker/space/busy.h"
#include "daemon/worker/space/heat.h"
#include "daemon/worker/space/idle.h"
#include "daemon/worker/space/deferred.h"
#include "daemon/worker/space/pages.h"
#include "daemon/worker/space/rows.h"
#include "daemon/worker/space/remove.h"
#include "daemon/worker/space/suspect.h"
#include "daemon/worker/fold/grace.h"
#include "daemon/worker/kernel/kernel.h"
#include "daemon/worker/space/totals.h"
#include "shm/base/clock.h"

#define READ_SAMPLES 16

/* Any thread enqueues, one dequeues. */
struct fold_queue {
	struct cds_wfcq_tail tail;
	struct __cds_wfcq_head head;
	int event; /* eventfd: something was enqueued */
};

/* When to fold, and what folds cost. */
struct fold_schedule {
	uint64_t began_ns;	/* the last fold, CLOCK_MONOTONIC */
	uint64_t duration_ns;	/* of the last fold */
	uint64_t cost_ns;	/* CPU of one fold and its wake-up, smoothed */
	uint64_t second_ns;	/* the last tick */
	uint64_t second_cpu_ns; /* the thread's CPU then */
	uint64_t folded_cpu_ns; /* the thread's CPU after the last fold */
	uint64_t served_cpu_ns; /* spent on requests since then */
};

/* What waits for a grace period. */
struct fold_grace {
	struct grace *thread;
	bool is_under_way;
	bool is_over; /* and the end of some deferred work is still to come */
	bool is_selftest_taken;
	uint32_t promotion; /* enum shm_promotion */
};

/*
 *   field                       written by                    read by
 *   requests                    control, grace                fold
 *   done                        fold                          control
 *   cpu_permille                fold                          control (fold_cpu_permille)
 *   registry, incarnation       fold_init                     fold
 *   all others                  fold_init, then fold          fold
 */
struct fold {
	struct registry *registry;
	struct kernel kernel;
	struct space *spaces[SPACES_MAX];
	uint32_t spaces_nr;
	uint64_t incarnation;
	pthread_t thread;
	bool is_stopping;

	struct fold_queue requests, done;
	struct fold_schedule schedule;
	struct fold_grace grace;

	uint32_t cpu_permille; /* of one core, over the last second */
};

static uint64_t thread_cpu_ns(void)
{
	return clock_read_ns(CLOCK_THREAD_CPUTIME_ID);
}

/* --- folding ---------------------------------------------------------------------------------- */

/* How long a read of the busiest counter takes, made as a client makes it. */
static void read_sample(struct space *space)
{
	uint64_t *ns = space->t->read_ns, begin, epoch, value = 0;
	uint32_t slot = space->rows.owned_nr ? space->rows.owned[0].slot : SHM_SLOT_OVERFLOW;
	const uint64_t *totals;

	begin = mono_ns();
	for (int i = 0; i < READ_SAMPLES; i++)
		value += (uint64_t)suspect_sum(space, slot);
	shm_count_set(&ns[0], (mono_ns() - begin) / READ_SAMPLES);
	begin = mono_ns();
	for (int i = 0; i < READ_SAMPLES; i++) {
		/* ORDER(epoch): as talea_read does; this thread, which publishes, does not publish
		 * meanwhile. */
		epoch = shm_take(&space->t->epoch);
		totals = space_totals(space, epoch & 1);
		value += shm_count_read(&totals[slot]) + shm_seq_read_retry(&space->t->epoch, epoch);
	}
	shm_count_set(&ns[1], (mono_ns() - begin) / READ_SAMPLES);
	begin = mono_ns();
	for (int i = 0; i < READ_SAMPLES; i++) {
		epoch = shm_take(&space->t->epoch);
		totals = space_totals(space, epoch & 1);
		value += shm_count_read(&totals[slot]) + mono_ns();
	}
	shm_count_set(&ns[2], (mono_ns() - begin) / READ_SAMPLES);
	(void)value;
}

static void fold_second(struct fold *f, const struct config *config, uint64_t now_ns,
			uint64_t cpu_ns)
{
	struct fold_schedule *s = &f->schedule;
	uint64_t elapsed_ns = now_ns - s->second_ns;
	uint32_t blocked = f->grace.thread ? grace_blocked(f->grace.thread) : 0;

	for (uint32_t i = 0; i < f->spaces_nr; i++) {
		struct space *space = f->spaces[i];

		busy_tick(space, now_ns, elapsed_ns);
		heat_second(space, config, elapsed_ns);
		suspect_rows(space);
		remove_second(space);
		idle_second(space, config);
		pages_lanes_check(space);
		read_sample(space);
		shm_set32(&space->t->grace_blocked_cpus, blocked);
	}
	shm_set32(&f->cpu_permille, (uint32_t)((cpu_ns - s->second_cpu_ns) * 1000 / elapsed_ns));
	s->second_ns = now_ns;
	s->second_cpu_ns = cpu_ns;
}

/* What a fold found that changes D: members' late adds, rows for what is hot. */
static void space_after(struct space *space, const struct config *config, uint64_t interval_ns)
{
	remove_late_all(space);
	heat_fold(space, config, interval_ns);
}

/* --- graces ----------------------------------------------------------------------------------- */

static void selftest_take(struct fold *f, const struct config *config)
{
	uint32_t result = grace_selftest_result(f->grace.thread);

	if (result == UINT32_MAX)
		return;
	f->grace.promotion = result;
	f->grace.is_selftest_taken = true;
	for (uint32_t i = 0; i < f->spaces_nr; i++) {
		shm_set32(&f->spaces[i]->d->promotion, result);
		heat_allowed(f->spaces[i], config);
	}
}

/* Ends what waited for the grace period: rows become free, members go. When they are very many, a
 * part with every fold. */
static void grace_end(struct fold *f)
{
	bool is_all = true;

	for (uint32_t i = 0; i < f->spaces_nr; i++)
		is_all &= deferred_end(f->spaces[i]);
	f->grace.is_over = f->grace.is_under_way = !is_all;
}

void fold_grace_passed(struct fold *f)
{
	for (uint32_t i = 0; i < f->spaces_nr; i++) {
		struct totals_shm *t = f->spaces[i]->t;

		shm_count_set(&t->graces_nr, t->graces_nr + 1);
		shm_count_set(&t->grace_ns, grace_last_ns(f->grace.thread));
	}
	grace_end(f);
}

/* One grace period for all that wait for one; what comes during it waits for the next. */
static void grace_begin(struct fold *f, const struct config *config)
{
	struct fold_grace *g = &f->grace;
	uint32_t nr = 0;

	if (!g->thread)
		return;
	if (!g->is_selftest_taken)
		selftest_take(f, config);
	if (g->is_over)
		grace_end(f);
	/* Where the kernel does not abort sections a visit proves nothing: the rows and members
	 * that wait go on counting. */
	if (g->is_under_way || !g->is_selftest_taken || (g->promotion & SHM_REUSE_OFF))
		return;
	for (uint32_t i = 0; i < f->spaces_nr; i++)
		nr += deferred_begin(f->spaces[i]);
	if (!nr)
		return;
	g->is_under_way = true;
	grace_ask(g->thread);
}

/* --- a fold ----------------------------------------------------------------------------------- */

static void fold_run(struct fold *f)
{
	struct fold_schedule *s = &f->schedule;
	struct fold_times times = {
		.mono_ns = mono_ns(),
		.real_ns = real_ns(),
		.duration_ns = s->duration_ns,
		.cpu_ns = s->folded_cpu_ns,
	};
	const struct config *config;
	uint64_t cpu_ns, cost_ns;

	times.interval_ns = times.mono_ns - s->began_ns;
	s->began_ns = times.mono_ns;
	registry_read_begin();
	config = registry_config(f->registry);
	kernel_fold(&f->kernel, f->is_stopping);
	for (uint32_t i = 0; i < f->spaces_nr; i++) {
		totals_fold(f->spaces[i], &times);
		space_after(f->spaces[i], config, times.interval_ns);
	}
	kernel_folded(&f->kernel);
	if (times.mono_ns - s->second_ns >= NS_PER_S)
		fold_second(f, config, times.mono_ns, times.cpu_ns);
	grace_begin(f, config);
	registry_read_end();
	s->duration_ns = mono_ns() - times.mono_ns;

	/* A fold costs what the thread used since the last one ended, wake-up included, without
	 * what it spent on requests. */
	cpu_ns = thread_cpu_ns();
	cost_ns = cpu_ns - s->folded_cpu_ns - s->served_cpu_ns;
	s->cost_ns = s->cost_ns ? (s->cost_ns * 7 + cost_ns) / 8 : cost_ns;
	s->folded_cpu_ns = cpu_ns;
	s->served_cpu_ns = 0;
}

/* When the next fold begins: on the configured raster, or later if that is over the CPU budget. */
static uint64_t fold_next(const struct fold *f)
{
	const struct fold_schedule *s = &f->schedule;
	const struct config *config;
	uint64_t raster_ns, budget_ns, next_ns;

	registry_read_begin();
	config = registry_config(f->registry);
	raster_ns = config->fold_ns;
	budget_ns = config->fold_cpu_permille ? s->cost_ns * 1000 / config->fold_cpu_permille : 0;
	registry_read_end();
	next_ns = (s->began_ns / raster_ns + 1) * raster_ns;
	return next_ns < s->began_ns + budget_ns ? s->began_ns + budget_ns : next_ns;
}

/* --- requests --------------------------------------------------------------------------------- */

int fold_space_open(struct fold *f, const struct region_fds *region, const struct config *config,
		    struct space **ret)
{
	int err;

	if (f->spaces_nr == SPACES_MAX)
		return -ENOSPC;
	err = space_open(ret, region, f->spaces_nr, f->registry, config);
	if (err) {
		log_line("namespace %s: its memory cannot be used: %s", region->name,
			 strerror(-err));
		return err;
	}
	shm_count_set(&(*ret)->t->incarnation, f->incarnation);
	if (f->grace.is_selftest_taken)
		shm_set32(&(*ret)->d->promotion, f->grace.promotion);
	f->spaces[f->spaces_nr++] = *ret;
	return 0;
}

void fold_configure(struct fold *f, const struct config *config)
{
	for (uint32_t i = 0; i < f->spaces_nr; i++)
		space_configure(f->spaces[i], config);
	kernel_configure(&f->kernel, config);
}

int fold_probe(struct fold *f, uint32_t id, struct probe_live *live)
{
	while (kernel_ends(&f->kernel, id, live))
		fold_run(f);
	return kernel_probe(&f->kernel, id, live);
}

void fold_cgroup(struct fold *f, uint64_t id, const char *path)
{
	kernel_cgroup(&f->kernel, id, path);
}

void fold_stop(struct fold *f)
{
	f->is_stopping = true;
}

static int queue_init(struct fold_queue *q)
{
	__cds_wfcq_init(&q->head, &q->tail);
	q->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return q->event < 0 ? -errno : 0;
}

static bool queue_is_empty(struct fold_queue *q)
{
	return cds_wfcq_empty(&q->head, &q->tail);
}

static void queue_put(struct fold_queue *q, struct request *r)
{
	cds_wfcq_node_init(&r->node);
	cds_wfcq_enqueue(&q->head, &q->tail, &r->node);
}

static struct request *queue_take(struct fold_queue *q)
{
	struct cds_wfcq_node *node = __cds_wfcq_dequeue_blocking(&q->head, &q->tail);

	return node ? caa_container_of(node, struct request, node) : NULL;
}

/* Serves the queue until the next fold is due: a flood of requests delays it by one. */
static void requests_serve(struct fold *f, uint64_t next_ns)
{
	struct request *r;
	bool is_any = false;
	uint64_t cpu_ns;

	if (queue_is_empty(&f->requests))
		return;
	cpu_ns = thread_cpu_ns();
	while (mono_ns() < next_ns && (r = queue_take(&f->requests)) != NULL) {
		/* Read before: a request that is not answered may be asked again as soon as it is
		 * served. */
		bool is_answered = r->finish != NULL;

		registry_read_begin();
		r->serve(f, r, registry_config(f->registry));
		registry_read_end();
		if (is_answered)
			queue_put(&f->done, r);
		is_any |= is_answered;
	}
	if (is_any)
		eventfd_write(f->done.event, 1);
	f->schedule.served_cpu_ns += thread_cpu_ns() - cpu_ns;
}

void fold_ask(struct fold *f, struct request *r)
{
	queue_put(&f->requests, r);
	eventfd_write(f->requests.event, 1);
}

struct request *fold_answered(struct fold *f)
{
	return queue_take(&f->done);
}

int fold_answered_event(const struct fold *f)
{
	return f->done.event;
}

uint32_t fold_spaces(const struct fold *f, struct space **ret)
{
	memcpy(ret, f->spaces, f->spaces_nr * sizeof(*ret));
	return f->spaces_nr;
}

void fold_probe_statistics(const struct fold *f, uint32_t id, struct source_statistics *ret)
{
	kernel_statistics(&f->kernel, id, ret);
}

uint32_t fold_cpu_permille(const struct fold *f)
{
	return shm_read32(&f->cpu_permille);
}

/* --- the thread ------------------------------------------------------------------------------- */

static void fold_wait(struct fold *f, uint64_t next_ns)
{
	struct pollfd p = { .fd = f->requests.event, .events = POLLIN };
	uint64_t now_ns = mono_ns(), left_ns;
	struct timespec timeout;
	eventfd_t nr;

	left_ns = next_ns > now_ns ? next_ns - now_ns : 0;
	timeout = clock_timespec(left_ns);
	if (ppoll(&p, 1, &timeout, NULL) > 0)
		eventfd_read(f->requests.event, &nr);
}

static void *fold_thread(void *arg)
{
	struct fold *f = arg;
	uint64_t next_ns;

	prctl(PR_SET_NAME, "talea-fold");
	registry_enter();
	f->schedule.cost_ns = 0;
	f->schedule.folded_cpu_ns = thread_cpu_ns();
	f->schedule.second_cpu_ns = f->schedule.folded_cpu_ns;
	next_ns = fold_next(f);
	while (!f->is_stopping) {
		fold_wait(f, next_ns);
		requests_serve(f, next_ns);
		if (mono_ns() < next_ns)
			continue;
		fold_run(f);
		next_ns = fold_next(f);
		if (!queue_is_empty(&f->requests))
			eventfd_write(f->requests.event, 1);
	}
	fold_run(f);
	registry_leave();
	return NULL;
}

int fold_start(struct fold *f)
{
	int err = grace_open(&f->grace.thread, f);

	return err ? err : -pthread_create(&f->thread, NULL, fold_thread, f);
}

void fold_join(struct fold *f)
{
	pthread_join(f->thread, NULL);
	grace_close(f->grace.thread);
}

static int spaces_open(struct fold *f, const struct worker_start *ws)
{
	int err = 0;

	for (uint32_t i = 0; i < ws->regions_nr && !err; i++) {
		struct space *space;

		err = fold_space_open(f, &ws->regions[i], &ws->config, &space);
	}
	if (!err)
		err = kernel_open(&f->kernel, f->spaces[0], ws->link_fd);
	return err;
}

static void probes_open(struct fold *f, struct worker_start *ws)
{
	registry_read_begin();
	for (uint32_t id = 0; id < PROBES_MAX; id++) {
		int err = kernel_probe(&f->kernel, id, &ws->probes[id]);

		if (err)
			log_line("probe %s: its maps cannot be read: %s",
				 probe_name(&ws->probes[id]), strerror(-err));
	}
	kernel_settle(&f->kernel);
	kernel_configure(&f->kernel, &ws->config);
	registry_read_end();
}

static int fold_init(struct fold *f, struct worker_start *ws)
{
	const struct totals_shm *t;
	uint64_t last_ns;
	int err = queue_init(&f->requests);

	if (!err)
		err = queue_init(&f->done);
	if (!err)
		err = spaces_open(f, ws);
	if (err)
		return err;
	probes_open(f, ws);
	/* Rates continue from the totals of the former worker, so from their time. */
	t = f->spaces[0]->t;
	last_ns = shm_count_read(&t->fold_mono_ns[shm_count_read(&t->epoch) & 1]);
	f->schedule.began_ns = f->schedule.second_ns = last_ns ? last_ns : mono_ns();
	fold_run(f);
	return 0;
}

int fold_open(struct fold **ret, struct worker_start *ws, struct registry *registry)
{
	struct fold *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	f->registry = registry;
	f->incarnation = ws->incarnation;
	*ret = f;
	return fold_init(f, ws);
}

void fold_close(struct fold *f)
{
	kernel_close(&f->kernel);
	for (uint32_t i = 0; i < f->spaces_nr; i++)
		space_close(f->spaces[i]);
	close(f->requests.event);
	close(f->done.event);
	free(f);
}

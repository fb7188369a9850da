/*
 * The fold thread: the only writer of D, T and the registry's names. It folds on a fixed schedule,
 * stretched to its CPU budget, and serves the requests of other threads at once in between. Owns
 * the spaces and the kernel's counters while it runs.
 *
 *   control ──fold_ask──►┐                                  ┌──► done ──fold_answered──► control
 *                        ├──► requests ──► r->serve ────────┘
 *   grace   ──fold_ask──►┘   (eventfd)    fold thread        (eventfd)
 *      ▲                                  at each raster: kernel, spaces, each second the rest
 *      └──────────grace_ask───────────────┘
 */
#ifndef WORKER_FOLD_H
#define WORKER_FOLD_H

#include <pthread.h>

#include <urcu/wfcqueue.h>

#include "daemon/worker/kernel/kernel.h"
#include "daemon/worker/space/space.h"

struct control;
struct fold;
struct grace;
struct request;

typedef void request_serve(struct fold *f, struct request *r, const struct config *config);

/*
 * What a thread asks the fold thread for, in a struct of the asking thread's own. The fold thread
 * owns it from fold_ask until fold_answered returns it.
 */
struct request {
	struct cds_wfcq_node node;
	request_serve *serve; /* by the fold thread, inside registry_read_begin */
	/* By control, which dequeued it; NULL: it is not answered, and serve may ask again. */
	void (*finish)(struct control *c, struct request *r);
};

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

/* Opens the spaces and maps the probes, and folds once: the regions are live afterwards. The caller
 * holds worker.lock and has entered the registry. */
int fold_init(struct fold *f, struct worker_start *ws, struct registry *registry);
void fold_fini(struct fold *f);

int fold_start(struct fold *f);
void fold_join(struct fold *f); /* after fold_stop was served */

/* --- for other threads ------------------------------------------------------------------------ */

void fold_ask(struct fold *f, struct request *r);
struct request *fold_answered(struct fold *f); /* NULL: none now. Control alone. */

uint32_t fold_cpu_permille(const struct fold *f);

/* --- for serve: on the fold thread, inside registry_read_begin -------------------------------- */

/* The registry has a new configuration. */
void fold_configure(struct fold *f, const struct config *config);

/* Opens a region that the keeper made. 0 or -errno. */
int fold_space_open(struct fold *f, const struct region_fds *region, const struct config *config,
		    struct space **ret);

/* As kernel_probe; folds before, when sums of a probe that ends are to be published once more. */
int fold_probe(struct fold *f, uint32_t id, struct probe_live *live);

void fold_cgroup(struct fold *f, uint64_t id, const char *path);

/* A last fold, then the thread ends. */
void fold_stop(struct fold *f);

/* The grace period that grace_ask began has passed. */
void fold_grace_passed(struct fold *f);

#endif

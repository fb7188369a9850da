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

#include <urcu/wfcqueue.h>

#include "daemon/link/link.h"
#include "daemon/worker/registry.h"

struct control;
struct fold;
struct request;
struct source_statistics;
struct space;

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

/* Opens the spaces and maps the probes, and folds once: the regions are live afterwards. The caller
 * holds worker.lock and has entered the registry. */
int fold_open(struct fold **ret, struct worker_start *ws, struct registry *registry);
void fold_close(struct fold *f);

int fold_start(struct fold *f);
void fold_join(struct fold *f); /* after fold_stop was served */

/* --- for other threads ------------------------------------------------------------------------ */

void fold_ask(struct fold *f, struct request *r);
struct request *fold_answered(struct fold *f); /* NULL: none now. Control alone. */

/* An eventfd, readable when fold_answered has something. */
int fold_answered_event(const struct fold *f);

/* The spaces that fold_open opened, at most LINK_REGIONS_MAX; their number. Control's
 * thread, which alone asks for more. */
uint32_t fold_spaces(const struct fold *f, struct space **ret);

/* The CPU that the thread uses, of one core, over the last second. */
uint32_t fold_cpu_permille(const struct fold *f);

/* What the probe has counted so far. */
void fold_probe_statistics(const struct fold *f, uint32_t id, struct source_statistics *ret);

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

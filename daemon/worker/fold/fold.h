/*
 * The fold thread: the only writer of D, T and the registry's names. It folds on a fixed schedule,
 * stretched to its CPU budget, and serves control's requests at once in between. Owns the spaces
 * while it runs; a request belongs to whoever dequeued it last.
 */
#ifndef WORKER_FOLD_H
#define WORKER_FOLD_H

#include <pthread.h>

#include <urcu/wfcqueue.h>

#include "daemon/worker/kernel/kernel.h"
#include "daemon/worker/space/space.h"
#include "shm/wire_admin.h"

enum request_kind {
	REQUEST_REGISTER,  /* message; the reply is begun: results of what is found are set */
	REQUEST_CHANGE,	   /* message: what an admin does; reply */
	REQUEST_QUERY,	   /* message: an explanation or lanes; answer */
	REQUEST_GRACE,	   /* the grace thread's: the one that was asked for has passed; not answered */
	REQUEST_CONFIGURE, /* the registry has a new configuration */
	REQUEST_SPACE,	   /* region: opened into space */
	REQUEST_PROBE,	   /* probe, live */
	REQUEST_CGROUP,	   /* id, text: its path */
	REQUEST_ANSWER,	   /* id: what was asked for before it has been done */
	REQUEST_STOP,	   /* a last fold, then the thread ends */
};

struct client;
struct grace;

struct request {
	struct cds_wfcq_node node;
	enum request_kind kind;
	int err;
	struct client *client; /* control's; not touched by fold */
	struct space *space;
	uid_t uid;
	struct region_fds region;
	uint32_t probe;
	struct probe_live *live; /* with whoever has the request */
	uint64_t id;
	char *text; /* likewise */
	/* Those with a message: WIRE_MAX bytes each. The answer is the reply's buffer under another
	 * name; r->err is for a WIRE_ERROR instead, and its text stands in the reply's buffer. */
	struct wire_head *message;
	union {
		struct wire_registered *reply;
		struct wire_answer *answer;
		char *words;
	};
};

struct fold {
	struct registry *registry;
	struct kernel kernel;
	struct space *spaces[SPACES_MAX];
	uint32_t spaces_nr;
	uint64_t incarnation;
	struct grace *grace;
	bool is_grace_under_way; /* private to the thread, as the next three */
	bool is_grace_over;	 /* and some that waited for it are still to be told */
	bool is_selftest_taken;
	uint32_t promotion; /* enum shm_promotion */

	struct cds_wfcq_tail requests_tail;
	struct __cds_wfcq_head requests;
	int requests_event;
	struct cds_wfcq_tail done_tail;
	struct __cds_wfcq_head done;
	int done_event;
	pthread_t thread;

	/* Private to the thread. */
	uint64_t began_ns;	/* the last fold, CLOCK_MONOTONIC */
	uint64_t duration_ns;	/* of the last fold */
	uint64_t cost_ns;	/* CPU of one fold and its wake-up, smoothed */
	uint64_t second_ns;	/* the last tick */
	uint64_t second_cpu_ns; /* the thread's CPU then */
	uint64_t folded_cpu_ns; /* the thread's CPU after the last fold */
	uint64_t served_cpu_ns; /* spent on requests since then */
	bool is_stopping;

	uint32_t cpu_permille; /* over the last second; read by control */
};

/* Opens the spaces and maps the probes, and folds once: the regions are live afterwards. The caller
 * holds worker.lock and has entered the registry. */
int fold_init(struct fold *f, struct worker_start *ws, struct registry *registry);
void fold_fini(struct fold *f);

int fold_start(struct fold *f);
void fold_join(struct fold *f); /* after REQUEST_STOP */

/* Control's ends of the two queues. */
void fold_ask(struct fold *f, struct request *r);
struct request *fold_answered(struct fold *f); /* NULL: none now */

uint32_t fold_cpu_permille(const struct fold *f);

#endif

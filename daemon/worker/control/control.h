/*
 * The control thread: all client sockets and the link to the keeper, in one epoll loop. Owns the
 * connections and the requests; changes the configuration. It never waits for a client nor for
 * fold.
 */
#ifndef WORKER_CONTROL_H
#define WORKER_CONTROL_H

#include "daemon/worker/control/connection.h"
#include "daemon/worker/control/probe_request.h"
#include "daemon/worker/control/request.h"

/* What the keeper last sent about a probe, for queries. */
struct probe_report {
	struct probe_live live; /* its fds are not open here */
	uint64_t missed;
	struct probe_cost cost; /* of the last window */
	uint32_t cost_ms;	/* its length; 0: none yet */
};

struct control {
	struct worker_start *start;
	struct registry *registry;
	struct fold *fold;
	int epoll;
	uint64_t worker_started_real_ns;

	struct space *spaces[LINK_REGIONS_MAX]; /* those that the fold thread has opened */
	uint32_t spaces_nr;
	struct connections connections;
	struct client_requests requests;
	struct probe_report probes[PROBES_MAX];
	struct probe_requests probe_requests;

	uint64_t orphaned_ns; /* the link ended then; 0: it is up */
	bool is_stopping;     /* the keeper sent LINK_STOP: further messages are ignored */
	bool is_over;
	int result;
};

/* Runs until the keeper sends LINK_STOP and fold has ended (0), or the keeper is gone (-EPIPE). */
int control_run(struct control *c, struct worker_start *ws, struct registry *registry,
		struct fold *fold);

struct space *control_space(const struct control *c, const char *name);

#endif

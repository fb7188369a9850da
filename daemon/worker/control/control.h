/*
 * The control thread: all client sockets and the link to the keeper, in one epoll loop. Owns the
 * clients and the requests; changes the configuration. It never waits for a client nor for fold.
 */
#ifndef WORKER_CONTROL_H
#define WORKER_CONTROL_H

#include "daemon/worker/control/client.h"
#include "daemon/worker/fold/fold.h"
#include "daemon/worker/control/probe_request.h"

#define CONTROL_REQUESTS_MAX 16u

/* What the keeper tells about a probe, for PROBES queries. */
struct probe_word {
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

	struct space *spaces[SPACES_MAX]; /* those that fold answered to be open */
	uint32_t spaces_nr;
	struct client *clients[LINK_CLIENTS_MAX];
	uint32_t clients_nr;
	struct client *ended; /* to be freed after this round of events */
	struct probe_word probes[PROBES_MAX];
	struct orders orders;

	struct request *spare[CONTROL_REQUESTS_MAX]; /* not with the fold thread */
	uint32_t spare_nr, requests_nr;
	bool is_any_starved; /* paused because all requests were with the fold thread */
	uint64_t overdue_ns; /* no client is overdue before */

	uint64_t orphaned_ns; /* the link ended then; 0: it lives */
	bool is_stopping, is_over;
	int result;
};

/* Runs until the keeper says stop and fold has ended (0), or the keeper is gone (-EPIPE). */
int control_run(struct control *c, struct worker_start *ws, struct registry *registry,
		struct fold *fold);

/* --- for client.c ----------------------------------------------------------------------------- */

uint64_t control_now_ns(void);

/* A request to receive into, or NULL while all are with the fold thread. */
struct request *control_request(struct control *c);
void control_request_put(struct control *c, struct request *r);

void control_pause(struct control *c, struct client *client, bool is_paused);
void control_end(struct control *c, struct client *client);
/* Asks the fold thread for something that is not a client's; what it has is no longer the caller's. */
void control_ask(struct control *c, const struct request *what);
struct space *control_space(const struct control *c, const char *name);

/* --- answer.c --------------------------------------------------------------------------------- */

/* Fills the answer to a QUERY, of at most WIRE_MAX bytes; 0 or -EINVAL. */
int answer_query(const struct control *c, const struct client *client, const struct wire_query *q,
		 struct wire_answer *ret);

/* The record of a probe; of one that is not of the table, what live alone says. */
void answer_probe(const struct control *c, uint32_t id, struct wire_probe *ret);
void answer_custom(const struct probe_live *live, struct wire_probe *ret);

#endif

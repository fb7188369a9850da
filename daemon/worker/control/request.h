/*
 * What control asks the fold thread for. Owns the requests and the free list of those of clients.
 * Both threads work on a request in turn, never at once: fold owns it from fold_ask until
 * fold_answered.
 *
 *   made for      serve (fold thread)     fields in               fields out    finish (control)
 *   client_request
 *   REGISTER      serve_register          space, uid, message,    reply         sends the reply
 *                                         reply (begun)
 *   CHANGE        serve_change            space, uid, message     reply         "
 *   QUERY         serve_query             space, message          answer, or    sends either
 *                                                                 err and text
 *   keeper_request
 *   LINK_CONFIG   fold_configure          -                       -             -
 *     its regions fold_space_open         region                  err, space    knows the space
 *   LINK_PROBE    fold_probe              probe, live             err           logs err
 *   LINK_CGROUP   fold_cgroup             id, text: its path      -             -
 *   LINK_ANSWER   nothing                 id                      -             ends the probe request
 *   LINK_STOP     fold_stop               -                       -             ends control
 */
#ifndef WORKER_REQUEST_H
#define WORKER_REQUEST_H

#include "daemon/worker/fold/fold.h"

struct connection;
struct control;

#define CLIENT_REQUESTS_MAX 16u

/* One of a client: a message and room for the reply. */
struct client_request {
	struct request request; /* first: serve and finish get its address */
	struct client_request *next_free;
	struct connection *connection; /* control's; fold does not touch it */
	struct space *space;
	uid_t uid;
	int err; /* for a WIRE_ERROR in place of a reply, with text */
	/* WIRE_MAX bytes each. */
	struct wire_head *message;
	union {
		struct wire_registered *reply;
		struct wire_answer *answer;
		char *text;
	};
};

struct client_requests {
	struct client_request *free; /* not with the fold thread */
	uint32_t nr;
};

/* One of the keeper. */
struct keeper_request {
	struct request request; /* first, as above */
	int err;
	struct region_fds region;
	struct space *space;
	uint32_t probe;
	struct probe_live *live; /* malloced, as text: freed with the request */
	uint64_t id;
	char *text;
};

/* A request to receive into; NULL while the fold thread has all. */
struct client_request *client_request_get(struct client_requests *all);
void client_request_put(struct client_requests *all, struct client_request *r);
bool client_request_is_free(const struct client_requests *all);
void client_requests_fini(struct client_requests *all);

/* Asks the fold thread for a copy of *what, whose live and text are no longer the caller's. */
void keeper_request_ask(struct control *c, const struct keeper_request *what);
void keeper_request_free(struct keeper_request *r);

#endif

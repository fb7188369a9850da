/*
 * What admins ask about probes: attach, detach, replace, measure. The worker parses and checks a
 * probe request, the keeper carries it out and answers over the link; until then the client is not
 * read from. The request of a client that hangs up meanwhile is carried out all the same; a client
 * whose worker ends repeats it to the next. Owns the requests that are under way. Control's thread.
 */
#ifndef CONTROL_PROBE_REQUEST_H
#define CONTROL_PROBE_REQUEST_H

#include "daemon/link/link.h"
#include "shm/wire_admin.h"

struct connection;
struct control;

#define PROBE_REQUESTS_MAX 32u

struct probe_request {
	uint64_t id; /* 0: none */
	struct connection *conn;
	uint32_t number; /* of the client's request */
	uint32_t op;	 /* enum wire_probe_op */
	uint32_t probe;	 /* DETACH: its id */
	int err;	 /* as the keeper answered, with its text */
	char text[WIRE_TEXT_MAX];
	struct wire_probe record; /* name; DETACH: as it was */
};

struct probe_requests {
	uint64_t last_id;
	struct probe_request list[PROBE_REQUESTS_MAX];
};

/* An admin's PROBE message: answers it, or sends it to the keeper. */
void probe_request_receive(struct control *c, struct connection *conn,
			   const struct wire_probe_change *m);

/* The keeper's LINK_ANSWER: ends the request when the fold thread has seen all that came before it. */
void probe_request_answered(struct control *c, const struct link_msg *m);

#endif

/*
 * What admins order about probes: attach, detach, replace, measure. The worker parses and checks,
 * the keeper does it and answers over the link; until then the client is not read from. A client
 * that hangs up meanwhile has ordered all the same; one whose worker ends repeats it to the next.
 * Owns the orders that are under way. Control's thread.
 */
#ifndef WORKER_ORDERS_H
#define WORKER_ORDERS_H

#include "daemon/link/link.h"
#include "shm/wire_admin.h"

struct connection;
struct control;

#define ORDERS_MAX 32u

struct order {
	uint64_t id; /* 0: none */
	struct connection *conn;
	uint32_t number; /* of the client's request */
	uint32_t op;	 /* enum wire_probe_op */
	uint32_t probe;	 /* DETACH: its id */
	int err;	 /* as the keeper answered, with its words */
	char words[WIRE_TEXT_MAX];
	struct wire_probe record; /* name; DETACH: as it was */
};

struct orders {
	uint64_t last_id;
	struct order list[ORDERS_MAX];
};

/* An admin's PROBE message: answers it, or makes it an order. */
void order_take(struct control *c, struct connection *conn, const struct wire_probe_change *m);

/* The keeper's LINK_ANSWER: ends the order when the fold thread has seen all that came before it. */
void order_answered(struct control *c, const struct link_msg *m);

#endif

/*
 * What the fold thread does with a client's REGISTER, CHANGE and QUERY: from a message to its
 * reply. Owns nothing. message.c makes the request; the fold thread calls the serve_* in it.
 */
#ifndef WORKER_SERVE_H
#define WORKER_SERVE_H

#include "daemon/worker/control/request.h"

/*
 * Begins the reply to a REGISTER with the counters that exist. Returns how many entries are left
 * for serve_register. Any thread, inside registry_read_begin.
 */
uint32_t serve_begin(struct client_request *r);

/* Makes or refuses what is left. */
void serve_register(struct fold *f, struct request *request, const struct config *config);

/* Does a CHANGE for the uid in the request, which message.c found to be an admin's. */
void serve_change(struct fold *f, struct request *request, const struct config *config);

/* Answers WIRE_EXPLAIN or WIRE_LANES, which only the fold thread can; err -ENOENT: no such counter. */
void serve_query(struct fold *f, struct request *request, const struct config *config);

#endif

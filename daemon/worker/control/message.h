/*
 * Answering REGISTER, CHANGE and the questions that only the fold thread can answer: from a message to
 * its reply. Both threads work on one request in turn, never at once: control begins the reply to a
 * REGISTER with what is there already, the fold thread makes the rest.
 */
#ifndef WORKER_MESSAGE_H
#define WORKER_MESSAGE_H

#include "daemon/worker/fold/fold.h"

/* Begins the reply. Returns how many entries the fold thread has to make or refuse. Any thread,
 * inside registry_read_begin. */
uint32_t message_look(struct request *r);

/* Makes or refuses what is left. The fold thread. */
void message_register(struct request *r, const struct config *config);

/* Carries out a CHANGE for the uid in the request, which control found to be an admin's; fills the
 * reply. The fold thread. */
void message_change(struct request *r, const struct config *config);

/* Answers WIRE_EXPLAIN or WIRE_LANES; r->err -ENOENT with words when there is no such counter. The fold
 * thread. */
void message_query(struct request *r, const struct config *config);

#endif

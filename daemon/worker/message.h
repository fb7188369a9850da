/*
 * Answering REGISTER: from the entries of a message to the results of its reply. Both threads work
 * on one request in turn, never at once: control begins the reply with what is there already, the
 * fold thread makes the rest.
 */
#ifndef WORKER_MESSAGE_H
#define WORKER_MESSAGE_H

#include "daemon/worker/fold.h"

/* Begins the reply. Returns how many entries the fold thread has to make or refuse. Any thread,
 * inside registry_read_begin. */
uint32_t message_look(struct request *r);

/* Makes or refuses what is left. The fold thread. */
void message_register(struct request *r, const struct config *config);

#endif

/*
 * The keeper's messages over the link: a client's socket, a configuration, what a probe is now,
 * answers, stop. Applies to control's state what is control's and hands the fold thread the rest,
 * in the order in which the keeper sent it. Owns nothing. Control's thread.
 */
#ifndef WORKER_KEEPER_MESSAGE_H
#define WORKER_KEEPER_MESSAGE_H

#include "daemon/worker/control/request.h"

/* Takes all messages that are there. */
void keeper_messages_take(struct control *c);

#endif

/*
 * A client's messages: HELLO, REGISTER, QUERY, CHANGE, PROBE. Checks what the client may do,
 * answers at once what control's thread knows (query.c), and hands the fold thread (serve.c) or the
 * keeper (probe_request.c) the rest. Owns nothing. Control's thread.
 */
#ifndef WORKER_MESSAGE_H
#define WORKER_MESSAGE_H

#include "daemon/worker/control/request.h"

/* Takes the message in r, which passed wire_admin_check. Returns whether the fold thread has r now. */
bool message_take(struct control *c, struct connection *conn, struct client_request *r);

#endif

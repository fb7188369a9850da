/*
 * One client's connection: its socket, what it may do, and how it ends. Owns the socket and ends it
 * by shutdown, because keeper and standby hold duplicates that a close alone would leave open.
 * Never waits for a client: what cannot be sent at once ends that connection alone. What the
 * messages mean stands in message.c. Control's thread.
 *
 *   accepted by the keeper ──► NEW                    INHERITED ◄── of a former worker; gets RESUME
 *                               │ HELLO               HELLO │       and repeats what was unanswered
 *                               └────────► GREETED ◄────────┘
 *                                             │
 *   any of the three ──► ENDED: the client hung up, sent no HELLO within 10 s (NEW alone), sent what
 *                               connection_refuse answers, or does not read its answers
 *   ENDED ──► freed: after the round of events, when neither the fold thread nor the keeper has a
 *                    request of it (is_asking)
 */
#ifndef WORKER_CONNECTION_H
#define WORKER_CONNECTION_H

#include "daemon/link/link.h"
#include "daemon/worker/control/access.h"

struct control;
struct space;

enum connection_state {
	CONNECTION_NEW, /* must send HELLO before deadline_ns */
	CONNECTION_INHERITED,
	CONNECTION_GREETED,
	CONNECTION_ENDED,
};

struct connection {
	uint64_t id; /* as the keeper numbers it */
	int fd;
	enum connection_state state;
	uint32_t idx; /* in struct connections */
	uint64_t deadline_ns;
	uint64_t since_real_ns; /* when this worker got it */
	bool is_asking; /* a request of it is with the fold thread or the keeper */
	bool is_paused; /* not read from: it is asking, or there was no free request to receive
			 * into */
	struct connection *next_ended;

	/* From HELLO on. */
	struct space *space;
	uint32_t access; /* enum wire_access */
	struct access_peer peer;
	uint64_t registered_nr; /* names that it asked this worker for */
	char app[SHM_NAMESPACE_MAX];
};

/* All of them. */
struct connections {
	struct connection *list[LINK_CLIENTS_MAX];
	uint32_t nr;
	struct connection *ended; /* to be freed after this round of events */
	bool is_any_starved;	  /* paused because the fold thread had all requests */
	uint64_t overdue_ns;	  /* no deadline is before */
};

/* Takes fd. When there is no room it closes fd and returns NULL. */
struct connection *connection_open(struct control *c, uint64_t id, int fd,
				   enum connection_state state);
void connection_end(struct control *c, struct connection *conn);

/* Reads a few messages. */
void connection_receive(struct control *c, struct connection *conn);

/* Reads nothing more until its request is answered; release comes just before the answer. */
void connection_hold(struct control *c, struct connection *conn);
void connection_release(struct control *c, struct connection *conn);

void connection_send(struct control *c, struct connection *conn, const void *msg, const int *fds,
		     unsigned int fds_nr);

/* Tells an inherited client's library that there is a new worker. */
void connection_resume(struct control *c, struct connection *conn);

/* Answers with the error; the connection stays. */
void connection_deny(struct control *c, struct connection *conn, uint32_t number, int err,
		     const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* Answers with the error, then ends it. */
void connection_refuse(struct control *c, struct connection *conn, uint32_t number, int err,
		       const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* --- for the loop ----------------------------------------------------------------------------- */

/* Frees those that ended, now that no event of this round can name them. */
void connections_free(struct control *c);

/* Reads again from those that waited for a free request. */
void connections_unpause(struct control *c);

/* Refuses those that sent no HELLO in time. Returns the next deadline, UINT64_MAX: none. */
uint64_t connections_overdue(struct control *c);

/* The worker ends: closes the sockets. The keeper's duplicates keep them open for the next
 * worker. */
void connections_fini(struct control *c);

#endif

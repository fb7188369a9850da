/*
 * One client's connection: HELLO, REGISTER, QUERY, CHANGE, PROBE and all that is malformed. Owns the
 * socket; ends it by shutdown, because keeper and spare hold duplicates that a close alone would
 * leave open. Never waits for a client: what cannot be sent at once ends that client alone.
 * Control's thread.
 */
#ifndef WORKER_CLIENT_H
#define WORKER_CLIENT_H

#include "daemon/worker/control/access.h"
#include "daemon/worker/fold/fold.h"

struct control;

enum client_state {
	CLIENT_NEW,	  /* has until deadline_ns to say HELLO */
	CLIENT_INHERITED, /* of a former worker: may take its time, and repeats what was unanswered */
	CLIENT_GREETED,
	CLIENT_ENDED,	  /* freed once no request and no event refers to it */
};

struct client {
	uint64_t id;
	int fd;
	enum client_state state;
	uint32_t idx; /* in control's array */
	uint64_t deadline_ns;
	struct space *space;
	uint32_t access;
	struct access_peer peer;
	uint64_t since_real_ns; /* this worker has known it since */
	uint64_t registered_nr; /* names that it asked this worker for */
	char app[SHM_NAMESPACE_MAX];
	bool is_asking; /* a request of it is with the fold thread, or an order with the keeper */
	bool is_paused; /* not read from: it is asking, or there is no request to receive into */
	struct client *next_ended;
};

/* Takes at most a few messages. */
void client_receive(struct control *c, struct client *client);

/* The fold thread's answer to its request. */
void client_answer(struct control *c, struct client *client, const struct request *r);

/* Tells an inherited client that there is a new worker. */
void client_resume(struct control *c, struct client *client);

/* Says why; the connection stays. */
void client_deny(struct control *c, struct client *client, uint32_t number, int err, const char *fmt,
		 ...) __attribute__((format(printf, 5, 6)));

void client_send(struct control *c, struct client *client, const void *msg, const int *fds,
		 unsigned int fds_nr);

/* Says why, then ends it. */
void client_refuse(struct control *c, struct client *client, uint32_t number, int err,
		   const char *fmt, ...) __attribute__((format(printf, 5, 6)));

#endif

/*
 * The client sockets in the keeper and in its standby: accepted here, never read here, handed first
 * to the standby and, when the standby has acknowledged them, to the worker. A socket is
 * dropped when its connection has ended: the worker ends one with shutdown(), a client by closing.
 */
#ifndef KEEPER_CLIENTS_H
#define KEEPER_CLIENTS_H

#include <stdint.h>
#include <sys/queue.h>

#include "daemon/keeper/child.h"
#include "daemon/keeper/listener.h"
#include "daemon/keeper/loop.h"

/* How far a client is: at each step a kill of the keeper leaves it whole or unanswered. */
enum held_step {
	HELD_NOT,    /* accepted; nothing was sent to the standby */
	HELD_SENT,   /* sent to the standby, and not acknowledged */
	HELD_TWICE,  /* the standby has it, or there is no standby: the worker may have it */
	HELD_SERVED, /* the worker has it and may answer */
};

struct held_client {
	struct loop_watch watch; /* first: the loop's pointer to it is one to the client */
	TAILQ_ENTRY(held_client) entry; /* in free, pending (before HELD_SERVED) or served */
	uint64_t id;
	int fd;
	enum held_step step;
};
TAILQ_HEAD(held_list, held_client);

/*
 * who        writes                                  reads
 * keeper     all of it                               all of it
 * standby    its own copy: from birth, by messages   at its takeover
 * worker     nothing                                 ids and sockets, once, at its birth
 */
struct clients {
	struct loop *loop;
	struct loop_timer push; /* ends the wait for a new try to hand over */
	struct held_client all[LINK_CLIENTS_MAX];
	uint32_t nr, max;
	uint64_t last_id;
	struct held_list free, pending, served;
};

void clients_init(struct clients *c, struct loop *loop, uint32_t max);

/* Watches all of them: with a loop that was opened anew. */
int clients_watch(struct clients *c);

void clients_accept(struct clients *c, struct listener *l);
int clients_add(struct clients *c, uint64_t id, int fd, enum held_step step);

void clients_acknowledged(struct clients *c, uint64_t id); /* by the standby */
void clients_all_held(struct clients *c); /* by a standby just forked, or there is none */
void clients_all_served(struct clients *c); /* by a worker just forked with all held ones */

/* Hands over what can be handed over now; each turn of the loop. */
void clients_push(struct clients *c, const struct child *standby, const struct child *worker);

#endif

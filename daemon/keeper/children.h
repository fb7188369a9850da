/*
 * The worker and the standby: started, reaped, started again. children.c puts together what a
 * worker is born with; standby.c has what a standby does.
 */
#ifndef KEEPER_CHILDREN_H
#define KEEPER_CHILDREN_H

#include "daemon/keeper/child.h"

struct keeper;

struct children {
	struct child worker, standby;
	worker_entry *worker_run;
	uint64_t incarnation; /* of the worker: microseconds REALTIME, higher than any before */
	uint32_t worker_restarts;
	pid_t standby_sent; /* the standby's pid as the worker knows it */
};

/* Starts what does not run and is due. Afterwards k->self.is_standby says which process this is. */
void children_ensure(struct keeper *k);
void children_reap(struct keeper *k);

/* Sends the standby's pid to a worker that does not know it yet. */
void children_send_standby(struct children *c);

#endif

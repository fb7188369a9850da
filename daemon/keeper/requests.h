/*
 * What the worker asks of the keeper: attaching, ending and replacing probes, a window of
 * statistics, the path of a cgroup. The worker is the weaker one: requests.c checks every byte of a
 * request again.
 */
#ifndef KEEPER_REQUESTS_H
#define KEEPER_REQUESTS_H

#include "daemon/keeper/loop.h"
#include "daemon/keeper/probe/probe.h"
#include "daemon/link/link.h"

struct keeper;

/* Statistics that the worker asked for. */
struct cost_window {
	int fd; /* -1: none under way */
	struct loop_timer end;
	uint64_t began_ns;
	uint64_t request; /* the worker's number for it */
	pid_t worker;	  /* the worker that asked */
	struct probe_cost before[PROBES_MAX];
};

/* None is under way. Closes nothing: the standby has closed the descriptor that it inherited. */
void cost_window_init(struct cost_window *w);

void requests_init(struct keeper *k);
void request_take(struct keeper *k, const struct link_msg *msg);

/* Ends the window when its time is over or its worker is gone; each turn of the loop. */
void request_cost_due(struct keeper *k);

#endif

/*
 * The keeper, whole: the process that is started, with the rights. It has one thread and one loop.
 * All that it holds is in struct keeper, so that a fork (a worker, the standby) inherits the whole
 * set. Each part belongs to one file; another file reads the part and changes it through the
 * functions of its owner.
 *
 *   part       owner        from, until                     the standby's copy
 *   config     reload.c     the start; changes at SIGHUP    by birth, then LINK_CONFIG
 *   self       keeper.c     the start; a takeover           its own after a takeover
 *   loop       loop.c       the start; a takeover           an epoll of its own
 *   state      state.c      the start; the end              without the lock
 *   listener   listener.c   the start; the end              by birth
 *   regions    regions.c    the start; never taken away     by birth, then LINK_CONFIG
 *   clients    clients.c    accept; hang-up                 by birth, then LINK_CLIENT
 *   children   children.c   each process's own start        by birth, then LINK_WORKER
 *   probes     probes.c     attach; detach                  by birth, then LINK_PROBE
 *   cost       requests.c   a request; at most 10 s         none
 *
 *            keeper.c  standby.c
 *                 │        │
 *        requests.c  reload.c  probes.c ── probe/
 *                 └────────┴──────┤
 *                             children.c ── rights.c
 *                                 │
 *                clients.c  regions.c  state.c  listener.c
 *                                 │
 *                         child.c ── loop.c
 *
 * Functions give 0 or -errno; those that can fail have logged the reason when they return.
 */
#ifndef KEEPER_KEEPER_H
#define KEEPER_KEEPER_H

#include "daemon/config/config.h"
#include "daemon/keeper/children.h"
#include "daemon/keeper/clients.h"
#include "daemon/keeper/listener.h"
#include "daemon/keeper/loop.h"
#include "daemon/keeper/probes.h"
#include "daemon/keeper/regions.h"
#include "daemon/keeper/requests.h"
#include "daemon/keeper/state.h"
#include "daemon/link/link.h"

/* Which process this is. */
struct identity {
	pid_t pid;    /* of the keeper, in the standby too */
	int pidfd;    /* of the same process; a standby watches it */
	int link;     /* from a standby to its keeper; -1 in a keeper */
	bool is_standby; /* this process was forked as a standby and has not taken over */
	uint32_t takeovers;
	uint64_t started_real_ns;
};

enum phase { PHASE_RUN, PHASE_STOP_STANDBY, PHASE_STOP_WORKER, PHASE_END };

struct keeper {
	struct config config;
	struct config_source source; /* to read the configuration again */
	enum phase phase;
	int exit_code;
	struct identity self;
	struct loop loop;
	struct state state;
	struct listener listener;
	struct regions regions;
	struct clients clients;
	struct children children;
	struct probes probes;
	struct cost_window cost;
};

/* Runs until the end of the process and gives its exit code; the reason of a failure is logged.
 * worker: what a worker runs, in the child and without rights. */
int keeper_run(const struct config *config, const struct config_source *source,
	       worker_entry *worker);

#endif

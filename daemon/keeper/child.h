/*
 * A process that the keeper keeps alive: its fork, its link, its death and when the next one
 * starts. Knows neither what a worker nor what a standby does. Called by children.c, keeper.c and
 * standby.c; files that send to a child use child_send alone.
 */
#ifndef KEEPER_CHILD_H
#define KEEPER_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/keeper/loop.h"
#include "daemon/link/link.h"

struct child {
	const char *name;
	pid_t pid; /* 0: none now */
	int pidfd;
	int link; /* -1: none, or its other end is gone */
	struct loop *loop;
	struct loop_watch watch; /* of the link */
	struct loop_timer start; /* ends the wait for the next start; stopped while one runs */
	struct loop_timer kill;	 /* when the child should have ended; stopped: it may live */
	bool is_killed;		 /* by this keeper */
	uint64_t started_ns;
	uint64_t deaths_ns[3];	 /* the last three, newest first */
	uint32_t wait_s;	 /* 0: no waiting between death and start */
	uint64_t oom_kills_nr;	 /* the kernel's count when the child was started */
};

/* ready is called with owner when the link can be read. Adds the two timers: once in a process. */
void child_init(struct child *child, const char *name, struct loop *loop,
		void (*ready)(void *owner, struct loop_watch *w), void *owner);

/* There is no such process, and one may start at once. Closes nothing. */
void child_reset(struct child *child);

/* In the parent 0 or -errno; in the child 1 with its end of the link. */
int child_fork(struct child *child, int *ret_link);
void child_start_failed(struct child *child, int err);

/* Sends a message and waits at most a second for room. A child that does not receive it is killed:
 * its successor is born with the content of the message. */
void child_send(struct child *child, const struct link_msg *msg, const int *fds, unsigned int nr);

/* Kills the child when it has not ended in that time. */
void child_end_within(struct child *child, uint64_t ns);
void child_kill(struct child *child);
void child_unlink(struct child *child);

/* After waitpid. is_restarted: the keeper is to start another; is_asked: this end was asked for. */
void child_died(struct child *child, int status, bool is_restarted, bool is_asked);

#endif

/*
 * The state folder and its two locks. Owns how their files are made, not what they mean: PROTOCOL 7
 * says who may wait for which lock; keeper.c and standby.c do it.
 *
 * A lock file is never removed: its name would then lock nothing for a process that opened it
 * before. The folder belongs to the keeper; the worker's uid owns worker.lock and may pass through,
 * so that it can lock that file and change nothing else.
 */
#ifndef KEEPER_STATE_H
#define KEEPER_STATE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/config/config.h"

struct state {
	int fd;		 /* of the folder, O_PATH */
	int lock_fd;	 /* keeper.lock; -1: another process holds it */
	bool is_pid_due; /* keeper.lock is held and does not name this process yet */
};

/* Makes and checks the folder. 0 or -errno, and the reason is logged. */
int state_open(const struct config *config, int *ret_fd);

/* Takes keeper.lock. -EAGAIN (nothing is logged): another process holds it. */
int state_lock(int state_fd, int *ret_fd);
pid_t state_holder(int state_fd); /* the pid in keeper.lock; 0 when it names none */
int state_write_pid(int lock_fd, pid_t pid);

/* Is this lock file locked (NULL: keeper.lock)? 0, 1 or -errno. */
int state_is_locked(int state_fd, const char *name);

int state_worker_lock_make(int state_fd, const struct config *config);

/* Waits until no process holds worker.lock, at most that long. 0 or -ETIMEDOUT (nothing is logged). */
int state_worker_wait(int state_fd, uint64_t ns);

/* Makes the folders above a path. */
int path_make_parents(const char *path, mode_t mode);

#endif

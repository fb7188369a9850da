/*
 * Takes from a child what it must not have: every descriptor that was not given to it, and, from a
 * worker, every right. Called in the child alone, between fork and its own work.
 */
#ifndef KEEPER_RIGHTS_H
#define KEEPER_RIGHTS_H

#include "daemon/config/config.h"

/* A list of descriptors; those below 0 are not added. Ends the process when memory is short. */
struct fd_list {
	int *fds;
	unsigned int nr, max;
};
void fd_list_add(struct fd_list *list, int fd);

/* Closes every other one but 0, 1 and 2; frees the list. */
void fd_list_close_others(struct fd_list *list);

/* Gives up all rights of this process. 0 or -errno, and the reason is logged. */
int rights_drop(const struct config *config);

#endif

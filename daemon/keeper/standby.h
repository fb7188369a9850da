/*
 * The standby: a fork of the keeper that holds all that the keeper holds and only waits. When its
 * link ends it becomes the keeper, but not before the kernel has granted it keeper.lock (then the
 * former keeper is wholly gone), and not before the former worker has ended.
 */
#ifndef KEEPER_STANDBY_H
#define KEEPER_STANDBY_H

struct keeper;

/* The work of a standby. 0: this process is the keeper now. 1: it ends with k->exit_code. */
int standby_run(struct keeper *k);

#endif

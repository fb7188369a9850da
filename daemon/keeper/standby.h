/*
 * The standby: a fork of the keeper that holds all that the keeper holds and only waits. When its
 * link ends it becomes the keeper, but not before the kernel has granted it keeper.lock (then the
 * former keeper is wholly gone), and not before the former worker has ended.
 */
#ifndef KEEPER_STANDBY_H
#define KEEPER_STANDBY_H

struct keeper;

/* Waits and takes over: then k->self.is_standby is false and this process is the keeper. Else it
 * ends. The result is its exit code: 0 unless something failed. */
int standby_run(struct keeper *k);

#endif

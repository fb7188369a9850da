/*
 * The stubs that an object's programs are entered through, for attach.c and adopt.c alone.
 */
#ifndef PROBE_STUB_H
#define PROBE_STUB_H

#include "daemon/keeper/probe/load.h"

/*
 * A stub for a loaded program, and its jump table, which has been tried and is empty. -errno where
 * there can be none (a module's function, a program that asks for its own address): then the program
 * itself is attached.
 */
int stub_make(const struct load *l, const struct bpf_program *prog, int *ret_stub_fd,
	      int *ret_jump_fd);

/* From the next event on each stub of l->live, made of these programs in this order, goes on. */
int stubs_set(const struct load *l);

/*
 * The loaded programs take the places of those that run, none of which sees half an event. -ENOENT
 * with nothing changed: they are not of the same events, or those that run have no stubs. Another
 * -errno: some may have been replaced, all count.
 */
int stubs_swap(const struct load *l);

#endif

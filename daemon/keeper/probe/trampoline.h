/*
 * The trampolines that a probe's programs are entered through, for attach.c and adopt.c alone.
 */
#ifndef PROBE_TRAMPOLINE_H
#define PROBE_TRAMPOLINE_H

#include "daemon/keeper/probe/load.h"

/*
 * A trampoline for a loaded program, and its tail-call slot, which has been tried and is empty.
 * -errno where there can be none (a module's function without CAP_SYS_ADMIN, a program that asks for
 * its own address): then the program itself is attached. -ENOMEM, -EMFILE, -ENFILE: nothing is.
 */
int trampoline_make(const struct load *l, const struct bpf_program *prog, int *ret_fd,
		    int *ret_slot_fd);

/* From the next event on each trampoline of l->live, made of these programs in this order, calls
 * its own. */
int trampolines_begin(const struct load *l);

/*
 * The loaded programs take the places of those that run, none of which sees half an event. -ENOENT
 * with nothing changed: they are not of the same events, or those that run have no trampolines.
 * Another -errno: some may have been replaced, all count.
 */
int trampolines_replace(const struct load *l);

#endif

/*
 * Adopting what is pinned (adopt.c), and the steps of attach.c that it has in common with a new
 * probe. For these two alone.
 */
#ifndef PROBE_ADOPT_H
#define PROBE_ADOPT_H

#include "daemon/keeper/probe/load.h"
#include "daemon/keeper/probe/pins.h"

/* What the opened probe is, for its meta: but for since, programs and links. */
void adopt_describe(const struct load *l, uint32_t origin, struct pin_meta *ret);

/*
 * 0: l->live is the pinned probe, which runs our programs now. 1: nothing of its name is pinned.
 * -EEXIST with *why: it is of another layout. Else -errno.
 */
int adopt(const struct pins *pins, struct load *l, struct pin_meta *m, struct why *why);

/* Attaches the programs into l->live's prog_fds, slot_fds and link_fds; they do not run before
 * load_programs_begin, which also attaches those that can have no trampoline. */
int load_programs_attach(struct load *l);
int load_programs_begin(struct load *l);

/* Gives l->live what a worker may have. */
int load_readers_open(const struct pins *pins, const char *name, struct probe_live *live);

#endif

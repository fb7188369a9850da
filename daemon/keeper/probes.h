/*
 * Which probes there are to be: those of the table, of [probe NAME] and of commands. Each change is
 * sent to standby and worker, which are born with the rest.
 */
#ifndef KEEPER_PROBES_H
#define KEEPER_PROBES_H

#include "daemon/keeper/loop.h"
#include "daemon/keeper/probe/probe.h"
#include "daemon/link/link.h"

#define OBJECT_NAMED "an object is loaded from the configuration alone"

struct keeper;

struct probes {
	struct probe_live live[PROBES_MAX];
	uint64_t missed[PROBES_MAX]; /* as the worker knows it */
	struct pins pins;
	struct loop_timer tick; /* when to ask the probes what they missed; stopped: none attached */
};

void wanted_init(struct keeper *k);
void wanted_ensure(struct keeper *k, bool is_start); /* attaches what is wanted and is not there */
void wanted_take_over(struct keeper *k); /* finishes what the former keeper had begun */
int wanted_heard(struct keeper *k, const struct link_msg *msg, const int *fds, unsigned int fds_nr);

/* For requests.c: 0 or -errno with why and what to do in text, LINK_TEXT_MAX. */
int wanted_attach(struct keeper *k, const struct probe_spec *spec, char *text);
int wanted_detach(struct keeper *k, const char *name, char *text);
int wanted_replace(struct keeper *k, const char *name, char *text);

#endif

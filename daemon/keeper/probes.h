/*
 * Which probes there are: those of the pack, of [probe NAME] and of commands. Each change is sent
 * to standby and worker, which are born with the rest.
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

void probes_init(struct keeper *k);

/* Attaches and ends until those that are desired are attached: at the start, where pins of an
 * earlier talead are adopted; after a change of the configuration; and in a standby that took over,
 * which also finishes what the former keeper had begun. */
void probes_start(struct keeper *k);
void probes_reload(struct keeper *k);
void probes_takeover(struct keeper *k);

/* A standby receives what the keeper changed. 0, then the fds are in k; or -EPROTO, and they are
 * closed. */
int probes_receive(struct keeper *k, const struct link_msg *msg, const int *fds,
		   unsigned int fds_nr);

/* For requests.c: 0 or -errno with why and what to do in text, LINK_TEXT_MAX. */
int probes_attach(struct keeper *k, const struct probe_spec *spec, char *text);
int probes_detach(struct keeper *k, const char *name, char *text);
int probes_replace(struct keeper *k, const char *name, char *text);

#endif

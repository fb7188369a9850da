/*
 * SIGHUP: the configuration is read again, and what changed is sent to standby and worker. Regions
 * are regions.c's, probes are probes.c's.
 */
#ifndef KEEPER_RELOAD_H
#define KEEPER_RELOAD_H

#include "daemon/link/link.h"

struct keeper;

void reload(struct keeper *k);

/* In the standby: applies what the keeper sends after a reload. 0, and the fds are in k; or
 * -EPROTO, and they are closed. */
int reload_apply(struct keeper *k, const struct link_msg *msg, const int *fds,
		 unsigned int fds_nr);

#endif

/*
 * talead --stop and --unpin: end a daemon, found by its lock, and the probes that a daemon left
 * counting. Each runs in a process of its own. The result is the exit code.
 */
#ifndef KEEPER_STOP_H
#define KEEPER_STOP_H

#include "daemon/config/config.h"

int stop_run(const struct config *config);
int unpin_run(const struct config *config);

#endif

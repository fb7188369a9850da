/* The worker's entry, for main.c, which hands it to the keeper. */
#ifndef WORKER_WORKER_H
#define WORKER_WORKER_H

#include "daemon/link/link.h"

/* Called in the child with its rights already dropped. The result is the exit code: 0 after
 * LINK_STOP. */
int worker_run(struct worker_start *ws);

#endif

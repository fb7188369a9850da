/*
 * What other verbs show of the kernel's probes as `talea probes` does.
 */
#ifndef TOOLS_VERBS_PROBES_H
#define TOOLS_VERBS_PROBES_H

#include <stdint.h>

#include "shm/wire_admin.h"

/* The probes that failed as the one at `at` did, if it is the first of them: "probes a, b". Malloced;
 * NULL: it is not. */
char *probes_failed(const struct wire_probe *probes, uint32_t nr, uint32_t at);

#endif

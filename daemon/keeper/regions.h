/*
 * The memory of the namespaces, as descriptors. There is a region for each namespace that was ever
 * configured while this talead runs: a region is never taken away, because programs add to it. The
 * keeper makes regions at the start and at SIGHUP; standby and worker get each by birth or by
 * message.
 */
#ifndef KEEPER_REGIONS_H
#define KEEPER_REGIONS_H

#include "daemon/config/config.h"
#include "daemon/keeper/rights.h"
#include "daemon/link/link.h"

struct regions {
	struct region_fds list[LINK_REGIONS_MAX];
	uint32_t nr;
};

/* Makes those that are missing: 0, or -errno with all as before, and the reason is logged. */
int regions_ensure(struct regions *r, const struct config *config);

void regions_list_fds(const struct regions *r, struct fd_list *list);

#endif

/*
 * How many a namespace and a uid may have: what there is, and what a new claim may add. What the
 * kernel and the daemon count is in no quota. Owns the counts in struct space. The fold thread
 * alone calls this.
 */
#ifndef SPACE_QUOTA_H
#define SPACE_QUOTA_H

#include "daemon/worker/space/register.h"

/* The quotas that hold for one client's claims, looked up once for a message. */
struct quota {
	const struct config *config;
	const struct config_namespace *ns;
	uint32_t family;     /* labels_max is this one's; 0: none looked up yet */
	uint32_t labels_max;
};

void quota_init(struct quota *q, const struct space *space, const struct config *config);

/* May a client have this one too? 0, or -EDQUOT or -ENOMEM with a sentence. */
int quota_check(struct space *space, struct quota *q, const struct claim *c, char *why);

/* Counts a live slot, at registration and after a restart; no longer counts a member that goes. */
void register_account(struct space *space, uint32_t slot);
void register_discount(struct space *space, uint32_t slot);

#endif

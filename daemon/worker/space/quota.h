/*
 * How many counters a namespace and a uid have, and whether a new claim may add one. No quota
 * counts what the kernel and the daemon count. Owns struct space_quota. The fold thread alone calls
 * this.
 */
#ifndef SPACE_QUOTA_H
#define SPACE_QUOTA_H

#include "daemon/worker/space/claim.h"
#include "daemon/worker/space/space.h"

/* How many counters a uid has. */
struct uid_count {
	uid_t uid;
	uint32_t nr;
};

/* The quotas that hold for one client's claims, looked up once for a message. */
struct quota {
	const struct config *config;
	const struct config_namespace *ns;
	uint32_t family;     /* labels_max is this one's; 0: none looked up yet */
	uint32_t labels_max;
};

void quota_init(struct quota *q, const struct space *space, const struct config *config);

/* May a client have this one too? 0, -EDQUOT or -ENOMEM. */
int quota_check(struct space *space, struct quota *q, const struct claim *c, struct why *why);

/* Counts a live slot, at registration and at a start; counts a member no longer when its removal
 * begins. */
void quota_account(struct space *space, uint32_t slot);
void quota_discount(struct space *space, uint32_t slot);

void quota_close(struct space *space);

#endif

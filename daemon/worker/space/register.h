/*
 * Registering: makes slots for claims that nothing meets yet. Owns nothing but the order in which a
 * slot becomes visible: memory is pages.c's, finding claim.c's and index.c's, and quota.c says how
 * many there may be. The fold thread alone calls this, inside registry_read_begin.
 */
#ifndef SPACE_REGISTER_H
#define SPACE_REGISTER_H

#include "daemon/worker/space/claim.h"
#include "daemon/worker/space/space.h"

struct quota;

/* Finds or makes; *ret is always set, ret->err is the result, and why says why it failed. */
void register_claim(struct space *space, struct quota *q, const struct claim *c,
		    struct wire_result *ret, struct why *why);

/*
 * The same for the daemon's own and the kernel's counters, families and members: no quota, no rules
 * of names. -EEXIST: a program has registered the name, or it is of another type, help or label.
 */
int register_own(struct space *space, const struct claim *c, uint32_t *ret_slot);

#endif

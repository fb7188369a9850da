/*
 * Folding one namespace: a pure read of its shards, and the next epoch of its totals. The only code
 * that stores to the totals. The fold thread alone calls this.
 */
#ifndef SPACE_TOTALS_H
#define SPACE_TOTALS_H

#include "daemon/worker/space/space.h"

struct fold_times {
	uint64_t mono_ns, real_ns; /* when this fold began, before any cell was read */
	uint64_t interval_ns;	   /* since the last one began */
	uint64_t duration_ns;	   /* of the last one */
	uint64_t cpu_ns;	   /* of the fold thread so far */
};

void totals_fold(struct space *space, const struct fold_times *times);

#endif

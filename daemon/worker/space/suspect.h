/*
 * What should not happen (invariant I12): a counter whose total falls, and a cell that changes
 * though nobody owns it. The first is frozen at its last good value, the second marks the
 * namespace; both end when an admin accepts. The fold thread alone calls this.
 */
#ifndef SPACE_SUSPECT_H
#define SPACE_SUSPECT_H

#include "daemon/worker/space/space.h"

/*
 * The fold found `sum` for a slot whose published total is `published`, and cannot take it as it
 * is: the state is not plain, or it fell, or it moved much. Returns what to publish.
 */
uint64_t suspect_judge(struct space *space, uint32_t slot, uint64_t sum, uint64_t published);

/* A cell of nobody's changed by n. */
void suspect_stray(struct space *space, uint32_t slot, uint32_t row, int64_t n);

/* An admin accepts: 0, or -EINVAL for one that is not suspect. Slot 0: the namespace. */
int suspect_accept(struct space *space, uint32_t slot, uint32_t uid);

/* In the fold under way, or the next one, the total may be less than before. */
void suspect_may_fall(struct space *space, uint32_t slot);

/* What the cells of a slot say, whatever is published. */
int64_t suspect_sum(const struct space *space, uint32_t slot);

/* At start, after the totals of the former worker are known. */
void suspect_recover(struct space *space, uint32_t slot);

#endif

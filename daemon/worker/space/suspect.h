/*
 * What should not happen (invariant I12): a counter whose total falls, and a cell that changes
 * though no counter owns it. The first is frozen at its last good value, the second marks the
 * namespace; both end when an admin accepts. Owns struct space_suspects. The fold thread alone
 * calls this.
 */
#ifndef SPACE_SUSPECT_H
#define SPACE_SUSPECT_H

#include "daemon/worker/space/space.h"

/*
 * The fold found *sum for a slot whose published total is `published`, and it must be judged: the
 * state is not plain, or the total fell, or it moved much. *sum is what to publish afterwards.
 * true: the total moves as that of a counter in use does.
 */
bool suspect_judge(struct space *space, uint32_t slot, uint64_t *sum, uint64_t published);

/* The late list was worked off. */
void suspect_late_clear(struct space *space);

/* A cell that no counter owns changed by n: the cold cell of a slot, or a row of no slot. */
void suspect_stray(struct space *space, uint32_t slot, uint32_t row, int64_t n);

/* Once a second: do free rows hold what they held? */
void suspect_rows(struct space *space);

/* An admin accepts: 0, or -EINVAL for one that is not suspect. Slot 0: the namespace. */
int suspect_accept(struct space *space, uint32_t slot, uint32_t uid);

/* In the fold under way, or the next one, the total may be less than before. */
void suspect_may_fall(struct space *space, uint32_t slot);

/* What the cells of a slot add up to, whatever is published. */
int64_t suspect_sum(const struct space *space, uint32_t slot);

/* Counts a frozen slot at start, after the totals of the former worker are known; counts one that
 * is removed no longer. */
void suspect_recover(struct space *space, uint32_t slot);
void suspect_remove(struct space *space, uint32_t slot);

#endif

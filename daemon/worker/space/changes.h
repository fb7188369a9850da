/*
 * The ring of changes in T: what happened to rows, members and suspects, for `talea history`. The
 * only code that stores to it. The fold thread alone calls changes_put.
 */
#ifndef SPACE_CHANGES_H
#define SPACE_CHANGES_H

#include <stdint.h>

#include "shm/layout.h"

struct space;

/* real_ns, generation and name are filled in here; slot 0 is the namespace itself. */
void changes_put(struct space *space, const struct change_shm *change);

/* Copies up to max changes from number `from` on, oldest first; the number of the first goes to
 * ret_first. Any thread. */
uint32_t changes_copy(const struct totals_shm *t, uint64_t from, struct change_shm *ret, uint32_t max,
		      uint64_t *ret_first);

#endif

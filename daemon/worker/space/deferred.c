/* See deferred.h. */
#include "daemon/worker/space/deferred.h"

#define DEFERRED_SLICE 8192u /* some milliseconds */

bool deferred_has_room(const struct space *space)
{
	return space->deferred.open_nr < SPACE_DEFERRED_MAX - SHM_SLOTS_MAX;
}

void deferred_put(struct space *space, uint32_t slot, uint32_t seq, deferred_fn *end)
{
	struct space_deferred *d = &space->deferred;

	d->open[d->open_nr++] = (struct deferred){ slot, seq, end };
}

uint32_t deferred_begin(struct space *space)
{
	struct space_deferred *d = &space->deferred;
	struct deferred *open = d->open;

	d->open = d->closed;
	d->closed = open;
	d->closed_nr = d->open_nr;
	d->open_nr = 0;
	return d->closed_nr;
}

bool deferred_end(struct space *space)
{
	struct space_deferred *d = &space->deferred;

	for (uint32_t i = 0; i < DEFERRED_SLICE && d->done_nr < d->closed_nr; i++) {
		const struct deferred *one = &d->closed[d->done_nr++];

		one->end(space, one->slot, one->seq);
	}
	if (d->done_nr < d->closed_nr)
		return false;
	d->closed_nr = d->done_nr = 0;
	return true;
}

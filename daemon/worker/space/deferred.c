/* See deferred.h. */
#include "daemon/worker/space/deferred.h"

#include <errno.h>

#define DEFERRED_SLICE 8192u /* some milliseconds */

int deferred_open(struct space *space)
{
	struct space_deferred *d = &space->deferred;

	d->open = space_array(sizeof(*d->open), SPACE_DEFERRED_MAX);
	d->closed = space_array(sizeof(*d->closed), SPACE_DEFERRED_MAX);
	return d->open && d->closed ? 0 : -ENOMEM;
}

void deferred_close(struct space *space)
{
	space_array_free(space->deferred.open, sizeof(struct deferred), SPACE_DEFERRED_MAX);
	space_array_free(space->deferred.closed, sizeof(struct deferred), SPACE_DEFERRED_MAX);
}

bool deferred_has_room(const struct space *space)
{
	/* Each slot can be removed once meanwhile: the rest is for rows. */
	return space->deferred.open_nr < SPACE_DEFERRED_MAX - SHM_SLOTS_MAX;
}

void deferred_put(struct space *space, const struct deferred *d)
{
	space->deferred.open[space->deferred.open_nr++] = *d;
}

uint32_t deferred_begin(struct space *space)
{
	struct space_deferred *d = &space->deferred;
	struct deferred *batch = d->open;

	d->open = d->closed;
	d->closed = batch;
	d->closed_nr = d->open_nr;
	d->open_nr = 0;
	return d->closed_nr;
}

bool deferred_end(struct space *space)
{
	struct space_deferred *d = &space->deferred;

	for (uint32_t i = 0; i < DEFERRED_SLICE && d->done_nr < d->closed_nr; i++) {
		const struct deferred *one = &d->closed[d->done_nr++];

		one->finish(space, one->slot, one->seq);
	}
	if (d->done_nr < d->closed_nr)
		return false;
	d->closed_nr = d->done_nr = 0;
	return true;
}

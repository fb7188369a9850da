/* See leave.h. */
#include "daemon/worker/space/leave.h"

#include "daemon/worker/space/heat.h"
#include "daemon/worker/space/owners.h"
#include "daemon/worker/space/remove.h"

#define LEAVE_SLICE 8192u /* some milliseconds */

bool leave_has_room(const struct space *space)
{
	/* Each slot can be removed once meanwhile: the rest is for rows. */
	return space->leaving_nr < SPACE_LEAVING_MAX - SHM_SLOTS_MAX;
}

void leave_put(struct space *space, uint32_t slot)
{
	space->leaving[space->leaving_nr++] = (struct leave){ slot, 0 };
}

void leave_put_row(struct space *space, uint32_t slot, uint32_t seq)
{
	space->leaving[space->leaving_nr++] = (struct leave){ slot, seq };
}

uint32_t leave_begin(struct space *space)
{
	struct leave *batch = space->leaving;

	space->leaving = space->visited;
	space->visited = batch;
	space->visited_nr = space->leaving_nr;
	space->leaving_nr = 0;
	return space->visited_nr;
}

bool leave_end(struct space *space)
{
	for (uint32_t i = 0; i < LEAVE_SLICE && space->ended_nr < space->visited_nr; i++) {
		const struct leave *l = &space->visited[space->ended_nr++];
		uint64_t state = shm_count_read(&space_slot(space, l->slot)->state);

		if (!l->seq)
			remove_end(space, l->slot);
		else if (state_flags(state) & SHM_F_REMOVING)
			continue; /* it left altogether meanwhile: the row goes with its removal */
		else if (owners_retired(space, l->slot, l->seq))
			heat_retired(space, l->slot);
	}
	if (space->ended_nr < space->visited_nr)
		return false;
	space->visited_nr = space->ended_nr = 0;
	return true;
}

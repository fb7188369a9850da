/*
 * Members that have been idle for their time to live: removes them. Owns where its scan resumes
 * (space->idle_slot). The fold thread alone calls this, inside registry_read_begin.
 */
#ifndef SPACE_IDLE_H
#define SPACE_IDLE_H

#include "daemon/worker/space/space.h"

/* Once a second: all members, or as many as the time allows. */
void idle_second(struct space *space, const struct config *config);

#endif

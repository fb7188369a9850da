/* A probe of the table as an object to be loaded; see table.c. For attach.c alone. */
#ifndef PROBE_TABLE_H
#define PROBE_TABLE_H

#include <stdbool.h>

#include "daemon/keeper/probe/load.h"

/* Its map is [cpu][stride] of probe_types; otherwise it is an object with counters of its own. */
bool table_is_dense(uint32_t id);

/* Opens the object of l->id: sets obj, stub and body, or what object_open sets. */
int table_open(struct load *l);

#endif

/*
 * How the daemon is: what the worker and the library report at one time, and the JSON of `talea
 * status`. Owns the copies until facts_fini. Called by verbs/status.c.
 */
#ifndef TOOLS_EXPO_FACTS_H
#define TOOLS_EXPO_FACTS_H

#include <jansson.h>
#include <stdint.h>

#include <talea.h>

#include "shm/wire_admin.h"
#include "tools/expo/ask.h"

struct facts {
	struct talea_status st;
	struct wire_status daemon; /* clients_nr is without the connections of this process */
	struct wire_probe *probes;
	uint32_t probes_nr;
};

/* 0 or -errno: see ask_why. */
int facts_take(struct ask *ask, const struct talea_status *st, struct facts *ret);
void facts_fini(struct facts *f);
json_t *facts_json(const struct facts *f); /* NULL when memory is short */

#endif

/*
 * Probes as the worker describes them (struct wire_probe): found by name, their counters one by
 * one, and as JSON. Owns nothing. Called by facts.c and by the verbs about probes.
 */
#ifndef TOOLS_EXPO_PROBE_H
#define TOOLS_EXPO_PROBE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/wire_admin.h"

const struct wire_probe *probe_find(const struct wire_probe *list, uint32_t nr, const char *name);

const char *probe_state_text(const struct wire_probe *probe);

/* The counters that a probe feeds stand in one text, with blanks between: the length of the one that
 * begins at `at` (the first is at 0; 0: there is none), and where the next one begins. */
size_t probe_counter(const struct wire_probe *probe, size_t at);
size_t probe_counter_next(const struct wire_probe *probe, size_t at);
/* Does it feed the counter whose name without labels is the first `length` bytes of base? */
bool probe_feeds(const struct wire_probe *probe, const char *base, size_t length);

/* NULL when memory is short. */
json_t *probe_json(const struct wire_probe *probe);
json_t *probes_json(const struct wire_probe *probes, uint32_t nr);

#endif

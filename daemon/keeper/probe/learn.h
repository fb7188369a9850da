/* What the running kernel calls the keys of a probe; see learn.c. Called by attach.c alone. */
#ifndef PROBE_LEARN_H
#define PROBE_LEARN_H

#include "daemon/spec/pack.h"

/* Reads the names of the probe's keys and sets them (probe_names_set). May take some 20 ms, once. */
void probe_learn(enum probe_id id);

#endif

/* What the running kernel calls the keys of a probe; see probe_learn.c. Called by probe.c alone. */
#ifndef KEEPER_PROBE_LEARN_H
#define KEEPER_PROBE_LEARN_H

#include "daemon/probes.h"

#define PROBE_KERNEL_BTF "/sys/kernel/btf/vmlinux"

/* Reads the names of the probe's keys and sets them (probe_names_set). May take some 20 ms, once. */
void probe_learn(enum probe_id id);

#endif

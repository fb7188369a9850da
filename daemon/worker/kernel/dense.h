/*
 * The counters of one probe of the pack whose keys are dense: each label set has its place in the
 * list of the pack, is known before anything is counted, and gets a slot when it is first seen.
 * They are there whether the probe is attached or not; while it is, source.c maps its array and
 * folds it into them. Owns which slot is whose; the counters are in namespace `default`. The fold
 * thread alone calls this.
 */
#ifndef KERNEL_DENSE_H
#define KERNEL_DENSE_H

#include "daemon/spec/pack.h"
#include "daemon/worker/kernel/kernel_part.h"

struct dense {
	const struct probe_type *type;
	struct kernel_parts *parts;
	uint64_t incarnation; /* of the probe; 0: it is not attached */
	uint64_t *sums;	      /* by key: this fold's */
	uint32_t *slots;      /* by entry, SHM_SLOT_NONE: not registered */
	uint64_t keys_nr;     /* entries registered so far; any thread reads it */
};

/* 0 or -ENOMEM; dense_fini after either. */
int dense_init(struct dense *d, enum probe_id id, struct kernel_parts *parts);
void dense_fini(struct dense *d);

/* Finds the counters that are there already: at the start, and when names of keys have become
 * known. */
void dense_find(struct dense *d);

/* The probe is desired: its counters without labels are there, unknown until it is attached. */
void dense_make(struct dense *d);

void dense_begin(struct dense *d, uint64_t incarnation);

/* Sums the array [cpu][stride] into the kernel part; returns how many events that is. */
uint64_t dense_fold(struct dense *d, const char *counts, uint32_t cpus_nr);

/* What was folded last stays in the counters, unknown from now on. */
void dense_end(struct dense *d);

#endif

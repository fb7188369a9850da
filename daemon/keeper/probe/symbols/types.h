/*
 * The type information of the running kernel and of its modules. For daemon/probe alone.
 */
#ifndef PROBE_TYPES_H
#define PROBE_TYPES_H

#include <bpf/btf.h>
#include <stdint.h>

#define TYPES_FOLDER	   "/sys/kernel/btf"
#define TYPES_KERNEL	   TYPES_FOLDER "/vmlinux"
/* A typedef of each tracepoint's prototype has this before its name. */
#define TYPES_TRACEPOINT   "btf_trace_"

/*
 * Calls visit for the kernel's types, and then for each module's: those from `first` on are new in
 * it. Non-zero from visit ends it and is the result; -ENODATA: this kernel has no type information.
 */
int types_each(int (*visit)(const struct btf *btf, uint32_t first, void *arg), void *arg);

#endif

/*
 * The type information of the running kernel and of its modules. For keeper/probe and
 * keeper/doctor.
 */
#ifndef PROBE_TYPES_H
#define PROBE_TYPES_H

#include <bpf/btf.h>
#include <stdint.h>

#define TYPES_FOLDER	   "/sys/kernel/btf"
#define TYPES_KERNEL	   TYPES_FOLDER "/vmlinux"
/* Each tracepoint has a typedef of its prototype; its name begins with this. */
#define TYPES_TRACEPOINT   "btf_trace_"

/*
 * Calls visit for the kernel's types, and then for the types of each module, which begin at
 * `first`. A non-zero result of visit ends this and is returned. -ENODATA: this kernel has no type
 * information.
 */
int types_each(int (*visit)(const struct btf *btf, uint32_t first, void *arg), void *arg);

#endif

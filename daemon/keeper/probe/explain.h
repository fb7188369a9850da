/*
 * Why a probe does not work here, in words for a person, and what to type: one place for the log,
 * for `talea probes` and for `talea doctor`. Reads /proc and /sys; changes nothing. For
 * daemon/probe alone.
 */
#ifndef PROBE_EXPLAIN_H
#define PROBE_EXPLAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/spec/pack.h"

struct utsname;

struct explain {
	char reason[256]; /* a clause without the probe's name */
	char fix[256];	  /* what to type; "" : nothing helps */
};

/* What is known about an attempt that failed. */
struct failure {
	int err;	  /* -errno */
	const char *step; /* what was being done: "load it" */
	char *log;	  /* the verifier's, or "" */
	uint32_t event;	  /* enum spec_event */
	const char *file, *target; /* as in struct probe_spec; may be NULL */
	const char *without; /* how to live without it: "set [daemon] probes without X" */
	size_t map_bytes;
};

__attribute__((format(printf, 2, 3))) void explain_reason(struct explain *e, const char *format, ...);
__attribute__((format(printf, 2, 3))) void explain_fix(struct explain *e, const char *format, ...);

/* What it asks before it says anything, for doctor.c: the effective capabilities by number; is this
 * another user namespace than the host's; is this kernel older than 6.1; the first line of a file.
 */
uint64_t explain_caps(void);
bool explain_in_user_namespace(void);
bool explain_kernel_is_old(struct utsname *ret_name);
bool explain_line(const char *path, char *buf, size_t size);

/* The checks that come before an attempt; 0, or -errno with *ret filled. */
int explain_rights(struct explain *ret);	       /* CAP_BPF, CAP_PERFMON */
int explain_btf(uint32_t event, struct explain *ret); /* where the event needs the kernel's types */

/* What happened: lockdown, user namespace, seccomp or LSM, no such name (the nearest ones), the
 * verifier's last lines, no memory, not for this kernel. */
void explain_failure(const struct failure *f, struct explain *ret);

/* Has the kernel's type information this tracepoint? True where there is none to ask. */
bool explain_has_tracepoint(const char *name);

/* Up to three names like `target` that such an event could have, as "a, b or c"; "" when none is
 * alike. file: as it was found, of uprobes and USDT. Reads the whole of the kernel's types or of
 * the file. */
void explain_nearest(uint32_t event, const char *file, const char *target, char *buf, size_t size);

#endif

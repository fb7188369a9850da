/*
 * Why a probe does not work here, in a sentence for a person, and what to type: one place for the
 * log, for `talea probes` and for `talea doctor`. Reads /proc and /sys; changes nothing. For
 * keeper/probe and keeper/doctor.
 */
#ifndef PROBE_EXPLAIN_H
#define PROBE_EXPLAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/spec/pack.h"
#include "shm/base/why.h"

struct utsname;

/* What is known about an attempt that failed. */
struct failure {
	int err;	  /* -errno */
	const char *step; /* which step failed: "load it" */
	char *log;	  /* the verifier's, or "" */
	uint32_t event;	  /* enum spec_event */
	const char *file, *target; /* as in struct probe_spec; may be NULL */
	const char *without; /* how to do without the probe: "set [daemon] probes without X" */
	size_t map_bytes;
};

/* For the doctor too: the effective capabilities by number; is this another user namespace than the
 * host's; is this kernel older than 6.1; the first line of a file. */
uint64_t explain_caps(void);
bool explain_in_user_namespace(void);
bool explain_kernel_is_old(struct utsname *ret_name);
bool explain_line(const char *path, char *buf, size_t size);

/* The checks that come before an attempt; 0, or -errno with *ret filled. */
int explain_rights(struct why *ret);	       /* CAP_BPF, CAP_PERFMON */
int explain_btf(uint32_t event, struct why *ret); /* if the event needs the kernel's types */

/* Says what happened: lockdown, a user namespace, seccomp or an LSM, no such name (with the nearest
 * ones), the verifier's last lines, no memory, or a kernel that is too old. */
void explain_failure(const struct failure *f, struct why *ret);

/* Does the kernel's type information have this tracepoint? True where the kernel has none. */
bool explain_has_tracepoint(const char *name);

/* Writes up to three names like `target` that such an event could have, as "a, b or c"; "" when
 * none is alike. file: of uprobes and USDT, as it was found. Reads all of the kernel's types or of
 * the file. */
void explain_nearest(uint32_t event, const char *file, const char *target, char *buf, size_t size);

#endif

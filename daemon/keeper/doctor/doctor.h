/*
 * What doctor.c and doctor_try.c share: the report, one finding after the other. For these two
 * alone.
 */
#ifndef PROBE_DOCTOR_H
#define PROBE_DOCTOR_H

#include <jansson.h>
#include <stdio.h>

#include "daemon/config/config.h"
#include "daemon/keeper/probe/explain.h"
#include "daemon/keeper/probe/probe.h"

/* SKIP: it cannot be or may not be here, and nothing that the configuration asks for needs it. */
enum doctor_state { DOCTOR_OK, DOCTOR_SKIP, DOCTOR_FAIL, DOCTOR_STATES_NR };

struct doctor {
	const struct config *config;
	FILE *out;
	json_t *checks; /* NULL: lines */
	const char *group;
	const char *lacking; /* without this nothing is tried, said once; NULL: nothing */
	bool has_pins; /* a bpffs is where pins go: what is in it can be opened to read alone */
	uint32_t nr[DOCTOR_STATES_NR];
};

/* One finding. e: why and, unless it is ok, what to type; NULL or "": nothing more to say. */
void doctor_say(struct doctor *d, enum doctor_state state, const char *what, const struct why *e);
__attribute__((format(printf, 4, 5)))
void doctor_sayf(struct doctor *d, enum doctor_state state, const char *what, const char *format, ...);
void doctor_group(struct doctor *d, const char *group);

/* Is any kernel probe asked for? One of this event? What a thing that does not work is then. */
bool doctor_needs_bpf(const struct doctor *d);
bool doctor_needs(const struct doctor *d, uint32_t event);
enum doctor_state doctor_broken(bool is_needed);

/* Says that this is not tried, and is true, where the configuration has no BPF or it cannot be. */
bool doctor_is_untried(struct doctor *d, const char *what);

/* doctor_try.c: what the kernel does with programs and maps like ours. All is gone again after. */
void doctor_programs(struct doctor *d);
void doctor_maps(struct doctor *d);

/* A bpffs, in a child with private mounts: mount, pin, open to read alone. 0 if one can be mounted,
 * or -errno. */
int doctor_bpffs(struct doctor *d);

#endif

/*
 * Kernel probes as the keeper has them: loading, attaching, pinning, adopting, replacing, freeing
 * dead keys, cost, and finding out why something does not work. This folder alone has libbpf and
 * libelf. It owns nothing after a call returns: fds belong to the struct probe_live of the caller,
 * and what is pinned to the bpffs below the state folder.
 *
 *   attach.c     one probe: load, attach, pin             adopt.c     what is pinned already
 *   object.c     opens an object: the pack's, a user's    declared.c  opens what was declared in text
 *   embedded.c   the objects of the pack                  pins.c      the bpffs, and what is in it
 *   trampoline.c how programs are entered and replaced    nearest.c   names like one that is not there
 *   explain.c    why it failed, and what to type          learn.c     names that the kernel knows
 *   symbols/     ELF symbols, USDT notes, kernel types    reap.c      keys whose owner is gone
 *   cgroups.c    a cgroup's path by id, and back          cost.c      a window of statistics
 *
 * Functions give 0 or -errno. None logs.
 */
#ifndef PROBE_PROBE_H
#define PROBE_PROBE_H

#include <stdio.h>

#include "daemon/spec/pack.h"

/* --- pins.c ----------------------------------------------------------------------------------- */

/* The folder of pins: <state>/bpf, a bpffs of our own, mounted when this process may. */
struct pins {
	int fd;	       /* O_PATH; -1: nothing is pinned */
	char path[280];
	char why[128]; /* when nothing is pinned: why, and what to type */
};

/* Opens or makes the folder; removes what a killed talead left half made. Never fails: pins->why. */
void pins_open(struct pins *pins, const char *state);
void pins_close(struct pins *pins);

/* What pins_open would find, and its words where mounting fails with mount_err (0: it would not);
 * but nothing is mounted, made or removed. pins->fd is -1 with no pins->why where it would be
 * mounted. */
void pins_look(struct pins *pins, const char *state, int mount_err);

/* Ends all that is pinned and unmounts, for talead --unpin. How many probes ended, or -errno. */
int pins_remove_all(const char *state);

/* One that is pinned. since_real_ns tells two of one name apart. */
struct pinned_probe {
	const char *name;
	uint32_t origin;
	uint64_t since_real_ns;
	const struct probe_spec *spec; /* NULL: made by a talead that knew another struct pin_meta */
};

/* Calls visit with each pinned probe. */
void pins_each(const struct pins *pins, void (*visit)(const struct pinned_probe *p, void *arg),
	       void *arg);

/* Ends a pinned probe that nobody has open here. 0 or -ENOENT. */
int pins_remove(const struct pins *pins, const char *name);

/* --- attach.c --------------------------------------------------------------------------------- */

struct probe_desired {
	const struct probe_spec *spec;
	uint32_t origin;   /* enum probe_origin */
	bool is_replacing; /* what is pinned in another layout ends and its counts begin again */
};

/*
 * Attaches a probe, and learns the names of its keys (probe_names.h); overwrites *ret whatever it
 * held. What is pinned in the same layout is adopted with its counts, and its programs replaced
 * without a gap if ours are others: ret->replaced says what was done. 0 and ATTACHED, or -errno and
 * FAILED with reason and fix; -EEXIST: another layout is pinned. Needs CAP_BPF and CAP_PERFMON,
 * nothing else; may take some 100 ms.
 */
int probe_attach(const struct pins *pins, const struct probe_desired *desired,
		 struct probe_live *ret);

/* Ends it: unpins, closes. Counting stops when no other process holds it. */
void probe_end(const struct pins *pins, struct probe_live *live);

/* Runs that the kernel skipped because a program was running on that CPU already: known loss. */
uint64_t probe_missed(const struct probe_live *live);

/* --- reap.c, cgroups.c ------------------------------------------------------------------------ */

/*
 * Finishes what a former keeper died over (ledger.seq odd), then frees the keys whose owner has
 * been gone since the look before: call once a second. At most some milliseconds of work a call.
 */
void probe_reap(uint32_t place, struct probe_live *live);

/* Why keys of this probe whose owner is gone are not freed, as a clause; NULL: they are, or none
 * has an owner. */
const char *probe_reap_why_not(const struct probe_live *live);

/* The path of a cgroup below the cgroup2 mount ("/" is its root). -ENOENT: it is gone; another
 * error: that is not known, as where there is no such mount (-ENODEV). And back. */
int cgroup_path(uint64_t id, char *buf, size_t size);
int cgroup_id(const char *path, uint64_t *ret_id);

/* --- cost.c ----------------------------------------------------------------------------------- */

/* Statistics are on while the fd that cost_begin gives is open. before, after: by id, PROBES_MAX. */
int cost_begin(const struct probe_live *probes, struct probe_cost *ret_before);
void cost_end(int fd, const struct probe_live *probes, const struct probe_cost *before,
	      struct probe_cost *ret);

/* --- doctor.c, available.c: for talead --doctor and --available, in a process of their own ------- */

/* Tries each capability, program type and mount, throwing all away again; 0, or 1 when something
 * that the configuration asks for fails. */
struct config;
int doctor_run(const struct config *config, FILE *out, bool is_json);
int available_run(const char *glob, FILE *out, bool is_json);

#endif

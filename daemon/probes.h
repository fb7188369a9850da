/*
 * The kernel events that talead can count: a fixed table of probe types with the names of their
 * keys, and what it is to have one attached. probes.c (the table) knows nothing of libbpf and is
 * linked into keeper and worker alike; keeper/probe.c loads and attaches and is the only file with
 * libbpf in it. The keeper attaches, hands a struct probe_live to every new worker at fork, and the
 * worker folds its map as it folds any other lane.
 */
#ifndef DAEMON_PROBES_H
#define DAEMON_PROBES_H

#include <stddef.h>
#include <stdint.h>

#include "wire.h"

enum probe_id { PROBE_CONTEXT_SWITCHES, PROBE_SYSCALLS, PROBE_NR };

struct probe_type {
	const char *name;    /* in the configuration: context_switches */
	const char *attach;  /* tp_btf:sched_switch */
	const char *counter; /* kernel_context_switches_total */
	const char *help;
	uint32_t keys_nr;
	uint32_t stride; /* of one CPU's part of the map, in u64s; keys_nr or more */

	/*
	 * Writes the labels of a key as they stand in a canonical name, sorted and without braces:
	 * `abi="i386",syscall="read"`. "" for the one key of a probe without labels. Returns the
	 * length, or -EINVAL (no such key), -EMSGSIZE (96 bytes are always enough). Two keys never
	 * have the same labels.
	 */
	int (*labels)(uint32_t key, char *buf, size_t size);
};

extern const struct probe_type probe_types[PROBE_NR];

/*
 * One probe as it is now. In state WIRE_PROBE_ATTACHED the fds are open, CLOEXEC, and the only
 * thing that keeps the probe alive: nothing is pinned, so when the last process that holds them
 * ends the kernel takes all of it down. Otherwise they are -1 and, if FAILED, the two texts say
 * why, as a clause without the probe's name ("CAP_PERFMON is missing (have: CAP_BPF)"), and what
 * to type. Callers print "probe NAME not loaded: REASON. fix: FIX".
 *
 * map_fd: an mmapable ARRAY of u64, [cpu][stride] with cpus_nr parts of the probe type's stride.
 * It is frozen: no process can write it, the programs alone add to it, atomically. Map
 * probe_map_bytes() of it PROT_READ and MAP_SHARED; the mapping outlives the fd.
 */
struct probe_live {
	uint32_t state; /* enum wire_probe_state */
	char reason[256];
	char fix[256];
	int map_fd;
	int prog_fd;
	int link_fd;
	uint32_t cpus_nr; /* the highest possible CPU + 1 */
};

#define PROBE_LIVE_OFF { .map_fd = -1, .prog_fd = -1, .link_fd = -1 }

static inline size_t probe_map_bytes(enum probe_id id, const struct probe_live *live)
{
	return (size_t)live->cpus_nr * probe_types[id].stride * sizeof(uint64_t);
}

/*
 * Keeper only. Loads and attaches; overwrites *ret whatever it held. 0 and ATTACHED, or -errno and
 * FAILED with reason and fix. Needs CAP_BPF and CAP_PERFMON, nothing else; may take some 100 ms.
 */
int probe_attach(enum probe_id id, struct probe_live *ret);

/* Runs that the kernel skipped because the program was running on that CPU: known loss. */
uint64_t probe_missed(const struct probe_live *live);

/* Closes this process's fds and makes it OFF. The probe ends with the last holder of its fds. */
void probe_detach(struct probe_live *live);

#endif

/*
 * The kernel events that talead can count: a fixed table of probe types with the counters that they
 * feed, and what it is to have one attached. probes.c (the table) and probe_names.c (what a key is
 * called) know nothing of libbpf and are linked into keeper and worker alike; keeper/probe.c loads
 * and attaches, keeper/probe_learn.c reads the kernel's names, and no other has libbpf. The keeper
 * attaches, hands a struct probe_live to every new worker at fork, and the worker folds its map as
 * it folds any other lane.
 */
#ifndef DAEMON_PROBES_H
#define DAEMON_PROBES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire.h"

/* Every probe: its constant, and its name in the configuration, of its object and its program. */
#define PROBE_LIST(X)                               \
	X(CONTEXT_SWITCHES, context_switches)       \
	X(TASK_MIGRATIONS, task_migrations)         \
	X(TASK_WAKEUPS, task_wakeups)               \
	X(FORKS, forks)                             \
	X(EXECS, execs)                             \
	X(EXITS, exits)                             \
	X(PAGE_FAULTS_USER, page_faults_user)       \
	X(PAGE_FAULTS_KERNEL, page_faults_kernel)   \
	X(SOFTIRQS, softirqs)                       \
	X(HARDIRQS, hardirqs)                       \
	X(SYSCALLS, syscalls)                       \
	X(SYSCALL_ERRORS, syscall_errors)           \
	X(BLOCK_ISSUED, block_issued)               \
	X(BLOCK_COMPLETED, block_completed)         \
	X(TCP_STATES, tcp_states)                   \
	X(TCP_RETRANSMITS, tcp_retransmits)         \
	X(TCP_RESETS_SENT, tcp_resets_sent)         \
	X(TCP_RESETS_RECEIVED, tcp_resets_received) \
	X(PACKET_DROPS, packet_drops)               \
	X(OOM_KILLS, oom_kills)                     \
	X(SIGNALS, signals)                         \
	X(LOCK_CONTENTION, lock_contention)         \
	X(DIRECT_RECLAIMS, direct_reclaims)         \
	X(COMPACTIONS, compactions)                 \
	X(IO_URING, io_uring)

#define PROBE_ID(ID, name) PROBE_##ID,
enum probe_id { PROBE_LIST(PROBE_ID) PROBE_NR };
#undef PROBE_ID
_Static_assert(PROBE_NR <= 32, "a set of probes is a uint32_t");

/*
 * One counter that a probe feeds, from the keys [from, from + nr) of its map. Without labels it is
 * the sum of them; otherwise each of them is a label set of its own, named when it is first seen. A
 * key may feed several counters, and a counter may have several probes if they have other labels.
 */
struct probe_counter {
	const char *name; /* kernel_context_switches_total */
	const char *help;
	uint32_t from, nr;

	/*
	 * Writes the labels of key from + at as they stand in a canonical name, sorted and without
	 * braces: `abi="i386",syscall="read"`. Returns the length, or -EINVAL (no such key),
	 * -EMSGSIZE (128 bytes are always enough). Two keys never have the same labels. NULL: none.
	 */
	int (*labels)(enum probe_id id, const struct probe_counter *c, uint32_t at, char *buf,
		      size_t size);
	const char *label; /* for `labels`: the name of the label that it writes, if that differs */
	const char *const *words; /* for `labels`: its values, by key */
};

/* Names of keys that the kernel alone knows: the enumerators of the enum that has `member`. */
struct probe_enum {
	const char *member; /* SKB_DROP_REASON_NOT_SPECIFIED; NULL: none */
	const char *prefix, *suffix; /* taken away: SKB_DROP_REASON_ */
	bool is_upper; /* keep the kernel's upper case */
	uint32_t nr; /* values from 0 up to this are keys */
	uint32_t add; /* value V names key V + add */
};

#define PROBE_COUNTERS_MAX 3
#define PROBE_ENUMS_MAX	   2
#define PROBE_LABELS_MAX   128

struct probe_type {
	const char *name;	/* in the configuration: context_switches */
	const char *attach;	/* tp_btf:sched_switch */
	const char *attach_old; /* the tracepoint where the kernel has not that one, or NULL */
	bool is_default;	/* in `probes = default`: cheap */
	bool has_irq_names;	/* keys are named by the devices of /sys/kernel/irq */
	uint32_t keys_nr;
	uint32_t events_nr; /* keys from this on count amounts, not events; 0: none does */
	uint32_t stride;    /* of one CPU's part of the map, in u64s; keys_nr or more */
	struct probe_counter counters[PROBE_COUNTERS_MAX + 1]; /* the last one has no name */
	struct probe_enum enums[PROBE_ENUMS_MAX];
};

extern const struct probe_type probe_types[PROBE_NR];

/* Those of `probes = default`. */
uint32_t probes_default(void);

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
 * Keeper only. Loads and attaches, and learns the names of its keys (probe_names.h); overwrites
 * *ret whatever it held. 0 and ATTACHED, or -errno and FAILED with reason and fix. Needs CAP_BPF
 * and CAP_PERFMON, nothing else; may take some 100 ms.
 */
int probe_attach(enum probe_id id, struct probe_live *ret);

/* Runs that the kernel skipped because the program was running on that CPU: known loss. */
uint64_t probe_missed(const struct probe_live *live);

/* Closes this process's fds and makes it OFF. The probe ends with the last holder of its fds. */
void probe_detach(struct probe_live *live);

#endif

/*
 * A probe that is attached (struct probe_live), and the pack: the probes that talead brings along,
 * with the counters that they feed. Keeper and worker share this file; it knows nothing of libbpf.
 * The keeper attaches and hands each struct probe_live to the standby and to every worker; the
 * worker folds its maps as it folds any other lane.
 *
 *   spec (probe_spec.h)      what is to be counted: one of the pack, a line of text, a user's object
 *     |  keeper/probe/attach.c opens an object, loads it, attaches its programs, pins all
 *     v
 *   struct probe_live        programs, links, tail-call slots   the keeper's, and pinned
 *     sources[1..8]          the maps that it counts in         also read by the worker
 *       counts               an array [cpu][stride]: dense keys, or total, refusals and adds
 *       keys, ledger         a hash of keys that come and go, and what freed keys held (PROTOCOL 10)
 *     |  worker/kernel maps counts, reads keys
 *     v
 *   counters of namespace `default`
 */
#ifndef SPEC_PACK_H
#define SPEC_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/spec/probe_spec.h"
#include "wire_admin.h"

/* Every probe: its constant, and its name in the configuration, of its object and its program. */
#define PROBE_LIST(X)                                       \
	X(CONTEXT_SWITCHES, context_switches)               \
	X(TASK_MIGRATIONS, task_migrations)                 \
	X(TASK_WAKEUPS, task_wakeups)                       \
	X(FORKS, forks)                                     \
	X(EXECS, execs)                                     \
	X(EXITS, exits)                                     \
	X(PAGE_FAULTS_USER, page_faults_user)               \
	X(PAGE_FAULTS_KERNEL, page_faults_kernel)           \
	X(SOFTIRQS, softirqs)                               \
	X(HARDIRQS, hardirqs)                               \
	X(SYSCALLS, syscalls)                               \
	X(SYSCALL_ERRORS, syscall_errors)                   \
	X(BLOCK_ISSUED, block_issued)                       \
	X(BLOCK_COMPLETED, block_completed)                 \
	X(TCP_STATES, tcp_states)                           \
	X(TCP_RETRANSMITS, tcp_retransmits)                 \
	X(TCP_SYNACK_RETRANSMITS, tcp_synack_retransmits)   \
	X(TCP_RESETS_SENT, tcp_resets_sent)                 \
	X(TCP_RESETS_RECEIVED, tcp_resets_received)         \
	X(PACKET_DROPS, packet_drops)                       \
	X(OOM_KILLS, oom_kills)                             \
	X(SIGNALS, signals)                                 \
	X(LOCK_CONTENTION, lock_contention)                 \
	X(DIRECT_RECLAIMS, direct_reclaims)                 \
	X(COMPACTIONS, compactions)                         \
	X(IO_URING, io_uring)                               \
	X(INTERFACE_TRAFFIC, interface_traffic)

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
#define PROBE_OBJECT_COUNTERS_MAX 4

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

	/* Where keys_nr is 0: its object declares its counters as a user's does (talea.bpf.h).
	 * These are their names; `attach` is one of its events. */
	const char *object_counters[PROBE_OBJECT_COUNTERS_MAX + 1];
};

extern const struct probe_type probe_types[PROBE_NR];

/* The probe of the pack that has this name, or NULL. */
const struct probe_type *pack_find(const char *name);

/* What `probes = NAME` asks for: event SPEC_PACK and the name. */
void pack_spec(enum probe_id id, struct probe_spec *ret);

/* Those of `probes = default`. */
uint32_t probes_default(void);

/*
 * Places for probes: the first PROBE_NR are those of the pack, which are there (and shown) whether
 * they are attached or not; the others are given to what [probe NAME] and `talea attach` ask for. A
 * place is a probe's number in messages.
 */
#define PROBES_MAX	   96u
#define PROBE_SOURCES_MAX  8u
#define PROBE_PROGRAMS_MAX 16u

/*
 * What a probe counts in. dense_nr > 0 (the pack alone): the array has a cell for each key, and the
 * counters of the probe's type say what a key is called. Otherwise it feeds the one counter `def`:
 * the array has its total, or what found no room among its hashed keys.
 */
struct probe_source {
	struct talea_counter_def def;
	uint32_t stride;    /* of one CPU's part of counts, in u64s */
	uint32_t dense_nr;  /* dense keys; 0: cells TALEA_SOURCE_* */
	uint32_t events_nr; /* the first so many dense keys count events, those behind them amounts */
	uint32_t keys_max;  /* entries of the map of hashed keys */
	uint32_t is_amount; /* TALEA_SOURCE_EVENTS counts its adds */
	int counts_fd; /* [cpu][stride], mmapable; frozen: no process can write it */
	int keys_fd;   /* PERCPU_HASH of u64; -1: no keys. The worker's reads only, or it is frozen */
	int ledger_fd; /* struct probe_ledger; -1: no keys, or nothing is ever freed. Likewise */
	int keys_ro_fd, ledger_ro_fd; /* the keeper's only: what a worker gets in their places */
};

/*
 * An ARRAY of one, beside the keys: what keys held that were freed (PROTOCOL 10). The keeper alone
 * writes it, each time whole. seq is odd from before a key is deleted until what it held is in
 * `folded`: who reads keys and ledger reads the ledger before and after, and takes neither unless
 * both are the same and even.
 */
struct probe_ledger {
	uint64_t seq;
	uint64_t folded;   /* the sum of what freed keys held */
	uint64_t freed_nr; /* and how many they were */
	uint64_t value;	   /* the key that is being freed held so much when seq turned odd */
	unsigned char key[TALEA_KEY_BYTES];
};

/* Were the programs of what was pinned replaced when it was adopted? GAP_KILLED: and the talead
 * that did it was killed meanwhile, nobody knows when. */
enum probe_replaced {
	PROBE_SAME, PROBE_REPLACED, PROBE_REPLACED_GAP, PROBE_REPLACED_GAP_KILLED
};

enum probe_origin { PROBE_OF_PACK = 1, PROBE_OF_CONFIG = 2, PROBE_OF_COMMAND = 3 };

/*
 * One probe as it is now. In state WIRE_PROBE_ATTACHED the fds that it has are open, CLOEXEC; a
 * link ends when its last fd and its pin are gone. Otherwise they are -1 and, if FAILED, the two
 * texts say why, as a clause without the probe's name ("CAP_PERFMON is missing (have: CAP_BPF)"),
 * and what to type. Callers print "probe NAME not loaded: REASON. fix: FIX".
 *
 * An event runs a trampoline, a program of ours that tail-calls what is in its slot, a PROG_ARRAY
 * of one place: storing another program there replaces it without an event missed.
 *
 *   field                     written by        lives as long as
 *   spec, origin              the keeper        the probe is desired
 *   state, reason, fix        probe_attach      until the next attempt
 *   prog, link, slot fds      probe_attach      the probe; their pins outlive talead
 *   sources                   probe_attach      the probe; mapped or duplicated by each worker
 */
struct probe_live {
	struct probe_spec spec; /* event 0: this place is free */
	uint32_t origin;	/* enum probe_origin; 0: not asked for */
	uint32_t state;		/* enum wire_probe_state */
	char reason[256];
	char fix[256];
	uint32_t cpus_nr; /* the highest possible CPU + 1 */
	uint32_t is_pinned;  /* counts on when no talead runs */
	uint32_t is_adopted; /* was counting before this talead started */
	char unpinned_why[128]; /* when it is not pinned */
	uint64_t since_real_ns; /* counts since */
	uint32_t replaced; /* enum probe_replaced: what adopting it did to its programs */
	uint64_t gap_ns;   /* PROBE_REPLACED_GAP: how long none of them ran */

	uint32_t progs_nr, links_nr, sources_nr;
	int prog_fds[PROBE_PROGRAMS_MAX]; /* what the events run: trampolines, or programs themselves */
	int link_fds[PROBE_PROGRAMS_MAX];
	int slot_fds[PROBE_PROGRAMS_MAX]; /* of each trampoline; -1: that program has none */
	struct probe_source sources[PROBE_SOURCES_MAX];
};

/* What one run costs, in one window of statistics. */
struct probe_cost {
	uint64_t runs;
	uint64_t ns; /* of all runs, on all CPUs */
};

static inline const char *probe_name(const struct probe_live *live)
{
	return live->spec.name;
}

static inline size_t source_map_bytes(const struct probe_live *live, uint32_t source)
{
	return (size_t)live->cpus_nr * live->sources[source].stride * sizeof(uint64_t);
}

/* No fd is open and nothing is asked for. At a place of the pack spec says which one it is,
 * elsewhere the place is free. */
void probe_live_init(uint32_t place, struct probe_live *live);

/* Closes this process's fds and sets them to -1. Nothing ends that is pinned or held elsewhere. */
void probe_close(struct probe_live *live);

/* All fds of a probe, -1s left out: for who keeps or sends them. At most PROBE_FDS_MAX.
 * probe_fds_put is the way back: takes them in the same order into the places of `live` that are
 * not -1. */
#define PROBE_FDS_MAX (3 * PROBE_PROGRAMS_MAX + 5 * PROBE_SOURCES_MAX)
unsigned int probe_fds_get(const struct probe_live *live, int *ret_fds);
int probe_fds_put(struct probe_live *live, const int *fds, unsigned int fds_nr);

/* Only what a worker may have: the maps, no program, link or tail-call slot. */
void probe_for_worker(struct probe_live *live);

#endif

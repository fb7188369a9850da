/*
 * The kernel events that talead can count: a fixed table of probe types with the counters that they
 * feed, and what it is to have one attached. probes.c (the table) and probe_names.c (what a key is
 * called) know nothing of libbpf and are linked into keeper and worker alike; what has libbpf lies
 * in daemon/probe. The keeper attaches, hands a struct probe_live to every new worker at fork, and
 * the worker folds its map as it folds any other lane.
 */
#ifndef DAEMON_PROBES_H
#define DAEMON_PROBES_H

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

	/* It is made as a user's own object is (object_open), all its programs are attached, and it
	 * counts in sources: it has no map, no keys_nr and no `counters`. These are the sources'
	 * names. `attach` is one of its events. NULL: none, as nearly all. */
	const char *object_counters[PROBE_OBJECT_COUNTERS_MAX + 1];
};

extern const struct probe_type probe_types[PROBE_NR];

/* Does it count in live->sources, and not in a map of the table's kind? */
static inline bool probe_has_sources(uint32_t id)
{
	return id >= PROBE_NR || probe_types[id].object_counters[0];
}

/* Those of `probes = default`. */
uint32_t probes_default(void);

/*
 * Behind the probes of the table stand those that were asked for by `talea attach` or [probe NAME]:
 * their place in an array of PROBES_MAX is their id too. PROBE_NR and above have no probe_type.
 */
#define PROBES_MAX	  96u
#define PROBE_SOURCES_MAX 8u
#define PROBE_PARTS_MAX	  16u

/* A counter with keys that are not known before: of a declared probe, or one of an object's. */
struct probe_source {
	struct talea_counter_def def;
	uint32_t keys_max; /* entries of the map of keys */
	uint32_t is_amount; /* TALEA_SOURCE_EVENTS counts its adds */
	int counts_fd; /* [cpu][TALEA_SOURCE_STRIDE]; frozen, mmapable */
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

/* Was its object another one than that which counted before? GAP_KILLED: and the talead that replaced
 * its programs was killed meanwhile, nobody knows when. */
enum probe_swapped { PROBE_SAME, PROBE_SWAPPED, PROBE_SWAPPED_GAP, PROBE_SWAPPED_GAP_KILLED };

enum probe_origin { PROBE_OF_TABLE = 1, PROBE_OF_CONFIG = 2, PROBE_OF_COMMAND = 3 };

/*
 * One probe as it is now. In state WIRE_PROBE_ATTACHED the fds that it has are open, CLOEXEC; a
 * link ends when its last fd and its pin are gone. Otherwise they are -1 and, if FAILED, the two
 * texts say why, as a clause without the probe's name ("CAP_PERFMON is missing (have: CAP_BPF)"),
 * and what to type. Callers print "probe NAME not loaded: REASON. fix: FIX".
 *
 * map_fd (probes of the table alone): an mmapable ARRAY of u64, [cpu][stride] with cpus_nr parts of
 * the probe type's stride. It is frozen: no process can write it, the programs alone add to it,
 * atomically. Map probe_map_bytes() of it PROT_READ and MAP_SHARED; the mapping outlives the fd.
 *
 * A program is entered through a stub that tail-calls jump[0]: storing another program there
 * replaces it without an event missed. Each program of an object has a stub and a table of its own.
 */
struct probe_live {
	uint32_t state;	 /* enum wire_probe_state */
	uint32_t origin; /* enum probe_origin; 0: this place is free */
	char reason[256];
	char fix[256];
	uint32_t cpus_nr; /* the highest possible CPU + 1 */
	uint32_t is_pinned;  /* counts on when no talead runs */
	uint32_t is_adopted; /* was counting before this talead started */
	char unpinned_why[128]; /* when it is not */
	uint64_t since_real_ns; /* counts since */
	int map_fd;
	int jump_fd;
	uint32_t progs_nr, links_nr, sources_nr;
	int prog_fds[PROBE_PARTS_MAX]; /* what the events run: stubs, or an object's programs */
	int link_fds[PROBE_PARTS_MAX];
	int jump_fds[PROBE_PARTS_MAX]; /* an object's: of each stub; -1: that program has none */
	uint32_t swapped;	       /* enum probe_swapped: what adopting it did to its programs */
	uint64_t gap_ns;	       /* PROBE_SWAPPED_GAP: how long none of them ran */
	struct probe_spec spec; /* not those of the table */
	struct probe_source sources[PROBE_SOURCES_MAX];
};

/* What one run costs, in one window of statistics. */
struct probe_cost {
	uint64_t runs;
	uint64_t ns; /* of all runs, on all CPUs */
};

static inline const char *probe_name(uint32_t id, const struct probe_live *live)
{
	return id < PROBE_NR ? probe_types[id].name : live->spec.name;
}

static inline size_t probe_map_bytes(uint32_t id, const struct probe_live *live)
{
	return (size_t)live->cpus_nr * probe_types[id].stride * sizeof(uint64_t);
}

static inline size_t source_map_bytes(const struct probe_live *live)
{
	return (size_t)live->cpus_nr * TALEA_SOURCE_STRIDE * sizeof(uint64_t);
}

/* A place that is free; no fd is one. */
void probe_live_init(struct probe_live *live);

/* Closes this process's fds and sets them to -1. Nothing ends that is pinned or held elsewhere. */
void probe_close(struct probe_live *live);

/* All fds of a probe, -1s left out: for who keeps or sends them. At most PROBE_FDS_MAX. probe_fds_put
 * is the way back: takes them in the same order into the places of `live` that are not -1. */
#define PROBE_FDS_MAX (2 + 3 * PROBE_PARTS_MAX + 5 * PROBE_SOURCES_MAX)
unsigned int probe_fds_get(const struct probe_live *live, int *ret_fds);
int probe_fds_put(struct probe_live *live, const int *fds, unsigned int fds_nr);

/* Only what a worker may have: the maps, no program, link or jump table. */
void probe_for_worker(struct probe_live *live);

#endif

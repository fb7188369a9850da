/*
 * The control protocol: what a client and the worker say over the SOCK_SEQPACKET socket. One packet
 * is one message: a wire_head and a body that its kind names. Everything is bounded by WIRE_MAX and
 * checked by the receiver (wire.c); a message that does not check is answered with WIRE_ERROR and
 * the connection ends. Native byte order: both ends are on one machine.
 *
 *   client                            worker
 *   HELLO{abi, namespace, access} ──►          checks credentials
 *                                 ◄── WELCOME + fds of D, S, T   or ERROR
 *   REGISTER{n entries}           ──►          idempotent: an existing name is found again
 *                                 ◄── REGISTERED{n results}
 *   QUERY{what, name}             ──►
 *                                 ◄── ANSWER{records}
 *   CHANGE{op, n names}           ──►          admins alone
 *                                 ◄── REGISTERED{n results}
 *   PROBE{op, text}               ──►          admins alone
 *                                 ◄── ANSWER{records of PROBES} or ERROR
 *                                 ◄── RESUME{incarnation}: a new worker. The client says HELLO again
 *                                     (no fds come when it says it has them) and repeats every
 *                                     unanswered request under its old number.
 */
#ifndef SHM_WIRE_H
#define SHM_WIRE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "layout.h"

#define WIRE_MAGIC   0x454c4154u /* "TALE" */
#define WIRE_VERSION 1u
#define WIRE_MAX     (128u * 1024)
#define WIRE_ENTRIES_MAX 1024u
#define WIRE_TEXT_MAX 512u
#define WIRE_NAME_MAX (4 * SHM_NAME_MAX) /* a display name with its NUL */

enum wire_kind {
	WIRE_HELLO = 1,
	WIRE_WELCOME = 2,
	WIRE_ERROR = 3,
	WIRE_RESUME = 4,
	WIRE_REGISTER = 5,
	WIRE_REGISTERED = 6,
	WIRE_QUERY = 7,
	WIRE_ANSWER = 8,
	WIRE_CHANGE = 9,
	WIRE_PROBE = 10,
	/* Reserved for later capabilities; answered with -EOPNOTSUPP today. */
	WIRE_RING = 16,
	WIRE_ADOPT = 17,
	WIRE_OWNED = 20,
	WIRE_KIND_RESERVED_LAST = 31,
};

enum wire_feature { /* bits that both sides must know to be used; none is needed today */
	WIRE_FEATURE_RING = 1 << 0,
	WIRE_FEATURE_ADOPT = 1 << 1,
	WIRE_FEATURE_OWNED = 1 << 4,
	WIRE_FEATURE_HISTOGRAM = 1 << 5,
	WIRE_FEATURE_EDGES = 1 << 6,
};

enum wire_access { WIRE_READ = 1, WIRE_WRITE = 2 };

struct wire_head {
	uint32_t magic;
	uint16_t version;
	uint16_t kind;
	uint32_t number; /* of the request; the reply carries the same */
	uint32_t length; /* of the whole message */
};

struct wire_hello {
	struct wire_head head;
	uint32_t abi;
	uint32_t access; /* enum wire_access */
	uint64_t fingerprint;
	uint64_t features;
	uint32_t has_fds; /* 1: region_id is mapped already, send no fds */
	uint32_t reserved;
	unsigned char region_id[16];
	char name_space[SHM_NAMESPACE_MAX]; /* NUL-terminated */
	char app[SHM_NAMESPACE_MAX];	    /* what the program calls itself, may be empty */
};

/* With three fds (D and T read-only; S writable for WIRE_WRITE) unless has_fds matched. */
struct wire_welcome {
	struct wire_head head;
	uint32_t abi;
	uint32_t access;
	uint64_t fingerprint;
	uint64_t features;
	uint64_t incarnation; /* of the worker */
	uint32_t fds_nr;      /* 0 or 3 */
	uint32_t reserved;
	unsigned char region_id[16];
};

struct wire_error {
	struct wire_head head;
	int32_t err; /* a negative errno */
	uint32_t text_bytes;
	char text[WIRE_TEXT_MAX]; /* what failed, why, what to do; text_bytes are sent, NUL included */
};

struct wire_resume {
	struct wire_head head;
	uint64_t incarnation;
};

/*
 * REGISTER: nr entries, each padded to 8 bytes. For counters, levels and families: name (canonical)
 * then help then label. For members: the key bytes; `family` names the family's slot.
 */
struct wire_entry {
	uint8_t type; /* enum shm_slot_type: a counter, a level, a family or a member of one */
	uint8_t key_kind; /* families: enum shm_key_kind */
	uint16_t name_bytes;
	uint16_t help_bytes;
	uint16_t label_bytes;
	uint32_t family;
	uint32_t family_generation;
	char bytes[];
};

struct wire_register {
	struct wire_head head;
	uint32_t nr;
	uint32_t reserved;
	char entries[];
};

/*
 * One result an entry, in order. err 0: slot is the counter's. err < 0: slot is the overflow slot
 * (or the family's `other`), where its adds count, and text_at the offset of a NUL-terminated
 * explanation in texts.
 */
struct wire_result {
	uint32_t slot;
	uint32_t generation;
	int32_t err;
	uint32_t text_at;
};

struct wire_registered {
	struct wire_head head;
	uint32_t nr;
	uint32_t text_bytes; /* of the texts behind the results */
	struct wire_result results[];
};

/*
 * CHANGE: what an operator does to counters that exist. nr display names follow, each ended by a NUL,
 * `bytes` in all. Idempotent: a repeated one finds it done. The answer is a REGISTERED with a result
 * for each name (slot and generation of what was meant); its err is 0, -ENOENT, -EINVAL (not of the
 * kind that the op is for), -EACCES, with a text. ACCEPT takes "" for the namespace itself: the changes
 * of cells that nobody owns.
 */
enum wire_change_op {
	WIRE_PIN_HOT = 1,
	WIRE_PIN_COLD = 2,
	WIRE_UNPIN = 3,
	WIRE_FORGET = 4, /* members of families alone */
	WIRE_ACCEPT = 5,
};
struct wire_change {
	struct wire_head head;
	uint32_t op; /* enum wire_change_op */
	uint32_t nr; /* at most WIRE_ENTRIES_MAX */
	uint32_t bytes;
	uint32_t reserved;
	char names[];
};

enum wire_query_what {
	WIRE_STATUS = 1,
	WIRE_PROBES = 2,
	WIRE_CLIENTS = 3, /* from: the index to begin with; those of the asking client's namespace */
	WIRE_EXPLAIN = 4, /* name */
	WIRE_LANES = 5,	  /* name */
	WIRE_CHANGES = 6, /* from: the number of the first change wanted */
};

/* name_bytes of a display name follow, without a NUL. */
struct wire_query {
	struct wire_head head;
	uint32_t what;
	uint32_t name_bytes;
	uint64_t from;
	char name[];
};

struct wire_answer {
	struct wire_head head;
	uint32_t what;
	uint32_t nr; /* records of the kind that `what` names follow */
	char records[];
};

/* WIRE_STATUS: one record. */
struct wire_status {
	uint64_t incarnation;
	uint64_t started_real_ns;	 /* the region was made */
	uint64_t worker_started_real_ns;
	uint32_t keeper_pid, spare_pid, worker_pid;
	uint32_t worker_restarts, keeper_takeovers;
	uint32_t clients_nr;
	uint32_t namespaces_nr;
	uint32_t counters_nr, members_nr;   /* of the asking client's namespace */
	uint32_t rows_used, rows_max, rows_retiring, rows_waiting;
	uint32_t promotion;	/* enum shm_promotion */
	uint32_t fallback_used; /* 1: a thread without rseq added to a member: cells are not reused */
	uint32_t suspects_nr, grace_blocked_cpus;
	uint64_t row_changes[4]; /* these as in struct totals_shm */
	uint64_t graces_nr, grace_ns, removed_nr, late_adds, strays_nr, changes_nr;
	uint64_t read_ns[3];
	uint64_t refusals;
	uint64_t memory_bytes;	 /* committed pages of this namespace's region */
	uint64_t fold_interval_ns, fold_duration_ns;
	uint32_t fold_cpu_permille; /* of one core, over the last second */
	uint32_t cpus_nr;
	char version[16];
	char vector[16]; /* the fold's instruction set */
	char socket[112];
	char state_folder[256];
	char name_space[SHM_NAMESPACE_MAX];
	char sandbox[128]; /* what the worker gave up, or what is missing and why */
};

/* WIRE_CLIENTS: at most WIRE_CLIENTS_MAX records an answer; fewer: that was the last. */
#define WIRE_CLIENTS_MAX 512u
struct wire_client {
	uint64_t id;
	uint64_t since_real_ns; /* this worker has known it since */
	uint64_t registered_nr; /* names that it asked this worker for */
	uint32_t pid, uid;
	uint32_t access; /* enum wire_access */
	uint32_t reserved;
	char app[SHM_NAMESPACE_MAX];
};

/* WIRE_EXPLAIN: one record; -ENOENT by WIRE_ERROR when there is no such counter. */
enum wire_heat { WIRE_COLD = 0, WIRE_PROMOTING = 1, WIRE_HOT = 2, WIRE_RETIRING = 3 };
enum wire_hot_rule { WIRE_RULE_AUTO = 0, WIRE_RULE_YES = 1, WIRE_RULE_NO = 2 };
struct wire_explain {
	uint32_t slot, generation;
	uint32_t heat; /* enum wire_heat */
	uint32_t why;  /* enum shm_why; 0: it has been so since it was registered */
	uint64_t since_real_ns; /* 0: since it was registered, or longer than anyone remembers */
	float rate;	   /* now, adds a second; NaN: not known */
	float rate_before; /* at the change */
	float rate_after;  /* in the second after it; NaN: not known */
	float imbalance;   /* busiest lane over the mean of lanes written; 0: no row, or no adds */
	uint32_t lanes_nr; /* lanes written in that second */
	uint32_t row;	   /* its number, or SHM_ROW_NONE */
	uint32_t pin;	   /* enum wire_hot_rule: an operator's pin */
	uint32_t rule;	   /* enum wire_hot_rule: the configuration's */
	uint32_t can_have_row; /* 0: of a kind that never gets one */
	uint32_t is_suspect;
	int64_t frozen, summed; /* what is shown and what the cells say; equal unless suspect */
	float rate_up, rate_down; /* the thresholds */
	uint32_t quiet_s;	   /* so many seconds under rate_down retire it */
	uint32_t ttl_s;		   /* 0: none */
	uint32_t idle_s;	   /* since its last change; UINT32_MAX: this worker saw none */
	uint32_t reserved;
};

/* WIRE_LANES: one record and cpus_nr u64s. Cells of earlier owners of the row are in them: only
 * differences between two answers with the same row are this counter's. */
struct wire_lanes {
	uint64_t mono_ns;
	uint64_t cold;
	uint32_t slot, generation;
	uint32_t row; /* its number, or SHM_ROW_NONE: then no lanes follow */
	uint32_t cpus_nr;
	uint64_t lanes[];
};

/* WIRE_CHANGES: struct change_shm records, oldest first; the first has the number `first`. */
#define WIRE_CHANGES_MAX 512u
struct wire_changes {
	uint64_t first;
	uint64_t changes_nr; /* so many there were in all */
	struct change_shm changes[];
};

/* WIRE_PROBES: from: the index to begin with; fewer than WIRE_PROBES_MAX records: that was the last. */
#define WIRE_PROBES_MAX 32u
enum wire_probe_state { WIRE_PROBE_OFF = 0, WIRE_PROBE_ATTACHED = 1, WIRE_PROBE_FAILED = 2 };
enum wire_probe_origin { WIRE_PROBE_TABLE = 1, WIRE_PROBE_CONFIG = 2, WIRE_PROBE_COMMAND = 3 };
struct wire_probe {
	char name[48];
	char attach[512];   /* tp_btf:sched_switch; of a declared one the text; object FILE */
	char counters[512]; /* the counters that it feeds, with blanks between */
	uint32_t state;	    /* enum wire_probe_state */
	uint32_t origin;    /* enum wire_probe_origin */
	uint32_t keys_nr;   /* counters registered so far, by label set */
	uint32_t keys_max;  /* of keys that are not known before: so many have room; 0: all have */
	uint32_t is_default; /* asked for by `probes = default` */
	uint32_t is_pinned;  /* counts on when no talead runs */
	uint32_t is_adopted; /* was counting before this talead started */
	uint32_t cost_ms;    /* length of the window that these are of; 0: none yet */
	uint64_t cost_runs, cost_ns; /* in it, on all CPUs */
	uint64_t since_real_ns;
	uint64_t events;   /* kept + overflow + folded */
	uint64_t missed;   /* recursion_misses of its programs: known loss */
	uint64_t overflow; /* what found no room for its key; in talea="other" */
	uint64_t refused;  /* adds that were so */
	uint64_t folded;   /* what keys held whose owner is gone; in talea="removed" */
	uint64_t freed_nr; /* so many keys */
	char reason[256];  /* why it is not attached */
	char fix[256];	   /* what to type */
	char unpinned_why[128]; /* attached and not pinned: why */
};

/*
 * PROBE: what an admin does to probes; the text has no NUL. ATTACH: a spec as in spec/probe_spec.h; a
 * repeated one finds it done. DETACH, REPLACE: a probe's name. COST: no text; ms of statistics, and the
 * answer comes when they are over. The answer is an ANSWER with what WIRE_PROBES and the probe's record
 * (COST: none), or an ERROR with why and what to do.
 */
enum wire_probe_op {
	WIRE_PROBE_ATTACH = 1, WIRE_PROBE_DETACH = 2, WIRE_PROBE_REPLACE = 3, WIRE_PROBE_COST = 4,
};
#define WIRE_COST_MS_MAX 10000u
struct wire_probe_change {
	struct wire_head head;
	uint32_t op; /* enum wire_probe_op */
	uint32_t bytes; /* of the text, below WIRE_TEXT_MAX */
	uint32_t ms;
	uint32_t is_checked_only; /* ATTACH: parse it and say what it would do; nothing is attached */
	char text[];
};

/* 0, or -EPROTO / -EMSGSIZE / -EPROTONOSUPPORT for a message of `got` bytes in an 8-byte aligned
 * buffer. Reserved kinds pass with any body: the receiver answers them with -EOPNOTSUPP. */
int wire_check(const void *msg, size_t got);

/* Walks the entries of a REGISTER: the entry at *at (0 for the first), advancing it; NULL at the end
 * or when it does not fit (then *ret_err is -EPROTO). After wire_check all nr entries fit. */
const struct wire_entry *wire_entry_next(const struct wire_register *msg, size_t *at, int *ret_err);

/* Appends an entry to a message buffer of WIRE_MAX bytes and keeps nr and head.length; a message with
 * nr 0 is empty whatever its length says. -EMSGSIZE when the entry does not fit. */
int wire_entry_put(struct wire_register *msg, const struct wire_entry *head, const void *name,
		   const void *help, const void *label);

/* Sends one message with up to 8 fds; 0 or -errno. flags: MSG_DONTWAIT or 0. */
int wire_send(int sock, const void *msg, const int *fds, unsigned int fds_nr, int flags);

/* Receives one message of at most size bytes. Returns its size, 0 at end of file, or -errno; a
 * message that is longer is gone and -EMSGSIZE. *ret_fds_nr (may be NULL) tells how many fds were put
 * into ret_fds, all CLOEXEC; those beyond fds_max, and all on error, are closed. */
ssize_t wire_recv(int sock, void *buf, size_t size, int *ret_fds, unsigned int fds_max,
		  unsigned int *ret_fds_nr, int flags);

#endif

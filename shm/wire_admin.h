/*
 * The wire of operators: what the tools of admins and the worker send each other over a client's
 * socket, after the HELLO of wire.h. libtalea contains none of it.
 *
 *   tool                              worker
 *   QUERY{what, name}             ──►
 *                                 ◄── ANSWER{records}
 *   CHANGE{op, n names}           ──►          admins alone
 *                                 ◄── REGISTERED{n results}
 *   PROBE{op, text}               ──►          admins alone
 *                                 ◄── ANSWER{records of PROBES} or ERROR
 */
#ifndef SHM_WIRE_ADMIN_H
#define SHM_WIRE_ADMIN_H

#include "wire.h"

/*
 * CHANGE: what an operator does to counters that exist. nr display names follow, each ended by a
 * NUL, `bytes` in all. Idempotent: a repeated CHANGE succeeds. The answer is a REGISTERED with a
 * result for each name (its slot and generation); err is 0, -ENOENT, -EINVAL (not of the kind that
 * the op is for) or -EACCES, with a text. ACCEPT takes "" for the namespace itself: the changes of
 * cells that nobody owns.
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
	uint32_t keeper_pid, standby_pid, worker_pid;
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
	char sandbox[128]; /* the rights that the worker gave up, or what is missing and why */
};

/* WIRE_CLIENTS: at most WIRE_CLIENTS_MAX records an answer; fewer: that was the last. */
#define WIRE_CLIENTS_MAX 512u
struct wire_client {
	uint64_t id;
	uint64_t since_real_ns; /* when this worker got it */
	uint64_t registered_nr; /* names that it asked this worker for */
	uint32_t pid, uid;
	uint32_t access; /* enum wire_access */
	uint32_t reserved;
	char app[SHM_NAMESPACE_MAX];
};

/* WIRE_EXPLAIN: one record; -ENOENT by WIRE_ERROR when there is no such counter. */
enum wire_heat { WIRE_COLD = 0, WIRE_PROMOTING = 1, WIRE_HOT = 2, WIRE_RETIRING = 3 };
struct wire_explain {
	uint32_t slot, generation;
	uint32_t heat; /* enum wire_heat */
	uint32_t why;  /* enum shm_why; 0: it has been so since it was registered */
	uint64_t since_real_ns; /* 0: since it was registered, or since before the recorded
				 * changes */
	float rate;	   /* now, adds a second; NaN: not known */
	float rate_before; /* at the change */
	float rate_after;  /* in the second after it; NaN: not known */
	float imbalance;   /* busiest lane over the mean of lanes written; 0: no row, or no adds */
	uint32_t lanes_nr; /* lanes written in that second */
	uint32_t row;	   /* its number, or SHM_ROW_NONE */
	uint32_t pin;	   /* enum shm_hot_rule: an operator's pin */
	uint32_t rule;	   /* enum shm_hot_rule: the configuration's */
	uint32_t can_have_row; /* 0: counters of this kind never get one */
	uint32_t is_suspect;
	int64_t frozen, summed; /* what is shown and what the cells say; equal unless suspect */
	float rate_up, rate_down; /* the thresholds */
	uint32_t quiet_s;	   /* seconds under rate_down after which the row is retired */
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
	uint64_t changes_nr; /* the number of all changes so far */
	struct change_shm changes[];
};

/* WIRE_PROBES: from: the index to begin with; fewer than WIRE_PROBES_MAX records: that was the
 * last. */
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
	uint32_t keys_max;  /* hashed keys: the room for them; 0: all have room */
	uint32_t is_default; /* `probes = default` attaches it */
	uint32_t is_pinned;  /* counts on when no talead runs */
	uint32_t is_adopted; /* was counting before this talead started */
	uint32_t cost_ms;    /* length of the window that these are of; 0: none yet */
	uint64_t cost_runs, cost_ns; /* in it, on all CPUs */
	uint64_t since_real_ns;
	uint64_t events;   /* kept + overflow + folded */
	uint64_t missed;   /* recursion_misses of its programs: known loss */
	uint64_t overflow; /* events without room for their key; in talea="other" */
	uint64_t refused;  /* adds without room for their key */
	uint64_t folded;   /* events of keys whose owner is gone; in talea="removed" */
	uint64_t freed_nr; /* freed keys */
	char reason[256];  /* why it is not attached */
	char fix[256];	   /* what to type */
	char unpinned_why[128]; /* attached and not pinned: why */
};

/*
 * PROBE: a probe request of an admin; the text has no NUL. ATTACH: a spec as in spec/probe_spec.h;
 * a repeated one succeeds. DETACH, REPLACE: a probe's name. COST: no text; ms of statistics, after
 * which the answer comes. The answer is an ANSWER with what WIRE_PROBES and the probe's record
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
	uint32_t is_checked_only; /* ATTACH: parse it and answer what it would attach; attach
				   * nothing */
	char text[];
};

/* As wire_check, for a message of either wire. */
int wire_admin_check(const void *msg, size_t got);

#endif

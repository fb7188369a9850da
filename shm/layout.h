/*
 * Every byte of the shared region: what lies where in D (directory), S (shards) and T (totals),
 * and which program changes it. Included by the library, the daemon and the tests; owns no code but the
 * address arithmetic. DESIGN 3 and PROTOCOL 1 to 3 and 9 say why it is so.
 *
 * The parts are three sealed memfds. Sizes are the maxima, as sparse address space: a page is
 * committed by the worker when a cell in it is handed out.
 *
 *   D  header | slots | adj | global | index | names          worker rw, all others ro
 *   S  header | cold cells | lanes [cpu][row]                 clients rw, worker ro
 *   T  header | busiest x 2 | changes | totals x 2 | states            worker rw, all others ro
 *
 * Synchronization (who may run beside whom; "-" means never at the same time):
 *
 *                     add         sum       register, allocate, retire, remove fold
 *   add               yes         yes       yes: aborted or before the grace   yes
 *   sum (any reader)  yes         yes       retries on state                   yes
 *   sum of several    yes         yes       retries on moves                   yes
 *   register ..       yes         retries   one writer (the fold thread)       -
 *   fold              yes         yes       -                                  one writer
 *
 * Numbers that say which one. Only the fold thread changes those in D and T:
 *
 *   number                 of what                       raised when               compared by
 *   generation             a slot's owners; odd: live    one is registered, or     a section before it
 *    (slot_shm.route)                                    its removal begins        adds; a handle; a
 *                                                                                  reader of names
 *   version                a slot's states; its low      base or row change        a sum that reads
 *    (slot_shm.state)      bit names the valid base                                several words; the
 *                                                                                  replay of an intent
 *   index sequence         tables of the index           a table is built anew     a look-up that
 *    (dir_shm.index_word)                                                          finds nothing
 *   moves                  changes of two slots as one;  one begins and ends       a sum of several
 *    (dir_shm.moves)       odd: one is under way                                   slots
 *   epoch                  folds; its low bit names the  a fold has stored all     a reader of totals
 *    (totals_shm.epoch)    current copy of the totals    totals
 *   tick                   seconds; its low bit names    a list of the busiest is  a reader of rates
 *    (busy_tick)           the current list              whole
 *   changes_nr             entries of the history        an entry is whole         a reader of history
 *   worker's incarnation   workers                       the keeper starts one     a client that gets
 *    (totals_shm)                                                                  RESUME with it
 *   probe's incarnation    attachments of a probe        the keeper attaches it:   the kernel part: is
 *    (name_shm)                                          the time of that          what it counted of
 *                                                                                  this one?
 *   region_id              regions: random, not raised   a worker builds one       a client: is what it
 *    (dir_shm)                                                                     maps still the one?
 */
#ifndef SHM_LAYOUT_H
#define SHM_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#define SHM_ABI		 1u
#define SHM_MAGIC_D	 0x31442d61656c6174ull /* "talea-D1" */
#define SHM_MAGIC_T	 0x31542d61656c6174ull /* "talea-T1" */
#define SHM_SLOTS_MAX	 (1u << 24)
#define SHM_CPUS_MAX	 1024u
#define SHM_ROWS_MAX	 131584u
#define SHM_NAME_MAX	 1024u /* bytes of a canonical name, of a help text, of a family value */
#define SHM_NAMESPACE_MAX 48u
#define SHM_BUSY_NR	 1024u
#define SHM_HISTORY_NR	 60u

/*
 * The distance between the lanes of two CPUs: 257 pages of rows and one cache line. The extra line
 * keeps the cells of one row out of one cache set: an exact sum over 128 lanes takes 76 ns with it
 * and 328 ns with a stride that is a multiple of the page (tests/bench: sum_128).
 */
#define SHM_LANE_STRIDE 0x101040u

/*
 * A slot is handed out again no sooner than this after its member was removed: a reader that copied
 * the totals of an epoch has so long, from the start of its fold, to read the names that belong to
 * it.
 */
#define SHM_QUARANTINE_NS 5000000000ull

#define SHM_SLOT_NONE		0u
#define SHM_SLOT_OVERFLOW	1u /* counter: adds of refused counters of this namespace */
#define SHM_SLOT_OVERFLOW_LEVEL 2u /* level: the same for refused levels */
#define SHM_SLOT_FIRST		3u

/* --- D ------------------------------------------------------------------------------------- */

/* The offset part of a route or a state that names no row: no unsigned value below 2^31. */
#define SHM_ROW_NONE 0xffffffffu

enum shm_slot_type { /* the low byte of slot_shm.name */
	SHM_FREE = 0,
	SHM_COUNTER = 1,
	SHM_LEVEL = 2,
	SHM_FAMILY = 3,	      /* a directory entry only: no add goes to its own cell */
	SHM_LEVEL_FAMILY = 4,
	SHM_MEMBER = 5,
	SHM_LEVEL_MEMBER = 6,
	SHM_OTHER = 7,	      /* the family's member for keys over its cap */
	SHM_REMOVED = 8,      /* the family's member that holds the sum of removed ones */
	SHM_HISTOGRAM = 9,    /* reserved for later capabilities, refused today */
	SHM_EDGES = 10,
};

enum shm_slot_flags { /* the flags of slot_shm.state */
	SHM_F_ADJ = 1 << 0,	 /* has an entry in the adj table */
	SHM_F_GLOBAL = 1 << 1,	 /* has an entry in the global table */
	SHM_F_KERNEL = 1 << 2,	 /* a part is counted by a BPF map */
	SHM_F_MAP = 1 << 3,	 /* which of two maps (PROTOCOL 6) */
	SHM_F_REMOVING = 1 << 4,
	SHM_F_PIN = 3 << 5,	 /* an operator's pin: enum shm_hot_rule << SHM_F_PIN_SHIFT */
};
#define SHM_F_PIN_SHIFT 5

/*
 * Shall a counter have a row? The one numbering of that: an operator's pin in the flags of a state,
 * [counter GLOB] hot = in the configuration, and both in what `talea explain` asks for on the wire.
 */
enum shm_hot_rule {
	SHM_HOT_AUTO = 0, /* its rate decides */
	SHM_HOT_YES = 1,
	SHM_HOT_NO = 2,
	SHM_HOT_UNSET = 3, /* in the configuration alone: this section does not say */
};

/*
 * One counter. Only the fold thread stores here; each change commits with one 8-byte store.
 * state = version:24 | flags:8 | row:32. base[version & 1] is the valid one.
 * route = generation:32 | row:32. An odd generation is live. A row is a byte offset in a lane.
 * name = offset:40 | length:16 | type:8, the offset counted from the start of the names.
 */
struct slot_shm {
	uint64_t route;
	uint64_t state;
	int64_t base[2];
	uint64_t name;
};
_Static_assert(sizeof(struct slot_shm) == 40, "a slot is 40 bytes");
#define SHM_GENERATION_LAST 0xfffffffeu /* a slot at this one is never handed out again */

static inline uint32_t slot_generation(uint64_t route) { return (uint32_t)(route >> 32); }
static inline uint32_t slot_row(uint64_t route_or_state) { return (uint32_t)route_or_state; }
static inline uint64_t slot_route(uint32_t generation, uint32_t row)
{
	return (uint64_t)generation << 32 | row;
}
static inline uint32_t state_version(uint64_t state) { return (uint32_t)(state >> 40); }
static inline uint8_t state_flags(uint64_t state) { return (uint8_t)(state >> 32); }
static inline uint32_t state_pin(uint64_t state)
{
	return (state_flags(state) & SHM_F_PIN) >> SHM_F_PIN_SHIFT; /* enum shm_hot_rule */
}
static inline uint64_t state_make(uint32_t version, uint8_t flags, uint32_t row)
{
	return (uint64_t)(version & 0xffffffu) << 40 | (uint64_t)flags << 32 | row;
}
static inline uint64_t name_offset(uint64_t name) { return name >> 24; }
static inline uint32_t name_length(uint64_t name) { return (uint32_t)(name >> 8) & 0xffffu; }
static inline uint8_t name_type(uint64_t name) { return (uint8_t)name; }
static inline uint64_t name_make(uint64_t offset, uint32_t length, uint8_t type)
{
	return offset << 24 | (uint64_t)(length & 0xffffu) << 8 | type;
}

enum shm_origin { SHM_ORIGIN_USER = 0, SHM_ORIGIN_KERNEL = 1, SHM_ORIGIN_OWN = 2 };
/* LABELS: the kernel's alone: label `comm,pid`, a member's key its canonical `comm="a",pid="3"`. */
enum shm_key_kind { SHM_KEY_TEXT = 0, SHM_KEY_U64 = 1, SHM_KEY_LABELS = 2 };

/*
 * A name in D: 8-byte aligned, written once, before the generation that makes it reachable.
 * name_length() counts the bytes of text. For a counter, level or family the text is the canonical
 * name (`base` or `base{label="value",...}`, labels sorted); for a family it is `base` alone and
 * the label's name follows the text directly, label_len bytes. `help` = offset:40 | length:16 << 8.
 * Only `incarnation` changes later: no reader uses it.
 */
struct name_shm {
	uint64_t help;
	uint32_t uid;	    /* that registered it: quotas survive a new worker */
	uint16_t base_len;  /* the part of text before '{' */
	uint8_t origin;	    /* enum shm_origin */
	uint8_t key_kind;   /* families: enum shm_key_kind */
	uint32_t other;	    /* families: slot of the `other` member */
	uint32_t removed;   /* families: slot of the `removed` member */
	uint16_t label_len; /* families */
	uint16_t incarnation[3]; /* the kernel's: of the probe that counted last */
	char text[];
};
_Static_assert(sizeof(struct name_shm) == 32, "names are 8-byte aligned");

/* The name of a member: its family and the bytes of its key. Empty for `other` and `removed`. */
struct member_shm {
	uint32_t family;
	uint32_t uid;
	unsigned char value[];
};
_Static_assert(sizeof(struct member_shm) == 8, "a u64 key is aligned");

/*
 * The index: open addressing with linear probing over entries of tag:8 | slot:24; 0 is empty, an
 * entry with a tag but slot 0 is a tombstone. Tables of all sizes have their place in the reserve:
 * the table of order k and parity p holds 2^k entries and begins at entry p * 2^26 + 2^k. A table
 * is complete before index_word names it; a reader that misses reads index_word again. Above order
 * and parity the word has a sequence number, or a table built anew in an old place would look like
 * the one that a reader began with.
 */
#define SHM_INDEX_ORDER_MIN 10u
#define SHM_INDEX_ORDER_MAX 25u
static inline uint32_t index_order(uint64_t word) { return (uint32_t)word & 31u; }
static inline uint64_t index_first(uint64_t word)
{
	return (word >> 5 & 1u) * (1ull << 26) + (1ull << index_order(word));
}
static inline uint64_t index_make(uint32_t order, uint32_t parity) { return parity << 5 | order; }
#define SHM_INDEX_TOMBSTONE 0xff000000u

enum shm_region_state { SHM_BUILDING = 1, SHM_LIVE = 2 };

/* What the start-up self-test of rseq found (dir_shm.promotion): until it has passed, nothing that was
 * given back is handed out again. */
enum shm_promotion {
	SHM_REUSE_OFF = 1 << 0, /* rows and cells are never reused */
	SHM_ROWS_OFF = 1 << 1,	/* no rows at all: this CPU's add is more than one instruction */
};

/* Two slots changed as one (PROTOCOL 2): replayed by a new worker while valid is set. */
struct intent_shm {
	uint64_t valid;
	uint32_t slot[2];
	uint32_t version[2];
	int64_t base[2];
	uint64_t map_id, map_key, map_value; /* freeing a BPF hash key (PROTOCOL 10) */
};

struct dir_shm {
	uint64_t magic;
	uint32_t abi;
	uint32_t state;	      /* enum shm_region_state; published last */
	uint64_t fingerprint; /* shm_fingerprint() of the program that made it */
	unsigned char region_id[16];
	char boot_id[40];
	char name_space[SHM_NAMESPACE_MAX];
	uint64_t hash_seed;
	uint32_t cpus_nr;     /* lanes that are committed and summed */
	uint32_t rows_max;    /* of this namespace */
	uint32_t promotion;   /* enum shm_promotion */
	uint32_t rows_ever;   /* rows below this had an owner at some time */

	uint64_t index_word __attribute__((aligned(64)));
	uint64_t slots_nr;    /* slots below this were handed out at some time */
	uint64_t names_bytes;
	uint64_t moves;	      /* odd while two slots change as one */
	uint64_t refusals;    /* registrations refused: quota or conflict */
	uint64_t kernel_map_id[2];
	struct intent_shm intent;
};

#define SHM_D_SLOTS  (1ull << 16)
#define SHM_D_ADJ    (SHM_D_SLOTS + SHM_SLOTS_MAX * sizeof(struct slot_shm))
#define SHM_D_GLOBAL (SHM_D_ADJ + SHM_SLOTS_MAX * 8ull)
#define SHM_D_INDEX  (SHM_D_GLOBAL + SHM_SLOTS_MAX * 8ull)
#define SHM_D_NAMES  (SHM_D_INDEX + (1ull << 27) * 4)
#define SHM_NAMES_BYTES (4ull << 30)
#define SHM_D_BYTES  (SHM_D_NAMES + SHM_NAMES_BYTES)

/* --- S ------------------------------------------------------------------------------------- */

/*
 * Hostile memory: the daemon takes nothing from here but u64 values. The first thread that adds to
 * a family member without rseq sets fallback_used (PROTOCOL 3). ORDER(fallback): a client sets it
 * before it reads the generation; the daemon reads it after it made the generation even and a full
 * fence.
 */
struct shards_shm {
	uint64_t fallback_used;
};

#define SHM_S_COLD  4096ull
#define SHM_S_LANES (SHM_S_COLD + SHM_SLOTS_MAX * 8ull)
#define SHM_S_BYTES ((SHM_S_LANES + SHM_CPUS_MAX * (uint64_t)SHM_LANE_STRIDE + 4095) / 4096 * 4096)

static inline uint64_t shards_lane(uint32_t cpu)
{
	return SHM_S_LANES + (uint64_t)cpu * SHM_LANE_STRIDE;
}
static inline uint64_t shards_cold(uint32_t slot) { return SHM_S_COLD + slot * 8ull; }

/* --- T ------------------------------------------------------------------------------------- */

enum shm_total_state { /* one byte a slot, stored alone */
	SHM_T_UNUSED = 0, /* no counter owns this slot; its total is 0 */
	SHM_T_OK = 1,
	SHM_T_UNKNOWN = 2, /* nothing has counted it yet: a probe that is not attached */
	SHM_T_SUSPECT = 3, /* it fell: the total is the last good one until an operator accepts */
	SHM_T_STATE = 7,   /* mask */
	SHM_T_HOT = 8,	   /* has a row */
};

/* The busiest counters of the last minute. rates[0] is the newest full second. */
struct busy_shm {
	uint64_t tick;	   /* the second this was made in; rates of one tick belong together */
	uint32_t nr;
	uint32_t all;	   /* 1: every counter that changed in this minute is listed */
	uint32_t slot[SHM_BUSY_NR];
	uint32_t generation[SHM_BUSY_NR];
	float imbalance[SHM_BUSY_NR]; /* busiest lane over the mean of lanes written */
	uint16_t lanes[SHM_BUSY_NR];  /* lanes written in that second */
	float rates[SHM_BUSY_NR][SHM_HISTORY_NR];
};

/*
 * What happened to rows, members and suspects, newest last: a ring of the last SHM_CHANGES_NR.
 * Change n is at n % SHM_CHANGES_NR; changes_nr is published after it. A reader that copied change
 * n reads changes_nr again: more than n + SHM_CHANGES_NR / 2 means that the fold thread may have
 * overwritten it.
 */
enum shm_change {
	SHM_CHANGE_PROMOTING = 1, /* hot enough for a row, and waits for one */
	SHM_CHANGE_HOT = 2,	  /* has a row from now on */
	SHM_CHANGE_RETIRING = 3,  /* adds go to the cold cell; the row is still summed */
	SHM_CHANGE_COLD = 4,	  /* the row is free */
	SHM_CHANGE_REMOVED = 5,	  /* a member was removed; value is what moved into `removed` */
	SHM_CHANGE_SUSPECT = 6,	  /* fell from `before` to `value` and is frozen at `before` */
	SHM_CHANGE_ACCEPTED = 7,  /* shows `value` from now on, and showed `before` */
	SHM_CHANGE_STRAY = 8,	  /* a cell that no counter owns changed by `value` */
	SHM_CHANGE_PINNED_HOT = 9,
	SHM_CHANGE_PINNED_COLD = 10,
	SHM_CHANGE_UNPINNED = 11,
};
enum shm_why {
	SHM_WHY_RATE = 1,   /* over or under the threshold */
	SHM_WHY_PIN = 2,    /* an operator's pin or unpin */
	SHM_WHY_CONFIG = 3, /* [counter GLOB] hot = */
	SHM_WHY_BUDGET = 4, /* a hotter counter took the row, or rows-max went down */
	SHM_WHY_RESTART = 5, /* a new worker finished what the former began */
	SHM_WHY_FORGET = 6,  /* an operator's `talea forget` */
	SHM_WHY_TTL = 7,     /* idle for its time to live */
	SHM_WHY_LATE = 8,    /* an add without rseq, delayed beyond its member's removal */
	SHM_WHY_ENDED = 9,   /* the process or cgroup that it is named after has ended */
};
struct change_shm {
	uint64_t real_ns;
	uint32_t slot, generation;
	uint32_t uid;  /* that asked, for pin, unpin, forget and accept */
	uint32_t row;  /* its number, or SHM_ROW_NONE */
	uint8_t kind;  /* enum shm_change */
	uint8_t why;   /* enum shm_why */
	uint16_t name_len;
	float rate;    /* adds a second just before */
	int64_t before, value;
	char name[144]; /* the display name, cut; not NUL-terminated */
};
_Static_assert(sizeof(struct change_shm) == 192, "whole cache lines");
#define SHM_CHANGES_NR 2048u

/*
 * epoch & 1 says which copy of the totals is current. The fold stores the other copy, then
 * publishes epoch + 1 (PROTOCOL 9). Times are of the start of the fold that made the copy.
 */
struct totals_shm {
	uint64_t magic;
	uint64_t epoch __attribute__((aligned(64)));
	uint64_t fold_mono_ns[2];
	uint64_t fold_real_ns[2];
	uint64_t slots_nr[2];
	uint64_t busy_tick __attribute__((aligned(64))); /* busy[tick & 1] is current */
	uint64_t fold_interval_ns;
	uint64_t fold_duration_ns;
	uint64_t fold_cpu_ns;	/* CPU time of the fold thread since the worker started */
	uint64_t incarnation;	/* of the worker that writes */
	uint32_t rows_used;	/* owned, retiring ones included */
	uint32_t rows_retiring;
	uint32_t rows_waiting;	/* counters hot enough for a row that have none */
	uint32_t counters_nr, members_nr;
	uint32_t suspects_nr;	/* counters frozen because they fell */
	uint32_t grace_blocked_cpus; /* online, and the daemon cannot run there: nothing is reused */
	uint32_t reserved;
	uint64_t row_changes[4]; /* to promoting, hot, retiring, cold, since the region was made */
	uint64_t graces_nr;	 /* and how long the last one took */
	uint64_t grace_ns;
	uint64_t removed_nr;	 /* members removed */
	uint64_t late_adds;	 /* added to members after their removal; in their `removed` */
	uint64_t late_moved;	 /* of them, those without rseq that the daemon found in freed cells */
	uint64_t strays_nr;	 /* changes of cells that no counter owns; 0 again when accepted */
	uint64_t changes_nr;
	uint64_t read_ns[3];	 /* what a read by sum, compacted, cached took in the last sample */
};

#define SHM_T_BUSY   4096ull
#define SHM_T_BUSY_BYTES ((sizeof(struct busy_shm) + 4095) / 4096 * 4096)
#define SHM_T_CHANGES (SHM_T_BUSY + 2 * SHM_T_BUSY_BYTES)
#define SHM_T_TOTALS (1ull << 20)
#define SHM_T_COPY   (SHM_SLOTS_MAX * 8ull)
#define SHM_T_STATES (SHM_T_TOTALS + 2 * SHM_T_COPY)
#define SHM_T_BYTES  (SHM_T_STATES + SHM_SLOTS_MAX)
_Static_assert(SHM_T_CHANGES + SHM_CHANGES_NR * sizeof(struct change_shm) <= SHM_T_TOTALS,
	       "busiest and changes fit");

/* A value that differs when any of the above does, whatever the version numbers say. */
#define SHM_FP_(h, v) (((h) ^ (uint64_t)(v)) * 0x100000001b3ull)
static inline uint64_t shm_fingerprint(void)
{
	uint64_t h = 0xcbf29ce484222325ull;

	h = SHM_FP_(h, sizeof(struct slot_shm));
	h = SHM_FP_(h, sizeof(struct dir_shm));
	h = SHM_FP_(h, sizeof(struct name_shm));
	h = SHM_FP_(h, sizeof(struct member_shm));
	h = SHM_FP_(h, sizeof(struct busy_shm));
	h = SHM_FP_(h, sizeof(struct change_shm));
	h = SHM_FP_(h, sizeof(struct totals_shm));
	h = SHM_FP_(h, offsetof(struct dir_shm, index_word));
	h = SHM_FP_(h, offsetof(struct dir_shm, intent));
	h = SHM_FP_(h, offsetof(struct totals_shm, epoch));
	h = SHM_FP_(h, offsetof(struct totals_shm, busy_tick));
	h = SHM_FP_(h, SHM_LANE_STRIDE);
	h = SHM_FP_(h, SHM_CPUS_MAX);
	h = SHM_FP_(h, SHM_ROWS_MAX);
	h = SHM_FP_(h, SHM_D_BYTES);
	h = SHM_FP_(h, SHM_S_BYTES);
	h = SHM_FP_(h, SHM_T_BYTES);
	return h;
}

#endif

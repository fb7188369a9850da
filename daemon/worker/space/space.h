/*
 * One namespace inside the worker: its mapped region, and beside it what the fold keeps in memory
 * of its own. Owns struct space; each struct in it belongs to one file, which alone writes it.
 * Called by the fold thread alone, or by its only predecessor at the start; other threads read
 * view.h. S is mapped read-only: nothing in the daemon can store to a shard (invariant I2).
 *
 * All of it is there from space_open to space_close. What a new worker begins with:
 *
 *   struct            written by            read by                          at a new worker
 *   space_view        space.c, once         all threads                      the same
 *   space_pages       pages.c               rows, busy, kernel               derived from D
 *   space_names       index.c               remove                           derived from D
 *   space_quota       quota.c               totals (publishes)               derived from D
 *   space_off_shard   space.c               totals, suspect, remove          derived from D
 *   space_rows        rows.c                totals, heat, fold's sample      derived from D
 *   space_heat        heat.c                totals (attention)               adopted from T's history
 *   space_deferred    deferred.c            -                                derived from D
 *   space_suspects    suspect.c             totals (publishes), remove       derived from T
 *   space_rates       busy.c                control's explain                empty
 *   idle_slot         idle.c                -                                empty
 *   removal           remove.c (private)    -                                derived from D
 *   busy              busy.c (private)      -                                adopted from T
 *
 * The files from top to bottom; each calls those below it:
 *
 *   space     maps, builds and recovers a region
 *   totals    folds: what all cells of a slot add up to, into T
 *   idle      removes members that have been idle for long
 *   register  makes slots for claims      remove   takes members away, frees their slots
 *   claim     finds what is claimed       quota    how many there may be
 *   heat      who gets a row              busy     rates of the last minute
 *   suspect   what falls, and strays
 *   rows      which row is whose          deferred what waits for a grace period
 *   index     names to slots              pages    memory        changes  the history
 *   lanes     sums many cells
 *
 * The arrays with an entry a slot are reserved for all slots and cost memory only where something
 * other than zero was stored.
 */
#ifndef SPACE_SPACE_H
#define SPACE_SPACE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/worker/registry.h"
#include "daemon/worker/space/view.h"

#define SPACES_MAX LINK_REGIONS_MAX
#define SPACE_BLOCK 2048u /* slots folded at a time */
#define SPACE_CANDIDATES_MAX 4096u
#define SPACE_LATE_MAX 1024u
#define SPACE_DEFERRED_MAX (SHM_SLOTS_MAX + SHM_SLOTS_MAX / 2)

struct busy;
struct deferred;
struct heat;
struct removal;
struct row;
struct row_owned;
struct row_heat;
struct uid_count;
struct waiting;

/* What is committed of D, S and T: everything below these numbers. */
struct space_pages {
	uint32_t slots_nr;
	uint32_t rows_nr;
	uint64_t names_bytes;
	uint32_t lanes_nr; /* committed and summed */
};

/* The index in D as its writer counts it, and the private table of base names. */
struct space_names {
	struct record *records; /* by slot: the registry's; hash_low is used by index.c */
	uint32_t index_used;	/* entries that are not empty, tombstones included */
	uint32_t index_live;	/* entries of slots */
	uint64_t *bases;	/* open addressing, hash:32 | slot:32: one slot for each base name */
	uint32_t bases_order;
	uint32_t bases_nr;
};

/* How many there are of each kind. */
struct space_quota {
	uint32_t counters_nr, families_nr, members_nr;
	uint32_t counted_nr;  /* slots that count against counters-max */
	uint32_t *members_of; /* by slot, families alone: how many members */
	struct uid_count *uids;
	uint32_t uids_nr, uids_max;
};

/* The part of each total that is not in S: base, adj and the kernel part. */
struct space_off_shard {
	int64_t *by_slot;
	uint8_t *is_block_set; /* by block of SPACE_BLOCK slots: by_slot may not be zero there */
};

/* Which row belongs to which slot. */
struct space_rows {
	struct row *list;	   /* by row */
	struct row_owned *owned;   /* which slot has a row, in the order of slots */
	struct row_owned *joining; /* to be merged into owned before the next fold */
	struct row_owned *merged;  /* where that is done */
	uint32_t owned_nr, joining_nr;
	bool is_owned_stale; /* slots in owned have lost their row */
	uint64_t *sums;	     /* of the last fold, by row */
	uint32_t summed_nr;  /* rows below this are summed: the last owned one's number + 1 */
	uint32_t used_nr;    /* owned, retiring ones included */
	uint32_t retiring_nr;
	uint32_t next_free;  /* no free row below this one */
	uint32_t max;	     /* of this namespace, from the configuration */
};

/* A counter that moved fast without a row. */
struct candidate {
	uint32_t slot;
	int64_t delta;
};

/* Who gets a row. */
struct space_heat {
	struct heat *by_slot; /* sparse */
	struct row_heat *by_row;
	struct candidate candidates[SPACE_CANDIDATES_MAX];
	uint32_t candidates_nr;
	uint64_t attention;  /* a change of a total by more than this is judged */
	uint32_t scan_slot;  /* slots from here on are still to be checked for new rules */
	uint16_t rules_seq;  /* 1 to 16383: another number for other rules */
	struct waiting *waiting; /* counters that are promoting, because there is no row for them */
	uint32_t waiting_nr;
};

/* What waits for a grace period. */
struct space_deferred {
	struct deferred *open;	 /* waits for the next one */
	struct deferred *closed; /* waits for the one under way, or it has passed */
	uint32_t open_nr, closed_nr;
	uint32_t done_nr;	 /* of the closed ones */
};

/* What should not happen. */
struct space_suspects {
	uint32_t nr;		       /* counters that are frozen */
	uint32_t *may_fall;	       /* by slot: the epoch (its low half) in which a fall is right */
	uint32_t late[SPACE_LATE_MAX]; /* freed slots whose cells changed in this fold */
	uint32_t late_nr;
};

/* What the fold saw last of each slot. */
struct space_rates {
	int64_t *last_second; /* by slot: the total at the last tick */
	uint32_t *changed_s;  /* by slot: CLOCK_MONOTONIC of the last change seen, or 0 */
};

struct space {
	struct space_view view;
	/* The writer's mappings of D and T; s is view.s. Constant once the space is open. */
	struct dir_shm *d;
	struct totals_shm *t;
	const char *s;

	struct space_pages pages;
	struct space_names names;
	struct space_quota quota;
	struct space_off_shard off_shard;
	struct space_rows rows;
	struct space_heat heat;
	struct space_deferred deferred;
	struct space_suspects suspects;
	struct space_rates rates;
	struct removal *removal;
	struct busy *busy;
	uint32_t idle_slot; /* where the scan for idle members resumes */
};

/*
 * Maps a region and makes it live: a new one is built, a live one recovered, whatever instruction
 * its former worker died at. The registry gets its names, and grows for those of a live one. The
 * caller holds worker.lock, stands outside registry_read_begin, and is the fold thread or its only
 * predecessor. 0, -ENOMEM, -EPROTO for a region of another layout, or what mapping failed with;
 * *ret owns the fds only on success.
 */
int space_open(struct space **ret, const struct region_fds *fds, uint32_t idx,
	       struct registry *registry, const struct config *config);

/* Gives back the memory. Its names are no longer in the registry, or the registry is gone. */
void space_close(struct space *space);

/* Applies what a new configuration says about this namespace. */
void space_configure(struct space *space, const struct config *config);

static inline struct slot_shm *space_slot(const struct space *space, uint32_t slot)
{
	return (struct slot_shm *)(uintptr_t)dir_slot(space->d, slot);
}

/* The record of a slot that is no member. */
static inline const struct name_shm *space_name(const struct space *space, uint32_t slot)
{
	return dir_name(space->d, shm_count_read(&space_slot(space, slot)->name));
}

/* Who registered a name, or the family of a member: enum shm_origin. */
static inline uint8_t space_origin(const struct space *space, uint32_t slot)
{
	return view_origin(&space->view, slot);
}

static inline uint32_t space_slots_nr(const struct space *space)
{
	return (uint32_t)shm_count_read(&space->d->slots_nr);
}

static inline uint64_t *space_totals(const struct space *space, unsigned int copy)
{
	return (uint64_t *)((char *)space->t + SHM_T_TOTALS + copy * SHM_T_COPY);
}

static inline uint8_t *space_states(const struct space *space)
{
	return (uint8_t *)space->t + SHM_T_STATES;
}

/* The total that the newest epoch shows. */
static inline int64_t space_total(const struct space *space, uint32_t slot)
{
	return (int64_t)space_totals(space, shm_count_read(&space->t->epoch) & 1)[slot];
}

/* What the slot's cold cell holds now. */
static inline uint64_t space_cell(const struct space *space, uint32_t slot)
{
	return shm_count_read((const uint64_t *)(space->s + shards_cold(slot)));
}

/* The base that the slot's state makes valid. */
static inline int64_t space_base(const struct space *space, uint32_t slot)
{
	const struct slot_shm *s = space_slot(space, slot);

	return s->base[state_version(shm_count_read(&s->state)) & 1];
}

static inline uint8_t space_flags(const struct space *space, uint32_t slot)
{
	return state_flags(shm_count_read(&space_slot(space, slot)->state));
}

/* Address space for nr entries that read as zero; a page costs memory once something is stored in
 * it. NULL without memory. */
void *space_array(size_t entry_bytes, size_t nr);
void space_array_free(void *array, size_t entry_bytes, size_t nr);

/* Is this slot in use: live, or a member whose removal has not ended? */
static inline bool space_is_owned(const struct space *space, uint32_t slot)
{
	return (slot_generation(shm_count_read(&space_slot(space, slot)->route)) & 1) ||
	       (space_flags(space, slot) & SHM_F_REMOVING);
}

/* Changes what a slot counts besides its cells. */
static inline void space_off_shard_add(struct space *space, uint32_t slot, int64_t n)
{
	space->off_shard.by_slot[slot] += n;
	space->off_shard.is_block_set[slot / SPACE_BLOCK] = 1;
}

#endif

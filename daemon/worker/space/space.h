/*
 * One namespace inside the worker: its mapped region and what the fold keeps privately beside it.
 *
 *   part       file          holds                                          lives as long as
 *   (plain)    space.c       the mappings of D, S and T, the name           the worker
 *   pages      pages.c       how far slots, rows, names, lanes have pages   the worker; derived from D
 *   names      index.c       entries of D's index; one slot a base name     the worker; derived from D
 *   quota      quota.c       how many of what, by uid and by family         the worker; derived from D
 *   off_shard  space.c       base + adj + kernel part of each slot          the worker; derived from D
 *   rows       rows.c        which slot has which row, the rows' sums       the worker; derived from D
 *   heat       heat.c        who is fast, slow or pinned                    the worker
 *   deferred   deferred.c    what waits for a grace period                  until the grace has passed
 *   removal    remove.c      free slots, late adds, members' last change    the worker; derived from D
 *   rates      busy.c        totals of the last second, the busiest         the worker; listed in T
 *
 * The file that a part is named with writes it; others call its functions. register.c hands out
 * slots, totals.c folds, suspect.c freezes what cannot be, changes.c writes the history: they keep
 * nothing here.
 *
 * Only the fold thread changes a space or stores to D and T. The control thread reads the
 * constants, and D and T as any reader does. S is mapped read-only: nothing in the daemon can store
 * to a shard (I2).
 *
 * An array with an entry a slot or a row is address space for all of them; it costs memory only
 * where something other than zero was stored.
 */
#ifndef SPACE_SPACE_H
#define SPACE_SPACE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/link/link.h"
#include "daemon/worker/registry.h"
#include "shm/directory.h"

#define SPACES_MAX LINK_REGIONS_MAX
#define SPACE_BLOCK 2048u /* slots folded at a time */

struct busy;
struct candidate;
struct deferred;
struct free_slots;
struct heat;
struct record;
struct row;
struct row_owned;
struct waiting;

#define SPACE_CANDIDATES_MAX 4096u
#define SPACE_LATE_MAX 1024u
#define SPACE_DEFERRED_MAX (SHM_SLOTS_MAX + SHM_SLOTS_MAX / 2)

/* Below these, everything has pages. */
struct space_pages {
	uint32_t slots_nr;
	uint32_t rows_nr;
	uint64_t names_bytes;
	uint32_t lanes_nr; /* lanes that have pages and are summed */
};

struct space_names {
	struct record *records; /* by slot: the registry's; hash_low is used by index.c */
	uint32_t index_used;	/* entries that are not empty, tombstones included */
	uint32_t index_live;	/* entries of slots */
	uint64_t *bases; /* open addressing, hash:32 | slot:32: one slot for each base name */
	uint32_t bases_order;
	uint32_t bases_nr;
};

struct uid_count {
	uid_t uid;
	uint32_t nr;
};

struct space_quota {
	uint32_t counters_nr, families_nr, members_nr;
	uint32_t counted_nr; /* slots that count against counters-max */
	uint32_t *members_of; /* by slot, families alone: how many members */
	struct uid_count *uids;
	uint32_t uids_nr;
};

/* What each slot counts besides its cells: base + adj + kernel part. */
struct space_off_shard {
	int64_t *by_slot;
	uint8_t *is_block_set; /* by block: by_slot may not be zero there */
};

struct space_rows {
	struct row *list;	 /* by row */
	struct row_owned *owned; /* which slot has a row, in the order of slots */
	uint32_t owned_nr;
	struct row_owned *joining; /* to be merged into owned before the next fold */
	uint32_t joining_nr;
	struct row_owned *merged; /* where that is done */
	bool is_owned_stale;	  /* some in owned have lost their row */
	uint64_t *sums;	       /* of the last fold, by row */
	uint32_t summed_nr;    /* rows below this are summed: the last owned one's number + 1 */
	uint32_t used_nr;      /* owned, retiring ones included */
	uint32_t retiring_nr;
	uint32_t next_free; /* no free row below this one */
	uint32_t max;	    /* of this namespace, from the configuration */
};

/* A counter that moved fast without a row. */
struct candidate {
	uint32_t slot;
	int64_t delta;
};

struct space_heat {
	struct heat *by_slot; /* sparse */
	struct candidate candidates[SPACE_CANDIDATES_MAX];
	uint32_t candidates_nr;
	uint64_t attention; /* a change of a total by more than this makes a candidate */
	uint32_t walk_slot; /* from here on, new rules are still to be applied to slots */
	uint16_t rules_seq; /* 1 to 16383: another number for other rules */
	struct waiting *waiting; /* counters that are promoting: for want of a row */
	uint32_t waiting_nr;
};

struct space_deferred {
	struct deferred *open;	 /* collects what is deferred now */
	struct deferred *closed; /* the batch of the grace that is under way */
	uint32_t open_nr, closed_nr;
	uint32_t done_nr; /* of closed */
};

struct space_removal {
	struct free_slots *free;
	uint32_t late[SPACE_LATE_MAX]; /* freed slots whose cells changed in this fold */
	uint32_t late_nr;
	uint32_t *changed_s; /* by slot, CLOCK_MONOTONIC: the last change that this worker saw; or 0 */
};

struct space_rates {
	struct busy *busy;
	int64_t *last_second; /* by slot: totals at the last tick */
};

struct space {
	/* Constant once the space is open. */
	char name[SHM_NAMESPACE_MAX];
	uint32_t idx;
	struct region_fds fds;
	struct dir_shm *d;
	struct totals_shm *t;
	const char *s;
	struct registry *registry;

	struct space_pages pages;
	struct space_names names;
	struct space_quota quota;
	struct space_off_shard off_shard;
	struct space_rows rows;
	struct space_heat heat;
	struct space_deferred deferred;
	struct space_removal removal;
	struct space_rates rates;
	uint32_t suspects_nr; /* suspect.c */
};

/*
 * Maps a region and makes it live: a new one is built, a live one recovered, whatever instruction
 * its former worker died at. The registry gets its names, and grows for those of a live one: then
 * the caller stands outside registry_read_begin. It holds worker.lock and is the fold thread or its
 * only predecessor. 0, -ENOMEM, -EPROTO for a
 * region of another layout, or what mapping failed with; *ret owns the fds only on success.
 */
int space_open(struct space **ret, const struct region_fds *fds, uint32_t idx,
	       struct registry *registry, const struct config *config);

/* Gives back the memory. Its names are no longer in the registry, or the registry is gone. */
void space_close(struct space *space);

/* Takes over what a new configuration says about this namespace. */
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
	uint64_t name = shm_count_read(&space_slot(space, slot)->name);

	if (name_is_member(name))
		return space_name(space, dir_member(space->d, name)->family)->origin;
	return dir_name(space->d, name)->origin;
}

static inline bool type_is_member(uint8_t type)
{
	return type == SHM_MEMBER || type == SHM_LEVEL_MEMBER;
}

static inline bool type_is_family(uint8_t type)
{
	return type == SHM_FAMILY || type == SHM_LEVEL_FAMILY;
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

/* Address space for nr entries that read as zero; a page costs memory once something is stored in
 * it. NULL without memory. */
void *space_array(size_t entry_bytes, size_t nr);
void space_array_free(void *array, size_t entry_bytes, size_t nr);

/* Is this slot somebody's: live, or a member whose removal has not ended? */
static inline bool space_is_owned(const struct space *space, uint32_t slot)
{
	const struct slot_shm *s = space_slot(space, slot);

	return (slot_generation(shm_count_read(&s->route)) & 1) ||
	       (state_flags(shm_count_read(&s->state)) & SHM_F_REMOVING);
}

/* Changes what a slot counts besides its cells. */
static inline void space_off_shard_add(struct space *space, uint32_t slot, int64_t n)
{
	space->off_shard.by_slot[slot] += n;
	space->off_shard.is_block_set[slot / SPACE_BLOCK] = 1;
}

/* The number of lanes that this machine can have: the highest possible CPU + 1. */
uint32_t cpus_possible_nr(void);

/* --- pages.c: memory is committed when cells are handed out ---------------------------------- */

/* The heads of the parts and the lists of the busiest. 0 or -ENOMEM. */
int pages_heads(struct space *space);

/* Makes sure that everything of the slots, names or rows below `upto` has pages. 0 or -ENOMEM. */
int pages_slots(struct space *space, uint32_t upto);
int pages_names(struct space *space, uint64_t upto_bytes);
int pages_rows(struct space *space, uint32_t upto);
int pages_index(struct space *space, uint64_t word);

/* The table of `word` has no pages afterwards and reads as zero. */
void pages_index_punch(struct space *space, uint64_t word);

/* Looks for data beyond the last lane (PROTOCOL 1) and extends the lanes to it. */
void pages_lanes_check(struct space *space);

/* --- index.c ---------------------------------------------------------------------------------- */

/* Room for one more entry. 0 or -ENOMEM. */
int index_reserve(struct space *space);

/* Makes a live slot findable: in D for everyone, in the registry for the worker. */
void index_put(struct space *space, uint32_t slot, uint64_t hash);

/* Makes it unfindable in D; the registry is remove.c's. No harm when it is not there. */
void index_remove(struct space *space, uint32_t slot, uint64_t hash);

/* The same after a restart: index_recover() drops the entries of slots that are nobody's, then
 * index_put_missing() for each live slot. */
void index_recover(struct space *space);
void index_put_missing(struct space *space, uint32_t slot, uint64_t hash);

/* A slot whose base name (the part before '{') is this one, or SHM_SLOT_NONE. */
uint32_t bases_find(const struct space *space, const char *base, uint32_t len);
int bases_reserve(struct space *space);
void bases_put(struct space *space, uint32_t slot);

#endif

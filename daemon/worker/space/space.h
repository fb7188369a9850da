/*
 * One namespace inside the worker: its mapped region and what the fold keeps privately beside it.
 * space.c maps, builds and recovers; pages.c commits memory; index.c owns the directory's index;
 * register.c hands out slots, as many as quota.c allows; totals.c folds; busy.c keeps the rates of
 * the last minute; owners.c gives rows and takes them back, heat.c decides who gets one, leave.c
 * collects who waits for a grace; remove.c removes members; suspect.c freezes what cannot be;
 * changes.c writes the history.
 *
 * Only the fold thread changes a space or stores to D and T, but for the constants marked so, which
 * control reads too. Control reads D and T as any reader does. S is mapped read-only: nothing in
 * the daemon can store to a shard (invariant I2).
 *
 * The arrays with an entry a slot are reserved for all slots and cost memory only where something
 * other than zero was stored.
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

struct owner;
struct row;
struct heat;
struct leave;
struct waiting;
struct free_slots;

/* A counter that moved fast without a row. */
struct candidate {
	uint32_t slot;
	int64_t delta;
};
#define SPACE_CANDIDATES_MAX 4096u
#define SPACE_LATE_MAX 1024u
#define SPACE_LEAVING_MAX (SHM_SLOTS_MAX + SHM_SLOTS_MAX / 2)

struct uid_count {
	uid_t uid;
	uint32_t nr;
};

struct space {
	/* Constant once the space is open. */
	char name[SHM_NAMESPACE_MAX];
	uint32_t idx;
	struct region_fds fds;
	struct dir_shm *d;
	struct totals_shm *t;
	const char *s;

	/* By slot. */
	struct record *records;	  /* the registry's; hash_low is used by index.c */
	int64_t *apart;		  /* what does not lie in S: base + adj + kernel part */
	uint32_t *members_of;	  /* families: how many members */
	int64_t *last_second;	  /* totals at the last tick */
	uint32_t *changed_s;	  /* CLOCK_MONOTONIC: the last change that this worker saw; or 0 */
	uint8_t *is_block_apart;  /* by block: apart may not be zero */

	/* Rows: owners.c. */
	struct row *rows;      /* by row */
	struct owner *owners;  /* which slot has a row, in the order of slots */
	uint32_t owners_nr;
	struct owner *joining; /* to be merged into owners before the next fold */
	uint32_t joining_nr;
	struct owner *merged;  /* where that is done */
	bool is_owners_stale;  /* some in owners have lost their row */
	uint64_t *row_sums;    /* of the last fold, by row */
	uint32_t rows_nr;      /* rows below this are summed: the last owned one's number + 1 */
	uint32_t rows_used;    /* owned, retiring ones included */
	uint32_t rows_retiring;
	uint32_t row_next;     /* no free row below this one */
	uint32_t rows_max;     /* of this namespace, from the configuration */

	/* Heat: heat.c. */
	struct heat *heat; /* by slot, sparse */
	struct candidate candidates[SPACE_CANDIDATES_MAX];
	uint32_t candidates_nr;
	uint64_t attention; /* a change of a total by more than this is looked at */
	uint32_t walk_slot; /* from here on, slots are still to be looked at for new rules */
	uint16_t rules_seq; /* 1 to 16383: another number for other rules */
	struct waiting *waiting; /* counters that are promoting: for want of a row */
	uint32_t waiting_nr;

	/* Leaving: leave.c. */
	struct leave *leaving, *visited;
	uint32_t leaving_nr, visited_nr, ended_nr;

	/* Removal: remove.c. */
	struct free_slots *free_slots;
	uint32_t late[SPACE_LATE_MAX]; /* freed slots whose cells changed in this fold */
	uint32_t late_nr;
	uint32_t suspects_nr;
	uint32_t lanes_nr;  /* lanes committed and summed */
	uint32_t counters_nr, families_nr, members_nr;
	uint32_t quota_nr;  /* slots that count against counters-max */
	struct uid_count *uids;
	uint32_t uids_nr;

	/* Everything below is committed (pages.c). */
	uint32_t slots_committed;
	uint32_t rows_committed;
	uint64_t names_committed;

	uint32_t index_used; /* entries that are not empty, tombstones included */
	uint32_t index_live; /* entries of slots */
	uint64_t *bases;     /* open addressing, hash:32 | slot:32: one slot for each base name */
	uint32_t bases_order;
	uint32_t bases_nr;

	struct busy *busy;
	struct registry *registry;
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
static inline void space_apart_add(struct space *space, uint32_t slot, int64_t n)
{
	space->apart[slot] += n;
	space->is_block_apart[slot / SPACE_BLOCK] = 1;
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

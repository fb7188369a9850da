/*
 * One namespace inside the worker: its mapped region and what the fold keeps privately beside it.
 * space.c maps, builds and recovers; pages.c commits memory; index.c owns the directory's index;
 * register.c hands out slots; totals.c folds; busy.c keeps the rates of the last minute.
 *
 * Only the fold thread changes a space or stores to D and T, but for the constants marked so, which
 * control reads too. Control reads D and T as any reader does. S is mapped read-only: nothing in
 * the daemon can store to a shard (invariant I2).
 *
 * The arrays with an entry a slot are reserved for all slots and cost memory only where something
 * other than zero was stored.
 */
#ifndef WORKER_SPACE_H
#define WORKER_SPACE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/link.h"
#include "daemon/registry.h"
#include "shm/directory.h"

#define SPACES_MAX LINK_REGIONS_MAX
#define SPACE_BLOCK 2048u /* slots folded at a time */

struct busy;

/* nr slots in a row whose rows are also in a row: plain counters registered one after another. */
struct row_run {
	uint32_t slot, row, nr;
};

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
	uint8_t *is_block_apart;  /* by block: apart may not be zero */

	struct row_run *runs; /* which slots have a row, in the order of slots */
	uint32_t runs_nr;
	uint32_t rows_nr;   /* rows below this were handed out */
	uint32_t rows_max;  /* of this namespace, from the configuration */
	uint32_t rows_waiting;
	uint32_t lanes_nr;  /* lanes committed and summed */
	uint32_t counters_nr, families_nr, members_nr;
	uint32_t quota_nr;  /* slots that count against counters-max */
	struct uid_count *uids;
	uint32_t uids_nr;

	/* Everything below is committed (pages.c). */
	uint32_t slots_committed;
	uint32_t rows_committed;
	uint64_t names_committed;

	uint32_t index_used; /* entries that are not empty */
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

/* The same after a restart: index_recover(), then index_put_missing() for each live slot. */
void index_recover(struct space *space);
void index_put_missing(struct space *space, uint32_t slot, uint64_t hash);

/* A slot whose base name (the part before '{') is this one, or SHM_SLOT_NONE. */
uint32_t bases_find(const struct space *space, const char *base, uint32_t len);
int bases_reserve(struct space *space);
void bases_put(struct space *space, uint32_t slot);

#endif

/* See space.h. Here: mapping, building a new region, recovering a live one. */
#define _GNU_SOURCE
#include "daemon/worker/space/space.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "daemon/link/log.h"
#include "daemon/worker/space/busy.h"
#include "daemon/worker/space/deferred.h"
#include "daemon/worker/space/heat.h"
#include "daemon/worker/space/index.h"
#include "daemon/worker/space/pages.h"
#include "daemon/worker/space/quota.h"
#include "daemon/worker/space/register.h"
#include "daemon/worker/space/remove.h"
#include "daemon/worker/space/rows.h"
#include "daemon/worker/space/suspect.h"

/* Before the self-test of this start has passed. An add that is more than one instruction may lose
 * counts where sections do not abort. */
#ifdef __x86_64__
#define PROMOTION_UNTESTED SHM_REUSE_OFF
#else
#define PROMOTION_UNTESTED (SHM_REUSE_OFF | SHM_ROWS_OFF)
#endif

#define BLOCKS_MAX (SHM_SLOTS_MAX / SPACE_BLOCK)

void *space_array(size_t entry_bytes, size_t nr)
{
	void *p = mmap(NULL, entry_bytes * nr, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	/* A huge page for one number among zeros would undo that. */
	madvise(p, entry_bytes * nr, MADV_NOHUGEPAGE);
	madvise(p, entry_bytes * nr, MADV_DONTDUMP);
	return p;
}

void space_array_free(void *array, size_t entry_bytes, size_t nr)
{
	if (array)
		munmap(array, entry_bytes * nr);
}

/* The arrays with an entry for each slot, block, row or deferred end. */
static const struct {
	size_t at; /* in struct space: a pointer */
	size_t entry_bytes, nr;
} arrays[] = {
#define ARRAY(field, nr) { offsetof(struct space, field), sizeof(*((struct space *)0)->field), nr }
	ARRAY(names.records, SHM_SLOTS_MAX),
	ARRAY(quota.members_of, SHM_SLOTS_MAX),
	ARRAY(off_shard.by_slot, SHM_SLOTS_MAX),
	ARRAY(off_shard.is_block_set, BLOCKS_MAX),
	ARRAY(rows.list, SHM_ROWS_MAX),
	ARRAY(rows.owned, SHM_ROWS_MAX),
	ARRAY(rows.joining, SHM_ROWS_MAX),
	ARRAY(rows.merged, SHM_ROWS_MAX),
	ARRAY(rows.sums, SHM_ROWS_MAX),
	ARRAY(heat.by_slot, SHM_SLOTS_MAX),
	ARRAY(heat.by_row, SHM_ROWS_MAX),
	ARRAY(heat.waiting, SHM_SLOTS_MAX),
	ARRAY(deferred.open, SPACE_DEFERRED_MAX),
	ARRAY(deferred.closed, SPACE_DEFERRED_MAX),
	ARRAY(suspects.may_fall, SHM_SLOTS_MAX),
	ARRAY(rates.last_second, SHM_SLOTS_MAX),
	ARRAY(rates.changed_s, SHM_SLOTS_MAX),
#undef ARRAY
};

static void **array_of(struct space *space, size_t i)
{
	return (void **)((char *)space + arrays[i].at);
}

static int space_reserve(struct space *space)
{
	for (size_t i = 0; i < sizeof(arrays) / sizeof(arrays[0]); i++) {
		void *array = space_array(arrays[i].entry_bytes, arrays[i].nr);

		if (!array)
			return -ENOMEM;
		*array_of(space, i) = array;
	}
	if (remove_open(space))
		return -ENOMEM;
	return busy_open(&space->busy);
}

static int space_map(struct space *space)
{
	void *d, *s, *t;
	int err;

	err = region_map(space->view.fds.rw[REGION_D], REGION_D, true, &d);
	if (err)
		return err;
	space->d = d;
	err = region_map(space->view.fds.rw[REGION_T], REGION_T, true, &t);
	if (err)
		return err;
	space->t = t;
	err = region_map(space->view.fds.ro[REGION_S], REGION_S, false, &s);
	if (err)
		return err;
	space->s = s;
	space->view.d = space->d;
	space->view.t = space->t;
	space->view.s = space->s;
	return 0;
}

const struct space_view *space_view(const struct space *space)
{
	return &space->view;
}

void space_close(struct space *space)
{
	if (space->d)
		munmap(space->d, region_bytes(REGION_D));
	if (space->t)
		munmap(space->t, region_bytes(REGION_T));
	if (space->s)
		munmap((void *)(uintptr_t)space->s, region_bytes(REGION_S));
	for (size_t i = 0; i < sizeof(arrays) / sizeof(arrays[0]); i++)
		space_array_free(*array_of(space, i), arrays[i].entry_bytes, arrays[i].nr);
	remove_close(space);
	busy_close(space->busy);
	quota_close(space);
	bases_close(space);
	free(space);
}

/* --- a new region ----------------------------------------------------------------------------- */

static void boot_id_read(char *ret, size_t size)
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? 0 : read(fd, ret, size - 1);

	if (fd >= 0)
		close(fd);
	ret[got > 0 ? got : 0] = '\0';
	ret[strcspn(ret, "\n")] = '\0';
}

/* The two counters that refused ones count in: the first slots of every namespace. */
static int overflow_register(struct space *space)
{
	static const char help[] = "Adds through handles whose counter was refused.";
	struct claim c = {
		.type = SHM_COUNTER, .origin = SHM_ORIGIN_OWN, .uid = 0,
		.name = "talea_overflow_total", .name_len = strlen("talea_overflow_total"),
		.help = help, .help_len = sizeof(help) - 1,
	};
	uint32_t slot;
	int err = register_own(space, &c, &slot);

	if (err)
		return err;
	c.type = SHM_LEVEL;
	c.name = "talea_overflow";
	c.name_len = strlen("talea_overflow");
	return register_own(space, &c, &slot);
}

static int space_build(struct space *space)
{
	struct dir_shm *d = space->d;
	uint64_t word = index_make(SHM_INDEX_ORDER_MIN, 0);
	int err;

	/* No client has seen the region of a worker that died while building: begin from nothing. */
	madvise(d, region_bytes(REGION_D), MADV_REMOVE);
	madvise(space->t, region_bytes(REGION_T), MADV_REMOVE);
	err = pages_heads(space);
	if (err)
		return err;
	d->magic = SHM_MAGIC_D;
	d->abi = SHM_ABI;
	d->state = SHM_BUILDING;
	d->fingerprint = shm_fingerprint();
	if (getrandom(d->region_id, sizeof(d->region_id), 0) != sizeof(d->region_id) ||
	    getrandom(&d->hash_seed, sizeof(d->hash_seed), 0) != sizeof(d->hash_seed))
		return -EIO;
	boot_id_read(d->boot_id, sizeof(d->boot_id));
	memcpy(d->name_space, space->view.name, sizeof(d->name_space));
	d->cpus_nr = space->pages.lanes_nr;
	d->rows_max = space->rows.max;
	d->promotion = PROMOTION_UNTESTED;
	shm_count_set(&d->slots_nr, SHM_SLOT_OVERFLOW);
	shm_count_set(&d->names_bytes, 8); /* an offset of 0 means "no help" */
	err = pages_index(space, word);
	if (err)
		return err;
	shm_count_set(&d->index_word, word);
	space->t->magic = SHM_MAGIC_T;
	registry_read_begin();
	err = overflow_register(space);
	registry_read_end();
	if (err)
		return err;
	/* ORDER(state): all of the region is stored before it is called live. */
	shm_publish32(&d->state, SHM_LIVE);
	return 0;
}

/* --- a live region ---------------------------------------------------------------------------- */

/* One live slot: what was registered stays registered, wherever the former worker died. */
static void slot_recover(struct space *space, uint32_t slot)
{
	struct slot_shm *s = space_slot(space, slot);
	uint64_t name = shm_count_read(&s->name), state = shm_count_read(&s->state);
	const struct member_shm *m = dir_member(space->d, name);
	const struct name_shm *n = dir_name(space->d, name);
	uint8_t type = name_type(name);
	int64_t off_shard = space_base(space, slot);

	if (state_flags(state) & SHM_F_ADJ)
		off_shard += dir_adj(space->d)[slot];
	if (off_shard)
		space_off_shard_add(space, slot, off_shard);
	quota_account(space, slot);
	if (type_is_family(type))
		remove_family(space, n->removed);
	if (type == SHM_OTHER || type == SHM_REMOVED)
		return; /* found through their family alone */
	if (name_is_member(name)) {
		index_put_missing(space, slot,
				  dir_hash(space->d, m->family, m->value, name_length(name)));
		return;
	}
	index_put_missing(space, slot, dir_hash(space->d, 0, n->text, name_length(name)));
	if (bases_find(space, n->text, n->base_len) == SHM_SLOT_NONE && !bases_reserve(space))
		bases_put(space, slot);
}

/* A worker commits `other` and `removed` before their family: without it they are not in use. */
static bool is_orphan(const struct space *space, uint64_t name)
{
	uint8_t type = name_type(name);

	if (type != SHM_OTHER && type != SHM_REMOVED)
		return false;
	return !(slot_generation(shm_count_read(
			 &space_slot(space, dir_member(space->d, name)->family)->route)) & 1);
}

/* One slot of a live region: whole, half made, half removed, or not in use. */
static int slot_adopt(struct space *space, uint32_t slot)
{
	struct slot_shm *s = space_slot(space, slot);
	uint64_t route = shm_count_read(&s->route), state = shm_count_read(&s->state);
	uint32_t generation = slot_generation(route);

	if ((generation & 1) && is_orphan(space, shm_count_read(&s->name)))
		shm_publish(&s->route, slot_route(++generation, SHM_ROW_NONE));
	if (state_flags(state) & SHM_F_REMOVING) {
		int err = rows_recover(space, slot);

		space_off_shard_add(space, slot, space_base(space, slot));
		if (!err)
			remove_recover(space, slot);
		return err;
	}
	if (generation & 1) {
		slot_recover(space, slot);
		suspect_recover(space, slot);
		return rows_recover(space, slot);
	}
	space_off_shard_add(space, slot, space_base(space, slot));
	shm_set8(&space_states(space)[slot], SHM_T_UNUSED);
	remove_recover_free(space, slot);
	return 0;
}

/* A former worker has reported already what cells hold that were never handed out. */
static void cells_adopt(struct space *space, uint32_t slot)
{
	for (; slot < space->pages.slots_nr; slot++) {
		uint64_t cell = space_cell(space, slot);

		if (cell)
			space_off_shard_add(space, slot, -(int64_t)cell);
	}
}

static int space_recover(struct space *space)
{
	struct dir_shm *d = space->d;
	/* ORDER(taken): every slot that a former worker began to store lies below this. */
	uint32_t slots_nr = space_slots_nr(space);
	int err;

	pages_lanes_recover(space);
	shm_set32(&d->promotion, PROMOTION_UNTESTED);
	err = pages_heads(space);
	if (err)
		return err;
	err = pages_slots(space, slots_nr);
	if (err)
		return err;
	err = pages_names(space, shm_count_read(&d->names_bytes));
	if (err)
		return err;
	remove_replay(space);
	index_recover(space);
	registry_grow(space->view.registry, slots_nr);
	registry_read_begin();
	for (uint32_t slot = SHM_SLOT_OVERFLOW; slot < slots_nr && !err; slot++)
		err = slot_adopt(space, slot);
	cells_adopt(space, slots_nr);
	heat_recover(space);
	registry_read_end();
	/* The copy of the totals that is not current may be half written. The first fold compares
	 * each value with what stands there, and so rewrites it whole. */
	busy_recover(space);
	return err;
}

int space_open(struct space **ret, const struct region_fds *fds, uint32_t idx,
	       struct registry *registry, const struct config *config)
{
	struct space *space = calloc(1, sizeof(*space));
	int err;

	if (!space)
		return -ENOMEM;
	memcpy(space->view.name, fds->name, sizeof(space->view.name));
	space->view.idx = idx;
	space->view.fds = *fds;
	space->view.registry = registry;
	pages_lanes_open(space);
	heat_open(space);
	err = space_reserve(space);
	if (err)
		goto out_space;
	err = space_map(space);
	if (err)
		goto out_space;
	space_configure(space, config);
	/* ORDER(state): what a live region holds is read after it was found live. */
	if (shm_take32(&space->d->state) != SHM_LIVE) {
		err = space_build(space);
	} else if (space->d->magic != SHM_MAGIC_D || space->d->abi != SHM_ABI ||
		   space->d->fingerprint != shm_fingerprint()) {
		err = -EPROTO;
	} else {
		err = space_recover(space);
	}
	if (err)
		goto out_space;
	*ret = space;
	return 0;

out_space:
	space_close(space);
	return err;
}

void space_configure(struct space *space, const struct config *config)
{
	const struct config_namespace *ns = config_namespace_find(config, space->view.name);

	rows_configure(space, ns ? ns->rows_max : 0);
	heat_reconfigure(space);
}

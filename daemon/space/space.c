/* See space.h. Here: mapping, building a new region, recovering a live one. */
#define _GNU_SOURCE
#include "daemon/space/space.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/space/busy.h"
#include "daemon/space/register.h"

#define BLOCKS_MAX (SHM_SLOTS_MAX / SPACE_BLOCK)

uint32_t cpus_possible_nr(void)
{
	char text[4096], *last;
	int fd = open("/sys/devices/system/cpu/possible", O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	long nr;

	if (fd >= 0)
		close(fd);
	if (got <= 0) {
		nr = sysconf(_SC_NPROCESSORS_CONF);
	} else {
		/* "0-3,8-11": the last number is the highest CPU. */
		text[got] = '\0';
		last = strpbrk(text, "\n");
		if (last)
			*last = '\0';
		last = text + strlen(text);
		while (last > text && last[-1] >= '0' && last[-1] <= '9')
			last--;
		nr = atol(last) + 1;
	}
	if (nr < 1)
		return 1;
	return nr > (long)SHM_CPUS_MAX ? SHM_CPUS_MAX : (uint32_t)nr;
}

/* Address space for an entry a slot; a page costs memory once something is stored in it. */
static void *reserve(size_t entry_bytes, size_t nr)
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

static void unreserve(void *p, size_t entry_bytes, size_t nr)
{
	if (p)
		munmap(p, entry_bytes * nr);
}

static int space_reserve(struct space *space)
{
	space->records = reserve(sizeof(*space->records), SHM_SLOTS_MAX);
	space->apart = reserve(sizeof(*space->apart), SHM_SLOTS_MAX);
	space->members_of = reserve(sizeof(*space->members_of), SHM_SLOTS_MAX);
	space->last_second = reserve(sizeof(*space->last_second), SHM_SLOTS_MAX);
	space->is_block_apart = reserve(sizeof(*space->is_block_apart), BLOCKS_MAX);
	space->runs = reserve(sizeof(*space->runs), SHM_ROWS_MAX);
	if (!space->records || !space->apart || !space->members_of || !space->last_second ||
	    !space->is_block_apart || !space->runs)
		return -ENOMEM;
	return busy_open(&space->busy);
}

static int space_map(struct space *space)
{
	void *d, *s, *t;
	int err;

	err = region_map(space->fds.rw[REGION_D], REGION_D, true, &d);
	if (err)
		return err;
	space->d = d;
	err = region_map(space->fds.rw[REGION_T], REGION_T, true, &t);
	if (err)
		return err;
	space->t = t;
	err = region_map(space->fds.ro[REGION_S], REGION_S, false, &s);
	if (err)
		return err;
	space->s = s;
	return 0;
}

void space_close(struct space *space)
{
	if (space->d)
		munmap(space->d, region_bytes(REGION_D));
	if (space->t)
		munmap(space->t, region_bytes(REGION_T));
	if (space->s)
		munmap((void *)(uintptr_t)space->s, region_bytes(REGION_S));
	unreserve(space->records, sizeof(*space->records), SHM_SLOTS_MAX);
	unreserve(space->apart, sizeof(*space->apart), SHM_SLOTS_MAX);
	unreserve(space->members_of, sizeof(*space->members_of), SHM_SLOTS_MAX);
	unreserve(space->last_second, sizeof(*space->last_second), SHM_SLOTS_MAX);
	unreserve(space->is_block_apart, sizeof(*space->is_block_apart), BLOCKS_MAX);
	unreserve(space->runs, sizeof(*space->runs), SHM_ROWS_MAX);
	busy_close(space->busy);
	free(space->uids);
	free(space->bases);
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
		.type = SHM_COUNTER, .origin = SHM_ORIGIN_OWN, .uid = 0, .is_cold = true,
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

	/* A worker that died while building showed nobody this region: begin from nothing. */
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
	memcpy(d->name_space, space->name, sizeof(d->name_space));
	d->cpus_nr = space->lanes_nr;
	d->rows_max = space->rows_max;
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

/* Takes over one live slot: what was registered is registered, whoever died meanwhile. */
static void slot_recover(struct space *space, uint32_t slot)
{
	struct slot_shm *s = space_slot(space, slot);
	uint64_t name = shm_count_read(&s->name), state = shm_count_read(&s->state);
	const struct member_shm *m = dir_member(space->d, name);
	const struct name_shm *n = dir_name(space->d, name);
	uint8_t type = name_type(name);
	int64_t apart;

	apart = s->base[state_version(state) & 1];
	if (state_flags(state) & SHM_F_ADJ)
		apart += dir_adj(space->d)[slot];
	if (apart)
		space_apart_add(space, slot, apart);
	register_account(space, slot);
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

/* A slot without a live generation keeps no row: its worker died before the commit. */
static void slot_abandon(struct space *space, uint32_t slot)
{
	struct slot_shm *s = space_slot(space, slot);
	uint64_t state = shm_count_read(&s->state);

	if (state && slot_row(state) != SHM_ROW_NONE)
		shm_publish(&s->state, state_make(state_version(state), 0, SHM_ROW_NONE));
	shm_set8(&space_states(space)[slot], SHM_T_UNUSED);
}

/* `other` and `removed` are committed before their family. Without it nobody knows of them. */
static bool is_orphan(const struct space *space, uint64_t name)
{
	uint8_t type = name_type(name);

	if (type != SHM_OTHER && type != SHM_REMOVED)
		return false;
	return !(slot_generation(shm_count_read(
			 &space_slot(space, dir_member(space->d, name)->family)->route)) & 1);
}

static int space_recover(struct space *space)
{
	struct dir_shm *d = space->d;
	/* ORDER(taken): every slot that a former worker began to store lies below this. */
	uint32_t slots_nr = space_slots_nr(space);
	uint32_t lanes_nr = shm_read32(&d->cpus_nr);
	int err;

	if (lanes_nr > space->lanes_nr && lanes_nr <= SHM_CPUS_MAX)
		space->lanes_nr = lanes_nr;
	shm_set32(&d->cpus_nr, space->lanes_nr);
	err = pages_heads(space);
	if (err)
		return err;
	err = pages_slots(space, slots_nr);
	if (err)
		return err;
	err = pages_names(space, shm_count_read(&d->names_bytes));
	if (err)
		return err;
	index_recover(space);
	registry_grow(space->registry, slots_nr);
	registry_read_begin();
	for (uint32_t slot = SHM_SLOT_OVERFLOW; slot < slots_nr; slot++) {
		struct slot_shm *s = space_slot(space, slot);
		uint64_t route = shm_count_read(&s->route);
		uint32_t generation = slot_generation(route);

		if ((generation & 1) && is_orphan(space, shm_count_read(&s->name)))
			shm_publish(&s->route, slot_route(++generation, SHM_ROW_NONE));
		if (generation & 1)
			slot_recover(space, slot);
		else
			slot_abandon(space, slot);
	}
	registry_read_end();
	err = pages_rows(space, space->rows_nr);
	if (err)
		return err;
	/* What the former worker wrote into the copy that is not current is of no epoch: the first
	 * fold compares each value with what stands there and so rewrites it whole. */
	busy_recover(space);
	return 0;
}

int space_open(struct space **ret, const struct region_fds *fds, uint32_t idx,
	       struct registry *registry, const struct config *config)
{
	struct space *space = calloc(1, sizeof(*space));
	int err;

	if (!space)
		return -ENOMEM;
	memcpy(space->name, fds->name, sizeof(space->name));
	space->idx = idx;
	space->fds = *fds;
	space->registry = registry;
	space->lanes_nr = cpus_possible_nr();
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
	const struct config_namespace *ns = config_namespace_find(config, space->name);

	space->rows_max = ns ? ns->rows_max : 0;
	if (space->rows_max > SHM_ROWS_MAX)
		space->rows_max = SHM_ROWS_MAX;
	if (space->d && space->d->magic == SHM_MAGIC_D)
		shm_set32(&space->d->rows_max, space->rows_max);
}

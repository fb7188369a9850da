/*
 * Reads one counter: the compacted total from T, the exact sum from the shards, its rate and state.
 * Stores nothing and takes no lock; every loop is a retry beside a change by the fold thread.
 */
#define _GNU_SOURCE
#include "read.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define RETRIES_MAX 1000

#define REMOVED_TEXT                                                                         \
	"this member was removed: what it counted is in its family's {talea=\"removed\"}; get " \
	"its key again, or add to it, to have it anew"

int read_sum(const struct region *r, uint32_t slot, int64_t *ret)
{
	const struct dir_shm *d = r->view.d;
	const struct slot_shm *s = dir_slot(d, slot);
	uint32_t cpus = shm_read32(&d->cpus_nr);

	if (cpus > SHM_CPUS_MAX)
		return -EBADMSG;
	for (int tries = 0; tries < RETRIES_MAX; tries++) {
		/* ORDER(state): base and row are read between two reads of one version. */
		uint64_t state = shm_take(&s->state);
		uint32_t row = slot_row(state);
		uint64_t sum = shm_count_read((const uint64_t *)&s->base[state_version(state) & 1]);

		sum += shm_count_read((const uint64_t *)(r->view.s + shards_cold(slot)));
		if (state_flags(state) & SHM_F_ADJ)
			sum += shm_count_read((const uint64_t *)&dir_adj(d)[slot]);
		if (row < SHM_ROWS_MAX * 8 && !(row & 7))
			for (uint32_t cpu = 0; cpu < cpus; cpu++)
				sum += shm_count_read((const uint64_t *)(r->view.s +
									 shards_lane(cpu) + row));
		if (!shm_seq_read_retry(&s->state, state)) {
			*ret = (int64_t)sum;
			return 0;
		}
	}
	return -EAGAIN;
}

int64_t read_compacted(const struct region *r, uint32_t slot, struct fold_times *ret)
{
	const struct totals_shm *t = r->view.t;
	uint64_t value;

	do {
		/* ORDER(epoch): value and times are read between two reads of one epoch. */
		ret->epoch = shm_take(&t->epoch);
		value = shm_count_read((const uint64_t *)((const char *)t + SHM_T_TOTALS +
							  (ret->epoch & 1) * SHM_T_COPY) + slot);
		ret->mono_ns = shm_count_read(&t->fold_mono_ns[ret->epoch & 1]);
		ret->real_ns = shm_count_read(&t->fold_real_ns[ret->epoch & 1]);
	} while (shm_seq_read_retry(&t->epoch, ret->epoch));
	return (int64_t)value;
}

void read_describe(const struct region *r, uint32_t slot, struct talea_total *ret)
{
	uint64_t name = shm_count_read(&dir_slot(r->view.d, slot)->name);
	uint8_t state = shm_read8((const uint8_t *)r->view.t + SHM_T_STATES + slot);
	const struct member_shm *m = name_is_member(name) ? dir_member(r->view.d, name) : NULL;
	const struct name_shm *n;
	uint8_t type = name_type(name);

	if (m && m->family < SHM_SLOTS_MAX) {
		name = shm_count_read(&dir_slot(r->view.d, m->family)->name);
		type = name_type(name);
	}
	n = dir_name(r->view.d, name);
	ret->type = type == SHM_LEVEL || type == SHM_LEVEL_FAMILY ? TALEA_TYPE_LEVEL :
								    TALEA_TYPE_COUNTER;
	ret->origin = n && n->origin <= SHM_ORIGIN_OWN ? (enum talea_origin)n->origin : TALEA_USER;
	ret->hot = (state & SHM_T_HOT) != 0;
	state &= SHM_T_STATE;
	ret->state = state == SHM_T_SUSPECT ? TALEA_SUSPECT :
		     state == SHM_T_OK	    ? TALEA_OK : TALEA_UNKNOWN;
	ret->help = NULL;
	if (n && name_offset(n->help) + SHM_NAME_MAX < SHM_NAMES_BYTES)
		ret->help = (const char *)r->view.d + SHM_D_NAMES + name_offset(n->help);
}

/* --- rates ------------------------------------------------------------------------------------- */

static int by_slot(const void *a, const void *b)
{
	uint32_t x = ((const struct rate_entry *)a)->slot, y = ((const struct rate_entry *)b)->slot;

	return x < y ? -1 : x > y;
}

struct rates *rates_take(const struct region *r)
{
	const struct totals_shm *t = r->view.t;
	struct rates *rates = calloc(1, sizeof(*rates));
	uint64_t tick;

	if (!rates)
		return NULL;
	rates->busy = malloc(sizeof(*rates->busy));
	if (!rates->busy) {
		free(rates);
		return NULL;
	}
	do {
		/* ORDER(busy): the list is copied between two reads of one tick. */
		tick = shm_take(&t->busy_tick);
		memcpy(rates->busy, (const char *)t + SHM_T_BUSY + (tick & 1) * SHM_T_BUSY_BYTES,
		       sizeof(*rates->busy));
	} while (shm_seq_read_retry(&t->busy_tick, tick));
	rates->all = rates->busy->all;
	rates->nr = rates->busy->nr <= SHM_BUSY_NR ? rates->busy->nr : 0;
	for (uint32_t i = 0; i < rates->nr; i++)
		rates->entries[i] = (struct rate_entry){ rates->busy->slot[i], i };
	qsort(rates->entries, rates->nr, sizeof(rates->entries[0]), by_slot);
	return rates;
}

void rates_free(struct rates *rates)
{
	if (rates)
		free(rates->busy);
	free(rates);
}

/* A counter that is not listed has rate zero if the list has every counter that changed; otherwise
 * its rate is not known. An entry of another generation is of the slot's former owner. */
void rates_of(const struct rates *rates, uint32_t slot, uint32_t generation, struct talea_total *ret)
{
	struct rate_entry key = { .slot = slot };
	const struct rate_entry *e = rates ? bsearch(&key, rates->entries, rates->nr, sizeof(key),
						     by_slot) : NULL;
	float rest = rates && rates->all ? 0 : NAN;

	if (e && rates->busy->generation[e->at] != generation)
		e = NULL;
	for (uint32_t i = 0; i < SHM_HISTORY_NR; i++)
		ret->history[i] = e ? rates->busy->rates[e->at][i] : rest;
	ret->rate = (double)ret->history[0];
}

/* The same for one slot without a copy: a scan of the list between two reads of its tick. */
static void rate_one(const struct region *r, uint32_t slot, struct talea_total *ret)
{
	const struct totals_shm *t = r->view.t;
	uint32_t generation = slot_generation(shm_count_read(&dir_slot(r->view.d, slot)->route));
	uint64_t tick;

	do {
		const struct busy_shm *b;
		uint32_t nr, i = 0;

		/* ORDER(busy) */
		tick = shm_take(&t->busy_tick);
		b = (const struct busy_shm *)((const char *)t + SHM_T_BUSY +
					      (tick & 1) * SHM_T_BUSY_BYTES);
		nr = shm_read32(&b->nr);
		nr = nr <= SHM_BUSY_NR ? nr : 0;
		while (i < nr && (shm_read32(&b->slot[i]) != slot ||
				  shm_read32(&b->generation[i]) != generation))
			i++;
		for (uint32_t k = 0; k < SHM_HISTORY_NR; k++)
			ret->history[k] = i < nr ? b->rates[i][k] : shm_read32(&b->all) ? 0 : NAN;
	} while (shm_seq_read_retry(&t->busy_tick, tick));
	ret->rate = (double)ret->history[0];
}

/* --- the calls ----------------------------------------------------------------------------------- */

static int read_slot(const struct region *r, uint32_t slot, enum talea_how how, uint64_t max_age_ns,
		     struct talea_total *n)
{
	struct fold_times times;
	uint64_t now;
	int err = 0;

	n->value = read_compacted(r, slot, &times);
	now = mono_ns();
	n->epoch = times.epoch;
	n->as_of_ns = times.real_ns;
	n->age_ns = now > times.mono_ns ? now - times.mono_ns : 0;
	n->how = TALEA_COMPACTED;
	read_describe(r, slot, n);
	if (how == TALEA_SUM || (how == TALEA_CACHED && max_age_ns && n->age_ns > max_age_ns)) {
		uint64_t state = shm_take(&dir_slot(r->view.d, slot)->state);

		if (n->origin != TALEA_KERNEL && !(state_flags(state) & SHM_F_KERNEL)) {
			n->as_of_ns = real_ns();
			err = read_sum(r, slot, &n->value);
			n->age_ns = 0;
			n->how = TALEA_SUM;
		}
	} else if (how == TALEA_CACHED) {
		n->how = TALEA_CACHED;
	}
	if (n->how != TALEA_SUM && max_age_ns && n->age_ns > max_age_ns)
		err = -ESTALE;
	return err;
}

/* Gives the caller as much as its struct holds. */
static int total_give(struct talea_total *ret, struct talea_total *n, size_t size, int err)
{
	if (err && err != -ESTALE)
		return err;
	n->size = size;
	memcpy(ret, n, size < sizeof(*n) ? size : sizeof(*n));
	return err;
}

/*
 * Was the member removed, before or while its slot was read? ORDER(generation): the reads before
 * this one end with an acquire fence, so what they saw was still the member's.
 */
static bool bind_is_gone(const struct bind *b)
{
	if (!b->is_own_member || slot_generation(shm_take(b->word)) == b->generation)
		return false;
	/* ORDER(late): the next call that may wait scans for the name. */
	shm_publish(&b->region->has_gone, 1);
	return true;
}

static int read_target(struct talea *t, struct talea_target_ *target, enum talea_how how,
		       uint64_t max_age_ns, struct talea_total *ret)
{
	struct talea_total n;
	const struct bind *b;
	int err;

	if (!t || !ret || ret->size < sizeof(ret->size) + sizeof(ret->value) || ret->size > 65536)
		return -EINVAL;
	if (how == TALEA_GLOBAL)
		return fail(t, -EOPNOTSUPP, talea_strerror(NULL, -EOPNOTSUPP));
	if (how != TALEA_SUM && how != TALEA_COMPACTED && how != TALEA_CACHED)
		return -EINVAL;
	/* ORDER(bind) */
	b = shm_take_ptr((struct bind **)&target->bind);
	if (!b->region)
		return fail(t, -ENOTCONN, talea_strerror(NULL, -ENOTCONN));
	err = read_slot(b->region, b->slot, how, max_age_ns, &n);
	rate_one(b->region, b->slot, &n);
	n.help = NULL;
	if (bind_is_gone(b))
		return fail(t, -ENOENT, REMOVED_TEXT);
	return total_give(ret, &n, ret->size, err);
}

int talea_read(struct talea *t, struct talea_counter c, enum talea_how how, uint64_t max_age_ns,
	       struct talea_total *ret)
{
	return read_target(t, c.target_, how, max_age_ns, ret);
}

int talea_read_level(struct talea *t, struct talea_level l, enum talea_how how, uint64_t max_age_ns,
		     struct talea_total *ret)
{
	return read_target(t, l.target_, how, max_age_ns, ret);
}

int talea_peek_fn(struct talea_counter c, struct talea_stamp *ret)
{
	/* ORDER(bind) */
	const struct bind *b = shm_take_ptr((struct bind **)&c.target_->bind);
	struct fold_times times;
	int64_t value;

	if (shm_take_ptr(&c.target_->total))
		return talea_peek(c, ret);
	if (!b || !b->region)
		return -ENOTCONN;
	value = read_compacted(b->region, b->slot, &times);
	if (bind_is_gone(b))
		return -ENOENT;
	*ret = (struct talea_stamp){ value, times.epoch, times.mono_ns };
	return 0;
}

/* Reads the counter that has this name now; -ENOENT: there is none, or it was gone when it was
 * read. */
static int read_named(const struct region *r, const char *name, enum talea_how how,
		      uint64_t max_age_ns, struct talea_total *ret)
{
	uint32_t generation = 0, slot = name_find(r->view.d, name, &generation);
	int err;

	if (slot == SHM_SLOT_NONE)
		return -ENOENT;
	err = read_slot(r, slot, how, max_age_ns, ret);
	rate_one(r, slot, ret);
	/* ORDER(generation): as in bind_is_gone */
	if (slot_generation(shm_take(&dir_slot(r->view.d, slot)->route)) != generation)
		return -ENOENT;
	return err;
}

int talea_read_name(struct talea *t, const char *name_with_labels, enum talea_how how,
		    uint64_t max_age_ns, struct talea_total *ret)
{
	char name[NAME_DISPLAY_MAX];
	const struct region *r;
	struct talea_total n;
	int err;

	if (!t || !name_with_labels || !ret || ret->size < sizeof(ret->size) + sizeof(ret->value) ||
	    ret->size > 65536)
		return -EINVAL;
	if (how == TALEA_GLOBAL)
		return fail(t, -EOPNOTSUPP, talea_strerror(NULL, -EOPNOTSUPP));
	/* ORDER(region) */
	r = shm_take_ptr(&t->attach->region);
	if (!r)
		return fail(t, -ENOTCONN, talea_strerror(NULL, -ENOTCONN));
	if (name_normalise(name_with_labels, name, sizeof(name)) < 0)
		return fail(t, -EINVAL, "the name does not parse. fix: write name or "
			    "name{label=\"value\"}");
	err = read_named(r, name, how, max_age_ns, &n);
	if (err == -ENOENT) /* removed and made again meanwhile? */
		err = read_named(r, name, how, max_age_ns, &n);
	if (err == -ENOENT)
		return fail(t, -ENOENT, talea_strerror(NULL, -ENOENT));
	return total_give(ret, &n, ret->size, err);
}

int talea_sync(struct talea *t, int timeout_ms)
{
	uint64_t deadline = mono_ns() + (uint64_t)(timeout_ms < 0 ? 0 : timeout_ms) * NS_PER_MS;
	const struct totals_shm *totals;
	uint64_t begun;
	int err;

	if (!t)
		return -EINVAL;
	err = lock_conn(deadline);
	if (!err) {
		err = attach_poll(t->attach, deadline, t->text);
		unlock_conn();
	}
	if (err)
		return fail(t, err == -ECONNREFUSED ? -ENOTCONN : err, t->text);
	totals = t->attach->region->view.t;
	/* The fold that published this epoch, and the one under way, may have begun before the
	 * call. */
	begun = shm_take(&totals->epoch);
	/* ORDER(epoch) */
	while (shm_take(&totals->epoch) < begun + 2) {
		struct timespec nap = { .tv_nsec = 500000 };

		if (mono_ns() >= deadline)
			return fail(t, -ETIMEDOUT, "no second fold was published in time. see: "
				    "talea status");
		nanosleep(&nap, NULL);
	}
	return 0;
}

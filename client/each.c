/*
 * Visits all counters that match. It copies the values of one epoch, then the names of those that
 * match; for TALEA_SUM it then sums the shards while no member's sum moves to another slot; only
 * then it visits the first one. So the visited values belong together, however slow the visitor is
 * and whatever is registered, removed and handed out again meanwhile. Owns the memory of one
 * talea_each.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "read.h"
#include "shm/base/array.h"

#define COPY_TRIES 64
#define NAMES_TRIES 4
#define SUM_TRIES 3	/* at least, and for as long: */
#define SUM_NS (50 * NS_PER_MS)

struct snapshot {
	struct fold_times times;
	uint32_t nr;
	int64_t *values;
};

static int snapshot_take(const struct region *r, struct snapshot *ret)
{
	const struct totals_shm *t = r->view.t;
	int64_t *values = NULL;

	for (int tries = 0; tries < COPY_TRIES; tries++) {
		struct snapshot s;
		uint64_t nr;
		int64_t *more;
		int copy;

		/* ORDER(epoch): all values are copied between two reads of one epoch. */
		s.times.epoch = shm_take(&t->epoch);
		copy = s.times.epoch & 1;
		nr = shm_count_read(&t->slots_nr[copy]);
		s.nr = nr <= SHM_SLOTS_MAX ? (uint32_t)nr : SHM_SLOTS_MAX;
		more = realloc(values, (s.nr + 1ul) * sizeof(*values));
		if (!more)
			break;
		values = more;
		s.times.mono_ns = shm_count_read(&t->fold_mono_ns[copy]);
		s.times.real_ns = shm_count_read(&t->fold_real_ns[copy]);
		memcpy(values, (const char *)t + SHM_T_TOTALS + (uint64_t)copy * SHM_T_COPY,
		       s.nr * sizeof(*values));
		if (!shm_seq_read_retry(&t->epoch, s.times.epoch)) {
			s.values = values;
			*ret = s;
			return 0;
		}
	}
	free(values);
	return values ? -EAGAIN : -ENOMEM;
}

/* A counter that matches: its value in the snapshot, and what D and T said about it just after. */
struct found {
	int64_t value;
	int64_t sum;
	const char *help;
	uint64_t name_at; /* in harvest.names */
	uint32_t slot, generation; /* even: removed */
	uint32_t removed;	   /* removed members: their family's slot for the sum */
	uint8_t type, origin, state;
	bool is_hot, is_kernel, is_passed_over;
	bool unless_zero; /* shown only when its sum is not zero */
};

struct harvest {
	const struct region *r;
	enum talea_how how;
	struct snapshot snapshot;
	struct found *found;
	size_t nr, room;
	char *names;
	size_t names_bytes, names_room;
	bool is_summed;
	uint64_t summed_ns; /* CLOCK_MONOTONIC */
};

static void harvest_drop(struct harvest *h)
{
	free(h->snapshot.values);
	free(h->found);
	free(h->names);
	*h = (struct harvest){ .r = h->r, .how = h->how };
}

/* Does the generation `now` still mean the present or last owner that `then` was read of? */
static bool is_same_owner(uint32_t then, uint32_t now)
{
	return now == then || ((then & 1) && now == then + 1);
}

static bool slot_is_shown(uint8_t type)
{
	return type == SHM_COUNTER || type == SHM_LEVEL || name_is_member(type);
}

/*
 * Can the sum of a slot that is not live be other than zero? It can while its removal is under way,
 * and where a thread without rseq added late: the daemon never hands out such a slot again, so its
 * name is still there.
 */
static bool removed_counts(const struct region *r, uint32_t slot)
{
	const struct slot_shm *s = dir_slot(r->view.d, slot);
	int64_t sum;

	if (!slot_is_shown(name_type(shm_count_read(&s->name))))
		return false;
	if (state_flags(shm_take(&s->state)) & SHM_F_REMOVING)
		return true;
	return shm_count_read(&((const struct shards_shm *)r->view.s)->fallback_used) &&
	       read_sum(r, slot, &sum) == 0 && sum;
}

static int harvest_room(struct harvest *h, size_t name_bytes)
{
	int err = array_reserve(&h->found, h->nr + 1, &h->room);

	return err ? err : array_reserve(&h->names, h->names_bytes + name_bytes, &h->names_room);
}

/* The slot that a removed member's sum moves to. */
static uint32_t removed_slot(const struct dir_shm *d, uint64_t name)
{
	const struct member_shm *m = name_is_member(name) ? dir_member(d, name) : NULL;
	const struct name_shm *family = NULL;

	if (m && m->family < SHM_SLOTS_MAX)
		family = dir_name(d, shm_count_read(&dir_slot(d, m->family)->name));
	return family ? family->removed : SHM_SLOT_NONE;
}

static void describe(const struct region *r, struct found *f)
{
	uint64_t name = shm_count_read(&dir_slot(r->view.d, f->slot)->name);
	uint8_t type = name_type(name);
	struct talea_total n;

	read_describe(r, f->slot, &n);
	f->help = n.help;
	f->type = (uint8_t)n.type;
	f->origin = (uint8_t)n.origin;
	f->state = (uint8_t)n.state;
	f->is_hot = n.hot;
	if (!(f->generation & 1)) { /* T says that the slot has no owner; the value is of before */
		f->state = TALEA_OK;
		f->is_hot = false;
		f->removed = removed_slot(r->view.d, name);
	}
	f->is_kernel = n.origin == TALEA_KERNEL ||
		       (state_flags(shm_take(&dir_slot(r->view.d, f->slot)->state)) & SHM_F_KERNEL);
	f->unless_zero = f->slot < SHM_SLOT_FIRST || type == SHM_OTHER || type == SHM_REMOVED;
}

/* Adds a slot to the harvest when it is to be shown. 0, -ENOMEM, or -EAGAIN: it changed hands. */
static int harvest_slot(struct harvest *h, uint32_t slot, const char *glob)
{
	const struct slot_shm *s = dir_slot(h->r->view.d, slot);
	struct found f = {
		.slot = slot,
		.value = slot < h->snapshot.nr ? h->snapshot.values[slot] : 0,
	};
	char name[NAME_DISPLAY_MAX];
	uint64_t route;
	int len, err;

	/* ORDER(generation): as in name_display */
	route = shm_take(&s->route);
	if (!(slot_generation(route) & 1) && !f.value &&
	    !(h->how == TALEA_SUM && removed_counts(h->r, slot)))
		return 0;
	if (!slot_is_shown(name_type(shm_count_read(&s->name))))
		return 0;
	len = name_display_last(h->r->view.d, slot, name, sizeof(name), &f.generation);
	if (len < 0 || (glob && !name_match(glob, name)))
		return 0;
	err = harvest_room(h, (size_t)len + 1);
	if (err)
		return err;
	describe(h->r, &f);
	/* ORDER(generation): the words above are of the owner whose name was read. */
	if (shm_seq_read_retry(&s->route, route) &&
	    !is_same_owner(f.generation, slot_generation(shm_count_read(&s->route))))
		return -EAGAIN;
	f.name_at = h->names_bytes;
	memcpy(h->names + h->names_bytes, name, (size_t)len + 1);
	h->names_bytes += (size_t)len + 1;
	h->found[h->nr++] = f;
	return 0;
}

/*
 * Do the names that were read belong to the values of the snapshot? A value other than zero is of a
 * slot that had an owner when it was folded. The slot has another name now only if that owner was
 * removed since, which changes `moves`; and if the slot was handed out again since, which takes
 * SHM_QUARANTINE_NS and a fold over the copy that the value is from.
 */
static bool names_belong(const struct harvest *h, uint64_t moves)
{
	const struct snapshot *s = &h->snapshot;

	/* ORDER(moves): names are read between two reads of moves. */
	if (!shm_seq_read_retry(&h->r->view.d->moves, moves) && !(moves & 1))
		return true;
	/* ORDER(epoch): both copies are zero before a slot is handed out again. */
	return shm_take(&h->r->view.t->epoch) - s->times.epoch <= 1 ||
	       mono_ns() - s->times.mono_ns < SHM_QUARANTINE_NS;
}

/* The sum includes counters that no fold has seen yet. */
static uint32_t slots_nr(const struct harvest *h)
{
	uint64_t nr = h->how == TALEA_SUM ? shm_take(&h->r->view.d->slots_nr) : h->snapshot.nr;

	return nr <= SHM_SLOTS_MAX ? (uint32_t)nr : SHM_SLOTS_MAX;
}

static int harvest_names(struct harvest *h, const char *glob)
{
	for (int tries = 0; tries < NAMES_TRIES; tries++) {
		/* ORDER(moves): see names_belong */
		uint64_t moves = shm_take(&h->r->view.d->moves);
		int err;

		harvest_drop(h);
		err = snapshot_take(h->r, &h->snapshot);
		for (uint32_t slot = 1, nr = slots_nr(h); slot < nr && !err; slot++)
			err = harvest_slot(h, slot, glob);
		if (err && err != -EAGAIN)
			return err;
		if (!err && names_belong(h, moves))
			return 0;
	}
	return -EAGAIN;
}

/* --- summing ------------------------------------------------------------------------------------- */

/*
 * Sums the shards of all that was found. 0; -EAGAIN when a member's sum moved to another slot
 * meanwhile, so that the sums may not belong together; -ESTALE when a slot has another owner now.
 */
static int sum_once(struct harvest *h)
{
	const struct dir_shm *d = h->r->view.d;
	/* ORDER(moves): odd before the first of two slots changes, even after the second: the sums
	 * of all slots are read between two reads of one even value, or an amount under way between
	 * two of them would be in both or in neither. */
	uint64_t moves = shm_take(&d->moves);
	int err;

	h->summed_ns = mono_ns();
	for (size_t i = 0; i < h->nr; i++) {
		struct found *f = &h->found[i];

		if (f->is_kernel)
			continue;
		err = read_sum(h->r, f->slot, &f->sum);
		if (err)
			return err;
		/* ORDER(generation): read_sum ends with an acquire fence */
		if (!is_same_owner(f->generation, slot_generation(shm_count_read(
							  &dir_slot(d, f->slot)->route))))
			return -ESTALE;
	}
	/* One slot's sum is exact by itself. */
	if (h->nr > 1 && ((moves & 1) || shm_seq_read_retry(&d->moves, moves)))
		return -EAGAIN;
	return 0;
}

/* Sums, and again while members move. When they do not stop moving, the values stay compacted. */
static int harvest_sum(struct harvest *h)
{
	static const struct timespec nap = { .tv_nsec = 100000 };
	uint64_t end = mono_ns() + SUM_NS;
	int err = -EAGAIN;

	for (int tries = 0; err == -EAGAIN; tries++) {
		if (tries >= SUM_TRIES && mono_ns() > end)
			return 0;
		if (tries)
			nanosleep(&nap, NULL);
		err = sum_once(h);
	}
	h->is_summed = !err;
	return err;
}

/* --- visiting ------------------------------------------------------------------------------------ */

static struct found *found_at(struct harvest *h, uint32_t slot)
{
	size_t from = 0, to = h->nr;

	while (from < to) {
		size_t mid = (from + to) / 2;

		if (h->found[mid].slot == slot)
			return &h->found[mid];
		if (h->found[mid].slot < slot)
			from = mid + 1;
		else
			to = mid;
	}
	return NULL;
}

/*
 * A member that was removed and made again may have two slots for a while. The name belongs to the
 * new one; the sum of the old one is shown in `removed`, where it moves to.
 */
static void pass_over_doubles(struct harvest *h)
{
	for (size_t i = 0; i < h->nr; i++) {
		struct found *old = &h->found[i], *now, *removed;
		uint32_t generation;

		if (old->generation & 1)
			continue;
		now = found_at(h, name_find(h->r->view.d, h->names + old->name_at, &generation));
		if (!now || now == old)
			continue;
		old->is_passed_over = true;
		removed = found_at(h, old->removed);
		if (removed) {
			removed->value += old->value;
			removed->sum += old->sum;
		}
	}
}

static void total_of(const struct harvest *h, const struct found *f, struct talea_total *n)
{
	const struct fold_times *times = &h->snapshot.times;
	uint64_t now = mono_ns();
	bool is_sum = h->is_summed && !f->is_kernel;

	n->size = sizeof(*n);
	n->value = is_sum ? f->sum : f->value;
	n->epoch = times->epoch;
	n->as_of_ns = times->real_ns + (is_sum ? h->summed_ns - times->mono_ns : 0);
	n->age_ns = is_sum || now < times->mono_ns ? 0 : now - times->mono_ns;
	n->how = is_sum ? TALEA_SUM : h->how == TALEA_SUM ? TALEA_COMPACTED : h->how;
	n->type = (enum talea_type)f->type;
	n->origin = (enum talea_origin)f->origin;
	n->state = (enum talea_state)f->state;
	n->hot = f->is_hot;
	n->help = f->help;
}

static int harvest(struct harvest *h, const char *glob)
{
	int err = -ESTALE;

	for (int tries = 0; err == -ESTALE && tries < NAMES_TRIES; tries++) {
		err = harvest_names(h, glob);
		if (!err && h->how == TALEA_SUM)
			err = harvest_sum(h);
	}
	return err == -ESTALE ? -EAGAIN : err;
}

int talea_each(struct talea *t, const char *glob, enum talea_how how,
	       int (*visit)(const char *name, const struct talea_total *total, void *arg), void *arg)
{
	struct harvest h = { .how = how };
	struct rates *rates = NULL;
	int err;

	if (!t || !visit || how < TALEA_SUM || how > TALEA_GLOBAL)
		return -EINVAL;
	if (how == TALEA_GLOBAL)
		return fail(t, -EOPNOTSUPP, talea_strerror(NULL, -EOPNOTSUPP));
	/* ORDER(region) */
	h.r = shm_take_ptr(&t->attach->region);
	if (!h.r)
		return fail(t, -ENOTCONN, talea_strerror(NULL, -ENOTCONN));
	err = harvest(&h, glob);
	if (!err) {
		pass_over_doubles(&h);
		rates = rates_take(h.r);
	}
	for (size_t i = 0; i < h.nr && !err; i++) {
		const struct found *f = &h.found[i];
		struct talea_total n;

		total_of(&h, f, &n);
		if (f->is_passed_over || (!n.value && (f->unless_zero || !(f->generation & 1))))
			continue;
		rates_of(rates, f->slot, (f->generation - 1) | 1, &n);
		err = visit(h.names + f->name_at, &n, arg);
		if (err)
			goto out_drop; /* the visitor's own */
	}
	if (err)
		fail(t, err, err == -EAGAIN ? "the totals changed while they were read. fix: try "
					      "again" :
					      talea_strerror(NULL, err));

out_drop:
	rates_free(rates);
	harvest_drop(&h);
	return err;
}

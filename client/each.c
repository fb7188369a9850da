/*
 * Visiting all counters that match: the values of one epoch are copied first, so that they belong
 * together however long the visits take; names are read from D afterwards.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "read.h"

#define COPY_TRIES 64

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

/* Is this slot something to show, always or (*ret_unless_zero) when something counted there? */
static bool slot_is_shown(const struct region *r, uint32_t slot, bool *ret_unless_zero)
{
	const struct slot_shm *s = dir_slot(r->view.d, slot);
	uint8_t type;

	/* ORDER(generation) */
	if (!(slot_generation(shm_take(&s->route)) & 1))
		return false;
	type = name_type(shm_count_read(&s->name));
	*ret_unless_zero = slot < SHM_SLOT_FIRST || type == SHM_OTHER || type == SHM_REMOVED;
	return type == SHM_COUNTER || type == SHM_LEVEL || name_is_member(type);
}

/* The sum knows counters that no fold has seen yet. */
static uint32_t slots_nr(const struct region *r, const struct snapshot *s, enum talea_how how)
{
	uint64_t nr = how == TALEA_SUM ? shm_take(&r->view.d->slots_nr) : s->nr;

	return nr <= SHM_SLOTS_MAX ? (uint32_t)nr : SHM_SLOTS_MAX;
}

static int visit_slot(const struct region *r, const struct snapshot *s, uint32_t slot,
		      enum talea_how how, struct talea_total *n)
{
	uint64_t now = (uint64_t)clock_mono_ns();

	n->value = slot < s->nr ? s->values[slot] : 0;
	n->epoch = s->times.epoch;
	n->as_of_ns = s->times.real_ns;
	n->age_ns = now > s->times.mono_ns ? now - s->times.mono_ns : 0;
	n->how = how == TALEA_SUM ? TALEA_COMPACTED : how;
	read_describe(r, slot, n);
	if (how != TALEA_SUM || n->origin == TALEA_KERNEL)
		return 0;
	n->how = TALEA_SUM;
	n->age_ns = 0;
	n->as_of_ns += now - s->times.mono_ns;
	return read_sum(r, slot, &n->value);
}

int talea_each(struct talea *t, const char *glob, enum talea_how how,
	       int (*visit)(const char *name, const struct talea_total *total, void *arg), void *arg)
{
	char name[NAME_DISPLAY_MAX];
	const struct region *r;
	struct snapshot s;
	struct rates *rates;
	uint32_t nr;
	int err;

	if (!t || !visit || how < TALEA_SUM || how > TALEA_GLOBAL)
		return -EINVAL;
	if (how == TALEA_GLOBAL)
		return fail(t, -EOPNOTSUPP, talea_strerror(NULL, -EOPNOTSUPP));
	/* ORDER(region) */
	r = shm_take_ptr(&t->attach->region);
	if (!r)
		return fail(t, -ENOTCONN, talea_strerror(NULL, -ENOTCONN));
	err = snapshot_take(r, &s);
	if (err)
		return fail(t, err, "the totals changed all the while they were copied; try again");
	rates = rates_take(r);
	nr = slots_nr(r, &s, how);
	for (uint32_t slot = 1; slot < nr && !err; slot++) {
		struct talea_total n = { .size = sizeof(n) };
		bool unless_zero;

		if (!slot_is_shown(r, slot, &unless_zero) ||
		    name_display(r->view.d, slot, name, sizeof(name)) < 0 ||
		    (glob && !name_match(glob, name)))
			continue;
		err = visit_slot(r, &s, slot, how, &n);
		rates_of(rates, slot, &n);
		if (!err && (n.value || !unless_zero))
			err = visit(name, &n, arg);
	}
	rates_free(rates);
	free(s.values);
	return err;
}

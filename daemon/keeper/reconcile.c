/* See reconcile.h. */
#include "daemon/keeper/reconcile.h"

#include <string.h>

struct reconciling {
	const struct reconcile_lists *lists;
	bool is_ended[PROBES_MAX]; /* by an action before: that place has nothing attached any more */
	struct reconcile_action *actions;
	uint32_t nr;
};

static void add(struct reconciling *r, struct reconcile_action action)
{
	r->actions[r->nr++] = action;
}

/* Does the configuration ask for it? The name of a probe of the pack means that probe alone. */
static bool is_desired(const struct reconcile_lists *l, const char *name)
{
	uint32_t origin = pack_find(name) ? PROBE_OF_PACK : PROBE_OF_CONFIG;

	for (uint32_t i = 0; i < l->desired_nr; i++)
		if (l->desired[i].origin == origin && !strcmp(l->desired[i].spec->name, name))
			return true;
	return false;
}

/* The place of what has this name, PROBES_MAX: there is none. */
static uint32_t attached_find(const struct reconciling *r, const char *name)
{
	for (uint32_t place = 0; place < PROBES_MAX; place++) {
		const struct probe_live *live = &r->lists->live[place];

		if (live->origin && !r->is_ended[place] && !strcmp(probe_name(live), name))
			return place;
	}
	return PROBES_MAX;
}

static const struct reconcile_pinned *pinned_find(const struct reconcile_lists *l, const char *name)
{
	for (uint32_t i = 0; i < l->pinned_nr; i++)
		if (!strcmp(l->pinned[i].name, name))
			return &l->pinned[i];
	return NULL;
}

/*
 * The pins are the truth: a keeper unpins before it sends, and pins before it sends. What a killed
 * one did not come to send of is found here.
 */
static void find_changed_pins(struct reconciling *r)
{
	for (uint32_t place = 0; r->lists->pinned && place < PROBES_MAX; place++) {
		const struct probe_live *live = &r->lists->live[place];
		const struct reconcile_pinned *p;

		if (!live->origin || !live->is_pinned)
			continue;
		p = pinned_find(r->lists, probe_name(live));
		if (p && p->since_real_ns == live->since_real_ns)
			continue;
		r->is_ended[place] = true;
		add(r, (struct reconcile_action){ .what = p ? RECONCILE_RENEWED : RECONCILE_GONE,
						  .place = place });
	}
}

static void find_ended(struct reconciling *r)
{
	for (uint32_t place = 0; place < PROBES_MAX; place++) {
		const struct probe_live *live = &r->lists->live[place];

		if (!live->origin || r->is_ended[place] || live->origin == PROBE_OF_COMMAND ||
		    is_desired(r->lists, probe_name(live)))
			continue;
		r->is_ended[place] = true;
		add(r, (struct reconcile_action){ .what = RECONCILE_END, .place = place });
	}
}

static void attach_spec(struct reconciling *r, const struct probe_spec *spec, uint32_t origin)
{
	uint32_t place = attached_find(r, spec->name);
	const struct probe_live *live = place < PROBES_MAX ? &r->lists->live[place] : NULL;
	struct reconcile_action action = { .what = RECONCILE_ATTACH, .place = place, .spec = spec,
					   .name = spec->name, .origin = origin };

	if (origin != PROBE_OF_PACK && pack_find(spec->name)) {
		action.what = RECONCILE_NAME_TAKEN;
	} else if (live && live->state == WIRE_PROBE_ATTACHED) {
		if (origin == PROBE_OF_PACK || spec_equals(spec, &live->spec))
			return;
		action.what = reconcile_has_other_labels(spec, live) ? RECONCILE_OTHER_LABELS
								      : RECONCILE_OTHER_FORM;
	}
	add(r, action);
}

/* Does an action before this end it? RECONCILE_END removes the pins, too. */
static bool is_ending(const struct reconciling *r, const char *name)
{
	for (uint32_t i = 0; i < r->nr; i++)
		if (r->actions[i].what == RECONCILE_END &&
		    !strcmp(probe_name(&r->lists->live[r->actions[i].place]), name))
			return true;
	return false;
}

/* Those of commands are attached again; the others end, unless the configuration still asks for
 * them. */
static void attach_pinned(struct reconciling *r)
{
	for (uint32_t i = 0; i < r->lists->pinned_nr; i++) {
		const struct reconcile_pinned *p = &r->lists->pinned[i];
		char why[256];

		if (is_desired(r->lists, p->name) || is_ending(r, p->name))
			continue;
		if (p->origin != PROBE_OF_COMMAND)
			add(r, (struct reconcile_action){ .what = RECONCILE_UNPIN, .name = p->name });
		else if (p->spec.event == SPEC_OBJECT || spec_check(&p->spec, why, sizeof(why)))
			add(r, (struct reconcile_action){ .what = RECONCILE_UNUSABLE, .name = p->name,
							  .spec = &p->spec });
		else
			attach_spec(r, &p->spec, PROBE_OF_COMMAND);
	}
}

uint32_t reconcile_max(const struct reconcile_lists *l)
{
	return PROBES_MAX + l->pinned_nr + l->desired_nr;
}

uint32_t reconcile(const struct reconcile_lists *l, struct reconcile_action *ret)
{
	struct reconciling r = { .lists = l, .actions = ret };

	find_changed_pins(&r);
	find_ended(&r);
	attach_pinned(&r);
	for (uint32_t i = 0; i < l->desired_nr; i++)
		attach_spec(&r, l->desired[i].spec, l->desired[i].origin);
	return r.nr;
}

static bool has_label(const struct talea_counter_def *def, const char *label)
{
	for (uint32_t i = 0; i < def->keys_nr; i++)
		if (!strcmp(def->keys[i].label, label))
			return true;
	return false;
}

bool reconcile_has_other_labels(const struct probe_spec *spec, const struct probe_live *live)
{
	struct talea_counter_def now, was;
	uint32_t same = 0;

	if (live->state != WIRE_PROBE_ATTACHED || strcmp(spec->counter, live->spec.counter))
		return false;
	spec_counter(spec, &now);
	spec_counter(&live->spec, &was);
	for (uint32_t i = 0; i < now.keys_nr; i++)
		same += has_label(&was, now.keys[i].label);
	return now.keys_nr != was.keys_nr || same != now.keys_nr;
}

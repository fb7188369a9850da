/* See heat.h. */
#define _GNU_SOURCE
#include "daemon/worker/space/heat.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/worker/space/changes.h"
#include "daemon/worker/space/deferred.h"
#include "daemon/worker/space/rows.h"
#include "daemon/worker/space/suspect.h"
#include "shm/base/clock.h"
#include "shm/names.h"

#define SCAN_STEP 512u	 /* slots checked after a fold when rules have changed */
#define EVICT_MAX 1024u	 /* rows that change hands in one second */
#define EVICT_FACTOR 2.0 /* a counter that takes another's row is so much hotter */

void heat_open(struct space *space)
{
	/* Falls alone are judged, until the first fold has shown how long a fold takes. */
	space->heat.attention = 1ull << 63;
}

/* Keeps a change with the slot, and publishes it. */
static void heat_set(struct space *space, uint32_t slot, enum wire_heat heat, enum shm_why why,
		     double rate, uint32_t row, uint32_t uid)
{
	static const uint8_t kinds[] = {
		[WIRE_COLD] = SHM_CHANGE_COLD, [WIRE_PROMOTING] = SHM_CHANGE_PROMOTING,
		[WIRE_HOT] = SHM_CHANGE_HOT, [WIRE_RETIRING] = SHM_CHANGE_RETIRING,
	};
	const struct change_shm change = {
		.slot = slot, .uid = uid, .row = row, .kind = kinds[heat], .why = (uint8_t)why,
		.rate = (float)rate,
	};
	uint64_t *nr = &space->t->row_changes[change.kind - SHM_CHANGE_PROMOTING];
	struct heat *h = &space->heat.by_slot[slot];

	h->since_real_ns = real_ns();
	h->before = (float)rate;
	h->after = NAN;
	h->heat = (uint8_t)heat;
	h->why = (uint8_t)why;
	h->is_after_due = heat == WIRE_HOT;
	shm_count_set(nr, *nr + 1);
	changes_put(space, &change);
}

bool heat_can_have_row(const struct space *space, uint32_t slot)
{
	uint64_t name = shm_count_read(&space_slot(space, slot)->name);
	uint64_t route = shm_count_read(&space_slot(space, slot)->route);

	if (!(slot_generation(route) & 1) || (space_flags(space, slot) & SHM_F_KERNEL))
		return false;
	switch (name_type(name)) {
	case SHM_COUNTER:
	case SHM_LEVEL:
		return slot < SHM_SLOT_FIRST ||
		       dir_name(space->d, name)->origin == SHM_ORIGIN_USER;
	case SHM_MEMBER:
	case SHM_LEVEL_MEMBER:
	case SHM_OTHER:
		return true;
	}
	return false;
}

/* The configuration's rule. It is kept for slots that are checked all the time: to match a name
 * with all rules takes as long as to fold thousands of slots. */
static enum shm_hot_rule rule_of(const struct space *space, const struct config *config,
				  uint32_t slot)
{
	struct heat *h = &space->heat.by_slot[slot];
	char name[NAME_DISPLAY_MAX];
	enum shm_hot_rule rule;

	if (!config || !config->rules_nr)
		return SHM_HOT_AUTO;
	if (h->rule >> 2 == space->heat.rules_seq)
		return h->rule & 3;
	if (name_display(space->d, slot, name, sizeof(name)) < 0)
		return SHM_HOT_AUTO;
	rule = config_hot(config, name);
	if (h->since_real_ns || h->is_offered || rows_of_slot(space, slot) != SHM_ROW_NONE)
		h->rule = (uint16_t)(space->heat.rules_seq << 2 | rule);
	return rule;
}

/* A pin comes before the configuration. */
static enum shm_hot_rule rule_in_force(const struct space *space, const struct config *config,
				       uint32_t slot, enum shm_why *ret_why)
{
	enum shm_hot_rule pin = state_pin(shm_count_read(&space_slot(space, slot)->state));

	*ret_why = pin ? SHM_WHY_PIN : SHM_WHY_CONFIG;
	return pin ? pin : rule_of(space, config, slot);
}

/* --- getting and giving back ------------------------------------------------------------------ */

/* No row yet: the slot is counted, and gets one as soon as there is one. */
static void heat_wait(struct space *space, uint32_t slot, enum shm_why why, double rate)
{
	struct space_heat *heat = &space->heat;

	if (heat->by_slot[slot].heat == WIRE_PROMOTING || heat->waiting_nr == SHM_SLOTS_MAX)
		return;
	heat_set(space, slot, WIRE_PROMOTING, why, rate, SHM_ROW_NONE, 0);
	heat->waiting[heat->waiting_nr++] = (struct waiting){
		.slot = slot, .rate = { space_total(space, slot), (float)rate },
	};
}

/* What is known of the heat of a row that a slot has from now on. */
static void row_begin(struct space *space, uint32_t slot)
{
	space->heat.by_row[rows_of_slot(space, slot)] = (struct row_heat){
		.rate = { space_total(space, slot), NAN },
	};
}

static int row_give(struct space *space, uint32_t slot)
{
	int64_t stray;
	int err = rows_allocate(space, slot, &stray);

	if (err)
		return err;
	if (stray)
		suspect_stray(space, SHM_SLOT_NONE, rows_of_slot(space, slot), stray);
	row_begin(space, slot);
	return 0;
}

/* Gives the slot a row, or lets it wait for one. */
static void heat_promote(struct space *space, uint32_t slot, enum shm_why why, double rate,
			 uint32_t uid)
{
	if (rows_is_hot(space, slot))
		return;
	if (rows_is_retiring(space, slot)) {
		rows_cancel(space, slot);
		space->heat.by_row[rows_of_slot(space, slot)].quiet_s = 0;
	} else if (row_give(space, slot)) {
		heat_wait(space, slot, why, rate);
		return;
	}
	heat_set(space, slot, WIRE_HOT, why, rate, rows_of_slot(space, slot), uid);
}

/* The grace period has passed. */
static void heat_retired(struct space *space, uint32_t slot, uint32_t seq)
{
	/* The row of a member whose removal began meanwhile is freed by that. */
	if ((space_flags(space, slot) & SHM_F_REMOVING) || !rows_free_retired(space, slot, seq))
		return;
	heat_set(space, slot, WIRE_COLD, space->heat.by_slot[slot].why,
		 (double)space->heat.by_slot[slot].before, SHM_ROW_NONE, 0);
}

void heat_defer_retirement(struct space *space, uint32_t slot, uint32_t seq)
{
	deferred_put(space, slot, seq, heat_retired);
}

static void heat_retire(struct space *space, uint32_t slot, enum shm_why why, double rate,
			uint32_t uid)
{
	if (!rows_is_hot(space, slot) || !deferred_has_room(space))
		return;
	if (isnan(rate)) /* by a rule, not measured: what it was in the last second */
		rate = (double)space->heat.by_row[rows_of_slot(space, slot)].rate.per_s;
	heat_defer_retirement(space, slot, rows_retire(space, slot));
	heat_set(space, slot, WIRE_RETIRING, why, rate, rows_of_slot(space, slot), uid);
}

/* --- with every fold -------------------------------------------------------------------------- */

void heat_offer(struct space *space, uint32_t slot, int64_t delta)
{
	struct space_heat *heat = &space->heat;

	if (delta < 0)
		delta = -delta;
	if ((uint64_t)delta < heat->attention || heat->candidates_nr == SPACE_CANDIDATES_MAX ||
	    rows_is_hot(space, slot))
		return;
	heat->candidates[heat->candidates_nr++] = (struct candidate){ slot, delta };
}

static int faster_first(const void *x, const void *y)
{
	const struct candidate *a = x, *b = y;

	return a->delta > b->delta ? -1 : a->delta < b->delta;
}

/* What a pin or the configuration says about the slot is so at once. */
static void rule_apply(struct space *space, const struct config *config, uint32_t slot, uint32_t uid)
{
	enum shm_why why;

	switch (rule_in_force(space, config, slot, &why)) {
	case SHM_HOT_YES:
		heat_promote(space, slot, why, NAN, uid);
		break;
	case SHM_HOT_NO:
		heat_retire(space, slot, why, NAN, uid);
		break;
	default:
		break;
	}
}

static void heat_scan(struct space *space, const struct config *config)
{
	uint32_t slots_nr = space_slots_nr(space), end = space->heat.scan_slot + SCAN_STEP;
	uint32_t slot = space->heat.scan_slot;

	for (; slot < slots_nr && slot < end; slot++)
		if (heat_can_have_row(space, slot))
			rule_apply(space, config, slot, 0);
	space->heat.scan_slot = slot;
}

void heat_fold(struct space *space, const struct config *config, uint64_t interval_ns)
{
	double seconds = (double)(interval_ns ? interval_ns : 1) / 1e9;
	struct space_heat *heat = &space->heat;
	enum shm_why why;

	qsort(heat->candidates, heat->candidates_nr, sizeof(heat->candidates[0]), faster_first);
	for (uint32_t i = 0; i < heat->candidates_nr; i++) {
		const struct candidate *c = &heat->candidates[i];
		double rate = (double)c->delta / seconds;

		if (rate < HEAT_UP || !heat_can_have_row(space, c->slot))
			continue;
		heat->by_slot[c->slot].is_offered = true;
		if (rule_in_force(space, config, c->slot, &why) == SHM_HOT_NO)
			continue;
		heat_promote(space, c->slot, SHM_WHY_RATE, rate, 0);
	}
	heat->candidates_nr = 0;
	heat->attention = (uint64_t)(HEAT_UP * seconds) + 1;
	if (heat->scan_slot < space_slots_nr(space))
		heat_scan(space, config);
	shm_set32(&space->t->rows_waiting, heat->waiting_nr);
}

void heat_registered(struct space *space, const struct config *config, uint32_t slot)
{
	struct heat *h = &space->heat.by_slot[slot];
	enum shm_why why;

	if (h->since_real_ns || h->is_offered || h->rule) /* of the member that had it before */
		*h = (struct heat){ 0 };
	if (heat_can_have_row(space, slot) &&
	    rule_in_force(space, config, slot, &why) == SHM_HOT_YES)
		heat_promote(space, slot, why, NAN, 0);
}

void heat_reconfigure(struct space *space)
{
	space->heat.scan_slot = SHM_SLOT_OVERFLOW;
	space->heat.rules_seq = (uint16_t)(space->heat.rules_seq % 16383 + 1);
}

/* --- once a second ---------------------------------------------------------------------------- */

static void row_second(struct space *space, const struct config *config, uint32_t row,
		       double seconds)
{
	struct row_heat *r = &space->heat.by_row[row];
	uint32_t slot = space->rows.list[row].slot;
	struct heat *h = &space->heat.by_slot[slot];
	enum shm_why why;

	rate_tick(&r->rate, space_total(space, slot), seconds);
	if (h->is_after_due) {
		h->after = r->rate.per_s;
		h->is_after_due = false;
	}
	r->quiet_s = (double)r->rate.per_s < HEAT_DOWN ? r->quiet_s + 1 : 0;
	if (space->rows.list[row].is_retiring || r->quiet_s < HEAT_QUIET_S ||
	    rule_in_force(space, config, slot, &why) == SHM_HOT_YES)
		return;
	heat_retire(space, slot, SHM_WHY_RATE, (double)r->rate.per_s, 0);
}

/* A waiting counter gets a row if there is one, and waits no longer when it is not hot any more. */
static void waiting_second(struct space *space, const struct config *config, double seconds)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < space->heat.waiting_nr; i++) {
		struct waiting w = space->heat.waiting[i];
		struct heat *h = &space->heat.by_slot[w.slot];
		enum shm_why why;
		enum shm_hot_rule rule;

		if (h->heat != WIRE_PROMOTING)
			continue;
		rate_tick(&w.rate, space_total(space, w.slot), seconds);
		rule = heat_can_have_row(space, w.slot) ? rule_in_force(space, config, w.slot, &why) :
							  SHM_HOT_NO;
		if (rule == SHM_HOT_YES && !row_give(space, w.slot)) {
			heat_set(space, w.slot, WIRE_HOT, why, (double)w.rate.per_s,
				 rows_of_slot(space, w.slot), 0);
			continue;
		}
		if (rule == SHM_HOT_NO ||
		    (rule == SHM_HOT_AUTO && !h->is_offered && (double)w.rate.per_s < HEAT_UP / 2)) {
			heat_set(space, w.slot, WIRE_COLD, SHM_WHY_RATE, (double)w.rate.per_s,
				 SHM_ROW_NONE, 0);
			continue;
		}
		if (rule == SHM_HOT_YES)
			w.rate.per_s = INFINITY;
		h->is_offered = false;
		space->heat.waiting[kept++] = w;
	}
	space->heat.waiting_nr = kept;
}

static int hotter_first(const void *x, const void *y)
{
	float a = ((const struct waiting *)x)->rate.per_s;
	float b = ((const struct waiting *)y)->rate.per_s;

	return a > b ? -1 : a < b;
}

struct victim {
	float rate;
	uint32_t row;
};

static int colder_first(const void *x, const void *y)
{
	float a = ((const struct victim *)x)->rate, b = ((const struct victim *)y)->rate;

	return a < b ? -1 : a > b;
}

/* The rows that no rule gave, coldest first, without those whose rate is not known yet. */
static struct victim *victims_find(struct space *space, const struct config *config, uint32_t *ret_nr)
{
	struct victim *v = malloc((space->rows.used_nr + 1) * sizeof(*v));
	enum shm_why why;

	*ret_nr = 0;
	for (uint32_t row = 0; v && row < space->rows.summed_nr; row++) {
		const struct row *r = &space->rows.list[row];
		float per_s = space->heat.by_row[row].rate.per_s;

		if (r->slot != ROW_FREE && !r->is_retiring && !isnan(per_s) &&
		    rule_in_force(space, config, r->slot, &why) != SHM_HOT_YES)
			v[(*ret_nr)++] = (struct victim){ per_s, row };
	}
	if (v)
		qsort(v, *ret_nr, sizeof(*v), colder_first);
	return v;
}

/* When rows run out, the hottest counters have them. */
static void heat_redistribute(struct space *space, const struct config *config)
{
	const struct space_rows *rows = &space->rows;
	struct space_heat *heat = &space->heat;
	/* Rows that retire already make room; a row that may not be used again makes none. */
	uint32_t staying = rows->used_nr - rows->retiring_nr;
	uint32_t over = staying > rows->max ? staying - rows->max : 0;
	uint32_t room = staying < rows->max ? rows->max - staying : 0;
	bool is_reused = !(shm_read32(&space->d->promotion) & SHM_REUSE_OFF);
	uint32_t nr, due = over;
	struct victim *victims;

	if (is_reused && heat->waiting_nr > room)
		due += heat->waiting_nr - room;
	if (!due || !rows->summed_nr)
		return;
	victims = victims_find(space, config, &nr);
	if (nr)
		qsort(heat->waiting, heat->waiting_nr, sizeof(*heat->waiting), hotter_first);
	for (uint32_t i = 0; victims && i < nr && i < due && i < EVICT_MAX; i++) {
		double rate = (double)victims[i].rate;

		if (i >= over &&
		    (double)heat->waiting[i - over].rate.per_s < EVICT_FACTOR * rate)
			break;
		heat_retire(space, rows->list[victims[i].row].slot, SHM_WHY_BUDGET, rate, 0);
	}
	free(victims);
}

void heat_second(struct space *space, const struct config *config, uint64_t elapsed_ns)
{
	double seconds = (double)(elapsed_ns ? elapsed_ns : 1) / 1e9;

	for (uint32_t row = 0; row < space->rows.summed_nr; row++)
		if (space->rows.list[row].slot != ROW_FREE)
			row_second(space, config, row, seconds);
	waiting_second(space, config, seconds);
	heat_redistribute(space, config);
	shm_set32(&space->t->rows_waiting, space->heat.waiting_nr);
}

void heat_allowed(struct space *space, const struct config *config)
{
	/* Rates are of the last tick: only counters that a rule gives a row get one at once. */
	for (uint32_t i = 0; i < space->heat.waiting_nr; i++) {
		uint32_t slot = space->heat.waiting[i].slot;
		enum shm_why why;

		if (space->heat.by_slot[slot].heat == WIRE_PROMOTING &&
		    heat_can_have_row(space, slot) &&
		    rule_in_force(space, config, slot, &why) == SHM_HOT_YES &&
		    !row_give(space, slot))
			heat_set(space, slot, WIRE_HOT, why, NAN, rows_of_slot(space, slot), 0);
	}
}

/* --- operators -------------------------------------------------------------------------------- */

int heat_pin(struct space *space, const struct config *config, uint32_t slot,
	     enum shm_hot_rule pin, uint32_t uid, struct why *why)
{
	static const uint8_t kinds[] = {
		[SHM_HOT_AUTO] = SHM_CHANGE_UNPINNED, [SHM_HOT_YES] = SHM_CHANGE_PINNED_HOT,
		[SHM_HOT_NO] = SHM_CHANGE_PINNED_COLD,
	};
	struct slot_shm *s = space_slot(space, slot);
	uint64_t state = shm_count_read(&s->state);
	uint8_t flags = state_flags(state) & (uint8_t)~SHM_F_PIN;
	const struct change_shm change = { .slot = slot, .uid = uid, .kind = kinds[pin],
					   .why = SHM_WHY_PIN, .row = rows_of_slot(space, slot) };

	if (!heat_can_have_row(space, slot))
		return why_set(why, -EINVAL, "it is of a kind that never gets a row: only what "
			       "programs add to can be hot");
	if (state_pin(state) == pin)
		return 0;
	/* Neither base nor row changes: the version stays. */
	flags |= (uint8_t)(pin << SHM_F_PIN_SHIFT);
	shm_publish(&s->state, state_make(state_version(state), flags, slot_row(state)));
	changes_put(space, &change);
	rule_apply(space, config, slot, uid);
	return 0;
}

void heat_explain(const struct space *space, const struct config *config, uint32_t slot,
		  struct wire_explain *ret)
{
	const struct heat *h = &space->heat.by_slot[slot];
	uint32_t row = rows_of_slot(space, slot);

	ret->heat = rows_is_retiring(space, slot) ? WIRE_RETIRING :
		    row != SHM_ROW_NONE		    ? WIRE_HOT :
		    h->heat == WIRE_PROMOTING	    ? WIRE_PROMOTING : WIRE_COLD;
	/* The last change kept here may be of another state: then its time and rates are not known. */
	if (ret->heat == h->heat) {
		ret->why = h->why;
		ret->since_real_ns = h->since_real_ns;
		ret->rate_before = h->before;
		ret->rate_after = h->after;
	} else {
		ret->rate_before = ret->rate_after = NAN;
	}
	ret->row = row;
	ret->pin = state_pin(shm_count_read(&space_slot(space, slot)->state));
	ret->rule = rule_of(space, config, slot);
	ret->can_have_row = heat_can_have_row(space, slot);
	ret->rate_up = (float)HEAT_UP;
	ret->rate_down = (float)HEAT_DOWN;
	ret->quiet_s = HEAT_QUIET_S;
}

void heat_recover(struct space *space)
{
	uint64_t nr = shm_count_read(&space->t->changes_nr);
	uint64_t from = nr > SHM_CHANGES_NR ? nr - SHM_CHANGES_NR : 0;
	const struct change_shm *ring =
		(const struct change_shm *)((const char *)space->t + SHM_T_CHANGES);
	/* No counter waits in a new worker: its first fold offers again what is hot. */
	static const uint8_t heats[] = {
		[SHM_CHANGE_PROMOTING] = WIRE_COLD, [SHM_CHANGE_HOT] = WIRE_HOT,
		[SHM_CHANGE_RETIRING] = WIRE_RETIRING, [SHM_CHANGE_COLD] = WIRE_COLD,
	};

	for (; from < nr; from++) {
		const struct change_shm *c = &ring[from % SHM_CHANGES_NR];
		uint32_t slot = c->slot;

		if (!slot || slot >= space_slots_nr(space) || c->kind < SHM_CHANGE_PROMOTING ||
		    c->kind > SHM_CHANGE_COLD ||
		    c->generation !=
			    slot_generation(shm_count_read(&space_slot(space, slot)->route)))
			continue;
		space->heat.by_slot[slot] = (struct heat){
			.since_real_ns = c->real_ns, .before = c->rate, .after = NAN,
			.heat = heats[c->kind], .why = c->why,
		};
	}
	for (uint32_t row = 0; row < space->rows.summed_nr; row++) {
		const struct row *r = &space->rows.list[row];

		if (r->slot == ROW_FREE)
			continue;
		row_begin(space, r->slot);
		if (r->is_retiring)
			heat_defer_retirement(space, r->slot, r->retire_seq);
	}
}

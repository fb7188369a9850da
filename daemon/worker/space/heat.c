/* See heat.h. */
#define _GNU_SOURCE
#include "daemon/worker/space/heat.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/worker/space/changes.h"
#include "daemon/worker/space/deferred.h"
#include "daemon/worker/space/rows.h"
#include "shm/names.h"

#define WALK_STEP 512u	 /* slots looked at after a fold when rules have changed */
#define EVICT_MAX 1024u	 /* rows that change hands in one second */
#define EVICT_FACTOR 2.0 /* so much hotter must be who takes another's row */

static uint64_t *changes_to(struct space *space, enum wire_heat heat)
{
	static const uint8_t at[] = { [WIRE_PROMOTING] = 0, [WIRE_HOT] = 1, [WIRE_RETIRING] = 2,
				      [WIRE_COLD] = 3 };

	return &space->t->row_changes[at[heat]];
}

/* Notes a change and publishes it. */
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
	struct heat *h = &space->heat.by_slot[slot];
	uint64_t *nr = changes_to(space, heat);
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	h->since_real_ns = (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
	h->before = (float)rate;
	h->after = NAN;
	h->heat = (uint8_t)heat;
	h->why = (uint8_t)why;
	h->is_after_due = heat == WIRE_HOT;
	shm_count_set(nr, *nr + 1);
	changes_put(space, &change);
}

static uint8_t flags_of(const struct space *space, uint32_t slot)
{
	return state_flags(shm_count_read(&space_slot(space, slot)->state));
}

bool heat_can_have_row(const struct space *space, uint32_t slot)
{
	uint64_t name = shm_count_read(&space_slot(space, slot)->name);
	uint64_t route = shm_count_read(&space_slot(space, slot)->route);

	if (!(slot_generation(route) & 1) || (flags_of(space, slot) & SHM_F_KERNEL))
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

static enum wire_hot_rule pin_of(const struct space *space, uint32_t slot)
{
	uint8_t flags = flags_of(space, slot);

	return flags & SHM_F_PIN_HOT ? WIRE_RULE_YES : flags & SHM_F_PIN_COLD ? WIRE_RULE_NO :
										 WIRE_RULE_AUTO;
}

/* Noted for those that are asked about all the time: to match a name with all rules takes as long
 * as to fold thousands of slots. */
static enum wire_hot_rule rule_of(const struct space *space, const struct config *config,
				  uint32_t slot)
{
	struct heat *h = &space->heat.by_slot[slot];
	char name[NAME_DISPLAY_MAX];
	enum wire_hot_rule rule;

	if (!config || !config->rules_nr)
		return WIRE_RULE_AUTO;
	if (h->rule >> 2 == space->heat.rules_seq)
		return h->rule & 3;
	if (name_display(space->d, slot, name, sizeof(name)) < 0)
		return WIRE_RULE_AUTO;
	rule = config_hot(config, name);
	if (h->since_real_ns || h->is_offered || rows_of_slot(space, slot) != SHM_ROW_NONE)
		h->rule = (uint16_t)(space->heat.rules_seq << 2 | rule);
	return rule;
}

/* A pin comes before the configuration. */
static enum wire_hot_rule told(const struct space *space, const struct config *config,
			       uint32_t slot, enum shm_why *ret_why)
{
	enum wire_hot_rule pin = pin_of(space, slot);

	*ret_why = pin ? SHM_WHY_PIN : SHM_WHY_CONFIG;
	return pin ? pin : rule_of(space, config, slot);
}

/* --- getting and giving back ------------------------------------------------------------------ */

static int64_t total_of(const struct space *space, uint32_t slot)
{
	return (int64_t)space_totals(space, shm_count_read(&space->t->epoch) & 1)[slot];
}

/* Not a row yet: it is counted, and gets one as soon as there is one. */
static void wait_for_row(struct space *space, uint32_t slot, enum shm_why why, double rate)
{
	if (space->heat.by_slot[slot].heat == WIRE_PROMOTING)
		return;
	if (space->heat.waiting_nr == SHM_SLOTS_MAX)
		return;
	heat_set(space, slot, WIRE_PROMOTING, why, rate, SHM_ROW_NONE, 0);
	space->heat.waiting[space->heat.waiting_nr++] = (struct waiting){
		slot, total_of(space, slot), (float)rate
	};
}

/* Gives the slot a row, or lets it wait for one. */
static void promote(struct space *space, uint32_t slot, enum shm_why why, double rate, uint32_t uid)
{
	if (rows_is_hot(space, slot))
		return;
	if (rows_is_retiring(space, slot))
		rows_cancel(space, slot);
	else if (rows_allocate(space, slot)) {
		wait_for_row(space, slot, why, rate);
		return;
	}
	heat_set(space, slot, WIRE_HOT, why, rate, rows_of_slot(space, slot), uid);
}

/* The grace after a retirement has passed. */
static void finish_retirement(struct space *space, uint32_t slot, uint32_t seq)
{
	const struct heat *h = &space->heat.by_slot[slot];

	/* A slot that was removed meanwhile takes its row along. */
	if (state_flags(shm_count_read(&space_slot(space, slot)->state)) & SHM_F_REMOVING)
		return;
	if (rows_free_retired(space, slot, seq))
		heat_set(space, slot, WIRE_COLD, h->why, (double)h->before, SHM_ROW_NONE, 0);
}

void heat_defer_retirement(struct space *space, uint32_t slot, uint32_t seq)
{
	deferred_put(space, &(struct deferred){ finish_retirement, slot, seq });
}

static void retire(struct space *space, uint32_t slot, enum shm_why why, double rate, uint32_t uid)
{
	if (!rows_is_hot(space, slot) || !deferred_has_room(space))
		return;
	if (isnan(rate)) /* told, not measured: what it was in the last second */
		rate = (double)space->rows.list[rows_of_slot(space, slot)].rate;
	heat_defer_retirement(space, slot, rows_retire(space, slot));
	heat_set(space, slot, WIRE_RETIRING, why, rate, rows_of_slot(space, slot), uid);
}

/* --- with every fold -------------------------------------------------------------------------- */

void heat_offer(struct space *space, uint32_t slot, int64_t delta)
{
	struct space_heat *h = &space->heat;

	if (delta < 0)
		delta = -delta;
	if ((uint64_t)delta < h->attention || h->candidates_nr == SPACE_CANDIDATES_MAX ||
	    rows_is_hot(space, slot))
		return;
	h->candidates[h->candidates_nr++] = (struct candidate){ slot, delta };
}

static int faster_first(const void *x, const void *y)
{
	const struct candidate *a = x, *b = y;

	return a->delta > b->delta ? -1 : a->delta < b->delta;
}

static void walk(struct space *space, const struct config *config)
{
	uint32_t slots_nr = space_slots_nr(space), end = space->heat.walk_slot + WALK_STEP;
	enum shm_why why;

	for (; space->heat.walk_slot < slots_nr && space->heat.walk_slot < end;
	     space->heat.walk_slot++) {
		uint32_t slot = space->heat.walk_slot;

		if (!heat_can_have_row(space, slot))
			continue;
		switch (told(space, config, slot, &why)) {
		case WIRE_RULE_YES:
			promote(space, slot, why, NAN, 0);
			break;
		case WIRE_RULE_NO:
			retire(space, slot, why, NAN, 0);
			break;
		default:
			break;
		}
	}
}

void heat_fold(struct space *space, const struct config *config, uint64_t interval_ns)
{
	double seconds = (double)(interval_ns ? interval_ns : 1) / 1e9;
	enum shm_why why;

	qsort(space->heat.candidates, space->heat.candidates_nr, sizeof(struct candidate),
	      faster_first);
	for (uint32_t i = 0; i < space->heat.candidates_nr; i++) {
		const struct candidate *c = &space->heat.candidates[i];
		double rate = (double)c->delta / seconds;

		if (rate < HEAT_UP || !heat_can_have_row(space, c->slot))
			continue;
		space->heat.by_slot[c->slot].is_offered = true;
		if (told(space, config, c->slot, &why) == WIRE_RULE_NO)
			continue;
		promote(space, c->slot, SHM_WHY_RATE, rate, 0);
	}
	space->heat.candidates_nr = 0;
	space->heat.attention = (uint64_t)(HEAT_UP * seconds) + 1;
	if (space->heat.walk_slot < space_slots_nr(space))
		walk(space, config);
	shm_set32(&space->t->rows_waiting, space->heat.waiting_nr);
}

void heat_registered(struct space *space, const struct config *config, uint32_t slot)
{
	struct heat *h = &space->heat.by_slot[slot];
	enum shm_why why;

	if (h->since_real_ns || h->is_offered || h->rule) /* of the member that had it before */
		*h = (struct heat){ 0 };
	if (heat_can_have_row(space, slot) && told(space, config, slot, &why) == WIRE_RULE_YES)
		promote(space, slot, why, NAN, 0);
}

void heat_reconfigure(struct space *space)
{
	space->heat.walk_slot = SHM_SLOT_OVERFLOW;
	space->heat.rules_seq = (uint16_t)(space->heat.rules_seq % 16383 + 1);
}

/* --- once a second ---------------------------------------------------------------------------- */

static double rate_since(const struct space *space, uint32_t slot, int64_t *last, double seconds)
{
	int64_t now = total_of(space, slot);
	double rate = fabs((double)(now - *last)) / seconds;

	*last = now;
	return rate;
}

static void owner_second(struct space *space, const struct config *config, struct row *row,
			 double seconds)
{
	struct heat *h = &space->heat.by_slot[row->slot];
	enum shm_why why;

	row->rate = (float)rate_since(space, row->slot, &row->last_second, seconds);
	if (h->is_after_due) {
		h->after = row->rate;
		h->is_after_due = false;
	}
	row->quiet_s = (double)row->rate < HEAT_DOWN ? row->quiet_s + 1 : 0;
	if (row->is_retiring || row->quiet_s < HEAT_QUIET_S ||
	    told(space, config, row->slot, &why) == WIRE_RULE_YES)
		return;
	retire(space, row->slot, SHM_WHY_RATE, (double)row->rate, 0);
}

/* Who waits gets a row if there is one; who is no longer hot does not wait. */
static void waiting_second(struct space *space, const struct config *config, double seconds)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < space->heat.waiting_nr; i++) {
		struct waiting w = space->heat.waiting[i];
		struct heat *h = &space->heat.by_slot[w.slot];
		enum shm_why why;
		enum wire_hot_rule rule;

		if (h->heat != WIRE_PROMOTING)
			continue;
		w.rate = (float)rate_since(space, w.slot, &w.last_second, seconds);
		rule = heat_can_have_row(space, w.slot) ? told(space, config, w.slot, &why) :
							  WIRE_RULE_NO;
		if (rule == WIRE_RULE_YES && !rows_allocate(space, w.slot)) {
			heat_set(space, w.slot, WIRE_HOT, why, (double)w.rate,
				 rows_of_slot(space, w.slot), 0);
			continue;
		}
		if (rule == WIRE_RULE_NO ||
		    (rule == WIRE_RULE_AUTO && !h->is_offered && (double)w.rate < HEAT_UP / 2)) {
			heat_set(space, w.slot, WIRE_COLD, SHM_WHY_RATE, (double)w.rate,
				 SHM_ROW_NONE, 0);
			continue;
		}
		if (rule == WIRE_RULE_YES)
			w.rate = INFINITY;
		h->is_offered = false;
		space->heat.waiting[kept++] = w;
	}
	space->heat.waiting_nr = kept;
}

static int hotter_first(const void *x, const void *y)
{
	float a = ((const struct waiting *)x)->rate, b = ((const struct waiting *)y)->rate;

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

/* The rows that policy alone gave, coldest first; those whose rate is not known yet are left alone. */
static struct victim *victims_find(struct space *space, const struct config *config, uint32_t *ret_nr)
{
	struct victim *v = malloc((space->rows.used_nr + 1) * sizeof(*v));
	enum shm_why why;

	*ret_nr = 0;
	for (uint32_t row = 0; v && row < space->rows.summed_nr; row++) {
		const struct row *r = &space->rows.list[row];

		if (r->slot != ROW_FREE && !r->is_retiring && !isnan(r->rate) &&
		    told(space, config, r->slot, &why) != WIRE_RULE_YES)
			v[(*ret_nr)++] = (struct victim){ r->rate, row };
	}
	if (v)
		qsort(v, *ret_nr, sizeof(*v), colder_first);
	return v;
}

/* When rows run out, the hottest have them. */
static void rows_redistribute(struct space *space, const struct config *config)
{
	/* Those that leave already make room; a row that is not used again makes none. */
	uint32_t staying = space->rows.used_nr - space->rows.retiring_nr;
	uint32_t over = staying > space->rows.max ? staying - space->rows.max : 0;
	uint32_t room = staying < space->rows.max ? space->rows.max - staying : 0;
	bool is_reused = !(shm_read32(&space->d->promotion) & SHM_REUSE_OFF);
	uint32_t nr, want = over;
	struct victim *victims;

	if (is_reused && space->heat.waiting_nr > room)
		want += space->heat.waiting_nr - room;
	if (!want || !space->rows.summed_nr)
		return;
	victims = victims_find(space, config, &nr);
	if (nr)
		qsort(space->heat.waiting, space->heat.waiting_nr, sizeof(struct waiting),
		      hotter_first);
	for (uint32_t i = 0; victims && i < nr && i < want && i < EVICT_MAX; i++) {
		uint32_t slot = space->rows.list[victims[i].row].slot;

		if (i >= over && (double)space->heat.waiting[i - over].rate <
					 EVICT_FACTOR * (double)victims[i].rate)
			break;
		retire(space, slot, SHM_WHY_BUDGET, (double)victims[i].rate, 0);
	}
	free(victims);
}

void heat_second(struct space *space, const struct config *config, uint64_t elapsed_ns)
{
	double seconds = (double)(elapsed_ns ? elapsed_ns : 1) / 1e9;

	for (uint32_t row = 0; row < space->rows.summed_nr; row++)
		if (space->rows.list[row].slot != ROW_FREE)
			owner_second(space, config, &space->rows.list[row], seconds);
	waiting_second(space, config, seconds);
	rows_redistribute(space, config);
	shm_set32(&space->t->rows_waiting, space->heat.waiting_nr);
}

void heat_allowed(struct space *space, const struct config *config)
{
	/* Rates are of the last tick: only who was told to have a row can be served at once. */
	for (uint32_t i = 0; i < space->heat.waiting_nr; i++) {
		uint32_t slot = space->heat.waiting[i].slot;
		enum shm_why why;

		if (space->heat.by_slot[slot].heat == WIRE_PROMOTING &&
		    heat_can_have_row(space, slot) &&
		    told(space, config, slot, &why) == WIRE_RULE_YES &&
		    !rows_allocate(space, slot))
			heat_set(space, slot, WIRE_HOT, why, NAN, rows_of_slot(space, slot), 0);
	}
}

/* --- operators -------------------------------------------------------------------------------- */

int heat_pin(struct space *space, const struct config *config, uint32_t slot,
	     enum wire_hot_rule pin, uint32_t uid, char *why, size_t why_size)
{
	static const uint8_t flags_of[] = {
		[WIRE_RULE_AUTO] = 0, [WIRE_RULE_YES] = SHM_F_PIN_HOT,
		[WIRE_RULE_NO] = SHM_F_PIN_COLD,
	};
	static const uint8_t kinds[] = {
		[WIRE_RULE_AUTO] = SHM_CHANGE_UNPINNED, [WIRE_RULE_YES] = SHM_CHANGE_PINNED_HOT,
		[WIRE_RULE_NO] = SHM_CHANGE_PINNED_COLD,
	};
	struct slot_shm *s = space_slot(space, slot);
	uint64_t state = shm_count_read(&s->state);
	uint8_t flags = state_flags(state) & (uint8_t)~(SHM_F_PIN_HOT | SHM_F_PIN_COLD);
	const struct change_shm change = { .slot = slot, .uid = uid, .kind = kinds[pin],
					   .why = SHM_WHY_PIN, .row = rows_of_slot(space, slot) };
	enum shm_why told_why;

	if (!heat_can_have_row(space, slot)) {
		snprintf(why, why_size, "it is of a kind that never gets a row: only what programs "
			 "add to can be hot");
		return -EINVAL;
	}
	if (pin_of(space, slot) == pin)
		return 0;
	/* Neither base nor row changes: the version stays. */
	shm_publish(&s->state, state_make(state_version(state), flags | flags_of[pin],
					  slot_row(state)));
	changes_put(space, &change);
	switch (told(space, config, slot, &told_why)) {
	case WIRE_RULE_YES:
		promote(space, slot, told_why, NAN, uid);
		break;
	case WIRE_RULE_NO:
		retire(space, slot, told_why, NAN, uid);
		break;
	default:
		break;
	}
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
	/* What was noted may be of a former owner of the slot's heat: then nothing is known. */
	if (ret->heat == h->heat) {
		ret->why = h->why;
		ret->since_real_ns = h->since_real_ns;
		ret->rate_before = h->before;
		ret->rate_after = h->after;
	} else {
		ret->rate_before = ret->rate_after = NAN;
	}
	ret->row = row;
	ret->pin = pin_of(space, slot);
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
	/* Nobody waits for a new worker: who is hot is offered again by its first fold. */
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
	for (uint32_t row = 0; row < space->rows.summed_nr; row++)
		if (space->rows.list[row].slot != ROW_FREE && space->rows.list[row].is_retiring)
			heat_defer_retirement(space, space->rows.list[row].slot,
					      space->rows.list[row].retire_seq);
}

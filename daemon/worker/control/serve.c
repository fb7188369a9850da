/* See serve.h. */
#include "daemon/worker/control/serve.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "daemon/link/log.h"
#include "daemon/worker/space/heat.h"
#include "daemon/worker/space/rows.h"
#include "daemon/worker/space/quota.h"
#include "daemon/worker/space/register.h"
#include "daemon/worker/space/remove.h"
#include "daemon/worker/space/suspect.h"
#include "shm/base/clock.h"
#include "shm/names.h"

_Static_assert(WIRE_NAME_MAX == NAME_DISPLAY_MAX, "the wire knows how long a name may be");

/* --- REGISTER --------------------------------------------------------------------------------- */

static const struct wire_register *register_message(const struct client_request *r)
{
	return (const struct wire_register *)r->message;
}

static void claim_of(const struct wire_entry *e, uid_t uid, struct claim *ret)
{
	*ret = (struct claim){
		.type = e->type, .key_kind = e->key_kind, .origin = SHM_ORIGIN_USER, .uid = uid,
		.name = e->bytes, .name_len = e->name_bytes,
		.help = e->bytes + e->name_bytes, .help_len = e->help_bytes,
		.label = e->bytes + e->name_bytes + e->help_bytes, .label_len = e->label_bytes,
		.family = e->family, .family_generation = e->family_generation,
	};
	/* A field that the entry's type does not have is not part of the name. */
	if (ret->type != SHM_FAMILY && ret->type != SHM_LEVEL_FAMILY) {
		ret->key_kind = 0;
		ret->label_len = 0;
	}
}

static void reply_begin(struct client_request *r, uint32_t nr)
{
	*r->reply = (struct wire_registered){ .head = *r->message, .nr = nr };
	r->reply->head.kind = WIRE_REGISTERED;
	r->reply->head.length = (uint32_t)(sizeof(*r->reply) + nr * sizeof(r->reply->results[0]));
}

uint32_t serve_begin(struct client_request *r)
{
	const struct wire_register *m = register_message(r);
	const struct wire_entry *e;
	uint32_t i = 0, missing = 0;
	struct claim c;
	size_t at = 0;
	int err;

	reply_begin(r, m->nr);
	for (; i < m->nr && (e = wire_entry_next(m, &at, &err)); i++) {
		struct wire_result *result = &r->reply->results[i];

		claim_of(e, r->uid, &c);
		if (claim_find(space_view(r->space), &c, claim_by_registry, result, NULL) == 1)
			continue;
		/* The fold thread refuses: it alone counts refusals in D. */
		*result = (struct wire_result){ .slot = SHM_SLOT_NONE };
		missing++;
	}
	return missing;
}

/* Appends an explanation. One that equals the last, or does not fit any more, is sent as the
 * last. */
static uint32_t reply_why(struct wire_registered *reply, const struct why *why, uint32_t last_at)
{
	char *texts = (char *)&reply->results[reply->nr], text[WIRE_TEXT_MAX];
	uint32_t len, at = reply->text_bytes;

	len = (uint32_t)strlen(why_text(why, text, sizeof(text))) + 1;
	if (at && strcmp(texts + last_at, text) == 0)
		return last_at;
	if (reply->head.length + len > WIRE_MAX)
		return last_at;
	memcpy(texts + at, text, len);
	reply->text_bytes += len;
	reply->head.length += len;
	return at;
}

void serve_register(struct fold *f, struct request *request, const struct config *config)
{
	struct client_request *r = (struct client_request *)request;
	const struct wire_register *m = register_message(r);
	uint32_t last_at = 0;
	const struct wire_entry *e;
	struct quota quota;
	struct claim c;
	struct why why;
	size_t at = 0;
	int err;

	(void)f;
	quota_init(&quota, r->space, config);
	for (uint32_t i = 0; i < m->nr && (e = wire_entry_next(m, &at, &err)); i++) {
		struct wire_result *result = &r->reply->results[i];

		if (result->slot != SHM_SLOT_NONE)
			continue;
		claim_of(e, r->uid, &c);
		register_claim(r->space, &quota, &c, result, &why);
		if (result->err)
			result->text_at = last_at = reply_why(r->reply, &why, last_at);
	}
}

/* --- CHANGE ----------------------------------------------------------------------------------- */

static int forget_one(struct client_request *r, uint32_t slot, struct why *why)
{
	int err;

	if ((space_states(r->space)[slot] & SHM_T_STATE) == SHM_T_SUSPECT) {
		why_set(why, -EINVAL, "it is suspect: its cells say less than is shown, and the "
			"family's sum would fall");
		why_fix(why, "talea accept first");
		return -EINVAL;
	}
	if (remove_is_counted(r->space, slot)) {
		why_set(why, -EINVAL, "the kernel counts it: it goes when its process or cgroup "
			"has ended");
		why_fix(why, "talea detach its probe first");
		return -EINVAL;
	}
	err = remove_begin(r->space, slot, SHM_WHY_FORGET, r->uid);
	if (err)
		why_set(why, err, "only members of families can be removed: counters and levels "
			"live as long as their namespace");
	return err;
}

/* Applies the change to one slot. */
static int change_one(struct client_request *r, const struct config *config, uint32_t slot,
		      struct why *why)
{
	const struct wire_change *m = (const struct wire_change *)r->message;
	int err;

	switch (m->op) {
	case WIRE_PIN_HOT:
		return heat_pin(r->space, config, slot, SHM_HOT_YES, r->uid, why);
	case WIRE_PIN_COLD:
		return heat_pin(r->space, config, slot, SHM_HOT_NO, r->uid, why);
	case WIRE_UNPIN:
		return heat_pin(r->space, config, slot, SHM_HOT_AUTO, r->uid, why);
	case WIRE_FORGET:
		return forget_one(r, slot, why);
	}
	/* A counter that is not suspect was accepted before: a repeated request finds it done. */
	err = suspect_accept(r->space, slot, r->uid);
	return err == -EINVAL ? 0 : err;
}

void serve_change(struct fold *f, struct request *request, const struct config *config)
{
	struct client_request *r = (struct client_request *)request;
	const struct wire_change *m = (const struct wire_change *)r->message;
	static const char *const ops[] = {
		[WIRE_PIN_HOT] = "pin hot", [WIRE_PIN_COLD] = "pin cold", [WIRE_UNPIN] = "unpin",
		[WIRE_FORGET] = "forget", [WIRE_ACCEPT] = "accept",
	};
	const char *name = m->names;
	char more[32] = "";
	uint32_t last_at = 0;

	(void)f;
	/* The history keeps all of them for a while; the log keeps the uid that asked. */
	if (m->nr > 1)
		snprintf(more, sizeof(more), " and %u more", m->nr - 1);
	log_line("namespace %s: uid %u: %s %s%s", r->space->view.name, r->uid, ops[m->op],
		 *name ? name : "the namespace itself", more);
	reply_begin(r, m->nr);
	for (uint32_t i = 0; i < m->nr; i++, name += strlen(name) + 1) {
		struct wire_result *result = &r->reply->results[i];
		struct why why = { 0 };

		*result = (struct wire_result){ .slot = SHM_SLOT_NONE };
		if (*name)
			result->slot = name_find(r->space->d, name, &result->generation);
		if (result->slot != SHM_SLOT_NONE || (!*name && m->op == WIRE_ACCEPT)) {
			result->err = change_one(r, config, result->slot, &why);
		} else {
			result->err = why_set(&why, -ENOENT, "there is no such counter");
		}
		if (result->err)
			result->text_at = last_at = reply_why(r->reply, &why, last_at);
	}
}

/* --- QUERY ------------------------------------------------------------------------------------ */

/* The rate of the last full second, if the slot is among the busiest. */
static void explain_rate(const struct space *space, struct wire_explain *e)
{
	uint64_t tick = shm_count_read(&space->t->busy_tick);
	const struct busy_shm *b = (const struct busy_shm *)(const void *)
		((const char *)space->t + SHM_T_BUSY + (tick & 1) * SHM_T_BUSY_BYTES);

	/* A list of all counters that changed: one that is not in it did not change. */
	e->rate = b->all ? 0 : NAN;
	for (uint32_t i = 0; i < b->nr && i < SHM_BUSY_NR; i++) {
		if (b->slot[i] != e->slot || b->generation[i] != e->generation)
			continue;
		e->rate = b->rates[i][0];
		e->imbalance = b->imbalance[i];
		e->lanes_nr = b->lanes[i];
		return;
	}
}

static uint32_t idle_s(const struct space *space, uint32_t slot)
{
	if (!space->rates.changed_s[slot])
		return UINT32_MAX;
	return (uint32_t)(mono_ns() / NS_PER_S) - space->rates.changed_s[slot];
}

static void explain(const struct space *space, const struct config *config, const char *name,
		    struct wire_explain *e)
{
	uint64_t epoch = shm_count_read(&space->t->epoch);
	uint8_t type = name_type(shm_count_read(&space_slot(space, e->slot)->name));

	heat_explain(space, config, e->slot, e);
	explain_rate(space, e);
	e->is_suspect = (shm_read8(&space_states(space)[e->slot]) & SHM_T_STATE) == SHM_T_SUSPECT;
	e->frozen = (int64_t)shm_count_read(&space_totals(space, epoch & 1)[e->slot]);
	e->summed = e->is_suspect ? suspect_sum(space, e->slot) : e->frozen;
	if (type == SHM_MEMBER || type == SHM_LEVEL_MEMBER)
		e->ttl_s = config_ttl_s(config, name);
	e->idle_s = idle_s(space, e->slot);
}

static size_t lanes(const struct space *space, uint32_t row, struct wire_lanes *l)
{
	uint32_t cpus_nr = shm_read32(&space->d->cpus_nr);

	l->mono_ns = mono_ns();
	l->cold = shm_count_read((const uint64_t *)(space->s + shards_cold(l->slot)));
	l->row = row;
	l->cpus_nr = row == SHM_ROW_NONE ? 0 : cpus_nr;
	for (uint32_t cpu = 0; cpu < l->cpus_nr; cpu++)
		l->lanes[cpu] = shm_count_read(
			(const uint64_t *)(space->s + shards_lane(cpu) + row * 8ull));
	return sizeof(*l) + l->cpus_nr * sizeof(l->lanes[0]);
}

void serve_query(struct fold *f, struct request *request, const struct config *config)
{
	struct client_request *r = (struct client_request *)request;
	const struct wire_query *q = (const struct wire_query *)r->message;
	struct wire_answer *a = r->answer;
	uint32_t slot, generation = 0;
	char name[WIRE_NAME_MAX];

	(void)f;
	memcpy(name, q->name, q->name_bytes);
	name[q->name_bytes] = '\0';
	slot = *name ? name_find(r->space->d, name, &generation) : SHM_SLOT_NONE;
	if (slot == SHM_SLOT_NONE) {
		r->err = -ENOENT;
		snprintf(r->text, WIRE_TEXT_MAX, "there is no counter %.400s", name);
		return;
	}
	*a = (struct wire_answer){ .head = q->head, .what = q->what, .nr = 1 };
	a->head.kind = WIRE_ANSWER;
	a->head.length = sizeof(*a);
	if (q->what == WIRE_EXPLAIN) {
		struct wire_explain *e = (struct wire_explain *)(void *)a->records;

		*e = (struct wire_explain){ .slot = slot, .generation = generation };
		explain(r->space, config, name, e);
		a->head.length += sizeof(*e);
	} else {
		struct wire_lanes *l = (struct wire_lanes *)(void *)a->records;

		*l = (struct wire_lanes){ .slot = slot, .generation = generation };
		a->head.length += (uint32_t)lanes(r->space, rows_of_slot(r->space, slot), l);
	}
}

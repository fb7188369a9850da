/* See orders.h. */
#include "daemon/worker/control/probe_request.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/link/log.h"
#include "daemon/worker/control/control.h"
#include "daemon/worker/space/view.h"
#include "daemon/worker/control/query.h"
#include "daemon/worker/kernel/key_names.h"
#include "shm/directory.h"

/* --- answering -------------------------------------------------------------------------------- */

static void answer_record(struct control *c, struct connection *conn, uint32_t number,
			  const struct wire_probe *record)
{
	_Alignas(8) char buf[sizeof(struct wire_answer) + sizeof(*record)];
	struct wire_answer *a = (void *)buf;

	*a = (struct wire_answer){ .what = WIRE_PROBES, .nr = record != NULL };
	a->head = (struct wire_head){
		.magic = WIRE_MAGIC, .version = WIRE_VERSION, .kind = WIRE_ANSWER, .number = number,
		.length = (uint32_t)(sizeof(*a) + (record ? sizeof(*record) : 0)),
	};
	if (record)
		memcpy(a->records, record, sizeof(*record));
	connection_send(c, conn, a, NULL, 0);
}

/* The place of a probe, PROBES_MAX: there is none. */
static uint32_t probe_find(const struct control *c, const char *name)
{
	for (uint32_t id = 0; id < PROBES_MAX; id++)
		if (!strcmp(probe_name(&c->probes[id].live), name))
			return id;
	return PROBES_MAX;
}

static void order_record(struct control *c, struct order *o)
{
	struct wire_probe now;
	uint32_t id = probe_find(c, o->record.name);

	if (o->op != WIRE_PROBE_DETACH) {
		if (id < PROBES_MAX)
			query_probe(c, id, &o->record);
		return;
	}
	/* What it has counted to its end; the place may be another's by now. */
	query_probe(c, o->probe, &now);
	o->record.state = WIRE_PROBE_OFF;
	if (!c->probes[o->probe].live.origin || id == o->probe) {
		o->record.events = now.events;
		o->record.overflow = now.overflow;
		o->record.refused = now.refused;
		o->record.folded = now.folded;
		o->record.freed_nr = now.freed_nr;
	}
}

static struct order *order_find(struct control *c, uint64_t id)
{
	for (uint32_t i = 0; i < ORDERS_MAX; i++)
		if (id && c->orders.list[i].id == id)
			return &c->orders.list[i];
	return NULL;
}

/* Who changed what, or tried to. */
static void order_log(const struct order *o)
{
	bool is_attach = o->op == WIRE_PROBE_ATTACH;

	if (o->op != WIRE_PROBE_COST)
		log_line("uid %u: %s %s%s%s", (unsigned int)o->conn->peer.uid,
			 o->op == WIRE_PROBE_DETACH ? "detach" :
			 is_attach		    ? "attach" : "attach --replace",
			 is_attach ? o->record.attach : o->record.name,
			 o->err ? ": not done: " : "", o->err ? o->words : "");
}

static void order_finish(struct control *c, uint64_t id)
{
	struct order *o = order_find(c, id);
	struct connection *conn;

	if (!o)
		return;
	conn = o->conn;
	o->id = 0;
	order_log(o);
	connection_release(c, conn);
	if (conn->state == CONNECTION_ENDED)
		return;
	if (o->err) {
		connection_deny(c, conn, o->number, o->err, "%s", o->words);
	} else if (o->op == WIRE_PROBE_COST) {
		answer_record(c, conn, o->number, NULL);
	} else {
		order_record(c, o);
		answer_record(c, conn, o->number, &o->record);
	}
}

static void served(struct fold *f, struct request *r, const struct config *config)
{
	(void)f;
	(void)r;
	(void)config;
}

static void order_served(struct control *c, struct request *request)
{
	struct keeper_request *r = (struct keeper_request *)request;

	order_finish(c, r->id);
	keeper_request_free(r);
}

void order_answered(struct control *c, const struct link_msg *m)
{
	struct order *o = order_find(c, m->id);
	int32_t err = (int32_t)m->nr;

	if (!o)
		return;
	o->err = err > 0 || err < -4095 ? -EPROTO : err;
	snprintf(o->words, sizeof(o->words), "%.*s", (int)sizeof(o->words) - 1,
		 *m->text ? m->text : strerror(-o->err));
	/* The counters that it is about are the fold thread's. */
	keeper_request_ask(c, &(struct keeper_request){
		.request = { .serve = served, .finish = order_served }, .id = o->id,
	});
}

/* --- ordering --------------------------------------------------------------------------------- */

/* Sends it to the keeper; the client waits. */
static void order_give(struct control *c, struct connection *conn,
		       const struct wire_probe_change *m, const struct wire_probe *record,
		       uint32_t probe, struct link_msg *msg)
{
	struct order *o = NULL;
	int err;

	for (uint32_t i = 0; i < ORDERS_MAX && !o; i++)
		o = c->orders.list[i].id ? NULL : &c->orders.list[i];
	msg->id = c->orders.last_id + 1;
	err = o ? link_send(c->start->link_fd, msg, NULL, 0) : -EAGAIN;
	if (err && err != -EPIPE) {
		connection_deny(c, conn, m->head.number, err, "talead has more orders about probes "
			    "under way than it takes at a time. fix: try again");
		return;
	}
	/* Without a keeper there will be another worker in a moment, and the client asks that one. */
	*o = (struct order){
		.id = ++c->orders.last_id, .conn = conn, .number = m->head.number,
		.op = m->op, .probe = probe, .record = *record,
	};
	connection_hold(c, conn);
}

/* The request with a counter's name that says the keys, to be typed as it is. */
static void suggest(const struct probe_spec *spec, const char *label, int len, char *buf, size_t size)
{
	const char *event = spec->text, *equals = strchr(event, '=');
	int base = (int)strlen(spec->counter) - (int)strlen("_total");
	char by[TALEA_KEYS_MAX * sizeof(((struct talea_key_def *)0)->label) + 8] = "_again";

	if (equals && equals < strchr(event, ':'))
		event = equals + 1;
	if (len)
		snprintf(by, sizeof(by), "_by_%.*s", len, label);
	for (char *comma = by; (comma = strchr(comma, ',')) != NULL;)
		*comma = '_';
	snprintf(buf, size, "talea attach '%.*s%.80s_total=%.150s'", base, spec->counter, by,
		 event);
}

/* Is the counter's name free, or that of a probe that counted by the same keys? Otherwise words. */
static int name_check_free(const struct control *c, const struct probe_spec *spec, char *why,
			   size_t why_size)
{
	const struct dir_shm *d = space_view(c->spaces[0])->d;
	char label[TALEA_KEYS_MAX * sizeof(((struct talea_key_def *)0)->label) + TALEA_KEYS_MAX];
	char other[400];
	struct talea_counter_def def;
	const struct name_shm *n;
	uint32_t slot, generation;
	uint64_t name;
	int len;

	spec_counter(spec, &def);
	len = def.keys_nr ? key_names_label(&def, label, sizeof(label)) : 0;
	slot = dir_find(d, 0, def.name, strlen(def.name), &generation);
	if (slot == SHM_SLOT_NONE)
		return 0;
	name = shm_count_read(&dir_slot(d, slot)->name);
	n = dir_name(d, name);
	suggest(spec, label, len, other, sizeof(other));
	if (n->origin != SHM_ORIGIN_KERNEL) {
		snprintf(why, why_size, "a program has registered %.100s. fix: %.340s", def.name,
			 other);
		return -EEXIST;
	}
	if (n->label_len == len && !memcmp(n->text + name_length(name), label, (size_t)len))
		return 0;
	snprintf(why, why_size, "%.60s is there %s%.*s since an earlier probe, and stays so while "
		 "this talead runs. fix: %.280s", def.name, n->label_len ? "by " : "without keys",
		 n->label_len > 40 ? 40 : n->label_len, n->text + name_length(name), other);
	return -EEXIST;
}

static void record_of(const struct probe_spec *spec, struct wire_probe *p)
{
	struct probe_live live = { .spec = *spec, .origin = PROBE_OF_COMMAND };

	query_live(&live, p);
	p->keys_max = spec->keys_nr ? spec->keys_max : 0;
}

static void take_attach(struct control *c, struct connection *conn,
			const struct wire_probe_change *m, const char *text)
{
	struct link_msg msg = { .kind = LINK_ATTACH };
	struct wire_probe record;
	char why[WIRE_TEXT_MAX];
	int err = spec_parse(NULL, text, &msg.spec, why, sizeof(why));

	if (!err)
		err = name_check_free(c, &msg.spec, why, sizeof(why));
	if (err) {
		connection_deny(c, conn, m->head.number, err, "%s", why);
		return;
	}
	record_of(&msg.spec, &record);
	if (m->is_checked_only) {
		answer_record(c, conn, m->head.number, &record);
		return;
	}
	order_give(c, conn, m, &record, PROBES_MAX, &msg);
}

static void take_named(struct control *c, struct connection *conn,
		       const struct wire_probe_change *m, const char *name)
{
	bool is_detach = m->op == WIRE_PROBE_DETACH;
	struct link_msg msg = { .kind = is_detach ? LINK_DETACH : LINK_REPLACE };
	uint32_t id = probe_find(c, name);
	struct wire_probe record;

	if (id == PROBES_MAX) {
		connection_deny(c, conn, m->head.number, -ENOENT, "there is no probe %s. see: talea "
			    "probes", name);
		return;
	}
	query_probe(c, id, &record);
	snprintf(msg.text, sizeof(msg.text), "%s", name);
	order_give(c, conn, m, &record, id, &msg);
}

void order_take(struct control *c, struct connection *conn, const struct wire_probe_change *m)
{
	struct link_msg cost = { .kind = LINK_COST, .nr = m->ms };
	struct wire_probe none = { .name = "" };
	char text[WIRE_TEXT_MAX];

	memcpy(text, m->text, m->bytes);
	text[m->bytes] = '\0';
	switch (m->op) {
	case WIRE_PROBE_ATTACH:
		take_attach(c, conn, m, text);
		break;
	case WIRE_PROBE_COST:
		order_give(c, conn, m, &none, PROBES_MAX, &cost);
		break;
	default:
		take_named(c, conn, m, text);
	}
}

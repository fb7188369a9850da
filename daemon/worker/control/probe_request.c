/* See probe_request.h. */
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
static uint32_t probe_place(const struct control *c, const char *name)
{
	for (uint32_t id = 0; id < PROBES_MAX; id++)
		if (!strcmp(probe_name(&c->probes[id].live), name))
			return id;
	return PROBES_MAX;
}

static void probe_request_record(struct control *c, struct probe_request *r)
{
	struct wire_probe now;
	uint32_t id = probe_place(c, r->record.name);

	if (r->op != WIRE_PROBE_DETACH) {
		if (id < PROBES_MAX)
			query_probe(c, id, &r->record);
		return;
	}
	/* What it has counted to its end; the place may be another's by now. */
	query_probe(c, r->probe, &now);
	r->record.state = WIRE_PROBE_OFF;
	if (!c->probes[r->probe].live.origin || id == r->probe) {
		r->record.events = now.events;
		r->record.overflow = now.overflow;
		r->record.refused = now.refused;
		r->record.folded = now.folded;
		r->record.freed_nr = now.freed_nr;
	}
}

static struct probe_request *probe_request_find(struct control *c, uint64_t id)
{
	for (uint32_t i = 0; i < PROBE_REQUESTS_MAX; i++)
		if (id && c->probe_requests.list[i].id == id)
			return &c->probe_requests.list[i];
	return NULL;
}

/* Who changed what, or tried to. */
static void probe_request_log(const struct probe_request *r)
{
	bool is_attach = r->op == WIRE_PROBE_ATTACH;

	if (r->op != WIRE_PROBE_COST)
		log_line("uid %u: %s %s%s%s", (unsigned int)r->conn->peer.uid,
			 r->op == WIRE_PROBE_DETACH ? "detach" :
			 is_attach		    ? "attach" : "attach --replace",
			 is_attach ? r->record.attach : r->record.name,
			 r->err ? ": not done: " : "", r->err ? r->text : "");
}

static void probe_request_finish(struct control *c, uint64_t id)
{
	struct probe_request *r = probe_request_find(c, id);
	struct connection *conn;

	if (!r)
		return;
	conn = r->conn;
	r->id = 0;
	probe_request_log(r);
	connection_release(c, conn);
	if (conn->state == CONNECTION_ENDED)
		return;
	if (r->err) {
		connection_deny(c, conn, r->number, r->err, "%s", r->text);
	} else if (r->op == WIRE_PROBE_COST) {
		answer_record(c, conn, r->number, NULL);
	} else {
		probe_request_record(c, r);
		answer_record(c, conn, r->number, &r->record);
	}
}

static void served(struct fold *f, struct request *r, const struct config *config)
{
	(void)f;
	(void)r;
	(void)config;
}

static void probe_request_served(struct control *c, struct request *request)
{
	struct keeper_request *r = (struct keeper_request *)request;

	probe_request_finish(c, r->id);
	keeper_request_free(r);
}

void probe_request_answered(struct control *c, const struct link_msg *m)
{
	struct probe_request *r = probe_request_find(c, m->id);
	int32_t err = (int32_t)m->nr;

	if (!r)
		return;
	r->err = err > 0 || err < -4095 ? -EPROTO : err;
	snprintf(r->text, sizeof(r->text), "%.*s", (int)sizeof(r->text) - 1,
		 *m->text ? m->text : strerror(-r->err));
	/* The counters that it is about are the fold thread's. */
	keeper_request_ask(c, &(struct keeper_request){
		.request = { .serve = served, .finish = probe_request_served }, .id = r->id,
	});
}

/* --- sending ---------------------------------------------------------------------------------- */

/* Sends it to the keeper; the client waits. */
static void probe_request_send(struct control *c, struct connection *conn,
		       const struct wire_probe_change *m, const struct wire_probe *record,
		       uint32_t probe, struct link_msg *msg)
{
	struct probe_request *r = NULL;
	int err;

	for (uint32_t i = 0; i < PROBE_REQUESTS_MAX && !r; i++)
		r = c->probe_requests.list[i].id ? NULL : &c->probe_requests.list[i];
	msg->id = c->probe_requests.last_id + 1;
	err = r ? link_send(c->start->link_fd, msg, NULL, 0) : -EAGAIN;
	if (err && err != -EPIPE) {
		connection_deny(c, conn, m->head.number, err, "talead has more requests about probes "
			    "under way than it takes at a time. fix: try again");
		return;
	}
	/* Without a keeper there will be another worker in a moment, and the client asks that one. */
	*r = (struct probe_request){
		.id = ++c->probe_requests.last_id, .conn = conn, .number = m->head.number,
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

/* Is the counter's name free, or that of a probe that counted by the same keys? Otherwise why. */
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

static void spec_record(const struct probe_spec *spec, struct wire_probe *p)
{
	struct probe_live live = { .spec = *spec, .origin = PROBE_OF_COMMAND };

	query_live(&live, p);
	p->keys_max = spec->keys_nr ? spec->keys_max : 0;
}

static void receive_attach(struct control *c, struct connection *conn,
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
	spec_record(&msg.spec, &record);
	if (m->is_checked_only) {
		answer_record(c, conn, m->head.number, &record);
		return;
	}
	probe_request_send(c, conn, m, &record, PROBES_MAX, &msg);
}

static void receive_named(struct control *c, struct connection *conn,
		       const struct wire_probe_change *m, const char *name)
{
	bool is_detach = m->op == WIRE_PROBE_DETACH;
	struct link_msg msg = { .kind = is_detach ? LINK_DETACH : LINK_REPLACE };
	uint32_t id = probe_place(c, name);
	struct wire_probe record;

	if (id == PROBES_MAX) {
		connection_deny(c, conn, m->head.number, -ENOENT, "there is no probe %s. see: talea "
			    "probes", name);
		return;
	}
	query_probe(c, id, &record);
	snprintf(msg.text, sizeof(msg.text), "%s", name);
	probe_request_send(c, conn, m, &record, id, &msg);
}

void probe_request_receive(struct control *c, struct connection *conn,
			   const struct wire_probe_change *m)
{
	struct link_msg cost = { .kind = LINK_COST, .nr = m->ms };
	struct wire_probe none = { .name = "" };
	char text[WIRE_TEXT_MAX];

	memcpy(text, m->text, m->bytes);
	text[m->bytes] = '\0';
	switch (m->op) {
	case WIRE_PROBE_ATTACH:
		receive_attach(c, conn, m, text);
		break;
	case WIRE_PROBE_COST:
		probe_request_send(c, conn, m, &none, PROBES_MAX, &cost);
		break;
	default:
		receive_named(c, conn, m, text);
	}
}

/* See client.h. */
#define _GNU_SOURCE
#include "daemon/worker/control/client.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/worker/control/control.h"
#include "daemon/worker/control/message.h"

#define MESSAGES_AT_ONCE 4

static struct wire_head head_of(uint16_t kind, uint32_t number, size_t length)
{
	return (struct wire_head){ WIRE_MAGIC, WIRE_VERSION, kind, number, (uint32_t)length };
}

void client_send(struct control *c, struct client *client, const void *msg, const int *fds,
			unsigned int fds_nr)
{
	/* A client that does not read its answers gets no more of them. */
	if (wire_send(client->fd, msg, fds, fds_nr, MSG_DONTWAIT))
		control_end(c, client);
}

static void client_error(struct control *c, struct client *client, uint32_t number, int err,
			 const char *fmt, va_list args)
{
	struct wire_error e = { .err = err };
	size_t bytes;

	vsnprintf(e.text, sizeof(e.text), fmt, args);
	e.text_bytes = (uint32_t)strlen(e.text) + 1;
	bytes = offsetof(struct wire_error, text) + e.text_bytes;
	e.head = head_of(WIRE_ERROR, number, bytes);
	client_send(c, client, &e, NULL, 0);
}

void client_deny(struct control *c, struct client *client, uint32_t number, int err, const char *fmt,
		 ...)
{
	va_list args;

	va_start(args, fmt);
	client_error(c, client, number, err, fmt, args);
	va_end(args);
}

void client_refuse(struct control *c, struct client *client, uint32_t number, int err,
		   const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	client_error(c, client, number, err, fmt, args);
	va_end(args);
	control_end(c, client);
}

void client_resume(struct control *c, struct client *client)
{
	struct wire_resume m = {
		.head = head_of(WIRE_RESUME, 0, sizeof(m)),
		.incarnation = c->start->incarnation,
	};

	client_send(c, client, &m, NULL, 0);
}

/* --- HELLO ------------------------------------------------------------------------------------ */

static void welcome(struct control *c, struct client *client, const struct wire_hello *hello)
{
	const struct space *space = client->space;
	struct wire_welcome m = {
		.head = head_of(WIRE_WELCOME, hello->head.number, sizeof(m)),
		.abi = SHM_ABI, .access = client->access, .fingerprint = shm_fingerprint(),
		.incarnation = c->start->incarnation, .fds_nr = REGION_PARTS,
	};
	int fds[REGION_PARTS] = {
		space->fds.ro[REGION_D],
		client->access & WIRE_WRITE ? space->fds.rw[REGION_S] : space->fds.ro[REGION_S],
		space->fds.ro[REGION_T],
	};

	memcpy(m.region_id, space->d->region_id, sizeof(m.region_id));
	if (hello->has_fds && !memcmp(hello->region_id, m.region_id, sizeof(m.region_id)))
		m.fds_nr = 0;
	client_send(c, client, &m, fds, m.fds_nr);
}

/* Which namespace this HELLO may have; 0, or -errno with the sentence. */
static int hello_check(struct control *c, struct client *client, const struct wire_hello *m,
		       struct space **ret_space, struct access_peer *ret_peer, char *why,
		       size_t why_size)
{
	const struct config *config = registry_config(c->registry);
	const struct config_namespace *ns;
	struct space *space;

	if (m->abi != SHM_ABI || m->fingerprint != shm_fingerprint()) {
		snprintf(why, why_size, "libtalea has ABI %u with layout %016llx, talead has ABI %u "
			 "with layout %016llx. fix: install library and daemon of one version",
			 m->abi, (unsigned long long)m->fingerprint, SHM_ABI,
			 (unsigned long long)shm_fingerprint());
		return -EPROTONOSUPPORT;
	}
	ns = config_namespace_find(config, m->name_space);
	space = control_space(c, m->name_space);
	if (!ns || !space) {
		snprintf(why, why_size, "there is no namespace %s. fix: add a section [namespace %s] "
			 "to %s", m->name_space, m->name_space, config->file);
		return -ENOENT;
	}
	*ret_space = space;
	return access_check(client->fd, config, ns, m->access, ret_peer, why, why_size);
}

static void take_hello(struct control *c, struct client *client, const struct wire_hello *m)
{
	char why[WIRE_TEXT_MAX];
	struct access_peer peer;
	struct space *space;
	int err;

	registry_read_begin();
	err = hello_check(c, client, m, &space, &peer, why, sizeof(why));
	registry_read_end();
	if (err) {
		client_refuse(c, client, m->head.number, err, "%s", why);
		return;
	}
	client->space = space;
	client->peer = peer;
	client->access = m->access;
	memcpy(client->app, m->app, sizeof(client->app));
	client->state = CLIENT_GREETED;
	welcome(c, client, m);
}

/* --- REGISTER, CHANGE and QUERY ---------------------------------------------------------------- */

/* One request a client: it is not read from until this one is answered. */
static void ask_fold(struct control *c, struct client *client, struct request *r)
{
	client->is_asking = true;
	control_pause(c, client, true);
	fold_ask(c->fold, r);
}

static void request_begin(const struct client *client, struct request *r, enum request_kind kind)
{
	r->kind = kind;
	r->err = 0;
	r->client = (struct client *)client;
	r->space = client->space;
	r->uid = client->peer.uid;
}

/* Returns whether the request is now with the fold thread, as the next two. */
static bool take_register(struct control *c, struct client *client, struct request *r)
{
	uint32_t missing;

	if (!(client->access & WIRE_WRITE)) {
		client_deny(c, client, r->message->number, -EACCES, "this connection is read-only: "
			    "it cannot register counters");
		return false;
	}
	request_begin(client, r, REQUEST_REGISTER);
	client->registered_nr += ((const struct wire_register *)r->message)->nr;
	registry_read_begin();
	missing = message_look(r);
	registry_read_end();
	if (!missing) {
		client_send(c, client, r->reply, NULL, 0);
		return false;
	}
	ask_fold(c, client, r);
	return true;
}

/* What only admins may do; the others are told why. */
static bool is_allowed(struct control *c, struct client *client, uint32_t number, const char *what)
{
	char file[CONFIG_PATH_MAX];
	bool is_admin;

	registry_read_begin();
	is_admin = config_is_admin(registry_config(c->registry), client->peer.uid);
	memcpy(file, registry_config(c->registry)->file, sizeof(file));
	registry_read_end();
	if (!is_admin)
		client_deny(c, client, number, -EACCES, "uid %u may not change %s (only root, who "
			    "started talead, and its admins may). fix: in %s, section [daemon], "
			    "name %u in `admins =`, then SIGHUP to talead",
			    (unsigned int)client->peer.uid, what, file,
			    (unsigned int)client->peer.uid);
	return is_admin;
}

static bool take_change(struct control *c, struct client *client, struct request *r)
{
	if (!is_allowed(c, client, r->message->number, "counters"))
		return false;
	request_begin(client, r, REQUEST_CHANGE);
	ask_fold(c, client, r);
	return true;
}

void client_answer(struct control *c, struct client *client, const struct request *r)
{
	client->is_asking = false;
	if (client->state == CLIENT_ENDED)
		return;
	if (r->err)
		client_deny(c, client, r->message->number, r->err, "%s", r->words);
	else
		client_send(c, client, r->reply, NULL, 0);
	if (client->state != CLIENT_ENDED)
		control_pause(c, client, false);
}

static bool take_query(struct control *c, struct client *client, struct request *r)
{
	const struct wire_query *q = (const struct wire_query *)r->message;
	int err;

	/* What only the fold thread knows. */
	if (q->what == WIRE_EXPLAIN || q->what == WIRE_LANES) {
		request_begin(client, r, REQUEST_QUERY);
		ask_fold(c, client, r);
		return true;
	}
	err = answer_query(c, client, q, r->answer);
	if (err)
		client_deny(c, client, q->head.number, err, "question %u is not known to this "
			    "version", q->what);
	else
		client_send(c, client, r->answer, NULL, 0);
	return false;
}

/* --- receiving -------------------------------------------------------------------------------- */

static const char *complaint(int err)
{
	switch (err) {
	case -EMSGSIZE:
		return "a message has a wrong length";
	case -EPROTONOSUPPORT:
		return "a message is of another version of the protocol";
	default:
		return "a message is not of the protocol";
	}
}

/* Returns whether the request was handed to the fold thread. */
static bool take_message(struct control *c, struct client *client, struct request *r)
{
	const struct wire_head *head = r->message;

	if (head->kind == WIRE_HELLO) {
		take_hello(c, client, (const struct wire_hello *)head);
	} else if (client->state == CLIENT_INHERITED) {
		/* Meant for the former worker: the client repeats it after its HELLO. */
	} else if (head->kind >= WIRE_RING && head->kind <= WIRE_KIND_RESERVED_LAST) {
		client_deny(c, client, head->number, -EOPNOTSUPP, "request kind %u belongs to a "
			    "later version of talead", head->kind);
	} else if (client->state != CLIENT_GREETED) {
		client_refuse(c, client, head->number, -EPROTO, "the first message must be HELLO");
	} else if (head->kind == WIRE_REGISTER) {
		return take_register(c, client, r);
	} else if (head->kind == WIRE_QUERY) {
		return take_query(c, client, r);
	} else if (head->kind == WIRE_CHANGE) {
		return take_change(c, client, r);
	} else if (head->kind == WIRE_PROBE) {
		if (is_allowed(c, client, head->number, "probes"))
			order_take(c, client, (const struct wire_probe_change *)head);
	} else {
		client_refuse(c, client, head->number, -EPROTO, "message kind %u is not a client's",
			      head->kind);
	}
	return false;
}

void client_receive(struct control *c, struct client *client)
{
	for (int i = 0; i < MESSAGES_AT_ONCE && !client->is_paused; i++) {
		struct request *r = control_request(c);
		ssize_t got;
		int err;

		if (!r) {
			c->is_any_starved = true;
			control_pause(c, client, true);
			return;
		}
		/* No fd is ever taken from a client. */
		got = wire_recv(client->fd, r->message, WIRE_MAX, NULL, 0, NULL,
				MSG_DONTWAIT);
		err = got <= 0 ? (int)got : wire_admin_check(r->message, (size_t)got);
		if (got == 0 || (got < 0 && got != -EAGAIN && got != -EMSGSIZE))
			control_end(c, client);
		else if (err && err != -EAGAIN)
			client_refuse(c, client, 0, err, "%s", complaint(err));
		else if (!err && take_message(c, client, r))
			return;
		control_request_put(c, r);
		if (err || client->state == CLIENT_ENDED)
			return;
	}
}

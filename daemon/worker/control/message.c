/* See message.h. */
#define _GNU_SOURCE
#include "daemon/worker/control/message.h"

#include <errno.h>
#include <string.h>

#include "daemon/worker/control/control.h"
#include "daemon/worker/space/view.h"
#include "daemon/worker/control/query.h"
#include "daemon/worker/control/serve.h"
#include "shm/base/why.h"

/* --- HELLO ------------------------------------------------------------------------------------ */

static void hello_welcome(struct control *c, struct connection *conn,
			  const struct wire_hello *hello)
{
	const struct space_view *v = space_view(conn->space);
	struct wire_welcome m = {
		.head = wire_head_of(WIRE_WELCOME, hello->head.number, sizeof(m)),
		.abi = SHM_ABI, .access = conn->access, .fingerprint = shm_fingerprint(),
		.incarnation = c->start->incarnation, .fds_nr = REGION_PARTS,
	};
	int fds[REGION_PARTS] = {
		v->fds.ro[REGION_D],
		conn->access & WIRE_WRITE ? v->fds.rw[REGION_S] : v->fds.ro[REGION_S],
		v->fds.ro[REGION_T],
	};

	memcpy(m.region_id, v->d->region_id, sizeof(m.region_id));
	if (hello->has_fds && !memcmp(hello->region_id, m.region_id, sizeof(m.region_id)))
		m.fds_nr = 0;
	connection_send(c, conn, &m, fds, m.fds_nr);
}

/* Which namespace this HELLO may have: 0, or -errno with why. */
static int hello_check(struct control *c, struct connection *conn, const struct wire_hello *m,
		       struct space **ret_space, struct access_peer *ret_peer, struct why *why)
{
	const struct config *config = registry_config(c->registry);
	const struct config_namespace *ns;
	struct space *space;

	if (m->abi != SHM_ABI || m->fingerprint != shm_fingerprint()) {
		why_set(why, 0, "libtalea has ABI %u with layout %016llx, talead has ABI %u with "
			"layout %016llx", m->abi, (unsigned long long)m->fingerprint, SHM_ABI,
			(unsigned long long)shm_fingerprint());
		why_fix(why, "install library and daemon of one version");
		return -EPROTONOSUPPORT;
	}
	ns = config_namespace_find(config, m->name_space);
	space = control_space(c, m->name_space);
	if (!ns || !space) {
		why_set(why, 0, "there is no namespace %s", m->name_space);
		why_fix(why, "add a section [namespace %s] to %s", m->name_space, config->file);
		return -ENOENT;
	}
	*ret_space = space;
	return access_check(conn->fd, config, ns, m->access, ret_peer, why);
}

static void message_hello(struct control *c, struct connection *conn, const struct wire_hello *m)
{
	struct access_peer peer;
	char text[WIRE_TEXT_MAX];
	struct why why;
	struct space *space;
	int err;

	registry_read_begin();
	err = hello_check(c, conn, m, &space, &peer, &why);
	registry_read_end();
	if (err) {
		connection_refuse(c, conn, m->head.number, err, "%s",
				  why_text(&why, text, sizeof(text)));
		return;
	}
	conn->space = space;
	conn->peer = peer;
	conn->access = m->access;
	memcpy(conn->app, m->app, sizeof(conn->app));
	conn->state = CONNECTION_GREETED;
	hello_welcome(c, conn, m);
}

/* --- REGISTER, CHANGE and QUERY ---------------------------------------------------------------- */

static void request_finish(struct control *c, struct request *request)
{
	struct client_request *r = (struct client_request *)request;
	struct connection *conn = r->connection;

	connection_release(c, conn);
	if (conn->state != CONNECTION_ENDED && r->err)
		connection_deny(c, conn, r->message->number, r->err, "%s", r->text);
	else if (conn->state != CONNECTION_ENDED)
		connection_send(c, conn, r->reply, NULL, 0);
	client_request_put(&c->requests, r);
}

static void request_begin(struct connection *conn, struct client_request *r, request_serve *serve)
{
	r->request.serve = serve;
	r->request.finish = request_finish;
	r->err = 0;
	r->connection = conn;
	r->space = conn->space;
	r->uid = conn->peer.uid;
}

/* A connection has one request at a time: control does not read from it until this one is
 * answered. */
static void request_ask(struct control *c, struct connection *conn, struct client_request *r)
{
	connection_hold(c, conn);
	fold_ask(c->fold, &r->request);
}

/* As message_take, and so the next two. */
static bool message_register(struct control *c, struct connection *conn, struct client_request *r)
{
	uint32_t missing;

	if (!(conn->access & WIRE_WRITE)) {
		connection_deny(c, conn, r->message->number, -EACCES, "this connection is read-only: "
			    "it cannot register counters");
		return false;
	}
	request_begin(conn, r, serve_register);
	conn->registered_nr += ((const struct wire_register *)r->message)->nr;
	registry_read_begin();
	missing = serve_begin(r);
	registry_read_end();
	if (!missing) {
		connection_send(c, conn, r->reply, NULL, 0);
		return false;
	}
	request_ask(c, conn, r);
	return true;
}

/* May this client do what only admins may? Sends the others an error. */
static bool message_is_allowed(struct control *c, struct connection *conn, uint32_t number,
			       const char *what)
{
	char file[CONFIG_PATH_MAX];
	bool is_admin;

	registry_read_begin();
	is_admin = config_is_admin(registry_config(c->registry), conn->peer.uid);
	memcpy(file, registry_config(c->registry)->file, sizeof(file));
	registry_read_end();
	if (!is_admin)
		connection_deny(c, conn, number, -EACCES, "uid %u may not change %s (only root, who "
			    "started talead, and its admins may). fix: in %s, section [daemon], "
			    "name %u in `admins =`, then SIGHUP to talead",
			    (unsigned int)conn->peer.uid, what, file,
			    (unsigned int)conn->peer.uid);
	return is_admin;
}

static bool message_change(struct control *c, struct connection *conn, struct client_request *r)
{
	if (!message_is_allowed(c, conn, r->message->number, "counters"))
		return false;
	request_begin(conn, r, serve_change);
	request_ask(c, conn, r);
	return true;
}

static bool message_query(struct control *c, struct connection *conn, struct client_request *r)
{
	const struct wire_query *q = (const struct wire_query *)r->message;
	int err;

	/* The fold thread alone knows these. */
	if (q->what == WIRE_EXPLAIN || q->what == WIRE_LANES) {
		request_begin(conn, r, serve_query);
		request_ask(c, conn, r);
		return true;
	}
	err = query_answer(c, conn, q, r->answer);
	if (err)
		connection_deny(c, conn, q->head.number, err, "question %u is not known to this "
			    "version", q->what);
	else
		connection_send(c, conn, r->answer, NULL, 0);
	return false;
}

bool message_take(struct control *c, struct connection *conn, struct client_request *r)
{
	const struct wire_head *head = r->message;

	if (head->kind == WIRE_HELLO) {
		message_hello(c, conn, (const struct wire_hello *)head);
	} else if (conn->state == CONNECTION_INHERITED) {
		/* Meant for the former worker: the client repeats it after its HELLO. */
	} else if (head->kind >= WIRE_RING && head->kind <= WIRE_KIND_RESERVED_LAST) {
		connection_deny(c, conn, head->number, -EOPNOTSUPP, "request kind %u belongs to a "
			    "later version of talead", head->kind);
	} else if (conn->state != CONNECTION_GREETED) {
		connection_refuse(c, conn, head->number, -EPROTO, "the first message must be HELLO");
	} else if (head->kind == WIRE_REGISTER) {
		return message_register(c, conn, r);
	} else if (head->kind == WIRE_QUERY) {
		return message_query(c, conn, r);
	} else if (head->kind == WIRE_CHANGE) {
		return message_change(c, conn, r);
	} else if (head->kind == WIRE_PROBE) {
		if (message_is_allowed(c, conn, head->number, "probes"))
			probe_request_receive(c, conn, (const struct wire_probe_change *)head);
	} else {
		connection_refuse(c, conn, head->number, -EPROTO, "message kind %u is not a client's",
			      head->kind);
	}
	return false;
}

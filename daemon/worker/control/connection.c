/* See connection.h. */
#define _GNU_SOURCE
#include "daemon/worker/control/connection.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/worker/control/control.h"
#include "daemon/worker/control/message.h"
#include "shm/base/clock.h"

#define MESSAGES_AT_ONCE 4
#define HELLO_NS (10 * NS_PER_S)

/* --- life ------------------------------------------------------------------------------------- */

static void connection_pause(struct control *c, struct connection *conn, bool is_paused)
{
	struct epoll_event e = { .events = is_paused ? 0 : EPOLLIN, .data.ptr = conn };

	conn->is_paused = is_paused;
	epoll_ctl(c->epoll, EPOLL_CTL_MOD, conn->fd, &e);
}

struct connection *connection_open(struct control *c, uint64_t id, int fd,
				   enum connection_state state)
{
	struct connection *conn = calloc(1, sizeof(*conn));
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = conn };

	if (!conn || c->connections.nr == LINK_CLIENTS_MAX ||
	    epoll_ctl(c->epoll, EPOLL_CTL_ADD, fd, &e)) {
		/* The keeper stops accepting at its own limit, which is the same. */
		shutdown(fd, SHUT_RDWR);
		close(fd);
		free(conn);
		return NULL;
	}
	conn->id = id;
	conn->fd = fd;
	conn->state = state;
	conn->since_real_ns = real_ns();
	conn->deadline_ns = mono_ns() + HELLO_NS;
	if (conn->deadline_ns < c->connections.overdue_ns)
		c->connections.overdue_ns = conn->deadline_ns;
	conn->idx = c->connections.nr;
	c->connections.list[c->connections.nr++] = conn;
	return conn;
}

void connection_end(struct control *c, struct connection *conn)
{
	if (conn->state == CONNECTION_ENDED)
		return;
	epoll_ctl(c->epoll, EPOLL_CTL_DEL, conn->fd, NULL);
	shutdown(conn->fd, SHUT_RDWR);
	close(conn->fd);
	conn->state = CONNECTION_ENDED;
	conn->is_paused = true;
	c->connections.list[conn->idx] = c->connections.list[--c->connections.nr];
	c->connections.list[conn->idx]->idx = conn->idx;
	conn->next_ended = c->connections.ended;
	c->connections.ended = conn;
}

void connection_hold(struct control *c, struct connection *conn)
{
	conn->is_asking = true;
	connection_pause(c, conn, true);
}

void connection_release(struct control *c, struct connection *conn)
{
	conn->is_asking = false;
	if (conn->state != CONNECTION_ENDED)
		connection_pause(c, conn, false);
}

void connections_free(struct control *c)
{
	struct connection **at = &c->connections.ended;

	while (*at) {
		struct connection *conn = *at;

		if (conn->is_asking) {
			at = &conn->next_ended;
			continue;
		}
		*at = conn->next_ended;
		free(conn);
	}
}

void connections_unpause(struct control *c)
{
	if (!c->connections.is_any_starved || !client_request_is_free(&c->requests))
		return;
	c->connections.is_any_starved = false;
	for (uint32_t i = 0; i < c->connections.nr; i++)
		if (c->connections.list[i]->is_paused && !c->connections.list[i]->is_asking)
			connection_pause(c, c->connections.list[i], false);
}

uint64_t connections_overdue(struct control *c)
{
	uint64_t next_ns = UINT64_MAX, now_ns = mono_ns();

	if (now_ns < c->connections.overdue_ns)
		return c->connections.overdue_ns;
	for (uint32_t i = c->connections.nr; i-- > 0;) {
		struct connection *conn = c->connections.list[i];

		if (conn->state != CONNECTION_NEW)
			continue;
		if (conn->deadline_ns <= now_ns)
			connection_refuse(c, conn, 0, -ETIMEDOUT, "no HELLO within 10 s");
		else if (conn->deadline_ns < next_ns)
			next_ns = conn->deadline_ns;
	}
	c->connections.overdue_ns = next_ns;
	return next_ns;
}

void connections_fini(struct control *c)
{
	for (uint32_t i = 0; i < c->connections.nr; i++) {
		close(c->connections.list[i]->fd);
		free(c->connections.list[i]);
	}
	c->connections.nr = 0;
	connections_free(c);
}

/* --- sending ---------------------------------------------------------------------------------- */

void connection_send(struct control *c, struct connection *conn, const void *msg, const int *fds,
		     unsigned int fds_nr)
{
	/* A client that does not read its answers gets no more of them: its connection ends. */
	if (wire_send(conn->fd, msg, fds, fds_nr, MSG_DONTWAIT))
		connection_end(c, conn);
}

static void connection_error(struct control *c, struct connection *conn, uint32_t number, int err,
			     const char *fmt, va_list args)
{
	struct wire_error e = { .err = err };
	size_t bytes;

	vsnprintf(e.text, sizeof(e.text), fmt, args);
	e.text_bytes = (uint32_t)strlen(e.text) + 1;
	bytes = offsetof(struct wire_error, text) + e.text_bytes;
	e.head = wire_head_of(WIRE_ERROR, number, bytes);
	connection_send(c, conn, &e, NULL, 0);
}

void connection_deny(struct control *c, struct connection *conn, uint32_t number, int err,
		     const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	connection_error(c, conn, number, err, fmt, args);
	va_end(args);
}

void connection_refuse(struct control *c, struct connection *conn, uint32_t number, int err,
		       const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	connection_error(c, conn, number, err, fmt, args);
	va_end(args);
	connection_end(c, conn);
}

void connection_resume(struct control *c, struct connection *conn)
{
	struct wire_resume m = {
		.head = wire_head_of(WIRE_RESUME, 0, sizeof(m)),
		.incarnation = c->start->incarnation,
	};

	connection_send(c, conn, &m, NULL, 0);
}

/* --- receiving -------------------------------------------------------------------------------- */

static const char *receive_error_text(int err)
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

void connection_receive(struct control *c, struct connection *conn)
{
	for (int i = 0; i < MESSAGES_AT_ONCE && !conn->is_paused; i++) {
		struct client_request *r = client_request_get(&c->requests);
		ssize_t got;
		int err;

		if (!r) {
			c->connections.is_any_starved = true;
			connection_pause(c, conn, true);
			return;
		}
		/* The worker takes no fd from a client. */
		got = wire_recv(conn->fd, r->message, WIRE_MAX, NULL, 0, NULL, MSG_DONTWAIT);
		err = got <= 0 ? (int)got : wire_admin_check(r->message, (size_t)got);
		if (got == 0 || (got < 0 && got != -EAGAIN && got != -EMSGSIZE))
			connection_end(c, conn);
		else if (err && err != -EAGAIN)
			connection_refuse(c, conn, 0, err, "%s", receive_error_text(err));
		else if (!err && message_take(c, conn, r))
			return;
		client_request_put(&c->requests, r);
		if (err || conn->state == CONNECTION_ENDED)
			return;
	}
}

/*
 * The client sockets: accepted here, never read here, handed first to the spare and, when it has
 * said that it holds them, to the worker. Dropped when the connection has ended, which the worker
 * brings about with shutdown() and the client by going away.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/keeper/keeper.h"
#include "daemon/link/log.h"
#include "wire.h"

#define RETRY_NS 10000000ull	/* a full link, a full memory: both pass */
#define ACCEPT_BATCH 64	/* then the rest of the loop has its turn */

void clients_init(struct keeper *k)
{
	TAILQ_INIT(&k->free);
	TAILQ_INIT(&k->pending);
	TAILQ_INIT(&k->served);
	for (uint32_t i = 0; i < LINK_CLIENTS_MAX; i++) {
		k->clients[i].fd = -1;
		TAILQ_INSERT_TAIL(&k->free, &k->clients[i], entry);
	}
}

/* An index finds the entry, the id says whether it is still the same client's. */
uint64_t client_data(const struct keeper *k, const struct client *c)
{
	return EVENT_CLIENT | (uint64_t)(c - k->clients) << 8 | c->id << 32;
}

static struct client_list *list_of(struct keeper *k, const struct client *c)
{
	return c->at == CLIENT_SERVED ? &k->served : &k->pending;
}

int client_add(struct keeper *k, uint64_t id, int fd, enum client_at at)
{
	struct client *c = TAILQ_FIRST(&k->free);
	int err;

	if (!c)
		return -ENOSPC;
	c->id = id;
	c->fd = fd;
	c->at = at;
	/* No event but the one that cannot be masked: EPOLLHUP, the end of both directions. */
	err = keeper_watch(k, fd, 0, client_data(k, c));
	if (err) {
		c->fd = -1;
		return err;
	}
	TAILQ_REMOVE(&k->free, c, entry);
	TAILQ_INSERT_TAIL(list_of(k, c), c, entry);
	if (id > k->client_id)
		k->client_id = id;
	k->clients_nr++;
	return 0;
}

void client_hangup(struct keeper *k, uint64_t data)
{
	struct client *c = &k->clients[data >> 8 & 0xffffff];

	if (c->fd < 0 || client_data(k, c) != data)
		return;
	/* Others hold the same socket: only an explicit removal ends the watching. */
	keeper_unwatch(k, c->fd);
	close(c->fd);
	c->fd = -1;
	TAILQ_REMOVE(list_of(k, c), c, entry);
	TAILQ_INSERT_HEAD(&k->free, c, entry);
	k->clients_nr--;
}

static void client_settle(struct keeper *k, struct client *c)
{
	TAILQ_REMOVE(&k->pending, c, entry);
	c->at = CLIENT_SERVED;
	TAILQ_INSERT_TAIL(&k->served, c, entry);
}

/* --- accepting ------------------------------------------------------------------------------- */

/* Words for one that cannot be served, and the end of its connection. */
static void refuse(int fd)
{
	static const char text[] = "talead serves as many clients as it can. fix: fewer processes, or "
				   "a higher limit of open files (ulimit -n) for talead";
	struct wire_error msg = {
		.head = { .magic = WIRE_MAGIC, .version = WIRE_VERSION, .kind = WIRE_ERROR,
			  .length = offsetof(struct wire_error, text) + sizeof(text) },
		.err = -EMFILE,
		.text_bytes = sizeof(text),
	};

	memcpy(msg.text, text, sizeof(text));
	(void)!send(fd, &msg, msg.head.length, MSG_DONTWAIT | MSG_NOSIGNAL);
	close(fd);
}

/*
 * The fd table is full. Left alone, the waiting client would wake the loop for ever; so the reserve
 * is given up for it, it is refused, and the reserve taken back.
 */
static bool refuse_with_reserve(struct keeper *k)
{
	int fd = -1;

	if (k->reserve_fd >= 0) {
		close(k->reserve_fd);
		fd = accept4(k->listen_fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0)
			refuse(fd);
		k->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	}
	return fd >= 0;
}

static void listen_later(struct keeper *k)
{
	keeper_unwatch(k, k->listen_fd);
	k->listen_ns = now_ns() + 10 * RETRY_NS;
}

static void accept_failed(struct keeper *k, int err)
{
	static struct log_limit limit;

	if (err == EAGAIN || err == EINTR || err == ECONNABORTED)
		return;
	if ((err == EMFILE || err == ENFILE) && refuse_with_reserve(k)) {
		log_limited(&limit, "a client was refused: no file descriptor is left. fix: a higher "
				    "limit of open files (ulimit -n)");
		return;
	}
	log_limited(&limit, "no client can be accepted: %s", strerror(err));
	listen_later(k);
}

void clients_accept(struct keeper *k)
{
	static struct log_limit limit;

	for (int i = 0; i < ACCEPT_BATCH; i++) {
		int fd = accept4(k->listen_fd, NULL, NULL, SOCK_CLOEXEC);
		int err;

		if (fd < 0) {
			accept_failed(k, errno);
			return;
		}
		err = k->clients_nr < k->clients_max
			      ? client_add(k, k->client_id + 1, fd, CLIENT_NEW) : -ENOSPC;
		if (!err)
			continue;
		refuse(fd);
		log_limited(&limit, "a client was refused: %u are connected%s%s", k->clients_nr,
			    err == -ENOSPC ? "" : ", and ", err == -ENOSPC ? "" : strerror(-err));
	}
}

/* --- handing over ---------------------------------------------------------------------------- */

void clients_held(struct keeper *k, uint64_t id)
{
	struct client *c;

	TAILQ_FOREACH(c, &k->pending, entry)
		if (c->id == id && c->at == CLIENT_SENT) {
			c->at = CLIENT_HELD;
			return;
		}
}

void clients_all_held(struct keeper *k)
{
	struct client *c;

	TAILQ_FOREACH(c, &k->pending, entry)
		c->at = CLIENT_HELD;
}

void clients_all_served(struct keeper *k)
{
	struct client *c, *next;

	for (c = TAILQ_FIRST(&k->pending); c; c = next) {
		next = TAILQ_NEXT(c, entry);
		if (c->at == CLIENT_HELD)
			client_settle(k, c);
	}
}

static int client_send(int link, const struct client *c)
{
	struct link_msg msg = { .kind = LINK_CLIENT, .id = c->id };

	return link < 0 ? -EPIPE : link_send(link, &msg, &c->fd, 1);
}

/* A link whose other end is gone is left alone: that child's death brings a successor that is born
 * with all clients. */
void clients_push(struct keeper *k)
{
	struct client *c, *next;
	int spare_err = 0, worker_err = 0;

	k->push_ns = NEVER;
	for (c = TAILQ_FIRST(&k->pending); c; c = next) {
		next = TAILQ_NEXT(c, entry);
		if (c->at < CLIENT_HELD && !k->spare.pid)
			c->at = CLIENT_HELD;
		if (c->at == CLIENT_NEW && !spare_err) {
			spare_err = client_send(k->spare.link, c);
			if (!spare_err)
				c->at = CLIENT_SENT;
		}
		if (c->at == CLIENT_HELD && !worker_err) {
			worker_err = client_send(k->worker.link, c);
			if (!worker_err)
				client_settle(k, c);
		}
		if (spare_err && worker_err)
			break;
	}
	if (spare_err == -EAGAIN || worker_err == -EAGAIN)
		k->push_ns = now_ns() + RETRY_NS;
}

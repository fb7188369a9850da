/* See clients.h. */
#define _GNU_SOURCE
#include "daemon/keeper/clients.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/link/log.h"
#include "shm/base/clock.h"
#include "wire.h"

#define RETRY_NS (10 * NS_PER_MS) /* a full link, a full memory: both pass */
#define ACCEPT_BATCH 64 /* then the rest of the loop has its turn */

void clients_init(struct clients *c, struct loop *loop, uint32_t max)
{
	c->loop = loop;
	c->nr = 0;
	c->max = max;
	c->last_id = 0;
	loop_timer_add(loop, &c->push, NULL, NULL);
	TAILQ_INIT(&c->free);
	TAILQ_INIT(&c->pending);
	TAILQ_INIT(&c->served);
	for (uint32_t i = 0; i < LINK_CLIENTS_MAX; i++) {
		c->all[i].fd = -1;
		TAILQ_INSERT_TAIL(&c->free, &c->all[i], entry);
	}
}

static struct held_list *clients_list(struct clients *c, const struct held_client *h)
{
	return h->step == HELD_SERVED ? &c->served : &c->pending;
}

static void clients_hangup(void *owner, struct loop_watch *w)
{
	struct clients *c = owner;
	struct held_client *h = (struct held_client *)w;

	loop_watch_remove(c->loop, w, h->fd);
	close(h->fd);
	h->fd = -1;
	TAILQ_REMOVE(clients_list(c, h), h, entry);
	TAILQ_INSERT_HEAD(&c->free, h, entry);
	c->nr--;
}

/* No event but the one that cannot be masked: EPOLLHUP, the end of both directions. */
static int held_watch(struct clients *c, struct held_client *h)
{
	h->watch = (struct loop_watch){ clients_hangup, c };
	return loop_watch_add(c->loop, &h->watch, h->fd, 0);
}

int clients_watch(struct clients *c)
{
	struct held_list *lists[] = { &c->served, &c->pending };
	struct held_client *h;
	int err;

	for (unsigned int i = 0; i < 2; i++)
		TAILQ_FOREACH(h, lists[i], entry) {
			err = held_watch(c, h);
			if (err)
				return err;
		}
	return 0;
}

int clients_add(struct clients *c, uint64_t id, int fd, enum held_step step)
{
	struct held_client *h = TAILQ_FIRST(&c->free);
	int err;

	if (!h)
		return -ENOSPC;
	h->id = id;
	h->fd = fd;
	h->step = step;
	err = held_watch(c, h);
	if (err) {
		h->fd = -1;
		return err;
	}
	TAILQ_REMOVE(&c->free, h, entry);
	TAILQ_INSERT_TAIL(clients_list(c, h), h, entry);
	if (id > c->last_id)
		c->last_id = id;
	c->nr++;
	return 0;
}

/* --- accepting ------------------------------------------------------------------------------- */

/* Sends the reason to a client that cannot be served, and ends its connection. */
static void clients_refuse(int fd)
{
	static const char text[] = "talead holds as many clients as it can. fix: end some clients, or "
				   "start talead with a higher limit of open files (ulimit -n)";
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
 * The fd table is full. The waiting client would wake the loop again and again; so the listener
 * gives up its reserve, the client is refused, and the listener takes the reserve back.
 */
static bool clients_refuse_with_reserve(struct listener *l)
{
	int fd = -1;

	if (l->reserve_fd >= 0) {
		close(l->reserve_fd);
		fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0)
			clients_refuse(fd);
		l->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	}
	return fd >= 0;
}

static void clients_accept_failed(struct listener *l, int err)
{
	static struct log_limit limit;

	if (err == EAGAIN || err == EINTR || err == ECONNABORTED)
		return;
	if ((err == EMFILE || err == ENFILE) && clients_refuse_with_reserve(l)) {
		log_limited(&limit, "the keeper refused a client: no file descriptor is left. fix: "
				    "start talead with a higher limit of open files (ulimit -n)");
		return;
	}
	log_limited(&limit, "the keeper cannot accept clients: %s. it tries again in 0.1 s",
		    strerror(err));
	listener_pause(l, 10 * RETRY_NS);
}

void clients_accept(struct clients *c, struct listener *l)
{
	static struct log_limit limit;

	for (int i = 0; i < ACCEPT_BATCH; i++) {
		int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);
		int err;

		if (fd < 0) {
			clients_accept_failed(l, errno);
			return;
		}
		err = c->nr < c->max ? clients_add(c, c->last_id + 1, fd, HELD_NOT) : -ENOSPC;
		if (!err)
			continue;
		clients_refuse(fd);
		log_limited(&limit, "the keeper refused a client: %u are connected%s%s", c->nr,
			    err == -ENOSPC ? "" : ", and ", err == -ENOSPC ? "" : strerror(-err));
	}
}

/* --- handing over ---------------------------------------------------------------------------- */

static void clients_set_served(struct clients *c, struct held_client *h)
{
	TAILQ_REMOVE(&c->pending, h, entry);
	h->step = HELD_SERVED;
	TAILQ_INSERT_TAIL(&c->served, h, entry);
}

void clients_acknowledged(struct clients *c, uint64_t id)
{
	struct held_client *h;

	TAILQ_FOREACH(h, &c->pending, entry)
		if (h->id == id && h->step == HELD_SENT) {
			h->step = HELD_TWICE;
			return;
		}
}

void clients_all_held(struct clients *c)
{
	struct held_client *h;

	TAILQ_FOREACH(h, &c->pending, entry)
		h->step = HELD_TWICE;
}

void clients_all_served(struct clients *c)
{
	struct held_client *h, *next;

	for (h = TAILQ_FIRST(&c->pending); h; h = next) {
		next = TAILQ_NEXT(h, entry);
		if (h->step == HELD_TWICE)
			clients_set_served(c, h);
	}
}

static int held_send(int link, const struct held_client *h)
{
	struct link_msg msg = { .kind = LINK_CLIENT, .id = h->id };

	return link < 0 ? -EPIPE : link_send(link, &msg, &h->fd, 1);
}

/* A link whose other end is gone is left alone: that child's death brings a successor that is born
 * with all clients. */
void clients_push(struct clients *c, const struct child *standby, const struct child *worker)
{
	struct held_client *h, *next;
	int standby_err = 0, worker_err = 0;

	loop_timer_set(&c->push, NEVER);
	for (h = TAILQ_FIRST(&c->pending); h; h = next) {
		next = TAILQ_NEXT(h, entry);
		if (h->step < HELD_TWICE && !standby->pid)
			h->step = HELD_TWICE;
		if (h->step == HELD_NOT && !standby_err) {
			standby_err = held_send(standby->link, h);
			if (!standby_err)
				h->step = HELD_SENT;
		}
		if (h->step == HELD_TWICE && !worker_err) {
			worker_err = held_send(worker->link, h);
			if (!worker_err)
				clients_set_served(c, h);
		}
		if (standby_err && worker_err)
			break;
	}
	if (standby_err == -EAGAIN || worker_err == -EAGAIN)
		loop_timer_after(&c->push, RETRY_NS);
}

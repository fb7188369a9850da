/* See control.h. */
#define _GNU_SOURCE
#include "daemon/worker/control/control.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "daemon/link/log.h"
#include "daemon/worker/control/keeper_message.h"
#include "daemon/worker/space/view.h"
#include "shm/base/clock.h"

#define ORPHAN_NS (5 * NS_PER_S)
#define EVENTS_MAX 64

struct space *control_space(const struct control *c, const char *name)
{
	for (uint32_t i = 0; i < c->spaces_nr; i++)
		if (strcmp(space_view(c->spaces[i])->name, name) == 0)
			return c->spaces[i];
	return NULL;
}

/* --- the loop --------------------------------------------------------------------------------- */

static void answers_take(struct control *c)
{
	struct request *r;
	eventfd_t nr;

	eventfd_read(fold_answered_event(c->fold), &nr);
	while ((r = fold_answered(c->fold)) != NULL)
		r->finish(c, r);
}

static int timeout_ms(struct control *c)
{
	uint64_t next_ns = connections_overdue(c), now_ns = mono_ns();

	if (c->orphaned_ns && c->orphaned_ns + ORPHAN_NS < next_ns)
		next_ns = c->orphaned_ns + ORPHAN_NS;
	if (next_ns == UINT64_MAX)
		return -1;
	return next_ns > now_ns ? (int)((next_ns - now_ns) / NS_PER_MS) + 1 : 0;
}

static void control_round(struct control *c)
{
	struct epoll_event events[EVENTS_MAX];
	int nr = epoll_wait(c->epoll, events, EVENTS_MAX, timeout_ms(c));

	for (int i = 0; i < nr; i++) {
		struct connection *conn = events[i].data.ptr;

		if (events[i].data.ptr == c)
			keeper_messages_take(c);
		else if (events[i].data.ptr == c->fold)
			answers_take(c);
		else if (conn->state == CONNECTION_ENDED || c->is_stopping)
			continue;
		else if (conn->is_paused) /* epoll was asked for no input: the client hung up */
			connection_end(c, conn);
		else
			connection_receive(c, conn);
	}
	connections_unpause(c);
	connections_free(c);
	registry_grow(c->registry, 0);
	if (c->orphaned_ns && mono_ns() >= c->orphaned_ns + ORPHAN_NS) {
		log_line("keeper and standby are gone and nobody took over: the worker ends");
		c->result = -EPIPE;
		c->is_over = true;
	}
}

static int control_watch(struct control *c, int fd, void *what)
{
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = what };

	return epoll_ctl(c->epoll, EPOLL_CTL_ADD, fd, &e) ? -errno : 0;
}

static int control_init(struct control *c)
{
	struct worker_start *ws = c->start;
	int err;

	c->worker_started_real_ns = real_ns();
	c->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (c->epoll < 0)
		return -errno;
	err = control_watch(c, ws->link_fd, c);
	if (!err)
		err = control_watch(c, fold_answered_event(c->fold), c->fold);
	if (err) {
		close(c->epoll);
		return err;
	}
	c->spaces_nr = fold_spaces(c->fold, c->spaces);
	for (uint32_t id = 0; id < PROBES_MAX; id++)
		c->probes[id].live = ws->probes[id];
	return 0;
}

static void control_fini(struct control *c)
{
	connections_fini(c);
	client_requests_fini(&c->requests);
	close(c->epoll);
}

int control_run(struct control *c, struct worker_start *ws, struct registry *registry,
		struct fold *fold)
{
	int err;

	*c = (struct control){
		.start = ws, .registry = registry, .fold = fold, .connections.overdue_ns = UINT64_MAX,
	};
	err = control_init(c);
	if (err)
		return err;
	for (uint32_t i = 0; i < ws->clients_nr; i++) {
		struct connection *conn = connection_open(c, ws->clients[i].id, ws->clients[i].fd,
							  CONNECTION_INHERITED);

		if (conn)
			connection_resume(c, conn);
	}
	connections_free(c);
	while (!c->is_over)
		control_round(c);
	control_fini(c);
	return c->result;
}

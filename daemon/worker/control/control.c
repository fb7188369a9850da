/* See control.h. */
#define _GNU_SOURCE
#include "daemon/worker/control/control.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "daemon/link/log.h"

#define SECOND_NS 1000000000ull
#define HELLO_NS  (10 * SECOND_NS)
#define ORPHAN_NS (5 * SECOND_NS)
#define EVENTS_MAX 64

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * SECOND_NS + (uint64_t)t.tv_nsec;
}

uint64_t control_now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

struct space *control_space(const struct control *c, const char *name)
{
	for (uint32_t i = 0; i < c->spaces_nr; i++)
		if (strcmp(c->spaces[i]->name, name) == 0)
			return c->spaces[i];
	return NULL;
}

/* --- requests --------------------------------------------------------------------------------- */

static void request_free(struct request *r)
{
	free(r->message);
	free(r->reply);
	free(r);
}

struct request *control_request(struct control *c)
{
	struct request *r;

	if (c->spare_nr)
		return c->spare[--c->spare_nr];
	if (c->requests_nr == CONTROL_REQUESTS_MAX)
		return NULL;
	r = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	r->message = malloc(WIRE_MAX);
	r->reply = malloc(WIRE_MAX);
	if (!r->message || !r->reply) {
		request_free(r);
		return NULL;
	}
	c->requests_nr++;
	return r;
}

void control_request_put(struct control *c, struct request *r)
{
	c->spare[c->spare_nr++] = r;
}

/* --- clients ---------------------------------------------------------------------------------- */

void control_pause(struct control *c, struct client *client, bool is_paused)
{
	struct epoll_event e = { .events = is_paused ? 0 : EPOLLIN, .data.ptr = client };

	client->is_paused = is_paused;
	epoll_ctl(c->epoll, EPOLL_CTL_MOD, client->fd, &e);
}

static struct client *client_add(struct control *c, uint64_t id, int fd, enum client_state state)
{
	struct client *client = calloc(1, sizeof(*client));
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = client };

	if (!client || c->clients_nr == LINK_CLIENTS_MAX ||
	    epoll_ctl(c->epoll, EPOLL_CTL_ADD, fd, &e)) {
		/* The keeper stops accepting at its own, same limit. */
		shutdown(fd, SHUT_RDWR);
		close(fd);
		free(client);
		return NULL;
	}
	client->id = id;
	client->fd = fd;
	client->state = state;
	client->since_real_ns = clock_ns(CLOCK_REALTIME);
	client->deadline_ns = control_now_ns() + HELLO_NS;
	if (client->deadline_ns < c->overdue_ns)
		c->overdue_ns = client->deadline_ns;
	client->idx = c->clients_nr;
	c->clients[c->clients_nr++] = client;
	return client;
}

void control_end(struct control *c, struct client *client)
{
	if (client->state == CLIENT_ENDED)
		return;
	epoll_ctl(c->epoll, EPOLL_CTL_DEL, client->fd, NULL);
	shutdown(client->fd, SHUT_RDWR);
	close(client->fd);
	client->state = CLIENT_ENDED;
	client->is_paused = true;
	c->clients[client->idx] = c->clients[--c->clients_nr];
	c->clients[client->idx]->idx = client->idx;
	client->next_ended = c->ended;
	c->ended = client;
}

/* Frees those that ended, now that no event of this round can name them. */
static void clients_free(struct control *c)
{
	struct client **at = &c->ended;

	while (*at) {
		struct client *client = *at;

		if (client->is_asking) {
			at = &client->next_ended;
			continue;
		}
		*at = client->next_ended;
		free(client);
	}
}

/* Reads again from those that waited for a request. */
static void clients_unpause(struct control *c)
{
	if (!c->is_any_starved || (!c->spare_nr && c->requests_nr == CONTROL_REQUESTS_MAX))
		return;
	c->is_any_starved = false;
	for (uint32_t i = 0; i < c->clients_nr; i++)
		if (c->clients[i]->is_paused && !c->clients[i]->is_asking)
			control_pause(c, c->clients[i], false);
}

/* Ends those that connected and said nothing; returns when to look again, UINT64_MAX for never. */
static uint64_t clients_overdue(struct control *c)
{
	uint64_t next_ns = UINT64_MAX, now_ns = control_now_ns();

	if (now_ns < c->overdue_ns)
		return c->overdue_ns;
	for (uint32_t i = c->clients_nr; i-- > 0;) {
		struct client *client = c->clients[i];

		if (client->state != CLIENT_NEW)
			continue;
		if (client->deadline_ns <= now_ns)
			client_refuse(c, client, 0, -ETIMEDOUT, "no HELLO within 10 s");
		else if (client->deadline_ns < next_ns)
			next_ns = client->deadline_ns;
	}
	c->overdue_ns = next_ns;
	return next_ns;
}

/* --- the link --------------------------------------------------------------------------------- */

void control_ask(struct control *c, const struct request *what)
{
	struct request *r = malloc(sizeof(*r));

	if (!r) {
		log_line("no memory to take over what the keeper sent");
		free(what->live);
		free(what->text);
		return;
	}
	*r = *what;
	fold_ask(c->fold, r);
}

static void link_config(struct control *c, const struct link_msg *m, const int *fds,
			unsigned int fds_nr)
{
	struct request what = { .kind = REQUEST_SPACE };
	struct config *config = malloc(sizeof(*config));
	int err = config ? link_unpack(fds[0], config, sizeof(*config)) : -ENOMEM;

	close(fds[0]);
	if (!err)
		err = registry_configure(c->registry, config);
	if (!err)
		c->start->config = *config;
	else
		log_line("the new configuration was not taken over: %s", strerror(-err));
	free(config);
	for (uint32_t i = 0; i < m->nr && 1 + (i + 1) * 2 * REGION_PARTS <= fds_nr; i++) {
		const int *region = fds + 1 + i * 2 * REGION_PARTS;

		memcpy(what.region.name, m->names[i], sizeof(what.region.name));
		memcpy(what.region.rw, region, sizeof(what.region.rw));
		memcpy(what.region.ro, region + REGION_PARTS, sizeof(what.region.ro));
		control_ask(c, &what);
	}
	what.kind = REQUEST_CONFIGURE;
	control_ask(c, &what);
}

static void link_probe(struct control *c, const struct link_msg *m, const int *fds,
		       unsigned int fds_nr)
{
	struct request what = { .kind = REQUEST_PROBE, .probe = m->nr };
	static struct link_probe told;
	int err = link_unpack(fds[0], &told, sizeof(told));

	close(fds[0]);
	if (!err && m->nr >= PROBES_MAX)
		err = -EPROTO;
	if (!err)
		err = probe_fds_put(&told.live, fds + 1, fds_nr - 1);
	what.live = err ? NULL : malloc(sizeof(*what.live));
	if (!what.live) {
		log_line("a probe that the keeper told of was not taken over: %s",
			 strerror(err ? -err : ENOMEM));
		while (fds_nr > 1)
			close(fds[--fds_nr]);
		return;
	}
	*what.live = told.live;
	if (m->nr < PROBE_NR)
		probe_names_set(m->nr, &told.names);
	c->probes[m->nr].live = told.live;
	c->probes[m->nr].cost_ms = 0;
	if (!told.live.origin)
		c->probes[m->nr].missed = 0;
	control_ask(c, &what);
}

static void link_cost(struct control *c, const struct link_msg *m, int fd)
{
	static struct probe_cost cost[PROBES_MAX];
	int err = link_unpack(fd, cost, sizeof(cost));

	close(fd);
	for (uint32_t id = 0; id < PROBES_MAX && !err; id++) {
		c->probes[id].cost = cost[id];
		c->probes[id].cost_ms = m->nr;
	}
}

static void link_cgroup(struct control *c, const struct link_msg *m)
{
	struct request what = {
		.kind = REQUEST_CGROUP, .id = m->id, .text = strndup(m->text, sizeof(m->text) - 1),
	};

	if (what.text)
		control_ask(c, &what);
}

static void link_take(struct control *c, const struct link_msg *m, const int *fds,
		      unsigned int fds_nr)
{
	const struct request stop = { .kind = REQUEST_STOP };

	if (c->is_stopping) /* the last request is on its way */
		return;
	switch (m->kind) {
	case LINK_CLIENT:
		if (fds_nr == 1)
			client_add(c, m->id, fds[0], CLIENT_NEW);
		break;
	case LINK_CONFIG:
		if (fds_nr)
			link_config(c, m, fds, fds_nr);
		break;
	case LINK_PROBE:
		if (fds_nr)
			link_probe(c, m, fds, fds_nr);
		break;
	case LINK_SPARE:
		c->start->spare_pid = m->nr;
		break;
	case LINK_MISSED:
		if (m->nr < PROBES_MAX)
			c->probes[m->nr].missed = m->id;
		break;
	case LINK_COST:
		if (fds_nr == 1)
			link_cost(c, m, fds[0]);
		break;
	case LINK_CGROUP:
		link_cgroup(c, m);
		break;
	case LINK_ANSWER:
		order_answered(c, m);
		break;
	case LINK_STOP:
		control_ask(c, &stop);
		c->is_stopping = true;
		break;
	}
}

static void link_receive(struct control *c)
{
	int fds[LINK_FDS_MAX], got;
	struct link_msg m;
	unsigned int fds_nr;

	while ((got = link_recv(c->start->link_fd, &m, fds, &fds_nr)) == 1)
		link_take(c, &m, fds, fds_nr);
	if (got != 0)
		return;
	/* A spare that takes over kills this process within moments; else nobody is left. */
	epoll_ctl(c->epoll, EPOLL_CTL_DEL, c->start->link_fd, NULL);
	c->orphaned_ns = control_now_ns();
}

/* --- the loop --------------------------------------------------------------------------------- */

static void answers_take(struct control *c)
{
	struct request *r;
	eventfd_t nr;

	eventfd_read(c->fold->done_event, &nr);
	while ((r = fold_answered(c->fold)) != NULL) {
		if (r->kind == REQUEST_REGISTER || r->kind == REQUEST_CHANGE ||
		    r->kind == REQUEST_QUERY) {
			client_answer(c, r->client, r);
			control_request_put(c, r);
			continue;
		}
		if (r->kind == REQUEST_SPACE && !r->err)
			c->spaces[c->spaces_nr++] = r->space;
		if (r->kind == REQUEST_PROBE && r->err)
			log_line("probe %s: its maps cannot be read: %s",
				 probe_name(r->probe, r->live), strerror(-r->err));
		if (r->kind == REQUEST_ANSWER)
			order_finish(c, r->id);
		if (r->kind == REQUEST_STOP)
			c->is_over = true;
		free(r->live);
		free(r->text);
		free(r);
	}
}

static int timeout_ms(struct control *c)
{
	uint64_t next_ns = clients_overdue(c), now_ns = control_now_ns();

	if (c->orphaned_ns && c->orphaned_ns + ORPHAN_NS < next_ns)
		next_ns = c->orphaned_ns + ORPHAN_NS;
	if (next_ns == UINT64_MAX)
		return -1;
	return next_ns > now_ns ? (int)((next_ns - now_ns) / 1000000) + 1 : 0;
}

static void control_round(struct control *c)
{
	struct epoll_event events[EVENTS_MAX];
	int nr = epoll_wait(c->epoll, events, EVENTS_MAX, timeout_ms(c));

	for (int i = 0; i < nr; i++) {
		struct client *client = events[i].data.ptr;

		if (events[i].data.ptr == c)
			link_receive(c);
		else if (events[i].data.ptr == c->fold)
			answers_take(c);
		else if (client->state == CLIENT_ENDED || c->is_stopping)
			continue;
		else if (client->is_paused) /* no input is asked for: it hung up */
			control_end(c, client);
		else
			client_receive(c, client);
	}
	clients_unpause(c);
	clients_free(c);
	registry_grow(c->registry, 0);
	if (c->orphaned_ns && control_now_ns() >= c->orphaned_ns + ORPHAN_NS) {
		log_line("keeper and spare are gone and nobody took over: the worker ends");
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

	c->worker_started_real_ns = clock_ns(CLOCK_REALTIME);
	c->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (c->epoll < 0)
		return -errno;
	err = control_watch(c, ws->link_fd, c);
	if (!err)
		err = control_watch(c, c->fold->done_event, c->fold);
	if (err) {
		close(c->epoll);
		return err;
	}
	for (uint32_t i = 0; i < c->fold->spaces_nr; i++)
		c->spaces[c->spaces_nr++] = c->fold->spaces[i];
	for (uint32_t id = 0; id < PROBES_MAX; id++)
		c->probes[id].live = ws->probes[id];
	return 0;
}

/* Clients keep their sockets: to them an ended worker and a killed one are the same. */
static void control_fini(struct control *c)
{
	for (uint32_t i = 0; i < c->clients_nr; i++) {
		close(c->clients[i]->fd);
		free(c->clients[i]);
	}
	c->clients_nr = 0;
	clients_free(c);
	while (c->spare_nr)
		request_free(c->spare[--c->spare_nr]);
	close(c->epoll);
}

int control_run(struct control *c, struct worker_start *ws, struct registry *registry,
		struct fold *fold)
{
	int err;

	*c = (struct control){
		.start = ws, .registry = registry, .fold = fold, .overdue_ns = UINT64_MAX,
	};
	err = control_init(c);
	if (err)
		return err;
	for (uint32_t i = 0; i < ws->clients_nr; i++) {
		struct client *client = client_add(c, ws->clients[i].id, ws->clients[i].fd,
						   CLIENT_INHERITED);

		if (client)
			client_resume(c, client);
	}
	clients_free(c);
	while (!c->is_over)
		control_round(c);
	control_fini(c);
	return c->result;
}

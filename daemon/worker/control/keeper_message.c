/* See keeper_message.h. */
#define _GNU_SOURCE
#include "daemon/worker/control/keeper_message.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "daemon/link/log.h"
#include "daemon/worker/control/control.h"
#include "shm/base/clock.h"

/* --- for the fold thread ---------------------------------------------------------------------- */

static void serve_configure(struct fold *f, struct request *request, const struct config *config)
{
	(void)request;
	fold_configure(f, config);
}

static void serve_space(struct fold *f, struct request *request, const struct config *config)
{
	struct keeper_request *r = (struct keeper_request *)request;

	r->err = fold_space_open(f, &r->region, config, &r->space);
}

static void serve_probe(struct fold *f, struct request *request, const struct config *config)
{
	struct keeper_request *r = (struct keeper_request *)request;

	(void)config;
	r->err = fold_probe(f, r->probe, r->live);
}

static void serve_cgroup(struct fold *f, struct request *request, const struct config *config)
{
	struct keeper_request *r = (struct keeper_request *)request;

	(void)config;
	fold_cgroup(f, r->id, r->text);
}

static void serve_stop(struct fold *f, struct request *request, const struct config *config)
{
	(void)request;
	(void)config;
	fold_stop(f);
}

/* --- served ----------------------------------------------------------------------------------- */

static void finish_any(struct control *c, struct request *request)
{
	(void)c;
	keeper_request_free((struct keeper_request *)request);
}

static void finish_space(struct control *c, struct request *request)
{
	struct keeper_request *r = (struct keeper_request *)request;

	if (!r->err)
		c->spaces[c->spaces_nr++] = r->space;
	keeper_request_free(r);
}

static void finish_probe(struct control *c, struct request *request)
{
	struct keeper_request *r = (struct keeper_request *)request;

	(void)c;
	if (r->err)
		log_line("probe %s: its maps cannot be read: %s", probe_name(r->live),
			 strerror(-r->err));
	keeper_request_free(r);
}

static void finish_stop(struct control *c, struct request *request)
{
	c->is_over = true;
	keeper_request_free((struct keeper_request *)request);
}

/* --- the messages ----------------------------------------------------------------------------- */

static void apply_config(struct control *c, const struct link_msg *m, const int *fds,
			unsigned int fds_nr)
{
	struct keeper_request what = { .request = { .serve = serve_space, .finish = finish_space } };
	struct config *config = malloc(sizeof(*config));
	int err = config ? link_unpack(fds[0], config, sizeof(*config)) : -ENOMEM;

	close(fds[0]);
	if (!err)
		err = registry_configure(c->registry, config);
	if (!err)
		c->start->config = *config;
	else
		log_line("the new configuration has no effect: %s", strerror(-err));
	free(config);
	for (uint32_t i = 0; i < m->nr && 1 + (i + 1) * 2 * REGION_PARTS <= fds_nr; i++) {
		const int *region = fds + 1 + i * 2 * REGION_PARTS;

		memcpy(what.region.name, m->names[i], sizeof(what.region.name));
		memcpy(what.region.rw, region, sizeof(what.region.rw));
		memcpy(what.region.ro, region + REGION_PARTS, sizeof(what.region.ro));
		keeper_request_ask(c, &what);
	}
	what.request = (struct request){ .serve = serve_configure, .finish = finish_any };
	keeper_request_ask(c, &what);
}

static void apply_probe(struct control *c, const struct link_msg *m, const int *fds,
		       unsigned int fds_nr)
{
	struct keeper_request what = {
		.request = { .serve = serve_probe, .finish = finish_probe }, .probe = m->nr,
	};
	static struct link_probe probe;
	int err = link_unpack(fds[0], &probe, sizeof(probe));

	close(fds[0]);
	if (!err && m->nr >= PROBES_MAX)
		err = -EPROTO;
	if (!err)
		err = probe_fds_put(&probe.live, fds + 1, fds_nr - 1);
	what.live = err ? NULL : malloc(sizeof(*what.live));
	if (!what.live) {
		log_line("a message of the keeper about a probe has no effect: %s",
			 strerror(err ? -err : ENOMEM));
		while (fds_nr > 1)
			close(fds[--fds_nr]);
		return;
	}
	*what.live = probe.live;
	if (m->nr < PROBE_NR)
		probe_names_set(m->nr, &probe.names);
	c->probes[m->nr].live = probe.live;
	c->probes[m->nr].cost_ms = 0;
	if (!probe.live.origin)
		c->probes[m->nr].missed = 0;
	keeper_request_ask(c, &what);
}

static void apply_cost(struct control *c, const struct link_msg *m, int fd)
{
	static struct probe_cost cost[PROBES_MAX];
	int err = link_unpack(fd, cost, sizeof(cost));

	close(fd);
	for (uint32_t id = 0; id < PROBES_MAX && !err; id++) {
		c->probes[id].cost = cost[id];
		c->probes[id].cost_ms = m->nr;
	}
}

static void apply_cgroup(struct control *c, const struct link_msg *m)
{
	struct keeper_request what = {
		.request = { .serve = serve_cgroup, .finish = finish_any }, .id = m->id,
		.text = strndup(m->text, sizeof(m->text) - 1),
	};

	if (what.text)
		keeper_request_ask(c, &what);
}

static void message_apply(struct control *c, const struct link_msg *m, const int *fds,
			  unsigned int fds_nr)
{
	const struct keeper_request stop = {
		.request = { .serve = serve_stop, .finish = finish_stop },
	};

	if (c->is_stopping) /* the fold thread has the last request */
		return;
	switch (m->kind) {
	case LINK_CLIENT:
		if (fds_nr == 1)
			connection_open(c, m->id, fds[0], CONNECTION_NEW);
		break;
	case LINK_CONFIG:
		if (fds_nr)
			apply_config(c, m, fds, fds_nr);
		break;
	case LINK_PROBE:
		if (fds_nr)
			apply_probe(c, m, fds, fds_nr);
		break;
	case LINK_STANDBY:
		c->start->standby_pid = m->nr;
		break;
	case LINK_MISSED:
		if (m->nr < PROBES_MAX)
			c->probes[m->nr].missed = m->id;
		break;
	case LINK_COST:
		if (fds_nr == 1)
			apply_cost(c, m, fds[0]);
		break;
	case LINK_CGROUP:
		apply_cgroup(c, m);
		break;
	case LINK_ANSWER:
		probe_request_answered(c, m);
		break;
	case LINK_STOP:
		keeper_request_ask(c, &stop);
		c->is_stopping = true;
		break;
	}
}

void keeper_messages_take(struct control *c)
{
	int fds[LINK_FDS_MAX], got;
	struct link_msg m;
	unsigned int fds_nr;

	while ((got = link_recv(c->start->link_fd, &m, fds, &fds_nr)) == 1)
		message_apply(c, &m, fds, fds_nr);
	if (got != 0)
		return;
	/* A standby that takes over kills this process within moments; else nobody is left. */
	epoll_ctl(c->epoll, EPOLL_CTL_DEL, c->start->link_fd, NULL);
	c->orphaned_ns = mono_ns();
}

/* See children.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/keeper/keeper.h"
#include "daemon/keeper/rights.h"
#include "daemon/keeper/standby.h"
#include "shm/base/clock.h"

/* --- what a worker is born with -------------------------------------------------------------- */

static void birth_clients(struct clients *c, struct worker_start *ws, struct fd_list *keep)
{
	struct held_list *lists[] = { &c->served, &c->pending };
	const struct held_client *h;

	ws->clients = calloc(c->nr + 1, sizeof(*ws->clients));
	if (!ws->clients)
		_exit(1);
	for (unsigned int i = 0; i < 2; i++)
		TAILQ_FOREACH(h, lists[i], entry) {
			if (h->step < HELD_TWICE)
				continue;
			ws->clients[ws->clients_nr++] = (struct link_client){ h->id, h->fd };
			fd_list_add(keep, h->fd);
		}
}

static struct worker_start *birth_make(struct keeper *k, int link, struct fd_list *keep)
{
	struct worker_start *ws = calloc(1, sizeof(*ws));
	int fds[PROBE_FDS_MAX];

	if (!ws)
		_exit(1);
	ws->config = k->config;
	ws->regions_nr = k->regions.nr;
	memcpy(ws->regions, k->regions.list, sizeof(ws->regions));
	regions_list_fds(&k->regions, keep);
	for (uint32_t i = 0; i < PROBES_MAX; i++) {
		ws->probes[i] = k->probes.live[i];
		probe_for_worker(&ws->probes[i]);
		for (unsigned int nr = probe_fds_get(&ws->probes[i], fds); nr; nr--)
			fd_list_add(keep, fds[nr - 1]);
	}
	birth_clients(&k->clients, ws, keep);
	ws->link_fd = link;
	ws->state_fd = k->state.fd;
	fd_list_add(keep, link);
	fd_list_add(keep, k->state.fd);
	ws->incarnation = k->children.incarnation;
	ws->keeper_pid = (uint32_t)k->self.pid;
	ws->standby_pid = (uint32_t)k->children.standby.pid;
	ws->worker_restarts = k->children.worker_restarts;
	ws->keeper_takeovers = k->self.takeovers;
	ws->started_real_ns = k->self.started_real_ns;
	return ws;
}

static void birth_signals(void)
{
	static const int ignored[] = { SIGINT, SIGTERM, SIGHUP, SIGPIPE };
	sigset_t none;

	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_DFL);
	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		signal(ignored[i], SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Waits until the keeper has sent this worker's pidfd to the standby: a worker that the standby
 * could not kill at a takeover never runs. */
static void birth_await_go(int link)
{
	struct pollfd p = { .fd = link, .events = POLLIN };
	struct link_msg msg;
	int fds[LINK_FDS_MAX], got;
	unsigned int fds_nr;

	while ((got = link_recv(link, &msg, fds, &fds_nr)) == -EAGAIN)
		poll(&p, 1, -1);
	if (got != 1 || msg.kind != LINK_GO)
		_exit(0);
}

static _Noreturn void birth(struct keeper *k, int link)
{
	struct fd_list keep = { 0 };
	struct worker_start *ws;

	birth_signals();
	prctl(PR_SET_NAME, "talead-worker");
	ws = birth_make(k, link, &keep);
	fd_list_close_others(&keep);
	if (rights_drop(&ws->config))
		_exit(1);
	birth_await_go(link);
	_exit(k->children.worker_run(ws));
}

/* --- starting and reaping -------------------------------------------------------------------- */

static void children_start_worker(struct keeper *k)
{
	struct children *c = &k->children;
	struct link_msg msg = { .kind = LINK_WORKER };
	uint64_t us = real_ns() / NS_PER_US;
	int link, got;

	/* A clock that was set back must not give the same incarnation twice. */
	c->incarnation = us > c->incarnation ? us : c->incarnation + 1;
	got = child_fork(&c->worker, &link);
	if (got == 1)
		birth(k, link);
	if (got) {
		child_start_failed(&c->worker, got);
		return;
	}
	clients_all_served(&k->clients);
	memset(k->probes.missed, 0, sizeof(k->probes.missed));
	c->standby_sent = c->standby.pid;
	msg.nr = (uint32_t)c->worker.pid;
	msg.id = c->incarnation;
	child_send(&c->standby, &msg, &c->worker.pidfd, 1);
	link_send_plain(c->worker.link, LINK_GO, 0, 0);
}

static void children_start_standby(struct keeper *k)
{
	struct child *standby = &k->children.standby;
	int link, got = child_fork(standby, &link);

	if (got == 1) {
		k->self.is_standby = true;
		k->self.link = link;
	} else if (got) {
		child_start_failed(standby, got);
	} else {
		clients_all_held(&k->clients);
	}
}

void children_ensure(struct keeper *k)
{
	struct children *c = &k->children;

	if (k->phase != PHASE_RUN)
		return;
	/* Starts the standby first: a worker answers clients, and then two processes must hold
	 * them. */
	if (!c->standby.pid && loop_timer_is_due(&c->standby.start))
		children_start_standby(k);
	if (!k->self.is_standby && !c->worker.pid && loop_timer_is_due(&c->worker.start))
		children_start_worker(k);
}

void children_reap(struct keeper *k)
{
	struct children *c = &k->children;
	bool is_run = k->phase == PHASE_RUN;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		bool is_asked = !is_run && WIFEXITED(status) && !WEXITSTATUS(status);

		if (pid == c->worker.pid) {
			child_died(&c->worker, status, is_run, is_asked);
			c->worker_restarts++;
		} else if (pid == c->standby.pid) {
			child_died(&c->standby, status, is_run, is_asked);
		}
	}
}

void children_send_standby(struct children *c)
{
	if (c->worker.link >= 0 && c->standby_sent != c->standby.pid &&
	    !link_send_plain(c->worker.link, LINK_STANDBY, (uint32_t)c->standby.pid, 0))
		c->standby_sent = c->standby.pid;
}

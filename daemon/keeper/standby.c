/* See standby.h. */
#define _GNU_SOURCE
#include "daemon/keeper/standby.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "daemon/keeper/keeper.h"
#include "daemon/keeper/reload.h"
#include "daemon/keeper/rights.h"
#include "daemon/link/log.h"
#include "shm/base/clock.h"

#define LOCK_PATIENCE_NS (2 * NS_PER_S)

/* --- becoming a standby ---------------------------------------------------------------------- */

/* Ctrl-C reaches the whole group; the keeper alone acts on it. The signals are ignored and not
 * blocked: blocked ones would wait, and end the keeper that this process becomes. */
static void standby_signals(void)
{
	static const int ignored[] = { SIGINT, SIGTERM, SIGHUP };
	sigset_t none;

	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		signal(ignored[i], SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Closes all that a standby does not hold, the keeper's end of the worker's link above all: the
 * worker must see that link end. */
static void standby_close_others(struct keeper *k)
{
	struct held_list *lists[] = { &k->clients.served, &k->clients.pending };
	const struct held_client *h;
	struct fd_list keep = { 0 };
	int fds[PROBE_FDS_MAX];

	fd_list_add(&keep, k->self.link);
	fd_list_add(&keep, k->self.pidfd);
	fd_list_add(&keep, k->listener.fd);
	fd_list_add(&keep, k->listener.reserve_fd);
	fd_list_add(&keep, k->state.fd);
	fd_list_add(&keep, k->children.worker.pidfd);
	fd_list_add(&keep, k->probes.pins.fd);
	regions_list_fds(&k->regions, &keep);
	for (uint32_t i = 0; i < PROBES_MAX; i++)
		for (unsigned int nr = probe_fds_get(&k->probes.live[i], fds); nr; nr--)
			fd_list_add(&keep, fds[nr - 1]);
	for (unsigned int i = 0; i < 2; i++)
		TAILQ_FOREACH(h, lists[i], entry)
			fd_list_add(&keep, h->fd);
	fd_list_close_others(&keep);
	k->state.lock_fd = k->children.worker.link = -1;
	cost_window_init(&k->cost); /* a takeover ends the worker that asked */
}

/* --- waiting --------------------------------------------------------------------------------- */

static int standby_apply_client(struct keeper *k, uint64_t id, int fd)
{
	/* The keeper may have dropped clients whose end is not handled here yet. */
	while (k->clients.nr == LINK_CLIENTS_MAX) {
		uint32_t before = k->clients.nr;

		loop_poll(&k->loop);
		if (k->clients.nr == before)
			return -ENOSPC;
	}
	return clients_add(&k->clients, id, fd, HELD_TWICE);
}

static int standby_apply_worker(struct keeper *k, const struct link_msg *msg, int pidfd)
{
	struct child *worker = &k->children.worker;

	if (worker->pidfd >= 0)
		close(worker->pidfd);
	worker->pid = (pid_t)msg->nr;
	worker->pidfd = pidfd;
	k->children.incarnation = msg->id;
	return 0;
}

/* Waits while the keeper is behind. The keeper reads between two batches and never waits for this
 * standby, so that both make progress. */
static void standby_acknowledge(struct keeper *k, uint64_t id)
{
	struct pollfd p = { .fd = k->self.link, .events = POLLOUT };

	while (link_send_plain(k->self.link, LINK_HELD, 0, id) == -EAGAIN)
		poll(&p, 1, -1);
}

/* Takes over the fds, or closes them on failure. */
static int standby_apply(struct keeper *k, const struct link_msg *msg, const int *fds,
			 unsigned int fds_nr)
{
	int err = -EPROTO;

	switch (msg->kind) {
	case LINK_CONFIG:
		return reload_apply(k, msg, fds, fds_nr);
	case LINK_PROBE:
		return probes_receive(k, msg, fds, fds_nr);
	case LINK_CLIENT:
		if (fds_nr == 1)
			err = standby_apply_client(k, msg->id, fds[0]);
		if (err)
			break;
		standby_acknowledge(k, msg->id);
		return 0;
	case LINK_WORKER:
		if (fds_nr == 1)
			return standby_apply_worker(k, msg, fds[0]);
		break;
	}
	link_close_fds(fds, fds_nr);
	return err;
}

/* 0: the keeper is gone. 1: the keeper asks this standby to end. -errno: this standby missed a
 * message and is of no use. */
static int standby_wait(struct keeper *k)
{
	struct pollfd p[2] = { { .fd = k->self.link, .events = POLLIN },
			       { .fd = k->loop.epoll_fd, .events = POLLIN } };
	int fds[LINK_FDS_MAX], got, err;
	unsigned int fds_nr = 0;
	struct link_msg msg;

	for (;;) {
		poll(p, 2, -1);
		if (p[1].revents)
			loop_poll(&k->loop);
		while ((got = link_recv(k->self.link, &msg, fds, &fds_nr)) == 1) {
			if (msg.kind == LINK_STOP)
				return 1;
			err = standby_apply(k, &msg, fds, fds_nr);
			if (err)
				return err;
		}
		if (got != -EAGAIN)
			return got;
	}
}

/* --- taking over ----------------------------------------------------------------------------- */

static void pidfd_wait(int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	while (poll(&p, 1, -1) < 0 && errno == EINTR)
		;
}

/* The pidfd ends when the former keeper's files are closed. After that another talead holds the
 * lock, or, for a moment, a child just forked that still closes its copies. */
static int standby_lock(struct keeper *k)
{
	static const struct timespec pause = { .tv_nsec = NS_PER_MS };
	uint64_t end;
	int err;

	pidfd_wait(k->self.pidfd);
	end = mono_ns() + LOCK_PATIENCE_NS;
	while ((err = state_lock(k->state.fd, &k->state.lock_fd)) == -EAGAIN && mono_ns() < end)
		nanosleep(&pause, NULL);
	if (err == -EAGAIN)
		log_line("the keeper %d is gone, and another talead (pid %d) has the state folder "
			 "%s: its standby %d ends", k->self.pid, state_holder(k->state.fd),
			 k->config.state, getpid());
	return err;
}

static void standby_end_worker(struct child *worker)
{
	if (worker->pidfd >= 0) {
		pidfd_send_signal(worker->pidfd, SIGKILL, NULL, 0);
		pidfd_wait(worker->pidfd);
		close(worker->pidfd);
	}
	worker->pidfd = -1;
	worker->pid = 0;
}

static int standby_take_over(struct keeper *k)
{
	struct identity *self = &k->self;
	pid_t old = self->pid;
	int err = standby_lock(k);

	/* Also when another talead came first: its own worker waits for this one's end. */
	standby_end_worker(&k->children.worker);
	if (err)
		return err;
	while (state_worker_wait(k->state.fd, NS_PER_S) == -ETIMEDOUT)
		log_line("the standby waits for the worker of the former keeper %d to end", old);
	self->is_standby = false;
	self->pid = getpid();
	close(self->pidfd);
	self->pidfd = pidfd_open(self->pid, 0);
	k->state.is_pid_due = true;
	close(self->link);
	self->link = -1;
	child_reset(&k->children.worker);
	child_reset(&k->children.standby);
	clients_all_held(&k->clients);
	self->takeovers++;
	probes_takeover(k);
	prctl(PR_SET_NAME, "talead");
	log_line("the keeper %d is gone; its standby %d took over", old, self->pid);
	return self->pidfd < 0 ? -errno : 0;
}

int standby_run(struct keeper *k)
{
	int err;

	prctl(PR_SET_NAME, "talead-standby");
	standby_signals();
	standby_close_others(k);
	err = loop_open(&k->loop);
	if (!err)
		err = clients_watch(&k->clients);
	if (!err)
		err = standby_wait(k);
	if (!err)
		err = standby_take_over(k);
	return err < 0;
}

/*
 * The spare: a fork of the keeper that holds all that the keeper holds and only waits. When its
 * link ends it becomes the keeper, but not before the kernel has granted it keeper.lock, which is
 * when the former one is wholly gone, and not before the former worker has ended.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "daemon/keeper/keeper.h"
#include "daemon/link/log.h"

#define LOCK_PATIENCE_NS (2 * NS_PER_S)
#define EVENTS_NR 64

/* --- becoming a spare ------------------------------------------------------------------------ */

/* Ctrl-C reaches the whole group; the keeper alone acts on it. Ignored and not blocked, or they
 * would wait and end the keeper that this becomes. */
static void spare_signals(void)
{
	static const int ignored[] = { SIGINT, SIGTERM, SIGHUP };
	sigset_t none;

	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		signal(ignored[i], SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* In particular not the keeper's end of the worker's link: the worker must see it end. */
static void spare_close_others(struct keeper *k)
{
	const struct client_list *lists[] = { &k->served, &k->pending };
	const struct client *c;
	struct fd_list keep = { 0 };
	int fds[PROBE_FDS_MAX];

	fd_list_add(&keep, k->spare.link);
	fd_list_add(&keep, k->listen_fd);
	fd_list_add(&keep, k->reserve_fd);
	fd_list_add(&keep, k->state_fd);
	fd_list_add(&keep, k->self_pidfd);
	fd_list_add(&keep, k->worker.pidfd);
	fd_list_add(&keep, k->pins.fd);
	for (uint32_t i = 0; i < k->regions_nr; i++)
		for (unsigned int part = 0; part < REGION_PARTS; part++) {
			fd_list_add(&keep, k->regions[i].rw[part]);
			fd_list_add(&keep, k->regions[i].ro[part]);
		}
	for (uint32_t i = 0; i < PROBES_MAX; i++)
		for (unsigned int nr = probe_fds_get(&k->probes[i], fds); nr; nr--)
			fd_list_add(&keep, fds[nr - 1]);
	for (unsigned int i = 0; i < 2; i++)
		TAILQ_FOREACH(c, lists[i], entry)
			fd_list_add(&keep, c->fd);
	fds_keep_only(&keep);
	k->epoll_fd = k->signal_fd = k->lock_fd = k->worker.link = -1;
	k->cost = (struct cost_window){ .fd = -1, .end_ns = NEVER }; /* its asker goes too */
}

/* --- waiting --------------------------------------------------------------------------------- */

static void events_take(struct keeper *k, int timeout_ms)
{
	struct epoll_event events[EVENTS_NR];
	int nr = epoll_wait(k->epoll_fd, events, EVENTS_NR, timeout_ms);

	for (int i = 0; i < nr; i++)
		if ((events[i].data.u64 & 0xff) == EVENT_CLIENT)
			client_hangup(k, events[i].data.u64);
}

static int client_heard(struct keeper *k, uint64_t id, int fd)
{
	/* The keeper may have seen ends that still wait here. */
	while (k->clients_nr == LINK_CLIENTS_MAX) {
		uint32_t before = k->clients_nr;

		events_take(k, 0);
		if (k->clients_nr == before)
			return -ENOSPC;
	}
	return client_add(k, id, fd, CLIENT_HELD);
}

static int worker_heard(struct keeper *k, const struct link_msg *msg, int pidfd)
{
	if (k->worker.pidfd >= 0)
		close(k->worker.pidfd);
	k->worker.pid = (pid_t)msg->nr;
	k->worker.pidfd = pidfd;
	k->incarnation = msg->id;
	return 0;
}

/* Waits while the keeper is behind: it reads between two batches and never waits for this spare. */
static void say_held(struct keeper *k, uint64_t id)
{
	struct pollfd p = { .fd = k->spare.link, .events = POLLOUT };

	while (link_say(k->spare.link, LINK_HELD, 0, id) == -EAGAIN)
		poll(&p, 1, -1);
}

/* Takes over the fds, or closes them on failure. */
static int heard(struct keeper *k, const struct link_msg *msg, const int *fds, unsigned int fds_nr)
{
	int err = -EPROTO;

	switch (msg->kind) {
	case LINK_CONFIG:
		return reload_config_heard(k, msg, fds, fds_nr);
	case LINK_PROBE:
		return wanted_heard(k, msg, fds, fds_nr);
	case LINK_CLIENT:
		if (fds_nr == 1)
			err = client_heard(k, msg->id, fds[0]);
		if (err)
			break;
		say_held(k, msg->id);
		return 0;
	case LINK_WORKER:
		if (fds_nr == 1)
			return worker_heard(k, msg, fds[0]);
		break;
	}
	for (unsigned int i = 0; i < fds_nr; i++)
		close(fds[i]);
	return err;
}

/* 0: the keeper is gone. 1: told to end. -errno: this spare missed something and is of no use. */
static int link_wait(struct keeper *k)
{
	struct pollfd p[2] = { { .fd = k->spare.link, .events = POLLIN },
			       { .fd = k->epoll_fd, .events = POLLIN } };
	int fds[LINK_FDS_MAX], got, err;
	unsigned int fds_nr = 0;
	struct link_msg msg;

	for (;;) {
		poll(p, 2, -1);
		if (p[1].revents)
			events_take(k, 0);
		while ((got = link_recv(k->spare.link, &msg, fds, &fds_nr)) == 1) {
			if (msg.kind == LINK_STOP)
				return 1;
			err = heard(k, &msg, fds, fds_nr);
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

/* The pidfd says when the old keeper's files are closed; a lock held after that is someone else's,
 * but for the moments in which a child just forked still closes its copies. */
static int lock_wait(struct keeper *k)
{
	static const struct timespec pause = { .tv_nsec = 1000000 };
	uint64_t end;
	int err;

	pidfd_wait(k->self_pidfd);
	end = now_ns() + LOCK_PATIENCE_NS;
	while ((err = state_lock(k->state_fd, &k->lock_fd)) == -EAGAIN && now_ns() < end)
		nanosleep(&pause, NULL);
	if (err == -EAGAIN)
		log_line("the keeper %d is gone, and another talead (pid %d) has the state folder "
			 "%s: its spare %d ends", k->pid, state_holder(k->state_fd), k->config.state,
			 getpid());
	return err;
}

static void worker_end(struct keeper *k)
{
	if (k->worker.pidfd >= 0) {
		pidfd_send_signal(k->worker.pidfd, SIGKILL, NULL, 0);
		pidfd_wait(k->worker.pidfd);
		close(k->worker.pidfd);
	}
	k->worker.pidfd = -1;
	k->worker.pid = 0;
}

static int take_over(struct keeper *k)
{
	pid_t old = k->pid;
	int err = lock_wait(k);

	/* Also when another talead came first: its own worker waits for this one's end. */
	worker_end(k);
	if (err)
		return err;
	while (state_worker_wait(k->state_fd, NS_PER_S) == -ETIMEDOUT)
		log_line("waiting for the worker of the former keeper %d to end", old);
	k->is_spare = false;
	k->pid = getpid();
	close(k->self_pidfd);
	k->self_pidfd = pidfd_open(k->pid, 0);
	k->is_pid_due = true;
	keeper_unwatch(k, k->spare.link);
	close(k->spare.link);
	children_init(k);
	clients_all_held(k);
	k->keeper_takeovers++;
	wanted_take_over(k);
	prctl(PR_SET_NAME, "talead");
	log_line("the keeper %d is gone; its spare %d took over", old, k->pid);
	return k->self_pidfd < 0 ? -errno : keeper_serve_open(k);
}

int spare_wait(struct keeper *k)
{
	int err;

	prctl(PR_SET_NAME, "talead-spare");
	spare_signals();
	spare_close_others(k);
	err = keeper_epoll_open(k);
	if (!err)
		err = link_wait(k);
	k->exit_code = err < 0;
	if (err)
		return 1;
	err = take_over(k);
	k->exit_code = err != 0;
	return err != 0;
}

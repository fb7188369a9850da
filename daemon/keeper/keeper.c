/*
 * The keeper: the started process. Its loop, its start and its end; what it holds and who does what
 * with it stands in keeper.h.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/keeper/keeper.h"
#include "daemon/link/log.h"

#define FILES_WANTED 8192u
#define FILES_OWN 768u /* kept from clients where there are few: regions, probes, links */
#define EVENTS_NR 64
#define MESSAGES_NR 16 /* of one child at a time */
#define END_NS NS_PER_S
#define STOP_SPARE_NS (2 * NS_PER_S)
#define STOP_WORKER_NS (10 * NS_PER_S)
#define LEFT_OVER_NS (15 * NS_PER_S)

static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGCHLD };

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

int keeper_watch(struct keeper *k, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event ev = { .events = events, .data.u64 = data };

	return epoll_ctl(k->epoll_fd, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

void keeper_unwatch(struct keeper *k, int fd)
{
	epoll_ctl(k->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

/* --- the end --------------------------------------------------------------------------------- */

static void phase_to(struct keeper *k, enum phase phase, struct child *child, uint64_t ns)
{
	k->phase = phase;
	if (!child->pid)
		return;
	child->kill_ns = now_ns() + ns;
	child_tell(child, &(struct link_msg){ .kind = LINK_STOP }, NULL, 0);
}

/* The spare first, or it would take the end of the keeper for its death. */
static void stop_begin(struct keeper *k)
{
	if (k->phase != PHASE_RUN)
		return;
	keeper_unwatch(k, k->listen_fd); /* who comes now waits, and does not wake the loop */
	k->listen_ns = NEVER;
	phase_to(k, PHASE_STOP_SPARE, &k->spare, STOP_SPARE_NS);
}

static void phase_step(struct keeper *k)
{
	if (k->phase == PHASE_STOP_SPARE && !k->spare.pid)
		phase_to(k, PHASE_STOP_WORKER, &k->worker, STOP_WORKER_NS);
	if (k->phase == PHASE_STOP_WORKER && !k->worker.pid)
		k->phase = PHASE_END;
}

static void keeper_close(struct keeper *k)
{
	/* What is pinned counts on. */
	for (uint32_t i = 0; i < PROBES_MAX; i++)
		probe_close(&k->probes[i]);
	pins_close(&k->pins);
	socket_remove(k);
	if (k->lock_fd >= 0) {
		state_write_pid(k->lock_fd, 0);
		close(k->lock_fd);
	}
}

/* --- the loop -------------------------------------------------------------------------------- */

static void take_signals(struct keeper *k)
{
	struct signalfd_siginfo si;

	while (read(k->signal_fd, &si, sizeof(si)) == sizeof(si))
		switch (si.ssi_signo) {
		case SIGCHLD:
			children_reap(k);
			break;
		case SIGHUP:
			if (k->phase == PHASE_RUN)
				reload(k);
			break;
		default:
			stop_begin(k);
		}
}

static void take_link(struct keeper *k, struct child *child)
{
	int fds[LINK_FDS_MAX], got;
	unsigned int fds_nr = 0;
	struct link_msg msg;

	/* What is left wakes the loop again: one that never stops asking keeps nobody else waiting. */
	for (int nr = 0; nr < MESSAGES_NR && child->link >= 0; nr++) {
		got = link_recv(child->link, &msg, fds, &fds_nr);
		if (got == -EAGAIN)
			break;
		/* No fd is taken from a weaker process. */
		for (unsigned int i = 0; got == 1 && i < fds_nr; i++)
			close(fds[i]);
		if (got == 1 && child == &k->spare && msg.kind == LINK_HELD) {
			clients_held(k, msg.id);
		} else if (got == 1 && child == &k->worker && msg.kind == LINK_READY) {
			log_line("ready on %s (pid %d, worker %d)", k->config.socket, k->pid,
				 child->pid);
		} else if (got == 1 && child == &k->worker && msg.kind == LINK_DONE) {
			continue; /* its end, which follows, is what is waited for */
		} else if (got == 1 && child == &k->worker && msg.kind >= LINK_ATTACH &&
			   msg.kind <= LINK_CGROUP) {
			request_take(k, &msg);
		} else {
			/* Gone, or not speaking as it should: its successor has the whole set. A
			 * link ends a moment before its process: that one gets its moment. */
			child_unlink(k, child);
			if (k->phase == PHASE_RUN)
				child->kill_ns = now_ns() + END_NS;
		}
	}
}

static void dispatch(struct keeper *k, uint64_t data)
{
	switch (data & 0xff) {
	case EVENT_SIGNAL:
		take_signals(k);
		break;
	case EVENT_LISTEN:
		clients_accept(k);
		break;
	case EVENT_WORKER:
		take_link(k, &k->worker);
		break;
	case EVENT_SPARE:
		take_link(k, &k->spare);
		break;
	default:
		client_hangup(k, data);
	}
}

static int timeout_ms(const struct keeper *k)
{
	uint64_t now = now_ns(), next = NEVER;
	const uint64_t times[] = {
		k->phase == PHASE_RUN ? k->worker.start_ns : NEVER,
		k->phase == PHASE_RUN ? k->spare.start_ns : NEVER,
		k->worker.kill_ns, k->spare.kill_ns, k->listen_ns, k->push_ns, k->tick_ns,
		k->cost.end_ns,
	};

	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
		if (times[i] < next)
			next = times[i];
	if (next == NEVER)
		return -1;
	return next <= now ? 0 : (int)((next - now) / 1000000) + 1;
}

static void do_what_is_due(struct keeper *k)
{
	uint64_t now = now_ns();

	if (now >= k->listen_ns && !keeper_watch(k, k->listen_fd, EPOLLIN, EVENT_LISTEN))
		k->listen_ns = NEVER;
	if (now >= k->tick_ns)
		wanted_tick(k);
	request_cost_due(k);
	child_kill_due(&k->worker);
	child_kill_due(&k->spare);
	clients_push(k);
	if (k->worker.link >= 0 && k->spare_told != k->spare.pid &&
	    !link_say(k->worker.link, LINK_SPARE, (uint32_t)k->spare.pid, 0))
		k->spare_told = k->spare.pid;
}

static void keeper_loop(struct keeper *k)
{
	struct epoll_event events[EVENTS_NR];

	while (k->phase != PHASE_END) {
		int nr;

		children_ensure(k);
		if (k->is_spare) {
			if (spare_wait(k))
				return;
			continue;
		}
		/* Not before there is a spare: who kills the keeper that the file names must not
		 * end everything. */
		if (k->is_pid_due && !state_write_pid(k->lock_fd, k->pid))
			k->is_pid_due = false;
		do_what_is_due(k);
		nr = epoll_wait(k->epoll_fd, events, EVENTS_NR, timeout_ms(k));
		for (int i = 0; i < nr; i++)
			dispatch(k, events[i].data.u64);
		phase_step(k);
	}
}

/* --- the start ------------------------------------------------------------------------------- */

int keeper_epoll_open(struct keeper *k)
{
	const struct client_list *lists[] = { &k->served, &k->pending };
	const struct client *c;
	int err;

	k->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (k->epoll_fd < 0)
		return -errno;
	for (unsigned int i = 0; i < 2; i++)
		TAILQ_FOREACH(c, lists[i], entry) {
			err = keeper_watch(k, c->fd, 0, client_data(k, c));
			if (err)
				return err;
		}
	return 0;
}

int keeper_serve_open(struct keeper *k)
{
	sigset_t set;
	int err;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaddset(&set, signals[i]);
	/* Blocked before they are no longer ignored: one in between waits for the signalfd. */
	sigprocmask(SIG_BLOCK, &set, NULL);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		signal(signals[i], SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
	k->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (k->signal_fd < 0)
		return -errno;
	err = keeper_watch(k, k->signal_fd, EPOLLIN, EVENT_SIGNAL);
	if (!err)
		err = keeper_watch(k, k->listen_fd, EPOLLIN, EVENT_LISTEN);
	k->listen_ns = NEVER;
	return err;
}

/*
 * Nothing that the starting shell left open is kept: it would live as long as the daemon. And where
 * 0, 1 or 2 is closed the next file opened would be taken for it.
 */
static void std_open(void)
{
	int fd;

	close_range(STDERR_FILENO + 1, ~0u, 0);
	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

static void limits_raise(struct keeper *k)
{
	struct rlimit limit = { 0 };

	getrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur < FILES_WANTED) {
		limit.rlim_cur = limit.rlim_max < FILES_WANTED ? limit.rlim_max : FILES_WANTED;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	k->clients_max = limit.rlim_cur > 2 * FILES_OWN ? (uint32_t)limit.rlim_cur - FILES_OWN
							: (uint32_t)limit.rlim_cur / 2;
	if (k->clients_max > LINK_CLIENTS_MAX)
		k->clients_max = LINK_CLIENTS_MAX;
}

static int keeper_lock(struct keeper *k)
{
	int err = state_open(&k->config, &k->state_fd);
	char who[32] = "";
	pid_t pid;

	if (err)
		return err;
	err = state_lock(k->state_fd, &k->lock_fd);
	if (err == -EAGAIN) {
		pid = state_holder(k->state_fd);
		if (pid)
			snprintf(who, sizeof(who), "talead pid %d", pid);
		log_line("the state folder %s is in use by %s; one folder serves one talead. "
			 "fix: talead --stop --state %s, or another --state and --socket for this one",
			 k->config.state, *who ? who : "another talead", k->config.state);
	}
	if (err)
		return err;
	err = state_write_pid(k->lock_fd, k->pid);
	if (err)
		log_line("the state folder %s cannot be written: %s", k->config.state,
			 strerror(-err));
	if (!err)
		err = state_worker_lock_make(k->state_fd, &k->config);
	if (!err && state_worker_wait(k->state_fd, NS_PER_S / 5)) {
		log_line("waiting for the worker of a former talead to end");
		err = state_worker_wait(k->state_fd, LEFT_OVER_NS);
	}
	if (err == -ETIMEDOUT) {
		log_line("a worker of a former talead still has the state folder %s. fix: end that "
			 "process (fuser %s/" LINK_WORKER_LOCK ")", k->config.state,
			 k->config.state);
		err = -EBUSY;
	}
	return err;
}

static int keeper_open(struct keeper *k)
{
	struct timespec ts;
	int err = keeper_lock(k);

	if (!err)
		err = regions_ensure(k);
	if (!err)
		err = socket_listen(k);
	if (err)
		return err;
	clock_gettime(CLOCK_REALTIME, &ts);
	k->started_real_ns = (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
	k->self_pidfd = pidfd_open(k->pid, 0);
	k->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	err = k->self_pidfd < 0 || k->reserve_fd < 0 ? -errno : keeper_epoll_open(k);
	if (!err)
		err = keeper_serve_open(k);
	if (err)
		log_line("the kernel refuses what every start needs: %s", strerror(-err));
	else
		wanted_ensure(k, true);
	return err;
}

int keeper_run(const struct config *config, const struct config_source *source)
{
	static struct keeper keeper;
	struct keeper *k = &keeper;
	int err;

	k->config = *config;
	k->source = *source;
	k->pid = getpid();
	k->self_pidfd = k->epoll_fd = k->signal_fd = k->listen_fd = -1;
	k->reserve_fd = k->state_fd = k->lock_fd = -1;
	k->listen_ns = k->push_ns = k->tick_ns = NEVER;
	wanted_init(k);
	std_open();
	limits_raise(k);
	clients_init(k);
	children_init(k);
	err = keeper_open(k);
	if (err)
		k->exit_code = 1;
	else
		keeper_loop(k);
	if (!k->is_spare)
		keeper_close(k);
	return k->exit_code;
}

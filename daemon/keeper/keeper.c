/*
 * The keeper's start, loop and end; keeper.h has the picture of what it holds and who owns which
 * part.
 */
#define _GNU_SOURCE
#include "daemon/keeper/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "daemon/keeper/reload.h"
#include "daemon/keeper/standby.h"
#include "daemon/link/log.h"
#include "shm/base/clock.h"

#define FILES_WANTED 8192u
#define FILES_OWN 768u /* for regions, probes and links: not for clients */
#define MESSAGES_NR 16 /* of one child at a time */
#define END_NS NS_PER_S
#define STOP_STANDBY_NS (2 * NS_PER_S)
#define STOP_WORKER_NS (10 * NS_PER_S)
#define LEFT_OVER_NS (15 * NS_PER_S)

/* --- the end --------------------------------------------------------------------------------- */

static void keeper_stop_child(struct keeper *k, enum phase phase, struct child *child, uint64_t ns)
{
	k->phase = phase;
	if (!child->pid)
		return;
	child_end_within(child, ns);
	child_send(child, &(struct link_msg){ .kind = LINK_STOP }, NULL, 0);
}

/* Stops the standby first: else it would take over when the keeper ends. */
static void keeper_stop(struct keeper *k)
{
	if (k->phase != PHASE_RUN)
		return;
	listener_stop(&k->listener);
	loop_timer_set(&k->children.worker.start, NEVER);
	loop_timer_set(&k->children.standby.start, NEVER);
	keeper_stop_child(k, PHASE_STOP_STANDBY, &k->children.standby, STOP_STANDBY_NS);
}

static void keeper_stop_next(struct keeper *k)
{
	if (k->phase == PHASE_STOP_STANDBY && !k->children.standby.pid)
		keeper_stop_child(k, PHASE_STOP_WORKER, &k->children.worker, STOP_WORKER_NS);
	if (k->phase == PHASE_STOP_WORKER && !k->children.worker.pid)
		k->phase = PHASE_END;
}

static void keeper_close(struct keeper *k)
{
	/* Pinned probes count on: their pins hold them. */
	for (uint32_t i = 0; i < PROBES_MAX; i++)
		probe_close(&k->probes.live[i]);
	pins_close(&k->probes.pins);
	listener_close(&k->listener, k->config.socket);
	if (k->state.lock_fd >= 0) {
		state_write_pid(k->state.lock_fd, 0);
		close(k->state.lock_fd);
	}
}

/* --- what the loop calls --------------------------------------------------------------------- */

static void keeper_signal(void *owner, int signal)
{
	struct keeper *k = owner;

	switch (signal) {
	case SIGCHLD:
		children_reap(k);
		break;
	case SIGHUP:
		if (k->phase == PHASE_RUN)
			reload(k);
		break;
	default:
		keeper_stop(k);
	}
}

static void keeper_accept(void *owner, struct loop_watch *w)
{
	struct keeper *k = owner;

	(void)w;
	clients_accept(&k->clients, &k->listener);
}

static bool keeper_take_standby(struct keeper *k, const struct link_msg *msg)
{
	if (msg->kind != LINK_HELD)
		return false;
	clients_acknowledged(&k->clients, msg->id);
	return true;
}

static bool keeper_take_worker(struct keeper *k, const struct link_msg *msg)
{
	if (msg->kind == LINK_READY)
		log_line("ready on %s (pid %d, worker %d)", k->config.socket, k->self.pid,
			 k->children.worker.pid);
	else if (msg->kind >= LINK_ATTACH && msg->kind <= LINK_CGROUP)
		request_take(k, msg);
	else
		/* The keeper waits for the worker's end, which follows DONE. */
		return msg->kind == LINK_DONE;
	return true;
}

/* Messages beyond MESSAGES_NR wake the loop again: a child that never stops sending delays no
 * other. */
static void keeper_receive(struct keeper *k, struct child *child,
			   bool (*take)(struct keeper *k, const struct link_msg *msg))
{
	int fds[LINK_FDS_MAX], got;
	unsigned int fds_nr = 0;
	struct link_msg msg;

	for (int nr = 0; nr < MESSAGES_NR && child->link >= 0; nr++) {
		got = link_recv(child->link, &msg, fds, &fds_nr);
		if (got == -EAGAIN)
			break;
		/* A weaker process gives the keeper no fd. */
		if (got == 1)
			link_close_fds(fds, fds_nr);
		if (got == 1 && take(k, &msg))
			continue;
		/* The child is gone or breaks the protocol: its successor is born with the whole
		 * set. A link ends a moment before its process: the process gets that moment. */
		child_unlink(child);
		if (k->phase == PHASE_RUN)
			child_end_within(child, END_NS);
	}
}

static void keeper_worker_ready(void *owner, struct loop_watch *w)
{
	struct keeper *k = owner;

	(void)w;
	keeper_receive(k, &k->children.worker, keeper_take_worker);
}

static void keeper_standby_ready(void *owner, struct loop_watch *w)
{
	struct keeper *k = owner;

	(void)w;
	keeper_receive(k, &k->children.standby, keeper_take_standby);
}

/* Signals come to the loop and clients to the listener: at the start, and after a takeover. */
static int keeper_serve(struct keeper *k)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGCHLD };
	int err;

	signal(SIGPIPE, SIG_IGN);
	err = loop_signals_open(&k->loop, signals, sizeof(signals) / sizeof(signals[0]),
				keeper_signal, k);
	return err ? err : listener_start(&k->listener);
}

static void keeper_loop(struct keeper *k)
{
	while (k->phase != PHASE_END) {
		children_ensure(k);
		if (k->self.is_standby) {
			k->exit_code = standby_run(k) ||
				       (!k->self.is_standby && keeper_serve(k));
			if (k->self.is_standby || k->exit_code)
				return;
			continue;
		}
		/* After children_ensure has made a standby: a kill of the keeper that the file
		 * names must not end everything. */
		if (k->state.is_pid_due && !state_write_pid(k->state.lock_fd, k->self.pid))
			k->state.is_pid_due = false;
		loop_run_timers(&k->loop);
		request_cost_due(k);
		clients_push(&k->clients, &k->children.standby, &k->children.worker);
		children_send_standby(&k->children);
		loop_wait(&k->loop);
		keeper_stop_next(k);
	}
}

/* --- the start ------------------------------------------------------------------------------- */

/*
 * Closes what the starting shell left open: it would stay open as long as the daemon runs. And
 * opens 0, 1 and 2 where they are closed: the next file opened would be taken for one of them.
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

/* Raises the limit of open files, and gives how many clients the keeper may hold. */
static uint32_t limits_raise(void)
{
	struct rlimit limit = { 0 };
	rlim_t max;

	getrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur < FILES_WANTED) {
		limit.rlim_cur = limit.rlim_max < FILES_WANTED ? limit.rlim_max : FILES_WANTED;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	max = limit.rlim_cur > 2 * FILES_OWN ? limit.rlim_cur - FILES_OWN : limit.rlim_cur / 2;
	return max < LINK_CLIENTS_MAX ? (uint32_t)max : LINK_CLIENTS_MAX;
}

static int keeper_lock(struct keeper *k)
{
	int err = state_open(&k->config, &k->state.fd);
	char who[32] = "";
	pid_t pid;

	if (err)
		return err;
	err = state_lock(k->state.fd, &k->state.lock_fd);
	if (err == -EAGAIN) {
		pid = state_holder(k->state.fd);
		if (pid)
			snprintf(who, sizeof(who), "talead pid %d", pid);
		log_line("the state folder %s is in use by %s; one folder serves one talead. "
			 "fix: talead --stop --state %s, or --state DIR and --socket PATH for this one",
			 k->config.state, *who ? who : "another talead", k->config.state);
	}
	if (err)
		return err;
	err = state_write_pid(k->state.lock_fd, k->self.pid);
	if (err)
		log_line("talead cannot write the state folder %s: %s. fix: --state DIR",
			 k->config.state, strerror(-err));
	if (!err)
		err = state_worker_lock_make(k->state.fd, &k->config);
	if (!err && state_worker_wait(k->state.fd, NS_PER_S / 5)) {
		log_line("this talead waits for the worker of a former talead to end");
		err = state_worker_wait(k->state.fd, LEFT_OVER_NS);
	}
	if (err == -ETIMEDOUT) {
		log_line("a worker of a former talead still holds the state folder %s. fix: end "
			 "the process that fuser %s/" LINK_WORKER_LOCK " prints", k->config.state,
			 k->config.state);
		err = -EBUSY;
	}
	return err;
}

static int keeper_open(struct keeper *k)
{
	int err = keeper_lock(k);

	if (!err)
		err = regions_ensure(&k->regions, &k->config);
	if (!err)
		err = listener_open(&k->listener, k->config.socket);
	if (err)
		return err;
	k->self.started_real_ns = real_ns();
	k->self.pidfd = pidfd_open(k->self.pid, 0);
	k->listener.reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	err = k->self.pidfd < 0 || k->listener.reserve_fd < 0 ? -errno : loop_open(&k->loop);
	if (!err)
		err = keeper_serve(k);
	if (err)
		log_line("the kernel refuses what every start needs: %s", strerror(-err));
	else
		probes_start(k);
	return err;
}

static void keeper_init(struct keeper *k, worker_entry *worker)
{
	k->self = (struct identity){ .pid = getpid(), .pidfd = -1, .link = -1 };
	k->state = (struct state){ .fd = -1, .lock_fd = -1 };
	loop_init(&k->loop);
	listener_init(&k->listener, &k->loop, keeper_accept, k);
	probes_init(k);
	requests_init(k);
	k->children.worker_run = worker;
	child_init(&k->children.worker, "worker", &k->loop, keeper_worker_ready, k);
	child_init(&k->children.standby, "standby", &k->loop, keeper_standby_ready, k);
}

int keeper_run(const struct config *config, const struct config_source *source,
	       worker_entry *worker)
{
	static struct keeper keeper;
	struct keeper *k = &keeper;

	k->config = *config;
	k->source = *source;
	keeper_init(k, worker);
	std_open();
	clients_init(&k->clients, &k->loop, limits_raise());
	if (keeper_open(k))
		k->exit_code = 1;
	else
		keeper_loop(k);
	if (!k->self.is_standby)
		keeper_close(k);
	return k->exit_code;
}

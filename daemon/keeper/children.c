/*
 * The worker and the spare as processes: forked, watched, buried, started again. What a worker is
 * born with is put together here; what a spare does stands in spare.c.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/keeper/keeper.h"
#include "daemon/link/log.h"

#define DEATHS_NS (10 * NS_PER_S)
#define WAIT_MAX_S 30u

void children_init(struct keeper *k)
{
	k->worker = (struct child){ .name = "worker", .pidfd = -1, .link = -1,
				   .kill_ns = NEVER };
	k->spare = (struct child){ .name = "spare", .pidfd = -1, .link = -1,
				   .kill_ns = NEVER };
}

/* How often the kernel has killed for lack of memory since boot. */
static uint64_t oom_kills_nr(void)
{
	FILE *f = fopen("/proc/vmstat", "re");
	unsigned long long v = 0;
	char line[128];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "oom_kill %llu", &v) == 1)
			break;
	if (f)
		fclose(f);
	return v;
}

/* --- a worker's birth ------------------------------------------------------------------------ */

static void worker_clients(struct keeper *k, struct worker_start *ws, struct fd_list *keep)
{
	const struct client_list *lists[] = { &k->served, &k->pending };
	const struct client *c;

	ws->clients = calloc(k->clients_nr + 1, sizeof(*ws->clients));
	if (!ws->clients)
		_exit(1);
	for (unsigned int i = 0; i < 2; i++)
		TAILQ_FOREACH(c, lists[i], entry) {
			if (c->at < CLIENT_HELD)
				continue;
			ws->clients[ws->clients_nr++] = (struct link_client){ c->id, c->fd };
			fd_list_add(keep, c->fd);
		}
}

static struct worker_start *worker_set(struct keeper *k, int link, struct fd_list *keep)
{
	struct worker_start *ws = calloc(1, sizeof(*ws));
	int fds[PROBE_FDS_MAX];

	if (!ws)
		_exit(1);
	ws->config = k->config;
	ws->regions_nr = k->regions_nr;
	memcpy(ws->regions, k->regions, sizeof(ws->regions));
	for (uint32_t i = 0; i < k->regions_nr; i++)
		for (unsigned int part = 0; part < REGION_PARTS; part++) {
			fd_list_add(keep, k->regions[i].rw[part]);
			fd_list_add(keep, k->regions[i].ro[part]);
		}
	for (uint32_t i = 0; i < PROBES_MAX; i++) {
		ws->probes[i] = k->probes[i];
		probe_for_worker(&ws->probes[i]);
		for (unsigned int nr = probe_fds_get(&ws->probes[i], fds); nr; nr--)
			fd_list_add(keep, fds[nr - 1]);
	}
	worker_clients(k, ws, keep);
	ws->link_fd = link;
	ws->state_fd = k->state_fd;
	fd_list_add(keep, link);
	fd_list_add(keep, k->state_fd);
	ws->incarnation = k->incarnation;
	ws->keeper_pid = (uint32_t)k->pid;
	ws->spare_pid = (uint32_t)k->spare.pid;
	ws->worker_restarts = k->worker_restarts;
	ws->keeper_takeovers = k->keeper_takeovers;
	ws->started_real_ns = k->started_real_ns;
	return ws;
}

static void worker_signals(void)
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

/* Until the keeper has told the spare of this worker: a worker that no one could kill at a takeover
 * never runs. */
static void worker_await_go(int link)
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

static _Noreturn void worker_child(struct keeper *k, int link)
{
	struct fd_list keep = { 0 };
	struct worker_start *ws;

	worker_signals();
	prctl(PR_SET_NAME, "talead-worker");
	ws = worker_set(k, link, &keep);
	fds_keep_only(&keep);
	if (rights_drop(&ws->config))
		_exit(1);
	worker_await_go(link);
	_exit(worker_run(ws));
}

/* --- starting -------------------------------------------------------------------------------- */

static void start_failed(struct child *child, int err)
{
	log_line("the %s cannot be started: %s. trying again in 1 s", child->name, strerror(-err));
	child->start_ns = now_ns() + NS_PER_S;
}

/* In the parent 0 or -errno; in the child 1 with its end of the link. */
static int child_fork(struct keeper *k, struct child *child, uint64_t data, int *ret_link)
{
	int ends[2], err = link_open(ends);
	pid_t pid;

	if (err)
		return err;
	child->oom_kills_nr = oom_kills_nr();
	pid = fork();
	if (pid == 0) {
		close(ends[0]);
		*ret_link = ends[1];
		return 1;
	}
	err = pid < 0 ? -errno : 0;
	close(ends[1]);
	if (err)
		goto out_link;
	child->pidfd = pidfd_open(pid, 0);
	err = child->pidfd < 0 ? -errno : keeper_watch(k, ends[0], EPOLLIN, data);
	if (err)
		goto out_child;
	child->pid = pid;
	child->link = ends[0];
	child->is_killed = false;
	child->started_ns = now_ns();
	child->start_ns = child->kill_ns = NEVER;
	return 0;

out_child:
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	if (child->pidfd >= 0)
		close(child->pidfd);
	child->pidfd = -1;
out_link:
	close(ends[0]);
	return err;
}

static void worker_start(struct keeper *k)
{
	struct link_msg msg = { .kind = LINK_WORKER };
	struct timespec ts;
	uint64_t us;
	int link, got;

	clock_gettime(CLOCK_REALTIME, &ts);
	us = (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
	/* A clock that was set back must not give the same life twice. */
	k->incarnation = us > k->incarnation ? us : k->incarnation + 1;
	got = child_fork(k, &k->worker, EVENT_WORKER, &link);
	if (got == 1)
		worker_child(k, link);
	if (got) {
		start_failed(&k->worker, got);
		return;
	}
	clients_all_served(k);
	memset(k->missed, 0, sizeof(k->missed));
	k->spare_told = k->spare.pid;
	msg.nr = (uint32_t)k->worker.pid;
	msg.id = k->incarnation;
	child_tell(&k->spare, &msg, &k->worker.pidfd, 1);
	link_say(k->worker.link, LINK_GO, 0, 0);
}

static void spare_start(struct keeper *k)
{
	int link, got = child_fork(k, &k->spare, EVENT_SPARE, &link);

	if (got == 1) {
		k->is_spare = true;
		k->spare.link = link;
	} else if (got) {
		start_failed(&k->spare, got);
	} else {
		clients_all_held(k);
	}
}

void children_ensure(struct keeper *k)
{
	if (k->phase != PHASE_RUN)
		return;
	/* The spare first: a worker answers clients, and they must be held twice by then. */
	if (!k->spare.pid && now_ns() >= k->spare.start_ns)
		spare_start(k);
	if (!k->is_spare && !k->worker.pid && now_ns() >= k->worker.start_ns)
		worker_start(k);
}

/* --- deaths ---------------------------------------------------------------------------------- */

void child_kill(struct child *child)
{
	if (!child->pid)
		return;
	child->is_killed = true;
	if (child->pidfd >= 0)
		pidfd_send_signal(child->pidfd, SIGKILL, NULL, 0);
}

void child_kill_due(struct child *child)
{
	if (now_ns() < child->kill_ns)
		return;
	log_line("the %s %d does not end: it is killed", child->name, child->pid);
	child_kill(child);
	child->kill_ns = NEVER;
}

void child_unlink(struct keeper *k, struct child *child)
{
	if (child->link < 0)
		return;
	keeper_unwatch(k, child->link);
	close(child->link);
	child->link = -1;
}

/*
 * After three deaths in 10 s: 1, 2, 4 .. 30 s, until one has lived for 10 s. A child that was killed
 * with SIGKILL, and neither by us nor for lack of memory, did not fail: somebody killed it, and
 * waiting would only make that worse.
 */
static void restart_plan(struct child *child, int status, bool is_oom)
{
	uint64_t now = now_ns();
	bool is_outside = !child->is_killed && !is_oom && WIFSIGNALED(status) &&
			  WTERMSIG(status) == SIGKILL;

	if (now - child->started_ns >= DEATHS_NS)
		child->wait_s = 0;
	if (!is_outside) {
		child->deaths_ns[2] = child->deaths_ns[1];
		child->deaths_ns[1] = child->deaths_ns[0];
		child->deaths_ns[0] = now;
		if (child->wait_s)
			child->wait_s = 2 * child->wait_s < WAIT_MAX_S ? 2 * child->wait_s
								       : WAIT_MAX_S;
		else if (child->deaths_ns[2] && now - child->deaths_ns[2] < DEATHS_NS)
			child->wait_s = 1;
	}
	child->start_ns = is_outside ? now : now + child->wait_s * NS_PER_S;
}

static void say_death(const struct child *child, int status, bool is_oom, bool is_restarted)
{
	char how[128], next[96] = "";

	if (WIFSIGNALED(status))
		snprintf(how, sizeof(how), "was killed by signal %d (%s)%s%s", WTERMSIG(status),
			 strsignal(WTERMSIG(status)), WCOREDUMP(status) ? ", core dumped" : "",
			 is_oom ? "; the kernel has killed for lack of memory meanwhile" : "");
	else
		snprintf(how, sizeof(how), "ended with exit code %d", WEXITSTATUS(status));
	if (is_restarted && child->start_ns > now_ns())
		snprintf(next, sizeof(next), "; three deaths in 10 s: starting another in %u s",
			 child->wait_s);
	else if (is_restarted)
		snprintf(next, sizeof(next), "; starting another");
	log_line("the %s %d %s%s", child->name, child->pid, how, next);
}

static void child_died(struct keeper *k, struct child *child, int status)
{
	bool is_oom = WIFSIGNALED(status) && oom_kills_nr() > child->oom_kills_nr;
	bool is_asked = k->phase != PHASE_RUN && WIFEXITED(status) && !WEXITSTATUS(status);

	if (k->phase == PHASE_RUN)
		restart_plan(child, status, is_oom);
	if (!is_asked)
		say_death(child, status, is_oom, k->phase == PHASE_RUN);
	child_unlink(k, child);
	close(child->pidfd);
	child->pidfd = -1;
	child->pid = 0;
	child->kill_ns = NEVER;
	if (child == &k->worker)
		k->worker_restarts++;
}

void children_reap(struct keeper *k)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == k->worker.pid)
			child_died(k, &k->worker, status);
		else if (pid == k->spare.pid)
			child_died(k, &k->spare, status);
}

/* --- telling --------------------------------------------------------------------------------- */

void child_tell(struct child *child, const struct link_msg *msg, const int *fds, unsigned int nr)
{
	static const struct timespec pause = { .tv_nsec = 1000000 };
	uint64_t end = now_ns() + NS_PER_S;
	int err;

	if (child->link < 0)
		return;
	while ((err = link_send(child->link, msg, fds, nr)) == -EAGAIN && now_ns() < end)
		nanosleep(&pause, NULL);
	if (err == -EAGAIN)
		log_line("the %s %d takes no messages: it is killed", child->name, child->pid);
	if (err)
		child_kill(child);
}

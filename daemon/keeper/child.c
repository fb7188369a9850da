/* See child.h. */
#define _GNU_SOURCE
#include "daemon/keeper/child.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/link/log.h"
#include "shm/base/clock.h"

#define DEATHS_NS (10 * NS_PER_S)
#define WAIT_MAX_S 30u

static void child_kill_due(void *owner)
{
	struct child *child = owner;

	log_line("the %s %d does not end: the keeper kills it", child->name, child->pid);
	child_kill(child);
}

void child_init(struct child *child, const char *name, struct loop *loop,
		void (*ready)(void *owner, struct loop_watch *w), void *owner)
{
	*child = (struct child){ .name = name, .loop = loop, .watch = { ready, owner } };
	loop_timer_add(loop, &child->start, NULL, NULL);
	loop_timer_add(loop, &child->kill, child_kill_due, child);
	child_reset(child);
}

void child_reset(struct child *child)
{
	child->pid = 0;
	child->pidfd = child->link = -1;
	child->is_killed = false;
	child->started_ns = 0;
	memset(child->deaths_ns, 0, sizeof(child->deaths_ns));
	child->wait_s = 0;
	loop_timer_set(&child->start, 0);
	loop_timer_set(&child->kill, NEVER);
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

/* --- starting -------------------------------------------------------------------------------- */

int child_fork(struct child *child, int *ret_link)
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
	err = child->pidfd < 0 ? -errno
			       : loop_watch_add(child->loop, &child->watch, ends[0], EPOLLIN);
	if (err)
		goto out_child;
	child->pid = pid;
	child->link = ends[0];
	child->is_killed = false;
	child->started_ns = mono_ns();
	loop_timer_set(&child->start, NEVER);
	loop_timer_set(&child->kill, NEVER);
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

void child_start_failed(struct child *child, int err)
{
	log_line("the %s cannot be started: %s. the keeper tries again in 1 s", child->name,
		 strerror(-err));
	loop_timer_after(&child->start, NS_PER_S);
}

/* --- sending --------------------------------------------------------------------------------- */

void child_send(struct child *child, const struct link_msg *msg, const int *fds, unsigned int nr)
{
	static const struct timespec pause = { .tv_nsec = NS_PER_MS };
	uint64_t end = mono_ns() + NS_PER_S;
	int err;

	if (child->link < 0)
		return;
	while ((err = link_send(child->link, msg, fds, nr)) == -EAGAIN && mono_ns() < end)
		nanosleep(&pause, NULL);
	if (err == -EAGAIN)
		log_line("the %s %d receives no messages: the keeper kills it", child->name,
			 child->pid);
	if (err)
		child_kill(child);
}

/* --- the end --------------------------------------------------------------------------------- */

void child_end_within(struct child *child, uint64_t ns) { loop_timer_after(&child->kill, ns); }

void child_kill(struct child *child)
{
	if (!child->pid)
		return;
	child->is_killed = true;
	if (child->pidfd >= 0)
		pidfd_send_signal(child->pidfd, SIGKILL, NULL, 0);
}

void child_unlink(struct child *child)
{
	if (child->link < 0)
		return;
	loop_watch_remove(child->loop, &child->watch, child->link);
	close(child->link);
	child->link = -1;
}

/*
 * After three deaths in 10 s the keeper waits 1, 2, 4 .. 30 s, until one child has lived for 10 s.
 * A child that somebody else killed with SIGKILL did not fail, and waiting would only make that
 * worse; the kernel's kill for lack of memory counts as a failure.
 */
static void child_plan_restart(struct child *child, int status, bool is_oom)
{
	uint64_t now = mono_ns();
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
	loop_timer_set(&child->start, is_outside ? now : now + child->wait_s * NS_PER_S);
}

static void child_log_death(const struct child *child, int status, bool is_oom, bool is_restarted)
{
	char how[128], next[96] = "";

	if (WIFSIGNALED(status))
		snprintf(how, sizeof(how), "was killed by signal %d (%s)%s%s", WTERMSIG(status),
			 strsignal(WTERMSIG(status)), WCOREDUMP(status) ? ", core dumped" : "",
			 is_oom ? "; the kernel has killed for lack of memory meanwhile" : "");
	else
		snprintf(how, sizeof(how), "ended with exit code %d", WEXITSTATUS(status));
	if (is_restarted && !loop_timer_is_due(&child->start))
		snprintf(next, sizeof(next),
			 "; three deaths in 10 s: the keeper starts another in %u s",
			 child->wait_s);
	else if (is_restarted)
		snprintf(next, sizeof(next), "; the keeper starts another");
	log_line("the %s %d %s%s", child->name, child->pid, how, next);
}

void child_died(struct child *child, int status, bool is_restarted, bool is_asked)
{
	bool is_oom = WIFSIGNALED(status) && oom_kills_nr() > child->oom_kills_nr;

	if (is_restarted)
		child_plan_restart(child, status, is_oom);
	if (!is_asked)
		child_log_death(child, status, is_oom, is_restarted);
	child_unlink(child);
	close(child->pidfd);
	child->pidfd = -1;
	child->pid = 0;
	loop_timer_set(&child->kill, NEVER);
}

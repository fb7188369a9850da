/* See loop.h. */
#define _GNU_SOURCE
#include "daemon/keeper/loop.h"

#include <errno.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "shm/base/clock.h"

void loop_init(struct loop *l)
{
	*l = (struct loop){ .epoll_fd = -1, .signal_fd = -1 };
	TAILQ_INIT(&l->timers);
}

int loop_open(struct loop *l)
{
	l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	l->signal_fd = -1;
	return l->epoll_fd < 0 ? -errno : 0;
}

/* --- descriptors ----------------------------------------------------------------------------- */

int loop_watch_add(struct loop *l, struct loop_watch *w, int fd, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = w };

	return epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

void loop_watch_remove(struct loop *l, struct loop_watch *w, int fd)
{
	epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	for (int i = l->batch_at + 1; i < l->batch_nr; i++)
		if (l->batch[i].data.ptr == w)
			l->batch[i].data.ptr = NULL;
}

/* --- signals --------------------------------------------------------------------------------- */

static void loop_signals_ready(void *owner, struct loop_watch *w)
{
	struct loop *l = owner;
	struct signalfd_siginfo si;

	(void)w;
	while (read(l->signal_fd, &si, sizeof(si)) == sizeof(si))
		l->signal_take(l->signal_owner, (int)si.ssi_signo);
}

int loop_signals_open(struct loop *l, const int *signals, size_t nr,
		      void (*take)(void *owner, int signal), void *owner)
{
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < nr; i++)
		sigaddset(&set, signals[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	for (size_t i = 0; i < nr; i++)
		signal(signals[i], SIG_DFL);
	l->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (l->signal_fd < 0)
		return -errno;
	l->signal_take = take;
	l->signal_owner = owner;
	l->signals = (struct loop_watch){ loop_signals_ready, l };
	return loop_watch_add(l, &l->signals, l->signal_fd, EPOLLIN);
}

/* --- timers ---------------------------------------------------------------------------------- */

void loop_timer_add(struct loop *l, struct loop_timer *t, void (*due)(void *owner), void *owner)
{
	t->due_ns = NEVER;
	t->due = due;
	t->owner = owner;
	TAILQ_INSERT_TAIL(&l->timers, t, entry);
}

void loop_timer_set(struct loop_timer *t, uint64_t due_ns) { t->due_ns = due_ns; }

void loop_timer_after(struct loop_timer *t, uint64_t ns) { t->due_ns = mono_ns() + ns; }

bool loop_timer_is_due(const struct loop_timer *t) { return mono_ns() >= t->due_ns; }

void loop_run_timers(struct loop *l)
{
	uint64_t now = mono_ns();
	struct loop_timer *t;

	TAILQ_FOREACH(t, &l->timers, entry)
		if (t->due && now >= t->due_ns) {
			t->due_ns = NEVER;
			t->due(t->owner);
		}
}

static int loop_timeout_ms(const struct loop *l)
{
	uint64_t now = mono_ns(), next = NEVER;
	const struct loop_timer *t;

	TAILQ_FOREACH(t, &l->timers, entry)
		if (t->due_ns < next)
			next = t->due_ns;
	if (next == NEVER)
		return -1;
	return next <= now ? 0 : (int)((next - now) / NS_PER_MS) + 1;
}

/* --- a batch --------------------------------------------------------------------------------- */

static void loop_handle(struct loop *l, int timeout_ms)
{
	l->batch_nr = epoll_wait(l->epoll_fd, l->batch, LOOP_EVENTS_NR, timeout_ms);
	for (l->batch_at = 0; l->batch_at < l->batch_nr; l->batch_at++) {
		struct loop_watch *w = l->batch[l->batch_at].data.ptr;

		if (w)
			w->ready(w->owner, w);
	}
	l->batch_nr = 0;
}

void loop_wait(struct loop *l) { loop_handle(l, loop_timeout_ms(l)); }

void loop_poll(struct loop *l) { loop_handle(l, 0); }

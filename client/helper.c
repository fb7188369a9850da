/*
 * The one thread that the library makes, and only for TALEA_HELPER_THREAD: ten times a second it
 * does what talea_status does, so that a program that only adds still attaches and carries over.
 * Its struct talea owns it. A child of fork does not have it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "internal.h"

#define PERIOD_NS (100 * NS_PER_MS)

struct helper {
	struct attach *attach;
	pthread_t thread;
	pid_t pid;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stop;
};

static void *helper_run(void *arg)
{
	struct helper *h = arg;
	char text[TEXT_MAX];
	struct timespec ts;

	pthread_mutex_lock(&h->lock);
	while (!h->stop) {
		pthread_mutex_unlock(&h->lock);
		if (lock_conn(0) == 0) {
			attach_poll(h->attach, mono_ns() + 10 * PERIOD_NS, text);
			unlock_conn();
		}
		pthread_mutex_lock(&h->lock);
		ts = clock_timespec(real_ns() + PERIOD_NS);
		if (!h->stop)
			pthread_cond_timedwait(&h->wake, &h->lock, &ts);
	}
	pthread_mutex_unlock(&h->lock);
	return NULL;
}

int helper_start(struct talea *t)
{
	struct helper *h = calloc(1, sizeof(*h));
	sigset_t all, old;
	int err;

	if (!h)
		return -ENOMEM;
	h->attach = t->attach;
	h->pid = getpid();
	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->wake, NULL);
	/* The program's signals are not for this thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&h->thread, NULL, helper_run, h);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err) {
		free(h);
		return -err;
	}
	t->helper = h;
	return 0;
}

void helper_stop(struct talea *t)
{
	struct helper *h = t->helper;

	if (!h)
		return;
	if (h->pid == getpid()) {
		pthread_mutex_lock(&h->lock);
		h->stop = true;
		pthread_cond_signal(&h->wake);
		pthread_mutex_unlock(&h->lock);
		pthread_join(h->thread, NULL);
	}
	free(h);
	t->helper = NULL;
}

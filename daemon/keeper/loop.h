/*
 * A loop: one epoll, a signalfd and timers. Files register a descriptor or a timer with a function
 * to call; the loop owns the epoll and the signalfd, and no descriptor that it watches. It knows
 * nothing of the keeper. One thread.
 *
 * A turn of the owner's loop is: loop_run_timers(), what the owner does before it waits,
 * loop_wait(). A timer is never run between the events of one batch.
 */
#ifndef KEEPER_LOOP_H
#define KEEPER_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/queue.h>

#define NEVER UINT64_MAX
#define LOOP_EVENTS_NR 64 /* of one batch */

/* A descriptor that is watched. The watch is part of the registrant's own struct. */
struct loop_watch {
	void (*ready)(void *owner, struct loop_watch *w);
	void *owner;
};

struct loop_timer {
	TAILQ_ENTRY(loop_timer) entry;
	uint64_t due_ns; /* mono_ns; NEVER: it is stopped */
	void (*due)(void *owner); /* NULL: the timer only ends loop_wait */
	void *owner;
};

struct loop {
	int epoll_fd, signal_fd; /* -1: not open */
	struct loop_watch signals;
	void (*signal_take)(void *owner, int signal);
	void *signal_owner;
	TAILQ_HEAD(loop_timers, loop_timer) timers; /* in the order in which they were added */
	struct epoll_event batch[LOOP_EVENTS_NR];
	int batch_at, batch_nr; /* the event that is handled now, and how many there are */
};

/* No epoll yet; timers can be added. */
void loop_init(struct loop *l);

/* Makes a new epoll that watches nothing: at start, and in a process just forked, whose old epoll
 * is its parent's. Timers stay. 0 or -errno, as all below. */
int loop_open(struct loop *l);

/* events: as epoll has them. 0 watches for EPOLLHUP alone. */
int loop_watch_add(struct loop *l, struct loop_watch *w, int fd, uint32_t events);

/* Must come before the close: while another process holds the same file, epoll watches it. No event
 * of the batch under way reaches the watch after this. */
void loop_watch_remove(struct loop *l, struct loop_watch *w, int fd);

/* Calls `take` for each of these signals from now on. They are blocked first, and only then no
 * longer ignored: a signal that comes in between waits for the signalfd. */
int loop_signals_open(struct loop *l, const int *signals, size_t nr,
		      void (*take)(void *owner, int signal), void *owner);

/* Adds a timer, stopped. The loop keeps it until the process ends; its forks have it too. */
void loop_timer_add(struct loop *l, struct loop_timer *t, void (*due)(void *owner), void *owner);
void loop_timer_set(struct loop_timer *t, uint64_t due_ns); /* mono_ns; NEVER stops it */
void loop_timer_after(struct loop_timer *t, uint64_t ns);
bool loop_timer_is_due(const struct loop_timer *t);

/* Stops each timer that is due, then calls its function, which may set it again. */
void loop_run_timers(struct loop *l);

/* Waits for events until the next timer is due, and handles one batch of them. */
void loop_wait(struct loop *l);

/* Handles one batch of events and does not wait. */
void loop_poll(struct loop *l);

#endif

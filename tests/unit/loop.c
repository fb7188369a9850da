/*
 * The keeper's loop: timers, watches and signals, without a keeper.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "daemon/keeper/loop.h"
#include "shm/base/clock.h"

struct fixture {
	struct loop loop;
	struct end {
		struct loop_watch watch;
		int fds[2]; /* of a pipe: read, write */
		unsigned int ready_nr;
		struct end *removes; /* the watch that this one's event removes */
	} a, b;
	struct loop_timer first, second;
	unsigned int first_nr, second_nr, signals_nr;
	bool was_first; /* when the second timer ran */
};

static void end_ready(void *owner, struct loop_watch *w)
{
	struct fixture *f = owner;
	struct end *e = (struct end *)w;
	char byte;

	e->ready_nr++;
	assert_int_equal(read(e->fds[0], &byte, 1), 1);
	if (e->removes)
		loop_watch_remove(&f->loop, &e->removes->watch, e->removes->fds[0]);
}

static void first_due(void *owner)
{
	struct fixture *f = owner;

	assert_true(f->first.due_ns == NEVER);
	f->first_nr++;
}

static void second_due(void *owner)
{
	struct fixture *f = owner;

	f->was_first = f->first_nr > 0;
	f->second_nr++;
	loop_timer_after(&f->second, 3600 * NS_PER_S);
}

static void on_signal(void *owner, int signal)
{
	struct fixture *f = owner;

	assert_int_equal(signal, SIGUSR1);
	f->signals_nr++;
}

static int begin(void **state)
{
	static struct fixture f;

	memset(&f, 0, sizeof(f));
	loop_init(&f.loop);
	loop_timer_add(&f.loop, &f.first, first_due, &f);
	loop_timer_add(&f.loop, &f.second, second_due, &f);
	if (loop_open(&f.loop) || pipe(f.a.fds) || pipe(f.b.fds))
		return -1;
	f.a.watch = f.b.watch = (struct loop_watch){ end_ready, &f };
	*state = &f;
	return loop_watch_add(&f.loop, &f.a.watch, f.a.fds[0], EPOLLIN) ||
	       loop_watch_add(&f.loop, &f.b.watch, f.b.fds[0], EPOLLIN);
}

static int finish(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 2; i++) {
		close(f->a.fds[i]);
		close(f->b.fds[i]);
	}
	close(f->loop.epoll_fd);
	return 0;
}

static void write_both(struct fixture *f)
{
	assert_int_equal(write(f->a.fds[1], "x", 1), 1);
	assert_int_equal(write(f->b.fds[1], "x", 1), 1);
}

static void each_event_reaches_its_watch(void **state)
{
	struct fixture *f = *state;

	write_both(f);
	loop_wait(&f->loop);
	assert_int_equal(f->a.ready_nr, 1);
	assert_int_equal(f->b.ready_nr, 1);
}

static void a_removed_watch_gets_no_event_of_the_batch_under_way(void **state)
{
	struct fixture *f = *state;

	f->a.removes = &f->b;
	f->b.removes = &f->a;
	write_both(f);
	loop_wait(&f->loop);
	loop_poll(&f->loop);
	assert_int_equal(f->a.ready_nr + f->b.ready_nr, 1);
}

static void a_watch_that_removes_itself_is_no_trouble(void **state)
{
	struct fixture *f = *state;

	f->a.removes = &f->a;
	f->b.removes = &f->b;
	write_both(f);
	loop_wait(&f->loop);
	assert_int_equal(f->a.ready_nr, 1);
	assert_int_equal(f->b.ready_nr, 1);
}

static void timers_that_are_due_run_once_in_the_order_in_which_they_were_added(void **state)
{
	struct fixture *f = *state;

	loop_timer_set(&f->second, 0);
	loop_timer_after(&f->first, 0);
	assert_true(loop_timer_is_due(&f->second));
	loop_run_timers(&f->loop);
	loop_run_timers(&f->loop);
	assert_int_equal(f->first_nr, 1);
	assert_int_equal(f->second_nr, 1);
	assert_true(f->was_first);
	assert_false(loop_timer_is_due(&f->first));
	assert_false(loop_timer_is_due(&f->second));
}

static void a_stopped_timer_does_not_run(void **state)
{
	struct fixture *f = *state;

	loop_timer_set(&f->first, 0);
	loop_timer_set(&f->first, NEVER);
	loop_run_timers(&f->loop);
	assert_int_equal(f->first_nr, 0);
}

static void the_wait_ends_when_the_next_timer_is_due_also_of_one_without_a_function(void **state)
{
	struct fixture *f = *state;
	struct loop_timer plain;
	uint64_t begin_ns = mono_ns();

	loop_timer_add(&f->loop, &plain, NULL, NULL);
	loop_timer_after(&f->first, 3600 * NS_PER_S);
	loop_timer_after(&plain, 20 * NS_PER_MS);
	loop_wait(&f->loop);
	assert_true(mono_ns() - begin_ns >= 20 * NS_PER_MS);
	loop_run_timers(&f->loop);
	assert_true(loop_timer_is_due(&plain));
	assert_int_equal(f->first_nr, 0);
	loop_timer_set(&plain, NEVER);
}

static void a_new_epoll_watches_nothing_and_keeps_the_timers(void **state)
{
	struct fixture *f = *state;
	int former = f->loop.epoll_fd;

	assert_int_equal(loop_open(&f->loop), 0);
	close(former);
	write_both(f);
	loop_timer_set(&f->first, 0);
	loop_run_timers(&f->loop);
	loop_poll(&f->loop);
	assert_int_equal(f->a.ready_nr + f->b.ready_nr, 0);
	assert_int_equal(f->first_nr, 1);
}

static void a_signal_that_was_ignored_comes_to_the_loop(void **state)
{
	struct fixture *f = *state;
	const int signals[] = { SIGUSR1 };
	sigset_t set;

	signal(SIGUSR1, SIG_IGN);
	assert_int_equal(loop_signals_open(&f->loop, signals, 1, on_signal, f), 0);
	assert_int_equal(kill(getpid(), SIGUSR1), 0);
	loop_wait(&f->loop);
	assert_int_equal(f->signals_nr, 1);
	close(f->loop.signal_fd);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
}

#define LOOP_TEST(name) cmocka_unit_test_setup_teardown(name, begin, finish)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LOOP_TEST(each_event_reaches_its_watch),
		LOOP_TEST(a_removed_watch_gets_no_event_of_the_batch_under_way),
		LOOP_TEST(a_watch_that_removes_itself_is_no_trouble),
		LOOP_TEST(timers_that_are_due_run_once_in_the_order_in_which_they_were_added),
		LOOP_TEST(a_stopped_timer_does_not_run),
		LOOP_TEST(the_wait_ends_when_the_next_timer_is_due_also_of_one_without_a_function),
		LOOP_TEST(a_new_epoll_watches_nothing_and_keeps_the_timers),
		LOOP_TEST(a_signal_that_was_ignored_comes_to_the_loop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

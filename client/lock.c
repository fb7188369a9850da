/*
 * The two locks of the library and what fork does to them. They are in a page that a child sees as
 * zeros (MADV_WIPEONFORK), and an unlocked mutex is all zero: a child made by fork() or _Fork() at
 * any moment finds them free. fork() itself takes both first, so that what they protect is whole in
 * the child. _Fork() does not, which is why tables are changed by single published stores.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

struct lock_page {
	pthread_mutex_t conn;
	pthread_mutex_t table;
	uint64_t mine; /* 1 once this process has used the page: 0 again in a child */
};

static int cancel_state; /* of the holder of conn: a thread that waits for the daemon can be
			  * cancelled */
static struct lock_page *page;
static struct lock_page page_fallback; /* used when there is no page: fork is not covered then */

static void fork_prepare(void)
{
	pthread_mutex_lock(&page->conn);
	pthread_mutex_lock(&page->table);
}

static void fork_parent(void)
{
	pthread_mutex_unlock(&page->table);
	pthread_mutex_unlock(&page->conn);
}

static void init_once(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	page = &page_fallback;
	if (p != MAP_FAILED && madvise(p, 4096, MADV_WIPEONFORK) == 0)
		page = p;
	page->mine = 1;
	pthread_atfork(fork_prepare, fork_parent, NULL);
}

void lock_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, init_once);
}

bool lock_forked(void)
{
	if (page->mine)
		return false;
	page->mine = 1;
	return true;
}

int lock_conn(uint64_t deadline_ns)
{
	uint64_t now_ns = mono_ns();
	struct timespec ts;
	int old, err;

	/* A thread cancelled while it holds the lock would take it along. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	err = -pthread_mutex_trylock(&page->conn);
	if (err && now_ns < deadline_ns) {
		ts = clock_timespec(real_ns() + deadline_ns - now_ns);
		err = -pthread_mutex_timedlock(&page->conn, &ts);
	}
	if (err)
		pthread_setcancelstate(old, NULL);
	else
		cancel_state = old;
	return err ? -ETIMEDOUT : 0;
}

void unlock_conn(void)
{
	int old = cancel_state;

	pthread_mutex_unlock(&page->conn);
	pthread_setcancelstate(old, NULL);
}

void lock_table(void)
{
	pthread_mutex_lock(&page->table);
}

void unlock_table(void)
{
	pthread_mutex_unlock(&page->table);
}

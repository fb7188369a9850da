/* See rseq_selftest.h. */
#define _GNU_SOURCE
#include "daemon/link/rseq_selftest.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "shm/order.h"
#include "talea_rseq.h"

#if __has_include(<sys/rseq.h>)
#include <sys/rseq.h>
#endif

#define ROUNDS_NR 3
#define TRIES_MAX 50	  /* a busy machine may keep the other thread waiting */
#define SPINS_MAX 2000000l /* some tens of milliseconds */

#if defined(RSEQ_SIG) && defined(TALEA_RSEQ_)
enum section { SAW, ABORTED, NEITHER };

static enum section section_wait(uint32_t *word, int is_armed)
{
	intptr_t rseq = talea_rseq_area_(__rseq_offset);

	/* A word that was there before the section says nothing: the first load. */
#ifdef __x86_64__
	__asm__ goto(TALEA_RSEQ_TABLE_("jmp %l[aborted]")
		     TALEA_RSEQ_LOAD_("rax")
		     "andq %[armed], %%rax\n\t"
		     "movq %[spins], %%rcx\n\t"
		     TALEA_RSEQ_STORE_("rax")
		     "1:\tmovl (%[word]), %%eax\n\t"
		     "testl %%eax, %%eax\n\t"
		     "movl $0, %%eax\n\t"
		     "jnz 2f\n"
		     "5:\tmovl (%[word]), %%eax\n\t"
		     "testl %%eax, %%eax\n\t"
		     "jnz 2f\n\t"
		     "pause\n\t"
		     "decq %%rcx\n\t"
		     "jnz 5b\n"
		     "2:\t" TALEA_RSEQ_CLEAR_
		     "testl %%eax, %%eax\n\t"
		     "jz %l[neither]\n\t"
		     :
		     : [rseq] "r"(rseq), [word] "r"(word), [spins] "r"(SPINS_MAX),
		       [armed] "r"(is_armed ? -1l : 0l)
		     : "rax", "rcx", "cc", "memory"
		     : aborted, neither);
#else
	__asm__ goto(TALEA_RSEQ_TABLE_("b %l[aborted]")
		     TALEA_RSEQ_LOAD_("x9")
		     "and x9, x9, %[armed]\n\t"
		     "mov x10, %[spins]\n\t"
		     TALEA_RSEQ_STORE_("x9")
		     "1:\tldr w11, [%[word]]\n\t"
		     "mov w9, wzr\n\t"
		     "cbnz w11, 2f\n"
		     "5:\tldr w9, [%[word]]\n\t"
		     "cbnz w9, 2f\n\t"
		     "yield\n\t"
		     "sub x10, x10, #1\n\t"
		     "cbnz x10, 5b\n"
		     "2:\t" TALEA_RSEQ_CLEAR_
		     "cbz w9, %l[neither]\n\t"
		     :
		     : [rseq] "r"(rseq), [word] "r"(word), [spins] "r"(SPINS_MAX),
		       [armed] "r"(is_armed ? -1l : 0l)
		     : "x9", "x10", "x11", "cc", "memory"
		     : aborted, neither);
#endif
	return SAW;
neither:
	return NEITHER;
aborted:
	talea_rseq_clear_(rseq);
	return ABORTED;
}

struct other {
	uint32_t word;
	uint32_t round; /* the one that it is to store the word for */
	uint32_t is_over;
};

static void *other_thread(void *arg)
{
	struct timespec nap = { 0, 1000000 };
	struct other *o = arg;
	uint32_t done = 0;

	while (!shm_read32(&o->is_over)) {
		uint32_t round = shm_take32(&o->round);

		nanosleep(&nap, NULL);
		if (round != done)
			shm_publish32(&o->word, 1);
		done = round;
	}
	return NULL;
}

/* Both threads on the CPU where this one is. */
static int other_start(struct other *o, pthread_t *ret)
{
	pthread_attr_t attr;
	cpu_set_t one;
	int cpu = sched_getcpu(), err;

	CPU_ZERO(&one);
	CPU_SET((unsigned int)cpu, &one);
	if (cpu < 0 || sched_setaffinity(0, sizeof(one), &one))
		return -errno;
	pthread_attr_init(&attr);
	err = -pthread_attr_setaffinity_np(&attr, sizeof(one), &one);
	if (!err)
		err = -pthread_create(ret, &attr, other_thread, o);
	pthread_attr_destroy(&attr);
	return err;
}

int rseq_selftest(int is_armed)
{
	struct other o = { 0 };
	int aborted = 0, err;
	bool is_seen = false;
	pthread_t thread;

	if (__rseq_size == 0)
		return -ENOSYS;
	err = other_start(&o, &thread);
	if (err)
		return err;
	for (int i = 1; i <= TRIES_MAX && aborted < ROUNDS_NR && !is_seen; i++) {
		enum section section;

		shm_set32(&o.word, 0);
		shm_publish32(&o.round, (uint32_t)i);
		section = section_wait(&o.word, is_armed);
		is_seen = section == SAW;
		/* An abort proves something only if it was the other thread that ran. */
		aborted += section == ABORTED && shm_read32(&o.word);
	}
	shm_set32(&o.is_over, 1);
	pthread_join(thread, NULL);
	return is_seen ? -1 : aborted == ROUNDS_NR ? 0 : -EAGAIN;
}
#else
int rseq_selftest(int is_armed)
{
	(void)is_armed;
	return -ENOSYS;
}
#endif

/*
 * The rseq section, widened: between loading the cell and the store that commits there is time for
 * preemption. Armed, no add is lost; the same code unarmed is the control and loses. The one
 * instruction of the real add is too short to show either (it passes even unarmed).
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "order.h"
#include "layout.h"
#include "talea_rseq.h"

#if defined(__x86_64__) && defined(__GLIBC__)

extern const ptrdiff_t __rseq_offset;
extern const unsigned int __rseq_size;

#define THREADS 8

struct work {
	bool is_armed;
	long adds;
	uint64_t (*cells)[8]; /* [cpu], a cache line each */
	uint64_t retries;
};

/* One add of 1 to this CPU's cell. Returns false when the section was aborted. */
static inline bool widened_add(uint64_t (*cells)[8], bool is_armed)
{
	intptr_t rseq = talea_rseq_area_(__rseq_offset);

	__asm__ goto(TALEA_RSEQ_TABLE_(TALEA_RSEQ_CLEAR_ "jmp %l[aborted]")
		     "testb %b[armed], %b[armed]\n\t"
		     "jz 1f\n\t"
		     TALEA_RSEQ_ARM_("rax")
		     "1:\tmovl %%fs:4(%[rseq]), %%eax\n\t"
		     "shlq $6, %%rax\n\t"
		     "addq %[cells], %%rax\n\t"
		     "movq (%%rax), %%rdx\n\t"
		     "movl $100, %%ecx\n"
		     "5:\tdecl %%ecx\n\t"
		     "jnz 5b\n\t"
		     "incq %%rdx\n\t"
		     "movq %%rdx, (%%rax)\n"
		     "2:\t" TALEA_RSEQ_CLEAR_
		     :
		     : [rseq] "r"(rseq), [cells] "r"(cells), [armed] "q"(is_armed)
		     : "rax", "rcx", "rdx", "cc", "memory"
		     : aborted);
	return true;
aborted:
	return false;
}

static void *add_many(void *arg)
{
	struct work *w = arg;
	uint64_t retries = 0;

	for (long i = 0; i < w->adds; i++) {
		while (!widened_add(w->cells, w->is_armed))
			retries++;
		if (i % 20000 == 0)
			sched_yield();
	}
	shm_count_add(&w->retries, retries);
	return NULL;
}

/* Runs THREADS threads on all CPUs; the adds that are missing in the sum. */
static long lost_adds(bool is_armed, long adds, uint64_t *ret_retries)
{
	struct work w = { .is_armed = is_armed, .adds = adds };
	pthread_t threads[THREADS];
	uint64_t sum = 0;

	w.cells = aligned_alloc(64, SHM_CPUS_MAX * sizeof(w.cells[0]));
	assert_non_null(w.cells);
	for (unsigned int i = 0; i < SHM_CPUS_MAX; i++)
		w.cells[i][0] = 0;
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, add_many, &w), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (unsigned int i = 0; i < SHM_CPUS_MAX; i++)
		sum += w.cells[i][0];
	free(w.cells);
	*ret_retries = w.retries;
	return (long)((uint64_t)THREADS * (uint64_t)adds - sum);
}

static long adds_each(void)
{
	return getenv("TALEA_LONG") ? 20000000 : 500000;
}

static void a_widened_section_loses_no_add(void **state)
{
	uint64_t retries;
	long lost;

	(void)state;
	if (!__rseq_size)
		skip();
	lost = lost_adds(true, adds_each(), &retries);
	print_message("# armed: %ld lost, %llu sections aborted\n", lost,
		      (unsigned long long)retries);
	assert_int_equal(lost, 0);
	assert_true(retries > 0); /* else nothing was tested */
}

static void control_the_same_section_unarmed_loses_adds(void **state)
{
	uint64_t retries;
	long lost;

	(void)state;
	if (!__rseq_size)
		skip();
	lost = lost_adds(false, adds_each(), &retries);
	print_message("# unarmed: %ld of %ld lost\n", lost, THREADS * adds_each());
	assert_true(lost > 0);
}

#else

static void a_widened_section_loses_no_add(void **state)
{
	(void)state;
	skip();
}

static void control_the_same_section_unarmed_loses_adds(void **state)
{
	(void)state;
	skip();
}

#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_widened_section_loses_no_add),
		cmocka_unit_test(control_the_same_section_unarmed_loses_adds),
	};

	return cmocka_run_group_tests_name("section", tests, NULL, NULL);
}

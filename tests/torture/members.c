/*
 * The two ways in which an add to a member is kept from counting for the slot's next owner (PROTOCOL
 * 3), each widened until taking it away shows: the section that compares the generation, ended by a
 * grace; and, without rseq, the word `fallback_used` that is set before the generation is read.
 * Controls: the same add stopped between compare and add without the section, and the word without its
 * fences.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/worker/fold/grace.h"
#include "shm/layout.h"
#include "shm/order.h"
#include "talea_rseq.h"
#include "tests/lib/harness.h"

#define ROUNDS 100000u

/* Of the section. */
struct member {
	uint64_t route __attribute__((aligned(64)));
	uint64_t cell __attribute__((aligned(64)));
	uint64_t removed __attribute__((aligned(64)));
	uint64_t added __attribute__((aligned(64)));
	uint64_t aborted, is_over;
	bool is_armed;
};

/* Without rseq. One life of a member each round: removed in round n means that its generation is
 * 2 n, which was 2 n - 1; the word is set in round n when it is n, as each region has one of its
 * own. */
struct fallback {
	uint64_t route __attribute__((aligned(128)));
	uint64_t fallback_used __attribute__((aligned(128)));
	uint64_t turn_of_adder __attribute__((aligned(128)));
	uint64_t turn_of_daemon __attribute__((aligned(128)));
	uint8_t has_added[ROUNDS + 1] __attribute__((aligned(128)));
	uint8_t was_seen[ROUNDS + 1] __attribute__((aligned(128)));
	bool is_fenced;
};

struct fixture {
	struct member member;
	struct fallback fallback;
};

static int set_up(void **state)
{
	struct fixture *f = aligned_alloc(_Alignof(struct fixture), sizeof(*f));

	assert_non_null(f);
	memset(f, 0, sizeof(*f));
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	free(*state);
	return 0;
}

#if defined(__x86_64__) && defined(__GLIBC__)

#include <sys/rseq.h>

#define WRITERS 4

/* --- the section ------------------------------------------------------------------------------- */

enum section { ADDED, LATE, ABORTED };

/* The cold add of client/target.c with a pause between compare and add. */
static enum section long_add(struct member *m, uint32_t generation, uint32_t spins, bool is_armed)
{
	__asm__ goto(TALEA_RSEQ_TABLE_(TALEA_RSEQ_CLEAR_ "jmp %l[aborted]")
		     "testb %b[armed], %b[armed]\n\t"
		     "jz 1f\n\t"
		     TALEA_RSEQ_ARM_("rax")
		     "1:\tmovl 4(%[word]), %%eax\n\t"
		     "cmpl %[generation], %%eax\n\t"
		     "jne 6f\n\t"
		     "movl %[spins], %%ecx\n"
		     "5:\tdecl %%ecx\n\t"
		     "jnz 5b\n\t"
		     "lock addq $1, (%[cell])\n"
		     "2:\t" TALEA_RSEQ_CLEAR_
		     "jmp 7f\n"
		     "6:\t" TALEA_RSEQ_CLEAR_
		     "jmp %l[late]\n"
		     "7:\n\t"
		     :
		     : [rseq] "r"(__rseq_offset), [word] "r"(&m->route),
		       [cell] "r"(&m->cell), [generation] "r"(generation),
		       [spins] "r"(spins), [armed] "q"(is_armed)
		     : "rax", "rcx", "cc", "memory"
		     : aborted, late);
	return ADDED;
late:
	return LATE;
aborted:
	return ABORTED;
}

static void *add_long(void *arg)
{
	struct member *m = arg;
	bool is_armed = m->is_armed;
	uint32_t seed = (uint32_t)(uintptr_t)pthread_self();
	uint64_t added = 0, aborted = 0;

	while (!shm_count_read(&m->is_over)) {
		uint32_t generation = slot_generation(shm_take(&m->route)) | 1;

		seed = seed * 1664525u + 1013904223u;
		switch (long_add(m, generation, 1 + (seed >> 8) % 50000, is_armed)) {
		case ADDED:
			added++;
			break;
		case LATE:
			shm_count_add(&m->removed, 1);
			added++;
			break;
		case ABORTED:
			aborted++;
			break;
		}
	}
	shm_count_add(&m->added, added);
	shm_count_add(&m->aborted, aborted);
	return NULL;
}

static void nap_us(long us)
{
	nanosleep(&(struct timespec){ .tv_nsec = us * 1000 }, NULL);
}

/* Removes the member and hands its slot out again, by rounds; the adds that the next owner got. */
static uint64_t wrong_adds(struct member *m, int rounds, bool is_armed)
{
	int online_fd = open("/sys/devices/system/cpu/online", O_RDONLY | O_CLOEXEC);
	uint64_t wrong = 0, moved = 0;
	pthread_t threads[WRITERS];

	assert_true(online_fd >= 0);
	m->is_armed = is_armed;
	m->route = slot_route(1, SHM_ROW_NONE);
	for (int i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, add_long, m), 0);
	for (int i = 0; i < rounds; i++) {
		uint64_t held, before;

		nap_us(50);
		shm_publish(&m->route, m->route + (1ull << 32));
		shm_fence();
		assert_int_equal(grace_visit(online_fd), 0);
		before = shm_count_read(&m->cell);
		nap_us(50);
		held = shm_count_read(&m->cell);
		wrong += held - before;
		moved = held;
		shm_publish(&m->route, m->route + (1ull << 32));
	}
	shm_count_set(&m->is_over, 1);
	for (int i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	close(online_fd);
	print_message("# %d removals, %llu adds, %llu of them late, %llu sections aborted: %llu "
		      "counted for the next owner\n", rounds, (unsigned long long)m->added,
		      (unsigned long long)m->removed, (unsigned long long)m->aborted,
		      (unsigned long long)wrong);
	assert_true(moved > 0 && m->removed > 0);
	assert_int_equal(m->cell + m->removed, m->added);
	return wrong;
}

static void no_add_counts_for_the_next_owner_of_a_slot(void **state)
{
	struct fixture *f = *state;

	if (!__rseq_size)
		test_skip("this thread has no rseq");
	assert_int_equal(wrong_adds(&f->member, harness_times(1000, 20000), true), 0);
}

static void control_without_the_section_adds_count_for_the_next_owner(void **state)
{
	struct fixture *f = *state;

	if (!__rseq_size)
		test_skip("this thread has no rseq");
	assert_true(wrong_adds(&f->member, harness_times(300, 3000), false) > 0);
}

/* --- without rseq ------------------------------------------------------------------------------ */

static inline void fence(bool is_fenced)
{
	if (is_fenced)
		shm_fence();
	else
		__asm__ volatile("" : : : "memory");
}

static inline void meet(uint64_t *mine, const uint64_t *other, uint64_t round)
{
	shm_publish(mine, round);
	for (unsigned int i = 1; shm_take(other) < round; i++)
		if (i % 65536 == 0)
			sched_yield();
}

static void stay_on(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/* As member_add_fallback of client/target.c. */
static void *add_without_rseq(void *arg)
{
	struct fallback *l = arg;
	bool is_fenced = l->is_fenced;

	stay_on(1);
	for (uint64_t n = 1; n <= ROUNDS; n++) {
		meet(&l->turn_of_adder, &l->turn_of_daemon, n);
		shm_count_set(&l->fallback_used, n);
		/* ORDER(fallback): see there */
		fence(is_fenced);
		l->has_added[n] = slot_generation(shm_take(&l->route)) < 2 * n;
	}
	return NULL;
}

/* As member_hide and remove_reuse of daemon/worker/space/remove.c. */
static void *remove_members(void *arg)
{
	struct fallback *l = arg;
	bool is_fenced = l->is_fenced;

	stay_on(0);
	for (uint64_t n = 1; n <= ROUNDS; n++) {
		meet(&l->turn_of_daemon, &l->turn_of_adder, n);
		shm_publish(&l->route, slot_route((uint32_t)(2 * n), SHM_ROW_NONE));
		/* ORDER(fallback) */
		fence(is_fenced);
		l->was_seen[n] = shm_count_read(&l->fallback_used) >= n;
	}
	return NULL;
}

/* Adds to cells that the daemon would have handed out again. */
static uint64_t unseen_adds(struct fallback *l)
{
	pthread_t adder, daemon;
	uint64_t unseen = 0;

	l->route = l->fallback_used = l->turn_of_adder = l->turn_of_daemon = 0;
	assert_int_equal(pthread_create(&adder, NULL, add_without_rseq, l), 0);
	assert_int_equal(pthread_create(&daemon, NULL, remove_members, l), 0);
	pthread_join(adder, NULL);
	pthread_join(daemon, NULL);
	for (uint32_t n = 1; n <= ROUNDS; n++)
		unseen += l->has_added[n] && !l->was_seen[n];
	return unseen;
}

static uint64_t unseen_in(struct fallback *l, unsigned int ms, bool with_fences, bool until_seen)
{
	uint64_t end = harness_now_ns() + ms * 1000000ull, unseen = 0, passes = 0;

	l->is_fenced = with_fences;
	while (harness_now_ns() < end && !(until_seen && unseen)) {
		unseen += unseen_adds(l);
		passes++;
	}
	print_message("# %llu adds without rseq beside a removal: %llu the daemon knew nothing of\n",
		      (unsigned long long)(passes * ROUNDS), (unsigned long long)unseen);
	return unseen;
}

static void an_add_without_rseq_is_known_before_its_cell_is_handed_out(void **state)
{
	struct fixture *f = *state;
	unsigned int ms = (unsigned int)harness_times(1000, 20000);

	assert_int_equal(unseen_in(&f->fallback, ms, true, false), 0);
}

static void control_without_the_fences_it_is_not(void **state)
{
	struct fixture *f = *state;

	if (TEST_IS_TSAN || sysconf(_SC_NPROCESSORS_ONLN) < 2)
		test_skip("nothing is out of order: one CPU, or the thread sanitizer's own fences");
	assert_true(unseen_in(&f->fallback, 10000, false, true) > 0);
}

#else

static void no_add_counts_for_the_next_owner_of_a_slot(void **state)
{
	(void)state;
	test_skip("the widened section is x86-64 assembly");
}

#define control_without_the_section_adds_count_for_the_next_owner \
	no_add_counts_for_the_next_owner_of_a_slot
#define an_add_without_rseq_is_known_before_its_cell_is_handed_out \
	no_add_counts_for_the_next_owner_of_a_slot
#define control_without_the_fences_it_is_not no_add_counts_for_the_next_owner_of_a_slot

#endif

#define MEMBERS_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		MEMBERS_TEST(no_add_counts_for_the_next_owner_of_a_slot),
		MEMBERS_TEST(control_without_the_section_adds_count_for_the_next_owner),
		MEMBERS_TEST(an_add_without_rseq_is_known_before_its_cell_is_handed_out),
		MEMBERS_TEST(control_without_the_fences_it_is_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * What the adding path touches: targets, their bind records, private cells, and the out-of-line
 * add. Wait-free and signal safe where it says so. Takes no lock of its own: callers change targets
 * under the table lock. Records, targets and cells are never freed, because a thread may hold their
 * address for ever.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "internal.h"

/* Known to glibc 2.35 and later; a libc without them leaves both NULL. The library includes no
 * linux/ header: musl ships none. */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));

#define MEMBARRIER_PRIVATE_EXPEDITED_RSEQ_	    (1 << 7)
#define MEMBARRIER_REGISTER_PRIVATE_EXPEDITED_RSEQ_ (1 << 8)

/* A route that names no row whatever the generation: the word of an unbound target. */
const uint64_t target_no_row = SHM_ROW_NONE;

static uint64_t undeclared_cell;
static struct bind undeclared_bind = { .kind = BIND_PRIVATE, .cold = &undeclared_cell };

struct talea_target_ talea_undeclared_ = {
	.word = &target_no_row,
	.cold = &undeclared_cell,
	.bind = &undeclared_bind,
};

uint64_t target_undeclared(void)
{
	return shm_count_read(&undeclared_cell);
}

int64_t target_rseq_off(const char **ret_why)
{
	const char *why = "";
	int64_t off = 0;

#ifdef TALEA_RSEQ_
	if (!&__rseq_offset || !&__rseq_size)
		why = "this C library does not register rseq (glibc 2.35 or later does)";
	else if (__rseq_size == 0)
		why = "rseq is not registered: an old kernel, or glibc.pthread.rseq=0";
	else
		off = __rseq_offset;
#else
	why = "there is no rseq code for this CPU";
#endif
	if (ret_why)
		*ret_why = why;
	return off;
}

/* Registered at the first use: a process that never binds pays nothing. */
bool target_membarrier(void)
{
	static int registered; /* 0 not tried, 1 yes, -1 no */

	if (!registered)
		registered = syscall(SYS_membarrier, MEMBARRIER_REGISTER_PRIVATE_EXPEDITED_RSEQ_, 0,
				     0) == 0 ? 1 : -1;
	return registered > 0;
}

/* All rseq sections of this process that began before have ended or aborted. */
static void sections_end(void)
{
	syscall(SYS_membarrier, MEMBARRIER_PRIVATE_EXPEDITED_RSEQ_, 0, 0);
}

/* --- memory that is never given back ---------------------------------------------------------- */

struct arena {
	char *at, *end;
	int advice;
};

static void *arena_take(struct arena *a, size_t bytes)
{
	const size_t chunk = 64 * 1024;
	void *p;

	if ((size_t)(a->end - a->at) < bytes) {
		p = mmap(NULL, chunk, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED)
			return NULL;
		if (a->advice && madvise(p, chunk, a->advice)) {
			munmap(p, chunk);
			return NULL;
		}
		a->at = p;
		a->end = a->at + chunk;
	}
	p = a->at;
	a->at += bytes;
	return p;
}

/* Zero in a child, which would otherwise carry its parent's adds over once more. */
uint64_t *cell_alloc(void)
{
	static struct arena cells = { .advice = MADV_WIPEONFORK };

	return arena_take(&cells, sizeof(uint64_t));
}

struct bind *bind_alloc(void)
{
	static struct arena binds;

	return arena_take(&binds, sizeof(struct bind));
}

/* --- the out-of-line add ----------------------------------------------------------------------- */

/*
 * An add after its member's removal counts in `removed`, whichever handle made it. It marks the
 * record, so that the next call that is not an add finds the name again. Private memory, signal
 * safe.
 */
static void late_add(struct bind *b, uint64_t n)
{
	shm_count_add(b->removed, n);
	if (shm_read32(&b->is_late))
		return;
	shm_set32(&b->is_late, 1);
	/* ORDER(late): the mark is in place before the thread that claims this word scans for
	 * marks. */
	shm_publish(&b->region->has_gone, 1);
}

/* Without a section nothing aborts an add that was delayed between compare and add. It sets the
 * word first, so that the daemon never hands out such a cell again (PROTOCOL 3). */
static void member_add_fallback(struct bind *b, uint64_t n)
{
	if (!shm_count_read(b->fallback))
		shm_count_set(b->fallback, 1);
	/* ORDER(fallback): the daemon sees the word after its generation store, or this generation
	 * load sees that store. */
	shm_fence();
	if (slot_generation(shm_take(b->word)) == b->generation)
		shm_count_add(b->cold, n);
	else
		late_add(b, n);
}

enum section { ADDED, LATE, ABORTED, UNREGISTERED };

#ifdef TALEA_RSEQ_
static inline enum section member_section(const struct bind *b, int64_t off, uint64_t n)
{
	intptr_t rseq = talea_rseq_area_(off);

#ifdef __x86_64__
	__asm__ goto(TALEA_RSEQ_TABLE_("jmp %l[aborted]")
		     TALEA_RSEQ_ARM_("rax")
		     "1:\tmovl 4(%[word]), %%eax\n\t"
		     "cmpl %[generation], %%eax\n\t"
		     "jne %l[late]\n\t"
		     "cmpl %[cpus], %%fs:4(%[rseq])\n\t"
		     "jae %l[unregistered]\n\t"
		     "lock addq %[n], (%[cold])\n"
		     "2:\t" TALEA_RSEQ_CLEAR_
		     :
		     : [rseq] "r"(rseq), [word] "r"(b->word), [cold] "r"(b->cold),
		       [generation] "r"(b->generation), [n] "er"(n), [cpus] "i"(SHM_CPUS_MAX)
		     : "rax", "cc", "memory"
		     : late, aborted, unregistered);
#else
	__asm__ goto(TALEA_RSEQ_TABLE_("b %l[aborted]")
		     TALEA_RSEQ_ARM_("x9")
		     "1:\tldar x9, [%[word]]\n\t"
		     "lsr x9, x9, #32\n\t"
		     "cmp w9, %w[generation]\n\t"
		     "b.ne %l[late]\n\t"
		     "ldr w9, [%[rseq], #4]\n\t"
		     "cmp w9, %[cpus]\n\t"
		     "b.hs %l[unregistered]\n"
		     /* Exclusive, not LSE: the one store that commits must be the last instruction. */
		     "5:\tldxr x9, [%[cold]]\n\t"
		     "add x9, x9, %[n]\n\t"
		     "stxr w10, x9, [%[cold]]\n"
		     "2:\tcbnz w10, %l[aborted]\n\t"
		     TALEA_RSEQ_CLEAR_
		     :
		     : [rseq] "r"(rseq), [word] "r"(b->word), [cold] "r"(b->cold),
		       [generation] "r"(b->generation), [n] "r"(n), [cpus] "i"(SHM_CPUS_MAX)
		     : "x9", "x10", "cc", "memory"
		     : late, aborted, unregistered);
#endif
	return ADDED;
late:
	talea_rseq_clear_(rseq);
	return LATE;
aborted:
	talea_rseq_clear_(rseq);
	return ABORTED;
unregistered:
	talea_rseq_clear_(rseq);
	return UNREGISTERED;
}
#endif

static uint64_t member_off; /* target_rseq_off(), set before the first member exists */

void member_add(struct bind *b, uint64_t n)
{
#ifdef TALEA_RSEQ_
	int64_t off = (int64_t)shm_count_read(&member_off);

	/* An abort is a preemption, a migration or a signal: a few in a row are rare. After them
	 * the fallback is as exact; it only keeps the cell from being reused. */
	for (int tries = 0; off && tries < 1000; tries++) {
		switch (member_section(b, off, n)) {
		case ADDED:
			return;
		case LATE:
			late_add(b, n);
			return;
		case ABORTED:
			continue;
		case UNREGISTERED:
			member_add_fallback(b, n);
			return;
		}
	}
#endif
	member_add_fallback(b, n);
}

/*
 * The inline add through a target that exists for this one add. The row is a hint of the look-up:
 * the section takes the route anew, and what it rejects ends in member_add.
 */
void member_add_hot(struct bind *b, uint64_t n)
{
	struct talea_target_ target = {
		.word = b->word,
		.bias = (uint64_t)b->generation << 32,
		.lane0 = b->region->view.s + SHM_S_LANES,
		.bind = b,
	};

	talea_target_add_(&target, n);
}

void talea_add_slow_(struct talea_target_ *target, uint64_t n)
{
	/* ORDER(bind): a record is complete before a target points to it. */
	struct bind *b = shm_take_ptr((struct bind **)&target->bind);

	if (__builtin_expect(b->kind == BIND_MEMBER, 0))
		member_add(b, n);
	else
		shm_count_add(b->cold, n);
}

void talea_inc_fn(struct talea_counter c)
{
	talea_inc(c);
}

void talea_add_fn(struct talea_counter c, uint64_t n)
{
	talea_add(c, n);
}

void talea_level_add_fn(struct talea_level l, int64_t n)
{
	talea_level_add(l, n);
}

/* --- binding ------------------------------------------------------------------------------------ */

void target_init(struct talea_target_ *t)
{
	shm_count_set(&member_off, (uint64_t)target_rseq_off(NULL));
	t->word = &target_no_row;
}

/* Where the target's atomic adds go from now on. */
void target_cold(struct talea_target_ *t, struct bind *b)
{
	/* ORDER(bind): the record first, because a NULL sends adds to it. */
	shm_publish_ptr(&t->bind, b);
	/* ORDER(cold): the cell is mapped for ever before a target names it. */
	shm_publish_ptr(&t->cold, b->kind == BIND_MEMBER ? NULL : b->cold);
}

static void hot_fields(struct talea_target_ *t, const struct bind *b)
{
	char *s = b->region->view.s;

	t->bias = (uint64_t)b->generation << 32;
	t->lane0 = s ? s + SHM_S_LANES : NULL;
}

static void word_publish(struct talea_target_ *t, const uint64_t *word)
{
	/* ORDER(target): the section loads the word first; the fields behind it are in place. */
	shm_publish_ptr((const uint64_t **)&t->word, word);
}

/* talea_peek reads where this points. A member's slot may get another owner one day, which only the
 * out-of-line twin notices. */
static void total_publish(struct key *k, const struct bind *b)
{
	const uint64_t *total = (const uint64_t *)((const char *)b->region->view.t + SHM_T_TOTALS);

	shm_publish_ptr(&k->target.total, b->is_own_member ? NULL : total + b->slot);
}

size_t target_rebind(struct key **keys, struct bind **binds, size_t nr)
{
	bool rebound = false;
	size_t left = 0;

	for (size_t i = 0; i < nr; i++) {
		struct talea_target_ *t = &keys[i]->target;
		const struct bind *b = binds[i];

		if (keys[i]->was_hot) {
			word_publish(t, &target_no_row);
			rebound = true;
		}
		target_cold(t, binds[i]);
		total_publish(keys[i], b);
	}
	if (rebound && target_membarrier())
		sections_end();
	for (size_t i = 0; i < nr; i++)
		if (!keys[i]->was_hot || target_membarrier())
			hot_fields(&keys[i]->target, binds[i]);
	if (rebound && target_membarrier())
		sections_end();
	for (size_t i = 0; i < nr; i++) {
		struct key *k = keys[i];

		if (k->was_hot && !target_membarrier()) {
			left += !k->out_of_line;
			k->out_of_line = true;
			continue;
		}
		if (binds[i]->region->writable)
			word_publish(&k->target, binds[i]->word);
		k->was_hot = true;
	}
	return left;
}

/*
 * The inline part of talea.h: the add and the cheapest read. The layout of struct talea_target_ and
 * the constants here are the ABI that TALEA_ABI numbers. Include talea.h, not this file.
 */
#ifndef TALEA_ADD_H
#define TALEA_ADD_H

#include "talea_rseq.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TALEA_LANE_STRIDE_ 0x101040 /* bytes between the lanes of two CPUs */
#define TALEA_CPUS_MAX_ 1024
#define TALEA_TOTALS_EPOCH_ 64	    /* in T: the epoch, fold times behind it, then two copies */
#define TALEA_TOTALS_TIME_ 72
#define TALEA_TOTALS_COPY_ 0x100000
#define TALEA_TOTALS_BYTES_ 0x8000000
#define TALEA_TOTALS_ALIGN_ 0x20000000

/*
 * Where a handle adds: private to the process, immortal, one cache line. word, bias and lane0 are
 * copies of *bind, changed only while no section can be reading them. A target that is not bound
 * has a word that names no row, which the inline path turns away. T is mapped at a multiple of
 * TALEA_TOTALS_ALIGN_, so that one pointer names both T and the slot.
 */
struct talea_target_ {
	const uint64_t *word; /* the slot's route: generation:32 | row byte offset:32 */
	uint64_t bias;	      /* generation << 32 */
	char *lane0;	      /* the first CPU's lane */
	uint64_t *cold;	      /* a cell for atomic adds; NULL: only the out-of-line path knows */
	void *bind;	      /* immutable record for the out-of-line path */
	const uint64_t *total; /* the slot in the first copy of T, or NULL */
	uint64_t reserved[2];
} __attribute__((aligned(64)));

/* The out-of-line path: members of families, and every cell for other languages. Wait-free, signal
 * safe. */
void talea_add_slow_(struct talea_target_ *target, uint64_t n);

/* What the section turned away: no row, no rseq, aborted. */
static inline __attribute__((always_inline)) void talea_target_add_cold_(struct talea_target_ *t,
									 uint64_t n)
{
	/* ORDER(cold): the pointer alone is enough, and both cells it may name are good. */
	uint64_t *cold = __atomic_load_n(&t->cold, __ATOMIC_RELAXED);

	if (__builtin_expect(cold != NULL, 1))
		__atomic_fetch_add(cold, n, __ATOMIC_RELAXED);
	else
		talea_add_slow_(t, n);
}

/*
 * The add of a hot counter: one restartable sequence (rseq). The kernel resumes a thread that it
 * preempted, migrated or signalled between 1: and 2: at 4:, so what the thread loaded there is
 * still true when the last instruction commits. Inside: the route (its generation and that it names
 * a row, in one unsigned compare), then the CPU number, whose bound also turns threads away that
 * have no rseq. ORDER(target): the word is loaded before bias and lane0.
 *
 * __rseq_offset is glibc's constant, not a field of the target: compilers keep it in a register
 * (1.06 ns an add instead of 1.26). Other C libraries take the out-of-line path.
 */
#if defined(__GLIBC__) && (__GLIBC__ > 2 || (__GLIBC__ == 2 && __GLIBC_MINOR__ >= 35)) && \
	defined(TALEA_RSEQ_)
#define TALEA_INLINE_ 1
extern const ptrdiff_t __rseq_offset;
#endif

#if defined(TALEA_INLINE_) && defined(__x86_64__)
static inline __attribute__((always_inline)) void talea_target_add_(struct talea_target_ *t,
								    uint64_t n)
{
	intptr_t rseq = talea_rseq_area_(__rseq_offset);

	__asm__ goto(TALEA_RSEQ_TABLE_(TALEA_RSEQ_CLEAR_ "jmp %l[slow]")
		     TALEA_RSEQ_ARM_("rdx")
		     "1:\tmovl %%fs:4(%[rseq]), %%ecx\n\t"
		     "cmpl %[cpus], %%ecx\n\t"
		     "jae 4b\n\t"
		     "movq %c[word](%[t]), %%rax\n\t"
		     "movq (%%rax), %%rax\n\t"
		     "subq %c[bias](%[t]), %%rax\n\t"
		     "cmpq $0x7fffffff, %%rax\n\t"
		     "ja 4b\n\t"
		     "imulq %[stride], %%rcx, %%rdx\n\t"
		     "addq %c[lane0](%[t]), %%rdx\n\t"
		     "addq %%rax, %%rdx\n\t"
		     "addq %[n], (%%rdx)\n"
		     "2:\t" TALEA_RSEQ_CLEAR_
		     :
		     : [t] "r"(t), [rseq] "r"(rseq), [n] "er"(n),
		       [cpus] "i"(TALEA_CPUS_MAX_), [stride] "i"(TALEA_LANE_STRIDE_),
		       [word] "i"(offsetof(struct talea_target_, word)),
		       [bias] "i"(offsetof(struct talea_target_, bias)),
		       [lane0] "i"(offsetof(struct talea_target_, lane0))
		     : "rax", "rcx", "rdx", "cc", "memory"
		     : slow);
	return;
slow:
	talea_target_add_cold_(t, n);
}
#elif defined(TALEA_INLINE_)
static inline __attribute__((always_inline)) void talea_target_add_(struct talea_target_ *t,
								    uint64_t n)
{
	intptr_t rseq = talea_rseq_area_(__rseq_offset);

	__asm__ goto(TALEA_RSEQ_TABLE_(TALEA_RSEQ_CLEAR_ "b %l[slow]")
		     TALEA_RSEQ_ARM_("x9")
		     "1:\tldr x9, [%[t], %[word]]\n\t"
		     "ldar x9, [x9]\n\t"
		     "ldr x10, [%[t], %[bias]]\n\t"
		     "sub x9, x9, x10\n\t"
		     "lsr x10, x9, #31\n\t"
		     "cbnz x10, 5f\n\t"
		     "ldr w10, [%[rseq], #4]\n\t"
		     "cmp w10, %[cpus]\n\t"
		     "b.hs 5f\n\t"
		     "ldr x11, [%[t], %[lane0]]\n\t"
		     "madd x10, x10, %[stride], x11\n\t"
		     "add x9, x9, x10\n\t"
		     "ldr x10, [x9]\n\t"
		     "add x10, x10, %[n]\n\t"
		     "str x10, [x9]\n"
		     "2:\t" TALEA_RSEQ_CLEAR_
		     "b 6f\n"
		     "5:\t" TALEA_RSEQ_CLEAR_
		     "b %l[slow]\n"
		     "6:\n\t"
		     :
		     : [t] "r"(t), [rseq] "r"(rseq), [n] "r"(n), [cpus] "i"(TALEA_CPUS_MAX_),
		       [stride] "r"((uint64_t)TALEA_LANE_STRIDE_),
		       [word] "i"(offsetof(struct talea_target_, word)),
		       [bias] "i"(offsetof(struct talea_target_, bias)),
		       [lane0] "i"(offsetof(struct talea_target_, lane0))
		     : "x9", "x10", "x11", "cc", "memory"
		     : slow);
	return;
slow:
	talea_target_add_cold_(t, n);
}
#else
static inline __attribute__((always_inline)) void talea_target_add_(struct talea_target_ *t,
								    uint64_t n)
{
	talea_target_add_cold_(t, n);
}
#endif

/* Adds 1; see talea.h. */
static inline __attribute__((always_inline)) void talea_inc(struct talea_counter c)
{
	talea_target_add_(c.target_, 1);
}

/* Adds n. A counter is exact to 2^63 - 1. */
static inline __attribute__((always_inline)) void talea_add(struct talea_counter c, uint64_t n)
{
	talea_target_add_(c.target_, n);
}

/* Adds n, which may be negative. */
static inline __attribute__((always_inline)) void talea_level_add(struct talea_level l, int64_t n)
{
	talea_target_add_(l.target_, (uint64_t)n);
}

/* A value of the newest fold, with its epoch and the CLOCK_MONOTONIC time at which that fold began:
 * now minus as_of_mono_ns is its age. */
struct talea_stamp {
	int64_t value;
	uint64_t epoch;
	uint64_t as_of_mono_ns;
};

/* The out-of-line twin of talea_peek. */
int talea_peek_fn(struct talea_counter c, struct talea_stamp *ret);

/*
 * The cheapest read: the newest fold's value of a counter, without a clock read. 0, or -ENOTCONN
 * before the counter's first attachment, -ENOENT for a member that was removed (then *ret is
 * untouched). Wait-free beside a fold but for one retry. Members of families are read out of line.
 * A counter of an older region reads its last value there.
 */
static inline __attribute__((always_inline)) int talea_peek(struct talea_counter c,
							    struct talea_stamp *ret)
{
	const uint64_t *total = __atomic_load_n(&c.target_->total, __ATOMIC_RELAXED);
	const char *t = (const char *)((uintptr_t)total & ~(uintptr_t)(TALEA_TOTALS_ALIGN_ - 1));
	uint64_t epoch, again, value, as_of;

	if (__builtin_expect(!total, 0)) {
		struct talea_stamp out; /* *ret must not escape, or it cannot live in registers */
		int err = talea_peek_fn(c, &out);

		if (!err)
			*ret = out;
		return err;
	}
	do {
		/* ORDER(epoch): the copy is read between two reads of one epoch. */
		epoch = __atomic_load_n((const uint64_t *)(t + TALEA_TOTALS_EPOCH_),
					__ATOMIC_ACQUIRE);
		value = __atomic_load_n(total + (epoch & 1) * (TALEA_TOTALS_BYTES_ / 8),
					__ATOMIC_RELAXED);
		as_of = __atomic_load_n((const uint64_t *)(t + TALEA_TOTALS_TIME_) + (epoch & 1),
					__ATOMIC_RELAXED);
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		again = __atomic_load_n((const uint64_t *)(t + TALEA_TOTALS_EPOCH_),
					__ATOMIC_RELAXED);
	} while (__builtin_expect(again != epoch, 0));
	ret->value = (int64_t)value;
	ret->epoch = epoch;
	ret->as_of_mono_ns = as_of;
	return 0;
}

#ifdef __cplusplus
}
#endif

#endif

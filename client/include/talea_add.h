/*
 * The inline part of talea.h: the add and the cheapest read. The layout of struct talea_target_ and
 * the constants here are the ABI that TALEA_ABI numbers. Include talea.h, not this file.
 */
#ifndef TALEA_ADD_H
#define TALEA_ADD_H

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
 * Where a handle adds: private to the process, immortal, one cache line. The hot fields are copies
 * of *bind, changed as PROTOCOL 4 says; rseq_off 0 means that the inline path must not be taken.
 * T is mapped at a multiple of TALEA_TOTALS_ALIGN_, so that one pointer names both T and the slot.
 */
struct talea_target_ {
	const uint64_t *word; /* the slot's route: generation:32 | row byte offset:32 */
	uint64_t bias;	      /* generation << 32 */
	char *lane0;	      /* the first CPU's lane */
	int64_t rseq_off;     /* of struct rseq from the thread pointer */
	void *bind;	      /* immutable record for the out-of-line path */
	const uint64_t *total; /* the slot in the first copy of T, or NULL */
	uint64_t reserved[2];
} __attribute__((aligned(64)));

/* The out-of-line path: cold cell, family member, private cell. Wait-free, signal safe. */
void talea_add_slow_(struct talea_target_ *target, uint64_t n);

static inline __attribute__((always_inline)) void
talea_target_add_(struct talea_target_ *t, uint64_t n)
{
	talea_add_slow_(t, n); /* replaced by the measured sequence */
}

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
 * before the counter's first attachment (then *ret is untouched). Wait-free beside a fold but for
 * one retry. A counter of an older region reads its last value there.
 */
static inline __attribute__((always_inline)) int talea_peek(struct talea_counter c,
							    struct talea_stamp *ret)
{
	const uint64_t *total = __atomic_load_n(&c.target_->total, __ATOMIC_RELAXED);
	const char *t = (const char *)((uintptr_t)total & ~(uintptr_t)(TALEA_TOTALS_ALIGN_ - 1));
	uint64_t epoch, again, value, as_of;

	if (__builtin_expect(!total, 0))
		return talea_peek_fn(c, ret);
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

/*
 * What a declared probe is made of: the constants that talead sets before it loads one of the
 * objects of bpf/declared, and, for those, the one program that they share. What constants decide
 * costs nothing at run time but reading them: the verifier removes what they make unreachable.
 * Included by the objects, and for the layout of the constants by daemon/keeper/probe/declared*.c.
 */
#ifndef BPF_DECLARED_H
#define BPF_DECLARED_H

#include "talea.bpf.h"

#define DECLARED_FILTERS_MAX 4
#define DECLARED_SITES_MAX   16
#define DECLARED_ARGS_MAX    6
#define DECLARED_COMM_BYTES  16

enum declared_field {
	DECLARED_NONE, DECLARED_CPU, DECLARED_PID, DECLARED_TGID, DECLARED_UID, DECLARED_COMM,
	DECLARED_CGROUP,
	DECLARED_VALUE, /* number `arg` of what the event brings; see FETCH of each object */
	DECLARED_ERRNO, /* the same, as an error number */
};

/* One word, so that it is read at once: field, number, bytes (1, 2, 4, 8) and is it signed. */
#define DECLARED_OPERAND(field, arg, bytes, is_signed, is_pointer)                              \
	((__u32)(field) | (__u32)(arg) << 8 | (__u32)(bytes) << 16 | (__u32)(is_signed) << 24 | \
	 (__u32)(is_pointer) << 25)
#define DECLARED_FIELD(o)      ((o) & 0xff)
#define DECLARED_ARG(o)	       ((o) >> 8 & 0xff)
#define DECLARED_BYTES(o)      ((o) >> 16 & 0xff)
#define DECLARED_IS_SIGNED(o)  ((o) >> 24 & 1)
#define DECLARED_IS_POINTER(o) ((o) >> 25 & 1)

enum declared_op {
	DECLARED_EQ = 1, DECLARED_NE, DECLARED_LT, DECLARED_LE, DECLARED_GT, DECLARED_GE, DECLARED_AND
};

struct declared_filter {
	__u32 what; /* DECLARED_OPERAND */
	__u32 op;
	__s64 value;
	char comm[DECLARED_COMM_BYTES]; /* padded with zeroes, as the kernel's own is */
};

/* Where a site of a USDT keeps an argument. */
enum declared_place_kind { DECLARED_CONSTANT, DECLARED_REGISTER, DECLARED_MEMORY };
struct declared_place {
	__u8 kind;
	__u8 bytes;
	__u8 is_signed;
	__u8 scale;	   /* of the index: a shift */
	__u16 reg, index; /* offsets in struct pt_regs; index 0xffff: none */
	__s64 value;	  /* the constant; memory: what is added to the register */
};
#define DECLARED_NO_INDEX 0xffff
#define DECLARED_RESULT	  6 /* of an uretprobe: the number behind the arguments */

struct declared {
	__u32 keys_nr;
	__u32 filters_nr;
	__u32 keys[TALEA_KEYS_MAX];
	__u32 amount; /* field DECLARED_NONE: 1 */
	struct declared_filter filters[DECLARED_FILTERS_MAX];
	struct declared_place places[DECLARED_SITES_MAX][DECLARED_ARGS_MAX]; /* USDT, by cookie */
};

#ifdef __bpf__
#include <linux/errno.h>
#include <stdbool.h>

#include "count.h"

const volatile struct declared declared = { 0 };

/* Both sizes are set when it is loaded. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(key_size, TALEA_KEY_BYTES);
	__uint(value_size, sizeof(__u64));
	__uint(max_entries, 1);
} counts_k SEC(".maps");

/*
 * A load at an offset that is an immediate: the verifier wants that of a context, and the compiler
 * would make one load of several behind a sum.
 */
#define LOAD_AT(base, offset)                                                         \
	({                                                                            \
		__u64 loaded;                                                         \
		asm volatile("%0 = *(u64 *)(%1 + %2)"                                 \
			     : "=r"(loaded) : "r"(base), "i"(offset));                \
		loaded;                                                               \
	})
#define LOAD_CASE(base, nr, offset) \
	case nr:                    \
		return LOAD_AT(base, offset)

/* Each object's own: value number `nr` of the event, still as wide as a register. */
static __always_inline __u64 fetch(void *ctx, __u32 nr);

/* Cuts a value to its width; what is left of the register may hold anything. */
static __always_inline __u64 narrow(__u64 v, __u32 bytes, __u32 is_signed)
{
	__u32 shift = 64 - 8 * bytes;

	v <<= shift;
	return is_signed ? (__u64)((__s64)v >> shift) : v >> shift;
}

static __always_inline __u64 value_of(void *ctx, __u32 what)
{
	__u64 v = fetch(ctx, DECLARED_ARG(what)), number;

	/* A pointer that the verifier knows as one: a copy of its bytes is a number. */
	if (DECLARED_IS_POINTER(what)) {
		bpf_probe_read_kernel(&number, sizeof(number), &v);
		return number;
	}
	if (DECLARED_BYTES(what) < sizeof(v))
		v = narrow(v, DECLARED_BYTES(what), DECLARED_IS_SIGNED(what));
	return v;
}

/* The kernel's MAX_ERRNO: results below -4095 are none. */
static __always_inline __u64 errno_of(__u64 result)
{
	return -result - 1 < 4095 ? -result : 0;
}

static __always_inline __u64 operand(void *ctx, __u32 what)
{
	switch (DECLARED_FIELD(what)) {
	case DECLARED_CPU:
		return bpf_get_smp_processor_id();
	case DECLARED_PID:
		return (__u32)bpf_get_current_pid_tgid();
	case DECLARED_TGID:
		return bpf_get_current_pid_tgid() >> 32;
	case DECLARED_UID:
		return (__u32)bpf_get_current_uid_gid();
	case DECLARED_CGROUP:
		return bpf_get_current_cgroup_id();
	case DECLARED_VALUE:
		return value_of(ctx, what);
	case DECLARED_ERRNO:
		return errno_of(value_of(ctx, what));
	}
	return 1;
}

static __always_inline bool compare(__u32 op, __s64 v, __s64 with)
{
	switch (op) {
	case DECLARED_EQ:
		return v == with;
	case DECLARED_NE:
		return v != with;
	case DECLARED_LT:
		return v < with;
	case DECLARED_LE:
		return v <= with;
	case DECLARED_GT:
		return v > with;
	case DECLARED_GE:
		return v >= with;
	}
	return v & with;
}

static __always_inline bool passes(void *ctx, const volatile struct declared_filter *f)
{
	const volatile __u64 *wanted = (const volatile __u64 *)f->comm;
	__u64 comm[DECLARED_COMM_BYTES / sizeof(__u64)];
	__u32 what = f->what, op = f->op;

	if (DECLARED_FIELD(what) != DECLARED_COMM)
		return compare(op, operand(ctx, what), f->value);
	bpf_get_current_comm(comm, sizeof(comm));
	return (comm[0] == wanted[0] && comm[1] == wanted[1]) == (op == DECLARED_EQ);
}

/* Puts one part of a key; returns where the next one begins. */
static __always_inline __u32 part_put(void *ctx, __u32 what, char *key, __u32 at)
{
	if (DECLARED_FIELD(what) == DECLARED_COMM) {
		bpf_get_current_comm(key + at, DECLARED_COMM_BYTES);
		return at + DECLARED_COMM_BYTES;
	}
	*(__u64 *)(key + at) = operand(ctx, what);
	return at + sizeof(__u64);
}

/*
 * A key that is new begins with what is added, in one step. Two CPUs may find it missing at once,
 * and an interrupt between the look-up and the update: who comes second adds to what is there. No
 * room, or a lock of the map that this CPU holds already: the overflow has it.
 */
static __always_inline void key_add(void *key, __u64 amount)
{
	__u64 *cell = bpf_map_lookup_elem(&counts_k, key);

	if (!cell) {
		long err = bpf_map_update_elem(&counts_k, key, &amount, BPF_NOEXIST);

		if (!err)
			return;
		if (err == -EEXIST)
			cell = bpf_map_lookup_elem(&counts_k, key);
	}
	if (cell) {
		__sync_fetch_and_add(cell, amount);
		return;
	}
	count_add(TALEA_SOURCE_TOTAL, TALEA_SOURCE_STRIDE, amount);
	count_add(TALEA_SOURCE_REFUSED, TALEA_SOURCE_STRIDE, 1);
}

static __always_inline int run(void *ctx)
{
	__u64 key[TALEA_KEY_BYTES / sizeof(__u64)], amount = 1;
	__u32 keys_nr = declared.keys_nr, filters_nr = declared.filters_nr;
	__u32 adds = declared.amount, at = 0;

#pragma unroll
	for (__u32 i = 0; i < DECLARED_FILTERS_MAX; i++)
		if (i < filters_nr && !passes(ctx, &declared.filters[i]))
			return 0;
	if (DECLARED_FIELD(adds) != DECLARED_NONE) {
		amount = operand(ctx, adds);
		count_add(TALEA_SOURCE_EVENTS, TALEA_SOURCE_STRIDE, 1);
		/* A counter never falls: what is below zero, as an error is, adds nothing. */
		if ((__s64)amount <= 0)
			return 0;
	}
	if (!keys_nr) {
		count_add(TALEA_SOURCE_TOTAL, TALEA_SOURCE_STRIDE, amount);
		return 0;
	}
#pragma unroll
	for (__u32 i = 0; i < TALEA_KEYS_MAX; i++)
		if (i < keys_nr)
			at = part_put(ctx, declared.keys[i], (char *)key, at);
	key_add(key, amount);
	return 0;
}

#define DECLARED_PROGRAM(section)    \
	SEC(section)                 \
	int declared_event(void *ctx) \
	{                            \
		return run(ctx);     \
	}                            \
	char LICENSE[] SEC("license") = "Dual MIT/GPL"

/* Events that bring an array of words: arguments, and behind them what a function returned. */
#define DECLARED_FETCH_WORDS                                                         \
	static __always_inline __u64 fetch(void *ctx, __u32 nr)                      \
	{                                                                            \
		switch (nr) {                                                        \
			LOAD_CASE(ctx, 0, 0);                                        \
			LOAD_CASE(ctx, 1, 8);                                        \
			LOAD_CASE(ctx, 2, 16);                                       \
			LOAD_CASE(ctx, 3, 24);                                       \
			LOAD_CASE(ctx, 4, 32);                                       \
			LOAD_CASE(ctx, 5, 40);                                       \
			LOAD_CASE(ctx, 6, 48);                                       \
			LOAD_CASE(ctx, 7, 56);                                       \
			LOAD_CASE(ctx, 8, 64);                                       \
			LOAD_CASE(ctx, 9, 72);                                       \
			LOAD_CASE(ctx, 10, 80);                                      \
			LOAD_CASE(ctx, 11, 88);                                      \
			LOAD_CASE(ctx, 12, 96);                                      \
		}                                                                    \
		return 0;                                                            \
	}

#endif
#endif

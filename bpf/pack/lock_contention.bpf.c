/*
 * Counts how often a task or an interrupt had to wait for a lock of the kernel, by kind of
 * lock. Loaded and attached by the keeper.
 */
#include "count.h"
#include "talea_kernel.h"

SEC("raw_tp/contention_begin")
int lock_contention(__u64 *ctx)
{
	count_upto((__u32)ctx[1], TALEA_LOCKS_OTHER, TALEA_LOCKS_STRIDE);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

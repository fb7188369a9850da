/*
 * Counts runs of each softirq vector, as /proc/softirqs does. Loaded and attached by the keeper.
 */
#include "count.h"
#include "talea_kernel.h"

SEC("raw_tp/softirq_entry")
int softirqs(__u64 *ctx)
{
	count_upto((__u32)ctx[0], TALEA_SOFTIRQS_OTHER, TALEA_SOFTIRQS_STRIDE);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

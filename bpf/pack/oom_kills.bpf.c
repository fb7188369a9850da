/*
 * Counts processes that the kernel chose to end because memory was short. Loaded and attached by
 * the keeper.
 */
#include "count.h"
#include "talea_kernel.h"

SEC("raw_tp/mark_victim")
int oom_kills(void *ctx)
{
	(void)ctx;
	count(0, TALEA_ONE_STRIDE);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

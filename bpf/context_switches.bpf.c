/*
 * Counts every switch from one task to another, where /proc/stat's ctxt counts it too. Loaded and
 * attached by the keeper.
 */
#include "count.h"
#include "talea_kernel.h"

SEC("tp_btf/sched_switch")
int context_switches(void *ctx)
{
	(void)ctx;
	count(0, TALEA_CONTEXT_SWITCHES_STRIDE);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

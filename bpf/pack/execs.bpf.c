/*
 * Counts programs that were started by execve. Loaded and attached by the keeper.
 */
#include "count.h"
#include "talea_kernel.h"

SEC("raw_tp/sched_process_exec")
int execs(void *ctx)
{
	(void)ctx;
	count(0, TALEA_ONE_STRIDE);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

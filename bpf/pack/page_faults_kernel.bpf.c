/*
 * Counts page faults inside the kernel, most of them while it copies from or to a program. Loaded
 * and attached by the keeper.
 */
#include "count.h"
#include "talea_kernel.h"

SEC("raw_tp/page_fault_kernel")
int page_faults_kernel(void *ctx)
{
	(void)ctx;
	count(0, TALEA_ONE_STRIDE);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

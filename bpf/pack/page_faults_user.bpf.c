/*
 * Counts page faults of programs, before the kernel decides what becomes of them. Loaded and
 * attached by the keeper.
 */
#include "count.h"
#include "talea_kernel.h"

SEC("raw_tp/page_fault_user")
int page_faults_user(void *ctx)
{
	(void)ctx;
	count(0, TALEA_ONE_STRIDE);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

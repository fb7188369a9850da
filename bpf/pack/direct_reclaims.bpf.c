/*
 * Counts how often a task that wanted memory had to free some first, and the pages that this
 * brought. Loaded and attached by the keeper.
 */
#include "count.h"
#include "talea_kernel.h"

SEC("raw_tp/mm_vmscan_direct_reclaim_end")
int direct_reclaims(__u64 *ctx)
{
	count(0, TALEA_RECLAIMS_STRIDE);
	count_add(TALEA_RECLAIMS_PAGES, TALEA_RECLAIMS_STRIDE, ctx[0]);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

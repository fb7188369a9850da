/*
 * Counts compactions of a zone of memory, by result. Loaded and attached by the keeper.
 */
#include "count.h"
#include "talea_kernel.h"

SEC("raw_tp/mm_compaction_end")
int compactions(__u64 *ctx)
{
	count_upto((__u32)ctx[4], TALEA_COMPACTIONS_OTHER, TALEA_COMPACTIONS_STRIDE);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

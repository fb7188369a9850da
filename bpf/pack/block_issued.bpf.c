/*
 * Counts requests given to the drivers of block devices, by operation. Loaded and attached by the
 * keeper.
 */
#include "count.h"
#include "core.h"
#include "talea_kernel.h"

SEC("tp_btf/block_rq_issue")
int block_issued(__u64 *ctx)
{
	const struct request *rq = (void *)ctx[0];

	count_upto(rq->cmd_flags & 0xff, TALEA_BLOCK_OTHER, TALEA_BLOCK_ISSUED_STRIDE);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

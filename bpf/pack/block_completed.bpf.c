/*
 * Counts block devices' requests that ended well, those that failed, and bytes, by operation. A
 * request that ends in parts counts with the last. Loaded and attached by the keeper.
 */
#include "count.h"
#include "core.h"
#include "talea_kernel.h"

SEC("tp_btf/block_rq_complete")
int block_completed(__u64 *ctx)
{
	const struct request *rq = (void *)ctx[0];
	__u32 op = rq->cmd_flags & 0xff, bytes = ctx[2];

	if (op > TALEA_BLOCK_OTHER)
		op = TALEA_BLOCK_OTHER;
	if ((__u32)ctx[1]) { /* int of old, u8 of new */
		count(TALEA_BLOCK_FAILED + op, TALEA_BLOCK_COMPLETED_STRIDE);
		return 0;
	}
	if (bytes >= rq->__data_len)
		count(op, TALEA_BLOCK_COMPLETED_STRIDE);
	count_add(TALEA_BLOCK_BYTES + op, TALEA_BLOCK_COMPLETED_STRIDE, bytes);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

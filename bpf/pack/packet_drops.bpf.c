/*
 * Counts packets that the kernel dropped, by reason. A reason's upper half is the subsystem that it
 * is of, 0 for the core. Loaded and attached by the keeper.
 */
#include "count.h"
#include "talea_kernel.h"

SEC("raw_tp/kfree_skb")
int packet_drops(__u64 *ctx)
{
	__u32 reason = ctx[2], key = TALEA_DROPS_OTHER;

	if (reason < TALEA_DROPS_SUBSYS)
		key = reason;
	else if (reason >> 16 && reason >> 16 < TALEA_DROPS_OTHER - TALEA_DROPS_SUBSYS)
		key = TALEA_DROPS_SUBSYS + (reason >> 16);
	count(key, TALEA_DROPS_STRIDE);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/*
 * Counts TCP segments sent again; several that leave as one buffer count once. Loaded and attached
 * by the keeper.
 */
#include "count.h"
#include "talea_kernel.h"

SEC("raw_tp/tcp_retransmit_skb")
int tcp_retransmits(void *ctx)
{
	(void)ctx;
	count(0, TALEA_ONE_STRIDE);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/*
 * Counts SYN-ACKs sent again: /proc/net/snmp's RetransSegs has them, the tracepoint of the other
 * segments not. Loaded and attached by the keeper.
 */
#include "count.h"
#include "talea_kernel.h"

SEC("raw_tp/tcp_retransmit_synack")
int tcp_synack_retransmits(void *ctx)
{
	(void)ctx;
	count(0, TALEA_ONE_STRIDE);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

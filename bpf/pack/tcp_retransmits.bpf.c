/*
 * Counts TCP segments sent again, where /proc/net/snmp's RetransSegs counts them too: a buffer that
 * the network card cuts up counts once for each segment. Loaded and attached by the keeper.
 */
#include "count.h"
#include "core.h"
#include "talea_kernel.h"

SEC("tp_btf/tcp_retransmit_skb")
int tcp_retransmits(__u64 *ctx)
{
	const struct sk_buff *skb = (void *)ctx[1];
	const struct tcp_skb_cb *tcp = (void *)skb->cb;

	count_add(0, TALEA_ONE_STRIDE, BPF_CORE_READ(tcp, tcp_gso_segs));
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

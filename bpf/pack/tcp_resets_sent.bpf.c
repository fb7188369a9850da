/*
 * Counts TCP resets sent, by reason where the kernel has one. What an older kernel's tracepoint has
 * not, its verifier never sees. Loaded and attached by the keeper.
 */
#include "count.h"
#include "core.h"
#include "talea_kernel.h"

SEC("tp_btf/tcp_send_reset")
int tcp_resets_sent(__u64 *ctx)
{
	__u32 reason = TALEA_RESETS_OTHER;

	if (bpf_core_type_exists(enum sk_rst_reason))
		reason = ctx[2];
	count_upto(reason, TALEA_RESETS_OTHER, TALEA_RESETS_STRIDE);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

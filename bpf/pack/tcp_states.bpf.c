/*
 * Counts TCP sockets' changes of state. The tracepoint has other protocols' sockets too. Loaded and
 * attached by the keeper.
 */
#include <linux/in.h>

#include "count.h"
#include "core.h"
#include "talea_kernel.h"

SEC("tp_btf/inet_sock_set_state")
int tcp_states(__u64 *ctx)
{
	const struct sock *sk = (void *)ctx[0];
	__u32 from = (__u32)ctx[1] % TALEA_TCP_STATES, to = (__u32)ctx[2] % TALEA_TCP_STATES;

	if (sk->sk_protocol == IPPROTO_TCP)
		count(from * TALEA_TCP_STATES + to, TALEA_TCP_STATES_STRIDE);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/*
 * Counts signals that were sent, by number and by what became of them. Loaded and attached by the
 * keeper.
 */
#include "count.h"
#include "talea_kernel.h"

SEC("raw_tp/signal_generate")
int signals(__u64 *ctx)
{
	__u32 sig = ctx[0], result = ctx[4], key = TALEA_SIGNALS_OTHER;

	if (sig < TALEA_SIGNALS_NR && result < TALEA_SIGNALS_RESULTS)
		key = result * TALEA_SIGNALS_NR + sig;
	count(key, TALEA_SIGNALS_STRIDE);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

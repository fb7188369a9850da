/*
 * Counts calls of devices' interrupt handlers by the interrupt's number; one that devices share
 * counts once for each. Loaded and attached by the keeper.
 */
#include "count.h"
#include "talea_kernel.h"

SEC("raw_tp/irq_handler_entry")
int hardirqs(__u64 *ctx)
{
	count_upto((__u32)ctx[0], TALEA_HARDIRQS_OTHER, TALEA_HARDIRQS_STRIDE);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/*
 * Counts every switch from one task to another, where /proc/stat's ctxt counts it too, by why the
 * first left the CPU. A task whose state is 0 is ready to run. Loaded and attached by the keeper.
 */
#include "count.h"
#include "core.h"
#include "talea_kernel.h"

SEC("tp_btf/sched_switch")
int context_switches(__u64 *ctx)
{
	const struct task_struct *prev = (void *)ctx[1];
	__u32 key = TALEA_SWITCH_VOLUNTARY;

	if (!prev->pid)
		key = TALEA_SWITCH_IDLE;
	else if (ctx[0] || !(__u32)ctx[3]) /* preempt, prev_state */
		key = TALEA_SWITCH_PREEMPTED;
	count(key, TALEA_CONTEXT_SWITCHES_STRIDE);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

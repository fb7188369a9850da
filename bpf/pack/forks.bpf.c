/*
 * Counts every task that was made, where /proc/stat's processes counts it too: sched_process_fork
 * leaves out the workers of io_uring. Loaded and attached by the keeper.
 */
#include "count.h"
#include "talea_kernel.h"

#define CLONE_THREAD 0x00010000 /* linux/sched.h */

SEC("raw_tp/task_newtask")
int forks(__u64 *ctx)
{
	__u64 clone_flags = ctx[1];

	count(clone_flags & CLONE_THREAD ? TALEA_TASK_THREAD : TALEA_TASK_PROCESS,
	      TALEA_TASKS_STRIDE);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/*
 * Counts every task that ends; a process once, by its first thread. Loaded and attached by the
 * keeper.
 */
#include "count.h"
#include "core.h"
#include "talea_kernel.h"

SEC("tp_btf/sched_process_exit")
int exits(__u64 *ctx)
{
	const struct task_struct *task = (void *)ctx[0];

	count(task->pid == task->tgid ? TALEA_TASK_PROCESS : TALEA_TASK_THREAD, TALEA_TASKS_STRIDE);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

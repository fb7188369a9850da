/*
 * Counts tasks that the scheduler moved to another CPU. Loaded and attached by the keeper.
 */
#include "count.h"
#include "talea_kernel.h"

SEC("raw_tp/sched_migrate_task")
int task_migrations(void *ctx)
{
	(void)ctx;
	count(0, TALEA_ONE_STRIDE);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

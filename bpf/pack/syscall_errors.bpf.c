/*
 * Counts system calls that return an error, by its number. Calls whose result only looks like one
 * count too. Loaded and attached by the keeper.
 */
#include "count.h"
#include "talea_kernel.h"

SEC("raw_tp/sys_exit")
int syscall_errors(__u64 *ctx)
{
	__u64 error = -ctx[1];

	if (error - 1 < TALEA_ERRNO_MAX)
		count_upto(error, TALEA_ERRNOS_OTHER, TALEA_ERRNOS_STRIDE);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

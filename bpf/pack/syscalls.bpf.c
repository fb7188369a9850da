/*
 * Counts every system call by its number and ABI, at entry: also those that fail, that do not exist
 * and that never return. Loaded and attached by the keeper.
 */
#include "count.h"
#include "core.h"
#include "talea_kernel.h"

SEC("tp_btf/sys_enter")
int syscalls(__u64 *ctx)
{
	const struct pt_regs *regs = (void *)ctx[0];
	__u64 number = ctx[1];
	__u32 key = TALEA_SYSCALLS_OTHER;

	if (number < TALEA_SYSCALLS_NR)
		key = call_is_compat(regs) ? TALEA_SYSCALLS_COMPAT + number : number;
	count(key, TALEA_SYSCALLS_STRIDE);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

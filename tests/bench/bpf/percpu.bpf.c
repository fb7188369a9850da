/*
 * The system calls probe as it is usually written: a per-CPU array, a plain add, attached itself.
 * tests/bench/kernel.c compares what both cost. Everything else is as in bpf/pack/syscalls.bpf.c.
 */
#include "core.h"
#include "talea_kernel.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TALEA_SYSCALLS_KEYS);
	__type(key, __u32);
	__type(value, __u64);
} plain SEC(".maps");

SEC("tp_btf/sys_enter")
int percpu(__u64 *ctx)
{
	const struct pt_regs *regs = (void *)ctx[0];
	__u64 number = ctx[1], *cell;
	__u32 key = TALEA_SYSCALLS_OTHER;

	if (number < TALEA_SYSCALLS_NR)
		key = call_is_compat(regs) ? TALEA_SYSCALLS_COMPAT + number : number;
	cell = bpf_map_lookup_elem(&plain, &key);
	if (cell)
		++*cell;
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

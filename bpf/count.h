/*
 * The map that a probe of the pack counts in, and the one way to add to it. Each .bpf.c includes
 * this once, so each object has a map of its own. talea_kernel.h has the layout.
 */
#ifndef BPF_COUNT_H
#define BPF_COUNT_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* No max_entries: a loader that forgot to set it gets an error instead of a short map. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

/*
 * Adds to the current CPU's cell of a key. Atomic although the cell belongs to this CPU: an
 * interrupt between the load and the store of a plain add would lose one of the two. A CPU beyond
 * the map, which no possible CPU is, counts in CPU 0's part: nothing is dropped.
 */
static __always_inline void count_add(__u32 key, __u32 stride, __u64 nr)
{
	__u32 at = bpf_get_smp_processor_id() * stride + key;
	__u64 *cell = bpf_map_lookup_elem(&counts, &at);

	if (!cell)
		cell = bpf_map_lookup_elem(&counts, &key);
	if (cell)
		__sync_fetch_and_add(cell, nr);
}

static __always_inline void count(__u32 key, __u32 stride)
{
	count_add(key, stride, 1);
}

/* The same where a number may be one that the map has no room for. */
static __always_inline void count_upto(__u32 key, __u32 other, __u32 stride)
{
	count_add(key < other ? key : other, stride, 1);
}

#endif

/*
 * What the BPF programs and talead agree on: the key numbers of each probe and how far the parts of
 * two CPUs lie apart in its map. The one header that both sides include; it owns numbers only, so
 * that it compiles for the bpf target and for the host alike.
 *
 * A probe's map is an mmapable ARRAY of u64 laid out [cpu][stride]; key k of CPU c is entry
 * c * stride + k. max_entries is set when it is loaded, from the possible CPUs.
 *
 * A stride is a whole number of cache lines, so that no line has two CPUs' cells, and an odd number
 * of them: with a power of two the cells of one key would share a cache set on every CPU. It is at
 * least three, because CPUs fetch lines in pairs of neighbours.
 */
#ifndef TALEA_KERNEL_H
#define TALEA_KERNEL_H

#define TALEA_LINE_U64S 8
#define TALEA_KEYS_LINES(keys_nr) (((keys_nr) + TALEA_LINE_U64S - 1) / TALEA_LINE_U64S)
#define TALEA_STRIDE(keys_nr) \
	((TALEA_KEYS_LINES(keys_nr) < 3 ? 3 : (TALEA_KEYS_LINES(keys_nr) | 1)) * TALEA_LINE_U64S)

/* context_switches: one key. */
#define TALEA_CONTEXT_SWITCHES_KEYS   1
#define TALEA_CONTEXT_SWITCHES_STRIDE TALEA_STRIDE(TALEA_CONTEXT_SWITCHES_KEYS)

/*
 * syscalls: the number of a native call; behind them the number of a call in the CPU's 32-bit ABI
 * (i386 beside x86-64, arm beside arm64); last the overflow key, for every number that is in
 * neither range: x32 calls, private ones, the -1 of a call that a tracer took away.
 */
#define TALEA_SYSCALLS_NR     512
#define TALEA_SYSCALLS_COMPAT TALEA_SYSCALLS_NR
#define TALEA_SYSCALLS_OTHER  (2 * TALEA_SYSCALLS_NR)
#define TALEA_SYSCALLS_KEYS   (2 * TALEA_SYSCALLS_NR + 1)
#define TALEA_SYSCALLS_STRIDE TALEA_STRIDE(TALEA_SYSCALLS_KEYS)

#endif

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

/*
 * context_switches: why the task that was running left the CPU. It waits (or ended); it was ready
 * to go on, which the kernel calls nonvoluntary; it was the idle task, which only makes way.
 */
#define TALEA_SWITCH_VOLUNTARY	      0
#define TALEA_SWITCH_PREEMPTED	      1
#define TALEA_SWITCH_IDLE	      2
#define TALEA_CONTEXT_SWITCHES_KEYS   3
#define TALEA_CONTEXT_SWITCHES_STRIDE TALEA_STRIDE(TALEA_CONTEXT_SWITCHES_KEYS)

/* Probes without labels: task_migrations, task_wakeups, execs, page_faults_*, oom_kills... */
#define TALEA_ONE_KEYS	 1
#define TALEA_ONE_STRIDE TALEA_STRIDE(TALEA_ONE_KEYS)

/* forks, exits: a process (in exits: its first thread), or a further thread of one. */
#define TALEA_TASK_PROCESS 0
#define TALEA_TASK_THREAD  1
#define TALEA_TASKS_KEYS   2
#define TALEA_TASKS_STRIDE TALEA_STRIDE(TALEA_TASKS_KEYS)

/* softirqs: the vector; the last key is for every number that this has no room for. */
#define TALEA_SOFTIRQS_OTHER  16
#define TALEA_SOFTIRQS_KEYS   (TALEA_SOFTIRQS_OTHER + 1)
#define TALEA_SOFTIRQS_STRIDE TALEA_STRIDE(TALEA_SOFTIRQS_KEYS)

/* hardirqs: the interrupt's number as in /proc/interrupts, and the overflow key. */
#define TALEA_HARDIRQS_OTHER  1024
#define TALEA_HARDIRQS_KEYS   (TALEA_HARDIRQS_OTHER + 1)
#define TALEA_HARDIRQS_STRIDE TALEA_STRIDE(TALEA_HARDIRQS_KEYS)

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

/* syscall_errors: the error number; overflow beyond the kernel's own ones (ERESTARTSYS is 512). */
#define TALEA_ERRNOS_OTHER  544
#define TALEA_ERRNOS_KEYS   (TALEA_ERRNOS_OTHER + 1)
#define TALEA_ERRNOS_STRIDE TALEA_STRIDE(TALEA_ERRNOS_KEYS)
#define TALEA_ERRNO_MAX	    4095 /* the kernel's MAX_ERRNO: results below -4095 are none */

/*
 * block_issued, block_completed: the operation, an enum req_op, and the overflow key. In
 * block_completed that three times: requests that succeeded, requests that failed, and the bytes of
 * those that succeeded.
 */
#define TALEA_BLOCK_OTHER	     64
#define TALEA_BLOCK_OPS		     (TALEA_BLOCK_OTHER + 1)
#define TALEA_BLOCK_ISSUED_KEYS	     TALEA_BLOCK_OPS
#define TALEA_BLOCK_ISSUED_STRIDE    TALEA_STRIDE(TALEA_BLOCK_ISSUED_KEYS)
#define TALEA_BLOCK_FAILED	     TALEA_BLOCK_OPS
#define TALEA_BLOCK_BYTES	     (2 * TALEA_BLOCK_OPS)
#define TALEA_BLOCK_COMPLETED_KEYS   (3 * TALEA_BLOCK_OPS)
#define TALEA_BLOCK_COMPLETED_STRIDE TALEA_STRIDE(TALEA_BLOCK_COMPLETED_KEYS)

/* tcp_states: from * TALEA_TCP_STATES + to, each TCP_ESTABLISHED (1) or a later one. */
#define TALEA_TCP_STATES	16
#define TALEA_TCP_STATES_KEYS	(TALEA_TCP_STATES * TALEA_TCP_STATES)
#define TALEA_TCP_STATES_STRIDE TALEA_STRIDE(TALEA_TCP_STATES_KEYS)

/* tcp_resets_sent: an enum sk_rst_reason; overflow also where there is none (before 6.10). */
#define TALEA_RESETS_OTHER  64
#define TALEA_RESETS_KEYS   (TALEA_RESETS_OTHER + 1)
#define TALEA_RESETS_STRIDE TALEA_STRIDE(TALEA_RESETS_KEYS)

/*
 * packet_drops: an enum skb_drop_reason of the core; behind them the subsystem (the reason's upper
 * half) of a reason that is a module's own; last the overflow key.
 */
#define TALEA_DROPS_SUBSYS 256
#define TALEA_DROPS_OTHER  (TALEA_DROPS_SUBSYS + 16)
#define TALEA_DROPS_KEYS   (TALEA_DROPS_OTHER + 1)
#define TALEA_DROPS_STRIDE TALEA_STRIDE(TALEA_DROPS_KEYS)

/* signals: result * TALEA_SIGNALS_NR + signal, of the results of signal_generate (0 to 4). */
#define TALEA_SIGNALS_NR      65
#define TALEA_SIGNALS_RESULTS 8
#define TALEA_SIGNALS_OTHER   (TALEA_SIGNALS_NR * TALEA_SIGNALS_RESULTS)
#define TALEA_SIGNALS_KEYS    (TALEA_SIGNALS_OTHER + 1)
#define TALEA_SIGNALS_STRIDE  TALEA_STRIDE(TALEA_SIGNALS_KEYS)

/* lock_contention: the LCB_F_ flags of contention_begin, and the overflow key. */
#define TALEA_LOCKS_OTHER  64
#define TALEA_LOCKS_KEYS   (TALEA_LOCKS_OTHER + 1)
#define TALEA_LOCKS_STRIDE TALEA_STRIDE(TALEA_LOCKS_KEYS)

/* direct_reclaims: how often, and the pages that it brought. */
#define TALEA_RECLAIMS_PAGES  1
#define TALEA_RECLAIMS_KEYS   2
#define TALEA_RECLAIMS_STRIDE TALEA_STRIDE(TALEA_RECLAIMS_KEYS)

/* compactions: an enum compact_result, and the overflow key. */
#define TALEA_COMPACTIONS_OTHER	 16
#define TALEA_COMPACTIONS_KEYS	 (TALEA_COMPACTIONS_OTHER + 1)
#define TALEA_COMPACTIONS_STRIDE TALEA_STRIDE(TALEA_COMPACTIONS_KEYS)

/* io_uring: an enum io_uring_op, and the overflow key. */
#define TALEA_IO_URING_OTHER  128
#define TALEA_IO_URING_KEYS   (TALEA_IO_URING_OTHER + 1)
#define TALEA_IO_URING_STRIDE TALEA_STRIDE(TALEA_IO_URING_KEYS)

#endif

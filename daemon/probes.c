/*
 * The table of probe types. Owns no state; called by the keeper (which probes there are), by the
 * fold (which counters they feed) and by tests. How their keys are named is probe_names.c, how they
 * are attached keeper/probe.c, what each means tools/man/talea-probes.7.scd.
 */
#include "daemon/probes.h"

#include "bpf/talea_kernel.h"
#include "daemon/probe_names.h"

#define KEYS(X) .keys_nr = TALEA_##X##_KEYS, .stride = TALEA_##X##_STRIDE
/* A counter without labels, and one whose labels `how` writes, of keys from FROM on. */
#define SUM(N, FROM, NR, HELP) { .name = N, .from = FROM, .nr = NR, .help = HELP }
#define EACH(N, FROM, NR, HELP, how, LABEL) \
	{ .name = N, .from = FROM, .nr = NR, .help = HELP, .labels = labels_##how, .label = LABEL }
#define WORDS(N, FROM, NR, HELP, LABEL, WORD)                                             \
	{ .name = N, .from = FROM, .nr = NR, .help = HELP, .labels = labels_word, .label = LABEL, \
	  .words = WORD }

static const char *const switch_kinds[] = { "voluntary", "preempted", "idle" };
static const char *const task_kinds[] = { "process", "thread" };
static const char *const mode_user[] = { "user" };
static const char *const mode_kernel[] = { "kernel" };

/* States as the kernel and every protocol's description number them. */
#define TCP_MOVE(from, to) ((from) * TALEA_TCP_STATES + (to))
enum { TCP_ESTABLISHED = 1, TCP_SYN_SENT, TCP_SYN_RECV, TCP_CLOSE = 7 };

#define PAGE_FAULTS "kernel_page_faults_total"
#define PAGE_FAULTS_HELP "Page faults, by who had them."

#define REQ_OP \
	{ .member = "REQ_OP_WRITE", .prefix = "REQ_OP_", .nr = TALEA_BLOCK_OTHER }

const struct probe_type probe_types[PROBE_NR] = {
	[PROBE_CONTEXT_SWITCHES] = {
		.name = "context_switches", .attach = "tp_btf:sched_switch", .is_default = true,
		KEYS(CONTEXT_SWITCHES),
		.counters = {
			SUM("kernel_context_switches_total", 0, TALEA_CONTEXT_SWITCHES_KEYS,
			    "Switches from one task to another."),
			WORDS("kernel_task_switches_total", 0, TALEA_CONTEXT_SWITCHES_KEYS,
			      "Switches from one task to another, by why the first left.", "kind",
			      switch_kinds),
		},
	},
	[PROBE_TASK_MIGRATIONS] = {
		.name = "task_migrations", .attach = "raw_tp:sched_migrate_task", KEYS(ONE),
		.counters = { SUM("kernel_task_migrations_total", 0, 1,
				  "Tasks moved to another CPU.") },
	},
	[PROBE_TASK_WAKEUPS] = {
		.name = "task_wakeups", .attach = "raw_tp:sched_wakeup", KEYS(ONE),
		.counters = { SUM("kernel_task_wakeups_total", 0, 1,
				  "Sleeping tasks made ready to run.") },
	},
	[PROBE_FORKS] = {
		.name = "forks", .attach = "raw_tp:task_newtask", .is_default = true, KEYS(TASKS),
		.counters = {
			SUM("kernel_forks_total", 0, TALEA_TASKS_KEYS, "Tasks made, threads too."),
			WORDS("kernel_task_starts_total", 0, TALEA_TASKS_KEYS,
			      "Tasks made, by kind.", "kind", task_kinds),
		},
	},
	[PROBE_EXECS] = {
		.name = "execs", .attach = "raw_tp:sched_process_exec", .is_default = true,
		KEYS(ONE),
		.counters = { SUM("kernel_execs_total", 0, 1, "Programs started by execve.") },
	},
	[PROBE_EXITS] = {
		.name = "exits", .attach = "tp_btf:sched_process_exit", .is_default = true,
		KEYS(TASKS),
		.counters = { WORDS("kernel_task_exits_total", 0, TALEA_TASKS_KEYS,
				    "Tasks that ended, by kind.", "kind", task_kinds) },
	},
	[PROBE_PAGE_FAULTS_USER] = {
		.name = "page_faults_user", .attach = "raw_tp:page_fault_user", KEYS(ONE),
		.counters = { WORDS(PAGE_FAULTS, 0, 1, PAGE_FAULTS_HELP, "mode", mode_user) },
	},
	[PROBE_PAGE_FAULTS_KERNEL] = {
		.name = "page_faults_kernel", .attach = "raw_tp:page_fault_kernel", KEYS(ONE),
		.counters = { WORDS(PAGE_FAULTS, 0, 1, PAGE_FAULTS_HELP, "mode", mode_kernel) },
	},
	[PROBE_SOFTIRQS] = {
		.name = "softirqs", .attach = "raw_tp:softirq_entry", .is_default = true,
		KEYS(SOFTIRQS),
		.counters = { EACH("kernel_softirqs_total", 0, TALEA_SOFTIRQS_KEYS,
				   "Runs of softirqs, by vector.", told, "vector") },
		.enums = { { .member = "NET_RX_SOFTIRQ", .prefix = "", .suffix = "_SOFTIRQ",
			     .is_upper = true, .nr = TALEA_SOFTIRQS_OTHER } },
	},
	[PROBE_HARDIRQS] = {
		.name = "hardirqs", .attach = "raw_tp:irq_handler_entry", .has_irq_names = true,
		KEYS(HARDIRQS),
		.counters = { EACH("kernel_interrupts_total", 0, TALEA_HARDIRQS_KEYS,
				   "Calls of devices' interrupt handlers.", irq, NULL) },
	},
	[PROBE_SYSCALLS] = {
		.name = "syscalls", .attach = "tp_btf:sys_enter", KEYS(SYSCALLS),
		.counters = { EACH("kernel_syscalls_total", 0, TALEA_SYSCALLS_KEYS,
				   "System calls begun, by name.", syscall, NULL) },
	},
	[PROBE_SYSCALL_ERRORS] = {
		.name = "syscall_errors", .attach = "raw_tp:sys_exit", KEYS(ERRNOS),
		.counters = { EACH("kernel_syscall_errors_total", 0, TALEA_ERRNOS_KEYS,
				   "System calls that returned an error, by error.", errno, NULL) },
	},
	[PROBE_BLOCK_ISSUED] = {
		.name = "block_issued", .attach = "tp_btf:block_rq_issue", KEYS(BLOCK_ISSUED),
		.counters = { EACH("kernel_disk_requests_issued_total", 0, TALEA_BLOCK_OPS,
				   "Requests given to the drivers of block devices.", told,
				   "operation") },
		.enums = { REQ_OP },
	},
	[PROBE_BLOCK_COMPLETED] = {
		.name = "block_completed", .attach = "tp_btf:block_rq_complete",
		KEYS(BLOCK_COMPLETED), .events_nr = TALEA_BLOCK_BYTES,
		.counters = {
			EACH("kernel_disk_requests_completed_total", 0, TALEA_BLOCK_OPS,
			     "Requests that block devices ended without an error.", told,
			     "operation"),
			EACH("kernel_disk_requests_failed_total", TALEA_BLOCK_FAILED,
			     TALEA_BLOCK_OPS, "Requests that block devices ended with an error.",
			     told, "operation"),
			EACH("kernel_disk_bytes_total", TALEA_BLOCK_BYTES, TALEA_BLOCK_OPS,
			     "Bytes of block devices' requests that ended without an error.", told,
			     "operation"),
		},
		.enums = { REQ_OP },
	},
	[PROBE_TCP_STATES] = {
		.name = "tcp_states", .attach = "tp_btf:inet_sock_set_state", .is_default = true,
		KEYS(TCP_STATES),
		.counters = {
			EACH("kernel_tcp_state_changes_total", 0, TALEA_TCP_STATES_KEYS,
			     "TCP sockets' changes of state.", tcp_state, NULL),
			SUM("kernel_tcp_active_opens_total", TCP_MOVE(TCP_CLOSE, TCP_SYN_SENT), 1,
			    "TCP connections that this host began to open."),
			SUM("kernel_tcp_passive_opens_total",
			    TCP_MOVE(TCP_SYN_RECV, TCP_ESTABLISHED), 1,
			    "TCP connections that others opened to this host."),
		},
		.enums = { { .member = "TCP_ESTABLISHED", .prefix = "TCP_",
			     .nr = TALEA_TCP_STATES } },
	},
	[PROBE_TCP_RETRANSMITS] = {
		.name = "tcp_retransmits", .attach = "raw_tp:tcp_retransmit_skb",
		.is_default = true, KEYS(ONE),
		.counters = { SUM("kernel_tcp_retransmits_total", 0, 1,
				  "TCP buffers sent again, of one segment or more.") },
	},
	[PROBE_TCP_RESETS_SENT] = {
		.name = "tcp_resets_sent", .attach = "tp_btf:tcp_send_reset", .is_default = true,
		KEYS(RESETS),
		.counters = { EACH("kernel_tcp_resets_sent_total", 0, TALEA_RESETS_KEYS,
				   "TCP resets sent, by reason.", told, "reason") },
		.enums = { { .member = "SK_RST_REASON_NOT_SPECIFIED", .prefix = "SK_RST_REASON_",
			     .nr = TALEA_RESETS_OTHER } },
	},
	[PROBE_TCP_RESETS_RECEIVED] = {
		.name = "tcp_resets_received", .attach = "raw_tp:tcp_receive_reset",
		.is_default = true, KEYS(ONE),
		.counters = { SUM("kernel_tcp_resets_received_total", 0, 1,
				  "TCP resets that reached a socket.") },
	},
	[PROBE_PACKET_DROPS] = {
		.name = "packet_drops", .attach = "raw_tp:kfree_skb", KEYS(DROPS),
		.counters = { EACH("kernel_packet_drops_total", 0, TALEA_DROPS_KEYS,
				   "Packets dropped, by reason.", told, "reason") },
		.enums = { { .member = "SKB_DROP_REASON_NOT_SPECIFIED",
			     .prefix = "SKB_DROP_REASON_", .nr = TALEA_DROPS_SUBSYS },
			   { .member = "SKB_DROP_REASON_SUBSYS_CORE",
			     .prefix = "SKB_DROP_REASON_", .add = TALEA_DROPS_SUBSYS,
			     .nr = TALEA_DROPS_OTHER - TALEA_DROPS_SUBSYS } },
	},
	[PROBE_OOM_KILLS] = {
		.name = "oom_kills", .attach = "raw_tp:mark_victim", .is_default = true, KEYS(ONE),
		.counters = { SUM("kernel_oom_kills_total", 0, 1,
				  "Processes ended because memory was short.") },
	},
	[PROBE_SIGNALS] = {
		.name = "signals", .attach = "raw_tp:signal_generate", KEYS(SIGNALS),
		.counters = { EACH("kernel_signals_total", 0, TALEA_SIGNALS_KEYS,
				   "Signals sent, by what became of them.", signal, NULL) },
		.enums = { { .member = "TRACE_SIGNAL_DELIVERED", .prefix = "TRACE_SIGNAL_",
			     .nr = TALEA_SIGNALS_RESULTS } },
	},
	[PROBE_LOCK_CONTENTION] = {
		.name = "lock_contention", .attach = "raw_tp:contention_begin", KEYS(LOCKS),
		.counters = { EACH("kernel_lock_contentions_total", 0, TALEA_LOCKS_KEYS,
				   "Waits for a lock of the kernel, by its kind.", lock, NULL) },
	},
	[PROBE_DIRECT_RECLAIMS] = {
		.name = "direct_reclaims", .attach = "raw_tp:mm_vmscan_direct_reclaim_end",
		.is_default = true, KEYS(RECLAIMS), .events_nr = TALEA_RECLAIMS_PAGES,
		.counters = {
			SUM("kernel_direct_reclaims_total", 0, 1,
			    "Times that a task which wanted memory had to free some first."),
			SUM("kernel_direct_reclaim_pages_total", TALEA_RECLAIMS_PAGES, 1,
			    "Pages that direct reclaim freed."),
		},
	},
	[PROBE_COMPACTIONS] = {
		.name = "compactions", .attach = "raw_tp:mm_compaction_end", .is_default = true,
		KEYS(COMPACTIONS),
		.counters = { EACH("kernel_compactions_total", 0, TALEA_COMPACTIONS_KEYS,
				   "Compactions of a zone of memory, by result.", told, "result") },
		.enums = { { .member = "COMPACT_SUCCESS", .prefix = "COMPACT_",
			     .nr = TALEA_COMPACTIONS_OTHER } },
	},
	[PROBE_IO_URING] = {
		.name = "io_uring", .attach = "tp_btf:io_uring_submit_req",
		.attach_old = "io_uring_submit_sqe", KEYS(IO_URING),
		.counters = { EACH("kernel_io_uring_submissions_total", 0, TALEA_IO_URING_KEYS,
				   "Operations given to io_uring, by kind.", told, "operation") },
		.enums = { { .member = "IORING_OP_NOP", .prefix = "IORING_OP_",
			     .nr = TALEA_IO_URING_OTHER } },
	},
};

uint32_t probes_default(void)
{
	uint32_t mask = 0;

	for (uint32_t id = 0; id < PROBE_NR; id++)
		if (probe_types[id].is_default)
			mask |= 1u << id;
	return mask;
}

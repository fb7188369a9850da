/*
 * The list of the pack, and the handling of a live probe's descriptors. Owns no state; called by
 * the keeper (which probes there are), by the worker (which counters they feed) and by tests.
 * probe_names.c names their keys, daemon/keeper/probe attaches them, tools/man/talea-probes.7.scd
 * says what each means.
 */
#include "daemon/spec/pack.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "bpf/talea_kernel.h"
#include "daemon/spec/probe_names.h"

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
static const char *const kind_segment[] = { "segment" };
static const char *const kind_syn_ack[] = { "syn_ack" };

/* States as the kernel and every protocol's description number them. */
#define TCP_MOVE(from, to) ((from) * TALEA_TCP_STATES + (to))
enum { TCP_SYN_SENT = 2, TCP_SYN_RECV, TCP_CLOSE = 7, TCP_LISTEN = 10 };

#define PAGE_FAULTS "kernel_page_faults_total"
#define PAGE_FAULTS_HELP "Page faults, by who had them."

#define RETRANSMITS "kernel_tcp_retransmits_total"
#define RETRANSMITS_HELP "TCP segments sent again; SYN-ACKs apart."

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
				   "Runs of softirqs, by vector.", learned, "vector") },
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
				   "Requests given to the drivers of block devices.", learned,
				   "operation") },
		.enums = { REQ_OP },
	},
	[PROBE_BLOCK_COMPLETED] = {
		.name = "block_completed", .attach = "tp_btf:block_rq_complete",
		KEYS(BLOCK_COMPLETED), .events_nr = TALEA_BLOCK_BYTES,
		.counters = {
			EACH("kernel_disk_requests_completed_total", 0, TALEA_BLOCK_OPS,
			     "Requests that block devices ended without an error.", learned,
			     "operation"),
			EACH("kernel_disk_requests_failed_total", TALEA_BLOCK_FAILED,
			     TALEA_BLOCK_OPS, "Requests that block devices ended with an error.",
			     learned, "operation"),
			EACH("kernel_disk_bytes_total", TALEA_BLOCK_BYTES, TALEA_BLOCK_OPS,
			     "Bytes of block devices' requests that ended without an error.", learned,
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
			    TCP_MOVE(TCP_LISTEN, TCP_SYN_RECV), 1,
			    "TCP connections that others opened to this host."),
		},
		.enums = { { .member = "TCP_ESTABLISHED", .prefix = "TCP_",
			     .nr = TALEA_TCP_STATES } },
	},
	[PROBE_TCP_RETRANSMITS] = {
		.name = "tcp_retransmits", .attach = "tp_btf:tcp_retransmit_skb",
		.is_default = true, KEYS(ONE),
		.counters = { WORDS(RETRANSMITS, 0, 1, RETRANSMITS_HELP, "kind", kind_segment) },
	},
	[PROBE_TCP_SYNACK_RETRANSMITS] = {
		.name = "tcp_synack_retransmits", .attach = "raw_tp:tcp_retransmit_synack",
		.is_default = true, KEYS(ONE),
		.counters = { WORDS(RETRANSMITS, 0, 1, RETRANSMITS_HELP, "kind", kind_syn_ack) },
	},
	[PROBE_TCP_RESETS_SENT] = {
		.name = "tcp_resets_sent", .attach = "tp_btf:tcp_send_reset", .is_default = true,
		KEYS(RESETS),
		.counters = { EACH("kernel_tcp_resets_sent_total", 0, TALEA_RESETS_KEYS,
				   "TCP resets sent, by reason.", learned, "reason") },
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
				   "Packets dropped, by reason.", learned, "reason") },
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
				   "Compactions of a zone of memory, by result.", learned, "result") },
		.enums = { { .member = "COMPACT_SUCCESS", .prefix = "COMPACT_",
			     .nr = TALEA_COMPACTIONS_OTHER } },
	},
	[PROBE_IO_URING] = {
		.name = "io_uring", .attach = "tp_btf:io_uring_submit_req",
		.attach_old = "io_uring_submit_sqe", KEYS(IO_URING),
		.counters = { EACH("kernel_io_uring_submissions_total", 0, TALEA_IO_URING_KEYS,
				   "Operations given to io_uring, by kind.", learned, "operation") },
		.enums = { { .member = "IORING_OP_NOP", .prefix = "IORING_OP_",
			     .nr = TALEA_IO_URING_OTHER } },
	},
	[PROBE_INTERFACE_TRAFFIC] = {
		.name = "interface_traffic", .attach = "tp_btf:net_dev_xmit",
		.object_counters = {
			"kernel_network_receive_packets_total",
			"kernel_network_receive_bytes_total",
			"kernel_network_transmit_packets_total",
			"kernel_network_transmit_bytes_total",
		},
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

const struct probe_type *pack_find(const char *name)
{
	for (uint32_t id = 0; id < PROBE_NR; id++)
		if (!strcmp(probe_types[id].name, name))
			return &probe_types[id];
	return NULL;
}

void pack_spec(enum probe_id id, struct probe_spec *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->event = SPEC_PACK;
	strcpy(ret->name, probe_types[id].name);
}

/* --- live probes ------------------------------------------------------------------------------ */

/* Each place of a descriptor, always in this order; NULL behind the last. */
static int *fd_place(struct probe_live *live, unsigned int n)
{
	int *programs[] = { live->prog_fds, live->link_fds, live->slot_fds };
	struct probe_source *s;

	if (n < 3 * PROBE_PROGRAMS_MAX)
		return &programs[n / PROBE_PROGRAMS_MAX][n % PROBE_PROGRAMS_MAX];
	n -= 3 * PROBE_PROGRAMS_MAX;
	if (n >= 5 * PROBE_SOURCES_MAX)
		return NULL;
	s = &live->sources[n / 5];
	return (int *[]){ &s->counts_fd, &s->keys_fd, &s->ledger_fd, &s->keys_ro_fd,
			  &s->ledger_ro_fd }[n % 5];
}

void probe_live_init(uint32_t place, struct probe_live *live)
{
	int *fd;

	memset(live, 0, sizeof(*live));
	for (unsigned int n = 0; (fd = fd_place(live, n)); n++)
		*fd = -1;
	if (place < PROBE_NR)
		pack_spec(place, &live->spec);
}

void probe_close(struct probe_live *live)
{
	int *fd;

	for (unsigned int n = 0; (fd = fd_place(live, n)); n++) {
		if (*fd >= 0)
			close(*fd);
		*fd = -1;
	}
}

unsigned int probe_fds_get(const struct probe_live *live, int *ret_fds)
{
	unsigned int nr = 0;
	const int *fd;

	for (unsigned int n = 0; (fd = fd_place((struct probe_live *)live, n)); n++)
		if (*fd >= 0)
			ret_fds[nr++] = *fd;
	return nr;
}

int probe_fds_put(struct probe_live *live, const int *fds, unsigned int fds_nr)
{
	int had[PROBE_FDS_MAX], *fd;
	unsigned int at = 0;

	if (probe_fds_get(live, had) != fds_nr)
		return -EPROTO;
	for (unsigned int n = 0; (fd = fd_place(live, n)); n++)
		if (*fd >= 0)
			*fd = fds[at++];
	return 0;
}

void probe_for_worker(struct probe_live *live)
{
	for (unsigned int i = 0; i < PROBE_PROGRAMS_MAX; i++)
		live->prog_fds[i] = live->link_fds[i] = live->slot_fds[i] = -1;
	for (unsigned int i = 0; i < PROBE_SOURCES_MAX; i++) {
		struct probe_source *s = &live->sources[i];

		/* Without a ledger the map of keys is frozen: any descriptor only reads. */
		if (s->ledger_fd >= 0)
			s->keys_fd = s->keys_ro_fd;
		s->ledger_fd = s->ledger_ro_fd;
		s->keys_ro_fd = s->ledger_ro_fd = -1;
	}
}

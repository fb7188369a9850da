/*
 * The objects of the pack, as they are embedded in this program. Owns nothing. Called by object.c;
 * what the probes are stands in daemon/spec/pack.c.
 */
#include "bpf/pack/block_completed.skel.h"
#include "bpf/pack/block_issued.skel.h"
#include "bpf/pack/compactions.skel.h"
#include "bpf/pack/context_switches.skel.h"
#include "bpf/pack/direct_reclaims.skel.h"
#include "bpf/pack/execs.skel.h"
#include "bpf/pack/exits.skel.h"
#include "bpf/pack/forks.skel.h"
#include "bpf/pack/hardirqs.skel.h"
#include "bpf/pack/interface_traffic.skel.h"
#include "bpf/pack/io_uring.skel.h"
#include "bpf/pack/lock_contention.skel.h"
#include "bpf/pack/oom_kills.skel.h"
#include "bpf/pack/packet_drops.skel.h"
#include "bpf/pack/page_faults_kernel.skel.h"
#include "bpf/pack/page_faults_user.skel.h"
#include "bpf/pack/signals.skel.h"
#include "bpf/pack/softirqs.skel.h"
#include "bpf/pack/syscall_errors.skel.h"
#include "bpf/pack/syscalls.skel.h"
#include "bpf/pack/task_migrations.skel.h"
#include "bpf/pack/task_wakeups.skel.h"
#include "bpf/pack/tcp_resets_received.skel.h"
#include "bpf/pack/tcp_resets_sent.skel.h"
#include "bpf/pack/tcp_retransmits.skel.h"
#include "bpf/pack/tcp_states.skel.h"
#include "bpf/pack/tcp_synack_retransmits.skel.h"
#include "daemon/keeper/probe/embedded.h"

#define PROBE_ELF(ID, name) [PROBE_##ID] = name##__elf_bytes,
static const void *(*const probe_elf[PROBE_NR])(size_t *) = { PROBE_LIST(PROBE_ELF) };

const void *embedded_object(const struct probe_type *type, size_t *ret_bytes)
{
	return probe_elf[type - probe_types](ret_bytes);
}

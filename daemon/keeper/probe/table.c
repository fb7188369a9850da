/*
 * The objects of the table, as they are embedded in this program, and how one of them is opened. Owns
 * nothing. Called by attach.c; what the probes are stands in daemon/spec/pack.c.
 */
#include <errno.h>
#include <string.h>

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
#include "daemon/keeper/probe/load.h"
#include "daemon/keeper/probe/table.h"

/* Objects are opened by hand from the skeletons' bytes: one way for every probe of the table. */
#define PROBE_ELF(ID, name) [PROBE_##ID] = name##__elf_bytes,
static const void *(*const probe_elf[PROBE_NR])(size_t *) = { PROBE_LIST(PROBE_ELF) };

const void *table_elf(uint32_t id, size_t *ret_bytes)
{
	return probe_elf[id](ret_bytes);
}

bool table_is_dense(uint32_t id)
{
	return id < PROBE_NR && probe_types[id].keys_nr;
}

/* The same event under the name that it had before. */
static int old_target_set(struct load *l)
{
	const char *old = probe_types[l->id].attach_old;
	int err;

	if (!old || explain_has_tracepoint(l->failure.target) || !explain_has_tracepoint(old))
		return 0;
	err = bpf_program__set_attach_target(l->stub, 0, old);
	return err ? err : bpf_program__set_attach_target(l->body, 0, old);
}

int table_open(struct load *l)
{
	size_t bytes;
	const void *elf = table_elf(l->id, &bytes);

	if (!table_is_dense(l->id))
		return object_open(l, elf, bytes);
	l->failure.step = "open its object";
	l->obj = bpf_object__open_mem(elf, bytes, NULL);
	if (!l->obj)
		return -errno;
	l->elf_hash = adopt_hash(elf, bytes);
	l->stub = bpf_object__find_program_by_name(l->obj, "enter");
	l->body = bpf_object__find_program_by_name(l->obj, probe_types[l->id].name);
	return l->stub && l->body ? old_target_set(l) : -EINVAL;
}

/*
 * What probes cost, measured while the kernel's statistics of programs are on. They are on for the
 * window that an operator asks for, and off otherwise, because they slow down every program of the
 * host. Owns nothing; called by the keeper (requests.c).
 */
#include <bpf/bpf.h>
#include <string.h>
#include <unistd.h>

#include "daemon/keeper/probe/probe.h"

/* A trampoline's figures have those of the program that it calls. */
static void cost_read(const struct probe_live *probes, struct probe_cost *ret)
{
	memset(ret, 0, PROBES_MAX * sizeof(*ret));
	for (uint32_t id = 0; id < PROBES_MAX; id++)
		for (uint32_t i = 0; i < probes[id].progs_nr; i++) {
			struct bpf_prog_info info = { 0 };
			uint32_t bytes = sizeof(info);

			if (bpf_obj_get_info_by_fd(probes[id].prog_fds[i], &info, &bytes))
				continue;
			ret[id].runs += info.run_cnt;
			ret[id].ns += info.run_time_ns;
		}
}

int cost_begin(const struct probe_live *probes, struct probe_cost *ret_before)
{
	int fd = bpf_enable_stats(BPF_STATS_RUN_TIME);

	if (fd >= 0)
		cost_read(probes, ret_before);
	return fd;
}

void cost_end(int fd, const struct probe_live *probes, const struct probe_cost *before,
	      struct probe_cost *ret)
{
	cost_read(probes, ret);
	close(fd);
	for (uint32_t id = 0; id < PROBES_MAX; id++) {
		/* A probe that was attached or replaced meanwhile began at 0. */
		bool is_same = ret[id].runs >= before[id].runs && ret[id].ns >= before[id].ns;

		ret[id].runs -= is_same ? before[id].runs : 0;
		ret[id].ns -= is_same ? before[id].ns : 0;
	}
}

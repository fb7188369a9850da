/*
 * Counts operations that programs gave to io_uring, by kind. Before 6.3 the tracepoint has another
 * name: the keeper tries both. Loaded and attached by the keeper.
 */
#include "count.h"
#include "core.h"
#include "talea_kernel.h"

SEC("tp_btf/io_uring_submit_req")
int io_uring(__u64 *ctx)
{
	const struct io_kiocb *req = (void *)ctx[0];

	count_upto(req->opcode, TALEA_IO_URING_OTHER, TALEA_IO_URING_STRIDE);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

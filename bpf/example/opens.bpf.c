/*
 * An example of talea.bpf.h: counts the calls that open a file, by the command that makes them. It
 * needs nothing but this file and what is installed:
 *
 *	clang -target bpf -O2 -g $(pkg-config --cflags talea) -I/usr/include/$(uname -m)-linux-gnu \
 *		-c opens.bpf.c -o opens.bpf.o
 *
 * As root: install -D -m 644 opens.bpf.o /etc/talea/opens.bpf.o, and in /etc/talea/talea.conf:
 *
 *	[probe opens]
 *	object = /etc/talea/opens.bpf.o
 *
 * Then systemctl reload talead, and `talea get file_opens_total`. Calls of 32-bit programs have
 * other numbers: they are not distinguished here.
 */
#include <asm/unistd.h>
#include <talea.bpf.h>

TALEA_COUNTER_BY(opens, "file_opens_total", "Calls that open a file, by command.", 1024,
		 TALEA_TEXT(comm, 16));

/* The arguments of the tracepoint: the caller's registers, and the call's number. */
SEC("raw_tp/sys_enter")
int on_call(struct bpf_raw_tracepoint_args *ctx)
{
	struct opens_key key = {};

	switch (ctx->args[1]) {
#ifdef __NR_open
	case __NR_open:
	case __NR_creat:
#endif
	case __NR_openat:
	case __NR_openat2:
		bpf_get_current_comm(key.comm, sizeof(key.comm));
		talea_count_by(&opens, &key, 1);
	}
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

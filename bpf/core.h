/*
 * The kernel's types whose fields the programs read, with those fields alone. libbpf finds the real
 * offsets in the running kernel's BTF when it loads a program (CO-RE), so nothing here is a layout.
 */
#ifndef BPF_CORE_H
#define BPF_CORE_H

#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct thread_info {
	unsigned long flags;
	__u32 status; /* x86 */
};

struct task_struct {
	struct thread_info thread_info;
	int pid;
	int tgid;
};

struct pt_regs { /* x86 */
	unsigned long r11;
	unsigned long cx;
	unsigned long ip;
	unsigned long flags;
};

struct request {
	__u32 cmd_flags; /* enum req_op in the low 8 bits */
	__u32 __data_len;
};

struct sock {
	__u16 sk_protocol;
};

struct sk_buff {
	char cb[48];
};

struct tcp_skb_cb {
	__u16 tcp_gso_segs;
};

struct io_kiocb {
	__u8 opcode;
};

/* Since 6.10, together with the argument of tcp_send_reset that has it. */
enum sk_rst_reason { SK_RST_REASON_NOT_SPECIFIED };

#pragma clang attribute pop

/* Is this a call of the CPU's 32-bit ABI? */
#if defined(__TARGET_ARCH_x86)
#define TS_COMPAT 0x0002

/*
 * The `syscall` instruction, the native way in, leaves ip in cx and flags in r11; 32-bit tasks and
 * int 0x80 of 64-bit ones do not. The task knows for certain, but asking it is a helper call, 24 of
 * the 26 ns that this program took beyond an empty one: only who looks unusual is asked.
 */
static __always_inline bool call_is_compat(const struct pt_regs *regs)
{
	if (regs->cx == regs->ip && regs->r11 == regs->flags)
		return false;
	return bpf_get_current_task_btf()->thread_info.status & TS_COMPAT;
}
#elif defined(__TARGET_ARCH_arm64)
#define TIF_32BIT 22

static __always_inline bool call_is_compat(const struct pt_regs *regs)
{
	(void)regs;
	return bpf_get_current_task_btf()->thread_info.flags >> TIF_32BIT & 1;
}
#else
static __always_inline bool call_is_compat(const struct pt_regs *regs)
{
	(void)regs;
	return false;
}
#endif

#endif

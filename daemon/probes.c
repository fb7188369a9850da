/*
 * The table of probe types and the names of their keys. Owns no state; called by the keeper (which
 * probes there are), by the fold (what a key that was seen is called) and by tests. Not libbpf's:
 * that is keeper/probe.c.
 */
#include "probes.h"

#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bpf/talea_kernel.h"

/* The 32-bit ABI whose tasks bpf/core.h tells apart, as a label and as libseccomp knows it. */
#if defined(__x86_64__)
#define COMPAT_LABEL "abi=\"i386\","
#define COMPAT_ARCH SCMP_ARCH_X86
#elif defined(__aarch64__)
#define COMPAT_LABEL "abi=\"arm\","
#define COMPAT_ARCH SCMP_ARCH_ARM
#else
#define COMPAT_LABEL "abi=\"compat\","
#define COMPAT_ARCH SCMP_ARCH_NATIVE
#endif

static int fits(int length, size_t size)
{
	return length >= 0 && (size_t)length < size ? length : -EMSGSIZE;
}

static int labels_none(uint32_t key, char *buf, size_t size)
{
	if (key)
		return -EINVAL;
	if (!size)
		return -EMSGSIZE;
	buf[0] = '\0';
	return 0;
}

static int labels_syscall(uint32_t key, char *buf, size_t size)
{
	int compat = key >= TALEA_SYSCALLS_COMPAT;
	int number = (int)(compat ? key - TALEA_SYSCALLS_COMPAT : key);
	char *name;
	int length;

	if (key == TALEA_SYSCALLS_OTHER)
		return fits(snprintf(buf, size, "syscall=\"other\""), size);
	if (key > TALEA_SYSCALLS_OTHER)
		return -EINVAL;

	name = seccomp_syscall_resolve_num_arch(compat ? COMPAT_ARCH : SCMP_ARCH_NATIVE, number);
	if (name)
		length = snprintf(buf, size, "%ssyscall=\"%s\"", compat ? COMPAT_LABEL : "", name);
	else
		length = snprintf(buf, size, "%ssyscall=\"nr_%d\"", compat ? COMPAT_LABEL : "",
				  number);
	free(name);
	return fits(length, size);
}

const struct probe_type probe_types[PROBE_NR] = {
	[PROBE_CONTEXT_SWITCHES] = {
		.name = "context_switches",
		.attach = "tp_btf:sched_switch",
		.counter = "kernel_context_switches_total",
		.help = "Switches from one task to another.",
		.keys_nr = TALEA_CONTEXT_SWITCHES_KEYS,
		.stride = TALEA_CONTEXT_SWITCHES_STRIDE,
		.labels = labels_none,
	},
	[PROBE_SYSCALLS] = {
		.name = "syscalls",
		.attach = "tp_btf:sys_enter",
		.counter = "kernel_syscalls_total",
		.help = "System calls begun, by name.",
		.keys_nr = TALEA_SYSCALLS_KEYS,
		.stride = TALEA_SYSCALLS_STRIDE,
		.labels = labels_syscall,
	},
};

/* See probe_names.h. Called by the keeper (learning) and the fold (naming a key that was seen). */
#define _GNU_SOURCE
#include "daemon/spec/probe_names.h"

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

#define KEY_BYTES sizeof(uint16_t)
#define NAME_MAX_BYTES 64 /* of a name in a label */

static struct probe_names *names[PROBE_NR]; /* only as long as it is used */

/* --- what the kernel says --------------------------------------------------------------------- */

static const char *probe_name_find(const struct probe_names *n, uint32_t key)
{
	uint32_t at = 0;

	while (n && at < n->bytes) {
		uint16_t one;

		memcpy(&one, n->packed + at, KEY_BYTES);
		at += KEY_BYTES;
		if (one == key)
			return n->packed + at;
		at += (uint32_t)strlen(n->packed + at) + 1;
	}
	return NULL;
}

static char in_label(char c)
{
	bool fits = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		    (c && strchr("_.:/@,+-", c));

	return fits ? c : '_';
}

void probe_names_put(struct probe_names *n, uint32_t key, const char *name, size_t length)
{
	uint16_t short_key = (uint16_t)key;
	char *to;

	if (length >= NAME_MAX_BYTES)
		length = NAME_MAX_BYTES - 1;
	if (!length || key != short_key ||
	    n->bytes + KEY_BYTES + length + 1 > sizeof(n->packed) || probe_name_find(n, key))
		return;
	memcpy(n->packed + n->bytes, &short_key, KEY_BYTES);
	to = n->packed + n->bytes + KEY_BYTES;
	for (size_t i = 0; i < length; i++)
		to[i] = in_label(name[i]);
	to[length] = '\0';
	n->bytes += (uint32_t)(KEY_BYTES + length + 1);
}

void probe_names_set(enum probe_id id, const struct probe_names *n)
{
	size_t bytes = offsetof(struct probe_names, packed) + n->bytes;

	if (names[id] || !n->bytes || n->bytes > sizeof(n->packed) || n->packed[n->bytes - 1])
		return;
	names[id] = malloc(bytes);
	if (names[id])
		memcpy(names[id], n, bytes);
}

void probe_names_get(enum probe_id id, struct probe_names *ret)
{
	ret->bytes = 0;
	if (names[id])
		memcpy(ret, names[id], offsetof(struct probe_names, packed) + names[id]->bytes);
}

const char *probe_names_find(enum probe_id id, uint32_t key)
{
	return probe_name_find(names[id], key);
}

/* --- labels ----------------------------------------------------------------------------------- */

static int fits(int length, size_t size)
{
	return length >= 0 && (size_t)length < size ? length : -EMSGSIZE;
}

int labels_word(enum probe_id id, const struct probe_counter *c, uint32_t at, char *buf,
		size_t size)
{
	(void)id;
	if (at >= c->nr)
		return -EINVAL;
	return fits(snprintf(buf, size, "%s=\"%s\"", c->label, c->words[at]), size);
}

/* The kernel's name of a key, else one made of its number. */
static const char *learned_name(enum probe_id id, uint32_t key, char *buf, size_t size)
{
	const char *name = probe_names_find(id, key);

	if (!name)
		snprintf(buf, size, "nr_%u", key);
	return name ? name : buf;
}

/* Block operations stand three times in one map: their names are those of the first. */
int labels_learned(enum probe_id id, const struct probe_counter *c, uint32_t at, char *buf,
		size_t size)
{
	char number[16];

	if (at >= c->nr)
		return -EINVAL;
	return fits(snprintf(buf, size, "%s=\"%s\"", c->label,
			     at == c->nr - 1 ? "other" : learned_name(id, at, number, sizeof(number))),
		    size);
}

int labels_syscall(enum probe_id id, const struct probe_counter *c, uint32_t at, char *buf,
		   size_t size)
{
	int compat = at >= TALEA_SYSCALLS_COMPAT;
	int number = (int)(compat ? at - TALEA_SYSCALLS_COMPAT : at);
	char *name;
	int length;

	(void)id;
	if (at >= c->nr)
		return -EINVAL;
	if (at == TALEA_SYSCALLS_OTHER)
		return fits(snprintf(buf, size, "syscall=\"other\""), size);

	name = seccomp_syscall_resolve_num_arch(compat ? COMPAT_ARCH : SCMP_ARCH_NATIVE, number);
	if (name)
		length = snprintf(buf, size, "%ssyscall=\"%s\"", compat ? COMPAT_LABEL : "", name);
	else
		length = snprintf(buf, size, "%ssyscall=\"nr_%d\"", compat ? COMPAT_LABEL : "",
				  number);
	free(name);
	return fits(length, size);
}

int labels_errno(enum probe_id id, const struct probe_counter *c, uint32_t at, char *buf,
		 size_t size)
{
	const char *name = strerrorname_np((int)at);

	(void)id;
	if (at >= c->nr)
		return -EINVAL;
	if (at == TALEA_ERRNOS_OTHER)
		return fits(snprintf(buf, size, "errno=\"other\""), size);
	return fits(name ? snprintf(buf, size, "errno=\"%s\"", name)
			 : snprintf(buf, size, "errno=\"nr_%u\"", at),
		    size);
}

int labels_irq(enum probe_id id, const struct probe_counter *c, uint32_t at, char *buf, size_t size)
{
	const char *device = probe_names_find(id, at);

	if (at >= c->nr)
		return -EINVAL;
	if (at == TALEA_HARDIRQS_OTHER)
		return fits(snprintf(buf, size, "irq=\"other\""), size);
	return fits(device ? snprintf(buf, size, "device=\"%s\",irq=\"%u\"", device, at)
			   : snprintf(buf, size, "irq=\"%u\"", at),
		    size);
}

int labels_tcp_state(enum probe_id id, const struct probe_counter *c, uint32_t at, char *buf,
		     size_t size)
{
	char from[16], to[16];

	if (at >= c->nr)
		return -EINVAL;
	return fits(snprintf(buf, size, "from=\"%s\",to=\"%s\"",
			     learned_name(id, at / TALEA_TCP_STATES, from, sizeof(from)),
			     learned_name(id, at % TALEA_TCP_STATES, to, sizeof(to))),
		    size);
}

int labels_signal(enum probe_id id, const struct probe_counter *c, uint32_t at, char *buf,
		  size_t size)
{
	uint32_t signal = at % TALEA_SIGNALS_NR;
	const char *name = sigabbrev_np((int)signal), *result;
	char number[16], result_number[16];

	if (at >= c->nr)
		return -EINVAL;
	if (at == TALEA_SIGNALS_OTHER)
		return fits(snprintf(buf, size, "signal=\"other\""), size);
	if (name)
		snprintf(number, sizeof(number), "SIG%s", name);
	else
		snprintf(number, sizeof(number), "nr_%u", signal);
	result = learned_name(id, at / TALEA_SIGNALS_NR, result_number, sizeof(result_number));
	return fits(snprintf(buf, size, "result=\"%s\",signal=\"%s\"", result, number), size);
}

/*
 * The flags of contention_begin have no names in the kernel's type information. These are perf's words;
 * mutex:spin is one whose holder runs, so that the waiter spins for it.
 */
int labels_lock(enum probe_id id, const struct probe_counter *c, uint32_t at, char *buf,
		size_t size)
{
	enum { SPIN = 1, READ = 2, WRITE = 4, RT = 8, PERCPU = 16, MUTEX = 32 };
	static const char *const kinds[TALEA_LOCKS_OTHER] = {
		[0] = "semaphore",	 [SPIN] = "spinlock",
		[SPIN | READ] = "rwlock:R", [SPIN | WRITE] = "rwlock:W",
		[READ] = "rwsem:R",	 [WRITE] = "rwsem:W",
		[RT] = "rt-mutex",	 [RT | READ] = "rwlock-rt:R",
		[RT | WRITE] = "rwlock-rt:W", [PERCPU | READ] = "pcpu-sem:R",
		[PERCPU | WRITE] = "pcpu-sem:W", [MUTEX] = "mutex",
		[MUTEX | SPIN] = "mutex:spin",
	};

	(void)id;
	if (at >= c->nr)
		return -EINVAL;
	if (at == TALEA_LOCKS_OTHER)
		return fits(snprintf(buf, size, "lock=\"other\""), size);
	return fits(kinds[at] ? snprintf(buf, size, "lock=\"%s\"", kinds[at])
			      : snprintf(buf, size, "lock=\"nr_%u\"", at),
		    size);
}

/*
 * Why a probe does not work here, in a sentence for a person: see explain.h. Owns nothing and
 * changes nothing. It reads /proc and /sys, and the kernel's types for names that are alike. Called
 * by attach.c and by the doctor.
 */
#include "daemon/keeper/probe/explain.h"

#include <bpf/btf.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "daemon/keeper/probe/symbols/types.h"

bool explain_line(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = -1;

	if (fd >= 0) {
		got = read(fd, buf, size - 1);
		close(fd);
	}
	buf[got > 0 ? got : 0] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	return got > 0;
}

/* --- before an attempt ------------------------------------------------------------------------ */

uint64_t explain_caps(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };

	if (syscall(SYS_capget, &head, data))
		return 0;
	return (uint64_t)data[1].effective << 32 | data[0].effective;
}

static void fix_rights(struct why *e)
{
	char self[160];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self));

	if (prctl(PR_CAPBSET_READ, CAP_BPF) == 0 || prctl(PR_CAPBSET_READ, CAP_PERFMON) == 0)
		why_fix(e, "allow CAP_BPF and CAP_PERFMON in the service or container that talead "
			   "runs in (CapabilityBoundingSet=, --cap-add)");
	else if (length > 0 && (size_t)length < sizeof(self))
		why_fix(e, "run talead as root, or: sudo setcap cap_bpf,cap_perfmon+ep %.*s",
			(int)length, self);
	else
		why_fix(e, "run talead as root");
}

/* -EPERM: a right is missing. This is checked first, because the kernel does not say which one. */
int explain_rights(struct why *ret)
{
	uint64_t caps = explain_caps();
	bool all = caps >> CAP_SYS_ADMIN & 1;
	bool bpf = all || (caps >> CAP_BPF & 1);
	bool perfmon = all || (caps >> CAP_PERFMON & 1);

	if (bpf && perfmon)
		return 0;
	if (!bpf && !perfmon)
		why_set(ret, 0, "CAP_BPF and CAP_PERFMON are missing%s",
			geteuid() ? " (not root)" : " (root without them)");
	else
		why_set(ret, 0, "%s is missing (have: %s)", bpf ? "CAP_PERFMON" : "CAP_BPF",
			bpf ? "CAP_BPF" : "CAP_PERFMON");
	fix_rights(ret);
	return -EPERM;
}

/* libbpf would also read a BTF file below /boot, but attaching these needs the kernel's own types. */
int explain_btf(uint32_t event, struct why *ret)
{
	bool is_needed = event == SPEC_TP_BTF || event == SPEC_FENTRY || event == SPEC_FEXIT;

	if (!is_needed || access(TYPES_KERNEL, R_OK) == 0)
		return 0;
	if (access("/sys/kernel", F_OK) != 0) {
		why_set(ret, 0, "sysfs is not mounted, so " TYPES_KERNEL " cannot be read");
		why_fix(ret, "mount -t sysfs sysfs /sys");
	} else {
		why_set(ret, 0, "this kernel has no type information (" TYPES_KERNEL ": %s)",
			strerror(errno));
		why_fix(ret, "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y, as Debian's is");
	}
	return -ENOENT;
}

bool explain_has_tracepoint(const char *tracepoint)
{
	struct btf *btf = btf__parse(TYPES_KERNEL, NULL);
	char name[160];
	bool known = true; /* where there are no types to ask */

	if (btf) {
		snprintf(name, sizeof(name), TYPES_TRACEPOINT "%s", tracepoint);
		known = btf__find_by_name_kind(btf, name, BTF_KIND_TYPEDEF) >= 0;
	}
	btf__free(btf);
	return known;
}

/* --- after an attempt that failed ------------------------------------------------------------- */

/* The last two meaningful lines of a verifier log; the last one alone if both are too long. */
static const char *log_tail(char *log)
{
	size_t length;
	char *line, *before;

	for (;;) {
		length = strlen(log);
		while (length && isspace((unsigned char)log[length - 1]))
			log[--length] = '\0';
		line = strrchr(log, '\n');
		line = line ? line + 1 : log;
		if (line == log || strncmp(line, "processed ", 10) != 0)
			break;
		*line = '\0';
	}
	if (line == log)
		return line;
	line[-1] = '\0';
	before = strrchr(log, '\n');
	before = before ? before + 1 : log;
	line[-1] = '|';
	return strlen(before) < 200 ? before : line;
}

bool explain_kernel_is_old(struct utsname *ret_name)
{
	unsigned int major = 0, minor = 0;

	if (uname(ret_name) || sscanf(ret_name->release, "%u.%u", &major, &minor) != 2)
		return false;
	return major < 6 || (major == 6 && minor < 1);
}

static void failure_of_verifier(const struct failure *f, struct why *ret)
{
	struct utsname name;

	why_set(ret, 0, "the kernel's verifier refused it: %s", log_tail(f->log));
	if (explain_kernel_is_old(&name))
		why_fix(ret, "boot Linux 6.1 or later (this is %s)", name.release);
	else if (f->event == SPEC_OBJECT)
		why_fix(ret, "correct the program, and build %.180s again", f->file);
	else
		why_fix(ret, "%s, and report this line with the output of uname -r", f->without);
}

/* The host's own namespace maps every uid; the file of a namespace that maps none is empty. */
bool explain_in_user_namespace(void)
{
	char line[128];

	return access("/proc/self/uid_map", R_OK) == 0 &&
	       !(explain_line("/proc/self/uid_map", line, sizeof(line)) &&
		 strstr(line, " 4294967295"));
}

/* EPERM although all capabilities are there, and without a verifier log: what forbids it? */
static void failure_of_rights(const struct failure *f, struct why *ret)
{
	char line[128];

	if (explain_line("/sys/kernel/security/lockdown", line, sizeof(line)) &&
	    strstr(line, "[confidentiality]")) {
		why_set(ret, 0, "kernel lockdown is on (%s)", line);
		why_fix(ret, "boot with lockdown=integrity instead of lockdown=confidentiality");
	} else if (explain_in_user_namespace()) {
		why_set(ret, 0, "talead runs in a user namespace, where its capabilities do not "
			     "count");
		why_fix(ret, "run talead on the host, or in a container without user namespaces");
	} else if (f->event == SPEC_FENTRY || f->event == SPEC_FEXIT) {
		why_set(ret, 0, "the kernel forbids fentry and fexit although the capabilities are "
			     "there");
		why_fix(ret, "count a tracepoint instead (talea probes --available 'tp_btf:*'), or "
			     "boot a kernel that allows them");
	} else {
		why_set(ret, 0, "the kernel forbids bpf() although the capabilities are there");
		why_fix(ret, "allow bpf() in the seccomp or LSM policy of the service or container "
			     "(SystemCallFilter=bpf)");
	}
}

static void failure_of_name(const struct failure *f, struct why *ret)
{
	char near[256];

	why_set(ret, 0, "this kernel's type information has no tracepoint %s", f->target);
	explain_nearest(f->event, NULL, f->target, near, sizeof(near));
	if (near[0])
		why_fix(ret, "did you mean %.100s? else boot a kernel that has it, or %.100s", near,
			f->without);
	else
		why_fix(ret, "boot a kernel that has it (and is built with "
			     "CONFIG_TRACEPOINTS=y and CONFIG_BPF_EVENTS=y), or %s", f->without);
}

void explain_failure(const struct failure *f, struct why *ret)
{
	bool is_tracepoint = f->target && (f->event == SPEC_TP_BTF || f->event == SPEC_RAW_TP);
	bool has_log = f->log && f->log[0];

	if (f->err == -EPERM && !has_log) {
		failure_of_rights(f, ret);
	} else if (is_tracepoint && !explain_has_tracepoint(f->target)) {
		failure_of_name(f, ret);
	} else if (has_log) {
		failure_of_verifier(f, ret);
	} else if (f->err == -ENOMEM) {
		why_set(ret, 0, "no memory for its map of %zu KiB", f->map_bytes / 1024);
		why_fix(ret, "raise the memory limit of talead's cgroup (MemoryMax=)");
	} else if (f->err == -ENOSYS) {
		why_set(ret, 0, "this kernel has no bpf()");
		why_fix(ret, "boot a kernel built with CONFIG_BPF_SYSCALL=y");
	} else {
		why_set(ret, 0, "cannot %s: %s", f->step, strerror(-f->err));
		why_fix(ret, "start talead again; if that does not help, %s", f->without);
	}
}

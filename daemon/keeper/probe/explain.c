/*
 * Why a probe does not work here, in words for a person: see explain.h. Owns nothing and changes
 * nothing; reads /proc, /sys and, for names alike, the kernel's types. Called by attach.c and doctor.c.
 */
#include "daemon/keeper/probe/explain.h"

#include <bpf/btf.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "daemon/keeper/probe/symbols/types.h"

#define KERNEL_BTF TYPES_KERNEL

void explain_reason(struct explain *e, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(e->reason, sizeof(e->reason), format, args);
	va_end(args);
}

void explain_fix(struct explain *e, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(e->fix, sizeof(e->fix), format, args);
	va_end(args);
}

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

static void fix_rights(struct explain *e)
{
	char self[160];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self));

	if (prctl(PR_CAPBSET_READ, CAP_BPF) == 0 || prctl(PR_CAPBSET_READ, CAP_PERFMON) == 0)
		explain_fix(e, "allow CAP_BPF and CAP_PERFMON in the service or container that talead "
			       "runs in (CapabilityBoundingSet=, --cap-add)");
	else if (length > 0 && (size_t)length < sizeof(self))
		explain_fix(e, "run talead as root, or: sudo setcap cap_bpf,cap_perfmon+ep %.*s",
			    (int)length, self);
	else
		explain_fix(e, "run talead as root");
}

/* A right is missing: -EPERM. Asked first, because the kernel's own answer does not say which. */
int explain_rights(struct explain *ret)
{
	uint64_t caps = explain_caps();
	bool all = caps >> CAP_SYS_ADMIN & 1;
	bool bpf = all || (caps >> CAP_BPF & 1);
	bool perfmon = all || (caps >> CAP_PERFMON & 1);

	if (bpf && perfmon)
		return 0;
	if (!bpf && !perfmon)
		explain_reason(ret, "CAP_BPF and CAP_PERFMON are missing%s",
			       geteuid() ? " (not root)" : " (root without them)");
	else
		explain_reason(ret, "%s is missing (have: %s)", bpf ? "CAP_PERFMON" : "CAP_BPF",
			       bpf ? "CAP_BPF" : "CAP_PERFMON");
	fix_rights(ret);
	return -EPERM;
}

/* libbpf would also take a BTF file below /boot, but these are attached by the kernel's own. */
int explain_btf(uint32_t event, struct explain *ret)
{
	bool is_needed = event == SPEC_TP_BTF || event == SPEC_FENTRY || event == SPEC_FEXIT;

	if (!is_needed || access(KERNEL_BTF, R_OK) == 0)
		return 0;
	if (access("/sys/kernel", F_OK) != 0) {
		explain_reason(ret, "sysfs is not mounted, so " KERNEL_BTF " cannot be read");
		explain_fix(ret, "mount -t sysfs sysfs /sys");
	} else {
		explain_reason(ret, "this kernel has no type information (" KERNEL_BTF ": %s)",
			       strerror(errno));
		explain_fix(ret, "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y, as Debian's is");
	}
	return -ENOENT;
}

bool explain_has_tracepoint(const char *tracepoint)
{
	struct btf *btf = btf__parse(KERNEL_BTF, NULL);
	char name[160];
	bool known = true; /* unless we know better */

	if (btf) {
		snprintf(name, sizeof(name), TYPES_TRACEPOINT "%s", tracepoint);
		known = btf__find_by_name_kind(btf, name, BTF_KIND_TYPEDEF) >= 0;
	}
	btf__free(btf);
	return known;
}

/* --- after one that failed -------------------------------------------------------------------- */

/* The last two lines of a verifier log that say something; the last one if both are too long. */
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

static void explain_verifier(const struct failure *f, struct explain *ret)
{
	struct utsname name;

	explain_reason(ret, "the kernel's verifier refused it: %s", log_tail(f->log));
	if (explain_kernel_is_old(&name))
		explain_fix(ret, "boot Linux 6.1 or later (this is %s)", name.release);
	else if (f->event == SPEC_OBJECT)
		explain_fix(ret, "mend the program, and build %.180s again", f->file);
	else
		explain_fix(ret, "%s, and report this line with the output of uname -r", f->without);
}

/* The host's own namespace maps every uid; one that maps none yet reads as an empty file. */
bool explain_in_user_namespace(void)
{
	char line[128];

	return access("/proc/self/uid_map", R_OK) == 0 &&
	       !(explain_line("/proc/self/uid_map", line, sizeof(line)) &&
		 strstr(line, " 4294967295"));
}

/* All capabilities are there and still EPERM without a verifier log: who forbids it? */
static void explain_forbidden(const struct failure *f, struct explain *ret)
{
	char line[128];

	if (explain_line("/sys/kernel/security/lockdown", line, sizeof(line)) &&
	    strstr(line, "[confidentiality]")) {
		explain_reason(ret, "kernel lockdown is on (%s)", line);
		explain_fix(ret, "boot with lockdown=integrity instead of lockdown=confidentiality");
	} else if (explain_in_user_namespace()) {
		explain_reason(ret, "talead runs in a user namespace, where its capabilities do not "
				    "count");
		explain_fix(ret, "run talead on the host, or in a container without user namespaces");
	} else if (f->event == SPEC_FENTRY || f->event == SPEC_FEXIT) {
		explain_reason(ret, "the kernel forbids fentry and fexit although the capabilities are "
				    "there");
		explain_fix(ret, "count a tracepoint instead (talea probes --available 'tp_btf:*'), or "
				 "boot a kernel that allows them");
	} else {
		explain_reason(ret, "the kernel forbids bpf() although the capabilities are there");
		explain_fix(ret, "allow bpf() in the seccomp or LSM policy of the service or container "
				 "(SystemCallFilter=bpf)");
	}
}

static void explain_no_tracepoint(const struct failure *f, struct explain *ret)
{
	char near[256];

	explain_reason(ret, "this kernel's type information has no tracepoint %s", f->target);
	explain_nearest(f->event, NULL, f->target, near, sizeof(near));
	if (near[0])
		explain_fix(ret, "did you mean %.100s? else boot a kernel that has it, or %.100s", near,
			    f->without);
	else
		explain_fix(ret, "boot a kernel that has it (and is built with "
				 "CONFIG_TRACEPOINTS=y and CONFIG_BPF_EVENTS=y), or %s", f->without);
}

void explain_failure(const struct failure *f, struct explain *ret)
{
	bool is_tracepoint = f->target && (f->event == SPEC_TP_BTF || f->event == SPEC_RAW_TP);
	bool is_said = f->log && f->log[0];

	if (f->err == -EPERM && !is_said) {
		explain_forbidden(f, ret);
	} else if (is_tracepoint && !explain_has_tracepoint(f->target)) {
		explain_no_tracepoint(f, ret);
	} else if (is_said) {
		explain_verifier(f, ret);
	} else if (f->err == -ENOMEM) {
		explain_reason(ret, "no memory for its map of %zu KiB", f->map_bytes / 1024);
		explain_fix(ret, "raise the memory limit of talead's cgroup (MemoryMax=)");
	} else if (f->err == -ENOSYS) {
		explain_reason(ret, "this kernel has no bpf()");
		explain_fix(ret, "boot a kernel built with CONFIG_BPF_SYSCALL=y");
	} else {
		explain_reason(ret, "cannot %s: %s", f->step, strerror(-f->err));
		explain_fix(ret, "start talead again; if that does not help, %s", f->without);
	}
}

/*
 * Loads, attaches and detaches the probes of probes.h; only probe_learn.c has libbpf beside it. When
 * that fails it finds out why, in words for a person. Called by the keeper, which alone has the
 * rights. Owns nothing after it returns: the fds of a live probe belong to the caller and nothing is
 * pinned.
 */
#include "daemon/probes.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bpf/block_completed.skel.h"
#include "bpf/block_issued.skel.h"
#include "bpf/compactions.skel.h"
#include "bpf/context_switches.skel.h"
#include "bpf/direct_reclaims.skel.h"
#include "bpf/execs.skel.h"
#include "bpf/exits.skel.h"
#include "bpf/forks.skel.h"
#include "bpf/hardirqs.skel.h"
#include "bpf/io_uring.skel.h"
#include "bpf/lock_contention.skel.h"
#include "bpf/oom_kills.skel.h"
#include "bpf/packet_drops.skel.h"
#include "bpf/page_faults_kernel.skel.h"
#include "bpf/page_faults_user.skel.h"
#include "bpf/signals.skel.h"
#include "bpf/softirqs.skel.h"
#include "bpf/syscall_errors.skel.h"
#include "bpf/syscalls.skel.h"
#include "bpf/task_migrations.skel.h"
#include "bpf/task_wakeups.skel.h"
#include "bpf/tcp_resets_received.skel.h"
#include "bpf/tcp_resets_sent.skel.h"
#include "bpf/tcp_retransmits.skel.h"
#include "bpf/tcp_states.skel.h"
#include "daemon/keeper/probe_learn.h"

#define KERNEL_BTF PROBE_KERNEL_BTF
#define LOG_BYTES  (64u * 1024)

/* Objects are opened by hand from the skeletons' bytes: one way for every probe of the table. */
#define PROBE_ELF(ID, name) [PROBE_##ID] = name##__elf_bytes,
static const void *(*const probe_elf[PROBE_NR])(size_t *) = { PROBE_LIST(PROBE_ELF) };

/* One try to attach: what to take down again, and what is known if it fails. */
struct attempt {
	enum probe_id id;
	struct probe_live *live;
	struct bpf_object *obj;
	struct bpf_map *map;
	struct bpf_program *prog;
	struct bpf_link *link;
	const char *step; /* what was being done, for errors that nothing better explains */
	char *log;	  /* the verifier's, LOG_BYTES */
};

static int quiet(enum libbpf_print_level level, const char *format, va_list args)
{
	(void)level;
	(void)format;
	(void)args;
	return 0;
}

static bool read_line(const char *path, char *buf, size_t size)
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

/* The highest possible CPU + 1 (not their number: the list may have holes), 0 if unknown. */
static uint32_t possible_cpus(void)
{
	char list[4096];
	const char *last;

	if (!read_line("/sys/devices/system/cpu/possible", list, sizeof(list)))
		return 0;
	last = list + strlen(list);
	while (last > list && isdigit((unsigned char)last[-1]))
		last--;
	return (uint32_t)strtoul(last, NULL, 10) + 1;
}

/* --- why it failed -------------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3)))
static void because(struct attempt *a, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(a->live->reason, sizeof(a->live->reason), format, args);
	va_end(args);
}

__attribute__((format(printf, 2, 3)))
static void do_this(struct attempt *a, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(a->live->fix, sizeof(a->live->fix), format, args);
	va_end(args);
}

static uint64_t effective_caps(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };

	if (syscall(SYS_capget, &head, data))
		return 0;
	return (uint64_t)data[1].effective << 32 | data[0].effective;
}

static void fix_rights(struct attempt *a)
{
	char self[160];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self));

	if (prctl(PR_CAPBSET_READ, CAP_BPF) == 0 || prctl(PR_CAPBSET_READ, CAP_PERFMON) == 0)
		do_this(a, "allow CAP_BPF and CAP_PERFMON in the service or container that talead "
			   "runs in (CapabilityBoundingSet=, --cap-add)");
	else if (length > 0 && (size_t)length < sizeof(self))
		do_this(a, "run talead as root, or: sudo setcap cap_bpf,cap_perfmon+ep %.*s",
			(int)length, self);
	else
		do_this(a, "run talead as root");
}

/* A right is missing: -EPERM. Asked first, because the kernel's own answer does not say which. */
static int check_rights(struct attempt *a)
{
	uint64_t caps = effective_caps();
	bool all = caps >> CAP_SYS_ADMIN & 1;
	bool bpf = all || (caps >> CAP_BPF & 1);
	bool perfmon = all || (caps >> CAP_PERFMON & 1);

	if (bpf && perfmon)
		return 0;
	if (!bpf && !perfmon)
		because(a, "CAP_BPF and CAP_PERFMON are missing%s",
			geteuid() ? " (not root)" : " (root without them)");
	else
		because(a, "%s is missing (have: %s)", bpf ? "CAP_PERFMON" : "CAP_BPF",
			bpf ? "CAP_BPF" : "CAP_PERFMON");
	fix_rights(a);
	return -EPERM;
}

static bool needs_btf(const struct attempt *a)
{
	return !strncmp(probe_types[a->id].attach, "tp_btf:", 7);
}

/* libbpf would also take a BTF file below /boot, but tp_btf is attached by the kernel's own. */
static int check_btf(struct attempt *a)
{
	if (!needs_btf(a) || access(KERNEL_BTF, R_OK) == 0)
		return 0;
	if (access("/sys/kernel", F_OK) != 0) {
		because(a, "sysfs is not mounted, so " KERNEL_BTF " cannot be read");
		do_this(a, "mount -t sysfs sysfs /sys");
	} else {
		because(a, "this kernel has no type information (" KERNEL_BTF ": %s)",
			strerror(errno));
		do_this(a, "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y, as Debian's is");
	}
	return -ENOENT;
}

static const char *tracepoint(const struct attempt *a)
{
	return strchr(probe_types[a->id].attach, ':') + 1;
}

static bool is_known(const char *tracepoint)
{
	struct btf *btf = btf__parse(KERNEL_BTF, NULL);
	char name[64];
	bool known = true; /* unless we know better */

	if (btf) {
		snprintf(name, sizeof(name), "btf_trace_%s", tracepoint);
		known = btf__find_by_name_kind(btf, name, BTF_KIND_TYPEDEF) >= 0;
	}
	btf__free(btf);
	return known;
}

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

static bool kernel_is_old(struct utsname *ret_name)
{
	unsigned int major = 0, minor = 0;

	if (uname(ret_name) || sscanf(ret_name->release, "%u.%u", &major, &minor) != 2)
		return false;
	return major < 6 || (major == 6 && minor < 1);
}

static void explain_verifier(struct attempt *a)
{
	struct utsname name;

	because(a, "the kernel's verifier refused it: %s", log_tail(a->log));
	if (kernel_is_old(&name))
		do_this(a, "boot Linux 6.1 or later (this is %s)", name.release);
	else
		do_this(a, "set [daemon] probes without %s, and report this line with the output of "
			   "uname -r", probe_types[a->id].name);
}

/* The host's own namespace maps every uid; one that maps none yet reads as an empty file. */
static bool in_user_namespace(void)
{
	char line[128];

	return access("/proc/self/uid_map", R_OK) == 0 &&
	       !(read_line("/proc/self/uid_map", line, sizeof(line)) &&
		 strstr(line, " 4294967295"));
}

/* All capabilities are there and still EPERM without a verifier log: who forbids it? */
static void explain_forbidden(struct attempt *a)
{
	char line[128];

	if (read_line("/sys/kernel/security/lockdown", line, sizeof(line)) &&
	    strstr(line, "[confidentiality]")) {
		because(a, "kernel lockdown is on (%s)", line);
		do_this(a, "boot with lockdown=integrity instead of lockdown=confidentiality");
	} else if (in_user_namespace()) {
		because(a, "talead runs in a user namespace, where its capabilities do not count");
		do_this(a, "run talead on the host, or in a container without user namespaces");
	} else {
		because(a, "the kernel forbids bpf() although the capabilities are there");
		do_this(a, "allow bpf() in the seccomp or LSM policy of the service or container "
			   "(SystemCallFilter=bpf)");
	}
}

/* What happened when err came out of loading or attaching. */
static void explain(struct attempt *a, int err)
{
	if (err == -EPERM && !a->log[0]) {
		explain_forbidden(a);
	} else if (!is_known(tracepoint(a))) {
		because(a, "this kernel's type information has no tracepoint %s", tracepoint(a));
		do_this(a, "boot a kernel that has it (and is built with CONFIG_TRACEPOINTS=y and "
			   "CONFIG_BPF_EVENTS=y), or set [daemon] probes without %s",
			probe_types[a->id].name);
	} else if (a->log[0]) {
		explain_verifier(a);
	} else if (err == -ENOMEM) {
		because(a, "no memory for its map of %zu KiB",
			probe_map_bytes(a->id, a->live) / 1024);
		do_this(a, "raise the memory limit of talead's cgroup (MemoryMax=)");
	} else if (err == -ENOSYS) {
		because(a, "this kernel has no bpf()");
		do_this(a, "boot a kernel built with CONFIG_BPF_SYSCALL=y");
	} else {
		because(a, "cannot %s: %s", a->step, strerror(-err));
		do_this(a, "start talead again; if that does not help, set [daemon] probes "
			   "without %s", probe_types[a->id].name);
	}
}

/* --- attaching ------------------------------------------------------------------------------ */

static int take_fd(int from, int *ret)
{
	int fd = fcntl(from, F_DUPFD_CLOEXEC, 3);

	if (fd < 0)
		return -errno;
	*ret = fd;
	return 0;
}

static int load(struct attempt *a)
{
	size_t bytes;
	const void *elf = probe_elf[a->id](&bytes);
	int err;

	a->step = "open its object";
	a->obj = bpf_object__open_mem(elf, bytes, NULL);
	if (!a->obj)
		return -errno;
	a->map = bpf_object__find_map_by_name(a->obj, "counts");
	a->prog = bpf_object__next_program(a->obj, NULL);
	if (!a->map || !a->prog)
		return -EINVAL;

	/* The same event under the name that it had before. */
	if (probe_types[a->id].attach_old && !is_known(tracepoint(a)) &&
	    is_known(probe_types[a->id].attach_old)) {
		err = bpf_program__set_attach_target(a->prog, 0, probe_types[a->id].attach_old);
		if (err)
			return err;
	}

	a->step = "load it";
	err = bpf_map__set_max_entries(a->map, a->live->cpus_nr * probe_types[a->id].stride);
	if (!err)
		err = bpf_program__set_log_buf(a->prog, a->log, LOG_BYTES);
	if (!err)
		err = bpf_object__load(a->obj);
	if (err)
		return err;

	/* From here on the program alone writes: a descriptor of the map is safe in any hands. */
	a->step = "freeze its map";
	return bpf_map_freeze(bpf_map__fd(a->map));
}

static int attach(struct attempt *a)
{
	struct probe_live *live = a->live;
	int err = load(a);

	if (err)
		return err;
	a->step = "attach it";
	a->link = bpf_program__attach(a->prog);
	if (!a->link)
		return -errno;

	/* libbpf closes its own with the object; ours keep the kernel's side alive. */
	a->step = "keep its descriptors";
	err = take_fd(bpf_map__fd(a->map), &live->map_fd);
	if (!err)
		err = take_fd(bpf_program__fd(a->prog), &live->prog_fd);
	if (!err)
		err = take_fd(bpf_link__fd(a->link), &live->link_fd);
	return err;
}

int probe_attach(enum probe_id id, struct probe_live *ret)
{
	struct attempt a = { .id = id, .live = ret };
	int err;

	*ret = (struct probe_live)PROBE_LIVE_OFF;
	libbpf_set_print(quiet); /* what it has to say is said by reason and fix */
	err = check_rights(&a);
	if (!err)
		err = check_btf(&a);
	if (err)
		goto out_state;

	a.log = calloc(1, LOG_BYTES);
	ret->cpus_nr = possible_cpus();
	if (!a.log || !ret->cpus_nr) {
		err = a.log ? -ENOENT : -ENOMEM;
		because(&a, a.log ? "/sys/devices/system/cpu/possible cannot be read"
				  : "out of memory");
		do_this(&a, a.log ? "mount -t sysfs sysfs /sys" : "free some memory");
		goto out_log;
	}
	err = attach(&a);
	if (err) {
		probe_detach(ret);
		explain(&a, err);
	} else {
		probe_learn(id);
	}
	bpf_link__destroy(a.link);
	bpf_object__close(a.obj);
out_log:
	free(a.log);
out_state:
	ret->state = err ? WIRE_PROBE_FAILED : WIRE_PROBE_ATTACHED;
	return err;
}

uint64_t probe_missed(const struct probe_live *live)
{
	struct bpf_prog_info info = { 0 };
	uint32_t bytes = sizeof(info);

	if (live->prog_fd < 0 || bpf_obj_get_info_by_fd(live->prog_fd, &info, &bytes))
		return 0;
	return info.recursion_misses;
}

void probe_detach(struct probe_live *live)
{
	int *fds[] = { &live->link_fd, &live->prog_fd, &live->map_fd };

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
	live->state = WIRE_PROBE_OFF;
}

/* See sandbox.h. */
#define _GNU_SOURCE
#include "daemon/worker/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/link/log.h"
#include "shm/base/text.h"

/* A sanitizer reads /proc/self, starts a symbolizer and forks; the worker itself does none of that. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED true
#elif defined(__has_feature)
#define IS_SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define IS_SANITIZED false
#endif

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define TEXT_MAX 128 /* wire_status.sandbox */

static char sandbox_state[TEXT_MAX] = "no sandbox was entered";

/* --- landlock --------------------------------------------------------------------------------- */

/* The kernel's struct as of ABI 6; an older kernel gets the part of it that it knows. */
struct landlock_ruleset {
	uint64_t fs, net, scoped;
};

/* The kinds of access that each ABI can refuse beside the former ones. The sandbox refuses all. */
#define FS_ABI_1 (LANDLOCK_ACCESS_FS_MAKE_SYM * 2 - 1) /* to run, read, write, make and remove */
#define FS_ABI_2 (1ull << 13) /* to link or rename across folders */
#define FS_ABI_3 (1ull << 14) /* to truncate */
#define FS_ABI_5 (1ull << 15) /* ioctl of devices */
#define NET_ABI_4 3ull	      /* TCP: bind, connect */
#define SCOPE_ABI_6 3ull      /* abstract sockets of others, signals to others */

/* What worker, glibc and liburcu open by name while the worker runs. They open nothing to write:
 * worker.lock is open by now. */
static const struct {
	const char *path;
	uint64_t access;
} readable[] = {
	{ "/sys/devices/system/cpu", LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR },
	{ "/proc/sys/kernel/random/boot_id", LANDLOCK_ACCESS_FS_READ_FILE },
	{ "/proc/sys/vm/overcommit_memory", LANDLOCK_ACCESS_FS_READ_FILE }, /* malloc */
};

static int landlock_make(long abi)
{
	struct landlock_ruleset r = { .fs = FS_ABI_1 };
	size_t bytes = abi >= 6 ? sizeof(r) : abi >= 4 ? 2 * sizeof(uint64_t) : sizeof(uint64_t);

	r.fs |= abi >= 2 ? FS_ABI_2 : 0;
	r.fs |= abi >= 3 ? FS_ABI_3 : 0;
	r.fs |= abi >= 5 ? FS_ABI_5 : 0;
	r.net = abi >= 4 ? NET_ABI_4 : 0;
	r.scoped = abi >= 6 ? SCOPE_ABI_6 : 0;
	return (int)syscall(SYS_landlock_create_ruleset, &r, bytes, 0);
}

/* A file that does not exist needs no rule. */
static void landlock_allow(int rules, const char *path, uint64_t access)
{
	struct landlock_path_beneath_attr beneath = { .allowed_access = access };

	beneath.parent_fd = open(path, O_PATH | O_CLOEXEC);
	if (beneath.parent_fd < 0)
		return;
	syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0);
	close(beneath.parent_fd);
}

static int landlock_enter(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	int rules, err;

	if (abi < 0)
		return -errno;
	rules = landlock_make(abi);
	if (rules < 0)
		return -errno;
	for (size_t i = 0; i < LENGTH(readable); i++)
		landlock_allow(rules, readable[i].path, readable[i].access);
	err = syscall(SYS_landlock_restrict_self, rules, 0) ? -errno : 0;
	close(rules);
	return err;
}

/* --- seccomp ---------------------------------------------------------------------------------- */

/* By name: a call that this CPU or this libseccomp does not know is left out. */
static const char *const allowed[] = {
	/* memory */
	"brk", "madvise", "mremap", "munlock", "munmap",
	/* what is open */
	"close", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2", "epoll_wait",
	"eventfd2", "fstat", "lseek", "newfstatat", "poll", "ppoll", "pread64", "read", "write",
	/* clients' sockets and the link: each is connected already */
	"getsockopt", "recvfrom", "recvmsg", "sendmsg", "shutdown",
	/* time and CPUs */
	"clock_getres", "clock_gettime", "clock_nanosleep", "getcpu", "gettimeofday", "membarrier",
	"nanosleep", "rseq", "sched_getaffinity", "sched_setaffinity", "sched_yield", "sysinfo",
	/* threads and the process */
	"exit", "exit_group", "futex", "getpid", "getrandom", "gettid", "restart_syscall",
	"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "set_robust_list", "sigaltstack",
	"clone3", /* clone3_hide refuses it; without this line each thread would be logged */
};

static const char *const hidden[] = { "clone3" };

/* A call with some of its arguments: allowed, or, in service, refused. A rule compares one
 * argument; argument 0 is the first. */
struct call_rule {
	const char *call;
	unsigned int arg;
	enum scmp_compare how;
	uint64_t a, b;
};

#define THREAD_FLAGS (CLONE_VM | CLONE_THREAD | CLONE_SIGHAND)
#define WRITE_FLAGS (O_ACCMODE | O_CREAT | O_TRUNC)
#define BPF_CMDS_NR 64u /* more than exist */

static const struct call_rule allowed_if[] = {
	{ "mmap", 2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0 },
	{ "mprotect", 2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0 },
	{ "openat", 2, SCMP_CMP_MASKED_EQ, WRITE_FLAGS, O_RDONLY },
	{ "clone", 0, SCMP_CMP_MASKED_EQ, THREAD_FLAGS, THREAD_FLAGS },
	{ "prctl", 0, SCMP_CMP_EQ, PR_SET_NAME, 0 },
	{ "prlimit64", 2, SCMP_CMP_EQ, 0, 0 }, /* to read */
	{ "fcntl", 1, SCMP_CMP_EQ, F_GETFD, 0 },
	{ "fcntl", 1, SCMP_CMP_EQ, F_GETFL, 0 },
	{ "fcntl", 1, SCMP_CMP_EQ, F_GET_SEALS, 0 },
	{ "bpf", 0, SCMP_CMP_EQ, BPF_MAP_LOOKUP_ELEM, 0 },
	{ "bpf", 0, SCMP_CMP_EQ, BPF_MAP_LOOKUP_BATCH, 0 },
};

static const struct call_rule never_if[] = {
	{ "mmap", 2, SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC },
	{ "mprotect", 2, SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC },
	{ "openat", 2, SCMP_CMP_MASKED_EQ, O_WRONLY, O_WRONLY },
	{ "openat", 2, SCMP_CMP_MASKED_EQ, O_RDWR, O_RDWR },
	{ "openat", 2, SCMP_CMP_MASKED_EQ, O_CREAT, O_CREAT },
	{ "openat", 2, SCMP_CMP_MASKED_EQ, O_TRUNC, O_TRUNC },
	{ "clone", 0, SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0 },
	{ "prctl", 0, SCMP_CMP_NE, PR_SET_NAME, 0 },
	{ "prlimit64", 2, SCMP_CMP_NE, 0, 0 },
};

static const char *const never[] = {
	/* programs and processes */
	"execve", "execveat", "fork", "vfork", "kill", "tkill", "rt_sigqueueinfo",
	"rt_tgsigqueueinfo", "pidfd_open", "pidfd_getfd", "pidfd_send_signal", "ptrace", "kcmp",
	"process_madvise", "process_vm_readv", "process_vm_writev", "setpriority", "ioprio_set",
	"sched_setattr", "sched_setparam", "sched_setscheduler", "migrate_pages", "move_pages",
	/* code, and memory that others could fill */
	"pkey_mprotect", "personality", "memfd_create", "memfd_secret", "shmat", "shmget", "uselib",
	"modify_ldt", "userfaultfd", "remap_file_pages",
	/* sockets */
	"socket", "socketpair", "connect", "bind", "listen", "accept", "accept4", "sendto",
	/* files */
	"open", "openat2", "creat", "open_by_handle_at", "truncate", "ftruncate", "fallocate", "rename",
	"renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "unlink", "unlinkat",
	"mkdir", "mkdirat", "rmdir", "mknod", "mknodat", "chmod", "fchmod", "fchmodat", "fchmodat2",
	"chown", "fchown", "lchown", "fchownat", "setxattr", "lsetxattr", "fsetxattr", "removexattr",
	"lremovexattr", "fremovexattr", "utimensat", "ioctl", "inotify_init1", "fanotify_init",
	/* the machine and its rights */
	"setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups", "setfsuid",
	"setfsgid", "capset", "setrlimit", "unshare", "setns", "chroot", "pivot_root", "mount",
	"umount2", "move_mount", "open_tree", "fsopen", "fsmount", "fsconfig", "fspick",
	"mount_setattr", "add_key", "keyctl", "request_key", "init_module", "finit_module",
	"delete_module", "kexec_load", "kexec_file_load", "reboot", "swapon", "swapoff", "iopl",
	"ioperm", "acct", "quotactl", "sethostname", "setdomainname", "settimeofday",
	"clock_settime", "adjtimex", "clock_adjtime", "syslog", "perf_event_open", "io_uring_setup",
	"io_uring_enter", "io_uring_register",
};

static int rule_add(scmp_filter_ctx filter, uint32_t action, const struct call_rule *r)
{
	struct scmp_arg_cmp cmp = { .arg = r->arg, .op = r->how, .datum_a = r->a,
				    .datum_b = r->b };
	int nr = seccomp_syscall_resolve_name(r->call);

	return nr < 0 ? 0 : seccomp_rule_add_array(filter, action, nr, 1, &cmp);
}

static int rules_add(scmp_filter_ctx filter, uint32_t action, const struct call_rule *rules, size_t nr)
{
	int err = 0;

	for (size_t i = 0; i < nr && !err; i++)
		err = rule_add(filter, action, &rules[i]);
	return err;
}

static int calls_add(scmp_filter_ctx filter, uint32_t action, const char *const *calls, size_t nr)
{
	int err = 0;

	for (size_t i = 0; i < nr && !err; i++) {
		int call = seccomp_syscall_resolve_name(calls[i]);

		if (call >= 0)
			err = seccomp_rule_add_array(filter, action, call, 0, NULL);
	}
	return err;
}

static int filter_allow(scmp_filter_ctx filter)
{
	const struct call_rule abort_self = { "tgkill", 0, SCMP_CMP_EQ, (uint64_t)getpid(), 0 };
	int err = calls_add(filter, SCMP_ACT_ALLOW, allowed, LENGTH(allowed));

	if (!err)
		err = rules_add(filter, SCMP_ACT_ALLOW, allowed_if, LENGTH(allowed_if));
	return err ? err : rule_add(filter, SCMP_ACT_ALLOW, &abort_self);
}

/* Every bpf command but those that are allowed: one rule for each, as a rule compares once. */
static int filter_never_bpf(scmp_filter_ctx filter, uint32_t refuse)
{
	struct call_rule r = { "bpf", 0, SCMP_CMP_GE, BPF_CMDS_NR, 0 };
	int err = rule_add(filter, refuse, &r);

	r.how = SCMP_CMP_EQ;
	for (r.a = 0; r.a < BPF_CMDS_NR && !err; r.a++)
		if (r.a != BPF_MAP_LOOKUP_ELEM && r.a != BPF_MAP_LOOKUP_BATCH)
			err = rule_add(filter, refuse, &r);
	return err;
}

static int filter_never(scmp_filter_ctx filter)
{
	const uint32_t refuse = SCMP_ACT_ERRNO(EPERM);
	const struct call_rule kill_other = { "tgkill", 0, SCMP_CMP_NE, (uint64_t)getpid(), 0 };
	int err = calls_add(filter, refuse, never, LENGTH(never));

	if (!err)
		err = rules_add(filter, refuse, never_if, LENGTH(never_if));
	if (!err)
		err = rule_add(filter, refuse, &kill_other);
	return err ? err : filter_never_bpf(filter, refuse);
}

/*
 * The flags of clone3 are in memory, which no filter reads. When clone3 fails with ENOSYS, glibc
 * makes threads by clone. This is a filter of its own, without a log: in the other filter the
 * kernel would log each new thread.
 */
static int clone3_hide(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	int err;

	if (!filter)
		return -ENOMEM;
	seccomp_attr_set(filter, SCMP_FLTATR_API_SYSRAWRC, 1);
	err = calls_add(filter, SCMP_ACT_ERRNO(ENOSYS), hidden, LENGTH(hidden));
	if (!err)
		err = seccomp_load(filter);
	seccomp_release(filter);
	return err;
}

static int seccomp_enter(bool is_killing)
{
	/* Before API level 3 the kernel neither logs nor kills a whole process. */
	bool is_new = seccomp_api_get() >= 3;
	uint32_t other = is_killing ? (is_new ? SCMP_ACT_KILL_PROCESS : SCMP_ACT_TRAP) :
				      (is_new ? SCMP_ACT_LOG : SCMP_ACT_ERRNO(EPERM));
	scmp_filter_ctx filter = seccomp_init(other);
	int err;

	if (!filter)
		return -ENOMEM;
	/* The 32-bit numbers of the same kernel have other meanings. */
	seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH,
			 is_new ? SCMP_ACT_KILL_PROCESS : SCMP_ACT_TRAP);
	seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
	seccomp_attr_set(filter, SCMP_FLTATR_CTL_LOG, 1);
	seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	seccomp_attr_set(filter, SCMP_FLTATR_API_SYSRAWRC, 1); /* the kernel's errno, for the log */
	err = filter_allow(filter);
	if (!err && other == SCMP_ACT_LOG)
		err = filter_never(filter);
	if (!err)
		err = clone3_hide();
	if (!err)
		err = seccomp_load(filter);
	seccomp_release(filter);
	return err;
}

/* --- entering --------------------------------------------------------------------------------- */

static bool mode_is_killing(void)
{
	const char *mode = getenv("TALEA_SANDBOX");

	if (mode && *mode && strcmp(mode, "kill") && strcmp(mode, "log"))
		log_line("TALEA_SANDBOX=%s is not known: calls that the worker must not make are "
			 "logged. fix: TALEA_SANDBOX=kill or log", mode);
	return mode && !strcmp(mode, "kill");
}

static const char *landlock_why(int err)
{
	return err == -ENOSYS	   ? "the kernel was built without it" :
	       err == -EOPNOTSUPP ? "the kernel was started without it (lsm=)" :
				     strerror(-err);
}

void sandbox_enter(void)
{
	const struct rlimit none = { 0, 0 };
	bool is_killing = mode_is_killing();
	int dump, files, calls;
	struct text t;

	text_init(&t, sandbox_state, sizeof(sandbox_state));
	if (IS_SANITIZED) {
		text_put(&t, "no seccomp, no landlock: built with a sanitizer");
		return;
	}
	setrlimit(RLIMIT_CORE, &none);
	dump = prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) ? -errno : 0;
	files = landlock_enter();
	calls = seccomp_enter(is_killing); /* the last: it allows none of the above */
	if (!calls)
		text_put(&t, "seccomp%s, ", is_killing ? " (kills)" : "");
	if (!files)
		text_put(&t, "landlock, ");
	text_put(&t, dump ? "dumpable" : "not dumpable");
	if (calls)
		text_put(&t, "; no seccomp: %s", strerror(-calls));
	if (files)
		text_put(&t, "; no landlock: %s", landlock_why(files));
	if (calls || files || dump)
		log_line("the worker is not fully sandboxed: %s", sandbox_state);
}

const char *sandbox_text(void)
{
	return sandbox_state;
}

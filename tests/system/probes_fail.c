/*
 * What probe_attach says when it cannot, for each cause that it tells apart, and what is left when
 * a process with probes dies. Each case is made in a child: its capabilities, its view of
 * /sys/kernel/btf, its seccomp filter. Root only.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/btf.h>
#include <linux/capability.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/keeper/probe/probe.h"
#include "tests/lib/child.h"
#include "tests/lib/needs.h"

struct result {
	int err;
	int prepared; /* the child's surroundings were made as wanted */
	int more_fds; /* descriptors that a failed attach left open */
	struct probe_live live;
};

static struct result *result; /* shared with the child */

static int attach(uint32_t id, struct probe_live *ret)
{
	struct probe_spec spec;
	const struct probe_desired desired = { .spec = &spec, .origin = PROBE_OF_PACK };
	const struct pins pins = { .fd = -1 };

	pack_spec(id, &spec);
	return probe_attach(&pins, &desired, ret);
}

static int make_result(void **state)
{
	(void)state;
	result = mmap(NULL, sizeof(*result), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	return result == MAP_FAILED;
}

static int lowest_free_fd(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

/* Tries to attach in a child whose surroundings `prepare` has made. */
static void attach_where(int (*prepare)(uint64_t arg), uint64_t arg)
{
	int status, fd;
	pid_t pid;

	memset(result, 0, sizeof(*result));
	pid = test_fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		result->prepared = prepare(arg) == 0;
		fd = lowest_free_fd();
		result->err = attach(PROBE_CONTEXT_SWITCHES, &result->live);
		if (result->err)
			result->more_fds = lowest_free_fd() - fd;
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	if (!result->prepared) {
		print_message("# needs rights to change capabilities, mounts and filters\n");
		skip();
	}
}

static void assert_failed(int err, const char *reason, const char *fix)
{
	int fds[PROBE_FDS_MAX];

	if (!strstr(result->live.reason, reason))
		fail_msg("reason: \"%s\" has no \"%s\"", result->live.reason, reason);
	if (!strstr(result->live.fix, fix))
		fail_msg("fix: \"%s\" has no \"%s\"", result->live.fix, fix);
	assert_int_equal(result->err, err);
	assert_int_equal(result->live.state, WIRE_PROBE_FAILED);
	assert_int_equal(probe_fds_get(&result->live, fds), 0);
	assert_int_equal(result->more_fds, 0);
}

/* --- rights --------------------------------------------------------------------------------- */

/* Another uid that has exactly these capabilities. */
static int as_nobody_with(uint64_t caps)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = {
		{ .effective = (uint32_t)caps, .permitted = (uint32_t)caps },
		{ .effective = (uint32_t)(caps >> 32), .permitted = (uint32_t)(caps >> 32) },
	};

	if (prctl(PR_SET_KEEPCAPS, 1) || setresgid(65534, 65534, 65534) ||
	    setresuid(65534, 65534, 65534))
		return -errno;
	return syscall(SYS_capset, &head, data) ? -errno : 0;
}

static int without_in_bounding_set(uint64_t caps)
{
	for (unsigned long cap = 0; cap < 64; cap++)
		if (caps >> cap & 1 && prctl(PR_CAPBSET_DROP, cap))
			return -errno;
	return as_nobody_with(0);
}

static void two_capabilities_are_enough(void **state)
{
	(void)state;
	test_needs_bpf();
	attach_where(as_nobody_with, 1ull << CAP_BPF | 1ull << CAP_PERFMON);
	assert_string_equal(result->live.reason, "");
	assert_int_equal(result->err, 0);
	assert_int_equal(result->live.state, WIRE_PROBE_ATTACHED);
}

static void a_missing_capability_is_named_beside_the_one_there(void **state)
{
	(void)state;
	test_needs_bpf();
	attach_where(as_nobody_with, 1ull << CAP_BPF);
	assert_failed(-EPERM, "CAP_PERFMON is missing (have: CAP_BPF)", "run talead as root");
	attach_where(as_nobody_with, 1ull << CAP_PERFMON);
	assert_failed(-EPERM, "CAP_BPF is missing (have: CAP_PERFMON)", "run talead as root");
}

static void an_ordinary_user_is_told_both_ways_out(void **state)
{
	(void)state;
	test_needs_bpf();
	attach_where(as_nobody_with, 0);
	assert_failed(-EPERM, "CAP_BPF and CAP_PERFMON are missing (not root)",
		      "run talead as root, or: sudo setcap cap_bpf,cap_perfmon+ep /");
}

static void a_container_without_them_is_not_told_to_use_setcap(void **state)
{
	(void)state;
	test_needs_bpf();
	attach_where(without_in_bounding_set, 1ull << CAP_BPF | 1ull << CAP_PERFMON);
	assert_failed(-EPERM, "CAP_BPF and CAP_PERFMON are missing", "--cap-add");
}

static int in_user_namespace(uint64_t arg)
{
	(void)arg;
	return unshare(CLONE_NEWUSER);
}

static void a_user_namespace_is_named(void **state)
{
	(void)state;
	test_needs_bpf();
	attach_where(in_user_namespace, 0);
	assert_failed(-EPERM, "user namespace", "on the host");
}

static int with_bpf_denied(uint64_t err)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	int result = -ENOMEM;

	if (filter)
		result = seccomp_rule_add(filter, SCMP_ACT_ERRNO((uint16_t)err), SCMP_SYS(bpf), 0);
	if (!result)
		result = seccomp_load(filter);
	seccomp_release(filter);
	return result;
}

static void a_policy_against_bpf_is_told_from_missing_rights(void **state)
{
	(void)state;
	test_needs_bpf();
	attach_where(with_bpf_denied, EPERM);
	assert_failed(-EPERM, "the kernel forbids bpf()", "SystemCallFilter=bpf");
}

static void a_kernel_without_bpf_and_one_without_memory_are_named(void **state)
{
	(void)state;
	test_needs_bpf();
	attach_where(with_bpf_denied, ENOSYS);
	assert_failed(-ENOSYS, "this kernel has no bpf()", "CONFIG_BPF_SYSCALL=y");
	attach_where(with_bpf_denied, ENOMEM);
	assert_failed(-ENOMEM, "no memory for its map", "MemoryMax=");
}

/* What /sys/kernel/security/lockdown says where the kernel locks root out too. */
static int under_lockdown(uint64_t err)
{
	static const char text[] = "none integrity [confidentiality]\n";
	int fd;

	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("tmpfs", "/sys/kernel/security", "tmpfs", 0, "size=64k"))
		return -errno;
	fd = open("/sys/kernel/security/lockdown", O_WRONLY | O_CREAT | O_CLOEXEC, 0444);
	if (fd < 0 || write(fd, text, sizeof(text) - 1) != (ssize_t)sizeof(text) - 1 || close(fd))
		return -EIO;
	return with_bpf_denied(err);
}

static void a_locked_kernel_is_named(void **state)
{
	(void)state;
	test_needs_bpf();
	attach_where(under_lockdown, EPERM);
	assert_failed(-EPERM, "kernel lockdown is on", "lockdown=integrity");
}

/* --- names ---------------------------------------------------------------------------------- */

static void declare(const char *text, int err, const char *reason, const char *fix)
{
	const struct pins pins = { .fd = -1 };
	struct probe_desired desired = { .origin = PROBE_OF_COMMAND };
	struct probe_spec spec;
	char why[256];

	assert_int_equal(spec_parse(NULL, text, &spec, why, sizeof(why)), 0);
	desired.spec = &spec;
	result->more_fds = 0;
	result->err = probe_attach(&pins, &desired, &result->live);
	assert_failed(err, reason, fix);
}

static void a_name_that_is_not_there_brings_the_nearest(void **state)
{
	(void)state;
	test_needs_bpf();
	declare("tp_btf:sched_swich", -ENOENT, "no tracepoint sched_swich",
		"did you mean sched_switch? ");
	declare("raw_tp:tcp_retransmit", -ENOENT, "no tracepoint tcp_retransmit",
		"tcp_retransmit_skb");
	declare("fentry:vfs_reed", -ENOENT, "no kernel function vfs_reed", "did you mean vfs_read, ");
	declare("uprobe:libc.so.6:mallok", -ENOENT, "has no function mallok", "did you mean malloc");
	declare("tp_btf:nothing_like_any_of_them", -ENOENT, "no tracepoint nothing", "talea probes");
	assert_null(strstr(result->live.fix, "did you mean"));
}

/* --- type information ----------------------------------------------------------------------- */

enum { BTF_NONE, BTF_EMPTY, BTF_WRONG };

/* Kernel BTF of no type at all, or of a sched_switch with a type number that is another's. */
static size_t small_btf(uint64_t kind, unsigned char *buf)
{
	static const char strings[] = "\0btf_trace_sched_switch";
	struct btf_type type = { .name_off = 1, .info = BTF_KIND_TYPEDEF << 24, .type = 0 };
	struct btf_header head = {
		.magic = BTF_MAGIC,
		.version = BTF_VERSION,
		.hdr_len = sizeof(head),
		.type_len = kind == BTF_WRONG ? sizeof(type) : 0,
		.str_off = kind == BTF_WRONG ? sizeof(type) : 0,
		.str_len = sizeof(strings),
	};

	memcpy(buf, &head, sizeof(head));
	memcpy(buf + sizeof(head), &type, head.type_len);
	memcpy(buf + sizeof(head) + head.type_len, strings, sizeof(strings));
	return sizeof(head) + head.type_len + sizeof(strings);
}

static int with_kernel_btf(uint64_t kind)
{
	unsigned char buf[128];
	size_t bytes;
	int fd;

	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("tmpfs", "/sys/kernel/btf", "tmpfs", 0, "size=64k"))
		return -errno;
	if (kind == BTF_NONE)
		return 0;
	bytes = small_btf(kind, buf);
	fd = open("/sys/kernel/btf/vmlinux", O_WRONLY | O_CREAT | O_CLOEXEC, 0444);
	if (fd < 0 || write(fd, buf, bytes) != (ssize_t)bytes)
		return -EIO;
	return close(fd);
}

static void a_kernel_without_type_information_is_named(void **state)
{
	(void)state;
	test_needs_bpf();
	attach_where(with_kernel_btf, BTF_NONE);
	assert_failed(-ENOENT, "no type information", "CONFIG_DEBUG_INFO_BTF=y");
}

static void a_tracepoint_that_the_kernel_has_not_is_named(void **state)
{
	(void)state;
	test_needs_bpf();
	attach_where(with_kernel_btf, BTF_EMPTY);
	assert_failed(-ESRCH, "has no tracepoint sched_switch", "CONFIG_TRACEPOINTS=y");
}

static void a_refusal_by_the_verifier_brings_its_last_words(void **state)
{
	(void)state;
	test_needs_bpf();
	attach_where(with_kernel_btf, BTF_WRONG);
	assert_failed(-EINVAL, "verifier refused it: ", "without context_switches");
	print_message("# %s\n", result->live.reason);
	assert_null(strstr(result->live.reason, "processed "));
	assert_non_null(strstr(result->live.reason, "attach"));
}

/* --- what is left --------------------------------------------------------------------------- */

static uint32_t object_id(int fd)
{
	struct bpf_prog_info prog = { 0 };
	uint32_t bytes = sizeof(prog);

	return bpf_obj_get_info_by_fd(fd, &prog, &bytes) ? 0 : prog.id;
}

static bool program_lives(uint32_t id)
{
	int fd = bpf_prog_get_fd_by_id(id);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static void nothing_is_left_of_a_process_that_was_killed(void **state)
{
	const struct timespec wait = { .tv_nsec = 10 * 1000 * 1000 };
	uint32_t id = 0;
	int ready[2];
	pid_t pid;

	(void)state;
	test_needs_bpf();
	assert_int_equal(pipe(ready), 0);
	pid = test_fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct probe_live live;

		if (attach(PROBE_SYSCALLS, &live) == 0)
			id = object_id(live.prog_fds[0]);
		if (write(ready[1], &id, sizeof(id)) != sizeof(id))
			_exit(1);
		pause();
		_exit(0);
	}
	assert_int_equal(read(ready[0], &id, sizeof(id)), sizeof(id));
	assert_true(id && program_lives(id));
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	for (int i = 0; i < 500 && program_lives(id); i++) /* freed after a grace period */
		nanosleep(&wait, NULL);
	assert_false(program_lives(id));
	close(ready[0]);
	close(ready[1]);
}

static void detaching_closes_all_and_can_be_repeated(void **state)
{
	const struct pins pins = { .fd = -1 };
	struct probe_live live;
	int fd;

	(void)state;
	test_needs_bpf();
	fd = lowest_free_fd();
	assert_int_equal(attach(PROBE_SYSCALLS, &live), 0);
	probe_end(&pins, &live);
	assert_int_equal(live.state, WIRE_PROBE_OFF);
	assert_int_equal(lowest_free_fd(), fd);
	probe_end(&pins, &live);
	assert_int_equal(probe_missed(&live), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_capabilities_are_enough),
		cmocka_unit_test(a_missing_capability_is_named_beside_the_one_there),
		cmocka_unit_test(an_ordinary_user_is_told_both_ways_out),
		cmocka_unit_test(a_container_without_them_is_not_told_to_use_setcap),
		cmocka_unit_test(a_user_namespace_is_named),
		cmocka_unit_test(a_policy_against_bpf_is_told_from_missing_rights),
		cmocka_unit_test(a_kernel_without_bpf_and_one_without_memory_are_named),
		cmocka_unit_test(a_locked_kernel_is_named),
		cmocka_unit_test(a_name_that_is_not_there_brings_the_nearest),
		cmocka_unit_test(a_kernel_without_type_information_is_named),
		cmocka_unit_test(a_tracepoint_that_the_kernel_has_not_is_named),
		cmocka_unit_test(a_refusal_by_the_verifier_brings_its_last_words),
		cmocka_unit_test(nothing_is_left_of_a_process_that_was_killed),
		cmocka_unit_test(detaching_closes_all_and_can_be_repeated),
	};

	return cmocka_run_group_tests(tests, make_result, NULL);
}

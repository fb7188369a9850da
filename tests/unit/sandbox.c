/*
 * What the worker's sandbox forbids and what it allows: tried by children of this test that enter it as
 * the worker does, because no worker would try. Each attempt has a control: outside it works. The
 * worker itself is tests/system/sandbox.c's.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <pthread.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "daemon/worker/sandbox.h"
#include "tests/lib/child.h"
#include "tests/lib/harness.h"
#include "tests/lib/needs.h"
#include "tests/lib/raw.h"

#define KILLED (128 + SIGSYS)

static char *words; /* what this machine's sandbox consists of; shared with the children */

/* --- in a child ------------------------------------------------------------------------------- */

typedef int (*attempt_t)(void); /* 0 or errno */

static int result_of(long result)
{
	return result < 0 ? errno : 0;
}

static void enter(const char *mode)
{
	setenv("TALEA_SANDBOX", mode, 1);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		_exit(125);
	sandbox_enter();
	strcpy(words, sandbox_text());
}

/* Runs it in a child, inside the sandbox unless mode is NULL: what it gave, or 128 + signal. */
static int in_child(const char *mode, attempt_t attempt)
{
	const struct rlimit none = { 0, 0 };
	pid_t pid = test_fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &none);
		if (mode)
			enter(mode);
		_exit(attempt());
	}
	return harness_wait(pid);
}

static int nothing(void)
{
	return 0;
}

static int set_up(void **state)
{
	(void)state;
	words = mmap(NULL, 256, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (words == MAP_FAILED)
		return -1;
	return in_child("log", nothing);
}

/* What is missing stands behind "no "; the reason behind a colon. */
static void needs(const char *what)
{
	const char *at = strstr(words, what);

	if (at && (at == words || strncmp(at - 3, "no ", 3)))
		return;
	print_message("# skipped: %s\n", words);
	skip();
}

/* --- what is forbidden ------------------------------------------------------------------------ */

static int try_passwd(void)
{
	return result_of(open("/etc/passwd", O_RDONLY));
}

static int try_list(void)
{
	return result_of(open("/", O_RDONLY | O_DIRECTORY));
}

static int try_maps(void)
{
	return result_of(open("/proc/self/maps", O_RDONLY));
}

static int try_write(void)
{
	return result_of(open("/dev/null", O_WRONLY));
}

static int try_create(void)
{
	char path[] = "/tmp/talea-sandbox-XXXXXX";
	int fd = mkstemp(path);

	if (fd >= 0)
		unlink(path);
	return result_of(fd);
}

static int try_socket(void)
{
	return result_of(socket(AF_INET, SOCK_STREAM, 0));
}

static int try_unix(void)
{
	int ends[2];

	return result_of(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
}

static int try_mmap_exec(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? errno : 0;
}

static int try_mprotect_exec(void)
{
	void *p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return result_of(mprotect(p, 4096, PROT_READ | PROT_EXEC));
}

static int try_exec(void)
{
	execl("/bin/true", "true", NULL);
	return errno;
}

static int try_fork(void)
{
	pid_t pid = test_fork();

	if (pid == 0)
		_exit(0);
	return result_of(pid);
}

static int try_ptrace(void)
{
	return result_of(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
}

static int try_kill(void)
{
	return result_of(kill(getppid(), 0));
}

static int try_dumpable(void)
{
	return result_of(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
}

static int try_limit(void)
{
	const struct rlimit none = { 0, 0 };

	return result_of(setrlimit(RLIMIT_CORE, &none));
}

static int try_memfd(void)
{
	return result_of(memfd_create("x", MFD_CLOEXEC));
}

static int try_ioctl(void)
{
	int nr, ends[2];

	if (pipe(ends))
		return errno;
	return result_of(ioctl(ends[0], FIONREAD, &nr));
}

static long bpf_do(int cmd, union bpf_attr *attr)
{
	return syscall(SYS_bpf, cmd, attr, sizeof(*attr));
}

static int bpf_map_make(void)
{
	union bpf_attr attr = { .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8,
				.max_entries = 1 };

	return (int)bpf_do(BPF_MAP_CREATE, &attr);
}

static int try_bpf_map(void)
{
	return result_of(bpf_map_make());
}

static int try_bpf_program(void)
{
	/* r0 = 0; exit */
	static const struct bpf_insn program[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr attr = { .prog_type = BPF_PROG_TYPE_SOCKET_FILTER, .insn_cnt = 2,
				.insns = (uintptr_t)program, .license = (uintptr_t)"GPL" };

	return result_of(bpf_do(BPF_PROG_LOAD, &attr));
}

static int try_bpf_next(void)
{
	union bpf_attr attr = { .start_id = 0 };
	long result = bpf_do(BPF_PROG_GET_NEXT_ID, &attr);

	return result < 0 && errno != ENOENT ? errno : 0;
}

struct attempt {
	const char *what;
	attempt_t attempt;
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Each works outside; inside it gives `in_service`, or where a violation kills `in_tests`. */
static void forbidden(const struct attempt *of, size_t nr, int in_service, int in_tests)
{
	int bad = 0;

	for (size_t i = 0; i < nr; i++) {
		const char *what = of[i].what;
		int outside = in_child(NULL, of[i].attempt);
		int service = in_child("log", of[i].attempt);
		int tests = in_child("kill", of[i].attempt);

		if (!outside && service == in_service && tests == in_tests)
			continue;
		print_message("# %s: %d outside, %d in service, %d in tests; not 0, %d, %d\n", what,
			      outside, service, tests, in_service, in_tests);
		bad++;
	}
	assert_int_equal(bad, 0);
}

static void files_outside_its_list_cannot_be_read(void **state)
{
	static const struct attempt of[] = {
		{ "/etc/passwd", try_passwd }, { "listing /", try_list }, { "maps", try_maps },
	};

	(void)state;
	needs("landlock");
	forbidden(of, COUNT(of), EACCES, EACCES);
}

static void what_a_worker_never_does_is_refused_and_kills_in_tests(void **state)
{
	static const struct attempt of[] = {
		{ "opening to write", try_write }, { "making a file", try_create },
		{ "socket", try_socket }, { "socketpair", try_unix },
		{ "memory to execute", try_mmap_exec },
		{ "making memory executable", try_mprotect_exec },
		{ "execve", try_exec }, { "fork", try_fork }, { "ptrace", try_ptrace },
		{ "kill", try_kill }, { "dumpable again", try_dumpable },
		{ "setrlimit", try_limit }, { "memfd_create", try_memfd }, { "ioctl", try_ioctl },
	};

	(void)state;
	needs("seccomp");
	forbidden(of, COUNT(of), EPERM, KILLED);
}

static void bpf_does_nothing_but_look_up(void **state)
{
	static const struct attempt of[] = {
		{ "BPF_MAP_CREATE", try_bpf_map }, { "BPF_PROG_LOAD", try_bpf_program },
		{ "BPF_PROG_GET_NEXT_ID", try_bpf_next },
	};

	(void)state;
	needs("seccomp");
	test_needs_bpf();
	forbidden(of, COUNT(of), EPERM, KILLED);
}

static int try_unlisted(void)
{
	errno = 0;
	return getpriority(PRIO_PROCESS, 0) == -1 ? errno : 0;
}

static int try_clone3(void)
{
	struct {
		uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
	} args = { .exit_signal = SIGCHLD };
	long pid = syscall(SYS_clone3, &args, sizeof(args));

	if (pid == 0)
		_exit(0);
	return result_of(pid);
}

static void what_makes_processes_and_cannot_be_judged_is_not_there(void **state)
{
	static const struct attempt of[] = { { "clone3", try_clone3 } };

	(void)state;
	needs("seccomp");
	forbidden(of, COUNT(of), ENOSYS, ENOSYS);
}

static void a_call_that_nobody_thought_of_works_in_service_and_kills_in_tests(void **state)
{
	(void)state;
	needs("seccomp");
	assert_int_equal(in_child(NULL, try_unlisted), 0);
	assert_int_equal(in_child("log", try_unlisted), 0);
	assert_int_equal(in_child("kill", try_unlisted), KILLED);
}

/* --- what a machine does not have --------------------------------------------------------------- */

/* As a kernel without that call: the answer that it would give. */
static void hide(const char *call, int err)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);

	CHECK(filter && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(seccomp_rule_add(filter, SCMP_ACT_ERRNO((uint16_t)err),
			       seccomp_syscall_resolve_name(call), 0) == 0);
	CHECK(seccomp_load(filter) == 0);
	seccomp_release(filter);
}

static int without_landlock(void)
{
	hide("landlock_create_ruleset", EOPNOTSUPP);
	enter("kill");
	return try_passwd();
}

static int without_seccomp(void)
{
	hide("seccomp", EINVAL);
	enter("kill");
	return try_unix() ? 124 : try_passwd();
}

static void what_a_machine_does_not_have_is_said_and_the_rest_holds(void **state)
{
	char before[128];

	(void)state;
	needs("seccomp");
	needs("landlock");
	strcpy(before, words);
	assert_int_equal(in_child(NULL, without_landlock), 0);
	assert_string_equal(words, "seccomp (kills), not dumpable; no landlock: the kernel was "
				   "started without it (lsm=)");
	assert_int_equal(in_child(NULL, without_seccomp), EACCES);
	assert_string_equal(words, "landlock, not dumpable; no seccomp: Invalid argument");
	strcpy(words, before);
}

/* --- threads ---------------------------------------------------------------------------------- */

static attempt_t attempt_of_thread;

static void *attempt_thread(void *arg)
{
	eventfd_t nr;

	if (arg)
		eventfd_read(*(int *)arg, &nr);
	return (void *)(intptr_t)attempt_of_thread();
}

static int in_a_later_thread(void)
{
	pthread_t thread;
	void *result;

	if (pthread_create(&thread, NULL, attempt_thread, NULL))
		return 124;
	pthread_join(thread, &result);
	return (int)(intptr_t)result;
}

/* The sandbox is entered here, not by in_child. */
static int in_an_earlier_thread(void)
{
	int go = eventfd(0, EFD_CLOEXEC);
	pthread_t thread;
	void *result;

	if (go < 0 || pthread_create(&thread, NULL, attempt_thread, &go))
		return 124;
	enter("kill");
	eventfd_write(go, 1);
	pthread_join(thread, &result);
	return (int)(intptr_t)result;
}

static void threads_are_inside_whenever_they_were_made(void **state)
{
	(void)state;
	needs("seccomp");
	attempt_of_thread = nothing;
	assert_int_equal(in_child("kill", in_a_later_thread), 0);
	assert_int_equal(in_child(NULL, in_an_earlier_thread), 0);
	attempt_of_thread = try_unix;
	assert_int_equal(in_child(NULL, in_a_later_thread), 0);
	assert_int_equal(in_child("kill", in_a_later_thread), KILLED);
	assert_int_equal(in_child(NULL, in_an_earlier_thread), KILLED);
	needs("landlock");
	attempt_of_thread = try_passwd;
	assert_int_equal(in_child("kill", in_a_later_thread), EACCES);
}

/* --- what is allowed -------------------------------------------------------------------------- */

static int memory, sockets[2], map;

static void check_memory(void)
{
	char *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0), *large;
	struct stat st;

	CHECK(p != MAP_FAILED);
	CHECK(madvise(p, 1 << 20, MADV_POPULATE_WRITE) == 0);
	CHECK(madvise(p, 1 << 20, MADV_REMOVE) == 0);
	CHECK(mprotect(p, 1 << 20, PROT_READ) == 0);
	CHECK(madvise(p, 1 << 20, MADV_POPULATE_READ) == 0);
	CHECK(munlock(p, 1 << 20) == 0 && munmap(p, 1 << 20) == 0);
	CHECK(lseek(memory, 0, SEEK_DATA) >= 0 && fstat(memory, &st) == 0);
	CHECK(fcntl(memory, F_GET_SEALS) >= 0);
	large = malloc(64 << 20);
	CHECK(large);
	memset(large, 1, 1 << 20);
	large = realloc(large, 128 << 20);
	CHECK(large);
	free(large);
}

static void check_sockets(void)
{
	struct epoll_event e = { .events = EPOLLIN };
	int epoll = epoll_create1(EPOLL_CLOEXEC), fds[3], fd = memory;
	socklen_t size = sizeof(struct ucred);
	struct wire_resume m;
	struct ucred cred;
	unsigned int nr;

	CHECK(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, sockets[1], &e) == 0);
	raw_begin(&m, WIRE_RESUME, 1, sizeof(m));
	CHECK(wire_send(sockets[0], &m, &fd, 1, MSG_DONTWAIT) == 0);
	CHECK(epoll_wait(epoll, &e, 1, 1000) == 1);
	CHECK(wire_recv(sockets[1], &m, sizeof(m), fds, 3, &nr, MSG_DONTWAIT) > 0 && nr == 1);
	CHECK(getsockopt(sockets[0], SOL_SOCKET, SO_PEERCRED, &cred, &size) == 0);
	CHECK(shutdown(sockets[0], SHUT_RDWR) == 0);
	CHECK(close(sockets[0]) == 0 && close(epoll) == 0);
}

static void check_cpus(void)
{
	char text[64];
	cpu_set_t set;
	int fd = open("/sys/devices/system/cpu/online", O_RDONLY | O_CLOEXEC);

	CHECK(fd >= 0 && pread(fd, text, sizeof(text), 0) > 0 && close(fd) == 0);
	fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0 && read(fd, text, sizeof(text)) > 0 && close(fd) == 0);
	CHECK(sysconf(_SC_NPROCESSORS_CONF) > 0 && sysconf(_SC_NPROCESSORS_ONLN) > 0);
	CHECK(sched_getaffinity(0, sizeof(set), &set) == 0);
	CHECK(sched_setaffinity(0, sizeof(set), &set) == 0 && sched_getcpu() >= 0);
	CHECK(getrandom(text, sizeof(text), 0) == sizeof(text));
	CHECK(prctl(PR_SET_NAME, "talea-fold") == 0);
}

static int try_work(void)
{
	struct timespec t = { 0, 1000 };
	union bpf_attr attr;
	uint64_t value = 0;
	uint32_t key = 0;

	check_memory();
	check_sockets();
	check_cpus();
	CHECK(nanosleep(&t, NULL) == 0 && clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) == 0);
	if (map >= 0) {
		attr = (union bpf_attr){ .map_fd = (uint32_t)map, .key = (uintptr_t)&key,
					 .value = (uintptr_t)&value };
		CHECK(bpf_do(BPF_MAP_LOOKUP_ELEM, &attr) == 0);
	}
	attempt_of_thread = nothing;
	CHECK(in_a_later_thread() == 0);
	return 0;
}

static void what_a_worker_does_is_allowed(void **state)
{
	(void)state;
	map = bpf_map_make();
	memory = memfd_create("talea-test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_true(memory >= 0);
	assert_int_equal(ftruncate(memory, 1 << 20), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets), 0);
	assert_int_equal(in_child(NULL, try_work), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets), 0);
	assert_int_equal(in_child("kill", try_work), 0);
}

static int try_abort(void)
{
	abort();
}

static void it_may_still_abort(void **state)
{
	(void)state;
	assert_int_equal(in_child(NULL, try_abort), 128 + SIGABRT);
	assert_int_equal(in_child("kill", try_abort), 128 + SIGABRT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_outside_its_list_cannot_be_read),
		cmocka_unit_test(what_a_worker_never_does_is_refused_and_kills_in_tests),
		cmocka_unit_test(bpf_does_nothing_but_look_up),
		cmocka_unit_test(what_makes_processes_and_cannot_be_judged_is_not_there),
		cmocka_unit_test(a_call_that_nobody_thought_of_works_in_service_and_kills_in_tests),
		cmocka_unit_test(what_a_machine_does_not_have_is_said_and_the_rest_holds),
		cmocka_unit_test(threads_are_inside_whenever_they_were_made),
		cmocka_unit_test(what_a_worker_does_is_allowed),
		cmocka_unit_test(it_may_still_abort),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}

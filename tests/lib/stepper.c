/* See stepper.h. Owns the child, which does not outlive the call. */
#define _GNU_SOURCE
#include "tests/lib/child.h"
#include "tests/lib/stepper.h"

#include <signal.h>
#include <stdbool.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/order.h"
#include "tests/lib/test.h"

#define EXIT_UNTRACED 2

void stepper_stop(void)
{
	raise(SIGSTOP);
}

static void step(pid_t pid, uint64_t max, const struct dir_shm *d, struct stepped *ret)
{
	int status;

	while (ret->steps < max) {
		assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSTOPPED(status));
		if (WSTOPSIG(status) == SIGSTOP)
			return;
		ret->steps++;
		if (d && shm_take(&d->intent.valid)) {
			ret->intent_from = ret->intent_from ? ret->intent_from : ret->steps;
			ret->intent_upto = ret->steps;
		}
	}
}

void stepper_run(void (*body)(void *arg), void *arg, uint64_t max, const struct dir_shm *d,
		 struct stepped *ret)
{
	pid_t pid = test_fork();
	int status;

	if (pid == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
			_exit(EXIT_UNTRACED);
		body(arg);
		_exit(0);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_UNTRACED)
		test_skip("this process may not trace its children");
	assert_true(WIFSTOPPED(status));
	*ret = (struct stepped){ 0 };
	step(pid, max, d, ret);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
}

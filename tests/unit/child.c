/* A child that a test forks ends by its signal, whatever cmocka catches in the test
 * (tests/lib/child.h). */
#include "tests/lib/test.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/child.h"

static bool is_caught(int signal_nr)
{
	struct sigaction now;

	assert_int_equal(sigaction(signal_nr, NULL, &now), 0);
	return now.sa_handler != SIG_DFL;
}

static void a_child_that_crashes_ends_by_its_signal(void **state)
{
	const struct rlimit none = { 0, 0 };
	int result;
	pid_t pid;

	(void)state;
	/* Without this the test would prove nothing. */
	assert_true(is_caught(SIGSEGV));
	pid = test_fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &none);
		raise(SIGSEGV);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &result, 0), pid);
	assert_true(WIFSIGNALED(result));
	assert_int_equal(WTERMSIG(result), SIGSEGV);
	assert_true(is_caught(SIGSEGV));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_child_that_crashes_ends_by_its_signal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

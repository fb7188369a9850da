/* See child.h. */
#include "tests/lib/child.h"

#include <signal.h>
#include <stddef.h>
#include <unistd.h>

void test_child(void)
{
	static const int caught[] = { SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS };

	for (size_t i = 0; i < sizeof(caught) / sizeof(caught[0]); i++)
		signal(caught[i], SIG_DFL);
}

pid_t test_fork(void)
{
	pid_t pid = fork();

	if (pid == 0)
		test_child();
	return pid;
}

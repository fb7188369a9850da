/*
 * Children that a test forks. cmocka catches SIGSEGV and its like to report them as the failure of
 * the test that runs: in a child this handler would go on with the remaining tests, as a second
 * runner on the same output.
 */
#ifndef TESTS_LIB_CHILD_H
#define TESTS_LIB_CHILD_H

#include <sys/types.h>

/* fork(); the child ends by the signals that it gets, as any program does. */
pid_t test_fork(void);

/* What test_fork does in the child: for children that something else made. */
void test_child(void);

#endif

/* What every cmocka test includes first: the headers that cmocka.h itself expects before it. */
#ifndef TESTS_LIB_TEST_H
#define TESTS_LIB_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Skips the calling test; tests/run shows the reason. */
#define test_skip(reason)                                \
	do {                                             \
		print_message("# skipped: %s\n", reason); \
		skip();                                  \
	} while (0)

#endif

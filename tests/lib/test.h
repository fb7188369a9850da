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

#ifdef __SANITIZE_THREAD__
#define TEST_IS_TSAN 1
#else
#define TEST_IS_TSAN 0
#endif

/*
 * Between these the calling thread reads as a seqlock's reader does: whatever is there, and judges
 * it afterwards. ThreadSanitizer does not know the fence in that, and looks away; elsewhere than in
 * a test such a reader is another process than the writer, where it never looks.
 */
#if TEST_IS_TSAN
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
#define test_seqlock_begin() AnnotateIgnoreReadsBegin(__FILE__, __LINE__)
#define test_seqlock_end()   AnnotateIgnoreReadsEnd(__FILE__, __LINE__)
#else
#define test_seqlock_begin() ((void)0)
#define test_seqlock_end()   ((void)0)
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TEST_IS_SANITIZED 1
#else
#define TEST_IS_SANITIZED 0
#endif

#endif

/*
 * What a test needs of the machine. Each of these skips the calling test, with the reason printed,
 * when it is not there; a thing that is there and does not work is a failure of the test.
 */
#ifndef TESTS_LIB_NEEDS_H
#define TESTS_LIB_NEEDS_H

/* Root with the capabilities that loading BPF takes, and a kernel with type information. */
void test_needs_bpf(void);

#endif

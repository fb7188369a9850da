/*
 * Does this kernel abort an rseq section when another thread runs on its CPU? The reuse of rows and
 * cells rests on it (PROTOCOL 2). One thread sits in a section and waits for a word; another, bound
 * to the same CPU, stores it: a thread that sees the word inside the section was preempted and not
 * aborted. Owns nothing. The worker's grace thread calls it once, and the doctor.
 */
#ifndef DAEMON_RSEQ_SELFTEST_H
#define DAEMON_RSEQ_SELFTEST_H

/*
 * 0: it does; -1: it does not; -EAGAIN: the machine was too busy to learn it; -ENOSYS: there is no
 * rseq. is_armed false is the control, which must give -1. Binds the calling thread to one CPU.
 */
int rseq_selftest(int is_armed);

#endif

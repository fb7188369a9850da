/*
 * What the worker can no longer do, whoever makes it try: seccomp's list of system calls, landlock's
 * list of files, no core and no tracer of its own uid. Owns the two lists; the rights themselves went
 * before (daemon/keeper/rights.c). worker.c enters it once, before the first thread.
 *
 *   files by name           landlock: /sys/devices/system/cpu and two files of /proc can be read,
 *                           nothing can be written
 *   calls that are listed   work
 *   what is not listed      in service it works and the kernel logs it; with TALEA_SANDBOX=kill (the
 *                           tests' environment) it ends the process with SIGSYS
 *   what never may be       in service EPERM, logged: programs, processes, sockets, memory to execute,
 *                           opening to write, bpf() but for look-ups, what is another process's
 *
 * A part that this machine does not have is said, and the worker goes on without it.
 */
#ifndef WORKER_SANDBOX_H
#define WORKER_SANDBOX_H

/* What is open stays open. Threads made later are inside; landlock does not hold earlier ones. */
void sandbox_enter(void);

/* "seccomp, landlock, not dumpable", or what is missing and why. Any thread, after sandbox_enter. */
const char *sandbox_words(void);

#endif

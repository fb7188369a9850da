/*
 * The sandbox of the worker: seccomp's list of system calls, landlock's list of files, no core and
 * no tracer of its own uid. Owns the two lists; the keeper's child has given up its rights before.
 * worker.c enters the sandbox once, before the first thread.
 *
 *   files by name    landlock: the worker can read /sys/devices/system/cpu and two files of /proc, and
 *                    write nothing
 *   listed calls     work
 *   other calls      in service they work and the kernel logs them; with TALEA_SANDBOX=kill (the
 *                    tests' environment) they end the process with SIGSYS
 *   refused calls    in service they fail with EPERM and the kernel logs them: programs, processes,
 *                    sockets, memory to execute, opening to write, bpf() but for look-ups, and what
 *                    reaches into another process
 *
 * Where this machine lacks a part, the log says so and the worker runs without that part.
 */
#ifndef WORKER_SANDBOX_H
#define WORKER_SANDBOX_H

/* Open descriptors stay open. Threads made later are inside; landlock does not bind earlier ones. */
void sandbox_enter(void);

/* "seccomp, landlock, not dumpable", or what is missing and why. Any thread, after sandbox_enter. */
const char *sandbox_text(void);

#endif

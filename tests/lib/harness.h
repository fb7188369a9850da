/*
 * A private talead for one test: its own folder with socket, state, configuration and log, removed
 * at the end; and clients in processes of their own. Whatever ends the test, even SIGKILL, a guard
 * process ends the daemon and removes the folder. Called by system tests; a failure fails the
 * calling test and shows the daemon's log.
 */
#ifndef TESTS_LIB_HARNESS_H
#define TESTS_LIB_HARNESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <unistd.h>

#include "shm/wire_admin.h"

#define HARNESS_OTHER_UID 65533 /* a uid that is neither root nor the worker's */

struct harness {
	pid_t pid;   /* of the talead that was started, and of its process group; 0: none */
	int guard;   /* its end wakes the guard */
	pid_t guard_pid;
	char folder[64], socket[96], state[96], config[96], log[96];
};

/*
 * Starts talead and waits until it answers. `daemon` are lines for [daemon] (NULL: no probes),
 * `sections` more of the configuration (may be NULL).
 */
void harness_start(struct harness *h, const char *daemon, const char *sections);

/* The two halves of harness_start: everything but the daemon, and (again) the daemon. */
void harness_prepare(struct harness *h, const char *daemon, const char *sections);
void harness_launch(struct harness *h);

/* SIGTERM to the keeper that status shows; fails unless it ends with 0 and leaves no process. */
void harness_stop(struct harness *h);

/* The same without a check, for a teardown after a failure; does nothing when stopped. */
void harness_cleanup(struct harness *h);

/* Replaces the configuration file; see harness_start. */
void harness_configure(struct harness *h, const char *daemon, const char *sections);

/* Status as a new client gets it; waits for it up to 30 s. */
void harness_status(const struct harness *h, struct wire_status *ret);

/*
 * kill -9 of the worker (keeper), then waits until another answers (and has a standby). Returns the
 * nanoseconds that took; 30 s is a failure.
 */
uint64_t harness_kill_worker(const struct harness *h);
uint64_t harness_kill_keeper(const struct harness *h);

/* Does the daemon's log hold this text? */
int harness_log_has(const struct harness *h, const char *text);
void harness_log_show(const struct harness *h);

/*
 * A client in a process of its own, killed when the test ends. run's result is the exit code;
 * inside it, CHECK instead of cmocka's assertions. TALEA_SOCKET is set to the daemon's.
 */
pid_t harness_client(const struct harness *h, int (*run)(void *arg), void *arg);

/* Waits for a process: its exit code, or 128 + signal. */
int harness_wait(pid_t pid);

/* Runs a client and fails unless it ends with 0. */
void harness_run(const struct harness *h, int (*run)(void *arg), void *arg);

/* Is this process gone (or a zombie)? */
int harness_is_gone(pid_t pid);

uint64_t harness_now_ns(void);
void harness_sleep_ms(unsigned int ms);

/*
 * Sleeps a little; false: a minute has passed since the first call, at which *since is 0. For loops
 * that wait for a condition, which the test checks afterwards:
 *	while (!condition && harness_waits(&since))
 *		;
 */
bool harness_waits(uint64_t *since);

/* A number from the environment, else this: TALEA_LONG=1 makes a test take its long form. */
int harness_times(int in_ci, int in_long);

/* The path of something in the build folder. */
const char *harness_built(const char *name, char *buf, size_t size);

/* In a client process: says what failed and ends it with 1. */
#define CHECK(claim)                                                                     \
	do {                                                                             \
		if (!(claim)) {                                                          \
			fprintf(stderr, "# %s:%d: not so: %s\n", __FILE__, __LINE__, #claim); \
			_exit(1);                                                        \
		}                                                                        \
	} while (0)

#endif

/*
 * talead as a child or in place of this program, for what needs its libraries but no daemon: what
 * can be attached here, and what this machine allows. Called by verbs/probes.c and verbs/doctor.c.
 */
#ifndef TOOLS_RUN_H
#define TOOLS_RUN_H

#include "tools/cli.h"

/* args: a list that ends with NULL. Becomes `talead ARGS`; returns only after a failure, with the exit
 * code. */
int run_become(const struct cli *c, const char *const *args);
/* Runs `talead ARGS` and reads its stdout, malloced, NUL-terminated; its exit code in *ret_status.
 * CLI_OK, or the exit code of a failure. */
int run_read(const struct cli *c, const char *const *args, char **ret, int *ret_status);

#endif

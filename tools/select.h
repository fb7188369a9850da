/*
 * Which counters a command is about: the arguments and --exclude as a selection (expo/pick.h), and
 * the nearest name when an argument matches nothing. Called by talea.c and by the verbs that read
 * counters.
 */
#ifndef TOOLS_SELECT_H
#define TOOLS_SELECT_H

#include "tools/cli.h"
#include "tools/expo/pick.h"

struct selection select_of(const struct cli *c);

/* Both return CLI_OK; CLI_NO_MATCH when an argument matches nothing, with a message that has the
 * nearest name (unless is_quiet); else the exit code of a failure, or what visit returned. */
int select_each(const struct cli *c, bool is_quiet, pick_visit *visit, void *arg);
int select_picks(const struct cli *c, const bool *may_miss, struct picks *ret);

/* Rewrites NAME{label=value} with the quotes that shells take away. Malloced. */
char *select_quote(const char *text);

#endif

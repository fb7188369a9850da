/*
 * The session of a verb: the library, attached to the daemon that the command line names, and a
 * connection to ask the worker. talea.c opens it before a verb runs, as the verb's row says, and
 * closes it afterwards. Each failure becomes one message on stderr, written here, and an exit code.
 */
#ifndef TOOLS_SESSION_H
#define TOOLS_SESSION_H

#include <talea.h>

#include "shm/wire_admin.h"
#include "tools/expo/ask.h"

struct cli;

enum session_needs {
	SESSION_NONE, /* runs without a daemon */
	SESSION_READ,
	SESSION_ADD, /* also declares counters and adds to them */
};

struct session {
	struct talea *t; /* NULL: closed */
	struct talea_status st; /* when the session was opened */
	struct ask *ask; /* connects at its first question */
};

/* Fills c->session. CLI_OK, or the exit code of a failure. */
int session_open(struct cli *c, enum session_needs needs);
/* The same without a message. 0 also when no daemon answers (c->session.st.connected), or the
 * library's error. */
int session_try(struct cli *c, enum session_needs needs);
void session_close(struct cli *c); /* fine when it is closed */

int session_exit(int err); /* the exit code for an -errno */
/* The same, with the library's message. */
int session_failed(const struct cli *c, int err);
/* The same, with the message of c->session.ask. */
int session_ask_failed(const struct cli *c, int err);

/* Questions of ask.h. CLI_OK, or the exit code of a failure. */
int session_ask(const struct cli *c, enum wire_query_what what, const char *name, uint64_t from,
		const struct wire_answer **ret);
int session_status(const struct cli *c, const struct wire_status **ret);
int session_explain(const struct cli *c, const char *name, const struct wire_explain **ret);
int session_probes(const struct cli *c, struct wire_probe **ret, uint32_t *ret_nr);
int session_probe(const struct cli *c, const struct wire_probe_change *change, const char *text,
		  const struct wire_probe **ret);

#endif

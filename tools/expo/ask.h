/*
 * Questions to the worker, over a connection of their own: what only the worker knows (status,
 * probes, clients, explanations, lanes, changes) and what an operator asks of it. Every call
 * returns 0 or -errno; after a failure ask_why() is the sentence. Called by expo/ and by the verbs
 * (through session.h); knows no command line. Not MT-safe: one thread uses one struct ask.
 */
#ifndef TOOLS_EXPO_ASK_H
#define TOOLS_EXPO_ASK_H

#include <stddef.h>
#include <stdint.h>

#include <talea.h>

#include "shm/wire_admin.h"

struct ask;

/* st names the socket and the namespace, and outlives the result. The first question connects. NULL:
 * no memory. */
struct ask *ask_open(const struct talea_status *st);
void ask_close(struct ask *a); /* NULL is fine */

/* Why the last question failed: the worker's sentence, or what happened to the connection. */
const char *ask_why(const struct ask *a);

/* name may be NULL. An answer belongs to the connection until its next question. */
int ask_worker(struct ask *a, enum wire_query_what what, const char *name, uint64_t from,
	       const struct wire_answer **ret);
int ask_status(struct ask *a, const struct wire_status **ret);
int ask_explain(struct ask *a, const char *name, const struct wire_explain **ret);
/* All probes, malloced. */
int ask_probes(struct ask *a, struct wire_probe **ret, uint32_t *ret_nr);

/* Called once for each name, with the worker's result: 0, or an error and a sentence. */
typedef void ask_result(size_t idx, int err, const char *why, void *arg);
int ask_change(struct ask *a, enum wire_change_op op, const char *const *names, size_t nr,
	       ask_result *result, void *arg);

/* A probe request (wire_admin.h); text may be NULL. ret is NULL for COST, which has no record.
 * -EMSGSIZE: the text is too long. */
int ask_probe(struct ask *a, const struct wire_probe_change *change, const char *text,
	      const struct wire_probe **ret);

int ask_connect(const char *path); /* a socket, or -errno */

#endif

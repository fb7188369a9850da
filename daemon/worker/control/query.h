/*
 * The records of a QUERY's answer that control's thread can make; the fold thread makes the others
 * (serve.c). Reads D, T and control's own state; changes nothing.
 */
#ifndef WORKER_QUERY_H
#define WORKER_QUERY_H

#include "daemon/spec/pack.h"
#include "shm/wire_admin.h"

struct connection;
struct control;

/* Fills the answer to a QUERY, of at most WIRE_MAX bytes; 0 or -EINVAL. */
int query_answer(const struct control *c, const struct connection *conn, const struct wire_query *q,
		 struct wire_answer *ret);

/* The record of the probe with this id. */
void query_probe(const struct control *c, uint32_t id, struct wire_probe *ret);

/* The record of a probe, as far as live says it. */
void query_live(const struct probe_live *live, struct wire_probe *ret);

#endif

/*
 * How the daemon is; see facts.h.
 */
#include <stdlib.h>

#include "shm/base/text.h"
#include "shm/layout.h"
#include "tools/expo/facts.h"
#include "tools/expo/json.h"
#include "tools/expo/probe.h"

#define OWN_CLIENTS 2 /* of this process: the library's connection and the one that asks */

int facts_take(struct ask *ask, const struct talea_status *st, struct facts *ret)
{
	const struct wire_status *daemon;
	uint32_t own;
	int rc = ask_status(ask, &daemon);

	*ret = (struct facts){ .st = *st };
	if (rc)
		return rc;
	ret->daemon = *daemon;
	own = daemon->clients_nr < OWN_CLIENTS ? daemon->clients_nr : OWN_CLIENTS;
	ret->daemon.clients_nr -= own;
	return ask_probes(ask, &ret->probes, &ret->probes_nr);
}

void facts_fini(struct facts *f)
{
	free(f->probes);
	*f = (struct facts){ 0 };
}

static json_t *facts_rows_json(const struct wire_status *d)
{
	json_t *changes = json_pack("{s:I, s:I, s:I, s:I}", "promoting",
				    (json_int_t)d->row_changes[0], "hot",
				    (json_int_t)d->row_changes[1], "retiring",
				    (json_int_t)d->row_changes[2], "cold",
				    (json_int_t)d->row_changes[3]);

	return json_pack("{s:i, s:i, s:i, s:i, s:o, s:b, s:b, s:b, s:I, s:I, s:i}", "hot",
			 (int)(d->rows_used - d->rows_retiring), "retiring", (int)d->rows_retiring,
			 "waiting", (int)d->rows_waiting, "max", (int)d->rows_max, "changes", changes,
			 "reuse", !(d->promotion & SHM_REUSE_OFF), "allowed",
			 !(d->promotion & SHM_ROWS_OFF), "cells_reused", !d->fallback_used, "graces",
			 (json_int_t)d->graces_nr, "grace_ns", (json_int_t)d->grace_ns,
			 "grace_blocked_cpus", (int)d->grace_blocked_cpus);
}

static json_t *facts_daemon_json(const struct wire_status *d)
{
	char started[TEXT_UTC_BYTES];

	return json_pack("{s:o, s:o, s:o, s:i, s:i, s:i, s:I, s:i, s:i, s:s, s:i, s:i, s:o}",
			 "version", json_text(d->version), "socket", json_text(d->socket),
			 "state_folder", json_text(d->state_folder), "keeper_pid",
			 (int)d->keeper_pid, "spare_pid", (int)d->standby_pid, "worker_pid",
			 (int)d->worker_pid, "incarnation", (json_int_t)d->incarnation,
			 "worker_restarts", (int)d->worker_restarts, "keeper_takeovers",
			 (int)d->keeper_takeovers, "worker_started",
			 text_utc(started, d->worker_started_real_ns), "clients",
			 (int)d->clients_nr, "namespaces", (int)d->namespaces_nr, "sandbox",
			 json_text(d->sandbox));
}

static json_t *facts_region_json(const struct wire_status *d)
{
	char started[TEXT_UTC_BYTES];

	return json_pack("{s:s, s:i, s:i, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "started",
			 text_utc(started, d->started_real_ns), "counters", (int)d->counters_nr,
			 "members", (int)d->members_nr, "rows_used", (int)d->rows_used, "rows_max",
			 (int)d->rows_max, "refusals", (json_int_t)d->refusals, "memory_bytes",
			 (json_int_t)d->memory_bytes, "suspects", (json_int_t)d->suspects_nr,
			 "strays", (json_int_t)d->strays_nr, "members_removed",
			 (json_int_t)d->removed_nr, "late_adds", (json_int_t)d->late_adds,
			 "changes", (json_int_t)d->changes_nr);
}

static json_t *facts_fold_json(const struct wire_status *d)
{
	return json_pack("{s:I, s:I, s:f, s:o, s:i}", "interval_ns",
			 (json_int_t)d->fold_interval_ns, "duration_ns",
			 (json_int_t)d->fold_duration_ns, "cpu_share",
			 d->fold_cpu_permille / 1000.0, "vector", json_text(d->vector), "cpus",
			 (int)d->cpus_nr);
}

json_t *facts_json(const struct facts *f)
{
	const struct talea_status *st = &f->st;
	json_t *doc = json_document(st->namespace_name);

	json_object_set_new(doc, "durable", json_false());
	json_object_set_new(doc, "epoch", json_integer((json_int_t)st->epoch));
	json_object_set_new(doc, "age_ns", json_integer((json_int_t)st->age_ns));
	json_object_set_new(doc, "daemon", facts_daemon_json(&f->daemon));
	json_object_set_new(doc, "region", facts_region_json(&f->daemon));
	json_object_set_new(doc, "fold", facts_fold_json(&f->daemon));
	json_object_set_new(doc, "rows", facts_rows_json(&f->daemon));
	json_object_set_new(doc, "probes", probes_json(f->probes, f->probes_nr));
	json_object_set_new(doc, "client",
			    json_pack("{s:b, s:o}", "rseq", st->rseq, "rseq_why",
				      json_text(st->rseq_why ? st->rseq_why : "")));
	return doc;
}

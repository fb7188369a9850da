/* See query.h. */
#define _GNU_SOURCE
#include "daemon/worker/control/query.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/worker/space/changes.h"
#include "daemon/worker/space/lanes.h"
#include "daemon/worker/control/control.h"
#include "daemon/worker/kernel/source.h"
#include "daemon/worker/sandbox.h"
#include "daemon/worker/space/view.h"

static uint64_t memory_bytes(const struct space_view *v)
{
	uint64_t bytes = 0;
	struct stat st;

	for (unsigned int part = 0; part < REGION_PARTS; part++)
		if (fstat(v->fds.ro[part], &st) == 0)
			bytes += (uint64_t)st.st_blocks * 512;
	return bytes;
}

/* What the fold thread publishes in T. */
static void status_totals(const struct totals_shm *t, struct wire_status *s)
{
	s->counters_nr = shm_read32(&t->counters_nr);
	s->members_nr = shm_read32(&t->members_nr);
	s->rows_used = shm_read32(&t->rows_used);
	s->rows_retiring = shm_read32(&t->rows_retiring);
	s->rows_waiting = shm_read32(&t->rows_waiting);
	s->suspects_nr = shm_read32(&t->suspects_nr);
	s->grace_blocked_cpus = shm_read32(&t->grace_blocked_cpus);
	for (unsigned int i = 0; i < sizeof(s->row_changes) / sizeof(s->row_changes[0]); i++)
		s->row_changes[i] = shm_count_read(&t->row_changes[i]);
	s->graces_nr = shm_count_read(&t->graces_nr);
	s->grace_ns = shm_count_read(&t->grace_ns);
	s->removed_nr = shm_count_read(&t->removed_nr);
	s->late_adds = shm_count_read(&t->late_adds);
	s->strays_nr = shm_count_read(&t->strays_nr);
	s->changes_nr = shm_count_read(&t->changes_nr);
	for (unsigned int i = 0; i < sizeof(s->read_ns) / sizeof(s->read_ns[0]); i++)
		s->read_ns[i] = shm_count_read(&t->read_ns[i]);
	s->fold_interval_ns = shm_count_read(&t->fold_interval_ns);
	s->fold_duration_ns = shm_count_read(&t->fold_duration_ns);
}

static void status_fill(const struct control *c, const struct connection *conn,
			struct wire_status *s)
{
	const struct worker_start *ws = c->start;
	const struct space_view *v = space_view(conn->space);
	const struct shards_shm *head = (const struct shards_shm *)v->s;

	*s = (struct wire_status){
		.incarnation = ws->incarnation,
		.started_real_ns = ws->started_real_ns,
		.worker_started_real_ns = c->worker_started_real_ns,
		.keeper_pid = ws->keeper_pid,
		.standby_pid = ws->standby_pid,
		.worker_pid = (uint32_t)getpid(),
		.worker_restarts = ws->worker_restarts,
		.keeper_takeovers = ws->keeper_takeovers,
		.clients_nr = c->connections.nr,
		.namespaces_nr = c->spaces_nr,
		.rows_max = shm_read32(&v->d->rows_max),
		.promotion = shm_read32(&v->d->promotion),
		.fallback_used = shm_count_read(&head->fallback_used) != 0,
		.refusals = shm_count_read(&v->d->refusals),
		.memory_bytes = memory_bytes(v),
		.fold_cpu_permille = fold_cpu_permille(c->fold),
		.cpus_nr = shm_read32(&v->d->cpus_nr),
	};
	status_totals(v->t, s);
	snprintf(s->sandbox, sizeof(s->sandbox), "%s", sandbox_text());
	snprintf(s->version, sizeof(s->version), "%s", TALEA_VERSION);
	snprintf(s->vector, sizeof(s->vector), "%s", lanes_vector_name());
	snprintf(s->socket, sizeof(s->socket), "%s", ws->config.socket);
	snprintf(s->state_folder, sizeof(s->state_folder), "%s", ws->config.state);
	snprintf(s->name_space, sizeof(s->name_space), "%s", v->name);
}

static void counters_add(struct wire_probe *p, const char *name)
{
	size_t used = strlen(p->counters);

	snprintf(p->counters + used, sizeof(p->counters) - used, "%s%s", used ? " " : "", name);
}

/* A probe of the pack has its counters whether it is attached or not. */
static void query_pack(const struct probe_type *type, struct wire_probe *p)
{
	p->is_default = type->is_default;
	p->origin = WIRE_PROBE_TABLE;
	snprintf(p->attach, sizeof(p->attach), "%s", type->attach);
	for (const struct probe_counter *one = type->counters; one->name; one++)
		counters_add(p, one->name);
	for (const char *const *name = type->object_counters; *name; name++)
		counters_add(p, *name);
}

static void query_spec(const struct probe_live *live, struct wire_probe *p)
{
	const struct probe_spec *spec = &live->spec;

	if (spec->event == SPEC_OBJECT)
		snprintf(p->attach, sizeof(p->attach), "object %s", spec->file);
	else
		snprintf(p->attach, sizeof(p->attach), "%s", spec->text);
	for (uint32_t i = 0; i < live->sources_nr && i < PROBE_SOURCES_MAX; i++)
		counters_add(p, live->sources[i].def.name);
	if (!live->sources_nr && *spec->counter)
		counters_add(p, spec->counter);
}

void query_live(const struct probe_live *live, struct wire_probe *p)
{
	const struct probe_type *type = pack_find(live->spec.name);

	*p = (struct wire_probe){ .state = live->state };
	snprintf(p->name, sizeof(p->name), "%s", live->spec.name);
	if (type)
		query_pack(type, p);
	else
		query_spec(live, p);
	for (uint32_t i = 0; i < live->sources_nr && i < PROBE_SOURCES_MAX; i++)
		p->keys_max += live->sources[i].def.keys_nr ? live->sources[i].keys_max : 0;
}

void query_probe(const struct control *c, uint32_t place, struct wire_probe *p)
{
	const struct probe_report *report = &c->probes[place];
	const struct probe_live *live = &report->live;
	struct source_statistics s;

	query_live(live, p);
	fold_probe_statistics(c->fold, place, &s);
	p->origin = live->origin ? live->origin : p->origin;
	p->is_pinned = live->is_pinned;
	p->is_adopted = live->is_adopted;
	p->since_real_ns = live->since_real_ns;
	p->cost_ms = report->cost_ms;
	p->cost_runs = report->cost_ms ? report->cost.runs : 0;
	p->cost_ns = report->cost_ms ? report->cost.ns : 0;
	p->missed = report->missed;
	p->keys_nr = (uint32_t)s.keys_nr;
	p->events = s.kept + s.overflow + s.folded;
	p->overflow = s.overflow;
	p->refused = s.refused;
	p->folded = s.folded;
	p->freed_nr = s.freed_nr;
	snprintf(p->reason, sizeof(p->reason), "%s", live->reason);
	snprintf(p->fix, sizeof(p->fix), "%s", live->fix);
	snprintf(p->unpinned_why, sizeof(p->unpinned_why), "%s", live->unpinned_why);
	if (s.is_conflict && !*p->reason) {
		snprintf(p->reason, sizeof(p->reason), "it counts, and is not shown: its counter's "
			 "name is taken by a program, or was by a probe with other keys");
		snprintf(p->fix, sizeof(p->fix), "give its counter another name");
	}
}

/* The probes that exist, from the from-th on. */
static uint32_t probes_fill(const struct control *c, uint64_t from, struct wire_probe *ret)
{
	uint32_t nr = 0;

	for (uint32_t id = 0; id < PROBES_MAX && nr < WIRE_PROBES_MAX; id++) {
		if (!c->probes[id].live.spec.event)
			continue;
		if (from)
			from--;
		else
			query_probe(c, id, &ret[nr++]);
	}
	return nr;
}

/* The connections to the client's namespace, from the from-th on. */
static uint32_t clients_fill(const struct control *c, const struct connection *conn, uint64_t from,
			     struct wire_client *ret)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < c->connections.nr && nr < WIRE_CLIENTS_MAX; i++) {
		const struct connection *one = c->connections.list[i];

		if (one->state != CONNECTION_GREETED || one->space != conn->space)
			continue;
		if (from) {
			from--;
			continue;
		}
		ret[nr] = (struct wire_client){
			.id = one->id, .since_real_ns = one->since_real_ns,
			.registered_nr = one->registered_nr, .pid = (uint32_t)one->peer.pid,
			.uid = one->peer.uid, .access = one->access,
		};
		memcpy(ret[nr++].app, one->app, sizeof(one->app));
	}
	return nr;
}

int query_answer(const struct control *c, const struct connection *conn, const struct wire_query *q,
		 struct wire_answer *ret)
{
	struct wire_changes *changes = (struct wire_changes *)(void *)ret->records;
	const struct totals_shm *t = space_view(conn->space)->t;
	size_t bytes = sizeof(*ret);

	*ret = (struct wire_answer){ .head = q->head, .what = q->what };
	switch (q->what) {
	case WIRE_STATUS:
		status_fill(c, conn, (struct wire_status *)(void *)ret->records);
		ret->nr = 1;
		bytes += sizeof(struct wire_status);
		break;
	case WIRE_PROBES:
		ret->nr = probes_fill(c, q->from, (struct wire_probe *)(void *)ret->records);
		bytes += ret->nr * sizeof(struct wire_probe);
		break;
	case WIRE_CLIENTS:
		ret->nr = clients_fill(c, conn, q->from,
				       (struct wire_client *)(void *)ret->records);
		bytes += ret->nr * sizeof(struct wire_client);
		break;
	case WIRE_CHANGES:
		ret->nr = changes_copy(t, q->from, changes->changes, WIRE_CHANGES_MAX,
				       &changes->first);
		changes->changes_nr = shm_count_read(&t->changes_nr);
		bytes += sizeof(*changes) + ret->nr * sizeof(changes->changes[0]);
		break;
	default:
		return -EINVAL;
	}
	ret->head.kind = WIRE_ANSWER;
	ret->head.length = (uint32_t)bytes;
	return 0;
}

/*
 * What the worker tells about itself: the records of a QUERY's answer. Reads D, T and control's own
 * state; changes nothing.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/worker/control.h"
#include "daemon/space/rows.h"

static uint64_t memory_bytes(const struct space *space)
{
	uint64_t bytes = 0;
	struct stat st;

	for (unsigned int part = 0; part < REGION_PARTS; part++)
		if (fstat(space->fds.ro[part], &st) == 0)
			bytes += (uint64_t)st.st_blocks * 512;
	return bytes;
}

static void status_fill(const struct control *c, const struct client *client,
			struct wire_status *s)
{
	const struct worker_start *ws = c->start;
	const struct space *space = client->space;
	const struct totals_shm *t = space->t;

	*s = (struct wire_status){
		.incarnation = ws->incarnation,
		.started_real_ns = ws->started_real_ns,
		.worker_started_real_ns = c->worker_started_real_ns,
		.keeper_pid = ws->keeper_pid,
		.spare_pid = ws->spare_pid,
		.worker_pid = (uint32_t)getpid(),
		.worker_restarts = ws->worker_restarts,
		.keeper_takeovers = ws->keeper_takeovers,
		.clients_nr = c->clients_nr,
		.namespaces_nr = c->spaces_nr,
		.counters_nr = shm_read32(&t->counters_nr),
		.members_nr = shm_read32(&t->members_nr),
		.rows_used = shm_read32(&t->rows_used),
		.rows_max = shm_read32(&space->d->rows_max),
		.refusals = shm_count_read(&space->d->refusals),
		.memory_bytes = memory_bytes(space),
		.fold_interval_ns = shm_count_read(&t->fold_interval_ns),
		.fold_duration_ns = shm_count_read(&t->fold_duration_ns),
		.fold_cpu_permille = fold_cpu_permille(c->fold),
		.cpus_nr = shm_read32(&space->d->cpus_nr),
	};
	snprintf(s->version, sizeof(s->version), "%s", TALEA_VERSION);
	snprintf(s->vector, sizeof(s->vector), "%s", rows_vector_name());
	snprintf(s->socket, sizeof(s->socket), "%s", ws->config.socket);
	snprintf(s->state_folder, sizeof(s->state_folder), "%s", ws->config.state);
	snprintf(s->name_space, sizeof(s->name_space), "%s", space->name);
}

static void probe_fill(const struct control *c, enum probe_id id, struct wire_probe *p)
{
	const struct probe_type *type = &probe_types[id];
	const struct probe_word *word = &c->probes[id];

	*p = (struct wire_probe){ .state = word->live.state, .missed = word->missed };
	kernel_look(&c->fold->kernel, id, &p->keys_nr, &p->events);
	snprintf(p->name, sizeof(p->name), "%s", type->name);
	snprintf(p->attach, sizeof(p->attach), "%s", type->attach);
	snprintf(p->counter, sizeof(p->counter), "%s", type->counter);
	snprintf(p->reason, sizeof(p->reason), "%s", word->live.reason);
	snprintf(p->fix, sizeof(p->fix), "%s", word->live.fix);
}

int answer_query(const struct control *c, const struct client *client, const struct wire_query *q,
		 struct wire_answer *ret)
{
	size_t bytes = sizeof(*ret);

	*ret = (struct wire_answer){ .head = q->head, .what = q->what };
	switch (q->what) {
	case WIRE_STATUS:
		status_fill(c, client, (struct wire_status *)(void *)ret->records);
		ret->nr = 1;
		bytes += sizeof(struct wire_status);
		break;
	case WIRE_PROBES:
		for (unsigned int id = 0; id < PROBE_NR; id++)
			probe_fill(c, id, (struct wire_probe *)(void *)ret->records + id);
		ret->nr = PROBE_NR;
		bytes += PROBE_NR * sizeof(struct wire_probe);
		break;
	default:
		return -EINVAL;
	}
	ret->head.kind = WIRE_ANSWER;
	ret->head.length = (uint32_t)bytes;
	return 0;
}

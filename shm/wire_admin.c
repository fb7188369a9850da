/*
 * The checks of the operators' wire: see wire_admin.h. Owns no memory and keeps no state. A message
 * that passed is as safe to read as one that passed wire_check.
 */
#include "wire_admin.h"

#include <errno.h>
#include <string.h>

_Static_assert(sizeof(struct wire_answer) + WIRE_CLIENTS_MAX * sizeof(struct wire_client) <= WIRE_MAX &&
	       sizeof(struct wire_answer) + sizeof(struct wire_changes) +
			       WIRE_CHANGES_MAX * sizeof(struct change_shm) <= WIRE_MAX &&
	       sizeof(struct wire_answer) + WIRE_PROBES_MAX * sizeof(struct wire_probe) <= WIRE_MAX,
	       "the longest answers fit a message");

#define FIXED_STRING_ENDS(field) (memchr((field), 0, sizeof(field)) != NULL)

static int check_change(const void *msg, size_t got)
{
	const struct wire_change *m = msg;
	const char *name = m->names;
	uint32_t left;

	if (got < sizeof(*m))
		return -EMSGSIZE;
	if (got != sizeof(*m) + (uint64_t)m->bytes)
		return -EMSGSIZE;
	if (m->op < WIRE_PIN_HOT || m->op > WIRE_ACCEPT || !m->nr || m->nr > WIRE_ENTRIES_MAX)
		return -EPROTO;
	left = m->bytes;
	for (uint32_t i = 0; i < m->nr; i++) {
		size_t len = strnlen(name, left);

		if (len == left || len >= WIRE_NAME_MAX)
			return -EPROTO;
		name += len + 1;
		left -= (uint32_t)len + 1;
	}
	return left ? -EPROTO : 0;
}

static int check_probe_change(const void *msg, size_t got)
{
	const struct wire_probe_change *m = msg;

	if (got < sizeof(*m) || m->bytes >= WIRE_TEXT_MAX || got != sizeof(*m) + m->bytes)
		return -EMSGSIZE;
	if (m->op < WIRE_PROBE_ATTACH || m->op > WIRE_PROBE_COST || m->is_checked_only > 1 ||
	    memchr(m->text, 0, m->bytes))
		return -EPROTO;
	if (m->op == WIRE_PROBE_COST)
		return m->bytes || !m->ms || m->ms > WIRE_COST_MS_MAX ? -EPROTO : 0;
	return m->bytes && (!m->is_checked_only || m->op == WIRE_PROBE_ATTACH) ? 0 : -EPROTO;
}

static int check_query(const void *msg, size_t got)
{
	const struct wire_query *m = msg;

	if (got < sizeof(*m))
		return -EMSGSIZE;
	if (m->name_bytes >= WIRE_NAME_MAX || got != sizeof(*m) + m->name_bytes)
		return -EMSGSIZE;
	return memchr(m->name, 0, m->name_bytes) ? -EPROTO : 0;
}

static int check_status(const struct wire_status *s)
{
	return FIXED_STRING_ENDS(s->version) && FIXED_STRING_ENDS(s->vector) &&
			       FIXED_STRING_ENDS(s->socket) &&
			       FIXED_STRING_ENDS(s->state_folder) &&
			       FIXED_STRING_ENDS(s->name_space) &&
			       FIXED_STRING_ENDS(s->sandbox)
		       ? 0
		       : -EPROTO;
}

static int check_probe(const struct wire_probe *p)
{
	return FIXED_STRING_ENDS(p->name) && FIXED_STRING_ENDS(p->attach) &&
			       FIXED_STRING_ENDS(p->counters) && FIXED_STRING_ENDS(p->reason) &&
			       FIXED_STRING_ENDS(p->fix) && FIXED_STRING_ENDS(p->unpinned_why)
		       ? 0
		       : -EPROTO;
}

static int check_explain(const struct wire_explain *e)
{
	return e->heat <= WIRE_RETIRING && e->pin <= SHM_HOT_NO && e->rule <= SHM_HOT_NO &&
			       e->slot < SHM_SLOTS_MAX
		       ? 0
		       : -EPROTO;
}

/* records_bytes is at least that of the head. */
static int check_lanes(const struct wire_lanes *l, size_t records_bytes)
{
	if (l->cpus_nr > SHM_CPUS_MAX || l->slot >= SHM_SLOTS_MAX)
		return -EPROTO;
	if (l->row == SHM_ROW_NONE && l->cpus_nr)
		return -EPROTO;
	return records_bytes == sizeof(*l) + l->cpus_nr * sizeof(l->lanes[0]) ? 0 : -EMSGSIZE;
}

static int check_probes(const struct wire_probe *probes, uint32_t nr)
{
	int err = nr > WIRE_PROBES_MAX ? -EPROTO : 0;

	for (uint32_t i = 0; i < nr && !err; i++)
		err = check_probe(&probes[i]);
	return err;
}

static int check_clients(const struct wire_client *clients, uint32_t nr)
{
	if (nr > WIRE_CLIENTS_MAX)
		return -EPROTO;
	for (uint32_t i = 0; i < nr; i++)
		if (!FIXED_STRING_ENDS(clients[i].app))
			return -EPROTO;
	return 0;
}

static int check_changes(const struct wire_changes *changes, uint32_t nr)
{
	if (nr > WIRE_CHANGES_MAX)
		return -EPROTO;
	for (uint32_t i = 0; i < nr; i++)
		if (changes->changes[i].name_len > sizeof(changes->changes[i].name))
			return -EPROTO;
	return 0;
}

/* The bytes of each answer: one head, and so many a record. */
static const struct {
	uint32_t head_bytes, record_bytes;
} answers[] = {
	[WIRE_STATUS] = { 0, sizeof(struct wire_status) },
	[WIRE_PROBES] = { 0, sizeof(struct wire_probe) },
	[WIRE_CLIENTS] = { 0, sizeof(struct wire_client) },
	[WIRE_EXPLAIN] = { 0, sizeof(struct wire_explain) },
	[WIRE_LANES] = { sizeof(struct wire_lanes), 0 },
	[WIRE_CHANGES] = { sizeof(struct wire_changes), sizeof(struct change_shm) },
};

static int check_answer(const void *msg, size_t got)
{
	const struct wire_answer *m = msg;
	const void *records = m->records;
	size_t bytes;

	if (got < sizeof(*m))
		return -EMSGSIZE;
	bytes = got - sizeof(*m);
	if (!m->what || m->what >= sizeof(answers) / sizeof(answers[0]))
		return -EPROTO;
	if ((m->what == WIRE_STATUS || m->what == WIRE_EXPLAIN || m->what == WIRE_LANES) &&
	    m->nr != 1)
		return -EPROTO;
	if (m->what == WIRE_LANES ? bytes < answers[m->what].head_bytes :
	    bytes != answers[m->what].head_bytes +
			     m->nr * (uint64_t)answers[m->what].record_bytes)
		return -EMSGSIZE;
	switch (m->what) {
	case WIRE_STATUS:
		return check_status(records);
	case WIRE_PROBES:
		return check_probes(records, m->nr);
	case WIRE_CLIENTS:
		return check_clients(records, m->nr);
	case WIRE_EXPLAIN:
		return check_explain(records);
	case WIRE_LANES:
		return check_lanes(records, bytes);
	case WIRE_CHANGES:
		return check_changes(records, m->nr);
	}
	return -EPROTO;
}

int wire_admin_check(const void *msg, size_t got)
{
	const struct wire_head *head = msg;
	int (*check)(const void *, size_t) = NULL;
	int err;

	if (got < sizeof(*head))
		return -EMSGSIZE;
	if (head->kind == WIRE_QUERY)
		check = check_query;
	else if (head->kind == WIRE_ANSWER)
		check = check_answer;
	else if (head->kind == WIRE_CHANGE)
		check = check_change;
	else if (head->kind == WIRE_PROBE)
		check = check_probe_change;
	if (!check)
		return wire_check(msg, got);
	err = wire_head_check(msg, got);
	return err ? err : check(msg, got);
}

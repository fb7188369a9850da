/*
 * Fuzzing the checks of the control protocol, for both of its ends: a message of any bytes, or with
 * the head of one that is well-formed, is refused or can be read as its kind says without leaving
 * it. What the worker does with it then is messages.c. Run by tests/fuzz/run.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>

#include "shm/wire_admin.h"
#include "tests/fuzz/fuzz.h"

static volatile uint64_t sink;

static void touch(const void *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		sink += ((const unsigned char *)bytes)[i];
}

/* Every entry lies in the message, and a message made of them is the same one. */
static void entries(const struct wire_register *m)
{
	struct wire_register *copy = calloc(1, WIRE_MAX);
	const struct wire_entry *e;
	size_t at = 0;
	uint32_t nr = 0;
	int err = 0;

	fuzz_check(copy != NULL);
	copy->head = m->head;
	while ((e = wire_entry_next(m, &at, &err))) {
		const char *help = e->bytes + e->name_bytes;

		nr++;
		touch(e, sizeof(*e) + e->name_bytes + e->help_bytes + e->label_bytes);
		fuzz_check(wire_entry_put(copy, e, e->bytes, help, help + e->help_bytes) == 0);
	}
	fuzz_check(!err && nr == m->nr && copy->head.length == m->head.length);
	fuzz_check(wire_admin_check(copy, copy->head.length) == 0);
	free(copy);
}

static void results(const struct wire_registered *m)
{
	const char *texts = (const char *)&m->results[m->nr];

	for (uint32_t i = 0; i < m->nr; i++) {
		fuzz_check(m->results[i].slot < SHM_SLOTS_MAX);
		if (m->results[i].err)
			sink += strlen(texts + m->results[i].text_at);
	}
}

static void change(const struct wire_change *m)
{
	const char *name = m->names;

	for (uint32_t i = 0; i < m->nr; i++, name += strlen(name) + 1)
		fuzz_check(strlen(name) < WIRE_NAME_MAX);
	fuzz_check(name == m->names + m->bytes);
}

static void probe_change(const struct wire_probe_change *m)
{
	fuzz_check(m->bytes < WIRE_TEXT_MAX && !memchr(m->text, 0, m->bytes));
	fuzz_check(m->op >= WIRE_PROBE_ATTACH && m->op <= WIRE_PROBE_COST);
}

static void status(const struct wire_status *s)
{
	sink += strlen(s->version) + strlen(s->vector) + strlen(s->socket) +
		strlen(s->state_folder) + strlen(s->name_space) + strlen(s->sandbox);
}

static void answer(const struct wire_answer *m)
{
	const void *records = m->records;
	const struct wire_changes *changes = records;
	const struct wire_lanes *l = records;
	const struct wire_client *clients = records;
	const struct wire_probe *probes = records;

	switch (m->what) {
	case WIRE_STATUS:
		status(records);
		break;
	case WIRE_EXPLAIN:
		touch(records, sizeof(struct wire_explain));
		break;
	case WIRE_LANES:
		touch(l->lanes, l->cpus_nr * sizeof(l->lanes[0]));
		break;
	case WIRE_CHANGES:
		for (uint32_t i = 0; i < m->nr; i++)
			touch(changes->changes[i].name, changes->changes[i].name_len);
		break;
	case WIRE_CLIENTS:
		for (uint32_t i = 0; i < m->nr; i++)
			sink += strlen(clients[i].app);
		break;
	case WIRE_PROBES:
		for (uint32_t i = 0; i < m->nr; i++)
			sink += strlen(probes[i].name) + strlen(probes[i].attach) +
				strlen(probes[i].counters) + strlen(probes[i].reason) +
				strlen(probes[i].fix) + strlen(probes[i].unpinned_why);
		break;
	default:
		fuzz_check(!"an answer to no question");
	}
}

static void read_checked(const struct wire_head *head)
{
	const void *m = head;
	const struct wire_hello *hello = m;
	const struct wire_error *error = m;
	const struct wire_query *query = m;

	switch (head->kind) {
	case WIRE_HELLO:
		sink += strlen(hello->name_space) + strlen(hello->app);
		break;
	case WIRE_ERROR:
		fuzz_check(strlen(error->text) < WIRE_TEXT_MAX && error->err < 0);
		break;
	case WIRE_REGISTER:
		entries(m);
		break;
	case WIRE_REGISTERED:
		results(m);
		break;
	case WIRE_CHANGE:
		change(m);
		break;
	case WIRE_PROBE:
		probe_change(m);
		break;
	case WIRE_QUERY:
		fuzz_check(!memchr(query->name, 0, query->name_bytes));
		break;
	case WIRE_ANSWER:
		answer(m);
		break;
	}
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return 0;
}

/* In memory of just its size, so that a look behind its end is seen. The first byte: has it a good
 * head? */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct wire_head good = { WIRE_MAGIC, WIRE_VERSION, 0, 1, (uint32_t)size - 1 };
	struct wire_head *m;
	int err;

	if (!size)
		return -1;
	size--;
	m = malloc(size ? size : 1);
	fuzz_check(m != NULL);
	memcpy(m, data + 1, size);
	if (size >= sizeof(*m) && data[0] < 128) {
		*m = good;
		m->kind = data[0] % 32;
	}
	err = wire_admin_check(m, size);
	fuzz_check(err == 0 || err == -EPROTO || err == -EMSGSIZE || err == -EPROTONOSUPPORT);
	if (!err)
		read_checked(m);
	free(m);
	return 0;
}

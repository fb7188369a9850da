/* See messages.h. */
#include "tests/lib/messages.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/test.h"

_Alignas(8) char buffer[WIRE_MAX];

struct wire_head head_of(uint16_t kind, size_t length)
{
	return (struct wire_head){ WIRE_MAGIC, WIRE_VERSION, kind, 7, (uint32_t)length };
}

struct wire_hello *make_hello(void)
{
	struct wire_hello *m = (void *)buffer;

	memset(m, 0, sizeof(*m));
	m->head = head_of(WIRE_HELLO, sizeof(*m));
	m->abi = SHM_ABI;
	m->access = WIRE_WRITE;
	strcpy(m->name_space, "default");
	return m;
}

struct wire_register *make_register(unsigned int nr)
{
	struct wire_register *m = (void *)buffer;

	memset(m, 0, sizeof(*m));
	m->head = head_of(WIRE_REGISTER, sizeof(*m));
	for (unsigned int i = 0; i < nr; i++) {
		char name[64];
		struct wire_entry e = { .type = SHM_COUNTER, .help_bytes = 4 };

		e.name_bytes = (uint16_t)snprintf(name, sizeof(name), "unit_%u_total", i);
		assert_int_equal(wire_entry_put(m, &e, name, "help", NULL), 0);
	}
	return m;
}

struct wire_registered *make_registered(unsigned int nr, const char *text)
{
	struct wire_registered *m = (void *)buffer;
	size_t text_bytes = strlen(text) + 1;

	memset(m, 0, sizeof(*m));
	m->nr = nr;
	m->text_bytes = (uint32_t)text_bytes;
	for (unsigned int i = 0; i < nr; i++)
		m->results[i] = (struct wire_result){ .slot = 3 + i, .generation = 1 };
	memcpy(&m->results[nr], text, text_bytes);
	m->head = head_of(WIRE_REGISTERED, sizeof(*m) + nr * sizeof(m->results[0]) + text_bytes);
	return m;
}

struct wire_error *make_error(const char *text)
{
	struct wire_error *m = (void *)buffer;

	m->err = -EACCES;
	m->text_bytes = (uint32_t)strlen(text) + 1;
	strcpy(m->text, text);
	m->head = head_of(WIRE_ERROR, offsetof(struct wire_error, text) + m->text_bytes);
	return m;
}

struct wire_answer *make_answer(uint32_t what, uint32_t nr, size_t record)
{
	struct wire_answer *m = (void *)buffer;

	memset(m, 0, sizeof(*m) + nr * record);
	m->what = what;
	m->nr = nr;
	m->head = head_of(WIRE_ANSWER, sizeof(*m) + nr * record);
	return m;
}

struct wire_change *make_change(uint32_t op, unsigned int nr)
{
	struct wire_change *m = (void *)buffer;

	memset(m, 0, sizeof(*m));
	m->op = op;
	for (; m->nr < nr; m->nr++)
		m->bytes += 1 + (uint32_t)sprintf(m->names + m->bytes, "likes{post=\"%u\"}", m->nr);
	m->head = head_of(WIRE_CHANGE, sizeof(*m) + m->bytes);
	return m;
}

struct wire_probe_change *make_probe(uint32_t op, const char *text)
{
	struct wire_probe_change *m = (void *)buffer;

	*m = (struct wire_probe_change){ .op = op, .bytes = (uint32_t)strlen(text) };
	memcpy(m->text, text, m->bytes);
	m->head = head_of(WIRE_PROBE, sizeof(*m) + m->bytes);
	return m;
}

struct wire_query *make_query(uint32_t what, const char *name)
{
	struct wire_query *m = (void *)buffer;

	*m = (struct wire_query){ .what = what, .name_bytes = (uint32_t)strlen(name) };
	memcpy(m->name, name, m->name_bytes);
	m->head = head_of(WIRE_QUERY, sizeof(*m) + m->name_bytes);
	return m;
}

/* An answer's records; their head, if they have one, is zero. */
void *make_records(uint32_t what, uint32_t nr, size_t head, size_t record)
{
	struct wire_answer *m = (void *)buffer;

	memset(m, 0, sizeof(*m) + head + nr * record);
	m->what = what;
	m->nr = nr;
	m->head = head_of(WIRE_ANSWER, sizeof(*m) + head + nr * record);
	return m->records;
}

struct wire_lanes *make_lanes(uint32_t cpus_nr)
{
	struct wire_lanes *l = make_records(WIRE_LANES, 1, sizeof(*l), cpus_nr * 8ul);

	l->cpus_nr = cpus_nr;
	l->row = cpus_nr ? 17 : SHM_ROW_NONE;
	return l;
}

struct wire_changes *make_changes(uint32_t nr)
{
	struct wire_changes *c = make_records(WIRE_CHANGES, nr, sizeof(*c), sizeof(c->changes[0]));

	for (uint32_t i = 0; i < nr; i++)
		c->changes[i].name_len = sizeof(c->changes[i].name);
	return c;
}

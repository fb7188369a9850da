/*
 * The checks of the control protocol: every message that wire_check passes can be read by its struct,
 * and everything else is refused with the reason that wire.h promises.
 */
#include "tests/lib/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "shm/wire.h"

static _Alignas(8) char buffer[WIRE_MAX];

static struct wire_head head_of(uint16_t kind, size_t length)
{
	return (struct wire_head){ WIRE_MAGIC, WIRE_VERSION, kind, 7, (uint32_t)length };
}

static struct wire_hello *make_hello(void)
{
	struct wire_hello *m = (void *)buffer;

	memset(m, 0, sizeof(*m));
	m->head = head_of(WIRE_HELLO, sizeof(*m));
	m->abi = SHM_ABI;
	m->access = WIRE_WRITE;
	strcpy(m->name_space, "default");
	return m;
}

static struct wire_register *make_register(unsigned int nr)
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

static struct wire_registered *make_registered(unsigned int nr, const char *text)
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

static struct wire_error *make_error(const char *text)
{
	struct wire_error *m = (void *)buffer;

	m->err = -EACCES;
	m->text_bytes = (uint32_t)strlen(text) + 1;
	strcpy(m->text, text);
	m->head = head_of(WIRE_ERROR, offsetof(struct wire_error, text) + m->text_bytes);
	return m;
}

static struct wire_answer *make_answer(uint32_t what, uint32_t nr, size_t record)
{
	struct wire_answer *m = (void *)buffer;

	memset(m, 0, sizeof(*m) + nr * record);
	m->what = what;
	m->nr = nr;
	m->head = head_of(WIRE_ANSWER, sizeof(*m) + nr * record);
	return m;
}

static struct wire_change *make_change(uint32_t op, unsigned int nr)
{
	struct wire_change *m = (void *)buffer;

	memset(m, 0, sizeof(*m));
	m->op = op;
	for (; m->nr < nr; m->nr++)
		m->bytes += 1 + (uint32_t)sprintf(m->names + m->bytes, "likes{post=\"%u\"}", m->nr);
	m->head = head_of(WIRE_CHANGE, sizeof(*m) + m->bytes);
	return m;
}

static struct wire_query *make_query(uint32_t what, const char *name)
{
	struct wire_query *m = (void *)buffer;

	*m = (struct wire_query){ .what = what, .name_bytes = (uint32_t)strlen(name) };
	memcpy(m->name, name, m->name_bytes);
	m->head = head_of(WIRE_QUERY, sizeof(*m) + m->name_bytes);
	return m;
}

/* An answer's records; their head, if they have one, is zero. */
static void *make_records(uint32_t what, uint32_t nr, size_t head, size_t record)
{
	struct wire_answer *m = (void *)buffer;

	memset(m, 0, sizeof(*m) + head + nr * record);
	m->what = what;
	m->nr = nr;
	m->head = head_of(WIRE_ANSWER, sizeof(*m) + head + nr * record);
	return m->records;
}

static struct wire_lanes *make_lanes(uint32_t cpus_nr)
{
	struct wire_lanes *l = make_records(WIRE_LANES, 1, sizeof(*l), cpus_nr * 8ul);

	l->cpus_nr = cpus_nr;
	l->row = cpus_nr ? 17 : SHM_ROW_NONE;
	return l;
}

static struct wire_changes *make_changes(uint32_t nr)
{
	struct wire_changes *c = make_records(WIRE_CHANGES, nr, sizeof(*c), sizeof(c->changes[0]));

	for (uint32_t i = 0; i < nr; i++)
		c->changes[i].name_len = sizeof(c->changes[i].name);
	return c;
}

static int check(void)
{
	return wire_check(buffer, ((struct wire_head *)(void *)buffer)->length);
}

static void well_formed_messages_pass(void **state)
{
	struct wire_head *h = (void *)buffer;

	(void)state;
	make_hello();
	assert_int_equal(check(), 0);
	make_register(3);
	assert_int_equal(check(), 0);
	make_registered(3, "why");
	assert_int_equal(check(), 0);
	make_error("no");
	assert_int_equal(check(), 0);
	make_answer(WIRE_STATUS, 1, sizeof(struct wire_status));
	assert_int_equal(check(), 0);
	make_answer(WIRE_PROBES, 2, sizeof(struct wire_probe));
	assert_int_equal(check(), 0);
	make_answer(WIRE_PROBES, 0, 0);
	assert_int_equal(check(), 0);
	*h = head_of(WIRE_RESUME, sizeof(struct wire_resume));
	assert_int_equal(check(), 0);
	make_query(WIRE_STATUS, "");
	assert_int_equal(check(), 0);
	make_query(WIRE_EXPLAIN, "likes_total{post=\"42\"}");
	assert_int_equal(check(), 0);
	make_change(WIRE_FORGET, 3);
	assert_int_equal(check(), 0);
	make_records(WIRE_CLIENTS, WIRE_CLIENTS_MAX, 0, sizeof(struct wire_client));
	assert_int_equal(check(), 0);
	make_records(WIRE_EXPLAIN, 1, 0, sizeof(struct wire_explain));
	assert_int_equal(check(), 0);
	make_lanes(SHM_CPUS_MAX);
	assert_int_equal(check(), 0);
	make_lanes(0);
	assert_int_equal(check(), 0);
	make_changes(WIRE_CHANGES_MAX);
	assert_int_equal(check(), 0);
}

static void a_change_names_exactly_as_many_as_it_says(void **state)
{
	struct wire_change *m;

	(void)state;
	make_change(WIRE_PIN_HOT, 3)->nr = 2;
	assert_int_equal(check(), -EPROTO);
	make_change(WIRE_PIN_HOT, 3)->nr = 4;
	assert_int_equal(check(), -EPROTO);
	make_change(WIRE_PIN_HOT, 0);
	assert_int_equal(check(), -EPROTO);
	make_change(WIRE_PIN_HOT, WIRE_ENTRIES_MAX);
	assert_int_equal(check(), 0);
	make_change(WIRE_PIN_HOT, WIRE_ENTRIES_MAX + 1);
	assert_int_equal(check(), -EPROTO);
	make_change(WIRE_PIN_HOT, 3)->bytes += 1;
	assert_int_equal(check(), -EMSGSIZE);
	make_change(WIRE_PIN_HOT, 3)->bytes = 0xfffffff0;
	assert_int_equal(check(), -EMSGSIZE);
	m = make_change(WIRE_PIN_HOT, 1);
	m->names[m->bytes - 1] = '!';
	assert_int_equal(check(), -EPROTO);
	make_change(0, 1);
	assert_int_equal(check(), -EPROTO);
	make_change(WIRE_ACCEPT + 1, 1);
	assert_int_equal(check(), -EPROTO);
}

static void names_longer_than_any_counter_are_refused(void **state)
{
	struct wire_change *m;
	struct wire_query *q;

	(void)state;
	for (uint32_t len = WIRE_NAME_MAX - 1; len <= WIRE_NAME_MAX; len++) {
		m = make_change(WIRE_FORGET, 0);
		m->nr = 1;
		m->bytes = len + 1;
		memset(m->names, 'a', len);
		m->names[len] = '\0';
		m->head = head_of(WIRE_CHANGE, sizeof(*m) + m->bytes);
		assert_int_equal(check(), len < WIRE_NAME_MAX ? 0 : -EPROTO);
		q = make_query(WIRE_EXPLAIN, "");
		q->name_bytes = len;
		memset(q->name, 'a', len);
		q->head = head_of(WIRE_QUERY, sizeof(*q) + len);
		assert_int_equal(check(), len < WIRE_NAME_MAX ? 0 : -EMSGSIZE);
	}
	make_query(WIRE_EXPLAIN, "likes")->name[2] = '\0';
	assert_int_equal(check(), -EPROTO);
	make_query(WIRE_EXPLAIN, "likes")->name_bytes = 0xffffffff;
	assert_int_equal(check(), -EMSGSIZE);
}

static void answers_with_more_than_they_hold_are_refused(void **state)
{
	struct wire_explain *e;
	struct wire_lanes *l;

	(void)state;
	make_answer(WIRE_CHANGES + 1, 1, 8);
	assert_int_equal(check(), -EPROTO);
	make_records(WIRE_CLIENTS, WIRE_CLIENTS_MAX + 1, 0, sizeof(struct wire_client));
	assert_int_equal(check(), -EPROTO);
	make_records(WIRE_CHANGES, 2, sizeof(struct wire_changes), sizeof(struct change_shm));
	((struct wire_answer *)(void *)buffer)->nr = 3;
	assert_int_equal(check(), -EMSGSIZE);
	make_changes(2)->changes[1].name_len = sizeof(((struct change_shm *)0)->name) + 1;
	assert_int_equal(check(), -EPROTO);
	make_lanes(4)->cpus_nr = 5;
	assert_int_equal(check(), -EMSGSIZE);
	make_lanes(4)->cpus_nr = SHM_CPUS_MAX + 1;
	assert_int_equal(check(), -EPROTO);
	make_lanes(4)->row = SHM_ROW_NONE;
	assert_int_equal(check(), -EPROTO);
	l = make_lanes(4);
	l->slot = SHM_SLOTS_MAX;
	assert_int_equal(check(), -EPROTO);
	e = make_records(WIRE_EXPLAIN, 1, 0, sizeof(*e));
	e->heat = WIRE_RETIRING + 1;
	assert_int_equal(check(), -EPROTO);
	e = make_records(WIRE_EXPLAIN, 1, 0, sizeof(*e));
	e->pin = WIRE_RULE_NO + 1;
	assert_int_equal(check(), -EPROTO);
}

static void a_thousand_registrations_fit_one_message(void **state)
{
	struct wire_register *m;
	size_t at = 0;
	int err = 0, nr = 0;

	(void)state;
	m = make_register(1000);
	assert_int_equal(check(), 0);
	for (const struct wire_entry *e; (e = wire_entry_next(m, &at, &err)); nr++) {
		char want[64];

		snprintf(want, sizeof(want), "unit_%d_total", nr);
		assert_int_equal(e->name_bytes, strlen(want));
		assert_memory_equal(e->bytes, want, e->name_bytes);
		assert_memory_equal(e->bytes + e->name_bytes, "help", 4);
	}
	assert_int_equal(nr, 1000);
	assert_int_equal(err, 0);
}

static void cut_off_messages_of_every_kind_are_refused(void **state)
{
	(void)state;
	for (int kind = 0; kind < 9; kind++) {
		struct wire_head *h = (void *)buffer;
		uint32_t whole;

		switch (kind) {
		case 0: make_hello(); break;
		case 1: make_register(2); break;
		case 2: make_registered(2, "why"); break;
		case 3: make_error("why"); break;
		case 4: make_change(WIRE_FORGET, 3); break;
		case 5: make_query(WIRE_LANES, "likes_total"); break;
		case 6: make_lanes(2); break;
		case 7: make_changes(2); break;
		default: make_answer(WIRE_STATUS, 1, sizeof(struct wire_status));
		}
		whole = h->length;
		for (uint32_t cut = 0; cut < whole; cut++) {
			assert_int_equal(wire_check(buffer, cut), -EMSGSIZE);
			h->length = cut;
			assert_true(cut < sizeof(*h) || wire_check(buffer, cut) < 0);
			h->length = whole;
		}
		assert_int_equal(wire_check(buffer, whole), 0);
		assert_int_equal(wire_check(buffer, whole + 1), -EMSGSIZE);
	}
}

static void another_magic_version_or_kind_is_refused(void **state)
{
	struct wire_hello *m;

	(void)state;
	m = make_hello();
	m->head.magic ^= 1;
	assert_int_equal(check(), -EPROTO);
	m = make_hello();
	m->head.version++;
	assert_int_equal(check(), -EPROTONOSUPPORT);
	for (unsigned int kind = 0; kind < 65536; kind++) {
		bool is_reserved = kind >= WIRE_RING && kind <= WIRE_KIND_RESERVED_LAST;

		m = make_hello();
		m->head.kind = (uint16_t)kind;
		if (kind >= WIRE_HELLO && kind <= WIRE_CHANGE)
			continue;
		assert_int_equal(check(), is_reserved ? 0 : -EPROTO);
	}
}

static void strings_without_an_end_are_refused(void **state)
{
	struct wire_answer *a;
	struct wire_client *c;
	struct wire_probe *p;
	struct wire_hello *m;

	(void)state;
	m = make_hello();
	memset(m->name_space, 'a', sizeof(m->name_space));
	assert_int_equal(check(), -EPROTO);
	m = make_hello();
	memset(m->app, 'a', sizeof(m->app));
	assert_int_equal(check(), -EPROTO);
	a = make_answer(WIRE_STATUS, 1, sizeof(struct wire_status));
	memset(((struct wire_status *)(void *)a->records)->socket, 'a', 112);
	assert_int_equal(check(), -EPROTO);
	a = make_answer(WIRE_STATUS, 1, sizeof(struct wire_status));
	memset(((struct wire_status *)(void *)a->records)->sandbox, 'a', 128);
	assert_int_equal(check(), -EPROTO);
	c = make_records(WIRE_CLIENTS, 1, 0, sizeof(*c));
	memset(c->app, 'a', sizeof(c->app));
	assert_int_equal(check(), -EPROTO);
	a = make_answer(WIRE_PROBES, 2, sizeof(*p));
	p = (void *)a->records;
	memset(p[1].fix, 'a', sizeof(p[1].fix));
	assert_int_equal(check(), -EPROTO);
	make_error("why")->text[3] = '!';
	assert_int_equal(check(), -EPROTO);
	make_registered(1, "why");
	buffer[((struct wire_head *)(void *)buffer)->length - 1] = '!';
	assert_int_equal(check(), -EPROTO);
}

static void entries_that_overrun_or_miscount_are_refused(void **state)
{
	struct wire_register *m;
	struct wire_entry *e;

	(void)state;
	m = make_register(2);
	e = (void *)m->entries;
	e->name_bytes = 60000;
	assert_int_equal(check(), -EPROTO);
	m = make_register(2);
	e = (void *)m->entries;
	e->help_bytes += 64;
	assert_int_equal(check(), -EPROTO);
	m = make_register(2);
	e = (void *)m->entries;
	e->name_bytes = 0;
	assert_int_equal(check(), -EPROTO);
	make_register(2)->nr = 1;
	assert_int_equal(check(), -EPROTO);
	make_register(2)->nr = 3;
	assert_int_equal(check(), -EPROTO);
	make_register(2)->nr = 0xffffffff;
	assert_int_equal(check(), -EPROTO);
	make_register(0);
	assert_int_equal(check(), -EPROTO);
}

static void results_outside_the_region_or_the_texts_are_refused(void **state)
{
	struct wire_registered *m;

	(void)state;
	make_registered(2, "why")->results[1].slot = SHM_SLOTS_MAX;
	assert_int_equal(check(), -EPROTO);
	m = make_registered(2, "why");
	m->results[1].err = -EINVAL;
	m->results[1].text_at = 3;
	assert_int_equal(check(), 0);
	m->results[1].text_at = 4;
	assert_int_equal(check(), -EPROTO);
	make_registered(2, "why")->nr = 0x10000002;
	assert_int_equal(check(), -EPROTO);
	make_registered(2, "why")->text_bytes = 0xfffffff0;
	assert_int_equal(check(), -EMSGSIZE);
}

static void putting_stops_at_the_end_of_the_message(void **state)
{
	static char name[SHM_NAME_MAX];
	struct wire_entry e = { .type = SHM_COUNTER, .name_bytes = SHM_NAME_MAX,
				.help_bytes = SHM_NAME_MAX, .label_bytes = SHM_NAME_MAX };
	struct wire_register *m;
	int nr = 0;

	(void)state;
	memset(name, 'x', sizeof(name));
	m = make_register(0);
	while (wire_entry_put(m, &e, name, name, name) == 0)
		nr++;
	assert_true(nr > 30);
	assert_int_equal(m->nr, nr);
	assert_true(m->head.length <= WIRE_MAX);
	assert_int_equal(check(), 0);
	m = make_register(WIRE_ENTRIES_MAX);
	assert_int_equal(check(), 0);
	e = (struct wire_entry){ .type = SHM_COUNTER, .name_bytes = 1 };
	assert_int_equal(wire_entry_put(m, &e, "x", NULL, NULL), -EMSGSIZE);
}

static unsigned long read_answer_as_a_receiver_would(const struct wire_answer *a)
{
	const struct wire_lanes *l = (const void *)a->records;
	const struct wire_changes *c = (const void *)a->records;
	unsigned long sum = 0;

	if (a->what == WIRE_PROBES && a->nr)
		sum += strlen(((const struct wire_probe *)(const void *)a->records)[a->nr - 1].fix);
	if (a->what == WIRE_CLIENTS && a->nr)
		sum += strlen(((const struct wire_client *)(const void *)a->records)[a->nr - 1].app);
	for (uint32_t i = 0; a->what == WIRE_LANES && i < l->cpus_nr; i++)
		sum += l->lanes[i];
	for (uint32_t i = 0; a->what == WIRE_CHANGES && i < a->nr; i++)
		for (uint32_t k = 0; k < c->changes[i].name_len; k++)
			sum += (unsigned char)c->changes[i].name[k];
	return sum;
}

/* Touches every byte that a passed message promises; the sum keeps the reads. */
static unsigned long read_as_a_receiver_would(const char *msg)
{
	const struct wire_head *h = (const void *)msg;
	const struct wire_register *r = (const void *)msg;
	const struct wire_registered *d = (const void *)msg;
	unsigned long sum = 0;
	size_t at = 0;
	int err = 0;

	if (h->kind == WIRE_REGISTER) {
		for (const struct wire_entry *e; (e = wire_entry_next(r, &at, &err));) {
			for (unsigned int i = 0; i < e->name_bytes; i++)
				sum += (unsigned char)e->bytes[i];
			sum += (unsigned char)e->bytes[e->name_bytes + e->help_bytes +
						       e->label_bytes - 1];
		}
		assert_int_equal(err, 0);
	} else if (h->kind == WIRE_REGISTERED) {
		const char *texts = (const char *)&d->results[d->nr];

		for (uint32_t i = 0; i < d->nr; i++)
			sum += d->results[i].err ? strlen(texts + d->results[i].text_at) : 0;
	} else if (h->kind == WIRE_HELLO) {
		sum += strlen(((const struct wire_hello *)(const void *)msg)->name_space);
	} else if (h->kind == WIRE_ERROR) {
		sum += strlen(((const struct wire_error *)(const void *)msg)->text);
	} else if (h->kind == WIRE_CHANGE) {
		const struct wire_change *c = (const void *)msg;
		const char *name = c->names;

		for (uint32_t i = 0; i < c->nr; i++, name += strlen(name) + 1)
			sum += strlen(name);
	} else if (h->kind == WIRE_QUERY) {
		const struct wire_query *q = (const void *)msg;

		for (uint32_t i = 0; i < q->name_bytes; i++)
			sum += (unsigned char)q->name[i];
	} else if (h->kind == WIRE_ANSWER) {
		sum += read_answer_as_a_receiver_would((const void *)msg);
	}
	return sum;
}

static uint64_t random_state = 0x9e3779b97f4a7c15ull;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static void make_any(void)
{
	switch (next_random() % 11) {
	case 0: make_hello(); break;
	case 1: make_register(1 + next_random() % 6); break;
	case 2: make_registered(1 + next_random() % 6, "one sentence"); break;
	case 3: make_error("what, why, what to do"); break;
	case 4: make_answer(WIRE_STATUS, 1, sizeof(struct wire_status)); break;
	case 5: make_change(1 + next_random() % 5, 1 + next_random() % 6); break;
	case 6: make_query(1 + next_random() % 6, "likes_total"); break;
	case 7: make_lanes(next_random() % 9); break;
	case 8: make_changes(next_random() % 5); break;
	case 9: make_records(WIRE_CLIENTS, next_random() % 5, 0, sizeof(struct wire_client)); break;
	default: make_answer(WIRE_PROBES, 2, sizeof(struct wire_probe));
	}
}

/* The message ends where a page without access begins: one byte read too many is a fault. */
static void mutated_messages_are_refused_or_read_inside_their_bounds(void **state)
{
	size_t room = 64 * 1024;
	char *area = mmap(NULL, room + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);
	unsigned long passed = 0, refused = 0, sum = 0;

	(void)state;
	assert_true(area != MAP_FAILED);
	assert_int_equal(mprotect(area + room, 4096, PROT_NONE), 0);
	for (int round = 0; round < 200000; round++) {
		struct wire_head *h = (void *)buffer;
		size_t got, flips = next_random() % 6;
		char *msg;

		make_any();
		got = h->length;
		for (size_t i = 0; i < flips; i++) {
			/* Counts and lengths stand in front: most flips go there. */
			size_t where = next_random() % (next_random() & 1 ? got : 48) % got;

			buffer[where] = (char)(next_random() & 1 ? next_random() : 0xff);
		}
		if (next_random() % 4 == 0) {
			got = sizeof(*h) + next_random() % (got - sizeof(*h) + 1);
			got &= ~7ull;
		}
		if (next_random() & 1)
			h->length = (uint32_t)got;
		msg = area + ((room - got) & ~7ull);
		/* A tail of up to 7 bytes would hide an overrun: only whole words are tried there. */
		memcpy(msg, buffer, got);
		if (wire_check(msg, got)) {
			refused++;
			continue;
		}
		passed++;
		sum += read_as_a_receiver_would(msg);
	}
	assert_true(passed > 10000);
	assert_true(refused > 10000);
	assert_true(sum > 0);
	munmap(area, room + 4096);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(well_formed_messages_pass),
		cmocka_unit_test(a_change_names_exactly_as_many_as_it_says),
		cmocka_unit_test(names_longer_than_any_counter_are_refused),
		cmocka_unit_test(answers_with_more_than_they_hold_are_refused),
		cmocka_unit_test(a_thousand_registrations_fit_one_message),
		cmocka_unit_test(cut_off_messages_of_every_kind_are_refused),
		cmocka_unit_test(another_magic_version_or_kind_is_refused),
		cmocka_unit_test(strings_without_an_end_are_refused),
		cmocka_unit_test(entries_that_overrun_or_miscount_are_refused),
		cmocka_unit_test(results_outside_the_region_or_the_texts_are_refused),
		cmocka_unit_test(putting_stops_at_the_end_of_the_message),
		cmocka_unit_test(mutated_messages_are_refused_or_read_inside_their_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

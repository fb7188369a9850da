/*
 * The checks of the control protocol: every message that wire_check passes can be read by its struct,
 * and everything else is refused with the reason that wire.h promises.
 */
#include "tests/lib/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/wire_admin.h"
#include "tests/lib/messages.h"

static int check(void)
{
	return wire_admin_check(buffer, ((struct wire_head *)(void *)buffer)->length);
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
	make_probe(WIRE_PROBE_ATTACH, "tp_btf:sched_switch by pid")->is_checked_only = 1;
	assert_int_equal(check(), 0);
	make_probe(WIRE_PROBE_DETACH, "sched_switch");
	assert_int_equal(check(), 0);
	make_probe(WIRE_PROBE_COST, "")->ms = WIRE_COST_MS_MAX;
	assert_int_equal(check(), 0);
	make_answer(WIRE_PROBES, WIRE_PROBES_MAX, sizeof(struct wire_probe));
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

static void an_order_about_probes_has_what_it_needs_and_no_more(void **state)
{
	static char text[WIRE_TEXT_MAX + 1];
	struct wire_probe_change *m;

	(void)state;
	memset(text, 'x', WIRE_TEXT_MAX);
	make_probe(WIRE_PROBE_ATTACH, text);
	assert_int_equal(check(), -EMSGSIZE);
	make_probe(WIRE_PROBE_ATTACH, text + 1);
	assert_int_equal(check(), 0);
	make_probe(WIRE_PROBE_ATTACH, "abc")->text[1] = '\0';
	assert_int_equal(check(), -EPROTO);
	make_probe(WIRE_PROBE_ATTACH, "abc")->bytes = 4;
	assert_int_equal(check(), -EMSGSIZE);
	make_probe(WIRE_PROBE_ATTACH, "");
	assert_int_equal(check(), -EPROTO);
	make_probe(WIRE_PROBE_DETACH, "");
	assert_int_equal(check(), -EPROTO);
	make_probe(WIRE_PROBE_DETACH, "x")->is_checked_only = 1;
	assert_int_equal(check(), -EPROTO);
	make_probe(WIRE_PROBE_ATTACH, "x")->is_checked_only = 2;
	assert_int_equal(check(), -EPROTO);
	make_probe(0, "x");
	assert_int_equal(check(), -EPROTO);
	make_probe(WIRE_PROBE_COST + 1, "x");
	assert_int_equal(check(), -EPROTO);
	make_probe(WIRE_PROBE_COST, "");
	assert_int_equal(check(), -EPROTO);
	make_probe(WIRE_PROBE_COST, "")->ms = WIRE_COST_MS_MAX + 1;
	assert_int_equal(check(), -EPROTO);
	m = make_probe(WIRE_PROBE_COST, "x");
	m->ms = 100;
	assert_int_equal(check(), -EPROTO);
	make_answer(WIRE_PROBES, WIRE_PROBES_MAX + 1, sizeof(struct wire_probe));
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
	e->pin = SHM_HOT_NO + 1;
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
	for (int kind = 0; kind < 10; kind++) {
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
		case 8: make_probe(WIRE_PROBE_ATTACH, "raw_tp:x"); break;
		default: make_answer(WIRE_STATUS, 1, sizeof(struct wire_status));
		}
		whole = h->length;
		for (uint32_t cut = 0; cut < whole; cut++) {
			assert_int_equal(wire_admin_check(buffer, cut), -EMSGSIZE);
			h->length = cut;
			assert_true(cut < sizeof(*h) || wire_admin_check(buffer, cut) < 0);
			h->length = whole;
		}
		assert_int_equal(wire_admin_check(buffer, whole), 0);
		assert_int_equal(wire_admin_check(buffer, whole + 1), -EMSGSIZE);
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
		if (kind >= WIRE_HELLO && kind <= WIRE_PROBE)
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
	a = make_answer(WIRE_PROBES, 2, sizeof(*p));
	p = (void *)a->records;
	memset(p[1].unpinned_why, 'a', sizeof(p[1].unpinned_why));
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(well_formed_messages_pass),
		cmocka_unit_test(a_change_names_exactly_as_many_as_it_says),
		cmocka_unit_test(an_order_about_probes_has_what_it_needs_and_no_more),
		cmocka_unit_test(names_longer_than_any_counter_are_refused),
		cmocka_unit_test(answers_with_more_than_they_hold_are_refused),
		cmocka_unit_test(a_thousand_registrations_fit_one_message),
		cmocka_unit_test(cut_off_messages_of_every_kind_are_refused),
		cmocka_unit_test(another_magic_version_or_kind_is_refused),
		cmocka_unit_test(strings_without_an_end_are_refused),
		cmocka_unit_test(entries_that_overrun_or_miscount_are_refused),
		cmocka_unit_test(results_outside_the_region_or_the_texts_are_refused),
		cmocka_unit_test(putting_stops_at_the_end_of_the_message),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

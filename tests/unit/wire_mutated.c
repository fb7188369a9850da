/*
 * Messages spoilt at random: what wire_admin_check passes is read as a receiver reads it, with the
 * end of the message at the end of a page.
 */
#include "tests/lib/test.h"

#include <string.h>
#include <sys/mman.h>

#include "tests/lib/messages.h"

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
	} else if (h->kind == WIRE_PROBE) {
		const struct wire_probe_change *p = (const void *)msg;

		for (uint32_t i = 0; i < p->bytes; i++)
			sum += (unsigned char)p->text[i];
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
	switch (next_random() % 12) {
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
	case 10: make_probe(1 + next_random() % 4, "raw_tp:sys_enter by comm"); break;
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
		if (wire_admin_check(msg, got)) {
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
		cmocka_unit_test(mutated_messages_are_refused_or_read_inside_their_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

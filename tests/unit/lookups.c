/*
 * What a look-up may believe while members come and go: the rules of dir_matches, with controls that
 * take one away and must then be told a wrong answer, and an index that is built anew under a reader.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "tests/lib/harness.h"
#include "tests/lib/members.h"

/* --- looking up ------------------------------------------------------------------------------- */

struct rules {
	bool odd_even, again;
};

/* dir_matches, with something that happens between its loads and rules that can be taken away. */
static bool matches(uint32_t slot, const char *key, struct rules rules, void (*meanwhile)(void),
		    uint32_t *ret_generation)
{
	const struct slot_shm *s = dir_slot(space->d, slot);
	uint64_t route = shm_take(&s->route), name;
	const struct member_shm *m;

	if (meanwhile)
		meanwhile();
	name = shm_take(&s->name);
	if (rules.odd_even && !(slot_generation(route) & 1))
		return false;
	m = dir_member(space->d, name);
	if (name_length(name) != strlen(key) || memcmp(m->value, key, strlen(key)))
		return false;
	if (rules.again && shm_seq_read_retry(&s->route, route) &&
	    slot_generation(shm_count_read(&s->route)) != slot_generation(route))
		return false;
	*ret_generation = slot_generation(route);
	return true;
}

static uint32_t reused;

static void owner_changes(void)
{
	forget(reused);
	quarantine_pass();
	assert_int_equal(member("new"), reused);
}

static void a_look_up_never_mixes_two_owners_of_a_slot(void **state)
{
	const struct rules all = { true, true };
	uint32_t g = 0;

	(void)state;
	reused = member("old");
	assert_false(matches(reused, "new", all, owner_changes, &g));
	assert_true(matches(reused, "new", all, NULL, &g));
	assert_int_equal(g, generation(reused));
	forget(reused);
	assert_false(matches(reused, "new", all, NULL, &g));
}

static void control_without_the_second_look_at_the_generation_it_does(void **state)
{
	const struct rules without = { true, false };
	uint32_t g = 0;

	(void)state;
	reused = member("old");
	assert_true(matches(reused, "new", without, owner_changes, &g));
	/* The name of one with the generation of the other: each add to "new" would count as late. */
	assert_int_not_equal(g, generation(reused));
}

static void control_without_odd_and_even_it_finds_who_is_gone(void **state)
{
	const struct rules without = { false, true };
	uint32_t g = 0;

	(void)state;
	reused = member("old");
	forget(reused);
	assert_true(matches(reused, "old", without, NULL, &g));
	/* And an add that compares this generation counts in a cell that is nobody's. */
	assert_int_equal(g, generation(reused));
	grace();
	shm_count_add(cell(reused), 1);
	fold();
	assert_int_equal(total(removed), 0);
	assert_int_equal(space->t->strays_nr, 1);
}

/* --- the index -------------------------------------------------------------------------------- */

#define KEPT 300u
#define CHURN 200u

struct looker {
	pthread_t thread;
	uint32_t is_over;
	uint32_t round; /* whose keys come and go now */
	uint32_t slots[KEPT], generations[KEPT];
	uint64_t misses, wrong, found;
};

static void key_of(uint32_t i, char prefix, char *ret)
{
	snprintf(ret, 16, "%c%06u", prefix, i);
}

/* What was found is this key's, or is not that owner's any more. */
static bool is_keys(uint32_t slot, uint32_t g, const char *key)
{
	const struct slot_shm *s = dir_slot(space->d, slot);
	uint64_t name = shm_take(&s->name);
	char value[16] = { 0 };

	memcpy(value, dir_member(space->d, name)->value, name_length(name) & 15);
	return !strcmp(value, key) ||
	       (shm_seq_read_retry(&s->route, 0) && slot_generation(shm_take(&s->route)) != g);
}

static void *looker_run(void *arg)
{
	struct looker *l = arg;
	char key[16];
	uint32_t g, slot;

	test_seqlock_begin();
	for (uint32_t i = 0; !shm_take32(&l->is_over); i++) {
		key_of(i % KEPT, 'k', key);
		slot = find(key, &g);
		l->misses += slot == SHM_SLOT_NONE;
		l->wrong += slot != SHM_SLOT_NONE &&
			    (slot != l->slots[i % KEPT] || g != l->generations[i % KEPT]);
		key_of(shm_read32(&l->round) * CHURN + i % CHURN, 'c', key);
		slot = find(key, &g);
		if (slot != SHM_SLOT_NONE)
			shm_count_add(&l->found, 1);
		l->wrong += slot != SHM_SLOT_NONE && (!(g & 1) || !is_keys(slot, g, key));
	}
	test_seqlock_end();
	return NULL;
}

/* Other keys in each round, or they would lie where their tombstones were. */
static void churn(struct looker *l, uint32_t rounds_nr)
{
	static uint32_t slots[CHURN];
	char key[16];

	for (uint32_t round = 0; round < rounds_nr; round++) {
		for (uint32_t i = 0; i < CHURN; i++) {
			key_of(l->round * CHURN + i, 'c', key);
			slots[i] = member(key);
			shm_count_add(cell(slots[i]), i);
		}
		for (uint32_t i = 0; i < CHURN; i++)
			forget(slots[i]);
		quarantine_pass();
		shm_set32(&l->round, l->round + 1);
	}
}

static void an_index_built_anew_under_a_reader_hides_no_one(void **state)
{
	uint32_t rounds_nr = (uint32_t)harness_times(60, 2000), rounds = 1, slots_nr, order;
	static struct looker l;
	uint64_t sequence;
	char key[16];

	(void)state;
	memset(&l, 0, sizeof(l));
	for (uint32_t i = 0; i < KEPT; i++) {
		key_of(i, 'k', key);
		l.slots[i] = member(key);
		l.generations[i] = generation(l.slots[i]);
	}
	churn(&l, 1);
	slots_nr = space_slots_nr(space);
	sequence = space->d->index_word >> 6;
	order = index_order(space->d->index_word);
	assert_int_equal(pthread_create(&l.thread, NULL, looker_run, &l), 0);
	/* Until the reader has run while a key was there: on a busy machine that takes more rounds. */
	do {
		churn(&l, rounds_nr);
		rounds += rounds_nr;
	} while (!shm_count_read(&l.found) && rounds < 100 * rounds_nr);
	shm_publish32(&l.is_over, 1);
	pthread_join(l.thread, NULL);
	print_message("# %u rounds: the index was built anew %llu times, %llu found what went\n",
		      rounds, (unsigned long long)((space->d->index_word >> 6) - sequence),
		      (unsigned long long)l.found);
	assert_int_equal(l.misses, 0);
	assert_int_equal(l.wrong, 0);
	assert_true(l.found);
	assert_true((space->d->index_word >> 6) > sequence);
	/* 300 and at most 200 of 1024: there is room, and no slot was new. */
	assert_int_equal(index_order(space->d->index_word), order);
	assert_int_equal(space_slots_nr(space), slots_nr);
	fold();
	assert_int_equal(total(removed), rounds * (uint64_t)(CHURN * (CHURN - 1) / 2));
}

static void an_index_keeps_no_entry_of_who_is_gone_over_a_restart(void **state)
{
	uint32_t slots[200], used;
	char key[16];

	(void)state;
	for (uint32_t i = 0; i < 200; i++) {
		key_of(i, 'c', key);
		slots[i] = member(key);
	}
	used = space->names.index_live;
	for (uint32_t i = 0; i < 200; i += 2)
		forget(slots[i]);
	assert_int_equal(space->names.index_live, used - 100);
	/* As a worker leaves it that died before the entry was out. */
	space_slot(space, slots[1])->route = slot_route(generation(slots[1]) + 1, SHM_ROW_NONE);
	members_restart();
	assert_int_equal(space->names.index_live, used - 101);
	for (uint32_t i = 3; i < 200; i += 2) {
		uint32_t g;

		key_of(i, 'c', key);
		assert_int_equal(find(key, &g), slots[i]);
	}
}

#define MEMBERS_TEST(f) cmocka_unit_test_setup_teardown(f, members_set_up, members_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		MEMBERS_TEST(a_look_up_never_mixes_two_owners_of_a_slot),
		MEMBERS_TEST(control_without_the_second_look_at_the_generation_it_does),
		MEMBERS_TEST(control_without_odd_and_even_it_finds_who_is_gone),
		MEMBERS_TEST(an_index_built_anew_under_a_reader_hides_no_one),
		MEMBERS_TEST(an_index_keeps_no_entry_of_who_is_gone_over_a_restart),
	};

	registry_enter();
	return cmocka_run_group_tests(tests, NULL, NULL);
}

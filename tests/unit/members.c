/*
 * Members of families that go, on a region in this process: where their sum goes, when their slot comes
 * again, what a look-up may believe meanwhile, and an index that is built anew under a reader. The test
 * itself is the client that adds, and its clock can be put forward. Controls take a rule of look-ups away
 * and must then be told a wrong answer.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "daemon/space/leave.h"
#include "daemon/space/owners.h"
#include "daemon/space/register.h"
#include "daemon/space/remove.h"
#include "daemon/space/suspect.h"
#include "daemon/space/totals.h"
#include "tests/lib/harness.h"

#define SECOND_NS 1000000000ull

static struct region_fds fds = { .name = "default" };
static struct config config;
static struct registry registry;
static struct space *space;
static char *shards; /* writable, as a client has them */
static uint64_t clock_ahead_s;
static uint32_t family, removed;

/* Stands before libc's: the quarantine is too long to wait for. */
int clock_gettime(clockid_t clock, struct timespec *ret)
{
	int err = (int)syscall(SYS_clock_gettime, clock, ret);

	ret->tv_sec += (time_t)clock_ahead_s;
	return err;
}

static uint32_t make(uint8_t type, const char *name, uint32_t len, uint32_t of)
{
	static const char help[] = "Made by a test.";
	struct claim c = { .type = type, .uid = 1000, .name = name, .name_len = len };
	char why[REGISTER_WHY_MAX];
	struct wire_result r;
	struct quota quota;

	if (type == SHM_MEMBER) {
		c.family = of;
		c.family_generation = slot_generation(space_slot(space, of)->route);
	} else {
		c.help = help;
		c.help_len = sizeof(help) - 1;
		c.label = "key";
		c.label_len = type == SHM_FAMILY ? 3 : 0;
	}
	registry_read_begin();
	quota_init(&quota, space, &config);
	register_claim(space, &quota, &c, &r, why);
	registry_read_end();
	if (r.err)
		fail_msg("%s", why);
	return r.slot;
}

static uint32_t member(const char *key)
{
	return make(SHM_MEMBER, key, (uint32_t)strlen(key), family);
}

static uint32_t find(const char *key, uint32_t *ret_generation)
{
	return dir_find(space->d, family, key, strlen(key), ret_generation);
}

static uint32_t generation(uint32_t slot)
{
	return slot_generation(space_slot(space, slot)->route);
}

static uint64_t *cell(uint32_t slot)
{
	return (uint64_t *)(void *)(shards + shards_cold(slot));
}

static int64_t total(uint32_t slot)
{
	return (int64_t)space_totals(space, space->t->epoch & 1)[slot];
}

static void fold(void)
{
	struct timespec t;
	struct fold_times times = { .interval_ns = SECOND_NS / 100 };

	clock_gettime(CLOCK_MONOTONIC, &t);
	times.mono_ns = (uint64_t)t.tv_sec * SECOND_NS + (uint64_t)t.tv_nsec;
	registry_read_begin();
	totals_fold(space, &times);
	for (uint32_t i = 0; i < space->late_nr; i++)
		remove_late(space, space->late[i]);
	space->late_nr = 0;
	registry_read_end();
}

/* Nobody adds in a section here: every grace is over at once. */
static void grace(void)
{
	registry_read_begin();
	leave_begin(space);
	leave_end(space);
	registry_read_end();
}

static void forget(uint32_t slot)
{
	registry_read_begin();
	assert_int_equal(remove_begin(space, slot, SHM_WHY_FORGET, 7), 0);
	registry_read_end();
}

/* Whatever keeps a slot from being handed out again is over, but for what a test does. */
static void quarantine_pass(void)
{
	grace();
	fold();
	fold();
	urcu_memb_barrier();
	clock_ahead_s += SHM_QUARANTINE_NS / SECOND_NS;
}

static void space_start(void)
{
	assert_int_equal(registry_init(&registry, &config), 0);
	assert_int_equal(space_open(&space, &fds, 0, &registry, &config), 0);
	shm_set32(&space->d->promotion, 0); /* the self-test has passed */
}

static int set_up(void **state)
{
	void *p;

	(void)state;
	for (enum region_part part = REGION_D; part < REGION_PARTS; part++)
		assert_int_equal(region_make(part, "unit", &fds.rw[part], &fds.ro[part]), 0);
	memset(&config, 0, sizeof(config));
	config.namespaces_nr = 1;
	config.namespaces[0] = (struct config_namespace){
		.name = "default", .counters_max = 1000000, .counters_max_per_uid = 1000000,
		.rows_max = 100,
	};
	assert_int_equal(region_map(fds.rw[REGION_S], REGION_S, true, &p), 0);
	shards = p;
	space_start();
	family = make(SHM_FAMILY, "likes_total", 11, 0);
	removed = dir_name(space->d, space_slot(space, family)->name)->removed;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	registry_fini(&registry);
	space_close(space);
	munmap(shards, region_bytes(REGION_S));
	for (enum region_part part = REGION_D; part < REGION_PARTS; part++) {
		close(fds.rw[part]);
		close(fds.ro[part]);
	}
	return 0;
}

/* --- removal ---------------------------------------------------------------------------------- */

static void a_member_that_goes_is_not_found_and_its_sum_is_in_removed(void **state)
{
	uint32_t a = member("a"), b = member("b"), quota_nr = space->quota_nr, g;

	(void)state;
	shm_count_add(cell(a), 30);
	shm_count_add(cell(b), 5);
	fold();
	forget(a);
	assert_int_equal(find("a", &g), SHM_SLOT_NONE);
	assert_int_equal(generation(a) & 1, 0);
	assert_int_equal(space->members_nr, 1);
	assert_int_equal(space->members_of[family], 1);
	assert_int_equal(space->quota_nr, quota_nr - 1);
	shm_count_add(cell(a), 4); /* by a section that began before */
	fold();
	assert_int_equal(total(a) + total(b) + total(removed), 39);
	assert_int_equal(total(removed), 0);
	grace();
	assert_int_equal(space->d->moves % 2, 0);
	fold();
	assert_int_equal(total(a), 0);
	assert_int_equal(total(removed), 34);
	assert_int_equal(total(b), 5);
	assert_int_equal(space_states(space)[a], SHM_T_UNUSED);
	assert_int_equal(space->t->removed_nr, 1);
	assert_int_equal(find("b", &g), b);
}

static void a_removal_is_asked_for_twice_and_for_nothing_else_than_members(void **state)
{
	uint32_t a = member("a"), counter = make(SHM_COUNTER, "plain_total", 11, 0);

	(void)state;
	forget(a);
	forget(a);
	assert_int_equal(space->members_nr, 0);
	grace();
	registry_read_begin();
	assert_int_equal(remove_begin(space, a, SHM_WHY_FORGET, 0), -EINVAL);
	assert_int_equal(remove_begin(space, counter, SHM_WHY_FORGET, 0), -EINVAL);
	assert_int_equal(remove_begin(space, family, SHM_WHY_FORGET, 0), -EINVAL);
	assert_int_equal(remove_begin(space, removed, SHM_WHY_FORGET, 0), -EINVAL);
	assert_int_equal(remove_begin(space, 0, SHM_WHY_FORGET, 0), -EINVAL);
	assert_int_equal(remove_begin(space, SHM_SLOTS_MAX - 1, SHM_WHY_FORGET, 0), -EINVAL);
	registry_read_end();
}

static void a_row_goes_with_its_member_and_comes_to_another(void **state)
{
	uint32_t a = member("a"), b = member("b"), row;
	uint64_t *lane;

	(void)state;
	assert_int_equal(owners_assign(space, a), 0);
	row = owners_row(space, a);
	lane = (uint64_t *)(void *)(shards + SHM_S_LANES + row * 8ull);
	shm_count_add(cell(a), 1);
	shm_count_add(lane, 100);
	fold();
	forget(a);
	shm_count_add(lane, 10);
	fold();
	assert_int_equal(total(a), 111);
	grace();
	assert_int_equal(space->rows_used, 0);
	assert_int_equal(space->rows_retiring, 0);
	assert_int_equal(owners_assign(space, b), 0);
	assert_int_equal(owners_row(space, b), row);
	shm_count_add(lane, 1000);
	fold();
	assert_int_equal(total(removed), 111);
	assert_int_equal(total(b), 1000);
	assert_int_equal(total(a), 0);
}

static void a_key_that_comes_again_while_it_goes_is_another_member(void **state)
{
	uint32_t a = member("a"), again;

	(void)state;
	shm_count_add(cell(a), 3);
	forget(a);
	again = member("a");
	assert_int_not_equal(again, a);
	shm_count_add(cell(again), 2);
	grace();
	fold();
	assert_int_equal(total(removed), 3);
	assert_int_equal(total(again), 2);
}

/* --- reuse ------------------------------------------------------------------------------------ */

static void a_slot_comes_again_after_its_quarantine_with_its_name_record(void **state)
{
	uint32_t a = member("key 1"), g = generation(a), b;
	uint64_t names_bytes, at = name_offset(space_slot(space, a)->name);

	(void)state;
	shm_count_add(cell(a), 9);
	forget(a);
	grace();
	fold();
	fold();
	urcu_memb_barrier();
	clock_ahead_s += SHM_QUARANTINE_NS / SECOND_NS - 1;
	assert_int_not_equal(member("key 2"), a);
	clock_ahead_s += 1;
	assert_int_not_equal(member("a key of another size"), a);
	names_bytes = space->d->names_bytes;
	b = member("key 003");
	assert_int_equal(b, a);
	assert_int_equal(space->d->names_bytes, names_bytes);
	assert_int_equal(name_offset(space_slot(space, b)->name), at);
	assert_int_equal(generation(b), g + 2);
	fold();
	assert_int_equal(total(b), 0);
	shm_count_add(cell(b), 1);
	fold();
	assert_int_equal(total(b), 1);
	assert_int_equal(total(removed), 9);
	assert_int_equal(find("key 003", &g), b);
	assert_int_equal(find("key 1", &g), SHM_SLOT_NONE);
}

static void nothing_comes_again_before_the_fold_has_shown_that_it_is_gone(void **state)
{
	uint32_t a = member("key 1");

	(void)state;
	shm_count_add(cell(a), 9);
	fold();
	fold();
	forget(a);
	grace();
	urcu_memb_barrier();
	clock_ahead_s += 2 * SHM_QUARANTINE_NS / SECOND_NS;
	fold(); /* one copy says 0, the other 9 */
	assert_int_not_equal(member("key 2"), a);
	fold();
	clock_ahead_s += SHM_QUARANTINE_NS / SECOND_NS;
	assert_int_equal(member("key 3"), a);
}

static void nothing_comes_again_without_a_passed_self_test_or_beside_adds_without_rseq(void **state)
{
	struct shards_shm *head = (struct shards_shm *)(void *)shards;
	uint32_t a = member("key 1");

	(void)state;
	forget(a);
	quarantine_pass();
	shm_set32(&space->d->promotion, SHM_REUSE_OFF);
	assert_int_not_equal(member("key 2"), a);
	shm_set32(&space->d->promotion, 0);
	head->fallback_used = 1;
	assert_int_not_equal(member("key 3"), a);
	head->fallback_used = 0;
	assert_int_equal(member("key 4"), a);
}

struct reader {
	pthread_t thread;
	uint32_t is_reading, is_over;
};

static void *reader_hold(void *arg)
{
	struct reader *r = arg;

	registry_enter();
	registry_read_begin();
	shm_publish32(&r->is_reading, 1);
	while (!shm_take32(&r->is_over))
		usleep(1000);
	registry_read_end();
	registry_leave();
	return NULL;
}

static void nothing_comes_again_while_a_thread_may_still_have_its_record(void **state)
{
	struct reader r = { 0 };
	uint32_t a = member("key 1");

	(void)state;
	assert_int_equal(pthread_create(&r.thread, NULL, reader_hold, &r), 0);
	while (!shm_take32(&r.is_reading))
		usleep(1000);
	forget(a);
	grace();
	fold();
	fold();
	clock_ahead_s += SHM_QUARANTINE_NS / SECOND_NS;
	usleep(50000);
	assert_int_not_equal(member("key 2"), a);
	shm_publish32(&r.is_over, 1);
	pthread_join(r.thread, NULL);
	urcu_memb_barrier();
	assert_int_equal(member("key 3"), a);
}

static void a_slot_whose_generations_are_used_up_never_comes_again(void **state)
{
	uint32_t a = member("key 1"), b = member("key 2");

	(void)state;
	space_slot(space, a)->route = slot_route(SHM_GENERATION_LAST - 1, SHM_ROW_NONE);
	space_slot(space, b)->route = slot_route(SHM_GENERATION_LAST - 3, SHM_ROW_NONE);
	forget(a);
	forget(b);
	quarantine_pass();
	assert_int_equal(member("key 3"), b);
	assert_int_equal(generation(b), SHM_GENERATION_LAST - 1);
	assert_int_not_equal(member("key 4"), a);
	assert_int_equal(generation(a), SHM_GENERATION_LAST);
}

static void versions_go_on_from_one_owner_to_the_next(void **state)
{
	uint32_t a = member("key 1"), version;

	(void)state;
	for (uint32_t i = 0; i < 4; i++) {
		version = state_version(space_slot(space, a)->state);
		shm_count_add(cell(a), i);
		forget(a);
		quarantine_pass();
		assert_int_equal(member("key 1"), a);
		assert_int_equal(state_version(space_slot(space, a)->state), version + 3);
		fold();
		assert_int_equal(total(a), 0);
	}
}

static void a_new_worker_finds_who_is_free_and_ends_who_was_going(void **state)
{
	uint32_t a = member("key 1"), b = member("key 2"), g;

	(void)state;
	shm_count_add(cell(a), 1);
	shm_count_add(cell(b), 2);
	forget(a);
	grace();
	forget(b);
	registry_fini(&registry);
	space_close(space);
	space_start();
	assert_int_equal(find("key 2", &g), SHM_SLOT_NONE);
	assert_int_equal(space->members_nr, 0);
	fold();
	assert_int_equal(total(b), 2);
	quarantine_pass();
	assert_int_equal(total(removed), 3);
	assert_int_equal(member("key 3"), a);
	assert_int_equal(member("key 4"), b);
}

/* --- late ------------------------------------------------------------------------------------- */

static void an_add_without_rseq_that_comes_late_moves_to_removed(void **state)
{
	struct shards_shm *head = (struct shards_shm *)(void *)shards;
	uint32_t a = member("a");

	(void)state;
	shm_count_add(cell(a), 2);
	forget(a);
	grace();
	fold();
	head->fallback_used = 1;
	shm_count_add(cell(a), 40);
	shm_count_add(cell(removed), 500); /* by who saw the even generation */
	fold();
	fold();
	assert_int_equal(total(a), 0);
	assert_int_equal(total(removed), 542);
	assert_int_equal(space->t->strays_nr, 0);
	registry_read_begin();
	remove_second(space, &config);
	registry_read_end();
	assert_int_equal(space->t->late_adds, 540);
}

static void a_cell_of_nobody_that_changes_is_a_stray_and_is_no_ones_count(void **state)
{
	uint32_t a = member("key 1");

	(void)state;
	forget(a);
	quarantine_pass();
	shm_count_add(cell(a), 40);
	/* Handed out before the fold has seen it, it would hide that. */
	assert_int_not_equal(member("key 2"), a);
	fold();
	assert_int_equal(space->t->strays_nr, 1);
	assert_int_equal(total(a), 0);
	clock_ahead_s += SHM_QUARANTINE_NS / SECOND_NS;
	assert_int_equal(member("key 3"), a);
	fold();
	assert_int_equal(total(a), 0);
	assert_int_equal(total(removed), 0);
}

/* --- time to live ----------------------------------------------------------------------------- */

static void second(void)
{
	registry_read_begin();
	remove_second(space, &config);
	registry_read_end();
	grace();
	fold();
}

static bool is_live(uint32_t slot)
{
	return generation(slot) & 1;
}

static void members_go_when_they_were_idle_for_their_time_to_live(void **state)
{
	uint32_t idle = member("idle"), busy = member("busy"), keep = member("keep"), other, stays;
	struct timespec t;

	(void)state;
	other = make(SHM_FAMILY, "views_total", 11, 0);
	stays = make(SHM_MEMBER, "idle", 4, other);
	second();
	assert_int_equal(space->changed_s[idle], 0); /* no rule: nobody looked */
	config.rules[0] = (struct config_rule){ .glob = "likes_*", .ttl_s = 100 };
	config.rules[1] = (struct config_rule){ .glob = "likes_total{key=\"ke*\"}", .ttl_s = 0 };
	config.rules[2] = (struct config_rule){ .glob = "*", .ttl_s = CONFIG_TTL_UNSET };
	config.rules_nr = 3;
	shm_count_add(cell(idle), 1);
	second();
	clock_ahead_s += 99;
	second();
	assert_true(is_live(idle) && is_live(busy));
	clock_gettime(CLOCK_MONOTONIC, &t);
	space->changed_s[busy] = (uint32_t)t.tv_sec;
	clock_ahead_s += 2;
	second();
	assert_false(is_live(idle));
	assert_true(is_live(busy) && is_live(keep) && is_live(stays));
	assert_int_equal(total(removed), 1);
	clock_ahead_s += 100;
	second();
	assert_false(is_live(busy));
	assert_true(is_live(keep) && is_live(stays));
}

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

	for (uint32_t i = 0; !shm_take32(&l->is_over); i++) {
		key_of(i % KEPT, 'k', key);
		slot = find(key, &g);
		l->misses += slot == SHM_SLOT_NONE;
		l->wrong += slot != SHM_SLOT_NONE &&
			    (slot != l->slots[i % KEPT] || g != l->generations[i % KEPT]);
		key_of(shm_read32(&l->round) * CHURN + i % CHURN, 'c', key);
		slot = find(key, &g);
		l->found += slot != SHM_SLOT_NONE;
		l->wrong += slot != SHM_SLOT_NONE && (!(g & 1) || !is_keys(slot, g, key));
	}
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
	uint32_t rounds_nr = (uint32_t)harness_times(60, 2000), slots_nr, order;
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
	churn(&l, rounds_nr);
	shm_publish32(&l.is_over, 1);
	pthread_join(l.thread, NULL);
	print_message("# %u rounds: the index was built anew %llu times, %llu found what went\n",
		      rounds_nr, (unsigned long long)((space->d->index_word >> 6) - sequence),
		      (unsigned long long)l.found);
	assert_int_equal(l.misses, 0);
	assert_int_equal(l.wrong, 0);
	assert_true(l.found);
	assert_true((space->d->index_word >> 6) > sequence);
	/* 300 and at most 200 of 1024: there is room, and no slot was new. */
	assert_int_equal(index_order(space->d->index_word), order);
	assert_int_equal(space_slots_nr(space), slots_nr);
	fold();
	assert_int_equal(total(removed), (rounds_nr + 1) * (uint64_t)(CHURN * (CHURN - 1) / 2));
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
	used = space->index_live;
	for (uint32_t i = 0; i < 200; i += 2)
		forget(slots[i]);
	assert_int_equal(space->index_live, used - 100);
	/* As a worker leaves it that died before the entry was out. */
	space_slot(space, slots[1])->route = slot_route(generation(slots[1]) + 1, SHM_ROW_NONE);
	registry_fini(&registry);
	space_close(space);
	space_start();
	assert_int_equal(space->index_live, used - 101);
	for (uint32_t i = 3; i < 200; i += 2) {
		uint32_t g;

		key_of(i, 'c', key);
		assert_int_equal(find(key, &g), slots[i]);
	}
}

#define MEMBERS_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		MEMBERS_TEST(a_member_that_goes_is_not_found_and_its_sum_is_in_removed),
		MEMBERS_TEST(a_removal_is_asked_for_twice_and_for_nothing_else_than_members),
		MEMBERS_TEST(a_row_goes_with_its_member_and_comes_to_another),
		MEMBERS_TEST(a_key_that_comes_again_while_it_goes_is_another_member),
		MEMBERS_TEST(a_slot_comes_again_after_its_quarantine_with_its_name_record),
		MEMBERS_TEST(nothing_comes_again_before_the_fold_has_shown_that_it_is_gone),
		MEMBERS_TEST(
			nothing_comes_again_without_a_passed_self_test_or_beside_adds_without_rseq),
		MEMBERS_TEST(nothing_comes_again_while_a_thread_may_still_have_its_record),
		MEMBERS_TEST(a_slot_whose_generations_are_used_up_never_comes_again),
		MEMBERS_TEST(versions_go_on_from_one_owner_to_the_next),
		MEMBERS_TEST(a_new_worker_finds_who_is_free_and_ends_who_was_going),
		MEMBERS_TEST(an_add_without_rseq_that_comes_late_moves_to_removed),
		MEMBERS_TEST(a_cell_of_nobody_that_changes_is_a_stray_and_is_no_ones_count),
		MEMBERS_TEST(members_go_when_they_were_idle_for_their_time_to_live),
		MEMBERS_TEST(a_look_up_never_mixes_two_owners_of_a_slot),
		MEMBERS_TEST(control_without_the_second_look_at_the_generation_it_does),
		MEMBERS_TEST(control_without_odd_and_even_it_finds_who_is_gone),
		MEMBERS_TEST(an_index_built_anew_under_a_reader_hides_no_one),
		MEMBERS_TEST(an_index_keeps_no_entry_of_who_is_gone_over_a_restart),
	};

	registry_enter();
	return cmocka_run_group_tests(tests, NULL, NULL);
}

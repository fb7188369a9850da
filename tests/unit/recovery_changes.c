/*
 * A worker killed at any instruction while rows are assigned, retired and used again, members removed
 * and their slots used again, late adds moved, or an intent replayed: nothing is lost, and no row or
 * slot is lost or owned twice. Each child recovers the region that the one before left, checks all of
 * it, adds as a client does, and is the next to die.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/worker/space/deferred.h"
#include "daemon/worker/space/heat.h"
#include "daemon/worker/space/rows.h"
#include "daemon/worker/space/quota.h"
#include "daemon/worker/space/register.h"
#include "daemon/worker/space/remove.h"
#include "daemon/worker/space/totals.h"
#include "tests/lib/clock.h"
#include "tests/lib/harness.h"
#include "tests/lib/stepper.h"

/* Each is stepped by itself; whatever it leaves is what the next ones find. */
enum act {
	ACT_ASSIGN,
	ACT_RETIRE,
	ACT_RETIRED,
	ACT_REMOVE,  /* a member with a row, begun */
	ACT_REMOVED, /* and ended */
	ACT_REUSE,   /* its slot, by another member */
	ACT_LATE,
	ACT_REPLAY,  /* the start of a worker, over an intent that was left anywhere */
	ACT_NR,
};
static const char *const act_words[ACT_NR] = {
	"assigning", "retiring", "a retirement's end", "removing", "a removal's end", "reuse",
	"a late add", "a replay",
};
#define MEMBERS_MIN 6u
/* So much of a start is stepped, unless in the long form: to behind its replay. */
#define START_STEPS (TEST_IS_SANITIZED ? 30000 : 8000)

struct round {
	bool is_first;
	enum act act;
};

/* What the rounds tell each other. */
struct notes {
	uint32_t family, family_generation;
	uint64_t added; /* to members of `family`, dead or alive */
	uint32_t rounds_nr, keys_nr;
	uint64_t replays_nr, repeated_nr, retiring_nr; /* found by a start */
};

static struct region_fds fds = { .name = "default" };
static struct notes *notes;
static struct config config;
static struct registry registry;
static struct space *space;
static char *shards;

static int make_region(void **state)
{
	(void)state;
	for (enum region_part part = REGION_D; part < REGION_PARTS; part++)
		assert_int_equal(region_make(part, "unit", &fds.rw[part], &fds.ro[part]), 0);
	notes = mmap(NULL, sizeof(*notes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	assert_ptr_not_equal(notes, MAP_FAILED);
	config.namespaces_nr = 1;
	config.namespaces[0] = (struct config_namespace){
		.name = "default", .counters_max = 1000000, .counters_max_per_uid = 1000000,
		.rows_max = 1000,
	};
	return 0;
}

/* --- the child -------------------------------------------------------------------------------- */

static bool is_live(uint32_t slot)
{
	return slot_generation(space_slot(space, slot)->route) & 1;
}

static uint64_t *cell_of(uint32_t slot)
{
	return (uint64_t *)(void *)(shards + shards_cold(slot));
}

static void add(uint64_t *cell, uint64_t n)
{
	notes->added += n;
	shm_count_add(cell, n);
}

static bool is_member_slot(uint32_t slot)
{
	return name_type(space_slot(space, slot)->name) == SHM_MEMBER;
}

static bool is_removing(uint32_t slot)
{
	return state_flags(space_slot(space, slot)->state) & SHM_F_REMOVING;
}

static uint64_t slot_sum(uint32_t slot)
{
	const struct slot_shm *s = space_slot(space, slot);
	uint64_t sum = (uint64_t)s->base[state_version(s->state) & 1] + *cell_of(slot);

	if (slot_row(s->state) != SHM_ROW_NONE)
		sum += rows_sum_one(space, slot_row(s->state) / 8);
	return sum;
}

/* Every add is somebody's, no row is owned twice, who is nobody's has nothing. */
static void check_sums(void)
{
	uint8_t row_owned[1000] = { 0 };
	uint64_t sum = 0;
	uint32_t used = 0;

	CHECK(!(space->d->moves & 1) && !space->d->intent.valid);
	for (uint32_t slot = SHM_SLOT_FIRST; slot < space_slots_nr(space); slot++) {
		const struct slot_shm *s = space_slot(space, slot);
		uint32_t row = slot_row(s->state);

		if (!s->state)
			continue; /* its worker died before it was anybody's */
		CHECK((uint64_t)space->off_shard.by_slot[slot] ==
		      (uint64_t)s->base[state_version(s->state) & 1]);
		sum += slot_sum(slot);
		if (!is_live(slot) && !is_removing(slot))
			CHECK(slot_sum(slot) == 0 && row == SHM_ROW_NONE);
		if (row == SHM_ROW_NONE) {
			CHECK(slot_row(s->route) == SHM_ROW_NONE);
			continue;
		}
		CHECK(slot_row(s->route) == row || slot_row(s->route) == SHM_ROW_NONE);
		CHECK(space->rows.list[row / 8].slot == slot && !row_owned[row / 8]++);
		used++;
	}
	CHECK(sum == notes->added);
	CHECK(used == space->rows.used_nr);
}

/* Both copies of the totals say what is so, and their sum is the family's. */
static void fold_twice(void)
{
	struct fold_times times = { .interval_ns = 10000000 };
	uint64_t sum;

	for (int i = 0; i < 2; i++) {
		totals_fold(space, &times);
		sum = 0;
		for (uint32_t slot = SHM_SLOT_FIRST; slot < space_slots_nr(space); slot++)
			sum += space_totals(space, space->t->epoch & 1)[slot];
		CHECK(sum == notes->added);
	}
	CHECK(!space->suspects.late_nr && !space->t->strays_nr && !space->suspects.nr);
}

static uint32_t member_make(void)
{
	char key[16];
	struct why why;
	struct claim c = { .type = SHM_MEMBER, .uid = 1000, .name = key,
			   .family = notes->family,
			   .family_generation = notes->family_generation };
	struct wire_result r;
	struct quota quota;

	c.name_len = (uint32_t)snprintf(key, sizeof(key), "%08u", notes->keys_nr);
	quota_init(&quota, space, &config);
	register_claim(space, &quota, &c, &r, &why);
	CHECK(!r.err);
	return r.slot;
}

/* A live member with or without a row; one is made when there is none. Its cells are added to. */
static uint32_t member_take(bool with_row)
{
	uint32_t slots_nr = space_slots_nr(space), from = notes->rounds_nr % slots_nr, slot;
	int64_t stray;

	for (uint32_t i = 0; i < slots_nr; i++) {
		slot = (from + i) % slots_nr;
		if (slot >= SHM_SLOT_FIRST && is_member_slot(slot) && is_live(slot) &&
		    rows_is_hot(space, slot) == with_row && !rows_is_retiring(space, slot))
			goto found;
	}
	notes->keys_nr++;
	slot = member_make();
	if (with_row)
		CHECK(!rows_allocate(space, slot, &stray) && !stray);
found:
	add(cell_of(slot), 1000003);
	if (with_row)
		for (uint32_t lane = 0; lane < space->pages.lanes_nr; lane++)
			add((uint64_t *)(void *)(shards + shards_lane(lane) +
						 slot_row(space_slot(space, slot)->state)), 17);
	return slot;
}

static void grace_pass(void)
{
	deferred_begin(space);
	deferred_end(space);
}

/* The slot of a member that has gone. */
static uint32_t slot_free(void)
{
	uint32_t going = member_take(false);

	CHECK(!remove_begin(space, going, SHM_WHY_FORGET, 0));
	grace_pass();

	return going;
}

/* Brings about what an act is done to; its slot. */
static uint32_t act_prepare(enum act act)
{
	struct shards_shm *head = (struct shards_shm *)(void *)shards;
	uint32_t slot = SHM_SLOT_NONE;

	switch (act) {
	case ACT_ASSIGN:
		return member_take(false);
	case ACT_RETIRE:
	case ACT_REMOVE:
		return member_take(true);
	case ACT_RETIRED:
		slot = member_take(true);
		heat_defer_retirement(space, slot, rows_retire(space, slot));
		deferred_begin(space);
		return slot;
	case ACT_REMOVED:
		slot = member_take(true);
		CHECK(!remove_begin(space, slot, SHM_WHY_FORGET, 0));
		deferred_begin(space);
		return slot;
	case ACT_REUSE:
		notes->keys_nr++;
		return slot;
	case ACT_LATE:
		slot = slot_free();
		head->fallback_used = 1;
		add(cell_of(slot), 29);
		return slot;
	case ACT_REPLAY: /* is the start itself */
	case ACT_NR:
		break;
	}
	return slot;
}

static void act_run(enum act act, uint32_t slot)
{
	int64_t stray;

	switch (act) {
	case ACT_ASSIGN:
		CHECK(!rows_allocate(space, slot, &stray) && !stray);
		break;
	case ACT_RETIRE:
		heat_defer_retirement(space, slot, rows_retire(space, slot));
		break;
	case ACT_REMOVE:
		CHECK(!remove_begin(space, slot, SHM_WHY_FORGET, 0));
		break;
	case ACT_RETIRED:
	case ACT_REMOVED:
		deferred_end(space);
		break;
	case ACT_REUSE:
		member_make();
		break;
	case ACT_LATE:
		remove_late(space, slot);
		break;
	case ACT_REPLAY:
	case ACT_NR:
		break;
	}
}

/* What a former worker left is noted, so that the test can say that it met each case. */
static void left_note(void)
{
	const struct dir_shm *d = space->d;
	uint32_t slots_nr = space_slots_nr(space);

	notes->replays_nr += d->intent.valid;
	for (uint32_t slot = SHM_SLOT_FIRST; slot < slots_nr; slot++) {
		const struct slot_shm *s = space_slot(space, slot);

		notes->repeated_nr += is_removing(slot);
		notes->retiring_nr += !is_removing(slot) && (slot_generation(s->route) & 1) &&
				      slot_row(s->route) != slot_row(s->state);
	}
}

static void left_look(void)
{
	struct space look = { .d = NULL };
	void *p;

	CHECK(!region_map(fds.rw[REGION_D], REGION_D, true, &p));
	look.d = p;
	space = &look;
	left_note();
	munmap(p, region_bytes(REGION_D));
}

static void act_space_open(void)
{
	CHECK(space_open(&space, &fds, 0, &registry, &config) == 0);
	shm_set32(&space->d->promotion, 0); /* the self-test has passed */
}

/* A late add that its mover died over is found again by the fold. */
static void late_end(void)
{
	struct shards_shm *head = (struct shards_shm *)(void *)shards;

	for (uint32_t slot = SHM_SLOT_FIRST; slot < space_slots_nr(space); slot++)
		if (is_member_slot(slot) && !is_live(slot) && !is_removing(slot))
			remove_late(space, slot);
	head->fallback_used = 0;
}

static void act_first(void)
{
	static const struct claim c = { .type = SHM_FAMILY, .uid = 1000,
					.name = "unit_total", .name_len = 10,
					.help = "Comes and goes.", .help_len = 15,
					.label = "key", .label_len = 3 };
	struct why why;
	struct wire_result r;
	struct quota quota;

	quota_init(&quota, space, &config);
	register_claim(space, &quota, &c, &r, &why);
	CHECK(!r.err);
	notes->family = r.slot;
	notes->family_generation = r.generation;
	for (; notes->keys_nr < MEMBERS_MIN; notes->keys_nr++)
		member_make();
}

static void act_child(void *arg)
{
	const struct round *round = arg;
	enum act act = round->act;
	uint32_t slot;
	void *p;

	registry_enter();
	CHECK(registry_init(&registry, &config) == 0);
	CHECK(!region_map(fds.rw[REGION_S], REGION_S, true, &p));
	shards = p;
	if (!round->is_first)
		left_look();
	if (act == ACT_REPLAY) {
		/* A space in fresh pages: zeroing it would be most of the steps of a start. */
		mallopt(M_MMAP_THRESHOLD, 16384);
		malloc_trim(0);
		stepper_stop();
	}
	act_space_open();
	if (act == ACT_REPLAY)
		stepper_stop();
	registry_read_begin();
	if (round->is_first)
		act_first();
	late_end();
	check_sums();
	grace_pass();
	check_sums();
	fold_twice();
	clock_ahead_s += (time_t)(SHM_QUARANTINE_NS / 1000000000);
	slot = act_prepare(act);
	stepper_stop();
	act_run(act, slot);
	stepper_stop();
}

/* --- the parent ------------------------------------------------------------------------------- */

static const struct dir_shm *seen; /* the children's, where the parent looks too */

static void round_run(bool is_first, enum act act, uint64_t steps_max, struct stepped *ret)
{
	struct round round = { is_first, act };

	stepper_run(act_child, &round, steps_max, seen, ret);
}

/* An act with an intent dies over it every other time; a start always, but in the long form. */
static uint64_t steps_choose(enum act act, const struct stepped *whole, unsigned int *seed)
{
	uint64_t any = (uint64_t)rand_r(seed);

	if (whole->intent_upto &&
	    ((rand_r(seed) & 1) || (act == ACT_REPLAY && !harness_times(0, 1))))
		return whole->intent_from + any % (whole->intent_upto - whole->intent_from + 1);
	return any % whole->steps;
}

/* How long each act is. A start is far longer than the others, and its replay comes first. */
static void acts_measure(struct stepped *ret)
{
	struct stepped left;

	for (enum act act = 0; act < ACT_NR; act++) {
		uint64_t max = act == ACT_REPLAY ? (uint64_t)harness_times(START_STEPS, 1 << 30) :
						   UINT64_MAX;

		if (act == ACT_REPLAY)
			round_run(false, ACT_REMOVED, ret[ACT_REMOVED].intent_from + 1, &left);
		round_run(act == 0, act, max, &ret[act]);
		print_message("# %s takes %llu instructions, an intent is valid from %llu to %llu\n",
			      act_words[act], (unsigned long long)ret[act].steps,
			      (unsigned long long)ret[act].intent_from,
			      (unsigned long long)ret[act].intent_upto);
	}
}

static void what_comes_and_goes_killed_anywhere_loses_nothing(void **state)
{
	uint64_t rounds_nr = (uint64_t)harness_times(TEST_IS_SANITIZED ? 40 : 120, 8000), slots_nr;
	unsigned int seed = (unsigned int)harness_now_ns();
	struct stepped whole[ACT_NR], left;
	void *d;

	(void)state;
	assert_int_equal(region_map(fds.rw[REGION_D], REGION_D, true, &d), 0);
	seen = d;
	acts_measure(whole);
	assert_true(whole[ACT_REMOVED].intent_upto && whole[ACT_LATE].intent_upto);
	slots_nr = seen->slots_nr;
	for (uint64_t i = 0; i < rounds_nr; i++) {
		enum act act = i % 10 == 9 ? ACT_REPLAY :
			       (enum act)((unsigned int)rand_r(&seed) % ACT_REPLAY);

		notes->rounds_nr++;
		/* It may meet an intent that was left half done. */
		if (act == ACT_REPLAY)
			round_run(false, ACT_REMOVED, whole[ACT_REMOVED].intent_from + 1, &left);
		round_run(false, act, steps_choose(act, &whole[act], &seed), &left);
	}
	round_run(false, ACT_ASSIGN, 0, &left);
	print_message("# %llu kills, %llu counts: %llu intents replayed, %llu removals and %llu "
		      "retirements repeated, %llu slots\n", (unsigned long long)rounds_nr,
		      (unsigned long long)notes->added, (unsigned long long)notes->replays_nr,
		      (unsigned long long)notes->repeated_nr,
		      (unsigned long long)notes->retiring_nr, (unsigned long long)seen->slots_nr);
	assert_true(notes->replays_nr && notes->repeated_nr && notes->retiring_nr);
	/* A registration that dies may waste a slot; one that goes comes again. */
	assert_true(seen->slots_nr <= slots_nr + rounds_nr / 8 + 16);
	seen = NULL;
	munmap(d, region_bytes(REGION_D));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(what_comes_and_goes_killed_anywhere_loses_nothing,
				       make_region),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

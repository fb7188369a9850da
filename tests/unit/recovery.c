/*
 * A worker killed at any instruction of a registration: the next one finds a directory in which every
 * name is made whole or not at all. The same for what comes and goes: rows assigned, retired and used
 * again, members removed and their slots used again, late adds moved, an intent replayed. Then nothing
 * is lost, and no row or slot is lost or owned twice. A traced child does one of them, is stepped to the
 * chosen instruction and killed there; the next child recovers the same region, checks all of it, and is
 * the next to die. The child is the client that adds, too.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/space/leave.h"
#include "daemon/space/owners.h"
#include "daemon/space/register.h"
#include "daemon/space/remove.h"
#include "daemon/space/totals.h"
#include "tests/lib/harness.h"

enum step { STEP_COUNTER, STEP_FAMILY, STEP_MEMBER, STEP_NR };

/* What comes and goes. Each is stepped by itself; whatever it leaves is what the next ones find. */
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

/* What the rounds tell each other. */
struct notes {
	uint32_t round; /* which claim is, or was last, made */
	uint32_t slot;	/* of the claim that was answered last; the round after it begins with 0 */
	uint32_t family, family_generation;
	uint64_t live_nr, made_nr, unmade_nr;

	uint64_t added; /* to members of `family`, dead or alive */
	uint32_t acts_nr, keys_nr;
	uint64_t replays_nr, repeated_nr, retiring_nr; /* found by a start */
};

static struct region_fds fds = { .name = "default" };
static struct notes *notes;
static struct config config;
static struct registry registry;
static struct space *space;
static char *shards;
static time_t clock_ahead_s;

/* Stands before libc's: the quarantine is too long to wait for. */
int clock_gettime(clockid_t clock, struct timespec *ret)
{
	int err = (int)syscall(SYS_clock_gettime, clock, ret);

	ret->tv_sec += clock_ahead_s;
	return err;
}

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

static void claim_make(uint32_t round, struct claim *ret, char *name, size_t size)
{
	static const uint8_t types[STEP_NR] = { SHM_COUNTER, SHM_FAMILY, SHM_MEMBER };
	static const char help[] = "Made by a worker that may die.";

	*ret = (struct claim){ .type = types[round % STEP_NR], .uid = 1000, .name = name };
	if (ret->type == SHM_MEMBER) {
		ret->name_len = (uint32_t)snprintf(name, size, "key %u", round);
		ret->family = notes->family;
		ret->family_generation = notes->family_generation;
		return;
	}
	ret->name_len = (uint32_t)snprintf(name, size, "unit_%u_total", round);
	ret->help = help;
	ret->help_len = sizeof(help) - 1;
	if (ret->type == SHM_FAMILY) {
		ret->label = "key";
		ret->label_len = 3;
	}
}

static void claim_register(uint32_t round, struct wire_result *ret)
{
	char name[64], why[REGISTER_WHY_MAX];
	struct quota quota;
	struct claim c;

	claim_make(round, &c, name, sizeof(name));
	registry_read_begin();
	quota_init(&quota, space, &config);
	register_claim(space, &quota, &c, ret, why);
	registry_read_end();
}

static uint32_t claim_find(uint32_t round)
{
	uint32_t generation;
	char name[64];
	struct claim c;

	claim_make(round, &c, name, sizeof(name));
	return dir_find(space->d, c.family, c.name, c.name_len, &generation);
}

static bool is_live(uint32_t slot)
{
	return slot_generation(space_slot(space, slot)->route) & 1;
}

static void check_slot(uint32_t slot, uint8_t *row_owned)
{
	const struct slot_shm *s = space_slot(space, slot);
	uint64_t name = s->name;
	const struct name_shm *n = dir_name(space->d, name);
	const struct member_shm *m = dir_member(space->d, name);
	uint8_t type = name_type(name);
	uint32_t row = slot_row(s->route), generation;

	CHECK(slot_row(s->state) == row);
	CHECK(name_offset(name) < space->d->names_bytes);
	if (row != SHM_ROW_NONE) {
		CHECK(row / 8 < space->rows_nr);
		CHECK(!row_owned[row / 8]++);
	}
	if (type == SHM_OTHER || type == SHM_REMOVED)
		CHECK(is_live(m->family));
	else if (name_is_member(name))
		CHECK(dir_find(space->d, m->family, m->value, name_length(name), &generation) ==
		      slot);
	else
		CHECK(dir_find(space->d, 0, n->text, name_length(name), &generation) == slot);
	if (type == SHM_FAMILY)
		CHECK(is_live(n->other) && is_live(n->removed));
}

static void check_all(void)
{
	uint8_t row_owned[1000] = { 0 };
	uint64_t live_nr = 0;

	for (uint32_t slot = SHM_SLOT_OVERFLOW; slot < space_slots_nr(space); slot++) {
		if (!is_live(slot)) {
			/* What a dead worker left may not hold a row. */
			CHECK(!space_slot(space, slot)->state ||
			      slot_row(space_slot(space, slot)->state) == SHM_ROW_NONE);
			continue;
		}
		live_nr++;
		check_slot(slot, row_owned);
	}
	CHECK(live_nr >= notes->live_nr);
	notes->live_nr = live_nr;
}

/* What the last round began is there if it was answered, and can be made now if it was not. */
static void check_last(void)
{
	uint32_t found = claim_find(notes->round);
	struct wire_result r;

	if (notes->slot)
		CHECK(found == notes->slot);
	claim_register(notes->round, &r);
	CHECK(r.err == 0 && is_live(r.slot) && (r.generation & 1));
	if (found != SHM_SLOT_NONE)
		CHECK(r.slot == found);
	CHECK(claim_find(notes->round) == r.slot);
	if (found)
		notes->made_nr++;
	else
		notes->unmade_nr++;
	if (notes->round % STEP_NR == STEP_FAMILY) {
		notes->family = r.slot;
		notes->family_generation = r.generation;
	}
}

static _Noreturn void child(bool is_first)
{
	struct wire_result r;

	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
		_exit(2);
	registry_enter();
	CHECK(registry_init(&registry, &config) == 0);
	CHECK(space_open(&space, &fds, 0, &registry, &config) == 0);
	if (!is_first) {
		check_all();
		check_last();
		notes->round++;
	}
	notes->slot = 0;
	raise(SIGSTOP);
	claim_register(notes->round, &r);
	notes->slot = r.slot;
	raise(SIGSTOP);
	_exit(0);
}

/* --- the child of what comes and goes --------------------------------------------------------- */

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
		sum += owners_row_sum(space, slot_row(s->state) / 8);
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
		CHECK((uint64_t)space->apart[slot] ==
		      (uint64_t)s->base[state_version(s->state) & 1]);
		sum += slot_sum(slot);
		if (!is_live(slot) && !is_removing(slot))
			CHECK(slot_sum(slot) == 0 && row == SHM_ROW_NONE);
		if (row == SHM_ROW_NONE) {
			CHECK(slot_row(s->route) == SHM_ROW_NONE);
			continue;
		}
		CHECK(slot_row(s->route) == row || slot_row(s->route) == SHM_ROW_NONE);
		CHECK(space->rows[row / 8].slot == slot && !row_owned[row / 8]++);
		used++;
	}
	CHECK(sum == notes->added);
	CHECK(used == space->rows_used);
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
	CHECK(!space->late_nr && !space->t->strays_nr && !space->suspects_nr);
}

static uint32_t member_make(void)
{
	char key[16], why[REGISTER_WHY_MAX];
	struct claim c = { .type = SHM_MEMBER, .uid = 1000, .name = key,
			   .family = notes->family,
			   .family_generation = notes->family_generation };
	struct wire_result r;
	struct quota quota;

	c.name_len = (uint32_t)snprintf(key, sizeof(key), "%08u", notes->keys_nr);
	quota_init(&quota, space, &config);
	register_claim(space, &quota, &c, &r, why);
	CHECK(!r.err);
	return r.slot;
}

/* A live member with or without a row; one is made when there is none. Its cells are added to. */
static uint32_t member_take(bool with_row)
{
	uint32_t slots_nr = space_slots_nr(space), from = notes->acts_nr % slots_nr, slot;

	for (uint32_t i = 0; i < slots_nr; i++) {
		slot = (from + i) % slots_nr;
		if (slot >= SHM_SLOT_FIRST && is_member_slot(slot) && is_live(slot) &&
		    owners_is_hot(space, slot) == with_row && !owners_is_retiring(space, slot))
			goto found;
	}
	notes->keys_nr++;
	slot = member_make();
	if (with_row)
		CHECK(!owners_assign(space, slot));
found:
	add(cell_of(slot), 1000003);
	if (with_row)
		for (uint32_t lane = 0; lane < space->lanes_nr; lane++)
			add((uint64_t *)(void *)(shards + shards_lane(lane) +
						 slot_row(space_slot(space, slot)->state)), 17);
	return slot;
}

static void grace_pass(void)
{
	leave_begin(space);
	leave_end(space);
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
		leave_put_row(space, slot, owners_retire(space, slot));
		leave_begin(space);
		return slot;
	case ACT_REMOVED:
		slot = member_take(true);
		CHECK(!remove_begin(space, slot, SHM_WHY_FORGET, 0));
		leave_begin(space);
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
	switch (act) {
	case ACT_ASSIGN:
		CHECK(!owners_assign(space, slot));
		break;
	case ACT_RETIRE:
		leave_put_row(space, slot, owners_retire(space, slot));
		break;
	case ACT_REMOVE:
		CHECK(!remove_begin(space, slot, SHM_WHY_FORGET, 0));
		break;
	case ACT_RETIRED:
	case ACT_REMOVED:
		leave_end(space);
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
	struct wire_result r;

	notes->round = STEP_FAMILY;
	claim_register(STEP_FAMILY, &r);
	CHECK(!r.err);
	notes->family = r.slot;
	notes->family_generation = r.generation;
	for (; notes->keys_nr < MEMBERS_MIN; notes->keys_nr++)
		member_make();
}

static _Noreturn void act_child(bool is_first, enum act act)
{
	uint32_t slot;
	void *p;

	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
		_exit(2);
	registry_enter();
	CHECK(registry_init(&registry, &config) == 0);
	CHECK(!region_map(fds.rw[REGION_S], REGION_S, true, &p));
	shards = p;
	if (!is_first)
		left_look();
	if (act == ACT_REPLAY)
		raise(SIGSTOP);
	act_space_open();
	if (act == ACT_REPLAY)
		raise(SIGSTOP);
	registry_read_begin();
	if (is_first)
		act_first();
	late_end();
	check_sums();
	grace_pass();
	check_sums();
	fold_twice();
	clock_ahead_s += (time_t)(SHM_QUARANTINE_NS / 1000000000);
	slot = act_prepare(act);
	raise(SIGSTOP);
	act_run(act, slot);
	raise(SIGSTOP);
	_exit(0);
}

/* --- the parent ------------------------------------------------------------------------------- */

static const struct dir_shm *seen; /* the child's, where the parent looks too */

/* The steps after which an intent is valid, of the last child that made one. */
static uint64_t intent_from, intent_upto;

/* Steps a child that stopped before its registration; the number of steps it made, of at most max. */
static uint64_t step(pid_t pid, uint64_t max)
{
	int status;

	intent_from = intent_upto = 0;
	for (uint64_t n = 0; n < max; n++) {
		assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSTOPPED(status));
		if (WSTOPSIG(status) == SIGSTOP)
			return n;
		if (seen && shm_take(&seen->intent.valid)) {
			intent_from = intent_from ? intent_from : n + 1;
			intent_upto = n + 1;
		}
	}
	return max;
}

/* One round, of a registration (act ACT_NR) or an act; the number of steps it made. */
static uint64_t round_run(bool is_first, enum act act, uint64_t steps_max)
{
	pid_t pid = fork();
	uint64_t steps;
	int status;

	if (pid == 0 && act == ACT_NR)
		child(is_first);
	if (pid == 0)
		act_child(is_first, act);
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 2)
		test_skip("this process may not trace its children");
	assert_true(WIFSTOPPED(status));
	steps = step(pid, steps_max);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	return steps;
}

static void a_registration_killed_anywhere_is_whole_or_was_never(void **state)
{
	uint64_t rounds_nr = (uint64_t)harness_times(60, 6000), length[STEP_NR];
	unsigned int seed = (unsigned int)harness_now_ns();

	(void)state;
	/* The first of each kind runs to its end and tells how long it is. */
	for (unsigned int i = 0; i < STEP_NR; i++) {
		length[i] = round_run(i == 0, ACT_NR, UINT64_MAX);
		print_message("# kind %u takes %llu instructions\n", i,
			      (unsigned long long)length[i]);
	}
	for (uint64_t i = STEP_NR; i < rounds_nr; i++) {
		/* The rules and the look-ups come first: half of the kills go to the last third,
		 * where the stores are. */
		uint64_t from = rand_r(&seed) & 1 ? length[i % STEP_NR] * 2 / 3 : 0;

		round_run(false, ACT_NR, from + (uint64_t)rand_r(&seed) % (length[i % STEP_NR] - from));
	}
	print_message("# %llu kills: %llu names were made by then, %llu not\n",
		      (unsigned long long)rounds_nr, (unsigned long long)notes->made_nr,
		      (unsigned long long)notes->unmade_nr);
	assert_true(notes->made_nr && notes->unmade_nr);
}

/* How long each act is, and where in it an intent is valid. */
struct length {
	uint64_t steps, intent_from, intent_upto;
};

/* An act with an intent dies over it every other time. */
static uint64_t steps_choose(const struct length *l, unsigned int *seed)
{
	if (l->intent_upto && (rand_r(seed) & 1))
		return l->intent_from +
		       (uint64_t)rand_r(seed) % (l->intent_upto - l->intent_from + 1);
	return (uint64_t)rand_r(seed) % l->steps;
}

static void lengths_measure(struct length *ret)
{
	for (enum act act = 0; act < ACT_NR; act++) {
		ret[act].steps = round_run(act == 0, act, UINT64_MAX);
		ret[act].intent_from = intent_from;
		ret[act].intent_upto = intent_upto;
		print_message("# %s takes %llu instructions, an intent %llu of them\n",
			      act_words[act], (unsigned long long)ret[act].steps,
			      (unsigned long long)(intent_upto - intent_from));
	}
}

static void what_comes_and_goes_killed_anywhere_loses_nothing(void **state)
{
	uint64_t rounds_nr = (uint64_t)harness_times(120, 8000), slots_nr;
	unsigned int seed = (unsigned int)harness_now_ns();
	struct length lengths[ACT_NR];
	void *d;

	(void)state;
	assert_int_equal(region_map(fds.rw[REGION_D], REGION_D, true, &d), 0);
	seen = d;
	lengths_measure(lengths);
	assert_true(lengths[ACT_REMOVED].intent_upto && lengths[ACT_LATE].intent_upto);
	slots_nr = seen->slots_nr;
	for (uint64_t i = 0; i < rounds_nr; i++) {
		/* A start is a hundred times as long as the others. */
		enum act act = i % 40 == 39 ? ACT_REPLAY :
			       (enum act)((unsigned int)rand_r(&seed) % ACT_REPLAY);

		notes->acts_nr++;
		/* It may meet an intent that was left half done. */
		if (act == ACT_REPLAY)
			round_run(false, ACT_REMOVED, lengths[ACT_REMOVED].intent_from + 1);
		round_run(false, act, steps_choose(&lengths[act], &seed));
	}
	round_run(false, ACT_ASSIGN, 0);
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
		cmocka_unit_test_setup(a_registration_killed_anywhere_is_whole_or_was_never,
				       make_region),
		cmocka_unit_test_setup(what_comes_and_goes_killed_anywhere_loses_nothing,
				       make_region),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * A worker killed at any instruction of a registration: the next one finds a directory in which every
 * name is made whole or not at all. A traced child registers, is stepped to the chosen instruction and
 * killed there; the next child recovers the same region, checks all of it, and is the next to die.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/worker/space/quota.h"
#include "daemon/worker/space/register.h"
#include "tests/lib/harness.h"
#include "tests/lib/stepper.h"

enum step { STEP_COUNTER, STEP_FAMILY, STEP_MEMBER, STEP_NR };

/* What the rounds tell each other. */
struct notes {
	uint32_t round; /* which claim is, or was last, made */
	uint32_t slot;	/* of the claim that was answered last; the round after it begins with 0 */
	uint32_t family, family_generation;
	uint64_t live_nr, made_nr, unmade_nr;
};

static struct region_fds fds = { .name = "default" };
static struct notes *notes;
static struct config config;
static struct registry registry;
static struct space *space;

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
	char name[64];
	struct why why;
	struct quota quota;
	struct claim c;

	claim_make(round, &c, name, sizeof(name));
	registry_read_begin();
	quota_init(&quota, space, &config);
	register_claim(space, &quota, &c, ret, &why);
	registry_read_end();
}

static uint32_t round_find(uint32_t round)
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
		CHECK(row / 8 < space->rows.summed_nr);
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
	uint32_t found = round_find(notes->round);
	struct wire_result r;

	if (notes->slot)
		CHECK(found == notes->slot);
	claim_register(notes->round, &r);
	CHECK(r.err == 0 && is_live(r.slot) && (r.generation & 1));
	if (found != SHM_SLOT_NONE)
		CHECK(r.slot == found);
	CHECK(round_find(notes->round) == r.slot);
	if (found)
		notes->made_nr++;
	else
		notes->unmade_nr++;
	if (notes->round % STEP_NR == STEP_FAMILY) {
		notes->family = r.slot;
		notes->family_generation = r.generation;
	}
}

static void child(void *arg)
{
	const bool *is_first = arg;
	struct wire_result r;

	registry_enter();
	CHECK(registry_init(&registry, &config) == 0);
	CHECK(space_open(&space, &fds, 0, &registry, &config) == 0);
	if (!*is_first) {
		check_all();
		check_last();
		notes->round++;
	}
	notes->slot = 0;
	stepper_stop();
	claim_register(notes->round, &r);
	notes->slot = r.slot;
	stepper_stop();
}

/* --- the parent ------------------------------------------------------------------------------- */

/* One round; the number of steps it made. */
static uint64_t round_run(bool is_first, uint64_t steps_max)
{
	struct stepped stepped;

	stepper_run(child, &is_first, steps_max, NULL, &stepped);
	return stepped.steps;
}

static void a_registration_killed_anywhere_is_whole_or_was_never(void **state)
{
	uint64_t rounds_nr = (uint64_t)harness_times(TEST_IS_SANITIZED ? 12 : 60, 6000);
	uint64_t length[STEP_NR];
	unsigned int seed = (unsigned int)harness_now_ns();

	(void)state;
	/* The first of each kind runs to its end and tells how long it is. */
	for (unsigned int i = 0; i < STEP_NR; i++) {
		length[i] = round_run(i == 0, UINT64_MAX);
		print_message("# kind %u takes %llu instructions\n", i,
			      (unsigned long long)length[i]);
	}
	for (uint64_t i = STEP_NR; i < rounds_nr; i++) {
		/* The rules and the look-ups come first: half of the kills go to the last third,
		 * where the stores are. */
		uint64_t from = rand_r(&seed) & 1 ? length[i % STEP_NR] * 2 / 3 : 0;

		round_run(false, from + (uint64_t)rand_r(&seed) % (length[i % STEP_NR] - from));
	}
	print_message("# %llu kills: %llu names were made by then, %llu not\n",
		      (unsigned long long)rounds_nr, (unsigned long long)notes->made_nr,
		      (unsigned long long)notes->unmade_nr);
	assert_true(notes->made_nr && notes->unmade_nr);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(a_registration_killed_anywhere_is_whole_or_was_never,
				       make_region),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

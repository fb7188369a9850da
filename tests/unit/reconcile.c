/*
 * What is to be done so that the probes that are desired are attached (daemon/keeper/reconcile.c),
 * over all that may be desired, pinned and attached; no kernel is asked. Each case is one name in
 * the three lists.
 */
#include "tests/lib/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/keeper/reconcile.h"

#define PLACE PROBE_NR /* the first that is not the pack's */
#define SINCE 1000u

struct fixture {
	struct probe_live live[PROBES_MAX];
	struct probe_spec mine, changed, relabelled, object;
	struct reconcile_pinned pinned[2];
	struct reconcile_desired desired[2];
	struct reconcile_action actions[PROBES_MAX + 4];
	struct reconcile_lists lists;
	uint32_t nr;
};

static struct probe_spec parse(const char *text)
{
	struct probe_spec spec;
	char why[256];

	assert_int_equal(spec_parse("mine", text, &spec, why, sizeof(why)), 0);
	return spec;
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	for (uint32_t place = 0; place < PROBES_MAX; place++)
		probe_live_init(place, &f->live[place]);
	f->mine = parse("x_total=raw_tp:sched_wakeup by comm");
	f->changed = parse("x_total=raw_tp:sched_switch by comm");
	f->relabelled = parse("x_total=raw_tp:sched_wakeup by uid");
	f->object = f->mine;
	f->object.event = SPEC_OBJECT;
	strcpy(f->object.file, "/tmp/x.bpf.o");
	f->lists = (struct reconcile_lists){ .desired = f->desired, .live = f->live };
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	free(*state);
	return 0;
}

static void desire(struct fixture *f, const struct probe_spec *spec, enum probe_origin origin)
{
	f->desired[f->lists.desired_nr++] = (struct reconcile_desired){ spec, origin };
}

static void pin(struct fixture *f, const struct probe_spec *spec, enum probe_origin origin,
		uint64_t since)
{
	struct reconcile_pinned *p = &f->pinned[f->lists.pinned_nr++];

	*p = (struct reconcile_pinned){ .origin = origin, .since_real_ns = since, .spec = *spec };
	strcpy(p->name, spec->name);
	f->lists.pinned = f->pinned;
}

static void attach(struct fixture *f, uint32_t place, const struct probe_spec *spec,
		   enum probe_origin origin)
{
	struct probe_live *live = &f->live[place];

	live->spec = *spec;
	live->origin = origin;
	live->state = WIRE_PROBE_ATTACHED;
	live->since_real_ns = SINCE;
}

/* The actions are these, in this order; 0 ends the list. */
static void expect(struct fixture *f, const enum reconcile_what *what)
{
	assert_true(reconcile_max(&f->lists) <= sizeof(f->actions) / sizeof(f->actions[0]));
	f->nr = reconcile(&f->lists, f->actions);
	for (uint32_t i = 0; i < f->nr; i++)
		assert_int_equal(f->actions[i].what, what[i]);
	assert_int_equal(what[f->nr], 0);
}
#define EXPECT(...) expect(f, (const enum reconcile_what[]){ __VA_ARGS__, 0 })

/* --- each combination ------------------------------------------------------------------------- */

enum desired { NOT_DESIRED, DESIRED, DESIRED_OTHERWISE, DESIRED_RELABELLED, DESIRED_NR };
enum pinned {
	PINS_NOT_READ, NOT_PINNED, PINNED_SAME, PINNED_ANEW, PINNED_BY_COMMAND,
	PINNED_ANEW_BY_COMMAND, PINNED_OBJECT_OF_COMMAND, PINNED_NR
};
enum attached { NOT_ATTACHED, ATTACHED, ATTACHED_BY_COMMAND, FAILED, ATTACHED_NR };

#define GONE	 RECONCILE_GONE
#define RENEWED	 RECONCILE_RENEWED
#define END	 RECONCILE_END
#define UNPIN	 RECONCILE_UNPIN
#define UNUSABLE RECONCILE_UNUSABLE
#define ATTACH	 RECONCILE_ATTACH

/* kept: the action, if there is one, when what is attached is what is pinned, and stays. */
#define WHEN_DESIRED(kept)                                                                         \
	{                                                                                          \
		[PINS_NOT_READ] = { { ATTACH }, { kept }, { kept }, { ATTACH } },                  \
		[NOT_PINNED] = { { ATTACH }, { GONE, ATTACH }, { GONE, ATTACH }, { ATTACH } },     \
		[PINNED_SAME] = { { ATTACH }, { kept }, { kept }, { ATTACH } },                    \
		[PINNED_ANEW] =                                                                    \
			{ { ATTACH }, { RENEWED, ATTACH }, { RENEWED, ATTACH }, { ATTACH } },      \
		[PINNED_BY_COMMAND] = { { ATTACH }, { kept }, { kept }, { ATTACH } },              \
		[PINNED_ANEW_BY_COMMAND] =                                                         \
			{ { ATTACH }, { RENEWED, ATTACH }, { RENEWED, ATTACH }, { ATTACH } },      \
		[PINNED_OBJECT_OF_COMMAND] = { { ATTACH }, { kept }, { kept }, { ATTACH } },       \
	}

/* The columns are enum attached; 0 ends a list of actions. What is desired in another form is
 * attached in that form only where nothing is: the rest takes a request, so it is only said. */
static const enum reconcile_what expected[DESIRED_NR][PINNED_NR][ATTACHED_NR][3] = {
	/* What the configuration had asked for ends once, with its pins; what commands did stays. */
	[NOT_DESIRED] = {
		[PINS_NOT_READ] = { { 0 }, { END }, { 0 }, { END } },
		[NOT_PINNED] = { { 0 }, { GONE }, { GONE }, { END } },
		[PINNED_SAME] = { { UNPIN }, { END }, { UNPIN }, { END } },
		[PINNED_ANEW] = { { UNPIN }, { RENEWED, UNPIN }, { RENEWED, UNPIN }, { END } },
		[PINNED_BY_COMMAND] = { { ATTACH }, { END }, { 0 }, { END } },
		[PINNED_ANEW_BY_COMMAND] =
			{ { ATTACH }, { RENEWED, ATTACH }, { RENEWED, ATTACH }, { END } },
		[PINNED_OBJECT_OF_COMMAND] = { { UNUSABLE }, { END }, { UNUSABLE }, { END } },
	},
	[DESIRED] = WHEN_DESIRED(0),
	[DESIRED_OTHERWISE] = WHEN_DESIRED(RECONCILE_OTHER_FORM),
	[DESIRED_RELABELLED] = WHEN_DESIRED(RECONCILE_OTHER_LABELS),
};

static void arrange(struct fixture *f, enum desired desired, enum pinned pinned,
		    enum attached attached)
{
	const struct probe_spec *specs[] = { NULL, &f->mine, &f->changed, &f->relabelled };
	bool is_anew = pinned == PINNED_ANEW || pinned == PINNED_ANEW_BY_COMMAND;

	if (desired)
		desire(f, specs[desired], PROBE_OF_CONFIG);
	if (pinned >= PINNED_SAME)
		pin(f, pinned == PINNED_OBJECT_OF_COMMAND ? &f->object : &f->mine,
		    pinned >= PINNED_BY_COMMAND ? PROBE_OF_COMMAND : PROBE_OF_CONFIG,
		    is_anew ? SINCE + 1 : SINCE);
	else if (pinned == NOT_PINNED)
		f->lists.pinned = f->pinned;
	if (attached)
		attach(f, PLACE, &f->mine,
		       attached == ATTACHED_BY_COMMAND ? PROBE_OF_COMMAND : PROBE_OF_CONFIG);
	f->live[PLACE].is_pinned = attached && attached != FAILED;
	if (attached == FAILED)
		f->live[PLACE].state = WIRE_PROBE_FAILED;
}

static void combination_try(enum desired desired, enum pinned pinned, enum attached attached)
{
	struct fixture *f;

	set_up((void **)&f);
	arrange(f, desired, pinned, attached);
	print_message("# desired %d, pinned %d, attached %d\n", desired, pinned, attached);
	expect(f, expected[desired][pinned][attached]);
	tear_down((void **)&f);
}

static void each_combination_gives_its_actions_in_order(void **state)
{
	(void)state;
	for (uint32_t desired = 0; desired < DESIRED_NR; desired++)
		for (uint32_t pinned = 0; pinned < PINNED_NR; pinned++)
			for (uint32_t attached = 0; attached < ATTACHED_NR; attached++)
				combination_try(desired, pinned, attached);
}

/* --- what an action is about ------------------------------------------------------------------ */

static void what_is_pinned_by_a_command_is_attached_as_a_command_s(void **state)
{
	struct fixture *f = *state;

	pin(f, &f->mine, PROBE_OF_COMMAND, SINCE);
	EXPECT(RECONCILE_ATTACH);
	assert_int_equal(f->actions[0].origin, PROBE_OF_COMMAND);
	assert_true(spec_equals(f->actions[0].spec, &f->mine));
}

/* The configuration asks for what a command had begun: from now on it is the configuration's. */
static void what_is_pinned_and_desired_is_attached_once_and_as_desired(void **state)
{
	struct fixture *f = *state;

	pin(f, &f->mine, PROBE_OF_COMMAND, SINCE);
	desire(f, &f->changed, PROBE_OF_CONFIG);
	EXPECT(RECONCILE_ATTACH);
	assert_int_equal(f->actions[0].origin, PROBE_OF_CONFIG);
	assert_ptr_equal(f->actions[0].spec, &f->changed);
}

static void an_object_that_a_command_seems_to_have_pinned_is_never_attached(void **state)
{
	struct fixture *f = *state;

	pin(f, &f->object, PROBE_OF_COMMAND, SINCE);
	EXPECT(RECONCILE_UNUSABLE);
	assert_string_equal(f->actions[0].name, "mine");
}

static void a_pinned_spec_that_does_not_check_is_never_attached(void **state)
{
	struct fixture *f = *state;

	f->mine.keys_nr = 99;
	pin(f, &f->mine, PROBE_OF_COMMAND, SINCE);
	EXPECT(RECONCILE_UNUSABLE);
}

static void a_probe_of_the_pack_is_attached_at_its_own_name_alone(void **state)
{
	struct fixture *f = *state;
	struct probe_spec forks;

	pack_spec(PROBE_FORKS, &forks);
	desire(f, &forks, PROBE_OF_PACK);
	strcpy(f->mine.name, "execs");
	desire(f, &f->mine, PROBE_OF_CONFIG);
	EXPECT(RECONCILE_ATTACH, RECONCILE_NAME_TAKEN);
	assert_string_equal(f->actions[0].name, "forks");
	assert_string_equal(f->actions[1].name, "execs");
	/* That section does not keep the pack's own one attached, either. */
	pack_spec(PROBE_EXECS, &forks);
	attach(f, PROBE_EXECS, &forks, PROBE_OF_PACK);
	f->lists.desired = f->desired + 1;
	f->lists.desired_nr = 1;
	EXPECT(RECONCILE_END, RECONCILE_NAME_TAKEN);
	assert_int_equal(f->actions[0].place, PROBE_EXECS);
}

static void what_ends_makes_room_before_anything_is_attached(void **state)
{
	struct fixture *f = *state;
	struct probe_spec other = f->mine;

	strcpy(other.name, "other");
	attach(f, PLACE, &f->mine, PROBE_OF_CONFIG);
	attach(f, PLACE + 1, &other, PROBE_OF_CONFIG);
	f->live[PLACE + 1].is_pinned = 1;
	pin(f, &other, PROBE_OF_CONFIG, SINCE + 1);
	desire(f, &other, PROBE_OF_CONFIG);
	EXPECT(RECONCILE_RENEWED, RECONCILE_END, RECONCILE_ATTACH);
	assert_int_equal(f->actions[0].place, PLACE + 1);
	assert_int_equal(f->actions[1].place, PLACE);
	assert_ptr_equal(f->actions[2].spec, &other);
}

static void all_that_is_full_fits_into_the_actions(void **state)
{
	struct fixture *f = *state;

	for (uint32_t place = PLACE; place < PROBES_MAX; place++) {
		attach(f, place, &f->mine, PROBE_OF_CONFIG);
		snprintf(f->live[place].spec.name, sizeof(f->live[place].spec.name), "p%u", place);
	}
	pin(f, &f->mine, PROBE_OF_CONFIG, SINCE);
	desire(f, &f->changed, PROBE_OF_CONFIG);
	f->nr = reconcile(&f->lists, f->actions);
	assert_int_equal(f->nr, PROBES_MAX - PLACE + 1);
	assert_true(f->nr <= reconcile_max(&f->lists));
}

#define RECONCILE_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_combination_gives_its_actions_in_order),
		RECONCILE_TEST(what_is_pinned_by_a_command_is_attached_as_a_command_s),
		RECONCILE_TEST(what_is_pinned_and_desired_is_attached_once_and_as_desired),
		RECONCILE_TEST(an_object_that_a_command_seems_to_have_pinned_is_never_attached),
		RECONCILE_TEST(a_pinned_spec_that_does_not_check_is_never_attached),
		RECONCILE_TEST(a_probe_of_the_pack_is_attached_at_its_own_name_alone),
		RECONCILE_TEST(what_ends_makes_room_before_anything_is_attached),
		RECONCILE_TEST(all_that_is_full_fits_into_the_actions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

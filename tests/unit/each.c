/*
 * Reading many counters beside removal, and adding to members that come and go: the library on a region
 * whose worker is this test, one step of PROTOCOL 2 and 3 at a time. tests/system/members.c does the
 * same with a talead.
 */
#include "tests/lib/test.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#undef fail /* cmocka's; the library has its own */
#include "client/internal.h"
#include "tests/lib/writer.h"

#define ROW (64 * 8)
#define GLOB "likes_total"

static struct writer w;
static struct totals_shm *totals;
static char *shards;
static struct region region;
static struct attach attach;
static struct talea talea = { .attach = &attach };
static uint32_t family, removed;

static void *map_part(enum region_part part)
{
	int rw, ro;
	void *at;

	assert_int_equal(region_make(part, "test", &rw, &ro), 0);
	assert_int_equal(region_map(rw, part, true, &at), 0);
	close(rw);
	close(ro);
	return at;
}

static int open_region(void **state)
{
	(void)state;
	assert_int_equal(writer_init(&w), 0);
	totals = map_part(REGION_T);
	shards = map_part(REGION_S);
	w.d->cpus_nr = (uint32_t)sysconf(_SC_NPROCESSORS_CONF);
	region = (struct region){ .view = { w.d, shards, totals }, .writable = true };
	attach.region = &region;
	family = writer_name(&w, SHM_FAMILY, "likes_total", "post", SHM_KEY_U64);
	removed = dir_name(w.d, writer_slot(&w, family)->name)->removed;
	return 0;
}

static int close_region(void **state)
{
	(void)state;
	munmap(totals, region_bytes(REGION_T));
	munmap(shards, region_bytes(REGION_S));
	writer_fini(&w);
	return 0;
}

/* --- the worker -------------------------------------------------------------------------------- */

static uint64_t *cell_of(uint32_t slot)
{
	return (uint64_t *)(shards + shards_cold(slot));
}

static uint32_t make_member(uint64_t key, uint32_t slot)
{
	return writer_member(&w, SHM_MEMBER, family, &key, sizeof(key), slot);
}

static void give_row(uint32_t slot)
{
	struct slot_shm *s = writer_slot(&w, slot);
	uint32_t v = state_version(s->state);

	s->base[(v + 1) & 1] = s->base[v & 1];
	shm_publish(&s->state, state_make(v + 1, 0, ROW));
	shm_publish(&s->route, slot_route(slot_generation(s->route), ROW));
}

static uint64_t row_sum(void)
{
	uint64_t sum = 0;

	for (uint32_t cpu = 0; cpu < w.d->cpus_nr; cpu++)
		sum += shm_count_read((uint64_t *)(shards + shards_lane(cpu) + ROW));
	return sum;
}

static int64_t counted(uint32_t slot)
{
	const struct slot_shm *s = writer_slot(&w, slot);
	uint64_t sum = shm_count_read(cell_of(slot));

	if (slot_row(s->state) == ROW)
		sum += row_sum();
	return s->base[state_version(s->state) & 1] + (int64_t)sum;
}

/* The grace has passed: what the member holds goes to `removed`. */
static void end_removal(uint32_t slot)
{
	writer_move(&w, slot, removed, counted(slot), (int64_t)*cell_of(slot));
}

static void fold(void)
{
	uint64_t next = totals->epoch + 1, *copy;

	copy = (uint64_t *)((char *)totals + SHM_T_TOTALS + (next & 1) * SHM_T_COPY);
	/* ORDER(epoch): see snapshot_take. */
	shm_seq_write_begin();
	for (uint32_t slot = 1; slot < w.d->slots_nr; slot++) {
		const struct slot_shm *s = writer_slot(&w, slot);
		bool is_owned = (slot_generation(s->route) & 1) ||
				(state_flags(s->state) & SHM_F_REMOVING);

		shm_count_set(&copy[slot], is_owned ? (uint64_t)counted(slot) : 0);
		shm_set8((uint8_t *)totals + SHM_T_STATES + slot, is_owned ? SHM_T_OK : SHM_T_UNUSED);
	}
	shm_count_set(&totals->slots_nr[next & 1], w.d->slots_nr);
	shm_count_set(&totals->fold_mono_ns[next & 1], mono_ns());
	shm_publish(&totals->epoch, next);
}

/* --- the reader -------------------------------------------------------------------------------- */

struct seen {
	int64_t sum, of_removed;
	int nr, compacted_nr;
	const char *wanted; /* one name: */
	int wanted_nr;
	int64_t wanted_value;
};

static int note(const char *name, const struct talea_total *n, void *arg)
{
	struct seen *s = arg;

	s->sum += n->value;
	s->nr++;
	s->compacted_nr += n->how == TALEA_COMPACTED;
	if (!strcmp(name, "likes_total{talea=\"removed\"}"))
		s->of_removed = n->value;
	if (s->wanted && !strcmp(name, s->wanted)) {
		s->wanted_nr++;
		s->wanted_value = n->value;
	}
	return 0;
}

static struct seen see(enum talea_how how, const char *glob, const char *wanted)
{
	struct seen s = { .wanted = wanted };

	assert_int_equal(talea_each(&talea, glob, how, note, &s), 0);
	return s;
}

static void assert_family_is(int64_t sum)
{
	assert_int_equal(see(TALEA_SUM, GLOB, NULL).sum, sum);
	assert_int_equal(see(TALEA_COMPACTED, GLOB, NULL).sum, sum);
}

static void a_removal_never_changes_the_sum_of_its_family(void **state)
{
	static const char name[] = "likes_total{post=\"7\"}";
	uint32_t slot = make_member(7, 0);

	(void)state;
	make_member(8, 0);
	shm_count_add(cell_of(slot), 70);
	shm_count_add(cell_of(slot + 1), 8);
	fold();
	fold();
	assert_family_is(78);
	writer_remove(&w, slot);
	assert_family_is(78);
	/* It is shown by its name until what it counted has moved. */
	assert_int_equal(see(TALEA_SUM, GLOB, name).wanted_value, 70);
	assert_int_equal(see(TALEA_COMPACTED, GLOB, name).wanted_value, 70);
	fold();
	assert_family_is(78);
	end_removal(slot);
	assert_family_is(78);
	assert_int_equal(see(TALEA_COMPACTED, GLOB, name).wanted_value, 70);
	assert_int_equal(see(TALEA_SUM, GLOB, name).of_removed, 70);
	fold();
	assert_family_is(78);
	assert_int_equal(see(TALEA_COMPACTED, GLOB, name).wanted_nr, 0);
	assert_int_equal(see(TALEA_COMPACTED, GLOB, NULL).of_removed, 70);
	fold();
	assert_int_equal(make_member(9, slot), slot);
	assert_family_is(78);
	shm_count_add(cell_of(slot), 1);
	assert_int_equal(see(TALEA_SUM, GLOB, "likes_total{post=\"9\"}").wanted_value, 1);
	fold();
	assert_family_is(79);
}

static void a_member_made_again_beside_its_removal_is_visited_once(void **state)
{
	static const char name[] = "likes_total{post=\"7\"}";
	uint32_t old = make_member(7, 0), again;
	struct seen s;

	(void)state;
	shm_count_add(cell_of(old), 70);
	fold();
	writer_remove(&w, old);
	again = make_member(7, 0);
	assert_int_not_equal(again, old);
	shm_count_add(cell_of(again), 5);
	fold();
	for (int how = TALEA_SUM; how <= TALEA_COMPACTED; how++) {
		s = see(how, GLOB, name);
		assert_int_equal(s.wanted_nr, 1);
		assert_int_equal(s.wanted_value, 5);
		assert_int_equal(s.of_removed, 70);
		assert_int_equal(s.sum, 75);
	}
	end_removal(old);
	fold();
	s = see(TALEA_COMPACTED, GLOB, name);
	assert_int_equal(s.wanted_value, 5);
	assert_int_equal(s.of_removed, 70);
}

static void sums_answer_compacted_while_two_slots_change(void **state)
{
	uint32_t slot = make_member(7, 0);
	struct seen s;

	(void)state;
	shm_count_add(cell_of(slot), 70);
	fold();
	shm_count_add(cell_of(slot), 1);
	make_member(8, 0);
	s = see(TALEA_SUM, GLOB, NULL);
	assert_int_equal(s.sum, 71);
	assert_int_equal(s.compacted_nr, 0);
	w.d->moves++; /* and the worker is killed here */
	s = see(TALEA_SUM, GLOB, NULL);
	assert_int_equal(s.sum, 70);
	assert_int_equal(s.compacted_nr, s.nr);
	/* One slot is exact by itself. */
	s = see(TALEA_SUM, "likes_total{post=\"7\"}", NULL);
	assert_int_equal(s.sum, 71);
	assert_int_equal(s.compacted_nr, 0);
	w.d->moves++;
	assert_int_equal(see(TALEA_SUM, GLOB, NULL).compacted_nr, 0);
}

static uint64_t has_ended;

/* Epochs that come fast and say that their folds began long ago, or now. */
static void *publish_epochs(void *arg)
{
	const bool *is_old = arg;

	while (!shm_count_read(&has_ended)) {
		uint64_t next = totals->epoch + 1;
		struct timespec pause = { .tv_nsec = 20000 };

		shm_count_set(&totals->fold_mono_ns[next & 1],
			      mono_ns() - (*is_old ? 2 * SHM_QUARANTINE_NS : 0));
		shm_publish(&totals->epoch, next);
		nanosleep(&pause, NULL);
	}
	return NULL;
}

static void names_that_are_read_too_late_are_not_believed(void **state)
{
	struct seen s = { 0 };
	pthread_t thread;
	bool is_old = true;

	(void)state;
	for (uint64_t key = 0; key < 2000; key++)
		shm_count_add(cell_of(make_member(key, 0)), 1);
	fold();
	fold();
	/* A worker that stands still hands nothing out, however old its totals are. */
	totals->fold_mono_ns[totals->epoch & 1] = 1;
	w.d->moves++;
	assert_int_equal(see(TALEA_COMPACTED, GLOB, NULL).sum, 2000);
	has_ended = 0;
	assert_int_equal(pthread_create(&thread, NULL, publish_epochs, &is_old), 0);
	for (int err = 0; err != -EAGAIN;)
		err = talea_each(&talea, GLOB, TALEA_COMPACTED, note, &s);
	shm_count_set(&has_ended, 1);
	pthread_join(thread, NULL);
	/* Nothing was removed since: their owners are still the same. */
	w.d->moves++;
	has_ended = 0;
	assert_int_equal(pthread_create(&thread, NULL, publish_epochs, &is_old), 0);
	for (int i = 0; i < 20; i++)
		assert_int_equal(see(TALEA_COMPACTED, GLOB, NULL).sum, 2000);
	shm_count_set(&has_ended, 1);
	pthread_join(thread, NULL);
}

/* --- all at once ------------------------------------------------------------------------------- */

#define KEYS_NR 300

static uint64_t begun, finished;

struct watcher {
	enum talea_how how;
	bool is_naive; /* control: sums without a look at moves */
	uint64_t reads, outside, fell, summed;
};

/* What the family counts by one read_sum after the other. */
static int64_t naive_sum(void)
{
	int64_t sum = 0;

	for (uint32_t slot = SHM_SLOT_FIRST; slot < shm_take(&w.d->slots_nr); slot++) {
		const struct slot_shm *s = dir_slot(w.d, slot);
		uint64_t state;
		int64_t n;

		do {
			state = shm_take(&s->state);
			n = (int64_t)shm_count_read(
				(const uint64_t *)&s->base[state_version(state) & 1]);
			n += (int64_t)shm_count_read(cell_of(slot));
		} while (shm_seq_read_retry(&s->state, state));
		sum += n;
	}
	return sum;
}

static void *watch(void *arg)
{
	struct watcher *r = arg;
	int64_t last = 0;

	test_seqlock_begin();
	for (; !shm_count_read(&has_ended); r->reads++) {
		int64_t low = (int64_t)shm_take(&finished), high;
		struct seen s = { 0 };
		bool is_sum;

		if (r->is_naive)
			s.sum = naive_sum();
		else if (talea_each(&talea, GLOB, r->how, note, &s))
			continue;
		shm_fence();
		high = (int64_t)shm_take(&begun);
		is_sum = r->how == TALEA_SUM && !s.compacted_nr;
		r->summed += is_sum;
		r->outside += s.sum > high || (is_sum && s.sum < low);
		if (r->how == TALEA_SUM && !is_sum)
			continue;
		r->fell += s.sum < last;
		last = s.sum;
	}
	test_seqlock_end();
	return NULL;
}

/* Adds to a member, removes one, ends a removal, makes one again: each round, with folds between. */
static void churn(unsigned int ms)
{
	uint64_t end = mono_ns() + ms * NS_PER_MS;
	uint32_t slots[KEYS_NR], turn = 0;

	for (uint64_t key = 0; key < KEYS_NR; key++)
		slots[key] = make_member(key, 0);
	while (mono_ns() < end) {
		uint32_t at = turn++ % KEYS_NR, slot = slots[at];

		for (uint32_t i = 0; i < KEYS_NR; i += 7) {
			shm_publish(&begun, begun + i + 1);
			shm_count_add(cell_of(slots[i]), i + 1);
			shm_publish(&finished, begun);
		}
		if (turn % 4)
			fold();
		writer_remove(&w, slot);
		if (turn % 3)
			fold();
		end_removal(slot);
		fold();
		fold();
		make_member(at, slot);
		if (w.used > 700)
			writer_rebuild(&w, w.order);
		if (turn % 16 == 0) {
			struct timespec pause = { .tv_nsec = 1000000 };

			nanosleep(&pause, NULL);
		}
	}
}

static struct watcher watched(enum talea_how how, bool is_naive)
{
	struct watcher r = { .how = how, .is_naive = is_naive };
	pthread_t thread;

	begun = finished = has_ended = 0;
	assert_int_equal(pthread_create(&thread, NULL, watch, &r), 0);
	churn(1000);
	shm_count_set(&has_ended, 1);
	pthread_join(thread, NULL);
	assert_true(r.reads > 20);
	return r;
}

static void the_sum_of_a_family_is_within_begun_and_finished_beside_removals(void **state)
{
	struct watcher r = watched(TALEA_SUM, false);

	(void)state;
	assert_int_equal(r.outside, 0);
	assert_int_equal(r.fell, 0);
	assert_true(r.summed > 0);
}

static void the_compacted_sum_of_a_family_never_falls_beside_removals(void **state)
{
	struct watcher r = watched(TALEA_COMPACTED, false);

	(void)state;
	assert_int_equal(r.outside, 0);
	assert_int_equal(r.fell, 0);
}

static void control_sums_without_moves_are_outside(void **state)
{
	struct watcher r = watched(TALEA_SUM, true);

	(void)state;
	assert_true(r.outside + r.fell > 0);
}

/* --- adding ------------------------------------------------------------------------------------ */

static struct family_bind family_bind;
static struct talea_family_ family_record = { .type = SHM_FAMILY, .key_kind = SHM_KEY_U64 };
static struct talea_family likes = { &family_record };

static void bind_family_record(void)
{
	family_bind = (struct family_bind){ .region = &region, .slot = family,
					    .removed = cell_of(removed) };
	family_record.attach = &attach;
	family_record.bind = &family_bind;
}

static void add(uint64_t key, uint64_t n)
{
	assert_int_equal(talea_family_add(&likes, &key, sizeof(key), n), 0);
}

static void adds_by_key_go_to_the_row_that_there_is(void **state)
{
	uint32_t slot = make_member(7, 0);
	struct slot_shm *s = writer_slot(&w, slot);
	bool has_rows;

	(void)state;
	bind_family_record();
	add(7, 1);
	assert_int_equal(*cell_of(slot), 1);
	give_row(slot);
	add(7, 10);
	has_rows = *cell_of(slot) == 1; /* not where threads have no rseq */
	if (target_rseq_off(NULL) && !TEST_IS_TSAN)
		assert_true(has_rows);
	assert_int_equal(row_sum(), has_rows ? 10 : 0);
	assert_int_equal(counted(slot), 11);
	shm_publish(&s->route, slot_route(slot_generation(s->route), SHM_ROW_NONE));
	add(7, 100);
	assert_int_equal(counted(slot), 111);
	assert_int_equal(row_sum(), has_rows ? 10 : 0);
}

/* A handle as talea_family_get makes one. */
static struct talea_counter handle_of(uint64_t key)
{
	struct bind *b = bind_alloc(), *binds[1] = { b };
	struct key *k = aligned_alloc(64, 256), *keys[1] = { k };
	uint32_t generation = 0, slot = dir_find(w.d, family, &key, sizeof(key), &generation);

	memset(k, 0, 256);
	target_init(&k->target);
	k->type = SHM_MEMBER;
	*b = (struct bind){
		.kind = BIND_MEMBER,
		.is_own_member = true,
		.generation = generation,
		.slot = slot,
		.word = &writer_slot(&w, slot)->route,
		.cold = cell_of(slot),
		.removed = cell_of(removed),
		.fallback = &((struct shards_shm *)shards)->fallback_used,
		.region = &region,
	};
	target_rebind(keys, binds, 1);
	return (struct talea_counter){ &k->target };
}

static struct bind *bind_of(struct talea_counter c)
{
	return c.target_->bind;
}

static void late_adds_count_in_removed_and_mark_their_handle(void **state)
{
	uint32_t slot = make_member(7, 0);
	struct talea_total n = { .size = sizeof(n) };
	struct talea_counter c = handle_of(7);
	struct talea_stamp stamp;

	(void)state;
	give_row(slot);
	fold();
	talea_add(c, 1);
	talea_add_fn(c, 2);
	assert_int_equal(counted(slot), 3);
	assert_int_equal(talea_read(&talea, c, TALEA_SUM, 0, &n), 0);
	assert_int_equal(n.value, 3);
	assert_int_equal(talea_peek(c, &stamp), 0);
	assert_int_equal(stamp.value, 0);
	assert_false(bind_of(c)->is_late);
	writer_remove(&w, slot);
	assert_int_equal(talea_read(&talea, c, TALEA_SUM, 0, &n), -ENOENT);
	assert_non_null(strstr(talea_strerror(&talea, -ENOENT), "removed"));
	assert_int_equal(talea_read(&talea, c, TALEA_COMPACTED, 0, &n), -ENOENT);
	assert_int_equal(talea_peek(c, &stamp), -ENOENT);
	assert_int_equal(region.has_gone, 1); /* because it was read */
	assert_false(bind_of(c)->is_late);
	region.has_gone = 0;
	talea_add(c, 10);
	assert_true(bind_of(c)->is_late);
	assert_int_equal(region.has_gone, 1);
	end_removal(slot);
	make_member(8, slot);
	give_row(slot);
	talea_inc(c); /* the row and the cell are another's by now */
	talea_inc_fn(c);
	assert_int_equal(*cell_of(removed), 12);
	assert_int_equal(talea_read(&talea, c, TALEA_SUM, 0, &n), -ENOENT);
	assert_int_equal(counted(removed), 15);
	assert_int_equal(talea_read_name(&talea, "likes_total{post=\"8\"}", TALEA_SUM, 0, &n), 0);
	free(key_of(c.target_));
}

#define EACH_TEST(f) cmocka_unit_test_setup_teardown(f, open_region, close_region)

int main(void)
{
	const struct CMUnitTest tests[] = {
		EACH_TEST(a_removal_never_changes_the_sum_of_its_family),
		EACH_TEST(a_member_made_again_beside_its_removal_is_visited_once),
		EACH_TEST(sums_answer_compacted_while_two_slots_change),
		EACH_TEST(names_that_are_read_too_late_are_not_believed),
		EACH_TEST(the_sum_of_a_family_is_within_begun_and_finished_beside_removals),
		EACH_TEST(the_compacted_sum_of_a_family_never_falls_beside_removals),
		EACH_TEST(control_sums_without_moves_are_outside),
		EACH_TEST(adds_by_key_go_to_the_row_that_there_is),
		EACH_TEST(late_adds_count_in_removed_and_mark_their_handle),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

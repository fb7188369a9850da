/*
 * Look-ups beside the one writer: keys that stay are found in every moment of doubling, rebuilding,
 * removal and reuse; a look-up never gives the slot of another key; and whatever bytes a directory
 * holds, reading it never faults.
 */
#include "tests/lib/test.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shm/names.h"
#include "shm/region.h"
#include "tests/lib/child.h"
#include "tests/lib/writer.h"

#define STABLE_NR 500
#define STABLE_KEY (1ull << 40)
#define LIFE_KEYS_NR 16
#define READERS_NR 3

static struct writer w;
static uint32_t family;

static int open_directory(void **state)
{
	(void)state;
	if (writer_init(&w))
		return -1;
	family = writer_name(&w, SHM_FAMILY, "likes_total", "post", SHM_KEY_U64);
	return 0;
}

static int close_directory(void **state)
{
	(void)state;
	writer_fini(&w);
	return 0;
}

static uint32_t find_key(uint64_t key)
{
	uint32_t generation;

	return dir_find(w.d, family, &key, sizeof(key), &generation);
}

static void all_members_are_found_through_every_doubling(void **state)
{
	uint32_t first_order = w.order, slots[5000];

	(void)state;
	for (uint64_t key = 0; key < 5000; key++) {
		slots[key] = writer_member(&w, SHM_MEMBER, family, &key, sizeof(key), 0);
		assert_int_equal(find_key(key), slots[key]);
	}
	assert_true(w.order >= first_order + 2);
	for (uint64_t key = 0; key < 5000; key++)
		assert_int_equal(find_key(key), slots[key]);
	assert_int_equal(find_key(5000), SHM_SLOT_NONE);
}

static void removal_leaves_a_tombstone_that_probing_passes(void **state)
{
	uint64_t first, second, wanted_place;
	uint32_t a, b, mask = (1u << w.order) - 1;

	(void)state;
	/* Two keys whose probing begins at the last place of the table: the second one wraps. */
	wanted_place = mask;
	for (first = 0; (dir_hash(w.d, family, &first, 8) & mask) != wanted_place; first++)
		;
	for (second = first + 1; (dir_hash(w.d, family, &second, 8) & mask) != wanted_place;
	     second++)
		;
	a = writer_member(&w, SHM_MEMBER, family, &first, 8, 0);
	b = writer_member(&w, SHM_MEMBER, family, &second, 8, 0);
	assert_int_equal(find_key(first), a);
	assert_int_equal(find_key(second), b);
	assert_int_not_equal(dir_index(w.d, w.d->index_word)[0], 0);
	writer_remove(&w, a);
	assert_int_equal(find_key(first), SHM_SLOT_NONE);
	assert_int_equal(find_key(second), b);
	assert_int_equal(writer_member(&w, SHM_MEMBER, family, &first, 8, 0), a + 2);
	assert_int_equal(find_key(first), a + 2);
}

static void a_reused_slot_answers_to_its_new_key_alone(void **state)
{
	uint64_t old_key = 1, new_key = 2;
	uint32_t slot, generation = 0;

	(void)state;
	slot = writer_member(&w, SHM_MEMBER, family, &old_key, 8, 0);
	writer_remove(&w, slot);
	assert_int_equal(writer_member(&w, SHM_MEMBER, family, &new_key, 8, slot), slot);
	assert_int_equal(find_key(old_key), SHM_SLOT_NONE);
	assert_int_equal(dir_find(w.d, family, &new_key, 8, &generation), slot);
	assert_int_equal(generation, 3);
	/* The same key in another family, or as a counter's name, is another key. */
	assert_int_equal(dir_find(w.d, family + 1, &new_key, 8, &generation), SHM_SLOT_NONE);
	assert_int_equal(dir_find(w.d, 0, &new_key, 8, &generation), SHM_SLOT_NONE);
}

static void a_full_table_without_an_empty_place_ends_the_search(void **state)
{
	uint32_t *table = (uint32_t *)(uintptr_t)dir_index(w.d, w.d->index_word);

	(void)state;
	for (uint32_t i = 0; i < 1u << w.order; i++)
		table[i] = 0x55000000u; /* tombstones */
	assert_int_equal(find_key(1), SHM_SLOT_NONE);
	w.d->index_word = 31;
	assert_int_equal(find_key(1), SHM_SLOT_NONE);
}

/* --- readers beside the writer ------------------------------------------------------------- */

static uint32_t stable_slots[STABLE_NR];
static uint64_t lives[LIFE_KEYS_NR]; /* keys of one tag and one first place in the index */
static uint32_t life_slot;
static uint64_t life; /* life_slot has, or gets, lives[life % LIFE_KEYS_NR] */
static uint64_t has_ended;

struct reader {
	uint64_t seed, looked, hits, missed, mixed;
};

static void *read_keys_that_stay(void *arg)
{
	char buf[NAME_DISPLAY_MAX], want[64];
	struct reader *r = arg;

	for (; !shm_count_read(&has_ended); r->looked++) {
		uint64_t at = r->seed++ % STABLE_NR, key = STABLE_KEY + at;

		if (find_key(key) != stable_slots[at])
			r->missed++;
		if (r->looked % 16)
			continue;
		snprintf(want, sizeof(want), "likes_total{post=\"%llu\"}", (unsigned long long)key);
		if (name_display(w.d, stable_slots[at], buf, sizeof(buf)) < 0 || strcmp(buf, want))
			r->mixed++;
	}
	return NULL;
}

static void *read_keys_that_come_and_go(void *arg)
{
	struct reader *r = arg;

	test_seqlock_begin();
	for (; !shm_count_read(&has_ended); r->looked++) {
		uint64_t n = shm_count_read(&life), key = lives[n % LIFE_KEYS_NR];
		uint32_t generation, slot;

		slot = dir_find(w.d, family, &key, sizeof(key), &generation);
		if (slot == SHM_SLOT_NONE)
			continue;
		r->hits++;
		/* The generation of this life of the key, or of a later one; never of another key. */
		if (slot != life_slot || (generation - (uint32_t)(1 + 2 * n)) % (2 * LIFE_KEYS_NR))
			r->mixed++;
	}
	test_seqlock_end();
	return NULL;
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void run_readers(void *(*read)(void *), void (*write)(uint64_t round), struct reader *readers)
{
	pthread_t threads[READERS_NR];
	uint64_t end, round = 0;

	has_ended = 0;
	for (int i = 0; i < READERS_NR; i++) {
		readers[i] = (struct reader){ .seed = (uint64_t)i * 100 };
		assert_int_equal(pthread_create(&threads[i], NULL, read, &readers[i]), 0);
	}
	for (end = now_ms() + 700; now_ms() < end; round++)
		write(round);
	shm_count_set(&has_ended, 1);
	for (int i = 0; i < READERS_NR; i++) {
		pthread_join(threads[i], NULL);
		assert_true(readers[i].looked > 1000);
		assert_int_equal(readers[i].missed, 0);
		assert_int_equal(readers[i].mixed, 0);
	}
	assert_true(round > 100);
}

static void rebuild_one_place(uint64_t round)
{
	(void)round;
	writer_rebuild(&w, w.order);
}

static void grow_and_shrink(uint64_t round)
{
	uint64_t key = round;

	writer_remove(&w, life_slot);
	writer_member(&w, SHM_MEMBER, family, &key, sizeof(key), life_slot);
	if (round % 8 == 0)
		writer_rebuild(&w, SHM_INDEX_ORDER_MIN + round / 8 % 3);
}

static void make_stable_keys(void)
{
	for (uint64_t i = 0; i < STABLE_NR; i++) {
		uint64_t key = STABLE_KEY + i;

		stable_slots[i] = writer_member(&w, SHM_MEMBER, family, &key, sizeof(key), 0);
	}
}

static void keys_that_stay_are_found_while_tables_are_rebuilt_in_place(void **state)
{
	struct reader readers[READERS_NR];

	(void)state;
	make_stable_keys();
	run_readers(read_keys_that_stay, rebuild_one_place, readers);
}

static void keys_that_stay_are_found_beside_growth_removal_and_reuse(void **state)
{
	struct reader readers[READERS_NR];
	uint64_t key = 77;

	(void)state;
	make_stable_keys();
	life_slot = writer_member(&w, SHM_MEMBER, family, &key, sizeof(key), 0);
	run_readers(read_keys_that_stay, grow_and_shrink, readers);
}

static void live_again(uint64_t round)
{
	(void)round;
	/* The next key is told first, so that readers wait for it. */
	shm_count_set(&life, life + 1);
	writer_remove(&w, life_slot);
	writer_member(&w, SHM_MEMBER, family, &lives[life % LIFE_KEYS_NR], 8, life_slot);
}

static bool hashes_alike(uint64_t a, uint64_t b)
{
	return (a >> 56) == (b >> 56) && !((a ^ b) & ((1u << SHM_INDEX_ORDER_MIN) - 1));
}

static void a_slot_handed_out_again_never_answers_with_an_older_generation(void **state)
{
	struct reader readers[READERS_NR];
	uint64_t hits = 0, first, key = 1;

	(void)state;
	/* Route and name of this slot lie in two cache lines: the widest gap between their loads. */
	while (w.d->slots_nr * sizeof(struct slot_shm) % 64 != 40)
		w.d->slots_nr++;
	first = dir_hash(w.d, family, &key, 8);
	for (int nr = 0; nr < LIFE_KEYS_NR; key++) {
		if (hashes_alike(first, dir_hash(w.d, family, &key, 8)))
			lives[nr++] = key;
	}
	life = 0;
	life_slot = writer_member(&w, SHM_MEMBER, family, &lives[0], 8, 0);
	run_readers(read_keys_that_come_and_go, live_again, readers);
	for (int i = 0; i < READERS_NR; i++)
		hits += readers[i].hits;
	assert_true(hits > 1000);
}

/* --- names beside reuse of their record ----------------------------------------------------- */

#define LONG_KEY 1000

static char long_keys[2][LONG_KEY];
static uint32_t text_family;
static bool uses_last; /* control: the last owner's name, without the quarantine that it needs */

static void *read_names_that_change(void *arg)
{
	char buf[NAME_DISPLAY_MAX];
	struct reader *r = arg;
	uint32_t generation;

	test_seqlock_begin();
	for (; !shm_count_read(&has_ended); r->looked++) {
		int n = uses_last ? name_display_last(w.d, life_slot, buf, sizeof(buf), &generation) :
				    name_display(w.d, life_slot, buf, sizeof(buf));
		const char *key = n < 0 ? NULL : strchr(buf, '"');

		if (!key)
			continue;
		r->hits++;
		for (int i = 2; i <= LONG_KEY; i++)
			r->mixed += key[i] != key[1];
	}
	test_seqlock_end();
	return NULL;
}

static void change_the_name(uint64_t round)
{
	writer_remove(&w, life_slot);
	writer_member(&w, SHM_MEMBER, text_family, long_keys[round & 1], LONG_KEY, life_slot);
	if (w.used > 700)
		writer_rebuild(&w, w.order);
}

static void make_the_name(void)
{
	memset(long_keys[0], 'a', LONG_KEY);
	memset(long_keys[1], 'b', LONG_KEY);
	text_family = writer_name(&w, SHM_FAMILY, "texts_total", "key", SHM_KEY_TEXT);
	life_slot = writer_member(&w, SHM_MEMBER, text_family, long_keys[0], LONG_KEY, 0);
}

/* Runs readers beside the writer; names of two owners in one. */
static uint64_t mixed_names(void)
{
	struct reader readers[READERS_NR];
	pthread_t threads[READERS_NR];
	uint64_t end, mixed = 0, hits = 0;

	has_ended = 0;
	for (int i = 0; i < READERS_NR; i++) {
		readers[i] = (struct reader){ .seed = 0 };
		assert_int_equal(
			pthread_create(&threads[i], NULL, read_names_that_change, &readers[i]), 0);
	}
	end = now_ms() + 700;
	for (uint64_t round = 0; now_ms() < end; round++)
		change_the_name(round);
	shm_count_set(&has_ended, 1);
	for (int i = 0; i < READERS_NR; i++) {
		pthread_join(threads[i], NULL);
		mixed += readers[i].mixed;
		hits += readers[i].hits;
	}
	assert_true(hits > 1000);
	return mixed;
}

static void a_name_is_never_that_of_two_owners(void **state)
{
	(void)state;
	uses_last = false;
	make_the_name();
	assert_int_equal(mixed_names(), 0);
}

/* How soon one is seen depends on what else the machine does. */
static void control_the_last_name_without_quarantine_is_that_of_two_owners(void **state)
{
	uint64_t mixed = 0;

	(void)state;
	if (TEST_IS_TSAN)
		skip();
	uses_last = true;
	make_the_name();
	for (int i = 0; i < 20 && !mixed; i++)
		mixed += mixed_names();
	assert_true(mixed > 0);
}

/* --- damaged directories ------------------------------------------------------------------- */

static uint64_t random_state = 88172645463325252ull;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static void scribble(void *where, size_t bytes)
{
	for (size_t i = 0; i + 8 <= bytes; i += 8)
		*(uint64_t *)((char *)where + i) = next_random() >> next_random() % 64;
}

/* Half of the slots are made plausible, or the generation would end most reads at once. */
static void scribble_slots(void)
{
	for (uint32_t slot = 0; slot < 2000; slot++) {
		struct slot_shm *s = writer_slot(&w, slot);

		scribble(s, sizeof(*s));
		if (slot & 1)
			continue;
		s->route |= 1ull << 32;
		s->name = name_make((next_random() & 0xffff8ull) | (slot & 2 ? 0 : ~0xffffffull),
				    (uint32_t)next_random() % 1100, (uint8_t)(next_random() % 12));
	}
}

static int read_a_scribbled_directory(void)
{
	static const char *const names[] = { "likes_total", "likes_total{post=\"42\"}",
					     "likes_total{talea=\"other\"}", "x{a=\"1\",b=\"2\"}" };
	char buf[NAME_DISPLAY_MAX];
	uint32_t generation;

	for (int round = 0; round < 150; round++) {
		uint32_t order = (uint32_t)next_random() % 14;

		scribble_slots();
		scribble((char *)w.d + SHM_D_NAMES, 1 << 20);
		scribble((char *)w.d + SHM_D_NAMES + SHM_NAMES_BYTES - 8192, 8192);
		w.d->index_word = next_random() & 1 ? order : next_random();
		scribble((char *)w.d + SHM_D_INDEX, 1 << 18);
		for (uint32_t slot = 0; slot < 2000; slot++) {
			int n = name_display(w.d, slot, buf, sizeof(buf));

			if (n >= (int)sizeof(buf) || (n > 0 && strlen(buf) != (size_t)n))
				return 1;
		}
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			name_find(w.d, names[i], &generation);
		for (uint64_t key = 0; key < 100; key++)
			dir_find(w.d, (uint32_t)key, &key, 1 + key % 8, &generation);
	}
	return 0;
}

static void a_scribbled_directory_never_faults_its_reader(void **state)
{
	pid_t pid = test_fork();
	int status;

	(void)state;
	if (pid == 0)
		_exit(read_a_scribbled_directory());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

#define DIRECTORY_TEST(f) cmocka_unit_test_setup_teardown(f, open_directory, close_directory)

int main(void)
{
	const struct CMUnitTest tests[] = {
		DIRECTORY_TEST(all_members_are_found_through_every_doubling),
		DIRECTORY_TEST(removal_leaves_a_tombstone_that_probing_passes),
		DIRECTORY_TEST(a_reused_slot_answers_to_its_new_key_alone),
		DIRECTORY_TEST(a_full_table_without_an_empty_place_ends_the_search),
		DIRECTORY_TEST(keys_that_stay_are_found_while_tables_are_rebuilt_in_place),
		DIRECTORY_TEST(keys_that_stay_are_found_beside_growth_removal_and_reuse),
		DIRECTORY_TEST(a_slot_handed_out_again_never_answers_with_an_older_generation),
		DIRECTORY_TEST(a_name_is_never_that_of_two_owners),
		DIRECTORY_TEST(control_the_last_name_without_quarantine_is_that_of_two_owners),
		DIRECTORY_TEST(a_scribbled_directory_never_faults_its_reader),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

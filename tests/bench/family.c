/*
 * What it costs to resolve a key of a family and add, with 100,000 u64 keys in random order,
 * beside two look-ups of the same keys in the same order that do not add: uthash and talea's own
 * index. Each look-up uses what it found: uthash the value in the entry, the index the number of
 * the slot. Called by tests/bench/run.
 *
 * uthash is tuned as its guide says: the entries lie in one array, a fast hash of 8 bytes (the one
 * that the index uses) instead of Jenkins', keys compared as integers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>
#define HASH_FUNCTION(key, len, hash) ((hash) = (unsigned int)XXH3_64bits_withSeed((key), 8, 1))
#define HASH_KEYCMP(a, b, len) (*(const uint64_t *)(a) != *(const uint64_t *)(b))
#include <uthash.h>

#include "shm/directory.h"
#include "tests/bench/lib/attach.h"
#include "tests/bench/lib/bench.h"

#define KEYS 100000
#define LIMIT_LOOKUP 1.4
#define STRING_(x) #x
#define STRING(x) STRING_(x)

struct entry {
	uint64_t key;
	uint64_t value;
	UT_hash_handle hh;
};

static struct talea_family likes;
static struct control control;
static uint32_t family_slot;
static struct entry *entries, *head;
static uint64_t order[KEYS];

static void BENCH_LOOP run_family(uint64_t n)
{
	while (n--)
		for (int i = 0; i < KEYS; i++)
			talea_family_add(&likes, &order[i], sizeof(order[i]), 1);
}

static void BENCH_LOOP run_uthash(uint64_t n)
{
	uint64_t sum = 0;

	while (n--)
		for (int i = 0; i < KEYS; i++) {
			struct entry *e;

			HASH_FIND(hh, head, &order[i], sizeof(order[i]), e);
			sum += e->value;
		}
	BENCH_USE(sum);
}

static void BENCH_LOOP run_index(uint64_t n)
{
	uint32_t generation = 0;
	uint64_t sum = 0;

	while (n--)
		for (int i = 0; i < KEYS; i++)
			sum += dir_find(control.d, family_slot, &order[i], sizeof(order[i]),
					&generation) +
			       generation;
	BENCH_USE(sum);
}

static uint64_t next_random(void)
{
	static uint64_t state = 0x9e3779b97f4a7c15ull; /* the same keys in each run */

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

/* Keys are random, each twice in a table, once in the order that is measured. */
static void make_keys(struct talea *t)
{
	struct talea_key *keys = calloc(KEYS, sizeof(*keys));
	int err;

	entries = aligned_alloc(64, KEYS * sizeof(*entries));
	if (!keys || !entries)
		bench_die("calloc", "no memory");
	memset(entries, 0, KEYS * sizeof(*entries));
	for (int i = 0; i < KEYS; i++) {
		entries[i].key = order[i] = next_random();
		entries[i].value = (uint64_t)i;
		HASH_ADD(hh, head, key, sizeof(uint64_t), &entries[i]);
		keys[i] = (struct talea_key){ .value = &entries[i].key, .len = 8, .n = 1 };
	}
	err = talea_family_add_many(&likes, keys, KEYS);
	if (err)
		bench_die("talea_family_add_many", talea_strerror(t, err));
	for (int i = KEYS - 1; i > 0; i--) {
		int j = (int)(next_random() % (unsigned int)(i + 1));
		uint64_t key = order[i];

		order[i] = order[j];
		order[j] = key;
	}
	free(keys);
}

static void check_keys(void)
{
	uint32_t generation;
	int missing = 0;

	for (int i = 0; i < KEYS; i++)
		missing += dir_find(control.d, family_slot, &order[i], 8, &generation) ==
			   SHM_SLOT_NONE;
	if (missing)
		bench_wrong("%d of %d keys are not in the index", missing, KEYS);
}

int main(void)
{
	enum { FAMILY, UTHASH, INDEX, NR };
	struct figure f[NR] = {
		[FAMILY] = { .name = "family_add_1e5", .run = run_family, .per = KEYS },
		[UTHASH] = { .name = "lookup_uthash_1e5",
			     .run = run_uthash,
			     .per = KEYS,
			     .more = "\"peer\":\"uthash\",\"version\":\"" STRING(
				     UTHASH_VERSION) "\"" },
		[INDEX] = { .name = "lookup_index_1e5", .run = run_index, .per = KEYS },
	};
	struct figure best;
	struct talea *t;
	uint32_t generation;
	int err;

	bench_init("family");
	t = attach_open("default");
	err = talea_family(t, &likes, "bench_likes_total", "Made by the benchmark.", "post:u64");
	if (err)
		bench_die("talea_family", talea_strerror(t, err));
	control_open(&control, "default");
	family_slot = dir_find(control.d, 0, "bench_likes_total", strlen("bench_likes_total"),
			       &generation);
	make_keys(t);
	check_keys();
	bench_run(f, NR);
	bench_report(&f[UTHASH]);
	bench_report(&f[INDEX]);
	best = f[f[UTHASH].value < f[INDEX].value ? UTHASH : INDEX];
	best.more = f[UTHASH].value < f[INDEX].value ? "\"which\":\"uthash\""
						     : "\"which\":\"index\"";
	best.name = "lookup_best_1e5";
	bench_report(&best);
	bench_ratio(&f[FAMILY], &best, AT_MOST, LIMIT_LOOKUP, 0);
	return bench_done();
}

/*
 * Fuzzing a region as a client sees it: a small one of two counters, a level and two families with
 * members is scribbled over, then everything that reads it is called. Nothing may fault, hang or
 * leave its buffer; what comes back may be wrong. Its bytes are: how it is read, then patches of
 * {area, offset:16, length, bytes}. The add is not here: the routes it follows are the daemon's
 * word. Run by tests/fuzz/run.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "client/internal.h"
#include "client/read.h"
#include "tests/fuzz/fuzz.h"

#define SLOTS	     16u
#define PATCHES_MAX  64u
#define GUARD	     (1ull << 30)
#define SLOTS_WALKED 64u

static struct region region;
static struct attach attach = { .region = &region };
static struct talea talea = { .attach = &attach };
static uint64_t names_end = 8;

/* What was there before a patch. */
static struct undo {
	char *at;
	uint8_t bytes[16];
	uint8_t len;
} undos[PATCHES_MAX + 8];
static unsigned int undos_nr;

/* --- the region that is scribbled over -------------------------------------------------------- */

/* Memory of the full size, most of which is never touched, with nothing before and behind it. */
static char *map(size_t bytes)
{
	char *p = mmap(NULL, bytes + 2 * GUARD + REGION_ALIGN, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	fuzz_check(p != MAP_FAILED);
	p = (char *)(((uintptr_t)p + GUARD + REGION_ALIGN - 1) & ~(REGION_ALIGN - 1));
	fuzz_check(mprotect(p, (bytes + 4095) & ~4095ull, PROT_READ | PROT_WRITE) == 0);
	return p;
}

static struct dir_shm *dir(void)
{
	return (struct dir_shm *)(uintptr_t)region.view.d;
}

static struct totals_shm *totals(void)
{
	return (struct totals_shm *)(uintptr_t)region.view.t;
}

static struct slot_shm *slot_of(uint32_t slot)
{
	return (struct slot_shm *)(uintptr_t)dir_slot(dir(), slot);
}

static char *names(uint64_t at)
{
	return (char *)dir() + SHM_D_NAMES + at;
}

static void slot_put(uint32_t slot, uint32_t owner, uint64_t name, const void *key, size_t len)
{
	uint64_t word = dir()->index_word, mask = (1ull << index_order(word)) - 1;
	uint64_t hash = dir_hash(dir(), owner, key, len);
	uint32_t *table = (uint32_t *)(uintptr_t)dir_index(dir(), word);
	struct slot_shm *s = slot_of(slot);

	*s = (struct slot_shm){ slot_route(1, SHM_ROW_NONE), state_make(1, 0, SHM_ROW_NONE),
				{ 0, 100 }, name };
	((uint8_t *)totals() + SHM_T_STATES)[slot] = SHM_T_OK;
	((uint64_t *)((char *)totals() + SHM_T_TOTALS))[slot] = 100;
	for (uint64_t i = 0; len && i <= mask; i++) {
		uint32_t *e = &table[(hash + i) & mask];

		if (!*e) {
			*e = index_entry(hash, slot);
			return;
		}
	}
}

static uint64_t text_put(const char *text, uint64_t *ret_at)
{
	*ret_at = names_end;
	strcpy(names(names_end), text);
	names_end += (strlen(text) + 8) & ~7ull;
	return strlen(text);
}

static void name_put(uint32_t slot, uint8_t type, const char *name, const char *label,
		     uint8_t key_kind)
{
	uint64_t help_at, help_len = text_put("Of a fuzz target.", &help_at), len = strlen(name);
	struct name_shm *n = (struct name_shm *)names(names_end);
	uint64_t word = name_make(names_end, (uint32_t)len, type);

	*n = (struct name_shm){
		.help = name_make(help_at, (uint32_t)help_len, 0), .uid = 1000,
		.base_len = (uint16_t)strcspn(name, "{"), .key_kind = key_kind,
		.other = slot + 1, .removed = slot + 2, .label_len = (uint16_t)strlen(label),
	};
	memcpy(n->text, name, len);
	memcpy(n->text + len, label, strlen(label));
	names_end += (sizeof(*n) + len + strlen(label) + 7) & ~7ull;
	slot_put(slot, 0, word, name, len);
}

static void member_put(uint32_t slot, uint8_t type, uint32_t family, const void *key, size_t len)
{
	struct member_shm *m = (struct member_shm *)names(names_end);
	uint64_t word = name_make(names_end, (uint32_t)len, type);

	m->family = family;
	memcpy(m->value, key, len);
	names_end += (sizeof(*m) + len + 7) & ~7ull;
	slot_put(slot, family, word, key, len);
}

static void busy_fill(void)
{
	struct busy_shm *b = (struct busy_shm *)(void *)((char *)totals() + SHM_T_BUSY);

	b->nr = 3;
	for (uint32_t i = 0; i < 3; i++) {
		b->slot[i] = 3 + i;
		b->generation[i] = 1;
		b->rates[i][0] = 1000;
	}
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	uint64_t key = 42;

	(void)argc;
	(void)argv;
	region.view.d = (void *)map(SHM_D_BYTES);
	region.view.s = map(SHM_S_BYTES);
	region.view.t = (void *)map(SHM_T_BYTES);
	region.writable = true;
	*dir() = (struct dir_shm){
		.magic = SHM_MAGIC_D, .abi = SHM_ABI, .state = SHM_LIVE, .hash_seed = 1,
		.cpus_nr = 2, .rows_max = 8, .index_word = index_make(SHM_INDEX_ORDER_MIN, 0),
		.slots_nr = SLOTS,
	};
	name_put(1, SHM_COUNTER, "talea_overflow_total", "", 0);
	name_put(2, SHM_LEVEL, "talea_overflow", "", 0);
	name_put(3, SHM_COUNTER, "hits_total", "", 0);
	name_put(4, SHM_COUNTER, "hits_total{a=\"b\"}", "", 0);
	name_put(5, SHM_LEVEL, "depth", "", 0);
	name_put(6, SHM_FAMILY, "likes_total", "post", SHM_KEY_TEXT);
	member_put(7, SHM_OTHER, 6, "", 0);
	member_put(8, SHM_REMOVED, 6, "", 0);
	member_put(9, SHM_MEMBER, 6, "first", 5);
	member_put(10, SHM_MEMBER, 6, "a \"quoted\" one", 14);
	name_put(11, SHM_LEVEL_FAMILY, "open", "fd", SHM_KEY_U64);
	member_put(12, SHM_OTHER, 11, "", 0);
	member_put(13, SHM_REMOVED, 11, "", 0);
	member_put(14, SHM_LEVEL_MEMBER, 11, &key, 8);
	slot_of(3)->route = slot_route(1, 0);
	slot_of(3)->state = state_make(1, 0, 0);
	slot_of(9)->state = state_make(1, SHM_F_ADJ, SHM_ROW_NONE);
	totals()->magic = SHM_MAGIC_T;
	totals()->slots_nr[0] = totals()->slots_nr[1] = SLOTS;
	busy_fill();
	return 0;
}

/* --- patches ---------------------------------------------------------------------------------- */

static void patch(char *at, const void *bytes, size_t len)
{
	struct undo *u = &undos[undos_nr++];

	u->at = at;
	u->len = (uint8_t)len;
	memcpy(u->bytes, at, len);
	memcpy(at, bytes, len);
}

static void patches_undo(void)
{
	while (undos_nr) {
		undos_nr--;
		memcpy(undos[undos_nr].at, undos[undos_nr].bytes, undos[undos_nr].len);
	}
}

/* Where an area begins and how much of it can be hit. The last ones are at the ends of D. */
static char *area(uint8_t nr, uint32_t *ret_bytes)
{
	char *d = (char *)dir(), *t = (char *)totals();

	switch (nr % 13) {
	case 0:
		*ret_bytes = sizeof(struct dir_shm);
		return d;
	case 1:
	case 2:
		*ret_bytes = SLOTS * sizeof(struct slot_shm);
		return d + SHM_D_SLOTS;
	case 3:
		*ret_bytes = 4 << SHM_INDEX_ORDER_MIN;
		return (char *)(uintptr_t)dir_index(dir(), index_make(SHM_INDEX_ORDER_MIN, 0));
	case 4:
	case 5:
		*ret_bytes = (uint32_t)names_end;
		return names(0);
	case 6:
		*ret_bytes = sizeof(struct totals_shm);
		return t;
	case 7:
		*ret_bytes = SLOTS * 8;
		return t + SHM_T_TOTALS;
	case 8:
		*ret_bytes = SLOTS;
		return t + SHM_T_STATES;
	case 9:
		*ret_bytes = sizeof(struct busy_shm);
		return t + SHM_T_BUSY;
	case 10:
		*ret_bytes = 4096 + 64;
		return d + SHM_D_BYTES - *ret_bytes;
	case 11:
		*ret_bytes = SLOTS * 8;
		return d + SHM_D_ADJ;
	}
	*ret_bytes = SLOTS * 8;
	return region.view.s + SHM_S_COLD;
}

static void patches_apply(const uint8_t *data, size_t size)
{
	while (size >= 5 && undos_nr < PATCHES_MAX) {
		uint32_t bytes, offset = data[1] | (uint32_t)data[2] << 8;
		char *base = area(data[0], &bytes);
		size_t len = data[3] % 16 + 1u;

		if (len > size - 4)
			len = size - 4;
		/* Wherever it falls, all of it is inside. */
		patch(base + offset % (bytes - len + 1), data + 4, len);
		data += 4 + len;
		size -= 4 + len;
	}
}

/* What only costs time: walks over 2^24 empty slots, and waiting for a change that nobody ends. */
static void bound_time(void)
{
	uint64_t few = SLOTS_WALKED, even = dir()->moves & ~1ull;

	for (int i = 0; i < 2; i++)
		if (totals()->slots_nr[i] > few)
			patch((char *)&totals()->slots_nr[i], &few, 8);
	if (dir()->slots_nr > few)
		patch((char *)&dir()->slots_nr, &few, 8);
	patch((char *)&dir()->moves, &even, 8);
}

/* --- everything that reads -------------------------------------------------------------------- */

static volatile uint64_t sink;

static int visit(const char *name, const struct talea_total *n, void *arg)
{
	(void)arg;
	sink += strlen(name) + (uint64_t)n->value + (n->help ? strlen(n->help) : 0);
	fuzz_check(strlen(name) < NAME_DISPLAY_MAX);
	fuzz_check(n->state <= TALEA_SUSPECT);
	return 0;
}

static void read_slots(void)
{
	char name[NAME_DISPLAY_MAX], shown[32];

	for (uint32_t slot = 0; slot < SLOTS + 2; slot++) {
		struct talea_total n = { .size = sizeof(n) };
		uint32_t generation = 0, found;
		struct fold_times times;
		int64_t sum;
		int len = name_display(dir(), slot, name, sizeof(name));

		fuzz_check(len < (int)sizeof(name));
		if (len >= 0) {
			fuzz_check(strlen(name) == (size_t)len);
			found = name_find(dir(), name, &generation);
			fuzz_check(found < SHM_SLOTS_MAX);
			fuzz_check(found == SHM_SLOT_NONE || (generation & 1));
		}
		fuzz_check(name_display(dir(), slot, shown, sizeof(shown)) < (int)sizeof(shown));
		name_display_last(dir(), slot, name, sizeof(name), &generation);
		sink += (uint64_t)read_sum(&region, slot, &sum);
		sink += (uint64_t)read_compacted(&region, slot, &times);
		read_describe(&region, slot, &n);
		if (n.help)
			sink += strlen(n.help);
	}
}

static void find_keys(const uint8_t *data, size_t size)
{
	static const char *const known[] = {
		"hits_total", "hits_total{a=\"b\"}", "likes_total{post=\"first\"}",
		"open{fd=\"42\"}",
		"likes_total{talea=\"other\"}", "open{talea=\"removed\"}",
	};
	uint32_t generation, slot;
	char text[64] = "";

	for (unsigned int i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		struct talea_total n = { .size = sizeof(n) };

		sink += name_find(dir(), known[i], &generation);
		sink += (uint64_t)talea_read_name(&talea, known[i],
						  i & 1 ? TALEA_SUM : TALEA_CACHED, 0, &n);
	}
	for (uint32_t family = 0; family < SLOTS; family++) {
		slot = dir_find(dir(), family, "first", 5, &generation);
		fuzz_check(slot == SHM_SLOT_NONE || slot < SHM_SLOTS_MAX);
		sink += dir_find(dir(), family, "\x2a\0\0\0\0\0\0", 8, &generation);
	}
	/* The end of the input is also a name, and a glob. */
	memcpy(text, data, size < sizeof(text) ? size : sizeof(text) - 1);
	sink += name_find(dir(), text, &generation);
	sink += (uint64_t)talea_each(&talea, text, TALEA_COMPACTED, visit, NULL);
}

static void read_handles(void)
{
	for (uint32_t slot = 1; slot < SLOTS; slot++) {
		struct bind b = {
			.kind = BIND_PLAIN, .generation = 1, .slot = slot,
			.is_own_member = slot > 8,
			.word = &slot_of(slot)->route, .region = &region,
			.cold = (uint64_t *)(void *)(region.view.s + shards_cold(slot)),
		};
		struct talea_target_ target = {
			.word = b.word, .bind = &b, .cold = b.cold,
			.total = (uint64_t *)(void *)((char *)totals() + SHM_T_TOTALS) + slot,
		};
		struct talea_counter c = { &target };
		struct talea_total n = { .size = sizeof(n) };
		struct talea_stamp stamp;

		sink += (uint64_t)talea_read(&talea, c, TALEA_SUM, 0, &n);
		sink += (uint64_t)talea_read(&talea, c, TALEA_CACHED, 1000, &n);
		sink += (uint64_t)talea_peek(c, &stamp);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return -1;
	patches_apply(data + 1, size - 1);
	bound_time();
	read_slots();
	read_handles();
	find_keys(data + (size > 24 ? size - 24 : 0), size > 24 ? 24 : size);
	sink += (uint64_t)talea_each(&talea, NULL, data[0] & 1 ? TALEA_SUM : TALEA_COMPACTED, visit,
				     NULL);
	patches_undo();
	return 0;
}

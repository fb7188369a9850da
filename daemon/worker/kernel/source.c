/* See source.h. */
#define _GNU_SOURCE
#include "daemon/worker/kernel/source.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/link/log.h"
#include "daemon/worker/space/register.h"
#include "daemon/worker/space/remove.h"
#include "daemon/worker/kernel/key_table.h"
#include "daemon/worker/kernel/maps.h"
#include "shm/base/clock.h"

#define TRIES	  3u /* to find the ledger the same before and after */
/* A map that takes longer than this to read, as CPU time, is not read again before that much times
 * SLOW_PART has passed: all other counters are folded by the same thread. */
#define SLOW_NS	      4000000u
#define SLOW_PART     16u
#define TAKEN_WAIT_NS (4 * NS_PER_S) /* until the key that had a cgroup's path is freed */
#define FELL_MAX      100u /* passes in a row that are less than the one before */

struct source {
	struct kernel_parts *parts;
	struct key_names *names;
	struct talea_counter_def def;
	uint32_t key_bytes; /* 0: it has no hashed keys */
	uint32_t cpus_nr;
	uint64_t incarnation;
	struct dense *dense; /* the counters of its dense keys; NULL: def is its one counter */

	const uint64_t *counts; /* [cpu][stride] */
	uint32_t stride;
	size_t counts_bytes;
	int keys_fd, ledger_fd;

	uint32_t slot; /* the counter or family, SHM_SLOT_NONE: not registered */
	uint32_t other, removed;
	int register_err; /* as the log has it */
	bool is_ending; /* what has no name now will never have one */
	uint32_t nameless_nr;
	bool is_begun; /* the parts have the counts of this incarnation; else what was published */

	struct map_pass pass;
	struct probe_ledger ledger;
	uint32_t pass_nr;
	struct key_table table;

	uint64_t total;	  /* of the last pass that was taken */
	uint64_t lost;	  /* what somebody else than the keeper deleted: in `removed` */
	uint32_t fell_nr; /* passes since that were less */
	uint64_t next_ns; /* not to be read before */

	struct source_statistics statistics;
};

static struct log_limit read_limit, lost_limit;

static const char *what(int err)
{
	return err == -EEXIST ? "a program has registered that name, or it is there with another "
				"label or help. fix: another name" :
				strerror(-err);
}

/* --- the counter or family -------------------------------------------------------------------- */

static int source_claim(struct source *s, uint32_t *ret_slot)
{
	char label[TALEA_KEYS_MAX * (sizeof(s->def.keys[0].label) + 1) + 1];
	struct claim c = {
		.type = s->key_bytes ? SHM_FAMILY : SHM_COUNTER, .origin = SHM_ORIGIN_KERNEL,
		.key_kind = s->def.keys_nr > 1 ? SHM_KEY_LABELS : SHM_KEY_TEXT,
		.name = s->def.name, .name_len = (uint32_t)strlen(s->def.name),
		.help = s->def.help, .help_len = (uint32_t)strlen(s->def.help),
		.label = label,
	};

	if (s->key_bytes)
		c.label_len = (uint32_t)key_names_label(&s->def, label, sizeof(label));
	return register_own(s->parts->space, &c, ret_slot);
}

/*
 * Members of threads, processes and cgroups of a former incarnation: nobody will ever count in them
 * again.
 */
static void members_remove(struct source *s)
{
	const struct space *space = s->parts->space;
	uint32_t slots_nr = space_slots_nr(space);

	for (uint32_t slot = SHM_SLOT_FIRST; slot < slots_nr; slot++) {
		uint64_t name = shm_count_read(&space_slot(space, slot)->name);

		if (name_type(name) == SHM_MEMBER &&
		    dir_member(space->d, name)->family == s->slot &&
		    slot_generation(shm_count_read(&space_slot(space, slot)->route)) & 1)
			remove_begin(s->parts->space, slot, SHM_WHY_ENDED, 0);
	}
}

/* Finds or makes the counter. Afterwards its parts are of this incarnation. */
static int source_register(struct source *s)
{
	const struct space *space = s->parts->space;
	const struct name_shm *n;
	uint32_t slot;
	int err = source_claim(s, &slot);

	if (!err && s->parts->is_live[slot])
		err = -EEXIST; /* another probe counts in it */
	shm_count_set(&s->statistics.is_conflict, err == -EEXIST);
	if (err) {
		if (err != s->register_err)
			log_line("counter %s of a probe: %s", s->def.name, what(err));
		s->register_err = err;
		return err;
	}
	s->slot = slot;
	s->is_begun = kernel_part_begin(s->parts, slot, s->incarnation);
	kernel_part_state(s->parts, slot, true);
	if (!s->key_bytes)
		return 0;
	n = space_name(space, slot);
	s->other = n->other;
	s->removed = n->removed;
	kernel_part_state(s->parts, s->other, true);
	kernel_part_state(s->parts, s->removed, true);
	if (s->is_begun && key_names_are_freed(&s->def))
		members_remove(s);
	return 0;
}

/* --- members ---------------------------------------------------------------------------------- */

/* The member of this name: found, or made when it is not there. */
static int member_slot(struct source *s, const char *name, uint32_t len, uint32_t *ret_slot)
{
	const struct claim c = {
		.type = SHM_MEMBER, .origin = SHM_ORIGIN_KERNEL, .name = name, .name_len = len,
		.family = s->slot,
	};

	return register_own(s->parts->space, &c, ret_slot);
}

/*
 * The member that a key's name says; with_ids as in key_names_member. -EAGAIN: another key's
 * still.
 */
static int key_member(struct source *s, uint32_t key, bool with_ids, uint32_t *ret_slot)
{
	char name[SHM_NAME_MAX];
	int len = key_names_member(s->names, &s->def, key_table_bytes(&s->table, key), with_ids, name,
				   sizeof(name));
	int err = len < 0 ? len : member_slot(s, name, (uint32_t)len, ret_slot);

	return err ? err : s->parts->is_taken[*ret_slot] ? -EAGAIN : 0;
}

/*
 * Gives a key its member; -EAGAIN: its name is not known yet, or another key's still. A cgroup may
 * be made where another was, whose key is about to be freed: it waits for that, but not for long.
 */
static int key_name(struct source *s, uint32_t key)
{
	struct key_entry *k = &s->table.keys[key];
	uint32_t slot;
	int err = key_member(s, key, false, &slot);

	if (err == -ENAMETOOLONG ||
	    (err == -EAGAIN && (s->is_ending || mono_ns() - k->first_ns > TAKEN_WAIT_NS)))
		err = key_member(s, key, true, &slot);
	if (err)
		return err;
	k->slot = slot;
	s->parts->is_taken[slot] = 1;
	kernel_part_state(s->parts, slot, true);
	return 0;
}

/* What a member counted is in `removed` from this fold on. */
static void member_leave(struct source *s, uint32_t slot)
{
	s->parts->is_taken[slot] = 0;
	kernel_part_retire(s->parts, slot);
}

/* --- a pass ----------------------------------------------------------------------------------- */

static uint64_t cell_sum(const struct source *s, uint32_t at)
{
	uint64_t sum = 0;

	for (uint32_t cpu = 0; cpu < s->cpus_nr; cpu++)
		sum += shm_count_read(&s->counts[cpu * s->stride + at]);
	return sum;
}

/* Keys and ledger of one moment. 0, -EAGAIN when the keeper frees all the while, or -errno. */
static int pass_read(struct source *s)
{
	struct probe_ledger before = { 0 }, after = { 0 };

	for (unsigned int i = 0; i < TRIES; i++) {
		int err = s->ledger_fd < 0 ? 0 : map_ledger_read(s->ledger_fd, &before);

		if (!err)
			err = map_pass_read(&s->pass, s->keys_fd, s->key_bytes);
		if (!err && s->ledger_fd >= 0)
			err = map_ledger_read(s->ledger_fd, &after);
		if (err)
			return err;
		if (!(before.seq & 1) && !memcmp(&before, &after, sizeof(before))) {
			s->ledger = before;
			return 0;
		}
	}
	return -EAGAIN;
}

/*
 * What all keys held, also those that are gone, never falls. 0, or -EAGAIN for a pass that is
 * less.
 */
static int pass_check(struct source *s, uint64_t overflow)
{
	uint64_t total = overflow + s->ledger.folded + s->lost;

	for (uint32_t i = 0; i < s->pass.nr; i++)
		total += s->pass.sums[i];
	if (total < s->total && ++s->fell_nr < FELL_MAX)
		return -EAGAIN;
	if (total < s->total) {
		log_limited(&lost_limit, "counter %s: keys that held %llu are gone from its map, and "
			    "not by talead. fix: let nothing else change maps of talead",
			    s->def.name, (unsigned long long)(s->total - total));
		s->lost += s->total - total;
		total = s->total;
	}
	s->fell_nr = 0;
	s->total = total;
	return 0;
}

/* Finds the keys of the pass, and names for those that are new. Returns how many have none. */
static uint32_t pass_match(struct source *s)
{
	uint32_t nameless = 0;

	s->pass_nr++;
	for (uint32_t i = 0; i < s->pass.nr; i++) {
		const unsigned char *bytes = s->pass.keys + (size_t)i * s->key_bytes;
		struct key_entry *k = key_table_find(&s->table, bytes);

		if (!k)
			k = key_table_add(&s->table, bytes, mono_ns());
		if (!k) {
			nameless++; /* no memory: the next pass tries again, nothing is lost */
			continue;
		}
		k->pass = s->pass_nr;
		k->sum = s->pass.sums[i];
		if (k->slot == SHM_SLOT_NONE && key_name(s, (uint32_t)(k - s->table.keys)))
			nameless++;
	}
	return nameless;
}

/* Sums of keys that are there; keys that are not leave. */
static void keys_apply(struct source *s)
{
	uint32_t kept = 0;

	for (uint32_t key = 0; key < s->table.nr; key++) {
		struct key_entry *k = &s->table.keys[key];
		bool is_there = k->pass == s->pass_nr;

		if (k->slot == SHM_SLOT_NONE) {
			if (!is_there)
				continue;
		} else if (!is_there) {
			member_leave(s, k->slot);
			continue;
		} else if (s->is_begun && k->sum < s->parts->sums[k->slot]) {
			/* Freed and made again since: what comes now has a member of its own. */
			member_leave(s, k->slot);
			k->slot = SHM_SLOT_NONE;
			s->nameless_nr++;
		} else {
			kernel_part_move(s->parts, k->slot, k->sum);
		}
		key_table_move(&s->table, key, kept++);
	}
	key_table_cut(&s->table, kept);
}

/* Members that a former worker published and that have no key any more. */
static void held_leave(struct source *s)
{
	const struct kernel_parts *p = s->parts;

	for (uint32_t i = 0; i < p->held_nr; i++) {
		uint32_t slot = p->held[i].slot;
		uint64_t name = shm_count_read(&space_slot(p->space, slot)->name);

		if (p->held[i].owner == s->slot && name_type(name) == SHM_MEMBER &&
		    p->sums[slot] && !p->is_taken[slot])
			member_leave(s, slot);
	}
	kernel_part_held_drop(s->parts, s->slot);
}

static void statistics_set(struct source *s, uint64_t overflow, uint64_t kept)
{
	struct source_statistics *l = &s->statistics;

	shm_count_set(&l->keys_nr, s->key_bytes ? s->table.nr : 1);
	shm_count_set(&l->kept, kept);
	shm_count_set(&l->overflow, overflow);
	shm_count_set(&l->refused, s->key_bytes ? cell_sum(s, TALEA_SOURCE_REFUSED) : 0);
	shm_count_set(&l->folded, s->ledger.folded + s->lost);
	shm_count_set(&l->freed_nr, s->ledger.freed_nr);
}

static int pass_take(struct source *s)
{
	uint64_t overflow;
	uint32_t nameless;
	int err = pass_read(s);

	if (err)
		return err;
	overflow = cell_sum(s, TALEA_SOURCE_TOTAL);
	err = pass_check(s, overflow);
	if (err)
		return err;
	nameless = pass_match(s);
	/* What was published is right until all keys of now can take its place at once. */
	s->nameless_nr = nameless;
	if (!s->is_begun && nameless)
		return -EAGAIN;
	keys_apply(s);
	if (!s->is_begun)
		held_leave(s);
	kernel_part_set(s->parts, s->other, overflow);
	kernel_part_set(s->parts, s->removed, s->ledger.folded + s->lost);
	s->is_begun = true;
	statistics_set(s, overflow, s->total - overflow - s->ledger.folded - s->lost);
	return 0;
}

void source_fold(struct source *s, bool is_due)
{
	uint64_t cpu_ns, total;
	int err;

	if (s->dense) {
		total = dense_fold(s->dense, (const char *)s->counts, s->cpus_nr);
		shm_count_set(&s->statistics.kept, total);
		return;
	}
	if (s->slot == SHM_SLOT_NONE && source_register(s))
		return;
	if (!s->key_bytes) {
		total = cell_sum(s, TALEA_SOURCE_TOTAL);
		kernel_part_set(s->parts, s->slot, total);
		statistics_set(s, 0, total);
		return;
	}
	if (s->next_ns && !is_due && !s->is_ending && mono_ns() < s->next_ns)
		return;
	cpu_ns = clock_read_ns(CLOCK_THREAD_CPUTIME_ID);
	err = pass_take(s);
	if (err && err != -EAGAIN)
		log_limited(&read_limit, "counter %s: its keys cannot be read: %s", s->def.name,
			    strerror(-err));
	cpu_ns = clock_read_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_ns;
	s->next_ns = cpu_ns > SLOW_NS ? mono_ns() + SLOW_PART * cpu_ns : 0;
}

/* --- its incarnation -------------------------------------------------------------------------- */

static int counts_map(struct source *s, int fd)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *map;

	s->counts_bytes = (size_t)s->cpus_nr * s->stride * sizeof(uint64_t);
	s->counts_bytes = (s->counts_bytes + page - 1) / page * page;
	map = mmap(NULL, s->counts_bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	s->counts = map;
	return 0;
}

static int keys_init(struct source *s)
{
	s->key_bytes = counter_key_bytes(&s->def);
	if (!s->key_bytes)
		return 0;
	return key_table_init(&s->table, s->key_bytes) || map_pass_init(&s->pass, s->key_bytes)
		? -ENOMEM : 0;
}

static void source_begin(struct source *s)
{
	if (s->dense)
		dense_begin(s->dense, s->incarnation);
	else
		source_register(s); /* or with the first fold that can */
}

int source_open(struct source **ret, struct kernel_parts *parts, struct key_names *names,
		struct dense *dense, struct probe_source *from, uint32_t cpus_nr, uint64_t incarnation)
{
	struct source *s = calloc(1, sizeof(*s));
	int err = -ENOMEM;

	if (s) {
		*s = (struct source){
			.parts = parts, .names = names, .def = from->def, .cpus_nr = cpus_nr,
			.incarnation = incarnation, .dense = dense, .stride = from->stride,
			.slot = SHM_SLOT_NONE, .keys_fd = from->keys_fd, .ledger_fd = from->ledger_fd,
		};
		err = counts_map(s, from->counts_fd);
		if (!err)
			err = keys_init(s);
		if (err) {
			source_close(s);
		} else {
			source_begin(s);
			*ret = s;
		}
	} else {
		close(from->keys_fd);
		close(from->ledger_fd);
	}
	close(from->counts_fd);
	from->counts_fd = from->keys_fd = from->ledger_fd = -1;
	return err;
}

void source_close(struct source *s)
{
	if (s->counts)
		munmap((void *)(uintptr_t)s->counts, s->counts_bytes);
	if (s->keys_fd >= 0)
		close(s->keys_fd);
	if (s->ledger_fd >= 0)
		close(s->ledger_fd);
	map_pass_fini(&s->pass);
	key_table_fini(&s->table);
	free(s);
}

bool source_ends(struct source *s)
{
	bool is_more = !s->dense && (!s->is_ending || s->nameless_nr);

	s->is_ending = true;
	return is_more;
}

static void slot_end(struct source *s, uint32_t slot)
{
	kernel_part_commit(s->parts, slot);
	kernel_part_state(s->parts, slot, false);
	s->parts->is_taken[slot] = 0;
}

void source_end(struct source *s)
{
	if (s->dense)
		dense_end(s->dense);
	if (s->slot != SHM_SLOT_NONE) {
		for (uint32_t key = 0; key < s->table.nr; key++)
			if (s->table.keys[key].slot != SHM_SLOT_NONE)
				slot_end(s, s->table.keys[key].slot);
		for (uint32_t i = 0; i < s->parts->held_nr; i++)
			if (s->parts->held[i].owner == s->slot)
				slot_end(s, s->parts->held[i].slot);
		slot_end(s, s->slot);
		if (s->key_bytes) {
			slot_end(s, s->other);
			slot_end(s, s->removed);
		}
		kernel_part_end(s->parts, s->slot);
	}
	source_close(s);
}

void source_statistics(const struct source *s, struct source_statistics *ret)
{
	ret->keys_nr += shm_count_read(&s->statistics.keys_nr);
	ret->kept += shm_count_read(&s->statistics.kept);
	ret->overflow += shm_count_read(&s->statistics.overflow);
	ret->refused += shm_count_read(&s->statistics.refused);
	ret->folded += shm_count_read(&s->statistics.folded);
	ret->freed_nr += shm_count_read(&s->statistics.freed_nr);
	ret->is_conflict |= shm_count_read(&s->statistics.is_conflict);
}

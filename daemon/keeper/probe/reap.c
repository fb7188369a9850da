/*
 * Keys whose owner is gone: a process, a thread or a cgroup that has ended leaves its key behind,
 * and the map has room for so many only. What the key held goes into the ledger beside the map
 * (struct probe_ledger), which is the kernel's memory as the map is: pinned with it, it survives
 * all of talead, and the sum of keys and ledger is the same before and after, whatever instruction
 * a keeper dies at. Owns what it saw at the look before; the keeper's one thread alone calls, once
 * a second.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "daemon/keeper/probe/probe.h"
#include "daemon/keeper/probe/reap.h"

#define BATCH_NR     256u
#define WORK_NS	     8000000u    /* a call */
#define BETWEEN_NS   1000000000u /* two looks */
#define SEEN_MAX     (1u << 20)
#define CGROUP_NONE  UINT64_MAX /* no cgroup has this number */
#define PID_INIT_INO 0xeffffffcu /* the kernel's number of the first pid namespace */

/* Hashes of keys: enough to know one again. */
struct seen {
	uint64_t *hashes;
	uint32_t nr, room;
};

/* A look at all keys of a map, in as many calls as it takes. */
struct look {
	uint32_t map_id;
	bool is_begun;
	uint64_t ended_ns; /* of the look before */
	unsigned char cursor[TALEA_KEY_BYTES < 8 ? 8 : TALEA_KEY_BYTES];
	struct seen before, now; /* dead at the look before; at this one, so far. `before` is sorted */
};

static struct look looks[PROBES_MAX][PROBE_SOURCES_MAX];

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* --- who is gone ------------------------------------------------------------------------------ */

/* Programs see the numbers of the first pid namespace: elsewhere they are other processes'. */
static bool can_tell_tasks(void)
{
	struct stat st;

	return !stat("/proc/self/ns/pid", &st) && st.st_ino == PID_INIT_INO;
}

/*
 * Works for threads too: the kernel finds any task by its number. A zombie is not gone. The last
 * steps of an exit, in which a task still counts, are over when the second look comes. 0 is the
 * idle task.
 */
static bool task_is_gone(uint64_t id)
{
	return id && id <= INT_MAX && kill((pid_t)id, 0) && errno == ESRCH;
}

static bool cgroup_is_gone(uint64_t id)
{
	char path[1024];

	return cgroup_path(id, path, sizeof(path)) == -ENOENT;
}

static bool key_is_dead(const struct talea_counter_def *def, const unsigned char *key, bool tasks)
{
	for (uint32_t i = 0; i < def->keys_nr; key += def->keys[i++].bytes) {
		uint8_t kind = def->keys[i].kind;
		uint64_t id;

		memcpy(&id, key, sizeof(id));
		if ((kind == TALEA_KEY_PID || kind == TALEA_KEY_TGID) && tasks && task_is_gone(id))
			return true;
		if (kind == TALEA_KEY_CGROUP && cgroup_is_gone(id))
			return true;
	}
	return false;
}

static bool has_kind(const struct talea_counter_def *def, enum talea_key_kind kind)
{
	for (uint32_t i = 0; i < def->keys_nr; i++)
		if (def->keys[i].kind == kind)
			return true;
	return false;
}

static bool has_tasks(const struct talea_counter_def *def)
{
	return has_kind(def, TALEA_KEY_PID) || has_kind(def, TALEA_KEY_TGID);
}

/* --- what was seen ---------------------------------------------------------------------------- */

static int by_hash(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static bool seen_has(const struct seen *s, uint64_t hash)
{
	return s->nr && bsearch(&hash, s->hashes, s->nr, sizeof(hash), by_hash);
}

/* One that is not noted is looked at twice more: no harm. */
static void seen_put(struct seen *s, uint64_t hash)
{
	uint32_t room = s->room ? 2 * s->room : 64;
	uint64_t *more;

	if (s->nr == s->room) {
		more = room > SEEN_MAX ? NULL : realloc(s->hashes, room * sizeof(*more));
		if (!more)
			return;
		s->hashes = more;
		s->room = room;
	}
	s->hashes[s->nr++] = hash;
}

/* Begins again, as after another map came or something failed. */
static void look_reset(struct look *l, uint32_t map_id)
{
	free(l->before.hashes);
	free(l->now.hashes);
	*l = (struct look){ .map_id = map_id };
}

static void look_end(struct look *l)
{
	struct seen before = l->before;

	l->before = l->now;
	if (l->before.nr)
		qsort(l->before.hashes, l->before.nr, sizeof(*l->before.hashes), by_hash);
	l->now = before;
	l->now.nr = 0;
	l->is_begun = false;
	l->ended_ns = now_ns();
}

/* --- freeing ---------------------------------------------------------------------------------- */

static int ledger_read(const struct probe_source *s, struct probe_ledger *ret)
{
	uint32_t zero = 0;

	return bpf_map_lookup_elem(s->ledger_fd, &zero, ret);
}

/* One system call: a keeper killed around it has done it or not. */
static int ledger_write(const struct probe_source *s, const struct probe_ledger *l)
{
	uint32_t zero = 0;

	return bpf_map_update_elem(s->ledger_fd, &zero, l, BPF_ANY);
}

static uint64_t sum(const uint64_t *values, int cpus)
{
	uint64_t all = 0;

	for (int cpu = 0; cpu < cpus; cpu++)
		all += values[cpu];
	return all;
}

static uint64_t *values_room(int *ret_cpus)
{
	*ret_cpus = libbpf_num_possible_cpus();
	return *ret_cpus > 0 ? calloc((size_t)*ret_cpus, sizeof(uint64_t)) : NULL;
}

static int book(const struct probe_source *s, struct probe_ledger *l, uint64_t held)
{
	l->folded += held;
	l->freed_nr++;
	l->seq++;
	return ledger_write(s, l);
}

int reap_begin(const struct probe_source *s, struct probe_ledger *l, const void *key,
	       uint64_t value)
{
	l->seq++;
	l->value = value;
	memset(l->key, 0, sizeof(l->key));
	memcpy(l->key, key, counter_key_bytes(&s->def));
	return ledger_write(s, l);
}

int reap_finish(const struct probe_source *s, struct probe_ledger *l)
{
	int cpus, err;
	uint64_t *values = values_room(&cpus);

	if (!values)
		return -ENOMEM;
	err = bpf_map_lookup_and_delete_elem(s->keys_fd, l->key, values);
	if (!err)
		err = book(s, l, sum(values, cpus));
	free(values);
	return err;
}

/*
 * A key that is there with no less than was noted was not deleted: it stays, for a later look to
 * judge, because it may be of somebody new who lives. Absent, or there with less, it was, and is
 * not booked: what it held was noted, because nobody adds to a dead key. (If a new owner came to
 * hold as much before the replay, the noted sum is lost: that takes a kill in the microseconds
 * between two system calls, a number given out again, and as many events.)
 */
int reap_replay(const struct probe_source *s, struct probe_ledger *l)
{
	int cpus, err;
	uint64_t *values = values_room(&cpus);

	if (!values)
		return -ENOMEM;
	err = bpf_map_lookup_elem(s->keys_fd, l->key, values);
	if (err == -ENOENT || (!err && sum(values, cpus) < l->value)) {
		err = book(s, l, l->value);
	} else if (!err) {
		l->seq++;
		err = ledger_write(s, l);
	}
	free(values);
	return err;
}

static int key_free(const struct probe_source *s, const void *key, uint64_t value)
{
	struct probe_ledger l;
	int err = ledger_read(s, &l);

	/* The delete before this one failed: nothing is noted over it. */
	if (!err && l.seq & 1)
		err = reap_replay(s, &l);
	if (!err)
		err = reap_begin(s, &l, key, value);
	return err ? err : reap_finish(s, &l);
}

/* --- a look ----------------------------------------------------------------------------------- */

struct batch {
	unsigned char *keys;
	uint64_t *values;
	uint32_t nr, room;
	int cpus;
};

static int batch_room(struct batch *b, uint32_t room)
{
	free(b->keys);
	free(b->values);
	b->keys = calloc(room, TALEA_KEY_BYTES);
	b->values = calloc((size_t)room * (size_t)b->cpus, sizeof(*b->values));
	b->room = room;
	return b->keys && b->values ? 0 : -ENOMEM;
}

/* The next keys of the map: 0, 1 with the last ones, or -errno. */
static int batch_next(const struct probe_source *s, struct look *l, struct batch *b)
{
	for (;;) {
		int err;

		b->nr = b->room;
		err = bpf_map_lookup_batch(s->keys_fd, l->is_begun ? l->cursor : NULL, l->cursor,
					   b->keys, b->values, &b->nr, NULL);
		if (err == -ENOSPC && b->room < s->keys_max) { /* a bucket has more */
			err = batch_room(b, 2 * b->room);
			if (err)
				return err;
			continue;
		}
		if (err && err != -ENOENT)
			return err;
		l->is_begun = true;
		return err ? 1 : 0;
	}
}

static void batch_reap(const struct probe_source *s, struct look *l, const struct batch *b,
		       bool tasks)
{
	uint32_t bytes = counter_key_bytes(&s->def);

	for (uint32_t i = 0; i < b->nr; i++) {
		const unsigned char *key = b->keys + (size_t)i * bytes;
		uint64_t hash;

		if (!key_is_dead(&s->def, key, tasks))
			continue;
		hash = XXH3_64bits(key, bytes);
		if (!seen_has(&l->before, hash) ||
		    key_free(s, key, sum(b->values + (size_t)i * (size_t)b->cpus, b->cpus)))
			seen_put(&l->now, hash);
	}
}

static void source_look(const struct probe_source *s, struct look *l, bool tasks, uint64_t end_ns)
{
	struct batch b = { .cpus = libbpf_num_possible_cpus() };
	int got = b.cpus > 0 ? batch_room(&b, BATCH_NR) : -ENOMEM;

	while (!got && now_ns() < end_ns) {
		got = batch_next(s, l, &b);
		if (got >= 0)
			batch_reap(s, l, &b, tasks);
	}
	if (got == 1)
		look_end(l);
	else if (got < 0)
		look_reset(l, l->map_id);
	free(b.keys);
	free(b.values);
}

void probe_reap(uint32_t place, struct probe_live *live)
{
	static uint32_t turn; /* another source first each time: one may take all of a call */
	uint64_t begin_ns = now_ns();
	bool tasks = can_tell_tasks();

	turn++;
	for (uint32_t nr = 0; nr < live->sources_nr; nr++) {
		uint32_t i = (turn + nr) % live->sources_nr;
		const struct probe_source *s = &live->sources[i];
		struct look *look = &looks[place][i];
		struct bpf_map_info info = { 0 };
		uint32_t bytes = sizeof(info);
		struct probe_ledger l;

		if (s->keys_fd < 0 || s->ledger_fd < 0 ||
		    bpf_obj_get_info_by_fd(s->keys_fd, &info, &bytes) || ledger_read(s, &l) ||
		    (l.seq & 1 && reap_replay(s, &l)))
			continue;
		if (!(tasks && has_tasks(&s->def)) && !has_kind(&s->def, TALEA_KEY_CGROUP))
			continue;
		if (look->map_id != info.id)
			look_reset(look, info.id);
		if (look->is_begun || !look->ended_ns || begin_ns - look->ended_ns >= BETWEEN_NS)
			source_look(s, look, tasks, begin_ns + WORK_NS);
	}
}

const char *probe_reap_why_not(const struct probe_live *live)
{
	char path[8];

	for (uint32_t i = 0; i < live->sources_nr; i++) {
		const struct probe_source *s = &live->sources[i];
		bool cgroups = has_kind(&s->def, TALEA_KEY_CGROUP);
		int err;

		if (!cgroups && !has_tasks(&s->def))
			continue;
		if (s->ledger_fd < 0)
			return "without a bpffs of its own or CAP_SYS_ADMIN nobody may write its keys";
		if (has_tasks(&s->def) && !can_tell_tasks())
			return "talead is in a pid namespace, and programs see the host's numbers";
		if (!cgroups)
			continue;
		err = cgroup_path(CGROUP_NONE, path, sizeof(path));
		if (err != -ENOENT && err != -EAGAIN)
			return "the host's whole cgroup2 is not mounted here";
	}
	return NULL;
}

/*
 * Frees the keys whose owner is gone: a process, a thread or a cgroup that ends leaves its key
 * behind, and a map has a limited number of keys. The value of a freed key goes into the ledger
 * beside the map (struct probe_ledger). The ledger is the kernel's memory, as the map is: it is
 * pinned with the map and survives every talead. The sum of keys and ledger is the same before and
 * after, at whatever instruction a keeper dies. This file owns what the previous scan found dead.
 * The keeper's one thread alone calls it, once a second.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "daemon/keeper/probe/probe.h"
#include "daemon/keeper/probe/reap.h"
#include "shm/base/array.h"
#include "shm/base/clock.h"

#define BATCH_NR     256u
#define WORK_NS	     (8 * NS_PER_MS) /* a call */
#define BETWEEN_NS   NS_PER_S	     /* two scans */
#define DEAD_MAX     (1u << 20)
#define CGROUP_NONE  UINT64_MAX /* no cgroup has this number */
#define PID_INIT_INO 0xeffffffcu /* the kernel's number of the first pid namespace */

/* Hashes of dead keys: enough to recognise a key. */
struct dead_keys {
	uint64_t *hashes;
	uint32_t nr, max;
};

/* A scan of all keys of a map, in as many calls as it takes. */
struct reap_scan {
	uint32_t map_id;
	bool is_begun;
	uint64_t ended_ns; /* when the previous scan ended */
	unsigned char cursor[TALEA_KEY_BYTES < 8 ? 8 : TALEA_KEY_BYTES];
	struct dead_keys before, now; /* of the previous scan, sorted; of this one, so far */
};

static struct reap_scan scans[PROBES_MAX][PROBE_SOURCES_MAX];

/* --- who is gone ------------------------------------------------------------------------------ */

/* Programs see the numbers of the first pid namespace. In another one they name other processes. */
static bool can_tell_tasks(void)
{
	struct stat st;

	return !stat("/proc/self/ns/pid", &st) && st.st_ino == PID_INIT_INO;
}

/*
 * This works for threads too: the kernel finds any task by its number. A zombie is not gone. A task
 * still counts in the last steps of its exit, but these are over when the second scan comes. 0 is
 * the idle task.
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

static bool counts_tasks(const struct talea_counter_def *def)
{
	return counter_has_key(def, TALEA_KEY_PID) || counter_has_key(def, TALEA_KEY_TGID);
}

/* --- the scan before -------------------------------------------------------------------------- */

static int by_hash(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static bool dead_keys_have(const struct dead_keys *s, uint64_t hash)
{
	return s->nr && bsearch(&hash, s->hashes, s->nr, sizeof(hash), by_hash);
}

/* A key that finds no room here waits for two more scans, which does no harm. */
static void dead_keys_put(struct dead_keys *s, uint64_t hash)
{
	if (s->nr < DEAD_MAX && !array_reserve(&s->hashes, s->nr + 1, &s->max))
		s->hashes[s->nr++] = hash;
}

/* Begins again, after another map came or after an error. */
static void scan_reset(struct reap_scan *l, uint32_t map_id)
{
	free(l->before.hashes);
	free(l->now.hashes);
	*l = (struct reap_scan){ .map_id = map_id };
}

static void scan_end(struct reap_scan *l)
{
	struct dead_keys before = l->before;

	l->before = l->now;
	if (l->before.nr)
		qsort(l->before.hashes, l->before.nr, sizeof(*l->before.hashes), by_hash);
	l->now = before;
	l->now.nr = 0;
	l->is_begun = false;
	l->ended_ns = mono_ns();
}

/* --- freeing ---------------------------------------------------------------------------------- */

static int ledger_read(const struct probe_source *s, struct probe_ledger *ret)
{
	uint32_t zero = 0;

	return bpf_map_lookup_elem(s->ledger_fd, &zero, ret);
}

/* One system call: a keeper that is killed has done all of it or nothing. */
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

static int ledger_add(const struct probe_source *s, struct probe_ledger *l, uint64_t held)
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
		err = ledger_add(s, l, sum(values, cpus));
	free(values);
	return err;
}

/*
 * A key that is there with no less than the note says was not deleted: it stays, and a later scan
 * judges it, because it may belong to a new owner that lives. A key that is absent, or there with
 * less, was deleted but its value was not added: the note has the value, because no task adds to a
 * dead key. (If a new owner counts as much before the replay, the noted sum is lost. That takes a
 * kill in the microseconds between two system calls, a reused number, and as many events.)
 */
int reap_replay(const struct probe_source *s, struct probe_ledger *l)
{
	int cpus, err;
	uint64_t *values = values_room(&cpus);

	if (!values)
		return -ENOMEM;
	err = bpf_map_lookup_elem(s->keys_fd, l->key, values);
	if (err == -ENOENT || (!err && sum(values, cpus) < l->value)) {
		err = ledger_add(s, l, l->value);
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

	/* The previous delete failed: finish that note before it is overwritten. */
	if (!err && l.seq & 1)
		err = reap_replay(s, &l);
	if (!err)
		err = reap_begin(s, &l, key, value);
	return err ? err : reap_finish(s, &l);
}

/* --- a scan ----------------------------------------------------------------------------------- */

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

/* Reads the next keys of the map: 0; 1 with the last ones; or -errno. */
static int batch_next(const struct probe_source *s, struct reap_scan *l, struct batch *b)
{
	for (;;) {
		int err;

		b->nr = b->room;
		err = bpf_map_lookup_batch(s->keys_fd, l->is_begun ? l->cursor : NULL, l->cursor,
					   b->keys, b->values, &b->nr, NULL);
		if (err == -ENOSPC && b->room < s->keys_max) { /* a bucket has more keys than fit */
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

static void batch_reap(const struct probe_source *s, struct reap_scan *l, const struct batch *b,
		       bool tasks)
{
	uint32_t bytes = counter_key_bytes(&s->def);

	for (uint32_t i = 0; i < b->nr; i++) {
		const unsigned char *key = b->keys + (size_t)i * bytes;
		uint64_t hash;

		if (!key_is_dead(&s->def, key, tasks))
			continue;
		hash = XXH3_64bits(key, bytes);
		if (!dead_keys_have(&l->before, hash) ||
		    key_free(s, key, sum(b->values + (size_t)i * (size_t)b->cpus, b->cpus)))
			dead_keys_put(&l->now, hash);
	}
}

static void keys_scan(const struct probe_source *s, struct reap_scan *l, bool tasks, uint64_t end_ns)
{
	struct batch b = { .cpus = libbpf_num_possible_cpus() };
	int got = b.cpus > 0 ? batch_room(&b, BATCH_NR) : -ENOMEM;

	while (!got && mono_ns() < end_ns) {
		got = batch_next(s, l, &b);
		if (got >= 0)
			batch_reap(s, l, &b, tasks);
	}
	if (got == 1)
		scan_end(l);
	else if (got < 0)
		scan_reset(l, l->map_id);
	free(b.keys);
	free(b.values);
}

void probe_reap(uint32_t place, struct probe_live *live)
{
	static uint32_t turn; /* each call begins at another source: one may take all of a call */
	uint64_t begin_ns = mono_ns();
	bool tasks = can_tell_tasks();

	turn++;
	for (uint32_t nr = 0; nr < live->sources_nr; nr++) {
		uint32_t i = (turn + nr) % live->sources_nr;
		const struct probe_source *s = &live->sources[i];
		struct reap_scan *scan = &scans[place][i];
		struct bpf_map_info info = { 0 };
		uint32_t bytes = sizeof(info);
		struct probe_ledger l;

		if (s->keys_fd < 0 || s->ledger_fd < 0 ||
		    bpf_obj_get_info_by_fd(s->keys_fd, &info, &bytes) || ledger_read(s, &l) ||
		    (l.seq & 1 && reap_replay(s, &l)))
			continue;
		if (!(tasks && counts_tasks(&s->def)) && !counter_has_key(&s->def, TALEA_KEY_CGROUP))
			continue;
		if (scan->map_id != info.id)
			scan_reset(scan, info.id);
		if (scan->is_begun || !scan->ended_ns || begin_ns - scan->ended_ns >= BETWEEN_NS)
			keys_scan(s, scan, tasks, begin_ns + WORK_NS);
	}
}

const char *probe_reap_why_not(const struct probe_live *live)
{
	char path[8];

	for (uint32_t i = 0; i < live->sources_nr; i++) {
		const struct probe_source *s = &live->sources[i];
		bool cgroups = counter_has_key(&s->def, TALEA_KEY_CGROUP);
		int err;

		if (!cgroups && !counts_tasks(&s->def))
			continue;
		if (s->ledger_fd < 0)
			return "without a bpffs of its own or CAP_SYS_ADMIN nobody may write its keys";
		if (counts_tasks(&s->def) && !can_tell_tasks())
			return "talead is in a pid namespace, and programs see the host's numbers";
		if (!cgroups)
			continue;
		err = cgroup_path(CGROUP_NONE, path, sizeof(path));
		if (err != -ENOENT && err != -EAGAIN)
			return "the host's whole cgroup2 is not mounted here";
	}
	return NULL;
}

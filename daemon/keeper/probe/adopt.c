/*
 * Adopts a probe that is pinned: is it the one that is desired, and if its programs are others,
 * their replacement while events come. Owns nothing. Called by attach.c.
 *
 * A pinned probe is the desired one if all is the same that gives its numbers a meaning: then its
 * counts continue. Code and constants are not among that, as long as they count the same: another
 * program is stored into the tail-call slot, and each event runs either the old or the new one.
 */
#include "daemon/keeper/probe/adopt.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/membarrier.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "daemon/keeper/probe/trampoline.h"
#include "order.h"
#include "shm/base/clock.h"

/* --- what makes two probes the same ----------------------------------------------------------- */

#define END_WAITS_MAX 2000 /* of a millisecond */

#define FNV_BASIS 0xcbf29ce484222325ull
#define FNV_PRIME 0x100000001b3ull

static void hash_bytes(uint64_t *hash, const void *bytes, size_t nr)
{
	const unsigned char *b = bytes;

	for (size_t i = 0; i < nr; i++)
		*hash = (*hash ^ b[i]) * FNV_PRIME;
}

static void hash_text(uint64_t *hash, const char *text)
{
	hash_bytes(hash, text, strlen(text) + 1);
}

static void hash_number(uint64_t *hash, uint64_t n)
{
	hash_bytes(hash, &n, sizeof(n));
}

static void hash_type(uint64_t *hash, const struct probe_type *t)
{
	hash_text(hash, t->attach);
	for (const struct probe_counter *c = t->counters; c->name; c++) {
		hash_text(hash, c->name);
		hash_number(hash, c->from);
		hash_number(hash, c->nr);
	}
}

static void hash_source(uint64_t *hash, const struct probe_source *s)
{
	hash_text(hash, s->def.name);
	hash_number(hash, s->stride);
	hash_number(hash, s->dense_nr);
	hash_number(hash, s->keys_max);
	hash_number(hash, s->is_amount);
	hash_number(hash, s->def.keys_nr);
	for (uint32_t i = 0; i < s->def.keys_nr; i++) {
		hash_text(hash, s->def.keys[i].label);
		hash_number(hash, s->def.keys[i].kind);
		hash_number(hash, s->def.keys[i].bytes);
	}
}

/* The name, help and text are left out, and an object's path: the file may have moved. */
static void hash_spec(uint64_t *hash, const struct probe_spec *s)
{
	hash_number(hash, s->event);
	if (s->event == SPEC_OBJECT || s->event == SPEC_PACK)
		return;
	hash_text(hash, s->file);
	hash_text(hash, s->provider);
	hash_text(hash, s->target);
	hash_bytes(hash, &s->amount, sizeof(s->amount));
	hash_number(hash, s->keys_nr);
	hash_bytes(hash, s->keys, sizeof(s->keys));
	hash_number(hash, s->filters_nr);
	hash_bytes(hash, s->filters, sizeof(s->filters));
}

static uint64_t layout_hash(const struct load *l)
{
	uint64_t hash = FNV_BASIS;

	hash_number(&hash, l->live->cpus_nr);
	if (l->type)
		hash_type(&hash, l->type);
	for (uint32_t i = 0; i < l->live->sources_nr; i++)
		hash_source(&hash, &l->live->sources[i]);
	hash_spec(&hash, l->spec);
	return hash;
}

uint64_t adopt_hash(const void *elf, size_t bytes)
{
	uint64_t hash = FNV_BASIS;

	hash_bytes(&hash, elf, bytes);
	return hash;
}

/*
 * All of its object as it was compiled, for which map or function an instruction means does not
 * stand in the instruction; and the constants that it is loaded with.
 */
static uint64_t program_hash(const struct load *l)
{
	struct bpf_map *map;
	uint64_t hash = l->elf_hash;

	bpf_object__for_each_map(map, l->obj) {
		size_t bytes = 0;
		const void *values = bpf_map__autocreate(map)
					     ? bpf_map__initial_value(map, &bytes) : NULL;

		if (values)
			hash_bytes(&hash, values, bytes);
	}
	return hash;
}

void adopt_describe(const struct load *l, uint32_t origin, struct pin_meta *ret)
{
	const struct probe_live *live = l->live;

	memset(ret, 0, sizeof(*ret));
	ret->magic = PIN_MAGIC;
	ret->version = PIN_VERSION;
	ret->bytes = sizeof(*ret);
	ret->origin = origin;
	ret->cpus_nr = live->cpus_nr;
	ret->layout_hash = layout_hash(l);
	ret->program_hash = program_hash(l);
	ret->sources_nr = live->sources_nr;
	for (uint32_t i = 0; i < live->sources_nr; i++) {
		const struct probe_source *s = &live->sources[i];

		ret->sources[i].stride = s->stride;
		ret->sources[i].dense_nr = s->dense_nr;
		ret->sources[i].events_nr = s->events_nr;
		ret->sources[i].keys_nr = s->def.keys_nr;
		ret->sources[i].keys_max = s->keys_max;
	}
	ret->spec = *l->spec;
}

/* --- what would be lost ----------------------------------------------------------------------- */

/* The sum of the first nr cells of each CPU's part. The kernel says how large the map is. */
static uint64_t dense_sum(int map_fd, uint32_t stride, uint32_t nr)
{
	struct bpf_map_info info = { 0 };
	const uint64_t *cells;
	uint32_t info_bytes = sizeof(info);
	uint64_t sum = 0;
	size_t bytes;

	if (bpf_obj_get_info_by_fd(map_fd, &info, &info_bytes) || !stride)
		return 0;
	bytes = (size_t)info.max_entries * sizeof(uint64_t);
	cells = mmap(NULL, bytes, PROT_READ, MAP_SHARED, map_fd, 0);
	if (cells == MAP_FAILED)
		return 0;
	for (uint32_t at = 0; at < info.max_entries; at++)
		if (at % stride < nr)
			sum += shm_count_read(&cells[at]);
	munmap((void *)cells, bytes);
	return sum;
}

static uint64_t keys_sum(int keys_fd)
{
	unsigned char key[TALEA_KEY_BYTES], next[TALEA_KEY_BYTES];
	int cpus_nr = libbpf_num_possible_cpus();
	uint64_t *values = cpus_nr > 0 ? calloc((size_t)cpus_nr, sizeof(*values)) : NULL, sum = 0;
	const void *from = NULL;

	while (values && !bpf_map_get_next_key(keys_fd, from, next)) {
		if (!bpf_map_lookup_elem(keys_fd, next, values))
			for (int cpu = 0; cpu < cpus_nr; cpu++)
				sum += values[cpu];
		memcpy(key, next, sizeof(key));
		from = key;
	}
	free(values);
	return sum;
}

static uint64_t pinned_sum(const struct pins *pins, const char *name, const struct pin_meta *m)
{
	struct probe_live *live = malloc(sizeof(*live));
	struct probe_ledger ledger = { 0 };
	uint64_t sum = 0;
	uint32_t zero = 0;

	if (!live)
		return 0;
	probe_live_init(PROBES_MAX, live);
	pin_open_maps(pins, name, m, live);
	for (uint32_t i = 0; i < m->sources_nr; i++) {
		const struct probe_source *s = &live->sources[i];

		if (s->counts_fd >= 0)
			sum += dense_sum(s->counts_fd, m->sources[i].stride,
					 m->sources[i].dense_nr ? m->sources[i].events_nr : 1);
		if (s->keys_fd >= 0)
			sum += keys_sum(s->keys_fd);
		if (s->ledger_fd >= 0 && !bpf_map_lookup_elem(s->ledger_fd, &zero, &ledger))
			sum += ledger.folded;
	}
	probe_close(live);
	free(live);
	return sum;
}

/* --- another layout --------------------------------------------------------------------------- */

/* What differs, as a clause about the pinned one. */
static void say_difference(const struct pin_meta *old, const struct pin_meta *m, char *buf,
			   size_t size)
{
	if (old->cpus_nr != m->cpus_nr)
		snprintf(buf, size, "was made for %u CPUs, and here can be %u", old->cpus_nr,
			 m->cpus_nr);
	else if (old->sources[0].dense_nr != m->sources[0].dense_nr)
		snprintf(buf, size, "has %u keys, ours %u", old->sources[0].dense_nr,
			 m->sources[0].dense_nr);
	else if (strcmp(old->spec.text, m->spec.text))
		snprintf(buf, size, "counts \"%.70s\"", old->spec.text);
	else if (old->sources_nr != m->sources_nr)
		snprintf(buf, size, "has %u counters, ours %u", old->sources_nr, m->sources_nr);
	else if (old->sources[0].keys_max != m->sources[0].keys_max)
		snprintf(buf, size, "has room for %u keys, ours for %u", old->sources[0].keys_max,
			 m->sources[0].keys_max);
	else
		snprintf(buf, size, "has other counters, or other keys of the same number");
}

static int refuse_layout(const struct pins *pins, const char *name, const struct pin_meta *old,
		  const struct pin_meta *m, struct why *why)
{
	char differs[128], since[32];
	time_t seconds = (time_t)(old->since_real_ns / 1000000000);
	struct tm tm;

	say_difference(old, m, differs, sizeof(differs));
	if (!localtime_r(&seconds, &tm) || !strftime(since, sizeof(since), "%F %T", &tm))
		since[0] = '\0';
	why_set(why, 0, "what is pinned of it %s: to go on would mix the two. It has counted "
		     "%" PRIu64 " since %s, which a new beginning ends", differs,
		pinned_sum(pins, name, old), since);
	why_fix(why, "talea attach --replace %s", name);
	return -EEXIST;
}

static int refuse_unknown(const char *name, struct why *why)
{
	why_set(why, 0, "what is pinned of it was made by another version of talead, which this "
		     "one cannot read; a new beginning ends its counts");
	why_fix(why, "talea attach --replace %s", name);
	return -EEXIST;
}

/* --- the same layout -------------------------------------------------------------------------- */

static int reuse(struct bpf_map *map, int fd)
{
	return !map || fd < 0 ? 0 : bpf_map__reuse_fd(map, fd);
}

/* Loads our programs with the pinned maps in the place of new ones. */
static int load_with_pinned_maps(struct load *l)
{
	struct probe_live *live = l->live;
	int err = 0;

	l->failure.step = "load it with the maps that are pinned";
	for (uint32_t i = 0; !err && i < live->sources_nr; i++) {
		err = reuse(load_counts_map(l, i), live->sources[i].counts_fd);
		if (!err)
			err = reuse(load_keys_map(l, i), live->sources[i].keys_fd);
	}
	return err ? err : bpf_object__load(l->obj);
}

/* The programs that run until others take their place. */
struct former {
	int progs[PROBE_PROGRAMS_MAX], links[PROBE_PROGRAMS_MAX], slots[PROBE_PROGRAMS_MAX];
};

static void former_take(struct probe_live *live, struct former *ret)
{
	memcpy(ret->progs, live->prog_fds, sizeof(ret->progs));
	memcpy(ret->links, live->link_fds, sizeof(ret->links));
	memcpy(ret->slots, live->slot_fds, sizeof(ret->slots));
	for (uint32_t i = 0; i < PROBE_PROGRAMS_MAX; i++)
		live->prog_fds[i] = live->link_fds[i] = live->slot_fds[i] = -1;
	live->progs_nr = live->links_nr = 0;
}

static void former_close(struct former *f)
{
	for (uint32_t i = 0; i < PROBE_PROGRAMS_MAX; i++) {
		int *fds[] = { &f->progs[i], &f->links[i], &f->slots[i] };

		for (uint32_t n = 0; n < 3; n++) {
			if (*fds[n] >= 0)
				close(*fds[n]);
			*fds[n] = -1;
		}
	}
}

/* The kernel ends a program some time after its last pin and descriptor: until then it counts. */
static int wait_for_end(uint32_t prog_id)
{
	const struct timespec pause = { .tv_nsec = 1000000 };
	int fd = 0;

	for (int i = 0; i < END_WAITS_MAX && fd >= 0; i++) {
		fd = bpf_prog_get_fd_by_id(prog_id);
		if (fd < 0)
			break;
		close(fd);
		nanosleep(&pause, NULL);
	}
	return fd < 0 ? 0 : -EBUSY;
}

/*
 * From here on no event runs them. A trampoline ends at once, its slot being empty; a program
 * without one when the kernel comes to it. An event may be between the former programs and the new
 * ones, which stand behind them at the same place: a grace period later none is.
 */
static int former_end(const struct pins *pins, const char *name, struct former *f)
{
	uint32_t ids[PROBE_PROGRAMS_MAX], ids_nr = 0, key = 0;
	struct bpf_prog_info info;
	int err;

	for (uint32_t i = 0; i < PROBE_PROGRAMS_MAX; i++) {
		uint32_t bytes = sizeof(info);

		memset(&info, 0, sizeof(info));
		if (f->slots[i] >= 0)
			bpf_map_delete_elem(f->slots[i], &key);
		else if (f->progs[i] >= 0 && !bpf_obj_get_info_by_fd(f->progs[i], &info, &bytes))
			ids[ids_nr++] = info.id;
	}
	err = pin_drop_programs(pins, name);
	former_close(f);
	for (uint32_t i = 0; !err && i < ids_nr; i++)
		err = wait_for_end(ids[i]);
	syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
	return err;
}

/*
 * Other programs in the place of those that have no trampoline or are of other events: the new ones
 * are attached with nothing in their slots, the old ones end, the new ones begin; what happens
 * between is not counted, and gap_ns says how long that was. What cannot be attached fails while
 * the old ones still count. Until the new ones are pinned meta has the hash of none.
 */
static int programs_replace(const struct pins *pins, const char *name, struct load *l,
			    struct pin_meta *m, struct former *f)
{
	struct pin_meta none = *m;
	uint64_t begin_ns;
	int err = load_programs_attach(l);

	none.program_hash = 0;
	none.progs_nr = none.links_nr = 0;
	if (!err)
		err = pin_update(pins, name, &none);
	begin_ns = mono_ns();
	if (!err)
		err = former_end(pins, name, f);
	if (!err)
		err = load_programs_begin(l);
	l->live->gap_ns = mono_ns() - begin_ns;
	if (!err)
		err = pin_store_programs(pins, name, l->live);
	m->progs_nr = l->live->progs_nr;
	m->links_nr = l->live->links_nr;
	return err;
}

/* The pinned maps continue, under programs of another object. */
static int programs_adopt(const struct pins *pins, const char *name, struct load *l,
			  struct pin_meta *m, const struct pin_meta *old)
{
	int err = load_with_pinned_maps(l);
	struct former former;

	if (err)
		return err;
	l->live->replaced = PROBE_REPLACED;
	if (!trampolines_replace(l))
		return 0;
	l->live->replaced = old->program_hash ? PROBE_REPLACED_GAP : PROBE_REPLACED_GAP_KILLED;
	former_take(l->live, &former);
	err = programs_replace(pins, name, l, m, &former);
	former_close(&former);
	return err;
}

static int adopt_same(const struct pins *pins, const char *name, struct load *l,
		      struct pin_meta *m, const struct pin_meta *old)
{
	bool is_same = old->program_hash == m->program_hash;
	int err;

	l->failure.step = "open what is pinned of it";
	err = pin_open_maps(pins, name, old, l->live);
	if (err)
		return err;
	m->since_real_ns = old->since_real_ns;
	m->progs_nr = old->progs_nr;
	m->links_nr = old->links_nr;
	err = pin_open_programs(pins, name, old, l->live);
	if (!err && !is_same)
		err = programs_adopt(pins, name, l, m, old);
	if (!err && memcmp(old, m, sizeof(*m)))
		err = pin_update(pins, name, m);
	return err;
}

int adopt(const struct pins *pins, struct load *l, struct pin_meta *m, struct why *why)
{
	const char *name = l->spec->name;
	struct pin_meta *old = malloc(sizeof(*old));
	int err = old ? pin_find(pins, name, old) : -ENOMEM;

	if (err == -ENOENT)
		err = 1;
	else if (err == -EPROTO)
		err = refuse_unknown(name, why);
	else if (!err && old->layout_hash != m->layout_hash)
		err = refuse_layout(pins, name, old, m, why);
	else if (!err)
		err = adopt_same(pins, name, l, m, old);
	if (!err) {
		l->live->since_real_ns = old->since_real_ns;
		l->live->is_pinned = l->live->is_adopted = 1;
		l->failure.step = "open its maps for reading";
		err = load_readers_open(pins, name, l->live);
	}
	free(old);
	return err;
}

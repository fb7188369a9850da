/*
 * One probe that is desired becomes attached: adopted where it is pinned, else loaded, attached and
 * pinned; and its end. A failure says why, in words for a person. Called by the keeper, which alone
 * has the rights. Owns nothing after it returns: the descriptors of a live probe belong to the
 * caller.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/keeper/probe/adopt.h"
#include "daemon/keeper/probe/learn.h"
#include "daemon/keeper/probe/trampoline.h"
#include "shm/base/clock.h"

#define LOG_BYTES (64u * 1024)

static int quiet(enum libbpf_print_level level, const char *format, va_list args)
{
	(void)level;
	(void)format;
	(void)args;
	return 0;
}

/* The highest possible CPU + 1 (not their number: the list may have holes), 0 if unknown. */
static uint32_t possible_cpus(void)
{
	FILE *f = fopen("/sys/devices/system/cpu/possible", "re");
	unsigned int last = 0, n;
	int any = 0;

	while (f && fscanf(f, "%u%*[-,]", &n) == 1) {
		last = n > last ? n : last;
		any = 1;
	}
	if (f)
		fclose(f);
	return any ? last + 1 : 0;
}

static int take_fd(int from, int *ret)
{
	int fd = fcntl(from, F_DUPFD_CLOEXEC, 3);

	if (fd < 0)
		return -errno;
	*ret = fd;
	return 0;
}

/* --- opening ---------------------------------------------------------------------------------- */

/* What is known of the event before anything is tried: for explain.c. */
static void event_known(struct load *l)
{
	struct failure *f = &l->failure;

	if (l->type) {
		const char *attach = l->type->attach;

		f->event = strncmp(attach, "tp_btf:", 7) ? SPEC_RAW_TP : SPEC_TP_BTF;
		f->target = strchr(attach, ':') ? strchr(attach, ':') + 1 : attach;
		snprintf(l->without, sizeof(l->without), "set [daemon] probes without %s",
			 l->type->name);
	} else {
		f->event = l->spec->event;
		f->file = l->spec->file;
		f->target = l->spec->target;
		snprintf(l->without, sizeof(l->without), l->live->origin == PROBE_OF_CONFIG
			 ? "take [probe %s] out of the configuration" : "attach another event than %s",
			 l->spec->name);
	}
	f->without = l->without;
	f->step = "open its object";
}

struct bpf_map *load_counts_map(const struct load *l, uint32_t source)
{
	return bpf_object__find_map_by_name(l->obj, l->live->sources[source].def.map);
}

struct bpf_map *load_keys_map(const struct load *l, uint32_t source)
{
	const struct talea_counter_def *def = &l->live->sources[source].def;
	char name[sizeof(def->map) + 2];

	if (!def->keys_nr)
		return NULL;
	snprintf(name, sizeof(name), "%s_k", def->map);
	return bpf_object__find_map_by_name(l->obj, name);
}

static int sources_prepare(struct load *l)
{
	int err = 0;

	for (uint32_t i = 0; !err && i < l->live->sources_nr; i++) {
		struct probe_source *s = &l->live->sources[i];
		struct bpf_map *map = load_counts_map(l, i);

		err = map ? bpf_map__set_max_entries(map, l->live->cpus_nr * s->stride) : -EINVAL;
	}
	return err;
}

static bool is_declared(const struct probe_spec *spec)
{
	return spec->event != SPEC_OBJECT && spec->event != SPEC_PACK;
}

/* Opened, its sizes and constants set, nothing of it in the kernel yet. */
static int open_it(struct load *l)
{
	struct bpf_program *prog;
	int err = is_declared(l->spec) ? declared_open(l) : object_open(l);

	if (err)
		return err;
	l->failure.step = "set its sizes";
	err = sources_prepare(l);
	bpf_object__for_each_program(prog, l->obj)
		if (!err)
			err = bpf_program__set_log_buf(prog, l->failure.log, LOG_BYTES);
	return err;
}

/* --- into the kernel -------------------------------------------------------------------------- */

/* From here on the programs alone write: a descriptor of the map is safe in any hands. */
static int counts_keep(const struct bpf_map *map, int *ret)
{
	int err = map ? bpf_map_freeze(bpf_map__fd(map)) : -EINVAL;

	return err ? err : take_fd(bpf_map__fd(map), ret);
}

static int source_keep(struct load *l, uint32_t i)
{
	struct probe_source *s = &l->live->sources[i];
	const struct bpf_map *keys = load_keys_map(l, i);
	int err = counts_keep(load_counts_map(l, i), &s->counts_fd);

	if (err || !s->def.keys_nr)
		return err;
	err = keys ? take_fd(bpf_map__fd(keys), &s->keys_fd) : -EINVAL;
	if (err)
		return err;
	s->ledger_fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "talea_ledger", sizeof(uint32_t),
				      sizeof(struct probe_ledger), 1, NULL);
	return s->ledger_fd < 0 ? s->ledger_fd : 0;
}

static int maps_keep(struct load *l)
{
	int err = 0;

	l->failure.step = "keep its maps";
	for (uint32_t i = 0; !err && i < l->live->sources_nr; i++)
		err = source_keep(l, i);
	return err;
}

/* "uprobe/FILE:SYMBOL" of a user's object: attached as what is declared so, by one descriptor. */
static int object_uprobe_attach(struct load *l, struct bpf_program *prog, int entry_fd, int *ret_fd)
{
	const char *section = bpf_program__section_name(prog), *file = strchr(section, '/') + 1;
	const char *colon = strrchr(file, ':');
	struct probe_spec spec = { 0 };
	struct load one = { .spec = &spec, .live = l->live };
	uint32_t nr;

	if (!colon || (size_t)(colon - file) >= sizeof(spec.file) ||
	    strlen(colon + 1) >= sizeof(spec.target))
		return -EINVAL;
	spec.event = strncmp(section, "uret", 4) ? SPEC_UPROBE : SPEC_URETPROBE;
	memcpy(spec.file, file, (size_t)(colon - file));
	strcpy(spec.target, colon + 1);
	return declared_attach(&one, entry_fd, ret_fd, 1, &nr);
}

/* Program number i: the event runs its trampoline, if it has one. A declared program may have
 * several links. */
static int entry_attach(struct load *l, struct bpf_program *prog, uint32_t i)
{
	struct probe_live *live = l->live;
	int *link = &live->link_fds[i], entry = live->prog_fds[i];
	bool is_raw = bpf_program__type(prog) == BPF_PROG_TYPE_RAW_TRACEPOINT;

	if (is_declared(l->spec))
		return declared_attach(l, entry, link, PROBE_PROGRAMS_MAX - i, &live->links_nr);
	if (bpf_program__type(prog) == BPF_PROG_TYPE_KPROBE)
		return object_uprobe_attach(l, prog, entry, link);
	*link = bpf_raw_tracepoint_open(
		is_raw ? strchr(bpf_program__section_name(prog), '/') + 1 : NULL, entry);
	return *link < 0 ? *link : 0;
}

static int entries_attach(struct load *l, bool with_trampoline)
{
	struct bpf_program *prog;
	uint32_t i = 0;
	int err = 0;

	if (!is_declared(l->spec))
		l->live->links_nr = l->live->progs_nr;
	bpf_object__for_each_program(prog, l->obj) {
		if (!err && (l->live->slot_fds[i] >= 0) == with_trampoline)
			err = entry_attach(l, prog, i);
		i++;
	}
	return err;
}

int load_programs_attach(struct load *l)
{
	struct probe_live *live = l->live;
	struct bpf_program *prog;
	int err = 0;

	l->failure.step = "attach it";
	bpf_object__for_each_program(prog, l->obj) {
		uint32_t i = live->progs_nr;

		if (i == PROBE_PROGRAMS_MAX)
			return -E2BIG;
		err = trampoline_make(l, prog, &live->prog_fds[i], &live->slot_fds[i]);
		/* Whatever else it is, this program can have none. */
		if (err && err != -ENOMEM && err != -EMFILE && err != -ENFILE)
			err = take_fd(bpf_program__fd(prog), &live->prog_fds[i]);
		if (err)
			return err;
		live->progs_nr++;
	}
	return entries_attach(l, true);
}

int load_programs_begin(struct load *l)
{
	int err = trampolines_begin(l);

	return err ? err : entries_attach(l, false);
}

/* --- descriptors for the worker --------------------------------------------------------------- */

static int reader_by_id(int map_fd, int *ret)
{
	LIBBPF_OPTS(bpf_get_fd_by_id_opts, opts, .open_flags = BPF_F_RDONLY);
	struct bpf_map_info info = { 0 };
	uint32_t bytes = sizeof(info);

	if (bpf_obj_get_info_by_fd(map_fd, &info, &bytes))
		return -errno;
	*ret = bpf_map_get_fd_by_id_opts(info.id, &opts);
	return *ret < 0 ? *ret : 0;
}

/*
 * The worker must not write keys: it gets descriptors that cannot, by the pins' paths or, where
 * that is allowed, by the maps' numbers. Where neither is, nobody may write keys any more, and none
 * is freed.
 */
int load_readers_open(const struct pins *pins, const char *name, struct probe_live *live)
{
	if (live->is_pinned)
		return pin_open_readers(pins, name, live);
	for (uint32_t i = 0; i < live->sources_nr; i++) {
		struct probe_source *s = &live->sources[i];
		int err;

		if (s->ledger_fd < 0)
			continue;
		if (!reader_by_id(s->keys_fd, &s->keys_ro_fd) &&
		    !reader_by_id(s->ledger_fd, &s->ledger_ro_fd))
			continue;
		err = bpf_map_freeze(s->keys_fd);
		if (err)
			return err;
		if (s->keys_ro_fd >= 0)
			close(s->keys_ro_fd);
		close(s->ledger_fd);
		s->keys_ro_fd = s->ledger_ro_fd = s->ledger_fd = -1;
	}
	return 0;
}

/* --- a new one -------------------------------------------------------------------------------- */

static void pin_it(const struct pins *pins, struct load *l, struct pin_meta *m)
{
	struct probe_live *live = l->live;
	int err;

	if (pins->fd < 0) {
		snprintf(live->unpinned_why, sizeof(live->unpinned_why), "%s", pins->why);
		return;
	}
	m->since_real_ns = live->since_real_ns;
	m->progs_nr = live->progs_nr;
	m->links_nr = live->links_nr;
	err = pin_store(pins, l->spec->name, m, live);
	live->is_pinned = !err;
	if (err)
		snprintf(live->unpinned_why, sizeof(live->unpinned_why), "%.80s: %s", pins->path,
			 strerror(-err));
}

static int make(const struct pins *pins, struct load *l, struct pin_meta *m)
{
	int err;

	l->failure.step = "load it";
	err = bpf_object__load(l->obj);
	if (!err)
		err = maps_keep(l);
	if (!err) {
		l->live->since_real_ns = real_ns();
		err = load_programs_attach(l);
	}
	if (!err)
		err = load_programs_begin(l);
	if (err)
		return err;
	pin_it(pins, l, m);
	l->failure.step = "open its maps for reading";
	return load_readers_open(pins, l->spec->name, l->live);
}

/* --- what is desired becomes attached --------------------------------------------------------- */

static int check_first(struct load *l, struct why *why)
{
	int err = explain_rights(why);

	if (!err)
		err = explain_btf(l->failure.event, why);
	if (err)
		return err;
	l->live->cpus_nr = possible_cpus();
	l->failure.log = calloc(1, LOG_BYTES);
	if (l->failure.log && l->live->cpus_nr)
		return 0;
	why_set(why, 0, l->failure.log ? "/sys/devices/system/cpu/possible cannot be read"
				    : "out of memory");
	why_fix(why, l->failure.log ? "mount -t sysfs sysfs /sys" : "free some memory");
	return l->failure.log ? -ENOENT : -ENOMEM;
}

static size_t map_bytes(const struct load *l)
{
	size_t bytes = 0;

	for (uint32_t i = 0; i < l->live->sources_nr; i++)
		bytes += source_map_bytes(l->live, i);
	return bytes;
}

/* Names alike, where a declared probe's was not found: declared.c has said the rest. */
static void fix_by_nearest(const struct load *l)
{
	struct probe_live *live = l->live;
	char near[256], fix[sizeof(live->fix)];

	if (!is_declared(l->spec) || l->failure.err != -ENOENT)
		return;
	explain_nearest(l->spec->event, l->spec->file, l->spec->target, near, sizeof(near));
	if (!near[0])
		return;
	memcpy(fix, live->fix, sizeof(fix));
	snprintf(live->fix, sizeof(live->fix), "did you mean %.110s? %s%.110s", near,
		 fix[0] ? "all: " : "", fix);
}

static void failed(struct load *l, int err, struct why *why)
{
	struct probe_live *live = l->live;

	l->failure.err = err;
	l->failure.map_bytes = map_bytes(l);
	probe_close(live);
	live->state = WIRE_PROBE_FAILED;
	live->progs_nr = live->links_nr = 0;
	live->is_pinned = live->is_adopted = 0;
	if (live->reason[0]) {
		fix_by_nearest(l);
		return;
	}
	if (!why->reason[0])
		explain_failure(&l->failure, why);
	snprintf(live->reason, sizeof(live->reason), "%.255s", why->reason);
	snprintf(live->fix, sizeof(live->fix), "%.255s", why->fix);
}

int probe_attach(const struct pins *pins, const struct probe_desired *desired,
		 struct probe_live *ret)
{
	struct why why = { 0 };
	struct load l = { .spec = &ret->spec, .live = ret };
	struct pin_meta *m = calloc(1, sizeof(*m));
	struct probe_spec spec = *desired->spec; /* it may be the one in *ret */
	int err;

	probe_live_init(PROBES_MAX, ret);
	ret->origin = desired->origin;
	ret->spec = spec;
	l.type = spec.event == SPEC_PACK ? pack_find(spec.name) : NULL;
	libbpf_set_print(quiet); /* what it has to say is said by reason and fix */
	event_known(&l);
	err = m ? check_first(&l, &why) : -ENOMEM;
	if (!err)
		err = open_it(&l);
	if (!err) {
		adopt_describe(&l, desired->origin, m);
		err = desired->is_replacing ? 1 : adopt(pins, &l, m, &why);
		if (err == 1)
			err = make(pins, &l, m);
	}
	if (err)
		failed(&l, err, &why);
	else
		ret->state = WIRE_PROBE_ATTACHED;
	if (!err && l.type)
		probe_learn((enum probe_id)(l.type - probe_types));
	bpf_object__close(l.obj);
	free(l.failure.log);
	free(m);
	return err;
}

void probe_end(const struct pins *pins, struct probe_live *live)
{
	if (live->is_pinned)
		pins_remove(pins, probe_name(live));
	probe_close(live);
	live->state = WIRE_PROBE_OFF;
}

uint64_t probe_missed(const struct probe_live *live)
{
	uint64_t missed = 0;

	for (uint32_t i = 0; i < live->progs_nr; i++) {
		struct bpf_prog_info info = { 0 };
		uint32_t bytes = sizeof(info);

		if (live->prog_fds[i] >= 0 &&
		    !bpf_obj_get_info_by_fd(live->prog_fds[i], &info, &bytes))
			missed += info.recursion_misses;
	}
	return missed;
}

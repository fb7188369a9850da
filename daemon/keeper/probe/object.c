/*
 * Opens an object: one of the pack, or a user's own file, whose counters were declared with
 * talea.bpf.h. Checks that it is what that header makes, and says in live->reason and live->fix
 * what is not. Owns nothing. Called by attach.c, which loads it and attaches its programs.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/keeper/probe/embedded.h"
#include "daemon/keeper/probe/load.h"
#include "daemon/keeper/probe/object.h"
#include "names.h"

/* Constants of ours that are set before the object is loaded, each a section of its own. */
#define NETNS_SECTION ".rodata.netns"

struct opening {
	struct load *l;
	bool is_ours;	  /* embedded: its names may begin with kernel_ */
	const char *what; /* the file, or the probe's name */
	struct why *why;
};

#define BUILD_AGAIN "build it again with the talea.bpf.h that is installed with this talead"

/* --- what libbpf says ------------------------------------------------------------------------- */

/* Its last complaint while a file is opened: the only place where it says what is wrong with it. */
static __thread char complaint[160];

__attribute__((format(printf, 2, 0)))
static int listen_to(enum libbpf_print_level level, const char *format, va_list args)
{
	static const char prefix[] = "libbpf: ";

	if (level != LIBBPF_WARN)
		return 0;
	if (!strncmp(format, prefix, sizeof(prefix) - 1))
		format += sizeof(prefix) - 1;
	vsnprintf(complaint, sizeof(complaint), format, args);
	complaint[strcspn(complaint, "\n")] = '\0';
	return 0;
}

static int open_elf(struct opening *o, const void *elf, size_t bytes)
{
	LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = o->l->spec->name);
	libbpf_print_fn_t before = libbpf_set_print(listen_to);
	int err = 0;

	complaint[0] = '\0';
	o->l->obj = bpf_object__open_mem(elf, bytes, &opts);
	if (!o->l->obj)
		err = -errno;
	libbpf_set_print(before);
	if (!err)
		return 0;

	if (strstr(complaint, "BTF is required")) {
		why_set(o->why, 0, "%s has no type information", o->what);
		why_fix(o->why, "build it again with clang -target bpf -O2 -g");
	} else {
		why_set(o->why, 0, "%s is no BPF object that can be read: %s", o->what,
			complaint[0] ? complaint : strerror(-err));
		why_fix(o->why, "build it again, and copy the whole of it there");
	}
	return err;
}

/* --- the counters ----------------------------------------------------------------------------- */

static bool object_has_text(const char *s, size_t size)
{
	return s[0] && memchr(s, '\0', size);
}

static int refuse_def(struct opening *o, size_t nr, const char *what)
{
	why_set(o->why, 0, "%s: counter number %zu has %s", o->what, nr + 1, what);
	why_fix(o->why, BUILD_AGAIN);
	return -EPROTO;
}

static int object_check_keys(struct opening *o, size_t nr, const struct talea_counter_def *def)
{
	if (def->keys_nr > TALEA_KEYS_MAX)
		return refuse_def(o, nr, "too many parts of a key");
	for (uint32_t i = 0; i < def->keys_nr; i++) {
		const struct talea_key_def *k = &def->keys[i];

		if (!object_has_text(k->label, sizeof(k->label)))
			return refuse_def(o, nr, "a label that does not end");
		if (k->kind < TALEA_KEY_U64 || k->kind > TALEA_KEY_ERRNO)
			return refuse_def(o, nr, "a kind of key that is not known");
		if (!k->bytes || k->bytes % 8 || (k->kind != TALEA_KEY_TEXT && k->bytes != 8))
			return refuse_def(o, nr, "a part of a key of a wrong size");
		for (uint32_t j = 0; j < i; j++)
			if (!strcmp(def->keys[j].label, k->label))
				return refuse_def(o, nr, "one label twice");
	}
	if (counter_key_bytes(def) > TALEA_KEY_BYTES)
		return refuse_def(o, nr, "too many bytes of key");
	return 0;
}

/* The rules are those of the library's counters: name_check says what is wrong. */
static int check_name(struct opening *o, const struct talea_counter_def *def)
{
	uint32_t rounds = def->keys_nr ? def->keys_nr : 1;
	char why[256];
	int err = 0;

	if (o->is_ours)
		return 0;
	for (uint32_t i = 0; i < rounds && !err; i++) {
		const char *label = def->keys_nr ? def->keys[i].label : "";

		err = name_check(def->keys_nr ? SHM_FAMILY : SHM_COUNTER, def->name,
				 strlen(def->name), def->help, strlen(def->help), label,
				 strlen(label), why, sizeof(why));
	}
	if (!err && strchr(def->name, '{')) {
		snprintf(why, sizeof(why), "labels are declared with TALEA_COUNTER_BY");
		err = -EINVAL;
	}
	if (err) {
		why_set(o->why, 0, "%s: counter %.64s: %.128s", o->what, def->name, why);
		why_fix(o->why, "say it so in TALEA_COUNTER, and build it again");
	}
	return err;
}

static int check_twice(struct opening *o, const struct talea_counter_def *defs, size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		if (!strcmp(defs[i].name, defs[nr].name)) {
			why_set(o->why, 0, "%s: two of its counters are called %.64s", o->what,
				defs[nr].name);
			why_fix(o->why, "give one of them another name in TALEA_COUNTER, or "
					"make it one counter with a key; build it again");
			return -EEXIST;
		}
		if (!strcmp(defs[i].map, defs[nr].map))
			return refuse_def(o, nr, "the map of another one");
	}
	return 0;
}

static int check_def(struct opening *o, const struct talea_counter_def *defs, size_t nr)
{
	const struct talea_counter_def *def = &defs[nr];
	int err;

	if (def->version != TALEA_BPF_VERSION) {
		why_set(o->why, 0, "%s was built with another talea.bpf.h: it is of version "
				"%u, this talead knows %u", o->what, def->version,
			TALEA_BPF_VERSION);
		why_fix(o->why, BUILD_AGAIN);
		return -EPROTONOSUPPORT;
	}
	if (!object_has_text(def->name, sizeof(def->name)))
		return refuse_def(o, nr, "a name that is empty or does not end");
	if (!object_has_text(def->help, sizeof(def->help)))
		return refuse_def(o, nr, "a help text that is empty or does not end");
	if (!object_has_text(def->map, sizeof(def->map)))
		return refuse_def(o, nr, "a map's name that is empty or does not end");
	err = object_check_keys(o, nr, def);
	if (!err)
		err = check_name(o, def);
	if (!err)
		err = check_twice(o, defs, nr);
	return err;
}

/* One array with a cell for each key, which the counters of the type share. */
static int take_dense(struct opening *o, const struct probe_type *type)
{
	struct probe_source *s = &o->l->live->sources[0];

	strcpy(s->def.name, type->counters[0].name);
	strcpy(s->def.map, "counts");
	s->stride = type->stride;
	s->dense_nr = type->keys_nr;
	s->events_nr = type->events_nr ? type->events_nr : type->keys_nr;
	o->l->live->sources_nr = 1;
	return 0;
}

static int take_counters(struct opening *o)
{
	struct bpf_map *section = bpf_object__find_map_by_name(o->l->obj, TALEA_SECTION);
	struct probe_live *live = o->l->live;
	const struct talea_counter_def *defs;
	size_t bytes = 0, nr;
	int err = 0;

	if (o->l->type && o->l->type->keys_nr)
		return take_dense(o, o->l->type);
	defs = section ? bpf_map__initial_value(section, &bytes) : NULL;
	if (!defs || !bytes) {
		why_set(o->why, 0, "%s declares no counter", o->what);
		why_fix(o->why, "declare one with TALEA_COUNTER (talea.bpf.h), and build it "
				"again");
		return -ENOENT;
	}
	nr = bytes / sizeof(*defs);
	if (bytes % sizeof(*defs)) {
		why_set(o->why, 0, "%s was built with another talea.bpf.h: its counters are "
				"described in %zu bytes, which is no multiple of %zu",
			o->what, bytes, sizeof(*defs));
		why_fix(o->why, BUILD_AGAIN);
		return -EPROTONOSUPPORT;
	}
	if (nr > PROBE_SOURCES_MAX) {
		why_set(o->why, 0, "%s declares %zu counters: %u have room", o->what, nr,
			PROBE_SOURCES_MAX);
		why_fix(o->why, "make two objects of it, each with its own [probe NAME]");
		return -E2BIG;
	}
	for (size_t i = 0; i < nr && !err; i++) {
		err = check_def(o, defs, i);
		live->sources[i].def = defs[i];
		live->sources[i].stride = TALEA_SOURCE_STRIDE;
	}
	live->sources_nr = err ? 0 : (uint32_t)nr;
	return err;
}

/* --- its maps --------------------------------------------------------------------------------- */

static bool is_map(const struct bpf_map *map, enum bpf_map_type type, uint32_t flags,
		   uint32_t key_bytes)
{
	return map && bpf_map__type(map) == type && bpf_map__map_flags(map) == flags &&
	       bpf_map__key_size(map) == key_bytes && bpf_map__value_size(map) == 8 &&
	       !bpf_map__pin_path(map);
}

static int check_maps(struct opening *o)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map, o->l->obj) {
		if (!bpf_map__pin_path(map))
			continue;
		why_set(o->why, 0, "%s: map %s is pinned by its name, and would outlive the probe",
			o->what, bpf_map__name(map));
		why_fix(o->why, "take LIBBPF_PIN_BY_NAME out, and build it again");
		return -EPROTO;
	}
	for (uint32_t i = 0; i < o->l->live->sources_nr; i++) {
		struct probe_source *s = &o->l->live->sources[i];
		struct bpf_map *keys = load_keys_map(o->l, i);

		if (!is_map(load_counts_map(o->l, i), BPF_MAP_TYPE_ARRAY, BPF_F_MMAPABLE, 4)) {
			why_set(o->why, 0, "%s: map %s is not what TALEA_COUNTER makes",
				o->what, s->def.map);
			why_fix(o->why, BUILD_AGAIN);
			return -EPROTO;
		}
		if (!s->def.keys_nr)
			continue;
		if (!is_map(keys, BPF_MAP_TYPE_PERCPU_HASH, 0, counter_key_bytes(&s->def)) ||
		    !bpf_map__max_entries(keys) || bpf_map__max_entries(keys) > SPEC_KEYS_MAX_MAX) {
			why_set(o->why, 0, "%s: map %s_k is not what TALEA_COUNTER_BY makes",
				o->what, s->def.map);
			why_fix(o->why, BUILD_AGAIN);
			return -EPROTO;
		}
		s->keys_max = bpf_map__max_entries(keys);
	}
	return 0;
}

/* --- its programs ----------------------------------------------------------------------------- */

/* What attach.c can attach by the section's name alone, keep by one descriptor and pin. */
static bool is_attachable(const struct bpf_program *prog)
{
	enum bpf_attach_type to = bpf_program__expected_attach_type(prog);
	const char *section = bpf_program__section_name(prog);
	const char *target = strchr(section, '/');

	if (!target || !target[1] || !bpf_program__autoload(prog))
		return false;
	switch (bpf_program__type(prog)) {
	case BPF_PROG_TYPE_RAW_TRACEPOINT:
		return true;
	case BPF_PROG_TYPE_TRACING:
		return to == BPF_TRACE_RAW_TP || to == BPF_TRACE_FENTRY || to == BPF_TRACE_FEXIT;
	case BPF_PROG_TYPE_KPROBE:
		return strchr(target, ':') && (!strncmp(section, "uprobe", 6) ||
					       !strncmp(section, "uretprobe", 9));
	default:
		return false;
	}
}

static int check_programs(struct opening *o)
{
	struct bpf_program *prog;
	uint32_t nr = 0;

	bpf_object__for_each_program(prog, o->l->obj) {
		if (!is_attachable(prog)) {
			why_set(o->why, 0, "%s: program %.48s is of a kind that talead does "
					"not attach, SEC(\"%.64s\")", o->what,
				bpf_program__name(prog), bpf_program__section_name(prog));
			why_fix(o->why, "make it SEC(\"raw_tp/EVENT\"), tp_btf/EVENT, "
					"fentry/FUNCTION, fexit/FUNCTION, uprobe/FILE:SYMBOL "
					"or uretprobe/FILE:SYMBOL, and build it again");
			return -EOPNOTSUPP;
		}
		nr++;
	}
	if (nr && nr <= PROBE_PROGRAMS_MAX)
		return 0;
	why_set(o->why, 0, "%s has %u programs: expected 1 to %u", o->what, nr,
		PROBE_PROGRAMS_MAX);
	why_fix(o->why, nr ? "make two objects of it, each with its own [probe NAME]"
			   : "write one, SEC(\"raw_tp/EVENT\") for example, build it again");
	return nr ? -E2BIG : -ENOENT;
}

/* --- opening ---------------------------------------------------------------------------------- */

/* Whose interfaces are counted: those of the network namespace that talead runs in. */
static int set_constants(struct opening *o)
{
	struct bpf_map *map = bpf_object__find_map_by_name(o->l->obj, NETNS_SECTION);
	struct stat st;
	uint32_t netns;

	if (!o->is_ours || !map)
		return 0;
	if (stat("/proc/self/ns/net", &st)) {
		int err = -errno;

		why_set(o->why, 0, "/proc/self/ns/net: %s", strerror(-err));
		why_fix(o->why, "mount -t proc proc /proc");
		return err;
	}
	netns = (uint32_t)st.st_ino;
	return bpf_map__set_initial_value(map, &netns, sizeof(netns));
}

/* The same event under the name that it had before. */
static int set_old_target(struct opening *o)
{
	const char *old = o->l->type ? o->l->type->attach_old : NULL;
	struct bpf_program *prog = bpf_object__next_program(o->l->obj, NULL);

	if (!old || explain_has_tracepoint(o->l->failure.target) || !explain_has_tracepoint(old))
		return 0;
	o->l->target = old;
	return bpf_program__set_attach_target(prog, 0, old);
}

static int open_and_check(struct opening *o, const void *elf, size_t bytes)
{
	int err = open_elf(o, elf, bytes);

	if (!err)
		err = take_counters(o);
	if (!err)
		err = check_maps(o);
	if (!err)
		err = check_programs(o);
	if (!err)
		err = set_constants(o);
	if (!err)
		err = set_old_target(o);
	return err;
}

int object_open(struct load *l)
{
	struct why why = { 0 };
	struct opening o = { .l = l, .is_ours = l->type != NULL, .why = &why };
	const void *elf;
	void *file = NULL;
	size_t bytes;
	int err = 0;

	o.what = l->type ? l->type->name : l->spec->file;
	l->failure.step = "open its object";
	if (l->type) {
		elf = embedded_object(l->type, &bytes);
	} else {
		err = object_file_read(o.what, &file, &bytes, &why);
		elf = file;
	}
	if (!err)
		err = open_and_check(&o, elf, bytes);
	if (!err)
		l->elf_hash = adopt_hash(elf, bytes);
	/* libbpf has copied what it needs. */
	free(file);
	if (!err)
		return 0;
	if (!why.reason[0]) {
		why_set(&why, 0, "%s cannot be opened: %s", o.what, strerror(-err));
		why_fix(&why, "start talead again; if that does not help, build it again");
	}
	bpf_object__close(l->obj);
	l->obj = NULL;
	snprintf(l->live->reason, sizeof(l->live->reason), "%.255s", why.reason);
	snprintf(l->live->fix, sizeof(l->live->fix), "%.255s", why.fix);
	return err;
}

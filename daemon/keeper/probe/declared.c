/*
 * The probes that were declared in text: one prebuilt object for each kind of event, made special
 * by constants before it is loaded, and attached here. Called by attach.c; see load.h. When
 * something is wrong with what was asked for, live->reason and live->fix say what; all else
 * explains who called.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/keeper/probe/symbols/elf.h"
#include "daemon/keeper/probe/symbols/prototype.h"
#include "daemon/keeper/probe/symbols/usdt.h"
#include "daemon/keeper/probe/load.h"

/* These want to know what the constants are. */
#include "bpf/declared/declared_fentry.skel.h"
#include "bpf/declared/declared_fexit.skel.h"
#include "bpf/declared/declared_raw_tp.skel.h"
#include "bpf/declared/declared_tp_btf.skel.h"
#include "bpf/declared/declared_uprobe.skel.h"
#include "bpf/declared/declared_usdt.skel.h"

#define UPROBES "/sys/bus/event_source/devices/uprobe/"

static const void *(*const elf_of[SPEC_EVENTS_NR])(size_t *) = {
	[SPEC_TP_BTF] = declared_tp_btf__elf_bytes,   [SPEC_RAW_TP] = declared_raw_tp__elf_bytes,
	[SPEC_FENTRY] = declared_fentry__elf_bytes,   [SPEC_FEXIT] = declared_fexit__elf_bytes,
	[SPEC_UPROBE] = declared_uprobe__elf_bytes,   [SPEC_URETPROBE] = declared_uprobe__elf_bytes,
	[SPEC_USDT] = declared_usdt__elf_bytes,
};

/* Says what is wrong with the request: the format makes the reason, fix what to do. */
__attribute__((format(printf, 4, 5)))
static int refuse(struct load *l, int err, const char *fix, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(l->live->reason, sizeof(l->live->reason), format, args);
	va_end(args);
	snprintf(l->live->fix, sizeof(l->live->fix), "%s", fix);
	return err;
}

static bool is_kernel_event(uint32_t event)
{
	return event <= SPEC_FEXIT;
}

static bool is_tracepoint(uint32_t event)
{
	return event == SPEC_TP_BTF || event == SPEC_RAW_TP;
}

/* --- where uprobes go ------------------------------------------------------------------------- */

struct site {
	uint64_t offset, semaphore_offset;
	char args[256];
};

struct sites {
	const struct probe_spec *spec;
	char path[512];
	uint32_t nr; /* may be more than there is room for */
	struct site at[DECLARED_SITES_MAX];
};

static int usdt_add(const struct elf_usdt *u, void *arg)
{
	struct sites *s = arg;

	if (strcmp(u->provider, s->spec->provider) || strcmp(u->name, s->spec->target))
		return 0;
	if (s->nr < DECLARED_SITES_MAX) {
		s->at[s->nr].offset = u->offset;
		s->at[s->nr].semaphore_offset = u->semaphore_offset;
		strcpy(s->at[s->nr].args, u->args);
	}
	s->nr++;
	return 0;
}

static int symbol_failed(struct load *l, const struct sites *s, int err)
{
	const char *symbol = l->spec->target;
	char fix[128];

	snprintf(fix, sizeof(fix), "talea probes --available 'uprobe:%.64s:*'", l->spec->file);
	switch (err) {
	case -ENOENT:
		return refuse(l, err, fix, "%.100s has no function %.100s", s->path, symbol);
	case -ENOTSUP:
		return refuse(l, err, fix, "%.100s is chosen when a program starts (an IFUNC): "
					   "name one of its versions", symbol);
	case -ENOTUNIQ:
		return refuse(l, err, fix, "%.100s has several functions called %.100s", s->path,
			      symbol);
	case -ENOEXEC:
		return refuse(l, err, "name another file",
			      "%.180s is no 64-bit program or library of this machine", s->path);
	}
	return refuse(l, err, "", "%.180s cannot be read: %s", s->path, strerror(-err));
}

static int sites_find(struct load *l, struct sites *ret)
{
	const struct probe_spec *spec = l->spec;
	char fix[160];
	int err;

	ret->spec = spec;
	ret->nr = 0;
	err = elf_library_find(spec->file, ret->path, sizeof(ret->path));
	if (err)
		return err == -ENOEXEC
			       ? refuse(l, err, "name another file", "%.180s is no program or library",
				      spec->file)
		       : err != -ENOENT
			       ? refuse(l, err, "", "%.180s: %s", spec->file, strerror(-err))
		       : strchr(spec->file, '/')
			       ? refuse(l, err, "name another file", "there is no file %.200s",
					spec->file)
			       : refuse(l, err, "name it by its path (ldconfig -p)",
					"no library %.180s is where the linker looks", spec->file);
	if (spec->event != SPEC_USDT) {
		ret->nr = 1;
		ret->at[0].semaphore_offset = 0;
		err = elf_symbol_offset(ret->path, spec->target, &ret->at[0].offset);
		return err ? symbol_failed(l, ret, err) : 0;
	}
	err = elf_usdt_each(ret->path, usdt_add, ret);
	if (err)
		return symbol_failed(l, ret, err);
	snprintf(fix, sizeof(fix), "talea probes --available 'usdt:%.100s:*'", spec->file);
	if (!ret->nr)
		return refuse(l, -ENOENT, fix, "%.100s has no USDT %.50s:%.60s", ret->path,
			      spec->provider, spec->target);
	if (ret->nr > DECLARED_SITES_MAX)
		return refuse(l, -E2BIG, "", "%.60s:%.60s stands at %u places of %.60s, at most %u fit",
			      spec->provider, spec->target, ret->nr, ret->path, DECLARED_SITES_MAX);
	return 0;
}

/* --- constants -------------------------------------------------------------------------------- */

struct constants {
	struct load *l;
	struct declared *to;
	const struct prototype *proto; /* NULL: nothing is known of the arguments */
	struct talea_counter_def *def;
};

/* Value number `nr` of the event; what has no type is a word without a sign. */
static int value_encode(struct constants *c, uint32_t field, uint32_t nr, struct prototype_value v,
			uint32_t *ret)
{
	const char *target = c->l->spec->target;

	if (!v.bytes)
		return refuse(c->l, -EINVAL, "", "argument %u of %.100s is no number (a struct)", nr,
			      target);
	*ret = DECLARED_OPERAND(field, nr, v.bytes, v.is_signed,
				v.is_pointer && c->l->spec->event != SPEC_RAW_TP);
	return 0;
}

static int argument_encode(struct constants *c, uint32_t arg, struct prototype_value *v,
			   uint32_t *ret)
{
	const struct probe_spec *spec = c->l->spec;

	if (c->proto && arg >= c->proto->params_nr) {
		if (!c->proto->params_nr)
			return refuse(c->l, -EINVAL, "", "%.100s has no arguments", spec->target);
		return refuse(c->l, -EINVAL, "", "%.100s has no arg%u: they are arg0 to arg%u",
			      spec->target, arg, c->proto->params_nr - 1);
	}
	if (c->proto)
		*v = c->proto->params[arg];
	return value_encode(c, DECLARED_VALUE, arg, *v, ret);
}

/* The result of the function, or of the system call that sys_exit tells. */
static int result_encode(struct constants *c, uint32_t field, struct prototype_value *v,
			 uint32_t *ret)
{
	const struct probe_spec *spec = c->l->spec;
	uint32_t nr = DECLARED_RESULT;

	v->is_signed = 1;
	if (is_tracepoint(spec->event)) {
		nr = 1;
	} else if (c->proto) {
		nr = c->proto->params_nr;
		*v = c->proto->result;
		if (!v->bytes)
			return refuse(c->l, -EINVAL, "", "%.100s returns nothing that is a number",
				      spec->target);
	} else if (field == DECLARED_ERRNO) {
		v->bytes = 4; /* an int leaves the upper half of the register as it was */
	}
	return value_encode(c, field, nr, *v, ret);
}

static int operand_encode(struct constants *c, const struct spec_operand *o, struct prototype_value *v,
			  uint32_t *ret)
{
	static const uint8_t fields[SPEC_FIELDS_NR] = {
		[SPEC_NONE] = DECLARED_NONE,   [SPEC_CPU] = DECLARED_CPU,
		[SPEC_PID] = DECLARED_PID,     [SPEC_TGID] = DECLARED_TGID,
		[SPEC_UID] = DECLARED_UID,     [SPEC_COMM] = DECLARED_COMM,
		[SPEC_CGROUP] = DECLARED_CGROUP,
	};

	*v = (struct prototype_value){ .bytes = 8 };
	switch (o->field) {
	case SPEC_ARG:
		return argument_encode(c, o->arg, v, ret);
	case SPEC_RETVAL:
		return result_encode(c, DECLARED_VALUE, v, ret);
	case SPEC_ERRNO:
		return result_encode(c, DECLARED_ERRNO, v, ret);
	}
	*ret = DECLARED_OPERAND(fields[o->field], 0, 8, 0, 0);
	return 0;
}

static int keys_encode(struct constants *c)
{
	const struct probe_spec *spec = c->l->spec;

	c->to->keys_nr = spec->keys_nr;
	for (uint32_t i = 0; i < spec->keys_nr; i++) {
		struct talea_key_def *key = &c->def->keys[i];
		struct prototype_value v;
		int err = operand_encode(c, &spec->keys[i], &v, &c->to->keys[i]);

		if (err)
			return err;
		if (key->kind == TALEA_KEY_U64 || key->kind == TALEA_KEY_S64)
			key->kind = v.is_signed ? TALEA_KEY_S64 : TALEA_KEY_U64;
	}
	return 0;
}

static int filter_encode(struct constants *c, const struct spec_filter *f,
			 struct declared_filter *ret)
{
	static const uint8_t ops[SPEC_OPS_NR] = {
		[SPEC_EQ] = DECLARED_EQ, [SPEC_NE] = DECLARED_NE, [SPEC_LT] = DECLARED_LT,
		[SPEC_LE] = DECLARED_LE, [SPEC_GT] = DECLARED_GT, [SPEC_GE] = DECLARED_GE,
		[SPEC_AND] = DECLARED_AND,
	};
	struct prototype_value v;
	uint64_t id;
	int err = operand_encode(c, &f->what, &v, &ret->what);

	ret->op = ops[f->op];
	ret->value = f->value;
	if (!err && f->what.field == SPEC_COMM)
		memcpy(ret->comm, f->text, sizeof(ret->comm));
	if (err || f->what.field != SPEC_CGROUP)
		return err;
	err = cgroup_id(f->text, &id);
	if (err)
		return refuse(c->l, -EINVAL, "", "there is no cgroup %.128s below the cgroup2 mount",
			      f->text);
	ret->value = (int64_t)id;
	return 0;
}

static int amount_encode(struct constants *c)
{
	struct prototype_value v;
	int err = operand_encode(c, &c->l->spec->amount, &v, &c->to->amount);

	if (!err && v.is_pointer)
		return refuse(c->l, -EINVAL, "", "the amount is a pointer: its sum says nothing");
	return err;
}

/* Each site has its own places; only those are looked at that are asked for. */
static int places_encode(struct constants *c, const struct sites *s, const struct spec_operand *o)
{
	const struct probe_spec *spec = c->l->spec;
	char text[64];

	if (o->field != SPEC_ARG)
		return 0;
	for (uint32_t i = 0; i < s->nr; i++) {
		int err = usdt_place(s->at[i].args, o->arg, &c->to->places[i][o->arg], text);

		if (err == -ERANGE)
			return refuse(c->l, -EINVAL, "", "%.60s:%.60s has no arg%u (\"%.60s\")",
				      spec->provider, spec->target, o->arg, s->at[i].args);
		if (err)
			return refuse(c->l, err, "", "arg%u of %.60s:%.60s cannot be read at its place "
						     "(%s)", o->arg, spec->provider, spec->target,
				      text);
	}
	return 0;
}

static int usdt_encode(struct constants *c)
{
	const struct probe_spec *spec = c->l->spec;
	struct sites s;
	int err = sites_find(c->l, &s);

	for (uint32_t i = 0; !err && i < spec->keys_nr; i++) {
		err = places_encode(c, &s, &spec->keys[i]);
		if (!err && spec->keys[i].field == SPEC_ARG)
			c->def->keys[i].kind = c->to->places[0][spec->keys[i].arg].is_signed
						       ? TALEA_KEY_S64
						       : TALEA_KEY_U64;
	}
	for (uint32_t i = 0; !err && i < spec->filters_nr; i++)
		err = places_encode(c, &s, &spec->filters[i].what);
	return err ? err : places_encode(c, &s, &spec->amount);
}

/* --- opening ---------------------------------------------------------------------------------- */

/* A kernel event's types. That there is none is said here, before the verifier says less. */
static int prototype_get(struct load *l, struct prototype *ret, bool *ret_is_known)
{
	bool is_function = l->spec->event >= SPEC_FENTRY;
	const char *what = is_function ? "kernel function" : "tracepoint";
	char fix[192];
	int err;

	*ret_is_known = false;
	if (!is_kernel_event(l->spec->event))
		return 0;
	err = prototype_find(l->spec->target, is_function, ret);
	*ret_is_known = !err;
	/* Without any type information a raw tracepoint still works, its arguments as words. */
	if (!err || (err == -ENODATA && l->spec->event == SPEC_RAW_TP))
		return 0;
	if (err != -ENOENT)
		return err;
	snprintf(fix, sizeof(fix), "talea probes --available '%s:*%.64s*'",
		 l->spec->event == SPEC_TP_BTF ? "tp_btf" : l->spec->event == SPEC_RAW_TP ? "raw_tp" :
		 l->spec->event == SPEC_FENTRY ? "fentry" : "fexit", l->spec->target);
	return refuse(l, err, fix, "this kernel's type information has no %s %.128s", what,
		      l->spec->target);
}

static int constants_set(struct load *l)
{
	struct bpf_map *map = bpf_object__find_map_by_name(l->obj, ".rodata");
	struct prototype proto;
	struct declared constants;
	struct constants c = { .l = l, .def = &l->live->sources[0].def, .to = &constants };
	bool is_known;
	int err = prototype_get(l, &proto, &is_known);

	if (err)
		return err;
	memset(&constants, 0, sizeof(constants));
	c.proto = is_known ? &proto : NULL;
	err = keys_encode(&c);
	c.to->filters_nr = l->spec->filters_nr;
	for (uint32_t i = 0; !err && i < l->spec->filters_nr; i++)
		err = filter_encode(&c, &l->spec->filters[i], &c.to->filters[i]);
	if (!err)
		err = amount_encode(&c);
	if (!err && l->spec->event == SPEC_USDT)
		err = usdt_encode(&c);
	if (!err)
		err = map ? bpf_map__set_initial_value(map, &constants, sizeof(constants)) : -EINVAL;
	return err;
}

static int maps_set(struct load *l)
{
	struct bpf_map *keys = bpf_object__find_map_by_name(l->obj, "counts_k");
	struct probe_source *source = &l->live->sources[0];
	int err;

	if (!keys)
		return -EINVAL;
	if (!l->spec->keys_nr) /* what would use it is never reached */
		return bpf_map__set_autocreate(keys, false);
	err = bpf_map__set_key_size(keys, counter_key_bytes(&source->def));
	return err ? err : bpf_map__set_max_entries(keys, source->keys_max);
}

static int target_set(struct load *l)
{
	if (!is_kernel_event(l->spec->event) || l->spec->event == SPEC_RAW_TP)
		return 0;
	l->target = l->spec->target;
	return bpf_program__set_attach_target(bpf_object__next_program(l->obj, NULL), 0,
					      l->spec->target);
}

int declared_open(struct load *l)
{
	struct probe_source *source = &l->live->sources[0];
	const void *elf;
	size_t bytes;
	int err;

	l->failure.step = "open its object";
	if (l->spec->event >= SPEC_EVENTS_NR || !elf_of[l->spec->event])
		return -EINVAL;
	elf = elf_of[l->spec->event](&bytes);
	l->obj = bpf_object__open_mem(elf, bytes, NULL);
	if (!l->obj)
		return -errno;
	l->elf_hash = adopt_hash(elf, bytes);
	spec_counter(l->spec, &source->def);
	strcpy(source->def.map, "counts");
	source->stride = TALEA_SOURCE_STRIDE;
	source->keys_max = l->spec->keys_max;
	source->is_amount = l->spec->amount.field != SPEC_NONE;
	l->live->sources_nr = 1;
	l->failure.step = "set its constants";
	err = constants_set(l);
	if (!err)
		err = target_set(l);
	return err ? err : maps_set(l);
}

/* --- attaching -------------------------------------------------------------------------------- */

/* "config:32-63", "config:0", or a number; the first number behind the prefix. */
static int sysfs_number(const char *path, const char *prefix, uint32_t *ret)
{
	FILE *f = fopen(path, "re");
	char line[64] = "";
	int err = -ENOTSUP; /* this kernel has no uprobes, or no sysfs tells of them */

	if (!f)
		return err;
	if (fgets(line, sizeof(line), f) && !strncmp(line, prefix, strlen(prefix))) {
		*ret = (uint32_t)strtoul(line + strlen(prefix), NULL, 10);
		err = 0;
	}
	fclose(f);
	return err;
}

/*
 * Not libbpf's attach: its link for a USDT cannot be kept or pinned, and its others end with it.
 * The kernel's link holds the perf event, so one descriptor is all.
 */
static int site_attach(struct load *l, int prog_fd, const struct sites *s, uint32_t site,
		       int *ret_fd)
{
	struct perf_event_attr attr = { .size = sizeof(attr) };
	LIBBPF_OPTS(bpf_link_create_opts, opts, .perf_event.bpf_cookie = site);
	uint32_t bit = 0, shift = 0;
	int fd, link, err = sysfs_number(UPROBES "type", "", &attr.type);

	if (!err && l->spec->event == SPEC_URETPROBE)
		err = sysfs_number(UPROBES "format/retprobe", "config:", &bit);
	if (!err && s->at[site].semaphore_offset)
		err = sysfs_number(UPROBES "format/ref_ctr_offset", "config:", &shift);
	if (err)
		return refuse(l, err, "mount -t sysfs sysfs /sys, or boot a kernel built with "
				      "CONFIG_UPROBE_EVENTS=y",
			      "this kernel shows no uprobes in " UPROBES);
	if (l->spec->event == SPEC_URETPROBE)
		attr.config |= 1ull << bit;
	attr.config |= s->at[site].semaphore_offset << shift;
	attr.config1 = (uintptr_t)s->path;
	attr.config2 = s->at[site].offset;
	fd = (int)syscall(SYS_perf_event_open, &attr, -1, 0, -1, PERF_FLAG_FD_CLOEXEC);
	if (fd < 0 && errno == EACCES)
		return refuse(l, -EACCES, "run talead as root, or give it CAP_SYS_ADMIN",
			      "this kernel lets only CAP_SYS_ADMIN attach uprobes (CAP_PERFMON is not "
			      "enough)");
	if (fd < 0)
		return -errno;
	link = bpf_link_create(prog_fd, fd, BPF_PERF_EVENT, &opts);
	err = link < 0 ? link : ioctl(fd, PERF_EVENT_IOC_ENABLE, 0) ? -errno : 0;
	if (err && link >= 0)
		close(link);
	close(fd);
	if (!err)
		*ret_fd = link;
	return err;
}

static int sites_attach(struct load *l, int prog_fd, int *ret_link_fds, uint32_t max,
			uint32_t *ret_nr)
{
	struct sites s;
	uint32_t nr = 0;
	int err = sites_find(l, &s);

	if (!err && s.nr > max)
		err = -E2BIG;
	while (!err && nr < s.nr) {
		err = site_attach(l, prog_fd, &s, nr, &ret_link_fds[nr]);
		nr += !err;
	}
	if (!err) {
		*ret_nr = nr;
		return 0;
	}
	while (nr--) {
		close(ret_link_fds[nr]);
		ret_link_fds[nr] = -1;
	}
	return err;
}

int declared_attach(struct load *l, int prog_fd, int *ret_link_fds, uint32_t max, uint32_t *ret_nr)
{
	int fd;

	l->failure.step = "attach it";
	if (!is_kernel_event(l->spec->event))
		return sites_attach(l, prog_fd, ret_link_fds, max, ret_nr);
	if (!max)
		return -E2BIG;
	fd = bpf_raw_tracepoint_open(l->spec->event == SPEC_RAW_TP ? l->spec->target : NULL,
				     prog_fd);
	if (fd < 0)
		return fd;
	ret_link_fds[0] = fd;
	*ret_nr = 1;
	return 0;
}

/*
 * What can be attached on this machine, as the texts that `talea attach` takes: tracepoints from the
 * kernel's type information, functions from it where the kernel allows them, functions and USDTs of a
 * file. For talead --available, a process of its own that needs no rights; owns what it lists.
 */
#include <bpf/libbpf.h>
#include <errno.h>
#include <fnmatch.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/keeper/probe/symbols/elf.h"
#include "daemon/keeper/probe/explain.h"
#include "daemon/keeper/probe/probe.h"
#include "daemon/keeper/probe/symbols/types.h"

#define EXIT_USAGE    2
#define EXIT_NO_MATCH 4
#define ARGS_BYTES    1024u
#define ARGS_NR	      12u
#define SPEC_BYTES    (2 * SPEC_TEXT_MAX)

struct found {
	char *spec;
	char *args; /* "arg0: bool preempt, arg1: ..."; "" : none, or not known */
};

struct list {
	const char *glob; /* over the whole of a spec */
	struct found *found;
	size_t nr, room;
	const char *kind; /* of what is walked now */
	char file[256];	  /* "": the kernel */
	const struct btf *btf;
	struct btf_dump *dump; /* of btf; writes a type into text */
	char text[256];
	size_t text_used;
	size_t left_out_nr; /* that no spec can name; why: the first of them */
	char why[256];
};

static int list_put(struct list *l, const char *spec, const char *args)
{
	if (l->nr == l->room) {
		size_t room = l->room ? 2 * l->room : 1024;
		struct found *more = realloc(l->found, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		l->found = more;
		l->room = room;
	}
	l->found[l->nr] = (struct found){ strdup(spec), strdup(args) };
	if (!l->found[l->nr].spec || !l->found[l->nr].args)
		return -ENOMEM;
	l->nr++;
	return 0;
}

static bool is_asked(const struct list *l, const char *spec)
{
	return !fnmatch(l->glob, spec, 0);
}

/* Can any spec of this kind match? `*:sched_*` yes, `usdt:...` only usdt. */
static bool is_kind_asked(const struct list *l, const char *kind)
{
	size_t length = strcspn(l->glob, ":");
	char glob[64];

	if (length >= sizeof(glob))
		return false;
	memcpy(glob, l->glob, length);
	glob[length] = '\0';
	return !fnmatch(glob, kind, 0);
}

/* --- what the kernel has ---------------------------------------------------------------------- */

static void text_put(void *arg, const char *format, va_list args)
{
	struct list *l = arg;
	size_t left = sizeof(l->text) - l->text_used;
	int n = vsnprintf(l->text + l->text_used, left, format, args);

	if (n > 0)
		l->text_used += (size_t)n < left ? (size_t)n : left - 1;
}

/* One argument as C declares it. */
static const char *declaration(struct list *l, uint32_t type, const char *name)
{
	LIBBPF_OPTS(btf_dump_emit_type_decl_opts, opts, .field_name = name);

	l->text[0] = '\0';
	l->text_used = 0;
	if (l->dump)
		btf_dump__emit_type_decl(l->dump, type, &opts);
	return l->text;
}

/* The prototype of a function; a typedef of a pointer to one; NULL. */
static const struct btf_type *prototype(const struct btf *btf, const struct btf_type *t)
{
	t = btf__type_by_id(btf, t->type);
	if (t && btf_is_ptr(t))
		t = btf__type_by_id(btf, t->type);
	return t && btf_is_func_proto(t) ? t : NULL;
}

/* The typedef of a tracepoint has no names for its arguments, the function that runs it has. */
static const struct btf_type *named(const struct btf *btf, const char *tracepoint)
{
	char name[160];
	int id;

	snprintf(name, sizeof(name), "__traceiter_%s", tracepoint);
	id = btf__find_by_name_kind(btf, name, BTF_KIND_FUNC);
	return id > 0 ? prototype(btf, btf__type_by_id(btf, (uint32_t)id)) : NULL;
}

/* skip: the first parameter of a tracepoint's is not the program's. */
static void args_write(struct list *l, const struct btf_type *proto, const struct btf_type *names,
		       uint32_t skip, char *ret)
{
	uint32_t nr = proto ? btf_vlen(proto) : 0;
	size_t used = 0;

	ret[0] = '\0';
	for (uint32_t i = skip; i < nr && i - skip < ARGS_NR && used < ARGS_BYTES; i++) {
		const char *name = "";

		if (names && btf_vlen(names) == nr)
			name = btf__name_by_offset(l->btf, btf_params(names)[i].name_off);
		used += (size_t)snprintf(ret + used, ARGS_BYTES - used, "%sarg%u: %s",
					 used ? ", " : "", i - skip,
					 declaration(l, btf_params(proto)[i].type, name));
	}
}

static int tracepoint_put(struct list *l, const struct btf_type *t, const char *name)
{
	static const char *const kinds[] = { "tp_btf", "raw_tp" };
	char spec[SPEC_BYTES], args[ARGS_BYTES];
	int err = 0;

	for (unsigned int i = 0; !err && i < 2; i++) {
		snprintf(spec, sizeof(spec), "%s:%s", kinds[i], name);
		if (!is_asked(l, spec))
			continue;
		args_write(l, prototype(l->btf, t), named(l->btf, name), 1, args);
		err = list_put(l, spec, args);
	}
	return err;
}

static int function_put(struct list *l, const struct btf_type *t, const char *name)
{
	char spec[SPEC_BYTES], args[ARGS_BYTES];
	const struct btf_type *proto;

	snprintf(spec, sizeof(spec), "%s:%s", l->kind, name);
	if (!is_asked(l, spec))
		return 0;
	proto = prototype(l->btf, t);
	args_write(l, proto, proto, 0, args);
	return list_put(l, spec, args);
}

/* kind NULL: tracepoints; else functions. */
static int types_visit(const struct btf *btf, uint32_t first, void *arg)
{
	struct list *l = arg;
	int err = 0;

	l->btf = btf;
	l->dump = btf_dump__new(btf, text_put, l, NULL);
	for (uint32_t id = first; !err && id < btf__type_cnt(btf); id++) {
		const struct btf_type *t = btf__type_by_id(btf, id);
		const char *name = btf__name_by_offset(btf, t->name_off);

		if (l->kind && btf_is_func(t))
			err = function_put(l, t, name);
		else if (!l->kind && btf_is_typedef(t) &&
			 !strncmp(name, TYPES_TRACEPOINT, strlen(TYPES_TRACEPOINT)))
			err = tracepoint_put(l, t, name + strlen(TYPES_TRACEPOINT));
	}
	btf_dump__free(l->dump);
	return err;
}

/* Some kernels forbid programs at functions to everybody: tried, not guessed. */
static bool are_functions_allowed(void)
{
	static struct probe_live live;
	struct pins none = { .fd = -1 };
	struct probe_spec spec;
	struct probe_desired desired = { .spec = &spec, .origin = PROBE_OF_COMMAND };
	char why[256];

	if (spec_parse("available", "fentry:vfs_read", &spec, why, sizeof(why)))
		return false;
	if (probe_attach(&none, &desired, &live)) {
		fprintf(stderr, "talead: fentry and fexit are left out: %s\n", live.reason);
		return false;
	}
	probe_close(&live);
	return true;
}

static int kernel_list(struct list *l)
{
	static const char *const kinds[] = { "fentry", "fexit" };
	int err = 0;

	l->kind = NULL;
	if (is_kind_asked(l, "tp_btf") || is_kind_asked(l, "raw_tp"))
		err = types_each(types_visit, l);
	if (err || !(is_kind_asked(l, kinds[0]) || is_kind_asked(l, kinds[1])) ||
	    !are_functions_allowed())
		return err;
	for (unsigned int i = 0; !err && i < 2; i++) {
		l->kind = kinds[i];
		if (is_kind_asked(l, l->kind))
			err = types_each(types_visit, l);
	}
	return err;
}

/* --- what a file has -------------------------------------------------------------------------- */

/* What is listed can be attached as it stands: the names of files may be longer than a spec takes. */
static int file_put(struct list *l, const char *spec, const char *args)
{
	struct probe_spec parsed;
	char why[256];

	if (!is_asked(l, spec))
		return 0;
	if (!spec_parse(NULL, spec, &parsed, why, sizeof(why)))
		return list_put(l, spec, args);
	if (!l->left_out_nr++)
		snprintf(l->why, sizeof(l->why), "%s", why);
	return 0;
}

static int symbol_put(const char *name, void *arg)
{
	struct list *l = arg;
	char spec[SPEC_BYTES];

	snprintf(spec, sizeof(spec), "%s:%s:%s", l->kind, l->file, name);
	return file_put(l, spec, "");
}

static int usdt_put(const struct elf_usdt *u, void *arg)
{
	struct list *l = arg;
	char spec[SPEC_BYTES];

	snprintf(spec, sizeof(spec), "usdt:%s:%s:%s", l->file, u->provider, u->name);
	return file_put(l, spec, u->args);
}

/* KIND:FILE:GLOB; the file is a name, never a glob. */
static int file_list(struct list *l, const char *kind)
{
	const char *file = l->glob + strlen(kind) + 1, *end = strchr(file, ':');
	char path[512];
	int err;

	if (!end || end == file || (size_t)(end - file) >= sizeof(l->file)) {
		fprintf(stderr, "talead: %s needs a file, a path or a library's name: "
			"'%s:libc.so.6:*'\n", kind, kind);
		return EXIT_USAGE;
	}
	memcpy(l->file, file, (size_t)(end - file));
	l->kind = kind;
	err = elf_library_find(l->file, path, sizeof(path));
	if (!err)
		err = strcmp(kind, "usdt") ? elf_symbols_each(path, symbol_put, l)
					   : elf_usdt_each(path, usdt_put, l);
	if (err == -ENOEXEC)
		fprintf(stderr, "talead: %s is no program or library\n", l->file);
	else if (err)
		fprintf(stderr, "talead: %s cannot be looked into: %s\n", l->file, strerror(-err));
	return err;
}

/* --- showing ---------------------------------------------------------------------------------- */

static int by_spec(const void *a, const void *b)
{
	return strcmp(((const struct found *)a)->spec, ((const struct found *)b)->spec);
}

/* A function may have several symbols, a USDT several places. */
static void sort(struct list *l)
{
	size_t kept = 0;

	if (l->nr)
		qsort(l->found, l->nr, sizeof(*l->found), by_spec);
	for (size_t i = 0; i < l->nr; i++) {
		if (kept && !strcmp(l->found[kept - 1].spec, l->found[i].spec)) {
			free(l->found[i].spec);
			free(l->found[i].args);
			continue;
		}
		l->found[kept++] = l->found[i];
	}
	l->nr = kept;
}

static void print_lines(const struct list *l, FILE *out)
{
	bool is_tty = isatty(fileno(out));
	int width = 0;

	for (size_t i = 0; is_tty && i < l->nr; i++)
		if ((int)strlen(l->found[i].spec) > width)
			width = (int)strlen(l->found[i].spec);
	for (size_t i = 0; i < l->nr; i++) {
		const struct found *f = &l->found[i];

		if (!*f->args)
			fprintf(out, "%s\n", f->spec);
		else if (is_tty)
			fprintf(out, "%-*s  %s\n", width, f->spec, f->args);
		else
			fprintf(out, "%s\t%s\n", f->spec, f->args);
	}
}

static int print_json(const struct list *l, FILE *out)
{
	json_t *all = json_array(), *doc = json_pack("{s:i, s:o}", "schema", 1, "available", all);
	int err;

	for (size_t i = 0; i < l->nr; i++)
		json_array_append_new(all, json_pack("{s:s, s:s}", "attach", l->found[i].spec,
						     "arguments", l->found[i].args));
	err = json_dumpf(doc, out, JSON_COMPACT);
	fputc('\n', out);
	json_decref(doc);
	return err;
}

/* The name that a glob asks for: behind the last colon, without the stars around it; "": a pattern. */
static void name_asked(const char *glob, char *buf, size_t size)
{
	const char *name = strrchr(glob, ':') ? strrchr(glob, ':') + 1 : glob;
	size_t length;

	name += strspn(name, "*");
	length = strcspn(name, "*?[");
	snprintf(buf, size, "%.*s", name[length + strspn(name + length, "*")] ? 0 : (int)length, name);
}

/* What to try: names alike, or the glob over all of that kind. */
static int say_none(const struct list *l)
{
	uint32_t event = !*l->file && is_kind_asked(l, "tp_btf") ? SPEC_TP_BTF :
			 !*l->file && is_kind_asked(l, "raw_tp") ? SPEC_RAW_TP :
			 !*l->file				  ? SPEC_FENTRY :
			 strcmp(l->kind, "usdt")		  ? SPEC_UPROBE : SPEC_USDT;
	char name[128], near[256] = "";

	name_asked(l->glob, name, sizeof(name));
	if (*name)
		explain_nearest(event, *l->file ? l->file : NULL, name, near, sizeof(near));
	fprintf(stderr, "talead: nothing that can be attached here matches %s%s%s. fix: ", l->glob,
		*near ? "; alike: " : "", near);
	if (*l->file && !*name)
		fprintf(stderr, "name another file; this one has no %s\n",
			event == SPEC_USDT ? "USDT" : "function that can be named");
	else if (*l->file)
		fprintf(stderr, "all that it has: '%s:%s:*'\n", l->kind, l->file);
	else
		fprintf(stderr, "a glob over the whole text, such as 'tp_btf:tcp_*', '*:sched_*', "
				"'uprobe:libc.so.6:mall*'\n");
	return EXIT_NO_MATCH;
}

int available_run(const char *glob, FILE *out, bool is_json)
{
	static const char *const kinds[] = { "uprobe", "uretprobe", "usdt" };
	struct list l = { .glob = glob };
	char any[SPEC_BYTES];
	int err = 1;

	libbpf_set_print(NULL);
	/* A word alone may stand anywhere in a name. */
	if (!strchr(glob, ':')) {
		snprintf(any, sizeof(any), strpbrk(glob, "*?[") ? "*:%s" : "*:*%s*", glob);
		l.glob = any;
	}
	for (unsigned int i = 0; err == 1 && i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strncmp(glob, kinds[i], strlen(kinds[i])) && glob[strlen(kinds[i])] == ':')
			err = file_list(&l, kinds[i]);
	if (err == 1)
		err = kernel_list(&l);
	if (err == -ENODATA)
		fprintf(stderr, "talead: this kernel has no type information (" TYPES_KERNEL ")\n");
	sort(&l);
	if (!err && l.left_out_nr)
		fprintf(stderr, "talead: %zu are left out that no probe can name: %s\n", l.left_out_nr,
			l.why);
	if (!err && !l.nr)
		err = say_none(&l);
	else if (!err && is_json)
		err = print_json(&l, out);
	else if (!err)
		print_lines(&l, out);
	for (size_t i = 0; i < l.nr; i++) {
		free(l.found[i].spec);
		free(l.found[i].args);
	}
	free(l.found);
	return err < 0 ? 1 : err;
}

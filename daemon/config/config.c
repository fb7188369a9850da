/*
 * Reads and shows the configuration; see config.h. config_file.c has the text of a file,
 * config_value.c the keys and what their values may be. inih splits lines into key and value; this
 * file reads the sections itself, because inih cuts their names at 49 bytes and reports no empty
 * ones.
 */
#define _GNU_SOURCE
#include "daemon/config/config.h"

#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/config/config_file.h"
#include "daemon/config/config_value.h"
#include "daemon/spec/pack.h"

#define FILES_MAX 64u
#define LINE_MAX_BYTES 4096u
#define MISTAKES_SHOWN 16u
#define SECTION_BAD (-1) /* its keys are not checked: one mistake, one message */
#define SECTION_NONE (-2)
#define SECTIONS "[daemon], [namespace NAME], [counter GLOB] or [probe NAME]"

/* file 0 is "default", 1 the command line, others config_origins.files[file]. */
#define ORIGIN_COMMAND_LINE 1u
struct origin {
	uint32_t file, line;
};

struct config_origins {
	uint32_t files_nr;
	char files[FILES_MAX][CONFIG_PATH_MAX];
	struct origin daemon[CONFIG_KEYS_MAX];
	struct origin namespaces[CONFIG_NAMESPACES_MAX][CONFIG_KEYS_MAX];
	struct origin rules[CONFIG_RULES_MAX][CONFIG_KEYS_MAX];
	struct origin specs[CONFIG_SPECS_MAX][CONFIG_KEYS_MAX];
	struct origin specs_begin[CONFIG_SPECS_MAX]; /* where each section stands first */
};

struct config_reader {
	struct config *c;
	struct config_origins *o;
	void (*report)(const char *text);
	uint32_t mistakes_nr;
	uint32_t file, line; /* of what is read now */
	const char *rest;    /* of the file being read */
	int section;	     /* enum config_section, or SECTION_BAD, SECTION_NONE */
	void *target;	     /* the struct that the section fills */
	struct origin *where; /* of its keys */
};

__attribute__((format(printf, 2, 3)))
static void mistake(struct config_reader *r, const char *fmt, ...)
{
	const char *file = r->o->files[r->file];
	char text[WHY_MAX + CONFIG_VALUE_MAX];
	int n;
	va_list args;

	if (++r->mistakes_nr > MISTAKES_SHOWN)
		return;
	n = r->line ? snprintf(text, sizeof(text), "%s:%u: ", file, r->line)
		    : snprintf(text, sizeof(text), "%s: ", file);
	va_start(args, fmt);
	vsnprintf(text + n, sizeof(text) - (size_t)n, fmt, args);
	va_end(args);
	r->report(text);
}

/* --- sections -------------------------------------------------------------------------------- */

static void namespace_default(struct config_namespace *ns, const char *name)
{
	memset(ns, 0, sizeof(*ns));
	snprintf(ns->name, sizeof(ns->name), "%s", name);
	ns->counters_max = CONFIG_COUNTERS_MAX;
	ns->counters_max_per_uid = 0; /* the same as counters_max: see config_finish() */
	ns->rows_max = SHM_ROWS_MAX;
}

static void section_namespace(struct config_reader *r, const char *name)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				      "_-.";
	struct config *c = r->c;
	uint32_t i;

	if (!*name || strlen(name) >= SHM_NAMESPACE_MAX || name[strspn(name, letters)] ||
	    name[0] == '.' || name[0] == '-') {
		mistake(r, "expected [namespace NAME] with a name of 1 to %u letters, digits, _, - "
			   "and ., got \"%.64s\"", SHM_NAMESPACE_MAX - 1, name);
		return;
	}
	for (i = 0; i < c->namespaces_nr; i++)
		if (!strcmp(c->namespaces[i].name, name))
			break;
	if (i == CONFIG_NAMESPACES_MAX) {
		mistake(r, "more than %u namespaces", CONFIG_NAMESPACES_MAX);
		return;
	}
	if (i == c->namespaces_nr)
		namespace_default(&c->namespaces[c->namespaces_nr++], name);
	r->section = CONFIG_NAMESPACE;
	r->target = &c->namespaces[i];
	r->where = r->o->namespaces[i];
}

static void section_counter(struct config_reader *r, const char *glob)
{
	struct config *c = r->c;
	uint32_t i;

	if (!*glob || strlen(glob) >= CONFIG_GLOB_MAX) {
		mistake(r, "expected [counter GLOB] with a glob of 1 to %u bytes",
			CONFIG_GLOB_MAX - 1);
		return;
	}
	for (i = 0; i < c->rules_nr; i++)
		if (!strcmp(c->rules[i].glob, glob))
			break;
	if (i == CONFIG_RULES_MAX) {
		mistake(r, "more than %u [counter GLOB] sections", CONFIG_RULES_MAX);
		return;
	}
	if (i == c->rules_nr) {
		strcpy(c->rules[i].glob, glob);
		c->rules[i].hot = SHM_HOT_UNSET;
		c->rules[i].ttl_s = CONFIG_TTL_UNSET;
		c->rules_nr++;
	}
	r->section = CONFIG_COUNTER;
	r->target = &c->rules[i];
	r->where = r->o->rules[i];
}

static void section_probe(struct config_reader *r, const char *name)
{
	struct config *c = r->c;
	struct why why;
	uint32_t i;

	if (config_probe_name(name, &why)) {
		mistake(r, "expected [probe NAME]: %s", why.reason);
		return;
	}
	for (i = 0; i < c->specs_nr; i++)
		if (!strcmp(c->specs[i].name, name))
			break;
	if (i == CONFIG_SPECS_MAX) {
		mistake(r, "more than %u [probe NAME] sections", CONFIG_SPECS_MAX);
		return;
	}
	if (i == c->specs_nr) {
		strcpy(c->specs[i].name, name);
		r->o->specs_begin[i] = (struct origin){ r->file, r->line };
		c->specs_nr++;
	}
	r->section = CONFIG_PROBE;
	r->target = &c->specs[i];
	r->where = r->o->specs[i];
}

/* line: "[...]" without blanks around it. */
static void section_begin(struct config_reader *r, char *line)
{
	static const char *const kinds[] = { "daemon", "namespace", "counter", "probe", NULL };
	char *end = strrchr(line, ']'), *name;
	char meant[64];

	r->section = SECTION_BAD;
	if (!end || end[1]) {
		mistake(r, "expected ] at the end of the section's line");
		return;
	}
	*end = '\0';
	line += 1 + strspn(line + 1, " \t");
	name = line + strcspn(line, " \t");
	if (*name)
		*name++ = '\0';
	name += strspn(name, " \t");
	for (end = name + strlen(name); end > name && (end[-1] == ' ' || end[-1] == '\t');)
		*--end = '\0';
	if (!strcmp(line, "daemon") && !*name) {
		r->section = CONFIG_DAEMON;
		r->target = r->c;
		r->where = r->o->daemon;
	} else if (!strcmp(line, "namespace")) {
		section_namespace(r, name);
	} else if (!strcmp(line, "counter")) {
		section_counter(r, name);
	} else if (!strcmp(line, "probe")) {
		section_probe(r, name);
	} else {
		mistake(r, "unknown section [%.64s%s%.64s]%s; expected " SECTIONS, line,
			*name ? " " : "", name,
			config_did_you_mean(line, kinds, meant, sizeof(meant)));
	}
}

/* --- lines ----------------------------------------------------------------------------------- */

/*
 * Gives inih one line of `key = value` without the blanks before it (with them inih would append
 * the line to the value above), or an empty line for a section, a comment or a mistake, which are
 * handled here.
 */
static char *read_line(char *buf, int size, void *stream)
{
	struct config_reader *r = stream;
	size_t bytes;
	char *end;

	if (!*r->rest)
		return NULL;
	r->line++;
	bytes = strcspn(r->rest, "\n");
	if (bytes >= LINE_MAX_BYTES || bytes + 2 > (size_t)size) {
		mistake(r, "the line is longer than %u bytes", LINE_MAX_BYTES);
		bytes = 0;
	}
	while (bytes && strchr(" \t", *r->rest)) {
		r->rest++;
		bytes--;
	}
	memcpy(buf, r->rest, bytes);
	for (end = buf + bytes; end > buf && strchr(" \t\r", end[-1]);)
		end--;
	*end = '\0';
	r->rest += strcspn(r->rest, "\n");
	r->rest += *r->rest == '\n';
	if (buf[0] == '[') {
		section_begin(r, buf);
		buf[0] = '\0';
	} else if (strchr("#;", buf[0])) { /* an empty line as well */
		buf[0] = '\0';
	} else if (!strpbrk(buf, "=:")) {
		mistake(r, "expected KEY = VALUE or [SECTION], got \"%.64s\"", buf);
		buf[0] = '\0';
	}
	strcat(buf, "\n");
	return buf;
}

static void unknown_key(struct config_reader *r, const char *name)
{
	const struct config_key *keys = config_keys[r->section];
	static const char *const sections[] = { "[daemon]", "[namespace NAME]", "[counter GLOB]",
						"[probe NAME]" };
	const char *names[CONFIG_KEYS_MAX + 1] = { NULL };
	char list[256] = "", meant[64];

	for (unsigned int i = 0; keys[i].name; i++) {
		names[i] = keys[i].name;
		strcat(list, i ? ", " : "");
		strcat(list, names[i]);
	}
	mistake(r, "unknown key %.64s in %s%s; expected one of: %s", name, sections[r->section],
		config_did_you_mean(name, names, meant, sizeof(meant)), list);
}

/* inih's handler. It always returns 1: this file counts and reports mistakes itself. */
static int config_take_value(void *user, const char *section, const char *name, const char *value)
{
	struct config_reader *r = user;
	const struct config_key *key;
	struct why why = { "", "" };
	struct origin *where;

	(void)section;
	if (r->section == SECTION_BAD)
		return 1;
	if (r->section == SECTION_NONE) {
		mistake(r, "%.64s stands before the first section; expected "
			   SECTIONS " above it", name);
		return 1;
	}
	for (key = config_keys[r->section]; key->name && strcmp(key->name, name);)
		key++;
	if (!key->name) {
		unknown_key(r, name);
		return 1;
	}
	where = &r->where[key - config_keys[r->section]];
	if (where->file == r->file && where->line) {
		mistake(r, "%s is set twice in this file, first in line %u", name, where->line);
		return 1;
	}
	if (key->parse(key, r->target, value, &why))
		mistake(r, "%s = %.128s: %s%sexpected %s%s", name, value, why.reason,
			why.reason[0] ? "; " : "", key->expects,
			strpbrk(value, ";#") ? " (a comment stands on a line of its own)" : "");
	*where = (struct origin){ r->file, r->line };
	return 1;
}

/* --- files ----------------------------------------------------------------------------------- */

static void read_text(struct config_reader *r, const char *text)
{
	/* As packaged, inih cuts lines at 200 bytes and values at " ;", and reports neither. */
	ini_use_stack = 0;
	ini_allow_realloc = 1;
	ini_initial_alloc = ini_max_line = 65536;
	ini_allow_inline_comments = 0;
	r->rest = text + (strncmp(text, "\xef\xbb\xbf", 3) ? 0 : 3);
	if (ini_parse_stream(read_line, r, config_take_value, r))
		mistake(r, "cannot be read as an INI file");
}

static void load_file(struct config_reader *r, const char *path, bool may_miss)
{
	struct config_origins *o = r->o;
	struct why why;
	char *text;
	int err;

	if (o->files_nr == FILES_MAX) {
		mistake(r, "more than %u configuration files", FILES_MAX - 2);
		return;
	}
	r->file = o->files_nr;
	r->line = 0;
	r->section = SECTION_NONE;
	err = config_file_read(path, &text, &why);
	if (err == -ENOENT && may_miss)
		return;
	snprintf(o->files[o->files_nr++], CONFIG_PATH_MAX, "%s", path);
	if (err) {
		mistake(r, "%s%s%s", why.reason, why.fix[0] ? ". fix: " : "", why.fix);
		return;
	}
	read_text(r, text);
	free(text);
}

static void load_conf_d(const char *path, void *reader) { load_file(reader, path, false); }

/* --- the whole ------------------------------------------------------------------------------- */

static void config_take_option(struct config_reader *r, unsigned int key_idx, const char *option,
			       const char *text)
{
	const struct config_key *key = &config_keys[CONFIG_DAEMON][key_idx];
	struct why why = { "", "" };
	char path[4096] = "";

	if (!text)
		return;
	/* On a command line a path may be relative; in the configuration it never is. */
	if (text[0] != '/' && text[0] && !getcwd(path, sizeof(path) - 1))
		path[0] = '\0';
	if (path[0] && strlen(path) + 1 + strlen(text) < sizeof(path)) {
		strcat(path, "/");
		strcat(path, text);
		text = path;
	}
	snprintf(r->o->files[ORIGIN_COMMAND_LINE], CONFIG_PATH_MAX, "%s", option);
	if (key->parse(key, r->c, text, &why)) {
		char line[WHY_MAX + CONFIG_VALUE_MAX];

		r->mistakes_nr++;
		snprintf(line, sizeof(line), "%s %.512s: %s%sexpected %s", option, text,
			 why.reason, why.reason[0] ? "; " : "", key->expects);
		r->report(line);
	}
	r->o->daemon[key_idx] = (struct origin){ ORIGIN_COMMAND_LINE, 0 };
}

/* Checks that concern several keys of a [probe NAME]; a mistake is reported with the section's
 * line. */
static void config_finish_probes(struct config_reader *r)
{
	struct config *c = r->c;
	struct why why;

	for (uint32_t i = 0; i < c->specs_nr; i++) {
		if (!config_probe_finish(&c->specs[i], c->specs, i, &why))
			continue;
		r->file = r->o->specs_begin[i].file;
		r->line = r->o->specs_begin[i].line;
		mistake(r, "[probe %s]: %s", c->specs[i].name, why.reason);
	}
	if (!c->bpf_auto)
		c->specs_nr = 0;
}

/* Checks and values that depend on several keys, after all were read. */
static void config_finish(struct config_reader *r)
{
	struct config *c = r->c;

	if (!r->mistakes_nr)
		config_finish_probes(r);

	for (uint32_t i = 0; i < c->namespaces_nr; i++)
		if (!c->namespaces[i].counters_max_per_uid)
			c->namespaces[i].counters_max_per_uid = c->namespaces[i].counters_max;
	if (!c->bpf_auto)
		c->probes = 0;
	if (r->mistakes_nr > MISTAKES_SHOWN) {
		char line[64];

		snprintf(line, sizeof(line), "%u more mistakes", r->mistakes_nr - MISTAKES_SHOWN);
		r->report(line);
	}
	if (r->mistakes_nr)
		return;
	if (!c->socket[0] || !c->state[0])
		r->mistakes_nr++;
	if (!c->socket[0])
		r->report("no path for the socket: XDG_RUNTIME_DIR is not set, or too long. "
		       "fix: --socket PATH");
	if (!c->state[0])
		r->report("no path for the state folder: neither XDG_STATE_HOME nor HOME is set. "
		       "fix: --state DIR");
}

static void defaults(struct config *c)
{
	memset(c, 0, sizeof(*c));
	config_default_paths(c);
	config_default_user(c);
	c->keeper_uid = geteuid();
	c->fold_ns = 10000000;
	c->fold_cpu_permille = 50;
	c->bpf_auto = 1;
	c->pin_auto = 1;
	c->probes = probes_default();
	c->namespaces_nr = 1;
	namespace_default(&c->namespaces[0], "default");
}

int config_load(const struct config_source *source, struct config *ret,
		struct config_origins **ret_origins, void (*report)(const char *text))
{
	struct config_reader r = { .report = report };
	int err = -ENOMEM;

	r.c = malloc(sizeof(*r.c));
	r.o = calloc(1, sizeof(*r.o));
	if (!r.c || !r.o)
		goto out_free;
	defaults(r.c);
	r.o->files_nr = ORIGIN_COMMAND_LINE + 1;
	snprintf(r.c->file, sizeof(r.c->file), "%s", source->file ? source->file : CONFIG_FILE);
	load_file(&r, r.c->file, !source->file);
	if (!source->file)
		config_file_each("/etc/talea/conf.d", load_conf_d, &r);
	config_take_option(&r, 0, "--socket", source->socket);
	config_take_option(&r, 1, "--state", source->state);
	config_finish(&r);
	err = r.mistakes_nr ? -EINVAL : 0;
	if (err)
		goto out_free;
	*ret = *r.c;
	free(r.c);
	if (ret_origins)
		*ret_origins = r.o;
	else
		free(r.o);
	return 0;

out_free:
	free(r.c);
	free(r.o);
	return err;
}

void config_origins_free(struct config_origins *o)
{
	free(o);
}

/* --- showing --------------------------------------------------------------------------------- */

static void print_section(enum config_section section, const void *target,
			  const struct config_origins *o, const struct origin *where, FILE *out)
{
	const struct config_key *key = config_keys[section];
	const struct config_namespace *ns = target;
	char value[CONFIG_VALUE_MAX];

	for (; key->name; key++, where++) {
		key->show(key, target, value, sizeof(value));
		if (section == CONFIG_PROBE && !*value)
			continue;
		if (where->line)
			fprintf(out, "# %s:%u\n", o->files[where->file], where->line);
		else
			fprintf(out, "# %s\n", where->file ? "command line" : "default");
		if (section == CONFIG_NAMESPACE && !ns->users_set && !strcmp(key->name, "users"))
			fprintf(out, "# users: root and the user who starts talead\n");
		else if (section == CONFIG_COUNTER && !*value)
			fprintf(out, "# %s: as the other sections say\n", key->name);
		else
			fprintf(out, "%s =%s%s\n", key->name, *value ? " " : "", value);
	}
}

void config_print(const struct config *c, const struct config_origins *o, FILE *out)
{
	fprintf(out, "[daemon]\n");
	print_section(CONFIG_DAEMON, c, o, o->daemon, out);
	for (uint32_t i = 0; i < c->namespaces_nr; i++) {
		fprintf(out, "\n[namespace %s]\n", c->namespaces[i].name);
		print_section(CONFIG_NAMESPACE, &c->namespaces[i], o, o->namespaces[i], out);
	}
	for (uint32_t i = 0; i < c->rules_nr; i++) {
		fprintf(out, "\n[counter %s]\n", c->rules[i].glob);
		print_section(CONFIG_COUNTER, &c->rules[i], o, o->rules[i], out);
	}
	for (uint32_t i = 0; i < c->specs_nr; i++) {
		fprintf(out, "\n[probe %s]\n", c->specs[i].name);
		print_section(CONFIG_PROBE, &c->specs[i], o, o->specs[i], out);
	}
}

/*
 * What a declared probe is, checked: see probe_spec.h. The words and which of them go together stand
 * here once, for spec_check; reading text is probe_text.c. Owns nothing.
 */
#include "daemon/spec/probe_spec.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon/spec/probe_words.h"
#include "daemon/spec/pack.h"
#include "names.h"

/* What an event has: arguments, a result, an error number; which of the texts name it. */
#define HAS_ARGS     1u
#define HAS_RETVAL   2u
#define HAS_FILE     4u
#define HAS_PROVIDER 8u
#define HAS_TARGET   16u

const struct spec_word spec_events[] = {
	{ "tp_btf", SPEC_TP_BTF }, { "raw_tp", SPEC_RAW_TP },	{ "fentry", SPEC_FENTRY },
	{ "fexit", SPEC_FEXIT },   { "uprobe", SPEC_UPROBE },	{ "uretprobe", SPEC_URETPROBE },
	{ "usdt", SPEC_USDT },	   { NULL, 0 },
};

const struct spec_word spec_fields[] = {
	{ "cpu", SPEC_CPU },	   { "pid", SPEC_PID },	  { "tgid", SPEC_TGID }, { "uid", SPEC_UID },
	{ "comm", SPEC_COMM },	   { "cgroup", SPEC_CGROUP }, { "retval", SPEC_RETVAL },
	{ "errno", SPEC_ERRNO },   { NULL, 0 },
};

static const uint32_t event_has[SPEC_EVENTS_NR] = {
	[SPEC_TP_BTF] = HAS_ARGS | HAS_TARGET,
	[SPEC_RAW_TP] = HAS_ARGS | HAS_TARGET,
	[SPEC_FENTRY] = HAS_ARGS | HAS_TARGET,
	[SPEC_FEXIT] = HAS_ARGS | HAS_RETVAL | HAS_TARGET,
	[SPEC_UPROBE] = HAS_ARGS | HAS_FILE | HAS_TARGET,
	[SPEC_URETPROBE] = HAS_RETVAL | HAS_FILE | HAS_TARGET,
	[SPEC_USDT] = HAS_ARGS | HAS_FILE | HAS_PROVIDER | HAS_TARGET,
	[SPEC_OBJECT] = HAS_FILE,
};

int spec_refuse(struct spec_why *why, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why->buf, why->size, format, args);
	va_end(args);
	return -EINVAL;
}

/* --- texts ------------------------------------------------------------------------------------ */

bool spec_is_graphic(const char *s)
{
	for (; *s; s++)
		if (*s <= ' ' || *s > '~')
			return false;
	return true;
}

/* The text ends, and nothing stands behind its end: two equal texts are equal bytes. */
static bool is_text(const char *s, size_t size)
{
	size_t length = strnlen(s, size);

	for (size_t i = length; i < size; i++)
		if (s[i])
			return false;
	return length < size;
}

static bool is_zero(const void *bytes, size_t size)
{
	const unsigned char *b = bytes;

	for (size_t i = 0; i < size; i++)
		if (b[i])
			return false;
	return true;
}

bool spec_is_line(const char *s)
{
	char why[128];

	/* Those of two bytes as well: a terminal takes U+009B for an escape. */
	for (const unsigned char *c = (const unsigned char *)s; *c; c++)
		if (*c < ' ' || *c == 0x7f || (*c == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0))
			return false;
	return !*s || !name_check_value(SHM_KEY_TEXT, s, strlen(s), why, sizeof(why));
}

int spec_check_name(const char *name, struct spec_why *why)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				      "_-.";
	const size_t max = sizeof(((struct probe_spec *)NULL)->name) - 1;

	if (!*name || strlen(name) > max || name[strspn(name, letters)] || name[0] == '.' ||
	    name[0] == '-')
		return spec_refuse(why, "a probe's name has 1 to %zu letters, digits, _, - and ., and "
					"begins with none of the last two; got \"%.64s\"", max, name);
	if (pack_find(name))
		return spec_refuse(why, "%s is a probe of talead's own: choose another name", name);
	return 0;
}

static int check_texts(const struct probe_spec *s, struct spec_why *why)
{
	if (!is_text(s->name, sizeof(s->name)) || !is_text(s->counter, sizeof(s->counter)) ||
	    !is_text(s->help, sizeof(s->help)) || !is_text(s->file, sizeof(s->file)) ||
	    !is_text(s->provider, sizeof(s->provider)) || !is_text(s->target, sizeof(s->target)) ||
	    !is_text(s->text, sizeof(s->text)))
		return spec_refuse(why, "a text of it does not end");
	if (!spec_is_line(s->text) || !spec_is_line(s->file))
		return spec_refuse(why, "it has a control character, or is not UTF-8");
	return spec_check_name(s->name, why);
}

static int check_event_texts(const struct probe_spec *s, struct spec_why *why)
{
	uint32_t has = event_has[s->event];

	if (!(has & HAS_FILE) != !s->file[0] || !(has & HAS_PROVIDER) != !s->provider[0] ||
	    !(has & HAS_TARGET) != !s->target[0])
		return spec_refuse(why, "file, provider and name are not those of its kind of event");
	if (!spec_is_graphic(s->target) || !spec_is_graphic(s->provider) || strchr(s->provider, ':') ||
	    strchr(s->target, ':'))
		return spec_refuse(why, "a name of it has a character that no name has");
	/* A relative path would be another file for talead than for who asked. */
	if (has & HAS_FILE && strchr(s->file, '/') && s->file[0] != '/')
		return spec_refuse(why, "%.128s: expected an absolute path, or a library's name as "
					"libc.so.6", s->file);
	if (!strncmp(s->file, "/proc/self/", 11) || !strncmp(s->file, "/proc/thread-self/", 18))
		return spec_refuse(why, "%.128s is talead's own here: expected the file itself, or "
					"/proc/PID/...", s->file);
	return 0;
}

/* --- keys, filters, amount -------------------------------------------------------------------- */

/* The error number of a system call is an argument of its tracepoint. */
static bool is_sys_exit(const struct probe_spec *s)
{
	return (s->event == SPEC_TP_BTF || s->event == SPEC_RAW_TP) && !strcmp(s->target, "sys_exit");
}

static int check_operand(const struct probe_spec *s, const struct spec_operand *o,
			 struct spec_why *why)
{
	uint32_t has = event_has[s->event];

	if (o->field == SPEC_NONE || o->field >= SPEC_FIELDS_NR ||
	    !is_zero(o->reserved, sizeof(o->reserved)))
		return spec_refuse(why, "field %u is none", o->field);
	if (o->field != SPEC_ARG)
		return o->arg ? spec_refuse(why, "a number at a field that has none") :
			(o->field == SPEC_RETVAL || o->field == SPEC_ERRNO) &&
					!(has & HAS_RETVAL) && !is_sys_exit(s) ?
			spec_refuse(why, "retval and errno are there when a function returns: expected "
					 "fexit, uretprobe, or the tracepoint sys_exit") : 0;
	if (o->arg >= SPEC_ARGS_NR)
		return spec_refuse(why, "expected arg0 to arg%u, got arg%u", SPEC_ARGS_NR - 1, o->arg);
	if (!(has & HAS_ARGS))
		return spec_refuse(why, "the arguments are gone when a function returns: attach a "
					"uprobe to count by them, or key by retval");
	return 0;
}

static int check_keys(const struct probe_spec *s, struct spec_why *why)
{
	if (s->keys_nr > TALEA_KEYS_MAX)
		return spec_refuse(why, "at most %u keys together, got %u", TALEA_KEYS_MAX, s->keys_nr);
	for (uint32_t i = 0; i < s->keys_nr; i++) {
		int err = check_operand(s, &s->keys[i], why);

		if (err)
			return err;
		for (uint32_t j = 0; j < i; j++)
			if (!memcmp(&s->keys[i], &s->keys[j], sizeof(s->keys[i])))
				return spec_refuse(why, "the same key twice");
	}
	if (!is_zero(&s->keys[s->keys_nr], (TALEA_KEYS_MAX - s->keys_nr) * sizeof(s->keys[0])))
		return spec_refuse(why, "more keys than it says");
	if (!s->keys_nr && s->keys_max)
		return spec_refuse(why, "without keys (by ...) there is no maximum of them");
	if (s->keys_nr && (!s->keys_max || s->keys_max > SPEC_KEYS_MAX_MAX))
		return spec_refuse(why, "expected room for 1 to %u keys, got %u", SPEC_KEYS_MAX_MAX,
				   s->keys_max);
	return 0;
}

static int check_filter(const struct probe_spec *s, const struct spec_filter *f,
			struct spec_why *why)
{
	bool is_text_field = f->what.field == SPEC_COMM || f->what.field == SPEC_CGROUP;
	int err = check_operand(s, &f->what, why);

	if (err)
		return err;
	if (f->op < SPEC_EQ || f->op >= SPEC_OPS_NR || f->reserved)
		return spec_refuse(why, "operator %u is none", f->op);
	if (!is_text(f->text, sizeof(f->text)) || !spec_is_line(f->text))
		return spec_refuse(why, "the text of a comparison is none");
	if (!is_text_field)
		return f->text[0] ? spec_refuse(why, "a text at a filter that has none") : 0;
	if (f->op != SPEC_EQ && f->op != SPEC_NE)
		return spec_refuse(why, "comm and cgroup are compared with == and != alone");
	if (f->value)
		return spec_refuse(why, "a number at a filter that has none");
	if (f->what.field == SPEC_COMM && (!f->text[0] || strlen(f->text) > SPEC_COMM_MAX))
		return spec_refuse(why, "the kernel keeps %u bytes of a command's name: expected 1 to "
					"%u, got \"%.64s\"", SPEC_COMM_MAX, SPEC_COMM_MAX, f->text);
	if (f->what.field == SPEC_CGROUP && f->text[0] != '/')
		return spec_refuse(why, "expected a cgroup's path below the cgroup2 mount, such as "
					"/system.slice; got \"%.64s\"", f->text);
	return 0;
}

static int check_filters(const struct probe_spec *s, struct spec_why *why)
{
	if (s->filters_nr > SPEC_FILTERS_MAX)
		return spec_refuse(why, "at most %u comparisons, got %u", SPEC_FILTERS_MAX,
				   s->filters_nr);
	for (uint32_t i = 0; i < s->filters_nr; i++) {
		int err = check_filter(s, &s->filters[i], why);

		if (err)
			return err;
	}
	if (!is_zero(&s->filters[s->filters_nr],
		     (SPEC_FILTERS_MAX - s->filters_nr) * sizeof(s->filters[0])))
		return spec_refuse(why, "more comparisons than it says");
	return 0;
}

static int check_amount(const struct probe_spec *s, struct spec_why *why)
{
	if (s->amount.field == SPEC_NONE)
		return is_zero(&s->amount, sizeof(s->amount)) ? 0 : spec_refuse(why, "no such amount");
	if (s->amount.field != SPEC_ARG && s->amount.field != SPEC_RETVAL)
		return spec_refuse(why, "expected an argument (arg0 to arg%u) or retval as the amount",
				   SPEC_ARGS_NR - 1);
	return check_operand(s, &s->amount, why);
}

/* --- the whole -------------------------------------------------------------------------------- */

int spec_check_counter(const char *counter, const char *help, const struct talea_counter_def *def,
		       struct spec_why *why)
{
	uint32_t i = 0;
	int err;

	if (strchr(counter, '{'))
		return spec_refuse(why, "the name has braces: labels come from the keys alone");
	do {
		const char *label = def && i < def->keys_nr ? def->keys[i].label : "";

		err = name_check(*label ? SHM_FAMILY : SHM_COUNTER, counter, strlen(counter), help,
				 strlen(help), label, strlen(label), why->buf, why->size);
	} while (!err && def && ++i < def->keys_nr);
	return err;
}

int spec_check(const struct probe_spec *spec, char *buf, size_t size)
{
	struct spec_why why = { buf, size };
	struct talea_counter_def def;
	int err = check_texts(spec, &why);

	if (err)
		return err;
	if (spec->event == 0 || spec->event >= SPEC_EVENTS_NR || spec->event == SPEC_PACK)
		return spec_refuse(&why, "event %u is none", spec->event);
	err = check_event_texts(spec, &why);
	if (err)
		return err;
	if (spec->event == SPEC_OBJECT) {
		if (spec->file[0] != '/')
			return spec_refuse(&why, "expected an absolute path to an object, got "
						 "\"%.128s\"", spec->file);
		/* All else is the object's to say. */
		if (spec->counter[0] || spec->help[0] || spec->keys_max || spec->keys_nr ||
		    spec->filters_nr || !is_zero(spec->keys, sizeof(spec->keys)) ||
		    !is_zero(spec->filters, sizeof(spec->filters)) ||
		    !is_zero(&spec->amount, sizeof(spec->amount)))
			return spec_refuse(&why, "an object says itself what it counts");
		return 0;
	}
	err = check_keys(spec, &why);
	if (!err)
		err = check_filters(spec, &why);
	if (!err)
		err = check_amount(spec, &why);
	if (err)
		return err;
	spec_counter(spec, &def);
	return spec_check_counter(spec->counter, spec->help, &def, &why);
}

bool spec_equals(const struct probe_spec *a, const struct probe_spec *b)
{
	return a->event == b->event && a->keys_max == b->keys_max && a->keys_nr == b->keys_nr &&
	       a->filters_nr == b->filters_nr && !strcmp(a->counter, b->counter) &&
	       !strcmp(a->file, b->file) && !strcmp(a->provider, b->provider) &&
	       !strcmp(a->target, b->target) && !memcmp(a->keys, b->keys, sizeof(a->keys)) &&
	       !memcmp(a->filters, b->filters, sizeof(a->filters)) &&
	       !memcmp(&a->amount, &b->amount, sizeof(a->amount));
}

static void key_def(const struct spec_operand *o, struct talea_key_def *ret)
{
	static const uint8_t kinds[SPEC_FIELDS_NR] = {
		[SPEC_CPU] = TALEA_KEY_CPU,	  [SPEC_PID] = TALEA_KEY_PID,
		[SPEC_TGID] = TALEA_KEY_TGID,	  [SPEC_UID] = TALEA_KEY_UID,
		[SPEC_COMM] = TALEA_KEY_TEXT,	  [SPEC_CGROUP] = TALEA_KEY_CGROUP,
		[SPEC_ARG] = TALEA_KEY_U64,	  [SPEC_RETVAL] = TALEA_KEY_S64,
		[SPEC_ERRNO] = TALEA_KEY_ERRNO,
	};

	ret->kind = kinds[o->field];
	ret->bytes = o->field == SPEC_COMM ? SPEC_COMM_MAX + 1 : sizeof(uint64_t);
	if (o->field == SPEC_ARG) {
		snprintf(ret->label, sizeof(ret->label), "arg%u", o->arg);
		return;
	}
	for (const struct spec_word *w = spec_fields; w->text; w++)
		if (w->value == o->field)
			snprintf(ret->label, sizeof(ret->label), "%s", w->text);
}

void spec_counter(const struct probe_spec *spec, struct talea_counter_def *ret)
{
	memset(ret, 0, sizeof(*ret));
	snprintf(ret->name, sizeof(ret->name), "%s", spec->counter);
	snprintf(ret->help, sizeof(ret->help), "%s", spec->help);
	snprintf(ret->map, sizeof(ret->map), "counts");
	ret->version = TALEA_BPF_VERSION;
	ret->keys_nr = spec->keys_nr;
	for (uint32_t i = 0; i < spec->keys_nr; i++)
		key_def(&spec->keys[i], &ret->keys[i]);
}

uint32_t counter_key_bytes(const struct talea_counter_def *def)
{
	uint32_t bytes = 0;

	for (uint32_t i = 0; i < def->keys_nr; i++)
		bytes += def->keys[i].bytes;
	return bytes;
}

bool counter_has_key(const struct talea_counter_def *def, enum talea_key_kind kind)
{
	for (uint32_t i = 0; i < def->keys_nr; i++)
		if (def->keys[i].kind == kind)
			return true;
	return false;
}

/*
 * Reading what to count from one line of text: spec_parse of probe_spec.h. What it makes has passed
 * spec_check. Owns nothing.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/spec/probe_words.h"
#include "shm/base/near.h"

#define BLANKS	  " \t"
#define WORDS_MAX 16u
#define WORD_MAX  (SPEC_TEXT_MAX - 1)

struct reader {
	const char *at; /* what is left */
	struct spec_why why;
	struct probe_spec *spec;
	char word[WORD_MAX + 1];
};

/* "; did you mean X?", or nothing. */
static const char *near(const char *word, const struct spec_word *words, char *buf, size_t size)
{
	const char *texts[WORDS_MAX + 1] = { NULL }, *found;

	for (uint32_t i = 0; i < WORDS_MAX && words[i].text; i++)
		texts[i] = words[i].text;
	found = near_word(word, texts);
	buf[0] = '\0';
	if (found)
		snprintf(buf, size, " (did you mean %s?)", found);
	return buf;
}

static int copy(struct reader *r, char *to, size_t size, const char *from, const char *what)
{
	size_t length = strlen(from);

	if (length >= size)
		return spec_refuse(&r->why, "the %s has %zu bytes, at most %zu fit", what, length,
				   size - 1);
	memcpy(to, from, length + 1);
	return 0;
}

static void skip_blanks(struct reader *r)
{
	r->at += strspn(r->at, BLANKS);
}

/* The next word, up to a blank or one of the stops. May be empty. */
static const char *take_word(struct reader *r, const char *stops)
{
	char ends[16];
	size_t length;

	skip_blanks(r);
	snprintf(ends, sizeof(ends), BLANKS "%s", stops);
	length = strcspn(r->at, ends);
	memcpy(r->word, r->at, length);
	r->word[length] = '\0';
	r->at += length;
	return r->word;
}

/* Decimal or 0x, the sign before it. */
static int number_of(const char *text, int64_t *ret)
{
	const char *digits = text + (*text == '-');
	int base = digits[0] == '0' && (digits[1] | ' ') == 'x' ? 16 : 10;
	uint64_t v;
	char *end;

	digits += base == 16 ? 2 : 0;
	if (base == 16 ? !isxdigit((unsigned char)*digits) : !isdigit((unsigned char)*digits))
		return -EINVAL;
	errno = 0;
	v = strtoull(digits, &end, base);
	if (errno || *end || (*text == '-' ? v > (uint64_t)INT64_MAX + 1 :
			      base == 10 && v > INT64_MAX))
		return -EINVAL;
	*ret = (int64_t)(*text == '-' ? 0 - v : v);
	return 0;
}

static uint32_t word_find(const struct spec_word *words, const char *text)
{
	for (; words->text; words++)
		if (!strcmp(words->text, text))
			return words->value;
	return 0;
}

/* --- the event -------------------------------------------------------------------------------- */

static const char *const event_forms[SPEC_EVENTS_NR] = {
	[SPEC_TP_BTF] = "tp_btf:NAME",
	[SPEC_RAW_TP] = "raw_tp:NAME",
	[SPEC_FENTRY] = "fentry:FUNCTION",
	[SPEC_FEXIT] = "fexit:FUNCTION",
	[SPEC_UPROBE] = "uprobe:FILE:SYMBOL",
	[SPEC_URETPROBE] = "uretprobe:FILE:SYMBOL",
	[SPEC_USDT] = "usdt:FILE:PROVIDER:NAME",
};

/* Cuts what stands behind the last colon off, for a file's name may have one. */
static char *cut_last(char *text)
{
	char *colon = strrchr(text, ':');

	if (!colon)
		return NULL;
	*colon = '\0';
	return colon + 1;
}

static int take_event_parts(struct reader *r, char *rest)
{
	struct probe_spec *s = r->spec;
	bool has_file = s->event >= SPEC_UPROBE;
	char *target = has_file ? cut_last(rest) : rest;
	char *provider = s->event == SPEC_USDT && target ? cut_last(rest) : NULL;
	int err;

	if (!target || !*target || (has_file && !*rest) ||
	    (s->event == SPEC_USDT && (!provider || !*provider)) || (!has_file && strchr(rest, ':')))
		return spec_refuse(&r->why, "expected %s", event_forms[s->event]);
	err = copy(r, s->target, sizeof(s->target), target, "event's name");
	if (!err && has_file)
		err = copy(r, s->file, sizeof(s->file), rest, "file's name");
	if (!err && provider)
		err = copy(r, s->provider, sizeof(s->provider), provider, "provider's name");
	return err;
}

static int take_event(struct reader *r)
{
	char *word, *colon, buf[64];
	size_t length;

	/* COUNTER= stands before the colon of the event: a file's name may have = as well. */
	skip_blanks(r);
	length = strcspn(r->at, "=:" BLANKS);
	if (r->at[length] == '=') {
		int err;

		memcpy(r->word, r->at, length);
		r->word[length] = '\0';
		r->at += length + 1;
		err = copy(r, r->spec->counter, sizeof(r->spec->counter), r->word, "counter's name");
		if (!err && !length)
			err = spec_refuse(&r->why, "expected the name of a counter before =");
		if (!err)
			err = spec_check_counter(r->spec->counter, "x", NULL, &r->why);
		if (err)
			return err;
	}
	word = (char *)take_word(r, "");
	colon = strchr(word, ':');
	if (!*word)
		return spec_refuse(&r->why, "expected an event, such as raw_tp:sched_process_exec");
	if (colon)
		*colon = '\0';
	r->spec->event = word_find(spec_events, word);
	if (!r->spec->event && !colon)
		return spec_refuse(&r->why, "%.64s is no event: which one? try raw_tp:%.64s, or talea "
					    "probes --available %.64s", word, word, word);
	if (!r->spec->event && (!strcmp(word, "kprobe") || !strcmp(word, "kretprobe")))
		return spec_refuse(&r->why, "there are no kprobes: for a kernel function use "
					    "f%s:%.64s, else a tracepoint",
				   word[1] == 'p' ? "entry" : "exit", colon + 1);
	if (!r->spec->event)
		return spec_refuse(&r->why, "there is no event %.64s%s; expected tp_btf:, raw_tp:, "
					    "fentry:, fexit:, uprobe:, uretprobe: or usdt:", word,
				   near(word, spec_events, buf, sizeof(buf)));
	if (!colon)
		return spec_refuse(&r->why, "expected %s", event_forms[r->spec->event]);
	return take_event_parts(r, colon + 1);
}

/* --- keys, filters, amount -------------------------------------------------------------------- */

static int take_operand(struct reader *r, const char *word, struct spec_operand *ret)
{
	char buf[64];

	memset(ret, 0, sizeof(*ret));
	if (!strncmp(word, "arg", 3) && isdigit((unsigned char)word[3])) {
		if (word[4] || word[3] - '0' >= (int)SPEC_ARGS_NR)
			return spec_refuse(&r->why, "expected arg0 to arg%u, got %.64s",
					   SPEC_ARGS_NR - 1, word);
		ret->field = SPEC_ARG;
		ret->arg = (uint8_t)(word[3] - '0');
		return 0;
	}
	ret->field = (uint8_t)word_find(spec_fields, word);
	if (ret->field)
		return 0;
	if (!*word)
		return spec_refuse(&r->why, "expected a field: cpu, pid, tgid, uid, comm, cgroup, arg0 "
					    "to arg%u, retval or errno", SPEC_ARGS_NR - 1);
	return spec_refuse(&r->why, "there is no field %.64s%s; expected cpu, pid, tgid, uid, comm, "
				    "cgroup, arg0 to arg%u, retval or errno", word,
			   near(word, spec_fields, buf, sizeof(buf)), SPEC_ARGS_NR - 1);
}

static int take_keys(struct reader *r)
{
	struct probe_spec *s = r->spec;

	do {
		int err;

		r->at += *r->at == ',';
		if (s->keys_nr == TALEA_KEYS_MAX)
			return spec_refuse(&r->why, "at most %u keys together", TALEA_KEYS_MAX);
		err = take_operand(r, take_word(r, ","), &s->keys[s->keys_nr]);
		if (err)
			return err;
		s->keys_nr++;
		skip_blanks(r);
	} while (*r->at == ',');
	return 0;
}

static int take_op(struct reader *r, uint32_t *ret)
{
	static const struct spec_word ops[] = {
		{ "==", SPEC_EQ }, { "!=", SPEC_NE }, { "<=", SPEC_LE }, { ">=", SPEC_GE },
		{ "=", SPEC_EQ },  { "<", SPEC_LT },  { ">", SPEC_GT },  { "&", SPEC_AND },
	};

	skip_blanks(r);
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		if (!strncmp(r->at, ops[i].text, strlen(ops[i].text))) {
			r->at += strlen(ops[i].text);
			*ret = ops[i].value;
			return 0;
		}
	return spec_refuse(&r->why, "expected one of == != < <= > >= & before \"%.64s\"", r->at);
}

/* EAGAIN: its number, or 0. */
static int errno_named(const char *name)
{
	for (int e = 1; e < 4096; e++) {
		const char *known = strerrorname_np(e);

		if (known && !strcmp(known, name))
			return e;
	}
	return 0;
}

/* A value with blanks stands between quotes. */
static int take_text(struct reader *r)
{
	size_t length;

	skip_blanks(r);
	if (*r->at != '"') {
		take_word(r, "");
		return 0;
	}
	length = strcspn(r->at + 1, "\"");
	if (!r->at[1 + length])
		return spec_refuse(&r->why, "expected \" at the end of %.64s", r->at);
	memcpy(r->word, r->at + 1, length);
	r->word[length] = '\0';
	r->at += length + 2;
	return 0;
}

static int take_value(struct reader *r, struct spec_filter *f)
{
	int err = take_text(r);

	if (err)
		return err;
	if (!*r->word && f->what.field != SPEC_COMM)
		return spec_refuse(&r->why, "expected a value behind the comparison");
	if (f->what.field == SPEC_COMM || f->what.field == SPEC_CGROUP)
		return copy(r, f->text, sizeof(f->text), r->word, "value of the comparison");
	if (f->what.field == SPEC_ERRNO && *r->word == 'E') {
		f->value = errno_named(r->word);
		if (f->value)
			return 0;
	}
	if (number_of(r->word, &f->value))
		return spec_refuse(&r->why, "expected a number (42, -1, 0xff)%s, got \"%.64s\"",
				   f->what.field == SPEC_ERRNO ? " or a name as EAGAIN" : "", r->word);
	return 0;
}

static int take_filters(struct reader *r)
{
	struct probe_spec *s = r->spec;

	for (;;) {
		struct spec_filter *f = &s->filters[s->filters_nr];
		const char *before;
		int err;

		if (s->filters_nr == SPEC_FILTERS_MAX)
			return spec_refuse(&r->why, "at most %u comparisons", SPEC_FILTERS_MAX);
		err = take_operand(r, take_word(r, "=!<>&"), &f->what);
		if (!err)
			err = take_op(r, &f->op);
		if (!err)
			err = take_value(r, f);
		if (err)
			return err;
		s->filters_nr++;
		before = r->at;
		if (strcmp(take_word(r, ""), "and")) {
			r->at = before;
			return 0;
		}
	}
}

static int take_amount(struct reader *r)
{
	return take_operand(r, take_word(r, ""), &r->spec->amount);
}

static int take_max(struct reader *r)
{
	int64_t v;

	if (number_of(take_word(r, ""), &v) || v < 1 || v > SPEC_KEYS_MAX_MAX)
		return spec_refuse(&r->why, "max %.64s: expected a number from 1 to %u", r->word,
				   SPEC_KEYS_MAX_MAX);
	r->spec->keys_max = (uint32_t)v;
	return 0;
}

static int take_clauses(struct reader *r)
{
	static const struct spec_word clauses[] = {
		{ "by", 0 }, { "if", 1 }, { "add", 2 }, { "max", 3 }, { NULL, 0 },
	};
	static int (*const take[])(struct reader *) = { take_keys, take_filters, take_amount,
							take_max };
	uint32_t done = 0;
	char buf[64];

	for (;;) {
		const char *word = take_word(r, "");
		uint32_t i = word_find(clauses, word);
		int err;

		if (!*word)
			return 0;
		if (!i && strcmp(word, clauses[0].text))
			return spec_refuse(&r->why, "expected by, if, add or max, got %.64s%s", word,
					   near(word, clauses, buf, sizeof(buf)));
		if (done & 1u << i)
			return spec_refuse(&r->why, "%s stands there twice", clauses[i].text);
		done |= 1u << i;
		err = take[i](r);
		if (err)
			return err;
	}
}

/* --- names ------------------------------------------------------------------------------------ */

static uint32_t hash_of(const char *text)
{
	uint32_t h = 2166136261u;

	for (; *text; text++)
		h = (h ^ (unsigned char)*text) * 16777619u;
	return h;
}

/* In lower case, every run of other bytes than letters and digits as one separator ('\0': none). */
static void words_of(const char *from, char separator, char *buf, size_t size)
{
	size_t used = 0;
	bool is_between = false;

	for (; *from && used + 2 < size; from++) {
		if (!isalnum((unsigned char)*from)) {
			is_between = used > 0;
			continue;
		}
		if (is_between && separator)
			buf[used++] = separator;
		is_between = false;
		buf[used++] = (char)tolower((unsigned char)*from);
	}
	buf[used] = '\0';
	if (!used)
		snprintf(buf, size, "x");
}

/*
 * A function may be called what no counter may be, such as sleep_ms. Its words written together are
 * no unit; if they still are (bits), an x before them.
 */
static void default_counter(struct probe_spec *s)
{
	struct spec_why ignored = { NULL, 0 };
	char words[112];

	for (uint32_t i = 0; i < 3; i++) {
		words_of(s->target, i ? '\0' : '_', words, sizeof(words) - 12);
		if (strlen(s->target) >= sizeof(words) - 14)
			sprintf(words + strlen(words), "_%08x", hash_of(s->target));
		memset(s->counter, 0, sizeof(s->counter)); /* nothing stands behind a text's end */
		snprintf(s->counter, sizeof(s->counter), "probe_%s%s_total", i == 2 ? "x" : "", words);
		if (!spec_check_counter(s->counter, "x", NULL, &ignored))
			return;
	}
}

/* Of the counter, so that two probes that may live beside each other have two names. */
static void default_name(struct probe_spec *s)
{
	struct spec_why ignored = { NULL, 0 };
	const char *from = s->counter + (strncmp(s->counter, "probe_", 6) ? 0 : 6);
	size_t length = strlen(from);

	if (length > 6 && !strcmp(from + length - 6, "_total"))
		length -= 6;
	if (length < sizeof(s->name))
		snprintf(s->name, sizeof(s->name), "%.*s", (int)length, from);
	else
		snprintf(s->name, sizeof(s->name), "%.*s_%08x", (int)sizeof(s->name) - 10, from,
			 hash_of(s->counter));
	if (spec_check_name(s->name, &ignored)) /* a probe of the pack has this name */
		snprintf(s->name, sizeof(s->name), "%.*s_probe", (int)length, from);
}

/* One line that fits, whatever the names: those are cut that are long. */
static void default_help(struct probe_spec *s)
{
	static const char *const of[SPEC_EVENTS_NR] = {
		[SPEC_TP_BTF] = "Hits of tracepoint",	  [SPEC_RAW_TP] = "Hits of tracepoint",
		[SPEC_FENTRY] = "Calls of kernel function", [SPEC_FEXIT] = "Returns of kernel function",
		[SPEC_UPROBE] = "Calls of",		  [SPEC_URETPROBE] = "Returns of",
		[SPEC_USDT] = "Hits of",
	};
	const char *file = strrchr(s->file, '/') ? strrchr(s->file, '/') + 1 : s->file;
	char amount[48] = "", shown[64] = "";
	size_t length = 0;

	if (s->amount.field == SPEC_ARG)
		snprintf(amount, sizeof(amount), ", sum of argument %u", s->amount.arg);
	else if (s->amount.field)
		snprintf(amount, sizeof(amount), ", sum of results");
	/* A file's name may end in the middle of a character when it is cut. */
	for (; file[length] && length < sizeof(shown) - 1; length++)
		shown[length] = file[length] & 0x80 ? '?' : file[length];
	snprintf(s->help, sizeof(s->help), "%s %s%s%.100s%s%s%s%s", of[s->event], s->provider,
		 *s->provider ? ":" : "", s->target, *shown ? " in " : "", shown, amount,
		 s->filters_nr ? ", filtered." : ".");
}

int spec_parse(const char *probe, const char *text, struct probe_spec *ret, char *why,
	       size_t why_size)
{
	struct probe_spec s;
	struct reader r = { .at = text, .why = { why, why_size }, .spec = &s };
	size_t length;
	int err;

	memset(&s, 0, sizeof(s));
	skip_blanks(&r);
	length = strlen(r.at);
	while (length && strchr(BLANKS, r.at[length - 1]))
		length--;
	if (length >= sizeof(s.text))
		return spec_refuse(&r.why, "the text has %zu bytes, at most %zu fit", length,
				   sizeof(s.text) - 1);
	for (size_t i = 0; i < length; i++)
		s.text[i] = r.at[i] == '\t' ? ' ' : r.at[i];
	if (!spec_is_line(s.text))
		return spec_refuse(&r.why, "the text has a control character, or is not UTF-8");
	r.at = s.text;
	err = take_event(&r);
	if (!err)
		err = take_clauses(&r);
	if (err)
		return err;
	if (s.keys_nr && !s.keys_max)
		s.keys_max = SPEC_KEYS_MAX_DEFAULT;
	if (!s.counter[0])
		default_counter(&s);
	if (probe)
		err = copy(&r, s.name, sizeof(s.name), probe, "probe's name");
	else
		default_name(&s);
	default_help(&s);
	if (!err)
		err = spec_check(&s, why, why_size);
	if (!err)
		*ret = s;
	return err;
}

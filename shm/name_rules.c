/*
 * The rules that a new name must follow: see name_check in names.h. They are those of Prometheus'
 * own linter (`promtool check metrics`), so that talead exports nothing that the linter rejects.
 * The worker calls them at registration. Owns nothing.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "names.h"

struct rule_text {
	char *buf;
	size_t size;
};

__attribute__((format(printf, 2, 3))) static int refuse(struct rule_text *why,
							const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why->buf, why->size, format, args);
	va_end(args);
	return -EINVAL;
}

size_t name_utf8_sequence(const unsigned char *s, size_t len)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t nr = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 :
								   s[0] < 0xf5 ? 4 : 0;
	uint32_t c;

	if (!nr || nr > len)
		return 0;
	if (nr == 1)
		return 1;
	c = s[0] & (0x7fu >> nr);
	for (size_t i = 1; i < nr; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	return c < least[nr] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) ? 0 : nr;
}

static bool is_utf8_text(const void *text, size_t len)
{
	const unsigned char *s = text;

	for (size_t i = 0, nr; i < len; i += nr) {
		nr = s[i] ? name_utf8_sequence(s + i, len - i) : 0;
		if (!nr)
			return false;
	}
	return true;
}

static bool is_word(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		bool is_letter = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z');

		if (!is_letter && s[i] != '_' && (i == 0 || s[i] < '0' || s[i] > '9'))
			return false;
	}
	return len > 0;
}

static bool begins_with(const char *s, size_t len, const char *prefix)
{
	size_t n = strlen(prefix);

	return len >= n && !memcmp(s, prefix, n);
}

static bool ends_with(const char *s, size_t len, const char *suffix)
{
	size_t n = strlen(suffix);

	return len >= n && !memcmp(s + len - n, suffix, n);
}

static bool equals(const char *s, size_t len, const char *word)
{
	return len == strlen(word) && !memcmp(s, word, len);
}

static const char *const unit_prefixes[] = {
	"",	"pico", "nano", "micro", "milli", "centi", "deci", "deca", "hecto",
	"kilo", "kibi", "mega", "mebi",	 "giga",  "gibi",  "tera", "tebi", "peta", "pebi",
};

static const struct unit {
	const char *name, *base;
} units[] = {
	{ "amperes", "amperes" }, { "bytes", "bytes" },	      { "celsius", "celsius" },
	{ "grams", "grams" },	  { "joules", "joules" },     { "kelvin", "kelvin" },
	{ "meters", "meters" },	  { "metres", "meters" },     { "seconds", "seconds" },
	{ "volts", "volts" },	  { "minutes", "seconds" },   { "hours", "seconds" },
	{ "days", "seconds" },	  { "weeks", "seconds" },     { "kelvins", "kelvin" },
	{ "inches", "meters" },	  { "fahrenheit", "celsius" }, { "rankine", "celsius" },
	{ "yards", "meters" },	  { "miles", "meters" },      { "bits", "bytes" },
	{ "calories", "joules" }, { "pounds", "grams" },      { "ounces", "grams" },
};

/* The base unit that a word should have been, or NULL. */
static const char *better_unit(const char *word, size_t len)
{
	for (size_t u = 0; u < sizeof(units) / sizeof(units[0]); u++) {
		/* Few words end in a unit: the prefixes are tried for these alone. */
		if (!ends_with(word, len, units[u].name))
			continue;
		for (size_t p = 0; p < sizeof(unit_prefixes) / sizeof(unit_prefixes[0]); p++) {
			if (!equals(word, len - strlen(units[u].name), unit_prefixes[p]))
				continue;
			return equals(word, len, units[u].base) ? NULL : units[u].base;
		}
	}
	return NULL;
}

static bool is_one_of(const char *word, size_t len, const char *const *words)
{
	for (; *words; words++) {
		if (equals(word, len, *words))
			return true;
	}
	return false;
}

/* The words between underscores: no abbreviated or derived unit, no word that says the type. */
static int check_words(const char *base, size_t len, struct rule_text *why)
{
	static const char *const types[] = { "counter", "gauge", "summary", "histogram", NULL };
	static const char *const short_units[] = { "s",	 "ms", "us", "ns", "sec", "b", "kb", "mb",
						   "gb", "tb", "pb", "m",  "h",	  "d", NULL };
	size_t word_len;

	for (const char *word = base, *end = base + len; word < end; word += word_len + 1) {
		const char *better;

		for (word_len = 0; word + word_len < end && word[word_len] != '_'; word_len++)
			;
		better = better_unit(word, word_len);
		if (better)
			return refuse(why, "%.*s is not a base unit: count %s", (int)word_len, word,
				      better);
		if (word == base)
			continue;
		if (is_one_of(word, word_len, types))
			return refuse(why, "the name says its type: leave \"%.*s\" out",
				      (int)word_len, word);
		if (is_one_of(word, word_len, short_units))
			return refuse(why,
				      "\"%.*s\" is read as an abbreviated unit: spell a base unit "
				      "out (seconds, bytes) or choose another word",
				      (int)word_len, word);
	}
	return 0;
}

static int check_base(const char *base, size_t len, bool is_counter, struct rule_text *why)
{
	static const char *const reserved[] = { "_bucket", "_count", "_sum", "_created", "_info" };
	int shown = len > 100 ? 100 : (int)len;

	if (!is_word(base, len))
		return refuse(why, "%.*s has a character that is not a-z, 0-9 or _, or begins with "
				   "a digit", shown, base);
	for (size_t i = 0; i < len; i++) {
		if (base[i] >= 'A' && base[i] <= 'Z')
			return refuse(why, "%.*s has capitals: write snake_case", shown, base);
	}
	if (begins_with(base, len, "talea_") || begins_with(base, len, "kernel_"))
		return refuse(why, "names that begin with talea_ or kernel_ are talea's own: begin "
				   "%.*s with your program's name", shown, base);
	if (is_counter && (!ends_with(base, len, "_total") || len == strlen("_total")))
		return refuse(why, "a counter's name ends in _total: %.*s_total", shown, base);
	if (!is_counter && ends_with(base, len, "_total"))
		return refuse(why, "a level's name does not end in _total: leave it out, or declare "
				   "%.*s as a counter", shown, base);
	for (size_t i = 0; !is_counter && i < sizeof(reserved) / sizeof(reserved[0]); i++) {
		if (ends_with(base, len, reserved[i]))
			return refuse(why, "a level's name does not end in %s, which belongs to "
					   "other types: choose another word", reserved[i]);
	}
	return check_words(base, len, why);
}

static int check_label_name(const char *name, size_t len, struct rule_text *why)
{
	int shown = len > 100 ? 100 : (int)len;

	if (!is_word(name, len))
		return refuse(why, "the label name \"%.*s\" has a character that is not a letter, a "
				   "digit or _, or begins with a digit", shown, name);
	if (begins_with(name, len, "__"))
		return refuse(why, "label names that begin with __ are Prometheus' own: rename %.*s",
			      shown, name);
	if (equals(name, len, "talea") || equals(name, len, "le") || equals(name, len, "quantile"))
		return refuse(why, "the label name %.*s has a meaning of its own: choose another",
			      shown, name);
	return 0;
}

/* Labels must parse, be sorted, and be written as name_canonical writes them. */
static int check_labels(const char *name, size_t len, const struct name_parts *n, struct rule_text *why)
{
	const char *at = n->base + n->base_len;
	int err;

	for (unsigned int i = 0; i < n->labels_nr; i++) {
		const struct name_label *l = &n->labels[i], *last = i ? l - 1 : NULL;

		err = check_label_name(l->name, l->name_len, why);
		if (err)
			return err;
		if (!l->value_len)
			return refuse(why, "the label %.*s is empty, which Prometheus takes for no "
					   "label: leave it out or give it a value",
				      (int)l->name_len, l->name);
		if (last && (last->name_len < l->name_len ?
				     memcmp(last->name, l->name, last->name_len) > 0 :
				     memcmp(last->name, l->name, l->name_len) >= 0))
			return refuse(why, "the labels are not sorted, or one is there twice");
		/* One byte between name and value parts: `{` or `,`, then `="`, then `"`. */
		if (l->name != at + 1 || l->value != l->name + l->name_len + 2)
			return refuse(why, "the name has blanks or commas between its labels");
		at = l->value + l->value_len + 1;
	}
	if (at + (n->labels_nr ? 1 : 0) != name + len)
		return refuse(why, "the name has something behind its labels");
	return 0;
}

static int check_help(const char *help, size_t len, struct rule_text *why)
{
	if (!len)
		return refuse(why, "the help text is missing: one line that says what is counted");
	if (len > SHM_NAME_MAX)
		return refuse(why, "the help text has %zu bytes: shorten it to %u", len, SHM_NAME_MAX);
	if (!is_utf8_text(help, len))
		return refuse(why, "the help text is not valid UTF-8");
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)help[i] < 0x20 || help[i] == 0x7f)
			return refuse(why, "the help text has a control character: write one line");
	}
	return 0;
}

int name_check(enum shm_slot_type type, const char *name, size_t name_len, const char *help,
	       size_t help_len, const char *label, size_t label_len, char *why_buf, size_t why_size)
{
	bool is_counter = type == SHM_COUNTER || type == SHM_FAMILY;
	bool is_family = type == SHM_FAMILY || type == SHM_LEVEL_FAMILY;
	struct rule_text why = { why_buf, why_size };
	struct name_parts n;
	int err;

	if (!is_counter && type != SHM_LEVEL && type != SHM_LEVEL_FAMILY)
		return refuse(&why, "type %d has no name of its own", (int)type);
	if (!name_len || name_len > SHM_NAME_MAX)
		return refuse(&why, "the name has %zu bytes: 1 to %u are allowed", name_len,
			      SHM_NAME_MAX);
	if (!is_utf8_text(name, name_len))
		return refuse(&why, "the name is not valid UTF-8");
	if (name_parse(name, name_len, 0, &n) || n.base != name)
		return refuse(&why, "the name does not read as name or name{label=\"value\"}");
	err = check_base(n.base, n.base_len, is_counter, &why);
	if (err)
		return err;
	err = check_labels(name, name_len, &n, &why);
	if (err)
		return err;
	if (is_family && n.labels_nr)
		return refuse(&why, "a family's name has no braces: its label is an argument of "
			      "its own");
	if (!is_family && label_len)
		return refuse(&why, "only a family has a free label");
	if (is_family) {
		err = label_len > SHM_NAME_MAX ?
			      refuse(&why, "the label name is longer than %u bytes", SHM_NAME_MAX) :
			      check_label_name(label, label_len, &why);
		if (err)
			return err;
	}
	return check_help(help, help_len, &why);
}

int name_check_value(enum shm_key_kind kind, const void *value, size_t len, char *why_buf,
		     size_t why_size)
{
	struct rule_text why = { why_buf, why_size };

	if (kind == SHM_KEY_U64)
		return len == 8 ? 0 : refuse(&why, "a u64 key has 8 bytes, not %zu", len);
	if (kind != SHM_KEY_TEXT)
		return refuse(&why, "no such kind of key: %d", (int)kind);
	if (!len || len > SHM_NAME_MAX)
		return refuse(&why, "a key has 1 to %u bytes, not %zu", SHM_NAME_MAX, len);
	if (!is_utf8_text(value, len))
		return refuse(&why, "the key is not valid UTF-8, or holds a NUL");
	return 0;
}

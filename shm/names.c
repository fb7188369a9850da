/*
 * The spelling of names: parsing, the canonical form, display and finding of any slot. The rules of
 * registration stand in name_rules.c. Owns no memory and keeps no state. The library, the worker
 * and the tools call it, in threads and beside registration.
 */
#include "names.h"

#include <errno.h>
#include <string.h>

#include "directory.h"

/* A buffer that is being filled. After the first thing that did not fit, nothing more is put. */
struct out {
	char *at, *end;
	int full;
};

static void out_bytes(struct out *o, const char *s, size_t len)
{
	if (o->full || len >= (size_t)(o->end - o->at)) {
		o->full = 1;
		return;
	}
	memcpy(o->at, s, len);
	o->at += len;
}

static void out_escaped(struct out *o, const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (s[i] == '\n')
			out_bytes(o, "\\n", 2);
		else if (s[i] == '"')
			out_bytes(o, "\\\"", 2);
		else if (s[i] == '\\')
			out_bytes(o, "\\\\", 2);
		else
			out_bytes(o, &s[i], 1);
	}
}

static void out_decimal(struct out *o, uint64_t v)
{
	char digits[20];
	size_t nr = 0;

	do {
		digits[sizeof(digits) - ++nr] = (char)('0' + v % 10);
		v /= 10;
	} while (v);
	out_bytes(o, digits + sizeof(digits) - nr, nr);
}

static int out_end(struct out *o, const char *buf)
{
	if (o->full || o->at == o->end)
		return -ENAMETOOLONG;
	*o->at = 0;
	return (int)(o->at - buf);
}

/* --- parsing ------------------------------------------------------------------------------- */

static const char *skip_blanks(const char *s, const char *end)
{
	while (s < end && (*s == ' ' || *s == '\t'))
		s++;
	return s;
}

/* A run of bytes that have no meaning of their own in a name. */
static const char *skip_word(const char *s, const char *end, const char *stops)
{
	while (s < end && *s && !strchr(stops, *s))
		s++;
	return s;
}

/* `s` points to an opening quote; returns the closing one, or NULL. */
static const char *skip_quoted(const char *s, const char *end, int is_glob)
{
	for (s++; s < end && *s; s++) {
		if (*s == '"')
			return s;
		if (*s != '\\')
			continue;
		if (++s == end || !*s || (!is_glob && !strchr("\\\"n", *s)))
			return NULL;
	}
	return NULL;
}

static const char *parse_label(const char *s, const char *end, struct name_label *l, int is_glob)
{
	const char *close;

	l->name = s = skip_blanks(s, end);
	s = skip_word(s, end, " \t{}\",=\\");
	l->name_len = (size_t)(s - l->name);
	s = skip_blanks(s, end);
	if (!l->name_len || s == end || *s != '=')
		return NULL;
	s = skip_blanks(s + 1, end);
	if (s < end && *s == '"') {
		close = skip_quoted(s, end, is_glob);
		if (!close)
			return NULL;
		l->value = s + 1;
		l->value_len = (size_t)(close - s - 1);
		return close + 1;
	}
	if (!is_glob)
		return NULL;
	/* A shell removes the quotes: post=4* means post="4*". */
	l->value = s;
	s = skip_word(s, end, " \t}\",");
	l->value_len = (size_t)(s - l->value);
	return s;
}

int name_parse(const char *s, size_t len, int is_glob, struct name_parts *ret)
{
	const char *end = s + len;

	ret->labels_nr = 0;
	ret->base = s = skip_blanks(s, end);
	s = skip_word(s, end, " \t{}\",=\\");
	ret->base_len = (size_t)(s - ret->base);
	s = skip_blanks(s, end);
	if (!ret->base_len)
		return -EINVAL;
	if (s == end)
		return 0;
	if (*s++ != '{')
		return -EINVAL;
	for (;;) {
		s = skip_blanks(s, end);
		if (s < end && *s == '}')
			break;
		if (ret->labels_nr == NAME_LABELS_MAX)
			return -EINVAL;
		s = parse_label(s, end, &ret->labels[ret->labels_nr], is_glob);
		if (!s)
			return -EINVAL;
		ret->labels_nr++;
		s = skip_blanks(s, end);
		if (s < end && *s == ',')
			s++;
		else if (s == end || *s != '}')
			return -EINVAL;
	}
	return skip_blanks(s + 1, end) == end ? 0 : -EINVAL;
}

/* --- the canonical spelling ---------------------------------------------------------------- */

static int label_order(const struct name_label *a, const struct name_label *b)
{
	size_t min = a->name_len < b->name_len ? a->name_len : b->name_len;
	int order = memcmp(a->name, b->name, min);

	return order ? order : (a->name_len > b->name_len) - (a->name_len < b->name_len);
}

/* Sorted by insertion: labels are few and mostly sorted already. -EINVAL for a name twice. */
static int sort_labels(struct name_parts *n)
{
	for (unsigned int i = 1; i < n->labels_nr; i++) {
		struct name_label l = n->labels[i];
		unsigned int to = i;

		while (to && label_order(&l, &n->labels[to - 1]) < 0) {
			n->labels[to] = n->labels[to - 1];
			to--;
		}
		if (to && label_order(&l, &n->labels[to - 1]) == 0)
			return -EINVAL;
		n->labels[to] = l;
	}
	return 0;
}

static int write_name(struct name_parts *n, int values_are_escaped, char *buf, size_t size)
{
	struct out o = { buf, buf + size, 0 };

	if (sort_labels(n))
		return -EINVAL;
	out_bytes(&o, n->base, n->base_len);
	for (unsigned int i = 0; i < n->labels_nr; i++) {
		const struct name_label *l = &n->labels[i];

		out_bytes(&o, i ? "," : "{", 1);
		out_bytes(&o, l->name, l->name_len);
		out_bytes(&o, "=\"", 2);
		if (values_are_escaped)
			out_bytes(&o, l->value, l->value_len);
		else
			out_escaped(&o, l->value, l->value_len);
		out_bytes(&o, "\"", 1);
	}
	if (n->labels_nr)
		out_bytes(&o, "}", 1);
	return out_end(&o, buf);
}

int name_canonical(const char *base, const char *const *labels, char *buf, size_t size)
{
	struct name_parts n;

	n.base = base;
	n.base_len = strlen(base);
	n.labels_nr = 0;
	for (; labels && labels[0]; labels += 2) {
		struct name_label *l = &n.labels[n.labels_nr];

		if (!labels[1] || n.labels_nr == NAME_LABELS_MAX)
			return -EINVAL;
		*l = (struct name_label){ labels[0], strlen(labels[0]), labels[1],
					  strlen(labels[1]) };
		n.labels_nr++;
	}
	return write_name(&n, 0, buf, size);
}

int name_normalise(const char *text, char *buf, size_t size)
{
	struct name_parts n;
	int err = name_parse(text, strlen(text), 0, &n);

	return err ? err : write_name(&n, 1, buf, size);
}

/* --- any slot's name ----------------------------------------------------------------------- */

/* The family record behind a slot; NULL when that is no live family. */
static const struct name_shm *family_of(const struct dir_shm *d, uint32_t slot, uint64_t *ret_name)
{
	const struct slot_shm *s;
	const struct name_shm *n;
	uint64_t name;

	if (!slot || slot >= SHM_SLOTS_MAX)
		return NULL;
	s = dir_slot(d, slot);
	/* ORDER(generation): as in dir_matches. Families are never removed: it is read once. */
	if (!(slot_generation(shm_take(&s->route)) & 1))
		return NULL;
	name = shm_count_read(&s->name);
	if (name_type(name) != SHM_FAMILY && name_type(name) != SHM_LEVEL_FAMILY)
		return NULL;
	n = dir_name(d, name);
	if (!n || name_length(name) > SHM_NAME_MAX || n->label_len > SHM_NAME_MAX)
		return NULL;
	*ret_name = name;
	return n;
}

static void out_label(struct out *o, const char *label, size_t len)
{
	out_bytes(o, "{", 1);
	out_bytes(o, label, len);
	out_bytes(o, "=\"", 2);
}

static int display_member(const struct dir_shm *d, uint64_t name, struct out *o)
{
	const struct member_shm *m = dir_member(d, name);
	const struct name_shm *family;
	uint64_t family_name, key;

	family = m ? family_of(d, m->family, &family_name) : NULL;
	if (!family)
		return -ENOENT;
	out_bytes(o, family->text, name_length(family_name));
	if (name_type(name) == SHM_OTHER || name_type(name) == SHM_REMOVED) {
		out_label(o, "talea", 5);
		out_bytes(o, name_type(name) == SHM_OTHER ? "other" : "removed",
			  name_type(name) == SHM_OTHER ? 5 : 7);
	} else if (family->key_kind == SHM_KEY_U64) {
		if (name_length(name) != sizeof(key))
			return -ENOENT;
		memcpy(&key, m->value, sizeof(key));
		out_label(o, family->text + name_length(family_name), family->label_len);
		out_decimal(o, key);
	} else if (family->key_kind == SHM_KEY_LABELS) {
		out_bytes(o, "{", 1);
		out_bytes(o, (const char *)m->value, name_length(name));
		out_bytes(o, "}", 1);
		return 0;
	} else {
		out_label(o, family->text + name_length(family_name), family->label_len);
		out_escaped(o, (const char *)m->value, name_length(name));
	}
	out_bytes(o, "\"}", 2);
	return 0;
}

/* Writes what the record of a slot says, as long as the generation stays the one of route. */
static int display_at(const struct dir_shm *d, const struct slot_shm *s, uint64_t route, char *buf,
		      size_t size)
{
	struct out o = { buf, buf + size, 0 };
	const struct name_shm *n;
	int err = 0;
	/* ORDER(name): as in dir_matches. */
	uint64_t name = shm_take(&s->name);

	if (name_type(name) == SHM_FREE || name_length(name) > SHM_NAME_MAX)
		return -ENOENT;
	if (name_is_member(name)) {
		err = display_member(d, name, &o);
	} else {
		n = dir_name(d, name);
		if (!n || !name_length(name))
			return -ENOENT;
		out_bytes(&o, n->text, name_length(name));
	}
	if (shm_seq_read_retry(&s->route, route) &&
	    slot_generation(shm_count_read(&s->route)) != slot_generation(route))
		return -ENOENT;
	if (err)
		return err;
	err = out_end(&o, buf);
	return err > 0 && memchr(buf, 0, (size_t)err) ? -ENOENT : err;
}

int name_display(const struct dir_shm *d, uint32_t slot, char *buf, size_t size)
{
	const struct slot_shm *s = dir_slot(d, slot);
	uint64_t route;

	if (!slot || slot >= SHM_SLOTS_MAX)
		return -ENOENT;
	/* ORDER(generation): the name is read after the generation that was stored after it, and
	 * the generation once more at the end. Otherwise two owners' names could be mixed. */
	route = shm_take(&s->route);
	return slot_generation(route) & 1 ? display_at(d, s, route, buf, size) : -ENOENT;
}

int name_display_last(const struct dir_shm *d, uint32_t slot, char *buf, size_t size,
		      uint32_t *ret_generation)
{
	const struct slot_shm *s = dir_slot(d, slot);

	if (!slot || slot >= SHM_SLOTS_MAX)
		return -ENOENT;
	/* A removal meanwhile leaves the record as it is: read once more, with the even
	 * generation. */
	for (int tries = 0; tries < 3; tries++) {
		/* ORDER(generation): as in name_display. */
		uint64_t route = shm_take(&s->route);
		int n = slot_generation(route) ? display_at(d, s, route, buf, size) : -ENOENT;

		if (n != -ENOENT) {
			*ret_generation = slot_generation(route);
			return n;
		}
	}
	return -ENOENT;
}

int name_unescape(const char *s, size_t len, char *buf, size_t size)
{
	size_t nr = 0;

	for (size_t i = 0; i < len; i++) {
		char c = s[i];

		if (c == '\\' && i + 1 < len)
			c = s[++i] == 'n' ? '\n' : s[i];
		if (nr == size)
			return -ENAMETOOLONG;
		buf[nr++] = c;
	}
	return (int)nr;
}

/* Decimal without sign and leading zeros, as name_display writes it. */
static int parse_decimal(const char *s, size_t len, uint64_t *ret)
{
	uint64_t v = 0;

	if (!len || len > 20 || (len > 1 && s[0] == '0'))
		return -1;
	for (size_t i = 0; i < len; i++) {
		if (s[i] < '0' || s[i] > '9')
			return -1;
		if (__builtin_mul_overflow(v, 10u, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(s[i] - '0'), &v))
			return -1;
	}
	*ret = v;
	return 0;
}

/* fam{talea="other"} and fam{talea="removed"}: the slots that the family's record names. */
static uint32_t find_own_member(const struct dir_shm *d, uint32_t slot, uint8_t type,
				uint32_t family, uint32_t *ret_generation)
{
	const struct member_shm *m;
	uint64_t route, name;

	if (!slot || slot >= SHM_SLOTS_MAX)
		return SHM_SLOT_NONE;
	/* ORDER(generation): as in family_of; these members live as long as their family. */
	route = shm_take(&dir_slot(d, slot)->route);
	name = shm_count_read(&dir_slot(d, slot)->name);
	m = dir_member(d, name);
	if (!(slot_generation(route) & 1) || name_type(name) != type || !m || m->family != family)
		return SHM_SLOT_NONE;
	*ret_generation = slot_generation(route);
	return slot;
}

/* The name is canonical: what stands between its braces is the key. */
static uint32_t find_labels(const struct dir_shm *d, const struct name_parts *p, uint32_t family,
			    uint32_t *ret_generation)
{
	const struct name_label *last = &p->labels[p->labels_nr - 1];
	const char *key = p->base + p->base_len + 1;
	size_t len = (size_t)(last->value + last->value_len + 1 - key);

	return len <= SHM_NAME_MAX ? dir_find(d, family, key, len, ret_generation) : SHM_SLOT_NONE;
}

static uint32_t find_member(const struct dir_shm *d, const struct name_parts *p,
			    uint32_t *ret_generation)
{
	const struct name_label *l = &p->labels[0];
	const struct name_shm *f;
	uint32_t family, generation;
	char value[SHM_NAME_MAX];
	uint64_t name, key;
	int len;

	family = dir_find(d, 0, p->base, p->base_len, &generation);
	f = family_of(d, family, &name);
	if (!f)
		return SHM_SLOT_NONE;
	if (p->labels_nr > 1)
		return f->key_kind == SHM_KEY_LABELS ? find_labels(d, p, family, ret_generation) :
						       SHM_SLOT_NONE;
	len = name_unescape(l->value, l->value_len, value, sizeof(value));
	if (len <= 0)
		return SHM_SLOT_NONE;
	if (l->name_len == 5 && !memcmp(l->name, "talea", 5)) {
		if (len == 5 && !memcmp(value, "other", 5))
			return find_own_member(d, f->other, SHM_OTHER, family, ret_generation);
		if (len == 7 && !memcmp(value, "removed", 7))
			return find_own_member(d, f->removed, SHM_REMOVED, family, ret_generation);
		return SHM_SLOT_NONE;
	}
	if (l->name_len != f->label_len || memcmp(l->name, f->text + name_length(name), l->name_len))
		return SHM_SLOT_NONE;
	if (f->key_kind == SHM_KEY_U64) {
		if (parse_decimal(value, (size_t)len, &key))
			return SHM_SLOT_NONE;
		return dir_find(d, family, &key, sizeof(key), ret_generation);
	}
	return dir_find(d, family, value, (size_t)len, ret_generation);
}

uint32_t name_find(const struct dir_shm *d, const char *name, uint32_t *ret_generation)
{
	size_t len = strlen(name);
	struct name_parts p;
	uint32_t slot;

	if (!len || len >= NAME_DISPLAY_MAX)
		return SHM_SLOT_NONE;
	slot = dir_find(d, 0, name, len, ret_generation);
	if (slot != SHM_SLOT_NONE || name_parse(name, len, 0, &p) || !p.labels_nr)
		return slot;
	return find_member(d, &p, ret_generation);
}

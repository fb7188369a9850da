/*
 * Globs over names: see name_match in names.h. Linear in memory, at worst the product of both
 * lengths in time, whatever the glob; no recursion.
 */
#include <stdbool.h>
#include <string.h>

#include "names.h"

/* A [set]: does it contain c? Returns what follows it, or NULL when it never ends. */
static const char *match_set(const char *g, const char *end, char c, bool *ret_holds)
{
	bool is_negated = false, holds = false;
	const char *first;

	g++;
	if (g < end && (*g == '!' || *g == '^')) {
		is_negated = true;
		g++;
	}
	for (first = g; g < end && (*g != ']' || g == first); g++) {
		unsigned char low = (unsigned char)*g, high = low;

		if (end - g > 2 && g[1] == '-' && g[2] != ']') {
			high = (unsigned char)g[2];
			g += 2;
		}
		holds |= low <= (unsigned char)c && (unsigned char)c <= high;
	}
	if (g == end)
		return NULL;
	*ret_holds = holds != is_negated;
	return g + 1;
}

/* One element of the glob against one byte: what follows the element, or NULL for no match. */
static const char *match_one(const char *g, const char *end, char c)
{
	bool holds;
	const char *next;

	switch (*g) {
	case '?':
		return g + 1;
	case '[':
		next = match_set(g, end, c, &holds);
		if (next)
			return holds ? next : NULL;
		return c == '[' ? g + 1 : NULL;
	case '\\':
		if (g + 1 < end) {
			char literal = g[1] == 'n' ? '\n' : g[1];

			return c == literal ? g + 2 : NULL;
		}
	}
	return c == *g ? g + 1 : NULL;
}

static bool glob_matches(const char *g, size_t glob_len, const char *s, size_t len)
{
	const char *glob_end = g + glob_len, *end = s + len;
	const char *star = NULL, *star_at = NULL;

	while (s < end) {
		const char *next = NULL;

		if (g < glob_end && *g == '*') {
			star = ++g;
			star_at = s;
			continue;
		}
		if (g < glob_end)
			next = match_one(g, glob_end, *s);
		if (next) {
			g = next;
			s++;
			continue;
		}
		if (!star)
			return false;
		/* The last star takes one byte more; earlier ones need not. */
		g = star;
		s = ++star_at;
	}
	while (g < glob_end && *g == '*')
		g++;
	return g == glob_end;
}

static bool value_matches(const struct name_label *glob, const struct name_label *l)
{
	char value[SHM_NAME_MAX];
	int len = name_unescape(l->value, l->value_len, value, sizeof(value));

	return len >= 0 && glob_matches(glob->value, glob->value_len, value, (size_t)len);
}

static bool labels_match(const struct name_parts *glob, const struct name_parts *n)
{
	for (unsigned int i = 0; i < glob->labels_nr; i++) {
		const struct name_label *g = &glob->labels[i];
		bool found = false;

		for (unsigned int j = 0; j < n->labels_nr && !found; j++) {
			const struct name_label *l = &n->labels[j];

			found = g->name_len == l->name_len &&
				!memcmp(g->name, l->name, g->name_len) && value_matches(g, l);
		}
		if (!found)
			return false;
	}
	return true;
}

int name_match(const char *glob, const char *name)
{
	struct name_parts g, n;
	size_t base_len = strcspn(name, "{");

	if (!strchr(glob, '{'))
		return glob_matches(glob, strlen(glob), name, base_len);
	if (name_parse(glob, strlen(glob), 1, &g) ||
	    !glob_matches(g.base, g.base_len, name, base_len))
		return 0;
	return name_parse(name, strlen(name), 0, &n) == 0 && labels_match(&g, &n);
}

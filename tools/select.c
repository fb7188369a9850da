/*
 * Which counters a command is about; see select.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/base/near.h"
#include "shm/layout.h"
#include "tools/select.h"

/*
 * bash makes likes_total{post=42} of likes_total{post="42"}; this puts the quotes back. A value ends
 * at the next comma or at the closing brace.
 */
char *select_quote(const char *text)
{
	const char *brace = strchr(text, '{');
	char *out = malloc(strlen(text) * 3 + 3), *o = out;
	bool in_quotes = false, is_bare = false;

	if (!out || !brace)
		return out ? strcpy(out, text) : NULL;
	for (const char *p = text; *p; p++) {
		if (in_quotes) {
			if (*p == '\\' && p[1])
				*o++ = *p++;
			else if (*p == '"')
				in_quotes = false;
		} else if (is_bare) {
			if (*p == ',' || (*p == '}' && !p[1])) {
				*o++ = '"';
				is_bare = false;
			}
		} else if (*p == '"') {
			in_quotes = true;
		} else if (p > brace && *p == '=' && p[1] != '"') {
			*o++ = *p;
			*o++ = '"';
			is_bare = true;
			continue;
		}
		*o++ = *p;
	}
	*o = '\0';
	return out;
}

/* --- the nearest name ------------------------------------------------------------------------ */

struct select_nearest {
	const char *word;
	char name[SHM_NAME_MAX + 1];
	uint32_t distance;
};

static int select_nearest_visit(const char *name, const struct talea_total *total, void *arg)
{
	struct select_nearest *n = arg;
	size_t length = strcspn(name, "{");
	char base[SHM_NAME_MAX + 1];
	uint32_t distance;

	(void)total;
	if (length > SHM_NAME_MAX)
		return 0;
	memcpy(base, name, length);
	base[length] = '\0';
	distance = near_distance(n->word, base);
	if (distance < n->distance) {
		n->distance = distance;
		memcpy(n->name, base, length + 1);
	}
	return 0;
}

static int select_no_match(const struct cli *c, const char *glob, bool is_quiet)
{
	char word[SHM_NAME_MAX + 1];
	struct select_nearest n = { .word = word, .distance = NEAR_FAR };

	if (is_quiet)
		return CLI_NO_MATCH;
	snprintf(word, sizeof(word), "%.*s", (int)strcspn(glob, "{"), glob);
	pick_walk(c->session.t, NULL, TALEA_COMPACTED, select_nearest_visit, &n);
	fprintf(stderr, "talea: no counter matches %s", glob);
	if (n.distance == 0)
		fprintf(stderr, "; %s exists with other labels. try: talea list %s\n", n.name,
			n.name);
	else if (near_is_meant(n.distance, word))
		fprintf(stderr, "; did you mean %s?\n", n.name);
	else
		fprintf(stderr, ". try: talea list\n");
	return CLI_NO_MATCH;
}

/* --- the selection ---------------------------------------------------------------------------- */

struct selection select_of(const struct cli *c)
{
	return (struct selection){ .globs = (const char *const *)c->args,
				   .globs_nr = c->args_nr,
				   .excludes = (const char *const *)c->excludes,
				   .excludes_nr = c->excludes_nr,
				   .how = c->how };
}

static int select_end(const struct cli *c, int rc, const char *missed, bool is_quiet)
{
	if (rc < 0)
		return session_failed(c, rc);
	return rc ? rc : missed ? select_no_match(c, missed, is_quiet) : CLI_OK;
}

int select_each(const struct cli *c, bool is_quiet, pick_visit *visit, void *arg)
{
	const struct selection selection = select_of(c);
	const char *missed;
	int rc = pick_each(&selection, c->session.t, visit, arg, &missed);

	return select_end(c, rc, missed, is_quiet);
}

int select_picks(const struct cli *c, const bool *may_miss, struct picks *ret)
{
	struct selection selection = select_of(c);
	const char *missed;
	int rc;

	selection.may_miss = may_miss;
	rc = picks_take(&selection, c->session.t, ret, &missed);
	return select_end(c, rc, missed, false);
}

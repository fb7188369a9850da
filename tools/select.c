/*
 * Which counters a command is about: includes and excludes by glob, and the nearest name when
 * nothing matches. Owns no output but that sentence. Called by the verbs that read.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"

#define WALK_TRIES 100

/*
 * bash makes likes_total{post=42} of likes_total{post="42"}; the quotes are put back. A value runs
 * to the next comma or the closing brace.
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

/* A fold may overtake the copy that talea_each makes before its first visit: then once more. */
int select_walk(struct talea *t, const char *glob, enum talea_how how, select_visit *visit, void *arg)
{
	const struct timespec pause = { .tv_nsec = 3000000 };
	int rc = talea_each(t, glob, how, visit, arg);

	for (int i = 0; i < WALK_TRIES && rc == -EAGAIN; i++) {
		nanosleep(&pause, NULL);
		rc = talea_each(t, glob, how, visit, arg);
	}
	return rc;
}

struct filter {
	const struct cli *c;
	bool *hits; /* one an argument */
	select_visit *visit;
	void *arg;
};

/* An exact name is also its own match, whatever globs its labels look like. */
static bool is_match(const char *glob, const char *name)
{
	return !strcmp(glob, name) || name_match(glob, name);
}

static int filter_visit(const char *name, const struct talea_total *total, void *arg)
{
	struct filter *f = arg;
	bool is_included = f->c->args_nr == 0;

	for (size_t i = 0; i < f->c->args_nr; i++)
		if (is_match(f->c->args[i], name))
			is_included = f->hits[i] = true;
	if (!is_included)
		return 0;
	for (size_t i = 0; i < f->c->excludes_nr; i++)
		if (is_match(f->c->excludes[i], name))
			return 0;
	return f->visit(name, total, f->arg);
}

struct nearest {
	const char *word;
	char name[SHM_NAME_MAX + 1];
	size_t distance;
};

static int nearest_visit(const char *name, const struct talea_total *total, void *arg)
{
	struct nearest *n = arg;
	size_t len = strcspn(name, "{"), d;
	char base[SHM_NAME_MAX + 1];

	(void)total;
	if (len > SHM_NAME_MAX)
		return 0;
	memcpy(base, name, len);
	base[len] = '\0';
	d = cli_distance(n->word, base);
	if (d < n->distance) {
		n->distance = d;
		memcpy(n->name, base, len + 1);
	}
	return 0;
}

void select_say_no_match(struct talea *t, const char *glob)
{
	char word[SHM_NAME_MAX + 1];
	struct nearest n = { .word = word, .distance = SIZE_MAX };

	snprintf(word, sizeof(word), "%.*s", (int)strcspn(glob, "{"), glob);
	select_walk(t, NULL, TALEA_COMPACTED, nearest_visit, &n);
	fprintf(stderr, "talea: no counter matches %s", glob);
	if (n.distance == 0)
		fprintf(stderr, "; %s exists with other labels. try: talea list %s\n", n.name,
			n.name);
	else if (cli_is_near(n.distance, word))
		fprintf(stderr, "; did you mean %s?\n", n.name);
	else
		fprintf(stderr, ". try: talea list\n");
}

int select_each(const struct cli *c, struct talea *t, bool is_quiet, select_visit *visit,
		void *arg)
{
	struct filter f = { .c = c, .visit = visit, .arg = arg };
	struct talea_total total = { .size = sizeof(total) };
	const char *glob = NULL;
	int rc;

	f.hits = calloc(c->args_nr + 1, sizeof(*f.hits));
	if (!f.hits)
		return attach_failed(NULL, "get", -ENOMEM);
	/* One plain glob is the library's to find fast; a '[' may also stand for itself. */
	if (c->args_nr == 1 && !strchr(c->args[0], '['))
		glob = c->args[0];
	rc = select_walk(t, glob, c->how, filter_visit, &f);
	if (rc < 0)
		rc = attach_failed(t, c->verb->name, rc);
	for (size_t i = 0; rc == CLI_OK && i < c->args_nr; i++) {
		/* talea's own counters are not shown while they are zero, but are there by name. */
		if (!f.hits[i] && talea_read_name(t, c->args[i], c->how, 0, &total) == 0)
			rc = filter_visit(c->args[i], &total, &f);
		if (f.hits[i] || (c->may_miss && c->may_miss[i]))
			continue;
		if (!is_quiet)
			select_say_no_match(t, c->args[i]);
		rc = CLI_NO_MATCH;
	}
	free(f.hits);
	return rc;
}

/* --- all at once ---------------------------------------------------------------------------- */

void picks_fini(struct picks *picks)
{
	for (size_t i = 0; i < picks->nr; i++)
		free(picks->list[i].name);
	free(picks->list);
	*picks = (struct picks){ 0 };
}

static int pick_visit(const char *name, const struct talea_total *total, void *arg)
{
	struct picks *picks = arg;
	struct pick *pick;

	if (picks->nr == picks->max) {
		size_t max = picks->max ? picks->max * 2 : 64;
		struct pick *list = realloc(picks->list, max * sizeof(*list));

		if (!list)
			return -ENOMEM;
		picks->list = list;
		picks->max = max;
	}
	pick = &picks->list[picks->nr];
	*pick = (struct pick){
		.name = strdup(name), .help = total->help, .value = total->value,
		.rate = total->rate, .state = total->state, .type = total->type,
		.origin = total->origin, .is_hot = total->hot,
	};
	if (!pick->name)
		return -ENOMEM;
	picks->nr++;
	picks->epoch = total->epoch;
	picks->as_of_ns = total->as_of_ns;
	return 0;
}

int select_picks(const struct cli *c, struct talea *t, struct picks *ret)
{
	*ret = (struct picks){ 0 };
	return select_each(c, t, false, pick_visit, ret);
}

/*
 * The counters that globs include and others do not exclude; see pick.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shm/base/array.h"
#include "shm/base/clock.h"
#include "shm/names.h"
#include "tools/expo/pick.h"

#define WALK_TRIES 100
#define WALK_PAUSE_NS (3 * NS_PER_MS)

/* A fold may overtake the copy that talea_each makes before its first visit. */
int pick_walk(struct talea *t, const char *glob, enum talea_how how, pick_visit *visit, void *arg)
{
	const struct timespec pause = { .tv_nsec = WALK_PAUSE_NS };
	int rc = talea_each(t, glob, how, visit, arg);

	for (int i = 0; i < WALK_TRIES && rc == -EAGAIN; i++) {
		nanosleep(&pause, NULL);
		rc = talea_each(t, glob, how, visit, arg);
	}
	return rc;
}

struct pick_filter {
	const struct selection *s;
	bool *hits; /* by glob */
	pick_visit *visit;
	void *arg;
};

/* A name also matches itself, even when its labels look like globs. */
static bool pick_matches(const char *glob, const char *name)
{
	return !strcmp(glob, name) || name_match(glob, name);
}

static int pick_filter_visit(const char *name, const struct talea_total *total, void *arg)
{
	struct pick_filter *f = arg;
	bool is_included = f->s->globs_nr == 0;

	for (size_t i = 0; i < f->s->globs_nr; i++)
		if (pick_matches(f->s->globs[i], name))
			is_included = f->hits[i] = true;
	if (!is_included)
		return 0;
	for (size_t i = 0; i < f->s->excludes_nr; i++)
		if (pick_matches(f->s->excludes[i], name))
			return 0;
	return f->visit(name, total, f->arg);
}

int pick_each(const struct selection *s, struct talea *t, pick_visit *visit, void *arg,
	      const char **ret_missed)
{
	struct pick_filter f = { .s = s, .visit = visit, .arg = arg };
	struct talea_total total = { .size = sizeof(total) };
	const char *glob = NULL;
	int rc;

	*ret_missed = NULL;
	f.hits = calloc(s->globs_nr + 1, sizeof(*f.hits));
	if (!f.hits)
		return -ENOMEM;
	/* The library finds one plain glob fast. A '[' may also stand for itself. */
	if (s->globs_nr == 1 && !strchr(s->globs[0], '['))
		glob = s->globs[0];
	rc = pick_walk(t, glob, s->how, pick_filter_visit, &f);
	for (size_t i = 0; !rc && !*ret_missed && i < s->globs_nr; i++) {
		/* A walk leaves out talea's own counters while they are zero; by name they exist. */
		if (!f.hits[i] && talea_read_name(t, s->globs[i], s->how, 0, &total) == 0)
			rc = pick_filter_visit(s->globs[i], &total, &f);
		if (!f.hits[i] && !(s->may_miss && s->may_miss[i]))
			*ret_missed = s->globs[i];
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

static int picks_visit(const char *name, const struct talea_total *total, void *arg)
{
	struct picks *picks = arg;
	struct pick *pick;

	if (array_reserve(&picks->list, picks->nr + 1, &picks->max))
		return -ENOMEM;
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

int picks_take(const struct selection *s, struct talea *t, struct picks *ret,
	       const char **ret_missed)
{
	*ret = (struct picks){ 0 };
	return pick_each(s, t, picks_visit, ret, ret_missed);
}

/* --- how they are called ---------------------------------------------------------------------- */

const char *pick_type_text(enum talea_type type)
{
	return type == TALEA_TYPE_LEVEL ? "level" : "counter";
}

const char *pick_origin_text(enum talea_origin origin)
{
	return origin == TALEA_KERNEL ? "kernel" : origin == TALEA_OWN ? "own" : "user";
}

const char *pick_state_text(enum talea_state state, int64_t value)
{
	return state == TALEA_SUSPECT ? "suspect" :
	       is_ended(state, value) ? "ended" :
	       state == TALEA_UNKNOWN ? "unknown" : "ok";
}

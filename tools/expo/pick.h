/*
 * The counters of one epoch that globs include and others do not exclude: visited one by one, or
 * kept together as picks. Every call returns 0 or -errno, or what visit returned. Owns the list of
 * picks until picks_fini. Called by expo/ and by select.c; knows no command line.
 */
#ifndef TOOLS_EXPO_PICK_H
#define TOOLS_EXPO_PICK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <talea.h>

struct selection {
	const char *const *globs; /* none: all counters */
	size_t globs_nr;
	const char *const *excludes;
	size_t excludes_nr;
	const bool *may_miss; /* by glob: it may match no counter; NULL: none may */
	enum talea_how how;
};

struct pick {
	char *name;
	const char *help; /* valid while the library is open */
	int64_t value;
	double rate;
	enum talea_state state;
	enum talea_type type;
	enum talea_origin origin;
	bool is_hot;
};
struct picks {
	struct pick *list;
	size_t nr, max;
	uint64_t epoch, as_of_ns; /* of the newest pick; 0 when there is none */
};

typedef int pick_visit(const char *name, const struct talea_total *total, void *arg);

/* Visits in order of registration. *ret_missed: the first glob that matches no counter (and may not
 * miss), or NULL. */
int pick_each(const struct selection *s, struct talea *t, pick_visit *visit, void *arg,
	      const char **ret_missed);
/* talea_each, repeated while folds overtake it. */
int pick_walk(struct talea *t, const char *glob, enum talea_how how, pick_visit *visit, void *arg);

/* As pick_each; *ret is valid after a failure too, and ends with picks_fini. */
int picks_take(const struct selection *s, struct talea *t, struct picks *ret,
	       const char **ret_missed);
void picks_fini(struct picks *picks);

/* Its probe was detached, so its total does not change any more. */
static inline bool is_ended(enum talea_state state, int64_t value)
{
	return state == TALEA_UNKNOWN && value;
}

/* The words for these in every format and every table. */
const char *pick_type_text(enum talea_type type);
const char *pick_origin_text(enum talea_origin origin);
const char *pick_state_text(enum talea_state state, int64_t value);

#endif

/*
 * The verb `history`: what happened to rows, members and suspects, from the worker's ring of changes.
 * Owns the words for changes and reasons. Called from the table of verbs.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "shm/base/clock.h"
#include "shm/base/text.h"
#include "shm/layout.h"
#include "shm/names.h"
#include "tools/cli.h"
#include "tools/expo/json.h"
#include "tools/show/show.h"

static const char *kind_text(uint8_t kind)
{
	static const char *const kinds[] = {
		[SHM_CHANGE_PROMOTING] = "promoting",	  [SHM_CHANGE_HOT] = "hot",
		[SHM_CHANGE_RETIRING] = "retiring",	  [SHM_CHANGE_COLD] = "cold",
		[SHM_CHANGE_REMOVED] = "removed",	  [SHM_CHANGE_SUSPECT] = "suspect",
		[SHM_CHANGE_ACCEPTED] = "accepted",	  [SHM_CHANGE_STRAY] = "stray",
		[SHM_CHANGE_PINNED_HOT] = "pinned-hot",	  [SHM_CHANGE_PINNED_COLD] = "pinned-cold",
		[SHM_CHANGE_UNPINNED] = "unpinned",
	};

	return kind < sizeof(kinds) / sizeof(kinds[0]) && kinds[kind] ? kinds[kind] : "other";
}

static bool is_by_user(uint8_t kind)
{
	return kind == SHM_CHANGE_ACCEPTED || kind >= SHM_CHANGE_PINNED_HOT;
}

static bool history_has_user(const struct change_shm *change)
{
	return is_by_user(change->kind) || change->why == SHM_WHY_FORGET;
}

static bool has_values(uint8_t kind)
{
	return kind >= SHM_CHANGE_REMOVED && kind <= SHM_CHANGE_STRAY;
}

static bool has_rate(uint8_t kind)
{
	return kind >= SHM_CHANGE_PROMOTING && kind <= SHM_CHANGE_COLD;
}

/* --- one change ----------------------------------------------------------------------------- */

static json_t *history_change(uint64_t number, const struct change_shm *change, const char *name)
{
	uint8_t kind = change->kind;
	json_t *o = json_pack("{s:I, s:o, s:s, s:o, s:o}", "number", (json_int_t)number, "time",
			      json_time(change->real_ns), "change", kind_text(kind), "counter",
			      *name ? json_text(name) : json_null(), "why",
			      json_why(change->why));

	json_object_set_new(o, "row", change->row == SHM_ROW_NONE ? json_null() :
							     json_integer(change->row));
	json_object_set_new(o, "rate", has_rate(kind) ? json_rate(change->rate) : json_null());
	json_object_set_new(o, "before",
			    has_values(kind) ? json_integer(change->before) : json_null());
	json_object_set_new(o, "value",
			    has_values(kind) ? json_integer(change->value) : json_null());
	json_object_set_new(o, "uid",
			    history_has_user(change) ? json_integer(change->uid) : json_null());
	return o;
}

static const char *why_words(const struct change_shm *change)
{
	switch (change->why) {
	case SHM_WHY_RATE: /* the usual reason; the line has the rate */
		return change->kind == SHM_CHANGE_PROMOTING ? "no row is free" : "";
	case SHM_WHY_PIN:
		return has_rate(change->kind) ? "by a pin" : "";
	case SHM_WHY_CONFIG:
		return "as the configuration says";
	case SHM_WHY_BUDGET:
		return "a hotter one needs the row";
	case SHM_WHY_RESTART:
		return "begun by the worker before";
	case SHM_WHY_FORGET:
		return "forgotten";
	case SHM_WHY_TTL:
		return "idle for its time to live";
	case SHM_WHY_LATE:
		return "a late add, after the removal";
	case SHM_WHY_ENDED:
		return "its process or cgroup has ended";
	}
	return "";
}

/* What there is to say beside the time, the change and the counter. */
static void history_detail(const struct change_shm *change, char *buf, size_t size)
{
	char a[SHOW_TEXT], b[SHOW_TEXT];
	struct text t;

	text_init(&t, buf, size);
	switch (change->kind) {
	case SHM_CHANGE_REMOVED:
		text_put(&t, "%s moved; ", show_exact(a, change->value));
		break;
	case SHM_CHANGE_SUSPECT:
		text_put(&t, "fell from %s to %s; ", show_exact(a, change->before),
			 show_exact(b, change->value));
		break;
	case SHM_CHANGE_ACCEPTED:
		if (change->slot)
			text_put(&t, "shows %s, showed %s; ", show_exact(a, change->value),
				 show_exact(b, change->before));
		else
			text_put(&t, "%s changes of cells that no counter owns; ",
				 show_exact(a, change->before));
		break;
	case SHM_CHANGE_STRAY:
		text_put(&t, "a cell that no counter owns changed by %s; ",
			 show_exact(a, change->value));
		break;
	}
	if (change->row != SHM_ROW_NONE)
		text_put(&t, "row %u; ", change->row);
	if (has_rate(change->kind) && change->rate == change->rate)
		text_put(&t, "%s adds/s; ", show_speed(a, (double)change->rate));
	if (*why_words(change))
		text_put(&t, "%s; ", why_words(change));
	if (history_has_user(change))
		text_put(&t, "by %s; ", show_user(a, change->uid));
	if (t.used && !t.is_cut)
		buf[t.used - 2] = '\0';
}

static void history_print(const struct change_shm *change, const char *name)
{
	char time[SHOW_TEXT], utc[TEXT_UTC_BYTES], text[256];

	history_detail(change, text, sizeof(text));
	if (!show.is_tty) {
		printf("%s %s %s %s\n", text_utc(utc, change->real_ns), kind_text(change->kind),
		       *name ? name : "-", text);
		return;
	}
	show_styled(SHOW_GREY, "%s  ", show_since(time, change->real_ns));
	show_styled(change->kind == SHM_CHANGE_SUSPECT || change->kind == SHM_CHANGE_STRAY ?
			    SHOW_BAD : change->kind == SHM_CHANGE_HOT ? SHOW_GOOD : SHOW_RATE,
		    "%-11s  ", kind_text(change->kind));
	show_text(stdout, *name ? name : "(the namespace)");
	/* The details stand on this line if they fit, else on the next. */
	if (show_width(*name ? name : "(the namespace)") + (int)(strlen(time) + strlen(text)) + 17 <=
	    show.columns)
		printf("  %s\n", text);
	else
		printf("\n%*s%s\n", (int)strlen(time) + 15, "", text);
}

/* --- the verb ------------------------------------------------------------------------------- */

struct history {
	const struct cli *c;
	uint64_t next; /* number of the first change that was not seen */
	size_t shown;
	json_t *list;
};

/* A name that the ring cut has no closing brace; then globs are compared with its base. */
static bool is_included(const struct cli *c, const struct change_shm *change, char *name)
{
	bool is_match = c->args_nr == 0;
	char base[sizeof(change->name) + 1];

	strcpy(base, name);
	if (change->name_len == sizeof(change->name))
		base[strcspn(base, "{")] = '\0';
	for (size_t i = 0; i < c->args_nr; i++)
		is_match |= !strcmp(c->args[i], name) || name_match(c->args[i], base);
	for (size_t i = 0; i < c->excludes_nr; i++)
		if (name_match(c->excludes[i], base))
			return false;
	return is_match;
}

/* All changes from h->next on. */
static int history_read(struct history *h)
{
	const struct wire_answer *answer;
	const struct wire_changes *changes;
	int rc;

	do {
		rc = session_ask(h->c, WIRE_CHANGES, NULL, h->next, &answer);
		if (rc != CLI_OK)
			return rc;
		changes = (const struct wire_changes *)(const void *)answer->records;
		for (uint32_t i = 0; i < answer->nr; i++) {
			const struct change_shm *change = &changes->changes[i];
			char name[sizeof(change->name) + 1];

			memcpy(name, change->name, change->name_len);
			name[change->name_len] = '\0';
			if (!is_included(h->c, change, name))
				continue;
			if (h->list)
				json_array_append_new(h->list,
						      history_change(changes->first + i, change, name));
			else
				history_print(change, name);
			h->shown++;
		}
		h->next = changes->first + answer->nr;
	} while (answer->nr == WIRE_CHANGES_MAX);
	return CLI_OK;
}

static int history_document(struct history *h)
{
	json_t *doc = json_document(h->c->session.st.namespace_name);

	json_object_set_new(doc, "next", json_integer((json_int_t)h->next));
	json_object_set_new(doc, "changes", h->list);
	h->list = NULL;
	return cli_json(doc);
}

int verb_history(struct cli *c)
{
	const struct timespec pause = { (time_t)(c->watch_ns / NS_PER_S),
					(long)(c->watch_ns % NS_PER_S) };
	struct history h = { .c = c };
	int rc;

	for (;;) {
		h.shown = 0;
		h.list = c->json ? json_array() : NULL;
		rc = history_read(&h);
		if (rc == CLI_OK && c->json)
			rc = history_document(&h);
		json_decref(h.list);
		if (rc != CLI_OK || !c->watch_ns)
			break;
		if (fflush(stdout))
			return CLI_PIPE;
		nanosleep(&pause, NULL);
	}
	if (rc == CLI_OK && !h.shown && c->args_nr)
		return cli_fail(c, CLI_NO_MATCH, "the worker remembers no change of such a counter");
	if (rc == CLI_OK && !h.shown && show.is_tty && !c->json)
		fprintf(stderr, "nothing changed yet: no row was given, no member removed\n");
	return rc;
}

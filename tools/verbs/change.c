/*
 * The verbs by which an operator changes counters: pin, unpin, forget, accept. Each asks the worker
 * for the change, lists the counters on stdout, and writes to stderr what it did or would do. Owns
 * the lists. Called from the table of verbs.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shm/base/array.h"
#include "shm/base/clock.h"
#include "shm/layout.h"
#include "tools/cli.h"
#include "tools/expo/json.h"
#include "tools/select.h"
#include "tools/show/show.h"

#define WHYS_MOST 5	/* refusals that are shown one by one */
#define SETTLE_MS 2000	/* for removals to be in the totals */

/* What became of one counter. */
enum fate { FATE_PLANNED, FATE_DONE, FATE_GONE, FATE_REFUSED };

/* A family, and its members that are removed. */
struct family {
	char *base;
	size_t base_len, nr;
	int64_t sum;
	bool is_family;
};

struct change {
	const struct cli *c;
	struct picks picks;
	const char **names; /* of the picks */
	enum fate *fates;
	int64_t *cells;	/* accept: the sum of the cells of each */
	struct family *families;
	size_t families_nr, families_max;
	uint64_t strays_nr; /* accept without GLOB */
	size_t refused_nr;
};

/* --- begin and end -------------------------------------------------------------------------- */

/* The counters that the arguments name. */
static int change_open(const struct cli *c, struct change *ch)
{
	*ch = (struct change){ .c = c };
	return select_picks(c, NULL, &ch->picks);
}

static void change_close(struct change *ch)
{
	picks_fini(&ch->picks);
	free(ch->names);
	free(ch->fates);
	free(ch->cells);
	for (size_t i = 0; i < ch->families_nr; i++)
		free(ch->families[i].base);
	free(ch->families);
}

/* Makes room for the results, after the last pick was taken or dropped. */
static int change_begin(struct change *ch)
{
	size_t nr = ch->picks.nr + 1; /* "" for the namespace may be the last name */

	ch->names = calloc(nr, sizeof(*ch->names));
	ch->fates = calloc(nr, sizeof(*ch->fates));
	ch->cells = calloc(nr, sizeof(*ch->cells));
	if (!ch->names || !ch->fates || !ch->cells)
		return session_failed(ch->c, -ENOMEM);
	for (size_t i = 0; i < ch->picks.nr; i++)
		ch->names[i] = ch->picks.list[i].name;
	ch->names[ch->picks.nr] = "";
	return CLI_OK;
}

/* Drops the picks for which keep() is false. */
static void picks_keep(struct change *ch, bool (*keep)(struct change *ch, const struct pick *pick))
{
	size_t nr = 0;

	for (size_t i = 0; i < ch->picks.nr; i++) {
		if (keep(ch, &ch->picks.list[i]))
			ch->picks.list[nr++] = ch->picks.list[i];
		else
			free(ch->picks.list[i].name);
	}
	ch->picks.nr = nr;
}

/* The reason may contain a name too. */
static void show_refused(const struct change *ch, size_t idx, const char *why)
{
	fprintf(stderr, "talea %s: ", ch->c->verb->name);
	show_name(stderr, ch->names[idx]);
	fputs(": ", stderr);
	show_name(stderr, why);
	fputc('\n', stderr);
}

static void change_result(size_t idx, int err, const char *why, void *arg)
{
	struct change *ch = arg;

	ch->fates[idx] = !err ? FATE_DONE : err == -ENOENT ? FATE_GONE : FATE_REFUSED;
	if (ch->fates[idx] != FATE_REFUSED)
		return;
	if (++ch->refused_nr <= WHYS_MOST)
		show_refused(ch, idx, why);
}

static int change_apply(struct change *ch, enum wire_change_op op, size_t nr)
{
	int err = ask_change(ch->c->session.ask, op, ch->names, nr, change_result, ch);
	int rc = err ? session_ask_failed(ch->c, err) : CLI_OK;

	if (ch->refused_nr > WHYS_MOST)
		cli_fail(ch->c, CLI_FAILED, "%zu more refused", ch->refused_nr - WHYS_MOST);
	if (rc == CLI_OK && ch->refused_nr)
		rc = CLI_FAILED;
	return rc;
}

static size_t done_nr(const struct change *ch)
{
	size_t nr = 0;

	for (size_t i = 0; i < ch->picks.nr; i++)
		nr += ch->fates[i] == FATE_DONE;
	return nr;
}

static const char *fate_text(enum fate fate)
{
	static const char *const texts[] = { [FATE_PLANNED] = "planned", [FATE_DONE] = "done",
					     [FATE_GONE] = "gone", [FATE_REFUSED] = "refused" };

	return texts[fate];
}

static int change_document(const struct change *ch, const char *list_name, bool is_applied,
			   json_t *list)
{
	json_t *doc = json_document(ch->c->session.st.namespace_name);

	json_object_set_new(doc, "applied", json_boolean(is_applied));
	json_object_set_new(doc, list_name, list);
	return cli_json(doc);
}

static json_t *pick_json(const struct change *ch, size_t i)
{
	const struct pick *pick = &ch->picks.list[i];

	return json_pack("{s:o, s:o, s:I, s:s}", "name", json_base(pick->name), "labels",
			 json_labels(pick->name), "value", (json_int_t)pick->value, "result",
			 fate_text(ch->fates[i]));
}

/* Name and total, in columns for people or in lines for programs. */
static void change_print(const struct change *ch)
{
	int width = 8;
	char text[SHOW_TEXT];

	for (size_t i = 0; i < ch->picks.nr; i++)
		if (show_width(ch->names[i]) > width)
			width = show_width(ch->names[i]);
	if (width > show.columns - 24)
		width = show.columns > 40 ? show.columns - 24 : 16;
	for (size_t i = 0; i < ch->picks.nr; i++) {
		const struct pick *pick = &ch->picks.list[i];

		if (ch->fates[i] == FATE_REFUSED || ch->fates[i] == FATE_GONE)
			continue;
		if (show.is_tty) {
			show_padded(stdout, pick->name, width);
			printf("  %20s\n", show_exact(text, pick->value));
		} else {
			printf("%s %" PRId64 "\n", pick->name, pick->value);
		}
	}
	fflush(stdout);
}

/* --- pin and unpin -------------------------------------------------------------------------- */

/* Counters of programs may have a row. A glob may also include counters of the daemon, which pin
 * leaves out. */
static bool keep_user(struct change *ch, const struct pick *pick)
{
	(void)ch;
	return pick->origin == TALEA_USER && !strstr(pick->name, "{talea=\"removed\"}");
}

static bool change_has_user(const struct change *ch)
{
	for (size_t i = 0; i < ch->picks.nr; i++)
		if (keep_user(NULL, &ch->picks.list[i]))
			return true;
	return false;
}

static int pin_json(const struct change *ch)
{
	json_t *list = json_array();

	for (size_t i = 0; i < ch->picks.nr; i++)
		json_array_append_new(list, pick_json(ch, i));
	return change_document(ch, "counters", !ch->c->dry_run, list);
}

static int pin(const struct cli *c, enum wire_change_op op, const char *words)
{
	struct change ch;
	int rc = change_open(c, &ch), json_rc;
	size_t nr;

	if (rc != CLI_OK)
		goto out_close;
	if (change_has_user(&ch))
		picks_keep(&ch, keep_user);
	rc = change_begin(&ch);
	if (rc == CLI_OK && !c->dry_run)
		rc = change_apply(&ch, op, ch.picks.nr);
	if (rc != CLI_OK && rc != CLI_FAILED)
		goto out_close;
	nr = c->dry_run ? ch.picks.nr : done_nr(&ch);
	if (c->json) {
		json_rc = pin_json(&ch);
		rc = rc == CLI_OK ? json_rc : rc;
		goto out_close;
	}
	for (size_t i = 0; i < ch.picks.nr; i++)
		if (c->dry_run || ch.fates[i] == FATE_DONE) {
			show_name(stdout, ch.names[i]);
			putchar('\n');
		}
	fflush(stdout);
	if (show.is_tty || c->dry_run)
		fprintf(stderr, "%zu counter%s %s%s\n", nr, show_plural(nr),
			c->dry_run ? "would be " : "", words);
out_close:
	change_close(&ch);
	return rc;
}

int verb_pin(struct cli *c)
{
	return c->cold ? pin(c, WIRE_PIN_COLD, "pinned cold") : pin(c, WIRE_PIN_HOT, "pinned hot");
}

int verb_unpin(struct cli *c)
{
	return pin(c, WIRE_UNPIN, "left to the rate again");
}

/* --- forget --------------------------------------------------------------------------------- */

/* A family is a name that has a member `other`. */
static struct family *family_of(struct change *ch, const struct pick *pick)
{
	struct talea_total total = { .size = sizeof(total) };
	size_t len = strcspn(pick->name, "{");
	char other[SHM_NAME_MAX + 32];
	struct family *f;

	for (size_t i = ch->families_nr; i-- > 0;)
		if (ch->families[i].base_len == len && !memcmp(ch->families[i].base, pick->name, len))
			return &ch->families[i];
	if (array_reserve(&ch->families, ch->families_nr + 1, &ch->families_max))
		return NULL;
	f = &ch->families[ch->families_nr++];
	snprintf(other, sizeof(other), "%.*s{talea=\"other\"}", (int)len, pick->name);
	*f = (struct family){ .base = strndup(pick->name, len), .base_len = len };
	f->is_family = pick->name[len] && talea_read_name(ch->c->session.t, other, TALEA_COMPACTED,
							  0, &total) == 0;
	return f->base ? f : NULL;
}

static bool keep_member(struct change *ch, const struct pick *pick)
{
	const char *labels = pick->name + strcspn(pick->name, "{");
	struct family *f;

	if (pick->origin == TALEA_OWN || !*labels || !strncmp(labels, "{talea=\"", 8))
		return false;
	f = family_of(ch, pick);
	return f && f->is_family;
}

static void families_sum(struct change *ch)
{
	for (size_t i = 0; i < ch->picks.nr; i++) {
		struct family *f = family_of(ch, &ch->picks.list[i]);

		if (!f || ch->fates[i] == FATE_REFUSED || ch->fates[i] == FATE_GONE)
			continue;
		f->nr++;
		f->sum += ch->picks.list[i].value;
	}
}

static int forget_json(const struct change *ch)
{
	json_t *doc = json_document(ch->c->session.st.namespace_name);
	json_t *members = json_array(), *families = json_array();

	for (size_t i = 0; i < ch->picks.nr; i++)
		json_array_append_new(members, pick_json(ch, i));
	for (size_t i = 0; i < ch->families_nr; i++)
		if (ch->families[i].nr)
			json_array_append_new(
				families, json_pack("{s:o, s:I, s:I}", "name",
						    json_text(ch->families[i].base), "members",
						    (json_int_t)ch->families[i].nr, "sum",
						    (json_int_t)ch->families[i].sum));
	json_object_set_new(doc, "applied", json_boolean(ch->c->apply));
	json_object_set_new(doc, "members", members);
	json_object_set_new(doc, "families", families);
	return cli_json(doc);
}

static void forget_words(const struct change *ch)
{
	char nr[SHOW_TEXT], sum[SHOW_TEXT];

	for (size_t i = 0; i < ch->families_nr; i++) {
		const struct family *f = &ch->families[i];

		if (!f->nr)
			continue;
		fprintf(stderr, "%s: %s member%s %s\n  %s %s to %s{talea=\"removed\"}: its sum "
				"stays\n", f->base, show_exact(nr, (int64_t)f->nr), show_plural(f->nr),
			ch->c->apply ? "removed" : "would go", show_exact(sum, f->sum),
			ch->c->apply ? "moved" : "would move", f->base);
	}
	if (!ch->c->apply)
		fprintf(stderr, "nothing was changed; add --apply to do it\n");
}

static uint64_t removed_nr(struct change *ch)
{
	const struct wire_status *status;

	return session_status(ch->c, &status) == CLI_OK ? status->removed_nr : UINT64_MAX;
}

/* Waits until the removals are in the totals, as `add` does; when they are late, says so. */
static void forget_settle(struct change *ch, uint64_t before)
{
	const struct timespec pause = { .tv_nsec = 10000000 };
	uint64_t due_ns = mono_ns() + SETTLE_MS * NS_PER_MS, expected = before + done_nr(ch);

	while (removed_nr(ch) < expected) {
		if (mono_ns() > due_ns) {
			cli_fail(ch->c, CLI_FAILED,
				 "not all are in `removed` yet: a CPU cannot be visited, or members "
				 "were removed before. try: talea status");
			return;
		}
		nanosleep(&pause, NULL);
	}
	talea_sync(ch->c->session.t, SETTLE_MS);
}

static int forget(struct change *ch)
{
	uint64_t before = 0;
	int rc, json_rc;

	picks_keep(ch, keep_member);
	if (!ch->picks.nr)
		return cli_fail(ch->c, CLI_NO_MATCH,
				"none of them is a member of a family; counters and levels last as "
				"long as their namespace");
	rc = change_begin(ch);
	if (rc == CLI_OK && ch->c->apply) {
		before = removed_nr(ch);
		rc = change_apply(ch, WIRE_FORGET, ch->picks.nr);
		if (rc == CLI_OK)
			forget_settle(ch, before);
	}
	if (rc != CLI_OK && rc != CLI_FAILED)
		return rc;
	families_sum(ch);
	if (ch->c->json) {
		json_rc = forget_json(ch);
		return rc == CLI_OK ? json_rc : rc;
	}
	change_print(ch);
	forget_words(ch);
	return rc;
}

int verb_forget(struct cli *c)
{
	struct change ch;
	int rc = change_open(c, &ch);

	if (rc == CLI_OK)
		rc = forget(&ch);
	change_close(&ch);
	return rc;
}

/* --- accept --------------------------------------------------------------------------------- */

static bool keep_suspect(struct change *ch, const struct pick *pick)
{
	(void)ch;
	return pick->state == TALEA_SUSPECT;
}

/* The sum of the cells of each, and how many cells changed that no counter owns. */
static int accept_read(struct change *ch)
{
	const struct wire_status *status;
	const struct wire_explain *e;
	int rc;

	for (size_t i = 0; i < ch->picks.nr; i++) {
		rc = session_explain(ch->c, ch->names[i], &e);
		if (rc != CLI_OK)
			return rc;
		ch->cells[i] = e->summed;
	}
	if (ch->c->args_nr)
		return CLI_OK;
	rc = session_status(ch->c, &status);
	if (rc == CLI_OK)
		ch->strays_nr = status->strays_nr;
	return rc;
}

static int accept_json(const struct change *ch)
{
	json_t *doc = json_document(ch->c->session.st.namespace_name), *list = json_array(), *one;

	for (size_t i = 0; i < ch->picks.nr; i++) {
		one = pick_json(ch, i);
		json_object_set_new(one, "cells", json_integer(ch->cells[i]));
		json_array_append_new(list, one);
	}
	json_object_set_new(doc, "applied", json_boolean(ch->c->apply));
	json_object_set_new(doc, "counters", list);
	json_object_set_new(doc, "strays", json_integer((json_int_t)ch->strays_nr));
	return cli_json(doc);
}

static void accept_list(const struct change *ch)
{
	char frozen[SHOW_TEXT], cells[SHOW_TEXT], change[SHOW_TEXT];

	if (show.is_tty && ch->picks.nr)
		show_head("%20s  %20s  %20s  %s", "FROZEN AT", "ITS CELLS SAY", "DIFFERENCE",
			  "COUNTER");
	for (size_t i = 0; i < ch->picks.nr; i++) {
		int64_t value = ch->picks.list[i].value;

		if (!show.is_tty) {
			printf("%s %" PRId64 " %" PRId64 "\n", ch->names[i], value, ch->cells[i]);
			continue;
		}
		printf("%20s  %20s  %20s  ", show_exact(frozen, value),
		       show_exact(cells, ch->cells[i]),
		       show_exact(change, (int64_t)((uint64_t)ch->cells[i] - (uint64_t)value)));
		show_text(stdout, ch->names[i]);
		putchar('\n');
	}
	fflush(stdout);
}

static void accept_words(const struct change *ch)
{
	char nr[SHOW_TEXT];

	if (!ch->picks.nr && !ch->strays_nr) {
		fprintf(stderr, "nothing is suspect\n");
		return;
	}
	if (ch->picks.nr)
		fprintf(stderr, "%s counter%s %s what %s cells say\n",
			show_exact(nr, (int64_t)ch->picks.nr), show_plural(ch->picks.nr),
			ch->c->apply ? "shows from now on" : "would show",
			ch->picks.nr == 1 ? "its" : "their");
	if (ch->strays_nr)
		fprintf(stderr, "%s change%s of cells that no counter owns %s. which: talea history\n",
			show_exact(nr, (int64_t)ch->strays_nr), show_plural(ch->strays_nr),
			ch->c->apply ? "accepted" : "would be accepted");
	if (!ch->c->apply)
		fprintf(stderr, "nothing was changed; add --apply to do it\n");
}

static int accept_run(struct change *ch)
{
	int rc, json_rc;

	picks_keep(ch, keep_suspect);
	rc = change_begin(ch);
	if (rc == CLI_OK)
		rc = accept_read(ch);
	if (rc == CLI_OK && ch->c->apply && (ch->picks.nr || ch->strays_nr)) {
		rc = change_apply(ch, WIRE_ACCEPT, ch->picks.nr + (ch->strays_nr != 0));
		talea_sync(ch->c->session.t, SETTLE_MS);
	}
	if (rc != CLI_OK && rc != CLI_FAILED)
		return rc;
	if (ch->c->json) {
		json_rc = accept_json(ch);
		return rc == CLI_OK ? json_rc : rc;
	}
	accept_list(ch);
	accept_words(ch);
	return rc;
}

int verb_accept(struct cli *c)
{
	struct change ch;
	int rc = change_open(c, &ch);

	if (rc == CLI_OK)
		rc = accept_run(&ch);
	change_close(&ch);
	return rc;
}

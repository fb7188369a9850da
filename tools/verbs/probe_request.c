/*
 * The verbs `attach` and `detach`: an admin's probe requests to the running daemon. The worker reads
 * the text, the keeper attaches, and this file shows the result. Owns nothing. Called from the table
 * of verbs.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "shm/base/near.h"
#include "tools/cli.h"
#include "tools/expo/json.h"
#include "tools/expo/probe.h"
#include "tools/show/show.h"

/* --- attach --------------------------------------------------------------------------------- */

static int attach_json(const struct wire_probe *p, bool is_applied)
{
	struct wire_probe shown = *p;
	json_t *doc = json_document(NULL);

	/* A probe that was only parsed has no origin yet. */
	if (!shown.origin)
		shown.origin = WIRE_PROBE_COMMAND;
	json_object_set_new(doc, "applied", json_boolean(is_applied));
	json_object_set_new(doc, "probe", probe_json(&shown));
	return cli_json(doc);
}

/* Data: the counters, one a line. Words: what happens now. */
static void attach_words(const struct wire_probe *p, bool is_dry)
{
	size_t length = probe_counter(p, 0);
	char since[SHOW_TEXT];

	for (size_t at = 0, n; (n = probe_counter(p, at)) > 0; at = probe_counter_next(p, at))
		printf("%.*s\n", (int)n, p->counters + at);
	fflush(stdout);
	if (is_dry) {
		fprintf(stderr, "probe %s would count %s. nothing was attached\n", p->name,
			p->attach);
		return;
	}
	fprintf(stderr, "probe %s counts %s", p->name, p->attach);
	if (p->keys_max)
		fprintf(stderr, ", at most %" PRIu32 " keys", p->keys_max);
	fprintf(stderr, "\n");
	if (p->is_adopted)
		fprintf(stderr, "it has counted since %s and continues\n",
			show_time(since, p->since_real_ns));
	if (!p->is_pinned)
		fprintf(stderr, "not pinned: counting ends with talead%s%s\n",
			p->unpinned_why[0] ? ": " : "", p->unpinned_why);
	fprintf(stderr, "see it: talea watch %.*s    end it: talea detach %s\n", (int)length,
		p->counters, p->name);
}

/* The worker's answer is a probe, which may have failed. */
static int attach_answer(const struct cli *c, const struct wire_probe *p)
{
	if (p->state == WIRE_PROBE_FAILED)
		return cli_fail(c, CLI_FAILED, "probe %s not attached: %s.%s%s", p->name,
				p->reason, p->fix[0] ? " fix: " : "", p->fix);
	if (c->json)
		return attach_json(p, !c->dry_run);
	attach_words(p, c->dry_run);
	return CLI_OK;
}

/* The first request only parses: an error of it is an error in the text, one of the second request is
 * the kernel's. */
static int attach_spec(const struct cli *c)
{
	struct wire_probe_change change = { .op = WIRE_PROBE_ATTACH, .is_checked_only = 1 };
	const struct wire_probe *p;
	int rc = session_probe(c, &change, c->args[0], &p);

	change.is_checked_only = 0;
	if (rc == CLI_OK && !c->dry_run)
		rc = session_probe(c, &change, c->args[0], &p);
	return rc == CLI_OK ? attach_answer(c, p) : rc;
}

static int attach_replace(const struct cli *c)
{
	const struct wire_probe_change change = { .op = WIRE_PROBE_REPLACE };
	const struct wire_probe *p;
	int rc = session_probe(c, &change, c->args[0], &p);

	return rc == CLI_OK ? attach_answer(c, p) : rc;
}

/* What --replace would do. */
static int replace_dry(const struct cli *c)
{
	struct wire_probe *list = NULL;
	const struct wire_probe *p;
	uint32_t nr = 0;
	int rc = session_probes(c, &list, &nr);

	if (rc != CLI_OK)
		return rc;
	p = probe_find(list, nr, c->args[0]);
	if (!p) {
		rc = cli_fail(c, CLI_NO_MATCH, "no probe %s. try: talea probes", c->args[0]);
		goto out_free;
	}
	if (c->json) {
		rc = attach_json(p, false);
		goto out_free;
	}
	if (p->state == WIRE_PROBE_FAILED)
		fprintf(stderr, "probe %s is not attached: %s. its pinned counts would end, and it "
				"would begin anew\n", p->name, p->reason);
	else
		fprintf(stderr, "probe %s did not fail: there is nothing to replace\n", p->name);
out_free:
	free(list);
	return rc;
}

int verb_attach_begin(struct cli *c)
{
	if (*c->args[0])
		return CLI_OK;
	return cli_fail(c, CLI_USAGE,
			"nothing to attach. try: talea attach raw_tp:sched_process_exec");
}

int verb_attach(struct cli *c)
{
	return !c->replace ? attach_spec(c) : c->dry_run ? replace_dry(c) : attach_replace(c);
}

/* --- detach --------------------------------------------------------------------------------- */

static void detach_no_match(const struct wire_probe *list, uint32_t nr, const char *word)
{
	const char **names = calloc(nr + 1, sizeof(*names)), *nearest = NULL;

	for (uint32_t i = 0; names && i < nr; i++)
		names[i] = list[i].name;
	if (names)
		nearest = near_word(word, names);
	fprintf(stderr, "talea detach: no probe %s", word);
	if (nearest)
		fprintf(stderr, "; did you mean %s?\n", nearest);
	else
		fprintf(stderr, ". try: talea probes\n");
	free(names);
}

/* Are all names right? Asks before the first probe ends, and copies what each was. */
static int detach_find(const struct cli *c, struct wire_probe *ret)
{
	struct wire_probe *list = NULL;
	uint32_t nr = 0;
	int rc = session_probes(c, &list, &nr);

	for (size_t i = 0; rc == CLI_OK && i < c->args_nr; i++) {
		const struct wire_probe *p = probe_find(list, nr, c->args[i]);

		if (p) {
			ret[i] = *p;
			continue;
		}
		detach_no_match(list, nr, c->args[i]);
		rc = CLI_NO_MATCH;
	}
	free(list);
	return rc;
}

static int detach_all(const struct cli *c, const struct wire_probe *probes)
{
	const struct wire_probe_change change = { .op = WIRE_PROBE_DETACH };
	json_t *doc = json_document(NULL), *list = json_array();
	int rc = CLI_OK, json_rc;
	char nr[SHOW_TEXT];

	for (size_t i = 0; i < c->args_nr; i++) {
		const struct wire_probe *p = &probes[i];

		if (probe_find(probes, (uint32_t)i, p->name)) /* named twice */
			continue;
		rc = session_probe(c, &change, p->name, NULL);
		if (rc != CLI_OK)
			break;
		json_array_append_new(list, json_text(p->name));
		if (c->json)
			continue;
		puts(p->name);
		fflush(stdout);
		if (show.is_tty)
			fprintf(stderr, "probe %s ended after %s events; see: talea get %.*s\n",
				p->name, show_exact(nr, (int64_t)p->events),
				(int)probe_counter(p, 0), p->counters);
	}
	json_object_set_new(doc, "detached", list);
	if (!c->json) {
		json_decref(doc);
		return rc;
	}
	json_rc = cli_json(doc);
	return rc == CLI_OK ? json_rc : rc;
}

int verb_detach(struct cli *c)
{
	struct wire_probe *probes = calloc(c->args_nr, sizeof(*probes));
	int rc = probes ? detach_find(c, probes) : session_failed(c, -ENOMEM);

	if (rc == CLI_OK)
		rc = detach_all(c, probes);
	free(probes);
	return rc;
}

/*
 * The verb `doctor`: the results of talead, which tries what this machine allows, then what the
 * running daemon, if there is one, reports about itself. Owns the second part and the order of both.
 * Called from the table of verbs.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli.h"
#include "tools/expo/json.h"
#include "tools/run.h"
#include "tools/show/show.h"
#include "tools/verbs/probes.h"

/* warn: it works, but something is lost. */
enum result { RESULT_OK, RESULT_SKIP, RESULT_FAIL, RESULT_WARN };
static const char *const results[] = { "ok", "skip", "fail", "warn" };
#define RESULTS_NR (sizeof(results) / sizeof(results[0]))

/* What this verb itself finds, one after the other. */
struct findings {
	bool is_json;
	json_t *list;
	size_t failed_nr;
};

/* --- one finding ---------------------------------------------------------------------------- */

static void print_result(enum result result)
{
	show_styled(result == RESULT_OK	  ? SHOW_GOOD :
		    result == RESULT_SKIP ? SHOW_GREY : SHOW_BAD,
		    "%-4s", results[result]);
}

__attribute__((format(printf, 5, 6)))
static void finding(struct findings *f, enum result result, const char *what, const char *fix,
		 const char *format, ...)
{
	char why[512];
	va_list args;
	json_t *one;

	va_start(args, format);
	vsnprintf(why, sizeof(why), format, args);
	va_end(args);
	f->failed_nr += result == RESULT_FAIL;
	if (f->is_json) {
		one = json_pack("{s:s, s:o, s:o}", "result", results[result], "what", json_text(what),
				"why", json_text(why));
		if (*fix)
			json_object_set_new(one, "fix", json_text(fix));
		json_array_append_new(f->list, one);
		return;
	}
	print_result(result);
	fputs("  ", stdout);
	show_text(stdout, what);
	fputs(": ", stdout);
	show_text(stdout, why);
	if (*fix) {
		fputs(". fix: ", stdout);
		show_text(stdout, fix);
	}
	putchar('\n');
}

/* --- talead's part -------------------------------------------------------------------------- */

/* The lines of talead, with the first word in colour. */
static void print_checks(char *text)
{
	char *rest, *line = strtok_r(text, "\n", &rest);

	for (; line; line = strtok_r(NULL, "\n", &rest)) {
		size_t length = strcspn(line, " ");
		size_t at = 0;

		while (at < RESULTS_NR && (strlen(results[at]) != length ||
				  strncmp(line, results[at], length)))
			at++;
		if (at < RESULTS_NR) {
			print_result((enum result)at);
			line += length < 4 && line[length] ? 4 : length;
		}
		show_text(stdout, line);
		putchar('\n');
	}
}

/* --- the daemon's part ---------------------------------------------------------------------- */

/* What to type for room for twice as many keys. */
static void finding_overflow(struct findings *f, const char *what, const struct wire_probe *p)
{
	const char *max = strstr(p->attach, " max "); /* the last clause, or none */
	int length = (int)(max ? (size_t)(max - p->attach) : strlen(p->attach));
	char fix[sizeof(p->attach) + 160], nr[SHOW_TEXT];
	uint64_t more = 2 * (uint64_t)p->keys_max;

	if (p->origin == WIRE_PROBE_COMMAND && !(max && strchr(max + 5, ' ')))
		snprintf(fix, sizeof(fix), "talea detach %s, then talea attach '%.*s max %" PRIu64 "'",
			 p->name, length, p->attach, more);
	else if (p->origin == WIRE_PROBE_COMMAND)
		snprintf(fix, sizeof(fix), "talea detach %s, and attach it with max %" PRIu64, p->name,
			 more);
	else if (p->origin == WIRE_PROBE_CONFIG && strncmp(p->attach, "object ", 7))
		snprintf(fix, sizeof(fix), "keys-max = %" PRIu64 " in [probe %s], reload, then talea "
			 "attach --replace %s", more, p->name, p->name);
	else
		snprintf(fix, sizeof(fix), "build it with a larger table");
	finding(f, RESULT_WARN, what, fix,
		"its room for %" PRIu32 " keys was used up: %s events are in {talea=\"other\"}",
		p->keys_max, show_exact(nr, (int64_t)p->overflow));
}

static void findings_probes(struct findings *f, const struct wire_probe *probes, uint32_t nr)
{
	uint32_t attached = 0, pinned = 0;
	const char *unpinned_why = "";
	char what[80], a[SHOW_TEXT], *failed;

	for (uint32_t i = 0; i < nr; i++) {
		const struct wire_probe *p = &probes[i];

		failed = probes_failed(probes, nr, i);
		if (failed)
			finding(f, RESULT_FAIL, failed, p->fix, "%s", p->reason);
		free(failed);
		snprintf(what, sizeof(what), "probe %s", p->name);
		if (p->state != WIRE_PROBE_ATTACHED)
			continue;
		attached++;
		pinned += p->is_pinned != 0;
		if (!p->is_pinned)
			unpinned_why = p->unpinned_why;
		if (p->missed)
			finding(f, RESULT_WARN, what, "",
				"the kernel left out %s of its runs: known loss",
				show_exact(a, (int64_t)p->missed));
		if (p->overflow || (p->keys_max && p->keys_nr >= p->keys_max))
			finding_overflow(f, what, p);
	}
	if (!attached)
		finding(f, RESULT_SKIP, "probes", "", "none is attached");
	else if (pinned == attached)
		finding(f, RESULT_OK, "probes", "",
			"%" PRIu32 " attached and pinned: they count on when no talead runs",
			attached);
	else
		finding(f, RESULT_SKIP, "pins", "",
			"%" PRIu32 " of %" PRIu32 " attached probes are pinned; the others end with "
			"talead%s%s",
			pinned, attached, *unpinned_why ? ": " : "", unpinned_why);
}

static void findings_daemon(struct findings *f, const struct wire_status *s)
{
	char a[SHOW_TEXT];

	finding(f, RESULT_OK, "daemon", "", "talead %s answers at %s, keeper %" PRIu32, s->version,
		s->socket, s->keeper_pid);
	if (strcmp(s->version, TALEA_VERSION))
		finding(f, RESULT_FAIL, "version", "start the talead of this version",
			"talea is " TALEA_VERSION ", the daemon %s", s->version);
	finding(f, RESULT_OK, "worker's rights", "", "%s", s->sandbox);
	if (s->suspects_nr || s->strays_nr)
		finding(f, RESULT_FAIL, "totals", "talea status, talea history, talea accept",
			"%" PRIu32 " fell and are frozen, %s cells that no counter owns changed",
			s->suspects_nr, show_exact(a, (int64_t)s->strays_nr));
	if (s->grace_blocked_cpus)
		finding(f, RESULT_FAIL, "CPUs",
			"let talead run there (cpuset, a real-time task that never sleeps)",
			"%" PRIu32 " cannot be visited", s->grace_blocked_cpus);
}

/* No daemon is no failure: doctor tried what it can try without one. */
static int findings_running(struct cli *c, struct findings *f)
{
	const struct talea_status *st = &c->session.st;
	const struct wire_status *status;
	struct wire_probe *probes;
	uint32_t nr;
	int rc = session_try(c, SESSION_READ);

	if (rc) {
		finding(f, RESULT_FAIL, "daemon", "", "%s", talea_strerror(c->session.t, rc));
		return CLI_OK;
	}
	if (!st->connected) {
		finding(f, RESULT_SKIP, "daemon", "start talead", "none answers at %s",
			st->socket[0] ? st->socket : "its socket");
		return CLI_OK;
	}
	rc = session_status(c, &status);
	if (rc != CLI_OK)
		return rc;
	findings_daemon(f, status);
	rc = session_probes(c, &probes, &nr);
	if (rc != CLI_OK)
		return rc;
	findings_probes(f, probes, nr);
	free(probes);
	return CLI_OK;
}

/* --- the verb ------------------------------------------------------------------------------- */

int verb_doctor(struct cli *c)
{
	const char *socket = c->socket ? c->socket : getenv("TALEA_SOCKET");
	const char *args[5] = { "--doctor" };
	struct findings f = { .is_json = c->json, .list = json_array() };
	json_t *doc = NULL;
	int rc, status, json_rc = CLI_OK;
	size_t nr = 1;
	char *text;

	if (c->json)
		args[nr++] = "--json";
	/* doctor does not use it, but a user's talead refuses to start without one. */
	if (socket && *socket) {
		args[nr++] = "--socket";
		args[nr++] = socket;
	}
	rc = run_read(c, args, &text, &status);
	if (rc != CLI_OK)
		goto out_free;
	if (c->json)
		doc = json_loads(text, 0, NULL);
	else
		print_checks(text);
	free(text);
	if (!json_is_object(doc)) {
		json_decref(doc);
		doc = json_document(NULL);
	}
	rc = findings_running(c, &f);
	if (c->json) {
		json_object_set(doc, "daemon", f.list);
		json_rc = cli_json(json_incref(doc));
	}
	if (rc == CLI_OK)
		rc = status || f.failed_nr ? CLI_FAILED : json_rc;
out_free:
	json_decref(doc);
	json_decref(f.list);
	return rc;
}

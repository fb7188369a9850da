/*
 * The verb `drift`: kernel counters beside the kernel's reference counters (reference.h), over an
 * interval. Each end of the interval is a bracket: drift reads the reference counters, then talea's
 * totals with every event before that call, then the reference counters again. The events between
 * the two readings explain a difference; what is outside of the bracket is drift. Owns the
 * comparison and how it is shown. Called from the table of verbs.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "shm/base/clock.h"
#include "shm/names.h"
#include "tools/cli.h"
#include "tools/expo/json.h"
#include "tools/expo/pick.h"
#include "tools/expo/probe.h"
#include "tools/reference.h"
#include "tools/show/show.h"

#define INTERVAL_NS (2 * NS_PER_S)
#define SYNC_MS	    5000
#define SAY_EVERY_S 5
#define NAME_LEAST  24

enum verdict { VERDICT_OK, VERDICT_EXPECTED, VERDICT_DRIFT, VERDICT_UNKNOWN };
static const char *const verdicts[] = { "ok", "expected", "drift", "unknown" };

/* One end of the interval: the reference counters before and after, the totals and the probes
 * between them. */
struct bracket {
	struct references before, after;
	struct wire_probe *probes;
	uint32_t probes_nr;
	int64_t *ours; /* by reference counter of first.before */
};

struct check {
	char name[160]; /* the counter with its label */
	const struct reference *reference;
	bool is_selected;
	enum verdict verdict;
	int64_t ours, outside; /* outside: beyond the bracket, below it negative */
	uint64_t low, high, missed;
	char why[160]; /* unknown */
};

struct drift {
	const struct cli *c;
	struct bracket first, second;
	struct check *checks; /* by reference counter of first.before */
	size_t nr;
	uint64_t interval_ns;
	bool is_same_network;
	uint32_t under_way; /* events that may be in one of the two counts and not yet in the other */
};

/* --- reading -------------------------------------------------------------------------------- */

static bool is_value(const char *values, const char *value, size_t length)
{
	for (size_t n; *values; values += n + (values[n] == '|')) {
		n = strcspn(values, "|");
		if (n == length && !strncmp(values, value, length))
			return true;
	}
	return false;
}

/* Is this counter a part of the reference counter? */
static bool is_part(const struct reference *reference, const char *name)
{
	size_t base = strcspn(name, "{"), length = strlen(reference->label);

	if (strlen(reference->counter) != base || strncmp(reference->counter, name, base))
		return false;
	if (!length)
		return true;
	for (const char *at = name + base; (at = strstr(at, reference->label)); at++)
		if ((at[-1] == '{' || at[-1] == ',') && !strncmp(at + length, "=\"", 2))
			return is_value(reference->values, at + length + 2,
					strcspn(at + length + 2, "\""));
	return false;
}

struct adding {
	const struct references *references;
	int64_t *ours;
};

static int add_one(const char *name, const struct talea_total *total, void *arg)
{
	struct adding *a = arg;

	if (total->origin != TALEA_KERNEL || total->state == TALEA_UNKNOWN)
		return 0;
	for (size_t i = 0; i < a->references->nr; i++)
		if (is_part(&a->references->list[i], name))
			a->ours[i] += total->value;
	return 0;
}

/* references: those of the first bracket, which say what is added up. */
static int bracket_read(const struct drift *d, const struct references *references,
			struct bracket *ret)
{
	struct adding adding = { .references = references };
	struct talea *t = d->c->session.t;
	int rc = references_read(&ret->before, d->is_same_network);

	if (rc)
		return session_failed(d->c, rc);
	ret->ours = calloc(references->nr + 1, sizeof(*ret->ours));
	rc = ret->ours ? talea_sync(t, SYNC_MS) : -ENOMEM;
	adding.ours = ret->ours;
	if (!rc)
		rc = pick_walk(t, "kernel_*", TALEA_COMPACTED, add_one, &adding);
	if (!rc)
		rc = references_read(&ret->after, d->is_same_network);
	if (rc)
		return session_failed(d->c, rc);
	return session_probes(d->c, &ret->probes, &ret->probes_nr);
}

static void bracket_fini(struct bracket *bracket)
{
	references_fini(&bracket->before);
	references_fini(&bracket->after);
	free(bracket->probes);
	free(bracket->ours);
}

/* A countdown on a terminal, else a line now and then. */
static void wait_interval(uint64_t ns)
{
	uint64_t end_ns = mono_ns() + ns, now;
	bool is_watched = isatty(STDERR_FILENO);
	int s = 0;

	for (; (now = mono_ns()) < end_ns; s++) {
		uint64_t left = end_ns - now, step = left < NS_PER_S ? left : NS_PER_S;
		struct timespec pause = { (time_t)(step / NS_PER_S), (long)(step % NS_PER_S) };
		uint64_t to_go_s = (left + NS_PER_S - 1) / NS_PER_S;

		if (is_watched)
			fprintf(stderr, "\rcomparing: %" PRIu64 " s to go ", to_go_s);
		else if (s && s % SAY_EVERY_S == 0)
			fprintf(stderr, "comparing: %" PRIu64 " s to go\n", to_go_s);
		nanosleep(&pause, NULL);
	}
	if (is_watched)
		fprintf(stderr, "\r%26s\r", "");
}

/* --- judging -------------------------------------------------------------------------------- */

/* Were all its probes attached from the first bracket to the second? Adds up what the kernel says
 * that they missed. */
static bool is_attached(const struct drift *d, struct check *check)
{
	const char *counter = check->reference->counter;
	uint32_t nr = 0;

	for (uint32_t i = 0; i < d->first.probes_nr; i++) {
		const struct wire_probe *p = &d->first.probes[i], *now;

		if (!probe_feeds(p, counter, strlen(counter)))
			continue;
		nr++;
		now = probe_find(d->second.probes, d->second.probes_nr, p->name);
		if (p->state != WIRE_PROBE_ATTACHED) {
			snprintf(check->why, sizeof(check->why), "probe %s is not attached", p->name);
			return false;
		}
		if (!now || now->state != p->state || now->since_real_ns != p->since_real_ns ||
		    now->missed < p->missed) {
			snprintf(check->why, sizeof(check->why), "probe %s changed meanwhile", p->name);
			return false;
		}
		check->missed += now->missed - p->missed;
	}
	if (!nr)
		snprintf(check->why, sizeof(check->why), "this talead has no probe for it");
	return nr;
}

/* By how much a reference counter went up. */
static uint64_t gone_up(const struct reference *from, const struct reference *to)
{
	uint64_t up = to->nr - from->nr;

	return from->wraps && to->nr < from->nr ? up & UINT32_MAX : up;
}

static void judge(const struct drift *d, size_t i)
{
	struct check *check = &d->checks[i];
	const struct reference *reference = check->reference, *later[3];
	int64_t slack = (int64_t)d->under_way * reference->unit, low, high;

	check->verdict = VERDICT_UNKNOWN;
	if (!is_attached(d, check))
		return;
	later[0] = references_find(&d->first.after, reference->source);
	later[1] = references_find(&d->second.before, reference->source);
	later[2] = references_find(&d->second.after, reference->source);
	check->ours = d->second.ours[i] - d->first.ours[i];
	if (!later[0] || !later[1] || !later[2] || check->ours < 0) {
		snprintf(check->why, sizeof(check->why), "%s",
			 check->ours < 0 ? "the counter began anew meanwhile" :
					   "the reference counter changed meanwhile");
		return;
	}
	check->low = gone_up(later[0], later[1]);
	check->high = gone_up(reference, later[2]);
	low = (int64_t)(check->low - check->missed) - slack;
	high = (int64_t)check->high + slack;
	if (check->ours < low)
		check->outside = check->ours - low;
	else if (check->ours > high)
		check->outside = check->ours - high;
	if (!check->outside)
		check->verdict = VERDICT_OK;
	else if (reference->tolerance & (check->outside > 0 ? REFERENCE_MORE : REFERENCE_LESS))
		check->verdict = VERDICT_EXPECTED;
	else
		check->verdict = VERDICT_DRIFT;
}

/* --- showing -------------------------------------------------------------------------------- */

static json_t *check_json(const struct check *check)
{
	const struct reference *reference = check->reference;
	json_t *one = json_pack("{s:o, s:o, s:o, s:s}", "name", json_base(check->name), "labels",
				json_labels(check->name), "source",
				json_text(reference->source), "state", verdicts[check->verdict]);

	if (check->verdict == VERDICT_UNKNOWN) {
		json_object_set_new(one, "why", json_text(check->why));
		return one;
	}
	json_object_set_new(one, "ours", json_integer(check->ours));
	json_object_set_new(one, "source_low", json_integer((json_int_t)check->low));
	json_object_set_new(one, "source_high", json_integer((json_int_t)check->high));
	json_object_set_new(one, "drift", json_integer(check->outside));
	json_object_set_new(one, "missed", json_integer((json_int_t)check->missed));
	if (check->verdict == VERDICT_EXPECTED) {
		json_object_set_new(one, "expected", json_text(reference->reason));
		json_object_set_new(one, "why", json_text(reference->why));
	}
	return one;
}

static int drift_json(const struct drift *d)
{
	json_t *doc = json_document(d->c->session.st.namespace_name), *list = json_array();

	for (size_t i = 0; i < d->nr; i++)
		if (d->checks[i].is_selected)
			json_array_append_new(list, check_json(&d->checks[i]));
	json_object_set_new(doc, "interval_ns", json_integer((json_int_t)d->interval_ns));
	json_object_set_new(doc, "under_way", json_integer(d->under_way));
	json_object_set_new(doc, "counters", list);
	return cli_json(doc);
}

static void drift_print_lines(const struct drift *d)
{
	for (size_t i = 0; i < d->nr; i++) {
		const struct check *check = &d->checks[i];

		if (!check->is_selected)
			continue;
		if (check->verdict == VERDICT_UNKNOWN)
			printf("%s - - - - unknown\n", check->name);
		else
			printf("%s %" PRId64 " %" PRIu64 " %" PRIu64 " %" PRId64 " %s\n", check->name,
			       check->ours, check->low, check->high, check->outside,
			       verdicts[check->verdict]);
	}
}

/* A check without events on both sides has no row, unless an argument names it. */
static bool is_shown(const struct drift *d, const struct check *check)
{
	return check->is_selected && check->verdict != VERDICT_UNKNOWN &&
	       (d->c->args_nr || check->ours || check->high);
}

static void drift_print_row(const struct check *check, int width)
{
	char ours[SHOW_TEXT], low[SHOW_TEXT], high[SHOW_TEXT], drift[SHOW_TEXT] = "0";
	char bracket[2 * SHOW_TEXT + 4];

	show_exact(low, (int64_t)check->low);
	show_exact(high, (int64_t)check->high);
	if (strcmp(low, high))
		snprintf(bracket, sizeof(bracket), "%s..%s", low, high);
	else
		snprintf(bracket, sizeof(bracket), "%s", low);
	if (check->outside)
		snprintf(drift, sizeof(drift), "%s%s", check->outside > 0 ? "+" : "",
			 show_exact(ours, check->outside));
	show_padded(stdout, check->name, width);
	printf("  %13s  %23s  ", show_exact(ours, check->ours), bracket);
	show_style(stdout, check->verdict == VERDICT_DRIFT ? SHOW_BAD : SHOW_PLAIN);
	printf("%9s  %s", drift, verdicts[check->verdict]);
	if (check->verdict == VERDICT_EXPECTED)
		printf(" (%s)", check->reference->reason);
	if (check->missed)
		printf(", %" PRIu64 " missed", check->missed);
	show_style(stdout, SHOW_PLAIN);
	putchar('\n');
}

/* Explains each reason of the table once. */
static void drift_print_reasons(const struct drift *d)
{
	for (size_t i = 0; i < d->nr; i++) {
		const struct check *check = &d->checks[i], *other;
		const char *reason = check->reference->reason;
		bool is_first = is_shown(d, check) && check->verdict == VERDICT_EXPECTED;

		for (other = d->checks; other < check; other++)
			is_first &= !(is_shown(d, other) && other->verdict == VERDICT_EXPECTED &&
				      other->reference->reason == reason);
		if (is_first)
			show_line(reason, "%s", check->reference->why);
	}
}

/* Each counter that cannot be compared, once, and why. */
static void drift_print_unknown(const struct drift *d)
{
	for (size_t i = 0; i < d->nr; i++) {
		const struct check *check = &d->checks[i], *other;
		const char *counter = check->reference->counter;
		bool is_first = check->is_selected && check->verdict == VERDICT_UNKNOWN;

		for (other = d->checks; other < check; other++)
			is_first &= !(other->is_selected && other->verdict == VERDICT_UNKNOWN &&
				      !strcmp(other->reference->counter, counter));
		if (is_first)
			show_line("unknown", "%s: %s", counter, check->why);
	}
}

static void drift_print_table(const struct drift *d)
{
	int width = NAME_LEAST, most = show.columns - 66;
	size_t shown = 0, still = 0;

	for (size_t i = 0; i < d->nr; i++) {
		const struct check *check = &d->checks[i];

		if (is_shown(d, check) && show_width(check->name) > width)
			width = show_width(check->name);
		shown += is_shown(d, check);
		still += check->is_selected && check->verdict != VERDICT_UNKNOWN && !is_shown(d, check);
	}
	width = width > most && most > NAME_LEAST ? most : width > most ? NAME_LEAST : width;
	if (shown)
		show_head("%-*s  %13s  %23s  %9s  %s", width, "COUNTER", "OURS",
			  "THE KERNEL'S OWN COUNT", "DRIFT", "VERDICT");
	for (size_t i = 0; i < d->nr; i++)
		if (is_shown(d, &d->checks[i]))
			drift_print_row(&d->checks[i], width);
	if (still)
		printf("%zu more stood still on both sides\n", still);
	if (shown)
		putchar('\n');
	drift_print_reasons(d);
	drift_print_unknown(d);
}

/* --- the verb ------------------------------------------------------------------------------- */

static void check_name(struct check *check, const struct reference *reference)
{
	check->reference = reference;
	if (reference->label[0])
		snprintf(check->name, sizeof(check->name), "%s{%s=\"%.*s\"}", reference->counter,
			 reference->label, (int)strcspn(reference->values, "|"), reference->values);
	else
		snprintf(check->name, sizeof(check->name), "%s", reference->counter);
}

/* Which do the arguments name? Refuses one that names a counter without a reference counter. */
static int checks_pick(struct drift *d)
{
	const struct cli *c = d->c;
	int rc = CLI_OK;

	for (size_t i = 0; i < d->nr; i++) {
		check_name(&d->checks[i], &d->first.before.list[i]);
		d->checks[i].is_selected = !c->args_nr;
	}
	for (size_t a = 0; a < c->args_nr; a++) {
		bool is_hit = false;

		for (size_t i = 0; i < d->nr; i++)
			if (name_match(c->args[a], d->checks[i].name))
				d->checks[i].is_selected = is_hit = true;
		if (is_hit)
			continue;
		rc = cli_fail(c, CLI_NO_MATCH,
			      "the kernel has no reference counter for %s. try: talea drift",
			      c->args[a]);
	}
	return rc;
}

static int verdict_of_all(const struct drift *d)
{
	size_t known = 0, drifted = 0;

	for (size_t i = 0; i < d->nr; i++) {
		known += d->checks[i].is_selected && d->checks[i].verdict != VERDICT_UNKNOWN;
		drifted += d->checks[i].is_selected && d->checks[i].verdict == VERDICT_DRIFT;
	}
	if (drifted) {
		fprintf(stderr, "%zu counter%s from the kernel's own count. whether a probe missed "
				"runs: talea probes\n",
			drifted, drifted == 1 ? " differs" : "s differ");
		return CLI_DRIFT;
	}
	if (known)
		return CLI_OK;
	return cli_fail(d->c, CLI_FAILED,
			"nothing was compared: no probe of these counters is attached. try: talea "
			"probes");
}

/* Is the keeper in this process's network namespace? No, where this process may not read it. */
static int network_read(struct drift *d)
{
	const struct wire_status *status;
	char path[64], own[64], its[64];
	ssize_t own_bytes, its_bytes;
	int rc = session_status(d->c, &status);

	if (rc != CLI_OK)
		return rc;
	snprintf(path, sizeof(path), "/proc/%u/ns/net", status->keeper_pid);
	own_bytes = readlink("/proc/self/ns/net", own, sizeof(own));
	its_bytes = readlink(path, its, sizeof(its));
	d->is_same_network = own_bytes > 0 && own_bytes == its_bytes &&
			     !memcmp(own, its, (size_t)own_bytes);
	return CLI_OK;
}

static int drift_run(struct drift *d)
{
	int rc = network_read(d), json_rc;

	if (rc == CLI_OK)
		rc = bracket_read(d, &d->first.before, &d->first);
	if (rc != CLI_OK)
		return rc;
	d->nr = d->first.before.nr;
	d->checks = calloc(d->nr + 1, sizeof(*d->checks));
	if (!d->checks)
		return session_failed(d->c, -ENOMEM);
	rc = checks_pick(d);
	if (rc != CLI_OK)
		return rc;
	wait_interval(d->interval_ns);
	rc = bracket_read(d, &d->first.before, &d->second);
	if (rc != CLI_OK)
		return rc;
	for (size_t i = 0; i < d->nr; i++)
		judge(d, i);
	json_rc = CLI_OK;
	if (d->c->json)
		json_rc = drift_json(d);
	else if (show.is_tty)
		drift_print_table(d);
	else
		drift_print_lines(d);
	fflush(stdout);
	rc = verdict_of_all(d);
	return rc == CLI_OK ? json_rc : rc;
}

int verb_drift(struct cli *c)
{
	struct drift d = { .c = c, .interval_ns = c->interval_ns ? c->interval_ns : INTERVAL_NS };
	int rc;

	d.under_way = (uint32_t)sysconf(_SC_NPROCESSORS_CONF);
	rc = drift_run(&d);
	bracket_fini(&d.first);
	bracket_fini(&d.second);
	free(d.checks);
	return rc;
}

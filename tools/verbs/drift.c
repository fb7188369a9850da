/*
 * The verb `drift`: kernel counters beside the kernel's own books (books.c), over an interval. Each
 * end of it is a bracket: the book is read, then our totals with every event before that call, then
 * the book again; what happened between its readings explains a difference, and what lies outside of
 * it is drift. Owns the comparison and how it is shown. Called from the table of verbs.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tools/cli.h"

#define INTERVAL_NS 2000000000ull
#define SYNC_MS	    5000
#define SAY_EVERY_S 5
#define NAME_LEAST  24

enum verdict { VERDICT_OK, VERDICT_EXPECTED, VERDICT_DRIFT, VERDICT_UNKNOWN };
static const char *const verdicts[] = { "ok", "expected", "drift", "unknown" };

/* One reading of all: the books before and after, the totals and the probes between them. */
struct look {
	struct books before, after;
	struct wire_probe *probes;
	uint32_t probes_nr;
	int64_t *ours; /* by book of the first look */
};

struct check {
	char name[160]; /* the counter with its label */
	const struct book *book;
	bool is_wanted;
	enum verdict verdict;
	int64_t ours, outside; /* outside: beyond the bracket, below it negative */
	uint64_t low, high, missed;
	char why[160]; /* unknown */
};

struct drift {
	const struct cli *c;
	struct talea *t;
	struct talea_status st;
	struct ask *ask;
	struct look first, second;
	struct check *checks; /* one a book of first.before */
	size_t nr;
	uint64_t interval_ns;
	bool is_same_network;
	uint32_t under_way; /* events that one of the two has and the other not yet */
};

/* --- looking -------------------------------------------------------------------------------- */

static bool is_value(const char *values, const char *value, size_t length)
{
	for (size_t n; *values; values += n + (values[n] == '|')) {
		n = strcspn(values, "|");
		if (n == length && !strncmp(values, value, length))
			return true;
	}
	return false;
}

/* Is this counter a part of what the book says? */
static bool is_of_book(const struct book *book, const char *name)
{
	size_t base = strcspn(name, "{"), length = strlen(book->label);

	if (strlen(book->counter) != base || strncmp(book->counter, name, base))
		return false;
	if (!length)
		return true;
	for (const char *at = name + base; (at = strstr(at, book->label)); at++)
		if ((at[-1] == '{' || at[-1] == ',') && !strncmp(at + length, "=\"", 2))
			return is_value(book->values, at + length + 2,
					strcspn(at + length + 2, "\""));
	return false;
}

struct adding {
	const struct books *books;
	int64_t *ours;
};

static int add_one(const char *name, const struct talea_total *total, void *arg)
{
	struct adding *a = arg;

	if (total->origin != TALEA_KERNEL || total->state == TALEA_UNKNOWN)
		return 0;
	for (size_t i = 0; i < a->books->nr; i++)
		if (is_of_book(&a->books->list[i], name))
			a->ours[i] += total->value;
	return 0;
}

/* books: those of the first look, which say what is added up. */
static int look(struct drift *d, const struct books *books, struct look *ret)
{
	struct adding adding = { .books = books };
	int rc = books_read(&ret->before, d->is_same_network);

	if (rc)
		goto out_failed;
	ret->ours = calloc(books->nr + 1, sizeof(*ret->ours));
	rc = ret->ours ? talea_sync(d->t, SYNC_MS) : -ENOMEM;
	adding.ours = ret->ours;
	if (!rc)
		rc = select_walk(d->t, "kernel_*", TALEA_COMPACTED, add_one, &adding);
	if (!rc)
		rc = books_read(&ret->after, d->is_same_network);
	if (!rc)
		return ask_probes(d->ask, &ret->probes, &ret->probes_nr);
out_failed:
	return attach_failed(d->t, "drift", rc);
}

static void look_fini(struct look *look)
{
	books_fini(&look->before);
	books_fini(&look->after);
	free(look->probes);
	free(look->ours);
}

/* A countdown where somebody waits, else a line now and then. */
static void wait_interval(uint64_t ns)
{
	uint64_t end_ns = term_now_ns() + ns, now;
	bool is_watched = isatty(STDERR_FILENO);
	int s = 0;

	for (; (now = term_now_ns()) < end_ns; s++) {
		uint64_t left = end_ns - now, step = left < 1000000000u ? left : 1000000000u;
		struct timespec pause = { (time_t)(step / 1000000000), (long)(step % 1000000000) };
		uint64_t to_go_s = (left + 999999999) / 1000000000;

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

static bool feeds(const struct wire_probe *p, const char *counter)
{
	for (size_t at = 0, n; (n = probe_counter(p, at)) > 0; at += n + (p->counters[at + n] == ' '))
		if (strlen(counter) == n && !strncmp(p->counters + at, counter, n))
			return true;
	return false;
}

static const struct wire_probe *find(const struct look *look, const char *name)
{
	for (uint32_t i = 0; i < look->probes_nr; i++)
		if (!strcmp(look->probes[i].name, name))
			return &look->probes[i];
	return NULL;
}

/* Was it all attached, from the first look to the second? Adds up what is known to be lost. */
static bool is_attached(const struct drift *d, struct check *check)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < d->first.probes_nr; i++) {
		const struct wire_probe *p = &d->first.probes[i], *now;

		if (!feeds(p, check->book->counter))
			continue;
		nr++;
		now = find(&d->second, p->name);
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

/* By how much a book went up. */
static uint64_t gone_up(const struct book *from, const struct book *to)
{
	uint64_t up = to->nr - from->nr;

	return from->wraps && to->nr < from->nr ? up & UINT32_MAX : up;
}

static void judge(const struct drift *d, size_t i)
{
	struct check *check = &d->checks[i];
	const struct book *book = check->book, *books[3];
	int64_t slack = (int64_t)d->under_way * book->grain, low, high;

	check->verdict = VERDICT_UNKNOWN;
	if (!is_attached(d, check))
		return;
	books[0] = books_find(&d->first.after, book->source);
	books[1] = books_find(&d->second.before, book->source);
	books[2] = books_find(&d->second.after, book->source);
	check->ours = d->second.ours[i] - d->first.ours[i];
	if (!books[0] || !books[1] || !books[2] || check->ours < 0) {
		snprintf(check->why, sizeof(check->why), "%s", check->ours < 0 ?
			 "the counter began anew meanwhile" : "the book changed meanwhile");
		return;
	}
	check->low = gone_up(books[0], books[1]);
	check->high = gone_up(book, books[2]);
	low = (int64_t)(check->low - check->missed) - slack;
	high = (int64_t)check->high + slack;
	if (check->ours < low)
		check->outside = check->ours - low;
	else if (check->ours > high)
		check->outside = check->ours - high;
	if (!check->outside)
		check->verdict = VERDICT_OK;
	else if (book->allows & (check->outside > 0 ? BOOK_MORE : BOOK_LESS))
		check->verdict = VERDICT_EXPECTED;
	else
		check->verdict = VERDICT_DRIFT;
}

/* --- showing -------------------------------------------------------------------------------- */

static json_t *check_json(const struct check *check)
{
	const struct book *book = check->book;
	json_t *one = json_pack("{s:o, s:o, s:o, s:s}", "name", json_base(check->name), "labels",
				json_labels(check->name), "source", json_text(book->source), "state",
				verdicts[check->verdict]);

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
		json_object_set_new(one, "expected", json_text(book->word));
		json_object_set_new(one, "why", json_text(book->why));
	}
	return one;
}

static int drift_json(const struct drift *d)
{
	json_t *doc = json_schema(), *list = json_array();

	for (size_t i = 0; i < d->nr; i++)
		if (d->checks[i].is_wanted)
			json_array_append_new(list, check_json(&d->checks[i]));
	json_object_set_new(doc, "namespace", json_text(d->st.namespace_name));
	json_object_set_new(doc, "interval_ns", json_integer((json_int_t)d->interval_ns));
	json_object_set_new(doc, "under_way", json_integer(d->under_way));
	json_object_set_new(doc, "counters", list);
	return json_finish(doc);
}

static void print_lines(const struct drift *d)
{
	for (size_t i = 0; i < d->nr; i++) {
		const struct check *check = &d->checks[i];

		if (!check->is_wanted)
			continue;
		if (check->verdict == VERDICT_UNKNOWN)
			printf("%s - - - - unknown\n", check->name);
		else
			printf("%s %" PRId64 " %" PRIu64 " %" PRIu64 " %" PRId64 " %s\n", check->name,
			       check->ours, check->low, check->high, check->outside,
			       verdicts[check->verdict]);
	}
}

/* What stood still on both sides is only counted, unless it was asked for by name. */
static bool is_shown(const struct drift *d, const struct check *check)
{
	return check->is_wanted && check->verdict != VERDICT_UNKNOWN &&
	       (d->c->args_nr || check->ours || check->high);
}

static void print_row(const struct check *check, int width)
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
		printf(" (%s)", check->book->word);
	if (check->missed)
		printf(", %" PRIu64 " missed", check->missed);
	show_style(stdout, SHOW_PLAIN);
	putchar('\n');
}

/* Once for each word that stands in the table. */
static void print_words(const struct drift *d)
{
	for (size_t i = 0; i < d->nr; i++) {
		const struct check *check = &d->checks[i];
		bool is_first = is_shown(d, check) && check->verdict == VERDICT_EXPECTED;

		for (size_t j = 0; j < i; j++)
			is_first &= !(is_shown(d, &d->checks[j]) &&
				      d->checks[j].verdict == VERDICT_EXPECTED &&
				      d->checks[j].book->word == check->book->word);
		if (is_first)
			show_line(check->book->word, "%s", check->book->why);
	}
}

/* What cannot be compared: each counter once, with why. */
static void print_unknown(const struct drift *d)
{
	for (size_t i = 0; i < d->nr; i++) {
		const struct check *check = &d->checks[i];
		bool is_first = check->is_wanted && check->verdict == VERDICT_UNKNOWN;

		for (size_t j = 0; j < i; j++)
			is_first &= !(d->checks[j].is_wanted &&
				      d->checks[j].verdict == VERDICT_UNKNOWN &&
				      !strcmp(d->checks[j].book->counter, check->book->counter));
		if (is_first)
			show_line("unknown", "%s: %s", check->book->counter, check->why);
	}
}

static void print_table(const struct drift *d)
{
	int width = NAME_LEAST, most = show.columns - 66;
	size_t shown = 0, still = 0;

	for (size_t i = 0; i < d->nr; i++) {
		const struct check *check = &d->checks[i];

		if (is_shown(d, check) && show_width(check->name) > width)
			width = show_width(check->name);
		shown += is_shown(d, check);
		still += check->is_wanted && check->verdict != VERDICT_UNKNOWN && !is_shown(d, check);
	}
	width = width > most && most > NAME_LEAST ? most : width > most ? NAME_LEAST : width;
	if (shown) {
		show_style(stdout, SHOW_BOLD);
		printf("%-*s  %13s  %23s  %9s  %s", width, "COUNTER", "OURS", "THE KERNEL'S OWN BOOK",
		       "DRIFT", "VERDICT");
		show_style(stdout, SHOW_PLAIN);
		putchar('\n');
	}
	for (size_t i = 0; i < d->nr; i++)
		if (is_shown(d, &d->checks[i]))
			print_row(&d->checks[i], width);
	if (still)
		printf("%zu more stood still on both sides\n", still);
	if (shown)
		putchar('\n');
	print_words(d);
	print_unknown(d);
}

/* --- the verb ------------------------------------------------------------------------------- */

static void check_name(struct check *check, const struct book *book)
{
	check->book = book;
	if (book->label[0])
		snprintf(check->name, sizeof(check->name), "%s{%s=\"%.*s\"}", book->counter,
			 book->label, (int)strcspn(book->values, "|"), book->values);
	else
		snprintf(check->name, sizeof(check->name), "%s", book->counter);
}

/* Which are meant? One that names a counter without a second source is told so. */
static int checks_pick(struct drift *d)
{
	const struct cli *c = d->c;
	int rc = CLI_OK;

	for (size_t i = 0; i < d->nr; i++) {
		check_name(&d->checks[i], &d->first.before.list[i]);
		d->checks[i].is_wanted = !c->args_nr;
	}
	for (size_t a = 0; a < c->args_nr; a++) {
		bool is_hit = false;

		for (size_t i = 0; i < d->nr; i++)
			if (name_match(c->args[a], d->checks[i].name))
				d->checks[i].is_wanted = is_hit = true;
		if (is_hit)
			continue;
		fprintf(stderr, "talea drift: the kernel keeps no book that says what %s is. which it "
				"keeps: talea drift\n", c->args[a]);
		rc = CLI_NO_MATCH;
	}
	return rc;
}

static int verdict_of_all(const struct drift *d)
{
	size_t known = 0, drifted = 0;

	for (size_t i = 0; i < d->nr; i++) {
		known += d->checks[i].is_wanted && d->checks[i].verdict != VERDICT_UNKNOWN;
		drifted += d->checks[i].is_wanted && d->checks[i].verdict == VERDICT_DRIFT;
	}
	if (drifted) {
		fprintf(stderr, "%zu counter%s what the kernel's own book does not. whether a probe "
				"missed runs: talea probes\n",
			drifted, drifted == 1 ? " says" : "s say");
		return CLI_DRIFT;
	}
	if (known)
		return CLI_OK;
	fprintf(stderr, "talea drift: nothing was compared: none of it is attached. try: talea "
			"probes\n");
	return CLI_FAILED;
}

/* Is the keeper in this process's network namespace? Who may not look cannot tell. */
static int network_look(struct drift *d)
{
	const struct wire_answer *answer;
	char path[64], own[64], its[64];
	ssize_t own_bytes, its_bytes;
	int rc = ask_worker(d->ask, WIRE_STATUS, NULL, 0, &answer);

	if (rc != CLI_OK)
		return rc;
	snprintf(path, sizeof(path), "/proc/%u/ns/net",
		 ((const struct wire_status *)(const void *)answer->records)->keeper_pid);
	own_bytes = readlink("/proc/self/ns/net", own, sizeof(own));
	its_bytes = readlink(path, its, sizeof(its));
	d->is_same_network = own_bytes > 0 && own_bytes == its_bytes &&
			     !memcmp(own, its, (size_t)own_bytes);
	return CLI_OK;
}

static int drift_run(struct drift *d)
{
	int rc = network_look(d), json_rc;

	if (rc == CLI_OK)
		rc = look(d, &d->first.before, &d->first);
	if (rc != CLI_OK)
		return rc;
	d->nr = d->first.before.nr;
	d->checks = calloc(d->nr + 1, sizeof(*d->checks));
	if (!d->checks)
		return attach_failed(NULL, "drift", -ENOMEM);
	rc = checks_pick(d);
	if (rc != CLI_OK)
		return rc;
	wait_interval(d->interval_ns);
	rc = look(d, &d->first.before, &d->second);
	if (rc != CLI_OK)
		return rc;
	for (size_t i = 0; i < d->nr; i++)
		judge(d, i);
	json_rc = CLI_OK;
	if (d->c->json)
		json_rc = drift_json(d);
	else if (show.is_tty)
		print_table(d);
	else
		print_lines(d);
	fflush(stdout);
	rc = verdict_of_all(d);
	return rc == CLI_OK ? json_rc : rc;
}

int verb_drift(struct cli *c)
{
	struct drift d = { .c = c, .interval_ns = c->interval_ns ? c->interval_ns : INTERVAL_NS };
	int rc = attach_open(c, TALEA_READ_ONLY, &d.t, &d.st);

	d.under_way = (uint32_t)sysconf(_SC_NPROCESSORS_CONF);
	if (rc == CLI_OK)
		rc = ask_open(&d.st, &d.ask);
	if (rc == CLI_OK)
		rc = drift_run(&d);
	look_fini(&d.first);
	look_fini(&d.second);
	free(d.checks);
	ask_close(d.ask);
	talea_close(d.t);
	return rc;
}

/*
 * The verb `add`: declares or finds one counter, level or family member by its full name and adds to
 * it, for shells. Owns nothing; called from the table of verbs.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/names.h"
#include "tools/cli.h"
#include "tools/expo/json.h"
#include "tools/expo/pick.h"
#include "tools/show/show.h"

#define LABELS_MAX 64
#define SYNC_MS 1000

/* The parts of a name: its base, then label, value, ..., NULL as the library takes them. */
struct full_name {
	char canonical[NAME_DISPLAY_MAX + 1];
	char text[NAME_DISPLAY_MAX + 1];
	const char *base;
	const char *labels[2 * LABELS_MAX + 1];
	size_t labels_nr;
};

static int full_name_parse(struct full_name *n, const char *text)
{
	char *to, *at;
	int rc;

	rc = name_normalise(text, n->canonical, sizeof(n->canonical));
	if (rc < 0)
		return rc;
	strcpy(n->text, n->canonical);
	n->base = n->text;
	n->labels_nr = 0;
	at = strchr(n->text, '{');
	if (at)
		*at++ = '\0';
	while (at && *at && *at != '}') {
		char *value = strchr(at, '=');

		if (!value || value[1] != '"' || n->labels_nr == LABELS_MAX)
			return -EINVAL;
		*value = '\0';
		n->labels[2 * n->labels_nr] = at;
		n->labels[2 * n->labels_nr++ + 1] = value + 1;
		/* The value moves to the left, over its opening quote and its escapes. */
		for (to = value + 1, at = value + 2; *at && *at != '"'; at++) {
			if (*at == '\\' && at[1])
				*to++ = *++at == 'n' ? '\n' : *at;
			else
				*to++ = *at;
		}
		at += *at == '"';
		at += *at == ',';
		*to = '\0';
	}
	n->labels[2 * n->labels_nr] = NULL;
	return 0;
}

struct known {
	const char *base;
	char help[SHM_NAME_MAX + 1];
	enum talea_type type;
	enum talea_origin origin;
	bool is_found;
};

static int known_visit(const char *name, const struct talea_total *total, void *arg)
{
	struct known *k = arg;
	size_t len = strlen(k->base);

	if (strncmp(name, k->base, len) || (name[len] && name[len] != '{'))
		return 0;
	snprintf(k->help, sizeof(k->help), "%s", total->help ? total->help : "");
	k->type = total->type;
	k->origin = total->origin;
	k->is_found = true;
	return 1;
}

/* The handle of either kind; struct talea_level holds the same pointer. */
union handle {
	struct talea_counter counter;
	struct talea_level level;
};

static int declare_family(struct talea *t, const struct full_name *n, const struct known *k,
			  bool is_u64, struct talea_family *ret)
{
	char label[SHM_NAME_MAX + 8];

	snprintf(label, sizeof(label), "%s%s", n->labels[0], is_u64 ? ":u64" : "");
	if (k->type == TALEA_TYPE_LEVEL)
		return talea_level_family(t, ret, n->base, k->help, label);
	return talea_family(t, ret, n->base, k->help, label);
}

static bool parse_u64(const char *text, uint64_t *ret)
{
	char *end;

	errno = 0;
	*ret = strtoull(text, &end, 10);
	return !errno && !*end && text[0] >= '0' && text[0] <= '9' && (text[0] != '0' || !text[1]);
}

/*
 * Are the family's keys numbers? The name does not show it, and a process may declare a family in one
 * way only; so a child process tries.
 */
static bool has_u64_keys(struct talea *t, const struct full_name *n, const struct known *k)
{
	struct talea_family f;
	int status = 0;
	pid_t child;

	fflush(NULL);
	child = fork();
	if (child == 0)
		_exit(declare_family(t, n, k, true, &f) ? 1 : 0);
	return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

static int find_member(struct talea *t, const struct full_name *n, const struct known *k,
		       union handle *ret)
{
	const void *value = n->labels[1];
	size_t len = strlen(n->labels[1]);
	struct talea_family f;
	uint64_t number;
	bool is_u64;
	int rc;

	is_u64 = parse_u64(n->labels[1], &number) && has_u64_keys(t, n, k);
	rc = declare_family(t, n, k, is_u64, &f);
	if (rc)
		return rc;
	if (is_u64) {
		value = &number;
		len = sizeof(number);
	}
	if (k->type == TALEA_TYPE_LEVEL)
		return talea_level_family_get(&f, value, len, &ret->level);
	return talea_family_get(&f, value, len, &ret->counter);
}

/*
 * Finds or declares the name. A name with one label may be a member of a family, and the library does
 * not say so: when the declaration of a plain counter conflicts, the family calls are tried.
 */
static int find_handle(struct talea *t, const struct full_name *n, const struct known *k,
		union handle *ret)
{
	int rc;

	if (k->type == TALEA_TYPE_LEVEL)
		rc = talea_level_v(t, &ret->level, n->base, k->help, 0, n->labels);
	else
		rc = talea_counter_v(t, &ret->counter, n->base, k->help, n->labels);
	if (rc != -EEXIST || n->labels_nr != 1 || !k->is_found)
		return rc;
	return find_member(t, n, k, ret);
}

static int parse_n(const struct cli *c, int64_t *ret)
{
	char *end;
	long long n;

	*ret = 1;
	if (c->args_nr < 2)
		return CLI_OK;
	errno = 0;
	n = strtoll(c->args[1], &end, 10);
	if (errno || end == c->args[1] || *end)
		return cli_fail(c, CLI_USAGE, "%s is not a whole number between -2^63 and 2^63 - 1",
				c->args[1]);
	*ret = n;
	return CLI_OK;
}

/* What is known of the name before it is declared. */
static int known_find(const struct cli *c, const struct full_name *n, struct known *ret)
{
	struct talea *t = c->session.t;
	struct talea_total total = { .size = sizeof(total) };
	size_t len = strlen(n->base);
	int rc;

	*ret = (struct known){ .base = n->base, .type = TALEA_TYPE_LEVEL };
	if (len > 6 && !strcmp(n->base + len - 6, "_total"))
		ret->type = TALEA_TYPE_COUNTER;
	/* The name itself, or else one of the same base: they share type and help. */
	if (talea_read_name(t, n->canonical, TALEA_COMPACTED, 0, &total) == 0) {
		known_visit(n->canonical, &total, ret);
	} else {
		rc = pick_walk(t, n->base, TALEA_COMPACTED, known_visit, ret);
		if (rc < 0)
			return session_failed(c, rc);
	}
	if (!ret->is_found)
		snprintf(ret->help, sizeof(ret->help), "%s",
			 c->describe ? c->describe : "Added from the shell.");
	return CLI_OK;
}

/* The total after the add: in JSON, or in a sentence on a terminal. */
static int report(const struct cli *c, const struct full_name *n, const struct known *k,
		  int64_t added)
{
	struct talea *t = c->session.t;
	struct talea_total total = { .size = sizeof(total) };
	char a[SHOW_TEXT], b[SHOW_TEXT];
	json_t *doc;
	int rc;

	rc = talea_sync(t, SYNC_MS);
	if (rc)
		cli_fail(c, CLI_FAILED, "added, but not in the published total yet: %s",
			 talea_strerror(t, rc));
	rc = talea_read_name(t, n->canonical, TALEA_COMPACTED, 0, &total);
	if (!c->json) {
		if (!rc && show.is_tty)
			fprintf(stderr, "%s: %s added, the total is %s\n", n->canonical,
				show_exact(a, added), show_exact(b, total.value));
		return CLI_OK;
	}
	doc = json_document(c->session.st.namespace_name);
	json_object_set_new(doc, "added", json_integer(added));
	json_object_set_new(doc, "declared", json_boolean(!k->is_found));
	json_object_set_new(doc, "counter", rc ? json_null() : json_counter(n->canonical, &total));
	return cli_json(doc);
}

static int add(const struct cli *c, const struct full_name *n, int64_t number)
{
	struct known known;
	union handle handle;
	bool is_unlabelled;
	int rc;

	rc = known_find(c, n, &known);
	if (rc != CLI_OK)
		return rc;
	if (known.origin != TALEA_USER)
		return cli_fail(c, CLI_USAGE,
				"%s is counted by %s. fix: take a name that does not begin with "
				"kernel_ or talea_", n->base,
				known.origin == TALEA_KERNEL ? "the kernel's probes" :
							       "talea itself");
	if (known.type == TALEA_TYPE_COUNTER && number < 0)
		return cli_fail(c, CLI_USAGE,
				"%s is a counter, which only goes up. fix: a name without _total "
				"is a level", n->base);
	rc = find_handle(c->session.t, n, &known, &handle);
	if (rc) {
		is_unlabelled = rc == -EEXIST && known.is_found && !n->labels_nr;
		rc = session_failed(c, rc);
		if (is_unlabelled)
			fprintf(stderr, "its members: talea list %s\n", n->base);
		return rc;
	}
	if (known.type == TALEA_TYPE_COUNTER)
		talea_add(handle.counter, (uint64_t)number);
	else
		talea_level_add(handle.level, number);
	return report(c, n, &known, number);
}

/* Refuses wrong arguments. */
int verb_add_begin(struct cli *c)
{
	struct full_name *n = malloc(sizeof(*n));
	int64_t number;
	int rc;

	if (!n)
		return session_failed(c, -ENOMEM);
	rc = parse_n(c, &number);
	if (rc == CLI_OK && full_name_parse(n, c->args[0]))
		rc = cli_fail(c, CLI_USAGE,
			      "%s is not a name such as hello_total or hello_total{lang=\"en\"}",
			      c->args[0]);
	free(n);
	return rc;
}

int verb_add(struct cli *c)
{
	struct full_name *n = malloc(sizeof(*n));
	int64_t number;
	int rc;

	if (!n || full_name_parse(n, c->args[0])) /* as verb_add_begin did */
		rc = session_failed(c, -ENOMEM);
	else
		rc = parse_n(c, &number) == CLI_OK ? add(c, n, number) : CLI_USAGE;
	free(n);
	return rc;
}

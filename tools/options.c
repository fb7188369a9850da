/*
 * The command line: the table of options, and from argv to struct cli, with the nearest match for a
 * word that talea does not know. Owns no verb. getopt does not fit: `-5` is an argument of `talea
 * add`, options may stand before the verb, and each verb takes its own.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/base/clock.h"
#include "shm/base/near.h"
#include "shm/base/text.h"
#include "tools/cli.h"
#include "tools/select.h"
#include "tools/show/show.h"

#define INTERVAL_LEAST_NS (10 * NS_PER_MS)

const struct option_spec cli_options[OPTION_NR] = {
	[OPTION_HELP] = { "help", 'h', NULL, "Say what talea, or the verb, does." },
	[OPTION_JSON] = { "json", 0, NULL, "Print JSON, \"schema\": 1." },
	[OPTION_NAMESPACE] = { "namespace", 'n', "NAME",
			       "The namespace; else $TALEA_NAMESPACE, else default." },
	[OPTION_SOCKET] = { "socket", 0, "PATH",
			    "The daemon's socket; else $TALEA_SOCKET, the user's, the system's." },
	[OPTION_EXCLUDE] = { "exclude", 0, "GLOB", "Leave these out. May be repeated." },
	[OPTION_SUM] = { "sum", 0, NULL, "Add up the shards now." },
	[OPTION_COMPACTED] = { "compacted", 0, NULL, "Read the newest fold (the default)." },
	[OPTION_MAX_AGE] = { "max-age", 0, "AGE",
			     "End with 5 when the totals are older, as 50ms." },
	[OPTION_WATCH] = { "watch", 0, "[=INTERVAL]",
			   "Repeat every second, or every INTERVAL." },
	[OPTION_DESCRIBE] = { "describe", 0, "TEXT", "The help of a new name." },
	[OPTION_HEAT] = { "heat", 0, NULL, "Take samples for a second, and draw a map of them." },
	[OPTION_FORMAT] = { "format", 0, "FORMAT", "openmetrics (the default), csv or ndjson." },
	[OPTION_COLD] = { "cold", 0, NULL, "Never give it a row, instead of always." },
	[OPTION_APPLY] = { "apply", 0, NULL, "Make the change; without this only show it." },
	[OPTION_DRY_RUN] = { "dry-run", 0, NULL, "Only show what would change." },
	[OPTION_REPLACE] = { "replace", 0, NULL,
			     "The probe of that name begins anew, in its new layout." },
	[OPTION_COST] = { "cost", 0, "[=TIME]", "Measure for a second, or TIME, what runs cost." },
	[OPTION_AVAILABLE] = { "available", 0, "GLOB", "List what can be attached here instead." },
	[OPTION_INTERVAL] = { "interval", 0, "TIME", "How long to compare; 2s by default." },
};

const struct verb *cli_verb_find(const char *name)
{
	for (size_t i = 0; i < cli_verbs_nr; i++)
		if (!strcmp(cli_verbs[i].name, name))
			return &cli_verbs[i];
	return NULL;
}

int cli_unknown_verb(const char *word)
{
	const char *nearest = NULL;
	uint32_t best = NEAR_FAR;

	for (size_t i = 0; i < cli_verbs_nr; i++) {
		uint32_t d = near_distance(word, cli_verbs[i].name);

		/* A word that was cut short stands for the verb that it begins. */
		if (*word && !strncmp(word, cli_verbs[i].name, strlen(word)))
			d = 0;
		if (d < best) {
			best = d;
			nearest = cli_verbs[i].name;
		}
	}
	fprintf(stderr, "talea: no verb %s", word);
	if (near_is_meant(best, word))
		fprintf(stderr, "; did you mean %s?\n", nearest);
	else
		fprintf(stderr, ". try: talea help\n");
	return CLI_USAGE;
}

static const char *verb_name(const struct cli *c)
{
	return c->verb ? c->verb->name : "";
}

static const char *verb_space(const struct cli *c)
{
	return c->verb ? " " : "";
}

int cli_fail(const struct cli *c, enum cli_exit exit, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "talea%s%s: ", verb_space(c), verb_name(c));
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return exit;
}

static int option_unknown(const struct cli *c, const char *word)
{
	uint32_t allowed = c->verb ? c->verb->options | OPTIONS_GLOBAL : UINT32_MAX;
	const char *name = word + strspn(word, "-");
	const char *nearest = NULL;
	uint32_t best = NEAR_FAR;

	for (int i = 0; i < OPTION_NR; i++) {
		uint32_t d = near_distance(name, cli_options[i].name);

		if (!(allowed & OPTION_BIT(i)) || d >= best)
			continue;
		best = d;
		nearest = cli_options[i].name;
	}
	fprintf(stderr, "talea%s%s: no option %s", verb_space(c), verb_name(c), word);
	if (near_is_meant(best, name))
		fprintf(stderr, "; did you mean --%s?\n", nearest);
	else
		fprintf(stderr, ". try: talea help%s%s\n", verb_space(c), verb_name(c));
	return CLI_USAGE;
}

static int set_duration(const struct cli *c, enum option_id id, const char *value,
			uint64_t least_ns, uint64_t *ret_ns)
{
	if (text_duration_decimal(value, ret_ns) == 0 && *ret_ns >= least_ns)
		return CLI_OK;
	return cli_fail(c, CLI_USAGE, "--%s: %s is not a time such as 50ms, 1s or 2m%s",
			cli_options[id].name, value, least_ns > 1 ? ", 10ms at least" : "");
}

/* The statistics slow every BPF program of the machine, so they may not run for long. */
static int set_cost(struct cli *c, const char *value)
{
	int rc = set_duration(c, OPTION_COST, value, INTERVAL_LEAST_NS, &c->cost_ns);

	if (rc == CLI_OK && c->cost_ns > WIRE_COST_MS_MAX * NS_PER_MS)
		return cli_fail(c, CLI_USAGE, "--cost: %s is too long; 10s at most", value);
	return rc;
}

static int set_option(struct cli *c, enum option_id id, char *value)
{
	switch (id) {
	case OPTION_HELP:
		c->help = true;
		break;
	case OPTION_JSON:
		c->json = true;
		break;
	case OPTION_NAMESPACE:
		c->ns = value;
		break;
	case OPTION_SOCKET:
		c->socket = value;
		break;
	case OPTION_EXCLUDE:
		c->excludes[c->excludes_nr] = select_quote(value);
		return c->excludes[c->excludes_nr++] ? CLI_OK : CLI_FAILED;
	case OPTION_SUM:
		c->how = TALEA_SUM;
		break;
	case OPTION_COMPACTED:
		c->how = TALEA_COMPACTED;
		break;
	case OPTION_MAX_AGE:
		return set_duration(c, id, value, 1, &c->max_age_ns);
	case OPTION_WATCH:
		return set_duration(c, id, value ? value : "1s", INTERVAL_LEAST_NS, &c->watch_ns);
	case OPTION_DESCRIBE:
		c->describe = value;
		break;
	case OPTION_HEAT:
		c->heat = true;
		break;
	case OPTION_FORMAT:
		c->format = value;
		break;
	case OPTION_COLD:
		c->cold = true;
		break;
	case OPTION_APPLY:
		c->apply = true;
		break;
	case OPTION_DRY_RUN:
		c->dry_run = true;
		break;
	case OPTION_REPLACE:
		c->replace = true;
		break;
	case OPTION_COST:
		return set_cost(c, value ? value : "1s");
	case OPTION_AVAILABLE:
		c->available = value;
		break;
	case OPTION_INTERVAL:
		return set_duration(c, id, value, INTERVAL_LEAST_NS, &c->interval_ns);
	case OPTION_NR:
		return CLI_USAGE;
	}
	return CLI_OK;
}

/* Which option is `word` (up to len)? OPTION_NR: none. */
static enum option_id find_option(const char *word, size_t len)
{
	for (int i = 0; i < OPTION_NR; i++) {
		const struct option_spec *o = &cli_options[i];

		if (word[1] == '-' && strlen(o->name) == len - 2 &&
		    !strncmp(word + 2, o->name, len - 2))
			return i;
		if (word[1] != '-' && o->letter && word[1] == o->letter)
			return i;
	}
	return OPTION_NR;
}

/* Takes the option at argv[*at], and its value if it has one. */
static int take_option(struct cli *c, int argc, char **argv, int *at, uint32_t *seen)
{
	char *word = argv[*at];
	bool is_long = word[1] == '-';
	char *joined = is_long ? strchr(word, '=') : word[2] ? word + 2 : NULL;
	size_t len = joined && is_long ? (size_t)(joined - word) : is_long ? strlen(word) : 2;
	enum option_id id = find_option(word, len);
	const struct option_spec *o = &cli_options[id];

	if (id == OPTION_NR) {
		word[len] = '\0';
		return option_unknown(c, word);
	}
	if (joined && is_long)
		joined++;
	*seen |= OPTION_BIT(id);
	if (!o->arg)
		return joined ? cli_fail(c, CLI_USAGE, "--%s takes no value", o->name) :
				set_option(c, id, NULL);
	if (!joined && o->arg[0] != '[') {
		if (*at + 1 >= argc)
			return cli_fail(c, CLI_USAGE, "--%s needs %s", o->name, o->arg);
		joined = argv[++*at];
	}
	return set_option(c, id, joined);
}

/* A spec has blanks. Without quotes the shell makes several arguments of it. */
static void show_quotes(const struct cli *c)
{
	fputs("talea attach: a spec is one argument. try: talea attach '", stderr);
	for (size_t i = 0; i < c->args_nr; i++) {
		fputs(i ? " " : "", stderr);
		show_text(stderr, c->args[i]);
	}
	fputs("'\n", stderr);
}

/* Does the verb take these options and that many arguments? */
static int check_verb(const struct cli *c, uint32_t seen)
{
	uint32_t wrong = seen & ~(OPTIONS_GLOBAL | (c->verb ? c->verb->options : 0));

	if (c->help)
		return CLI_OK;
	if (wrong) {
		fprintf(stderr, "talea%s%s does not take --%s. try: talea help%s%s\n",
			verb_space(c), verb_name(c), cli_options[__builtin_ctz(wrong)].name,
			verb_space(c), verb_name(c));
		return CLI_USAGE;
	}
	if (!c->verb || (c->args_nr >= c->verb->args_min && c->args_nr <= c->verb->args_max))
		return CLI_OK;
	if (c->args_nr > 1 && !strcmp(c->verb->name, "attach")) {
		show_quotes(c);
		return CLI_USAGE;
	}
	return cli_fail(c, CLI_USAGE, "%s. usage: talea %s%s%s [OPTION...]",
			c->args_nr < c->verb->args_min ? "an argument is missing" :
							 "too many arguments",
			c->verb->name, *c->verb->args ? " " : "", c->verb->args);
}

static bool is_option(const char *word)
{
	return word[0] == '-' && word[1] && !(word[1] >= '0' && word[1] <= '9');
}

int cli_parse(struct cli *c, int argc, char **argv)
{
	bool is_open = true; /* no "--" yet */
	uint32_t seen = 0;
	int rc;

	c->args = calloc((size_t)argc + 1, sizeof(*c->args));
	c->excludes = calloc((size_t)argc + 1, sizeof(*c->excludes));
	if (!c->args || !c->excludes)
		return CLI_FAILED;
	for (int i = 1; i < argc; i++) {
		if (is_open && !strcmp(argv[i], "--")) {
			is_open = false;
		} else if (!c->verb && !strcmp(argv[i], "--version")) {
			c->verb = cli_verb_find("version");
		} else if (is_open && is_option(argv[i])) {
			rc = take_option(c, argc, argv, &i, &seen);
			if (rc != CLI_OK)
				return rc;
		} else if (!c->verb) {
			c->verb = cli_verb_find(argv[i]);
			if (!c->verb)
				return cli_unknown_verb(argv[i]);
		} else {
			c->args[c->args_nr] = select_quote(argv[i]);
			if (!c->args[c->args_nr++])
				return CLI_FAILED;
		}
	}
	return check_verb(c, seen);
}

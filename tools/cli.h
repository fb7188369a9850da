/*
 * The command line of `talea`: exit codes, options, the row of a verb, and the parsed arguments that
 * a verb runs with. Owns nothing; talea.c owns the table of verbs, options.c the table of options.
 * Every other file is one verb (or a few that share their work), or one helper with a header.
 *
 * Data goes to stdout, words to stderr; a verb returns one of enum cli_exit.
 */
#ifndef TOOLS_CLI_H
#define TOOLS_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <talea.h>

#include "tools/session.h"

enum cli_exit {
	CLI_OK = 0,
	CLI_FAILED = 1,
	CLI_USAGE = 2,
	CLI_NO_DAEMON = 3,
	CLI_NO_MATCH = 4,
	CLI_STALE = 5,
	CLI_DRIFT = 6,
	CLI_PERMISSION = 7,
	CLI_PIPE = 141, /* what a shell shows for SIGPIPE */
};

enum option_id {
	OPTION_HELP,
	OPTION_JSON,
	OPTION_NAMESPACE,
	OPTION_SOCKET,
	OPTION_EXCLUDE,
	OPTION_SUM,
	OPTION_COMPACTED,
	OPTION_MAX_AGE,
	OPTION_WATCH,
	OPTION_DESCRIBE,
	OPTION_HEAT,
	OPTION_FORMAT,
	OPTION_COLD,
	OPTION_APPLY,
	OPTION_DRY_RUN,
	OPTION_REPLACE,
	OPTION_COST,
	OPTION_AVAILABLE,
	OPTION_INTERVAL,
	OPTION_NR,
};

struct option_spec {
	const char *name; /* without the dashes */
	char letter;	  /* 0: none */
	const char *arg;  /* NULL: takes none; "[=INTERVAL]": optional, joined by '=' */
	const char *help;
};
extern const struct option_spec cli_options[OPTION_NR];
#define OPTION_BIT(id)	(1u << (id))
#define OPTIONS_GLOBAL \
	(OPTION_BIT(OPTION_HELP) | OPTION_BIT(OPTION_JSON) | OPTION_BIT(OPTION_NAMESPACE) | \
	 OPTION_BIT(OPTION_SOCKET))

struct cli;
struct verb {
	const char *name;
	const char *args;   /* as shown in the usage line */
	const char *help;   /* one line */
	const char *detail; /* the rest of `talea help VERB` */
	uint32_t options;   /* besides the global ones */
	uint32_t args_min, args_max;
	enum session_needs needs; /* the session that run() finds open */
	/* Runs before the session is opened: refuses arguments, or does what needs no daemon. CLI_OK: a
	 * session is opened and run() follows. NULL: nothing to do. */
	int (*begin)(struct cli *c);
	int (*run)(struct cli *c);
};
extern const struct verb cli_verbs[];
extern const size_t cli_verbs_nr;

struct cli {
	const struct verb *verb; /* NULL: `talea` alone */
	const char *ns, *socket; /* NULL: the library's defaults */
	struct session session;
	char **args;
	size_t args_nr;
	char **excludes;
	size_t excludes_nr;
	enum talea_how how;
	bool json, help;
	bool heat, cold, apply, dry_run, replace;
	uint64_t max_age_ns;   /* 0: any */
	uint64_t watch_ns;     /* 0: once */
	uint64_t cost_ns;      /* of `probes`: how long to measure; 0: do not */
	uint64_t interval_ns;  /* of `drift` */
	const char *describe;
	const char *format;    /* of `export` */
	const char *available; /* of `probes`: a glob */
};

/* Fills *c from the arguments. CLI_OK, or CLI_USAGE with a message. */
int cli_parse(struct cli *c, int argc, char **argv);
const struct verb *cli_verb_find(const char *name);
/* Writes "no verb WORD; did you mean ...?" to stderr. CLI_USAGE. */
int cli_unknown_verb(const char *word);
/* Writes "talea VERB: ..." to stderr and returns exit. */
int cli_fail(const struct cli *c, enum cli_exit exit, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Writes one JSON document and a newline to stdout, and frees it. CLI_OK or CLI_FAILED. */
int cli_json(json_t *doc);

int verb_overview(struct cli *c);
int verb_status(struct cli *c);
int verb_list(struct cli *c);
int verb_get(struct cli *c);
int verb_watch_begin(struct cli *c);
int verb_watch(struct cli *c);
int verb_explain(struct cli *c);
int verb_lanes(struct cli *c);
int verb_clients(struct cli *c);
int verb_history(struct cli *c);
int verb_export_begin(struct cli *c);
int verb_export(struct cli *c);
int verb_add_begin(struct cli *c);
int verb_add(struct cli *c);
int verb_pin(struct cli *c);
int verb_unpin(struct cli *c);
int verb_forget(struct cli *c);
int verb_accept(struct cli *c);
int verb_probes_begin(struct cli *c);
int verb_probes(struct cli *c);
int verb_attach_begin(struct cli *c);
int verb_attach(struct cli *c);
int verb_detach(struct cli *c);
int verb_drift(struct cli *c);
int verb_doctor(struct cli *c);
int verb_version(struct cli *c);
int verb_help(struct cli *c);
int verb_completion(struct cli *c);

#endif

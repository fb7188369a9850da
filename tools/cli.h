/*
 * What the verbs of `talea` share: the parsed command line, the tables of verbs and options, the
 * exit codes, and the helpers that attach, select, format and draw. Owns nothing; talea.c owns the
 * table of verbs, options.c the table of options, and every other file is one verb or one helper.
 *
 * Data goes to stdout, words to stderr; a verb returns one of enum cli_exit.
 */
#ifndef TOOLS_CLI_H
#define TOOLS_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <talea.h>

#include "shm/names.h"
#include "shm/wire_admin.h"

#define CLI_SCHEMA 1

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
#define OPTIONS_GLOBAL                                                           \
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
	int (*run)(struct cli *c);
};
extern const struct verb cli_verbs[];
extern const size_t cli_verbs_nr;

struct cli {
	const struct verb *verb; /* NULL: `talea` alone */
	const char *ns, *socket; /* NULL: the library's defaults */
	bool json, help;
	enum talea_how how;
	uint64_t max_age_ns; /* 0: any */
	uint64_t watch_ns;   /* 0: once */
	const char *describe;
	const char *format; /* of `export` */
	const char *available; /* of `probes`: a glob */
	uint64_t cost_ns;      /* of `probes`: so long; 0: not asked for */
	uint64_t interval_ns;  /* of `drift` */
	bool heat, cold, apply, dry_run, replace;
	char **args;
	size_t args_nr;
	bool *may_miss; /* by argument: no fault that it matches no counter; NULL: none may */
	char **excludes;
	size_t excludes_nr;
};

/* --- options.c: the command line ----------------------------------------------------------- */

/* Fills *c from the arguments. CLI_OK, or CLI_USAGE after saying what is wrong. */
int cli_parse(struct cli *c, int argc, char **argv);
const struct verb *cli_verb_find(const char *name);
/* "50ms", "1.5s", "2m"; a bare number is seconds. 0 or -EINVAL. */
int cli_duration(const char *text, uint64_t *ret_ns);
/* The distance between two words in single edits; near enough to be meant, or not. */
size_t cli_distance(const char *a, const char *b);
bool cli_is_near(size_t distance, const char *word);
/* Says "no such VERB here; did you mean ...?" on stderr. CLI_USAGE. */
int cli_unknown_verb(const char *word);

/* --- attach.c: the daemon, through the library ---------------------------------------------- */

/* Opens the library on the daemon that the options name. CLI_OK, or the exit code after saying why
 * not. The result is closed with talea_close. */
int attach_open(const struct cli *c, unsigned int flags, struct talea **ret,
		struct talea_status *ret_status);
/* The exit code for an error of the library, after saying what it means. */
int attach_failed(const struct talea *t, const char *what, int err);
int attach_exit(int err); /* the same without a word */

/* --- ask.c: the worker itself, over a connection of its own ---------------------------------- */

struct ask;
/* These three: CLI_OK, or the exit code after saying what is wrong. */
int ask_open(const struct talea_status *st, struct ask **ret); /* st lasts as long */
/* name may be NULL. The answer is the connection's until its next question. */
int ask_worker(struct ask *a, enum wire_query_what what, const char *name, uint64_t from,
	       const struct wire_answer **ret);
/* Tells what became of each name: 0, or an error with a sentence. */
typedef void ask_verdict(size_t idx, int err, const char *why, void *arg);
int ask_change(struct ask *a, enum wire_change_op op, const char *const *names, size_t nr,
	       ask_verdict *verdict, void *arg);
/* All probes, malloced. */
int ask_probes(struct ask *a, struct wire_probe **ret, uint32_t *ret_nr);
/* What an admin does to probes (wire.h); ret is untouched, or NULL for COST, which takes ms. */
int ask_probe(struct ask *a, const struct wire_probe_change *change, const char *text,
	      const struct wire_probe **ret);
void ask_close(struct ask *a); /* NULL is fine */
int ask_connect(const char *path); /* a socket, or -errno */

/* --- run.c: talead, for what the command line leaves to it ------------------------------------ */

/* Becomes `talead ARGS`, or returns the exit code after saying why not. args: a list with NULL. */
int run_become(const struct cli *c, const char *const *args);
/* Runs it and reads what it writes to stdout, malloced, NUL-terminated; its exit code in *ret_status.
 * CLI_OK, or the exit code after saying why not. */
int run_read(const struct cli *c, const char *const *args, char **ret, int *ret_status);

/* --- books.c: what the kernel counts itself -------------------------------------------------- */

/* What a kernel counter may be against the kernel's own book without being wrong. */
enum book_allows { BOOK_EXACT = 0, BOOK_MORE = 1, BOOK_LESS = 2, BOOK_EITHER = 3 };

/* One number of a file of /proc, and the counters whose sum it should be. */
struct book {
	char counter[64]; /* its name before the braces */
	char label[16];	  /* "": all label sets */
	char values[64];  /* of that label, with '|' between */
	char source[80];  /* "/proc/stat ctxt"; no two books have the same */
	enum book_allows allows;
	const char *word, *why; /* for what it allows */
	uint32_t grain; /* one event is so much at most */
	bool wraps;	/* at 2^32 */
	uint64_t nr;
};
struct books {
	struct book *list;
	size_t nr, max;
};
/* Reads all there are here; what this kernel has not is left out. is_same_network: talead is in this
 * process's network namespace. 0 or -ENOMEM. */
int books_read(struct books *ret, bool is_same_network);
const struct book *books_find(const struct books *books, const char *source);
void books_fini(struct books *books);

/* --- select.c: which counters -------------------------------------------------------------- */

typedef int select_visit(const char *name, const struct talea_total *total, void *arg);
/* Visits the counters that the arguments include and do not exclude, in order of registration.
 * CLI_OK; CLI_NO_MATCH (after naming the nearest, unless quiet) when an argument matched nothing;
 * otherwise the exit code of what failed, or what visit returned. */
int select_each(const struct cli *c, struct talea *t, bool is_quiet, select_visit *visit,
		void *arg);
/* talea_each, again while folds overtake it. */
int select_walk(struct talea *t, const char *glob, enum talea_how how, select_visit *visit,
		void *arg);
/* Says that glob matches no counter, and which name is near. */
void select_say_no_match(struct talea *t, const char *glob);
/* The counters that match, all of one epoch, kept for picks_fini. */
/* Its probe was detached: nothing counts it any more, and what it came to stays. */
static inline bool is_ended(enum talea_state state, int64_t value)
{
	return state == TALEA_UNKNOWN && value;
}

struct pick {
	char *name;
	const char *help; /* as long as t is open */
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
	uint64_t epoch, as_of_ns; /* of the newest; 0 when there is none */
};
int select_picks(const struct cli *c, struct talea *t, struct picks *ret); /* as select_each */
void picks_fini(struct picks *picks);
/* Rewrites NAME{label=value} with the quotes that shells take away. Malloced. */
char *select_quote(const char *text);

/* --- show.c: words and numbers for people -------------------------------------------------- */

enum show_style { SHOW_PLAIN, SHOW_BOLD, SHOW_GREY, SHOW_GOOD, SHOW_BAD, SHOW_RATE };

struct show {
	bool is_tty;  /* stdout is a terminal */
	bool color;   /* may use SGR */
	bool utf8;    /* may use more than ASCII */
	int columns;
	int lines;
};
extern struct show show;
#define SHOW_TEXT 40

void show_init(void);
void show_measure(void); /* the size of the terminal, again */
void show_style(FILE *f, enum show_style style);
/* Each writes into a buffer of SHOW_TEXT bytes and returns it. */
const char *show_exact(char *buf, int64_t value);     /* 12,345,678 */
const char *show_human(char *buf, int64_t value);     /* 12.35 M */
const char *show_rate(char *buf, double rate);	      /* 1.234 k, or - when not known */
const char *show_speed(char *buf, double rate);	      /* the same outside of columns */
const char *show_ns(char *buf, uint64_t ns);	      /* 41 us, 6 ms, 2 h 14 min */
const char *show_bytes(char *buf, uint64_t bytes);    /* 12.3 MiB */
const char *show_time(char *buf, uint64_t real_ns);   /* 2026-11-23 20:06:39, local */
const char *show_clock(char *buf, uint64_t real_ns);  /* 20:06:39, local */
const char *show_utc(char *buf, uint64_t real_ns);    /* RFC 3339 */
/* Writes text in exactly `width` columns: padded, or cut in its middle; control characters, which
 * could drive the terminal, shown as '?'. */
void show_padded(FILE *f, const char *text, int width);
void show_text(FILE *f, const char *text); /* all of it */
void show_name(FILE *f, const char *name); /* exact where a program reads it, else as show_text */
/* A line of a report: a label in bold, then the words. */
void show_line(const char *label, const char *format, ...) __attribute__((format(printf, 2, 3)));
void show_bar(FILE *f, double share, int columns); /* share of 1 */
void show_shade(FILE *f, double share);		   /* one column, the darker the more */
const char *show_user(char *buf, uint32_t uid);	   /* a name, or the number */
int show_width(const char *text);
void show_spark(FILE *f, const float *history, size_t nr, int columns);
uint64_t show_now_ns(void); /* CLOCK_REALTIME */

/* --- table.c: counters in aligned columns -------------------------------------------------- */

struct row {
	char *name;
	struct talea_total total;
};
struct table {
	struct row *rows;
	size_t nr, max;
};
enum table_flags { TABLE_AGE = 1, TABLE_GREY = 2, TABLE_HEAD = 4, TABLE_FRAME = 8 };
int table_put(struct table *table, const char *name, const struct talea_total *total);
void table_cut(struct table *table, size_t nr); /* keeps the first nr */
void table_clear(struct table *table);
void table_fini(struct table *table);
/* name_width keeps columns steady from batch to batch; 0 at first. TABLE_FRAME ends each line by
 * erasing what an earlier frame left there. */
void table_print(FILE *f, const struct table *table, size_t nr, unsigned int flags,
		 int *name_width);

/* --- group.c: many counters on one screen -------------------------------------------------- */

struct groups {
	void *tree;
};
void groups_begin(struct groups *groups);
int groups_add(struct groups *groups, const char *name, const struct talea_total *total);
void groups_fini(struct groups *groups);
/* Puts at most room lines into *ret: rows in their order, label sets of one name as their sum and the
 * first of them in `busiest`, which holds the same rows by rate. *ret_hidden: rows not shown. */
int groups_fit(const struct groups *groups, const struct table *rows, const struct table *busiest,
	       size_t room, struct table *ret, size_t *ret_hidden);

/* --- verbs/history.c ------------------------------------------------------------------------ */

const char *cli_why(uint32_t why); /* enum shm_why in one word; NULL: none */

/* --- metrics.c: talea's own metrics --------------------------------------------------------- */

struct metric {
	const char *family; /* without _total */
	const char *help;
	bool is_counter;    /* else a gauge */
	const char *label;  /* NULL: none */
	char *label_value;
	double value;
};
struct metrics {
	struct metric *list; /* those of one family in a row */
	size_t nr, max;
};
/* Those that the arguments mean. CLI_OK, or the exit code after saying what is wrong. */
int metrics_take(const struct cli *c, struct talea *t, const struct talea_status *st,
		 struct metrics *ret);
bool metrics_has(const char *glob); /* does it mean one? */
void metrics_fini(struct metrics *metrics);

/* --- json.c -------------------------------------------------------------------------------- */

/* The object of one counter; NULL when memory is short. */
json_t *json_counter(const char *name, const struct talea_total *total);
/* Writes one document and a newline, frees it; CLI_OK or CLI_FAILED. */
int json_finish(json_t *doc);
json_t *json_text(const char *text); /* invalid UTF-8 replaced */
json_t *json_rate(double rate);	     /* null when not known */
json_t *json_labels(const char *name); /* of a canonical name */
json_t *json_base(const char *name);   /* its part before the labels */
json_t *json_time(uint64_t real_ns);   /* null for 0 */
json_t *json_schema(void);	     /* {"schema": 1} */

/* --- term.c: the terminal of `talea watch` ------------------------------------------------- */

/* What happened while waiting for the next frame. */
enum term_event { TERM_TICK, TERM_QUIT, TERM_RESIZE };
int term_open(void); /* alternate screen, no echo; 0 or -errno */
void term_close(void);
enum term_event term_wait(uint64_t until_mono_ns);
uint64_t term_now_ns(void); /* CLOCK_MONOTONIC */

/* --- verbs --------------------------------------------------------------------------------- */

int verb_overview(struct cli *c);
int verb_status(struct cli *c);
int verb_list(struct cli *c);
int verb_get(struct cli *c);
int verb_watch(struct cli *c);
int verb_explain(struct cli *c);
int verb_lanes(struct cli *c);
int verb_clients(struct cli *c);
int verb_history(struct cli *c);
int verb_export(struct cli *c);
int verb_add(struct cli *c);
int verb_pin(struct cli *c);
int verb_unpin(struct cli *c);
int verb_forget(struct cli *c);
int verb_accept(struct cli *c);
int verb_probes(struct cli *c);
int verb_attach(struct cli *c);
int verb_detach(struct cli *c);
int verb_drift(struct cli *c);
int verb_doctor(struct cli *c);
int verb_version(struct cli *c);
int verb_help(struct cli *c);
int verb_completion(struct cli *c);

/* Probes as JSON, of probes.c; NULL when memory is short. */
json_t *probe_json(const struct wire_probe *probe);
json_t *probes_json(const struct wire_probe *probes, uint32_t nr);
/* Who failed as the one at `at` did, when it is the first: "probes a, b". Malloced, or NULL. */
char *probes_failed(const struct wire_probe *probes, uint32_t nr, uint32_t at);
/* The counters that a probe feeds, one by one: the length of the one at `at`, 0: no more. */
size_t probe_counter(const struct wire_probe *probe, size_t at);

#endif

/*
 * The command line `talea`: the table of verbs, and from arguments to the verb and its exit code.
 * Every verb is one entry here. Help, completion and the nearest match come from the same table, and
 * tests/system/cli_docs.sh compares the manual page with it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/cli.h"
#include "tools/expo/json.h"
#include "tools/show/show.h"

#define READ_OPTIONS                                                                        \
	(OPTION_BIT(OPTION_EXCLUDE) | OPTION_BIT(OPTION_SUM) | OPTION_BIT(OPTION_COMPACTED) | \
	 OPTION_BIT(OPTION_MAX_AGE))

const struct verb cli_verbs[] = {
	{ "status", "", "The daemon: epoch, age, processes, rows, memory, probes.",
	  "Says that totals are not durable: they last as long as the daemon's region.",
	  0, 0, 0, SESSION_READ, NULL, verb_status },
	{ "list", "[GLOB...]", "The names of counters, with type, origin and help.",
	  "Piped: one name a line. A name without braces means all its label sets.",
	  OPTION_BIT(OPTION_EXCLUDE), 0, UINT32_MAX, SESSION_READ, NULL, verb_list },
	{ "get", "[GLOB...]", "The totals of counters.",
	  "Piped: the bare integer when one counter matches, else a line `name{labels} value` each.\n"
	  "On a terminal: a table with rate, age and the last minute.\n"
	  "A name without braces means all its label sets; labels may be globs too:\n"
	  "  talea get 'likes_total{post=\"4*\"}'",
	  READ_OPTIONS | OPTION_BIT(OPTION_WATCH), 0, UINT32_MAX, SESSION_READ, NULL, verb_get },
	{ "watch", "[GLOB...]", "Totals and rates, redrawn in place; q ends.",
	  "Without a terminal it prints one frame after the other.",
	  READ_OPTIONS | OPTION_BIT(OPTION_WATCH), 0, UINT32_MAX,
	  SESSION_READ, verb_watch_begin, verb_watch },
	{ "lanes", "NAME", "The rate of one counter on each CPU.",
	  "A hot counter has a cell on each CPU; the others share one. Two samples within half a\n"
	  "second. --heat takes more samples and draws a line a CPU, the newest at the right.",
	  OPTION_BIT(OPTION_HEAT), 1, 1, SESSION_READ, NULL, verb_lanes },
	{ "explain", "NAME...", "Why a counter is hot or cold, since when, and what would change it.",
	  "Also what a suspect counter shows and what its cells say.",
	  0, 1, UINT32_MAX, SESSION_READ, NULL, verb_explain },
	{ "clients", "", "The attached programs: process, user, access, names asked for.", NULL,
	  0, 0, 0, SESSION_READ, NULL, verb_clients },
	{ "export", "[GLOB...]", "All totals of one moment, for other programs.",
	  "openmetrics has talea's own metrics too; csv and ndjson have a counter a line.",
	  OPTION_BIT(OPTION_EXCLUDE) | OPTION_BIT(OPTION_FORMAT), 0, UINT32_MAX,
	  SESSION_READ, verb_export_begin, verb_export },
	{ "add", "NAME[{labels}] [N]", "Add N (1) to a counter or a level, from the shell.",
	  "A name that does not exist is declared: a counter when it ends in _total, else a level.\n"
	  "N may be negative for levels. Returns when the add is in the published total.",
	  OPTION_BIT(OPTION_DESCRIBE), 1, 2, SESSION_ADD, verb_add_begin, verb_add },
	{ "probes", "", "The kernel's probes: attached or not, why, and what to do.",
	  "--cost makes the kernel measure the programs' runs for a time; for admins of the daemon.\n"
	  "--available lists what `talea attach` could attach on this machine, daemon or not:\n"
	  "  talea probes --available 'tp_btf:tcp_*'",
	  OPTION_BIT(OPTION_COST) | OPTION_BIT(OPTION_AVAILABLE), 0, 0,
	  SESSION_READ, verb_probes_begin, verb_probes },
	{ "attach", "[NAME=]SPEC", "Count one more kind of event of the kernel or of a program.",
	  "SPEC:   EVENT [by KEY,...] [if FIELD OP VALUE and ...] [add argN] [max N]\n"
	  "EVENT:  tp_btf:NAME raw_tp:NAME fentry:FUNCTION fexit:FUNCTION uprobe:FILE:SYMBOL\n"
	  "        uretprobe:FILE:SYMBOL usdt:FILE:PROVIDER:NAME\n"
	  "KEY:    cpu pid tgid uid comm cgroup arg0..arg5 retval errno; three at most\n"
	  "NAME is the counter's, by default probe_<target>_total. All of it: man talea-probes.\n"
	  "  talea attach 'raw_tp:sched_process_exec by comm'\n"
	  "  talea attach 'opens_total=uprobe:libc.so.6:open if uid == 1000'\n"
	  "With --replace the argument is the name of a probe whose pinned counts have another\n"
	  "layout: they end and the probe begins anew. For admins of the daemon.",
	  OPTION_BIT(OPTION_DRY_RUN) | OPTION_BIT(OPTION_REPLACE), 1, 1,
	  SESSION_READ, verb_attach_begin, verb_attach },
	{ "detach", "NAME...", "End probes that were attached by command.",
	  "NAME as `talea probes` shows it. The counts stay until the daemon's region ends.\n"
	  "For admins of the daemon.",
	  0, 1, UINT32_MAX, SESSION_READ, NULL, verb_detach },
	{ "drift", "[GLOB...]", "Compare kernel counters with the kernel's own counts.",
	  "Reads /proc before and after the totals, at both ends of --interval. A difference that\n"
	  "this bracket cannot explain is drift, and ends with 6. Some counters differ for a known\n"
	  "reason: `expected`; man talea-probes explains it. What is not attached is unknown.",
	  OPTION_BIT(OPTION_INTERVAL), 0, UINT32_MAX, SESSION_READ, NULL, verb_drift },
	{ "doctor", "", "Try what this machine allows, and say how to repair what fails.",
	  "talead tries each capability, program type and mount, and undoes it; then the running\n"
	  "daemon reports. Ends with 1 when something fails.",
	  0, 0, 0, SESSION_NONE, NULL, verb_doctor },
	{ "accept", "[GLOB...]", "Show what a suspect counter's cells say, from now on.",
	  "A counter that fell is suspect and keeps its last good total, until an admin accepts what\n"
	  "its cells say. Without GLOB: all of the namespace, and the changes of cells that no\n"
	  "counter owns.",
	  OPTION_BIT(OPTION_EXCLUDE) | OPTION_BIT(OPTION_APPLY), 0, UINT32_MAX,
	  SESSION_READ, NULL, verb_accept },
	{ "history", "[GLOB...]", "What happened to rows, members and suspects: when and why.",
	  "The last thousand changes at least; --watch waits for more.",
	  OPTION_BIT(OPTION_EXCLUDE) | OPTION_BIT(OPTION_WATCH), 0, UINT32_MAX,
	  SESSION_READ, NULL, verb_history },
	{ "pin", "NAME...", "Keep counters hot, or with --cold cold, whatever their rate.",
	  "A hot counter has a row, that is a cell on each CPU. For admins of the daemon.",
	  OPTION_BIT(OPTION_COLD) | OPTION_BIT(OPTION_DRY_RUN), 1, UINT32_MAX,
	  SESSION_READ, NULL, verb_pin },
	{ "unpin", "NAME...", "Let the rate decide again.", "For admins of the daemon.",
	  OPTION_BIT(OPTION_DRY_RUN), 1, UINT32_MAX, SESSION_READ, NULL, verb_unpin },
	{ "forget", "GLOB...", "Remove members of families; their sum stays in the family.",
	  "What they counted moves to the member talea=\"removed\": the family's sum stays the same.\n"
	  "A later add of a program that still holds one counts there too. Counters and levels are\n"
	  "never removed.\n"
	  "For admins of the daemon:  talea forget 'likes_total{post=\"4*\"}' --apply",
	  OPTION_BIT(OPTION_EXCLUDE) | OPTION_BIT(OPTION_APPLY), 1, UINT32_MAX,
	  SESSION_READ, NULL, verb_forget },
	{ "version", "", "The version of this program and of the library's ABI.", NULL,
	  0, 0, 0, SESSION_NONE, NULL, verb_version },
	{ "help", "[VERB]", "What talea can do, or what one verb does.", NULL,
	  0, 0, 1, SESSION_NONE, NULL, verb_help },
	{ "completion", "[SHELL]", "A completion script; SHELL is bash.",
	  "Use it with:  source <(talea completion bash)",
	  0, 0, 1, SESSION_NONE, NULL, verb_completion },
};
const size_t cli_verbs_nr = sizeof(cli_verbs) / sizeof(cli_verbs[0]);

/* `talea` alone. */
static const struct verb overview = { .needs = SESSION_READ, .run = verb_overview };

static int run(struct cli *c)
{
	const struct verb *verb = c->verb ? c->verb : &overview;
	int rc = verb->begin ? verb->begin(c) : CLI_OK;

	if (rc == CLI_OK)
		rc = session_open(c, verb->needs);
	if (rc == CLI_OK)
		rc = verb->run(c);
	session_close(c);
	if (rc != CLI_OK && verb == &overview)
		fprintf(stderr, "next: talea help\n");
	return rc;
}

int cli_json(json_t *doc)
{
	char *text = json_line(doc);

	if (!text) {
		fprintf(stderr, "talea: out of memory\n");
		return CLI_FAILED;
	}
	puts(text);
	free(text);
	return CLI_OK;
}

/* A write to stdout may have failed long before the end. */
static int finish(int rc)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return rc;
	if (errno == EPIPE)
		return CLI_PIPE;
	fprintf(stderr, "talea: stdout: %s\n", strerror(errno));
	return CLI_FAILED;
}

int main(int argc, char **argv)
{
	struct cli c = { .how = TALEA_COMPACTED };
	int rc;

	show_init();
	rc = cli_parse(&c, argc, argv);
	if (rc == CLI_OK)
		rc = c.help ? verb_help(&c) : run(&c);
	rc = finish(rc);
	for (size_t i = 0; i < c.args_nr; i++)
		free(c.args[i]);
	for (size_t i = 0; i < c.excludes_nr; i++)
		free(c.excludes[i]);
	free(c.args);
	free(c.excludes);
	return rc;
}

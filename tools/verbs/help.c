/*
 * The verbs `help`, `version` and `completion`: all three print what the tables of verbs and options
 * say. Owns the text around them. Called from the table of verbs and for --help.
 */
#include <stdlib.h>
#include <string.h>

#include "tools/cli.h"
#include "tools/expo/json.h"
#include "tools/show/show.h"

/* --- help ----------------------------------------------------------------------------------- */

static void print_option(enum option_id id)
{
	const struct option_spec *o = &cli_options[id];
	char text[SHOW_TEXT], letter[8] = "    ";

	if (o->letter)
		snprintf(letter, sizeof(letter), "-%c, ", o->letter);
	snprintf(text, sizeof(text), "--%s%s%s", o->name, o->arg && o->arg[0] != '[' ? " " : "",
		 o->arg ? o->arg : "");
	printf("  %s%-20s %s\n", letter, text, o->help);
}

static void print_options(uint32_t options)
{
	for (int i = 0; i < OPTION_NR; i++)
		if (options & OPTION_BIT(i))
			print_option(i);
}

static void help_all(void)
{
	printf("talea counts at memory speed and shows what was counted, by programs and the "
	       "kernel.\n\n");
	show_head("usage: talea [VERB] [ARGUMENT...] [OPTION...]");
	for (size_t i = 0; i < cli_verbs_nr; i++) {
		char usage[SHOW_TEXT];

		snprintf(usage, sizeof(usage), "%s %s", cli_verbs[i].name, cli_verbs[i].args);
		printf("  %-24s %s\n", usage, cli_verbs[i].help);
	}
	putchar('\n');
	show_head("with every verb:");
	print_options(OPTIONS_GLOBAL);
	printf("\nexit: 0 ok, 1 failed, 2 usage, 3 no daemon, 4 no match, 5 stale, 6 drift, "
	       "7 permission\n"
	       "more: talea help VERB, talea --version, man talea. `talea` alone says how the "
	       "daemon is.\n");
}

static void help_verb(const struct verb *verb)
{
	printf("%s\n\n", verb->help);
	show_head("usage: talea %s%s%s [OPTION...]", verb->name, *verb->args ? " " : "",
		  verb->args);
	print_options(verb->options | OPTIONS_GLOBAL);
	if (verb->detail)
		printf("\n%s\n", verb->detail);
}

static json_t *options_json(uint32_t options)
{
	json_t *list = json_array();

	for (int i = 0; i < OPTION_NR; i++)
		if (options & OPTION_BIT(i))
			json_array_append_new(list,
					      json_pack("{s:s, s:s, s:s?}", "name",
							cli_options[i].name, "help",
							cli_options[i].help, "arg",
							cli_options[i].arg));
	return list;
}

static int help_json(void)
{
	json_t *doc = json_document(NULL), *verbs = json_array();

	for (size_t i = 0; i < cli_verbs_nr; i++) {
		const struct verb *v = &cli_verbs[i];

		json_array_append_new(verbs,
				      json_pack("{s:s, s:s, s:s, s:o}", "name", v->name, "args",
						v->args, "help", v->help, "options",
						options_json(v->options | OPTIONS_GLOBAL)));
	}
	json_object_set_new(doc, "verbs", verbs);
	return cli_json(doc);
}

int verb_help(struct cli *c)
{
	const struct verb *verb = c->help ? c->verb : NULL;

	if (c->json)
		return help_json();
	if (!c->help && c->args_nr) {
		verb = cli_verb_find(c->args[0]);
		if (!verb)
			return cli_unknown_verb(c->args[0]);
	}
	if (verb)
		help_verb(verb);
	else
		help_all();
	return CLI_OK;
}

/* --- version -------------------------------------------------------------------------------- */

int verb_version(struct cli *c)
{
	if (c->json) {
		json_t *doc = json_document(NULL);

		json_object_set_new(doc, "version", json_string(TALEA_VERSION));
		json_object_set_new(doc, "abi", json_integer(talea_abi()));
		json_object_set_new(doc, "wire", json_integer(WIRE_VERSION));
		return cli_json(doc);
	}
	printf("talea %s (ABI %u, wire %u)\n", TALEA_VERSION, talea_abi(), WIRE_VERSION);
	return CLI_OK;
}

/* --- completion ----------------------------------------------------------------------------- */

static const char completion_head[] =
	"# bash completion for talea; made by `talea completion bash`.\n"
	"_talea()\n"
	"{\n"
	"\tlocal cur prev verb= word i words=\n"
	"\tlocal -a where=()\n"
	"\tcur=${COMP_WORDS[COMP_CWORD]}\n"
	"\tprev=${COMP_WORDS[COMP_CWORD-1]}\n"
	"\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	"\t\tword=${COMP_WORDS[i]}\n"
	"\t\tcase $word in\n"
	"\t\t-n|--namespace|--socket) where+=(\"$word\" \"${COMP_WORDS[++i]}\") ;;\n"
	"\t\t--exclude|--max-age|--describe|--format|--available|--interval) i=$((i + 1)) ;;\n"
	"\t\t-*|=) ;;\n"
	"\t\t*) verb=${verb:-$word} ;;\n"
	"\t\tesac\n"
	"\tdone\n"
	"\tcase $prev in\n"
	"\t--socket) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n"
	"\t--format) COMPREPLY=($(compgen -W 'openmetrics csv ndjson' -- \"$cur\")); return ;;\n"
	"\t-n|--namespace|--max-age|--describe|--available|--interval) return ;;\n"
	"\tesac\n"
	"\tcase $verb in\n";

static const char completion_tail[] =
	"\tesac\n"
	"\tcase $verb:$cur in\n"
	"\t*:-*) ;;\n"
	"\tget:*|list:*|watch:*|lanes:*|explain:*|export:*|add:*|accept:*|history:*|pin:*|unpin:*|\\\n"
	"\tforget:*|drift:*)\n"
	"\t\twords=$(talea list \"${where[@]}\" \"$cur*\" 2>/dev/null | sed 's/{.*//' |\n"
	"\t\t\tsort -u | head -n 200) ;;\n"
	"\tdetach:*) words=$(talea probes \"${where[@]}\" 2>/dev/null | cut -d' ' -f1) ;;\n"
	"\tesac\n"
	"\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
	"}\n"
	"complete -F _talea talea\n";

/* The script, with the words that may follow each verb. */
static char *completion_script(void)
{
	char *text = NULL;
	size_t bytes;
	FILE *f = open_memstream(&text, &bytes);

	if (!f)
		return NULL;
	fputs(completion_head, f);
	for (size_t i = 0; i < cli_verbs_nr; i++) {
		const struct verb *v = &cli_verbs[i];

		fprintf(f, "\t%s) words=\"", v->name);
		for (int o = 0; o < OPTION_NR; o++)
			if ((v->options | OPTIONS_GLOBAL) & OPTION_BIT(o))
				fprintf(f, " --%s", cli_options[o].name);
		if (v->run == verb_completion)
			fprintf(f, " bash");
		if (v->run == verb_help)
			for (size_t j = 0; j < cli_verbs_nr; j++)
				fprintf(f, " %s", cli_verbs[j].name);
		fprintf(f, "\" ;;\n");
	}
	fprintf(f, "\t'') words=\"--help --version");
	for (size_t i = 0; i < cli_verbs_nr; i++)
		fprintf(f, " %s", cli_verbs[i].name);
	fprintf(f, "\" ;;\n");
	fputs(completion_tail, f);
	return fclose(f) ? NULL : text;
}

int verb_completion(struct cli *c)
{
	const char *shell = c->args_nr ? c->args[0] : "bash";
	char *script;
	json_t *doc;

	if (strcmp(shell, "bash"))
		return cli_fail(c, CLI_USAGE, "no completion for %s; there is one for bash", shell);
	script = completion_script();
	if (!script)
		return CLI_FAILED;
	if (c->json) {
		doc = json_document(NULL);
		json_object_set_new(doc, "shell", json_string(shell));
		json_object_set_new(doc, "script", json_string(script));
		free(script);
		return cli_json(doc);
	}
	fputs(script, stdout);
	free(script);
	return CLI_OK;
}

/* The command line of talead. It runs one action, or gives the keeper the worker's entry and runs
 * it. */
#define _GNU_SOURCE
#include <argp.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "daemon/config/config.h"
#include "daemon/keeper/keeper.h"
#include "daemon/keeper/stop.h"
#include "daemon/link/log.h"
#include "daemon/worker/worker.h"

/* TALEA_VERSION comes from the build: the daemon does not include the library's talea.h. */
const char *argp_program_version = "talead " TALEA_VERSION;

enum {
	OPTION_SOCKET = 256, OPTION_STATE, OPTION_CHECK, OPTION_PRINT, OPTION_STOP, OPTION_UNPIN,
	OPTION_DOCTOR, OPTION_AVAILABLE, OPTION_JSON,
};
#define EXIT_USAGE 2

struct arguments {
	struct config_source source;
	int action; /* 0, or one of the OPTION_s that exclude each other */
	const char *glob;
	bool is_json;
};

static const struct argp_option options[] = {
	{ "config", 'c', "FILE", 0, "read FILE, and neither " CONFIG_FILE " nor conf.d", 0 },
	{ "socket", OPTION_SOCKET, "PATH", 0, "serve clients on this socket", 0 },
	{ "state", OPTION_STATE, "DIR", 0, "keep locks and state in this folder", 0 },
	{ "check-config", OPTION_CHECK, NULL, 0,
	  "check the configuration, print what is wrong, end", 1 },
	{ "print-config", OPTION_PRINT, NULL, 0,
	  "print the effective values and where each comes from", 1 },
	{ "stop", OPTION_STOP, NULL, 0,
	  "stop the talead that runs on the state folder, and wait for its end", 1 },
	{ "unpin", OPTION_UNPIN, NULL, 0,
	  "end the kernel probes that are pinned in the state folder", 1 },
	{ "doctor", OPTION_DOCTOR, NULL, 0,
	  "try what kernel probes need on this machine, and print what is missing", 1 },
	{ "available", OPTION_AVAILABLE, "GLOB", 0, "list the events that a probe can count here", 1 },
	{ "json", OPTION_JSON, NULL, 0, "with --doctor and --available: as JSON", 1 },
	{ NULL, 0, NULL, 0, NULL, 0 },
};

static error_t take_option(int key, char *text, struct argp_state *state)
{
	struct arguments *a = state->input;

	switch (key) {
	case 'c':
		a->source.file = text;
		return 0;
	case OPTION_SOCKET:
		a->source.socket = text;
		return 0;
	case OPTION_STATE:
		a->source.state = text;
		return 0;
	case OPTION_JSON:
		a->is_json = true;
		return 0;
	case OPTION_AVAILABLE:
		a->glob = text;
		__attribute__((fallthrough));
	case OPTION_CHECK:
	case OPTION_PRINT:
	case OPTION_STOP:
	case OPTION_UNPIN:
	case OPTION_DOCTOR:
		if (a->action && a->action != key)
			argp_error(state, "--check-config, --print-config, --stop, --unpin, "
					  "--doctor and --available are one at a time");
		a->action = key;
		return 0;
	case ARGP_KEY_END:
		if (a->is_json && a->action != OPTION_DOCTOR && a->action != OPTION_AVAILABLE)
			argp_error(state, "--json goes with --doctor and --available");
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "unexpected argument %s", text);
		return EINVAL;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp argp = {
	.options = options,
	.parser = take_option,
	.doc = "Counts at memory speed: serves shared counters to the processes of this host, and "
	       "counts kernel events.\vRuns in the foreground. SIGHUP reads the configuration "
	       "again, SIGTERM and SIGINT end it. Exit status: 0 ended as asked, 1 failed, 2 usage, "
	       "3 (--stop) no talead runs.",
};

int main(int argc, char **argv)
{
	struct arguments a = { 0 };
	struct config_origins *origins;
	static struct config config;

	argp_err_exit_status = EXIT_USAGE;
	argp_parse(&argp, argc, argv, 0, NULL, &a);
	umask(022);
	if (a.action == OPTION_AVAILABLE)
		return available_run(a.glob, stdout, a.is_json);
	if (config_load(&a.source, &config, &origins, log_text)) {
		if (a.action == OPTION_STOP)
			log_line("no talead was stopped: the configuration has mistakes. fix: correct "
				 "them, or kill -TERM the pid in the state folder's keeper.lock");
		return 1;
	}
	if (a.action == OPTION_PRINT)
		config_print(&config, origins, stdout);
	config_origins_free(origins);
	switch (a.action) {
	case OPTION_CHECK:
		log_line("the configuration is right");
		return 0;
	case OPTION_PRINT:
		return fflush(stdout) || ferror(stdout);
	case OPTION_STOP:
		return stop_run(&config);
	case OPTION_UNPIN:
		return unpin_run(&config);
	case OPTION_DOCTOR:
		return doctor_run(&config, stdout, a.is_json);
	}
	return keeper_run(&config, &a.source, worker_run);
}

/*
 * Reaching the daemon through the library, and turning errors into sentences and exit codes. Owns no
 * state; called by the verbs.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

#define ATTACH_TIMEOUT_MS 1000

int attach_exit(int err)
{
	switch (-err) {
	case ECONNREFUSED:
	case ECONNRESET:
	case ENOTCONN:
	case EPIPE:
	case ETIMEDOUT:
		return CLI_NO_DAEMON;
	case EACCES:
	case EPERM:
		return CLI_PERMISSION;
	case ESTALE:
		return CLI_STALE;
	default:
		return CLI_FAILED;
	}
}

int attach_failed(const struct talea *t, const char *what, int err)
{
	fprintf(stderr, "talea %s: %s\n", what, talea_strerror(t, err));
	return attach_exit(err);
}

static const char *verb_of(const struct cli *c)
{
	return c->verb ? c->verb->name : "status";
}

/* Nobody listens, or a daemon that does not get to answering. */
static void say_no_daemon(const struct cli *c, const struct talea_status *st)
{
	const char *named = c->socket ? c->socket : getenv("TALEA_SOCKET");
	int sock = ask_connect(st->socket);

	fprintf(stderr, "talea %s: no daemon answers at %s", verb_of(c),
		st->socket[0] ? st->socket : "its socket");
	if (sock >= 0) {
		close(sock);
		fprintf(stderr, ", though one listens there: stopped, or too busy.\n"
				"try again; else end and start it anew: talead --stop\n");
		return;
	}
	fprintf(stderr, ". start one with: talead%s%s\n"
			"(or name another with --socket PATH or TALEA_SOCKET)\n",
		named && *named ? " --socket " : "", named && *named ? named : "");
}

int attach_open(const struct cli *c, unsigned int flags, struct talea **ret,
		struct talea_status *ret_status)
{
	struct talea_options opt = { .size = sizeof(opt),
				     .socket = c->socket,
				     .ns = c->ns,
				     .app = "talea",
				     .timeout_ms = ATTACH_TIMEOUT_MS,
				     .flags = flags };
	struct talea_status st = { .size = sizeof(st) };
	struct talea *t = NULL;
	int rc;

	rc = talea_open(&t, &opt);
	if (rc) {
		rc = attach_failed(t, verb_of(c), rc);
		goto out_close;
	}
	rc = talea_status(t, &st);
	if (rc) {
		rc = attach_failed(t, verb_of(c), rc);
		goto out_close;
	}
	if (!st.connected) {
		say_no_daemon(c, &st);
		rc = CLI_NO_DAEMON;
		goto out_close;
	}
	*ret = t;
	*ret_status = st;
	return CLI_OK;

out_close:
	talea_close(t);
	return rc;
}

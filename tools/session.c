/*
 * The session of a verb; see session.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tools/cli.h"
#include "tools/session.h"

#define ATTACH_TIMEOUT_MS 1000

int session_exit(int err)
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

static const char *session_verb(const struct cli *c)
{
	return c->verb ? c->verb->name : "status";
}

int session_failed(const struct cli *c, int err)
{
	fprintf(stderr, "talea %s: %s\n", session_verb(c), talea_strerror(c->session.t, err));
	return session_exit(err);
}

int session_ask_failed(const struct cli *c, int err)
{
	fprintf(stderr, "talea: %s\n", ask_why(c->session.ask));
	return err == -ENOENT	? CLI_NO_MATCH :
	       err == -EMSGSIZE ? CLI_USAGE : session_exit(err);
}

/* --- begin and end -------------------------------------------------------------------------- */

/* Either nobody listens, or a daemon does that is stopped or too busy to answer. */
static void session_no_daemon(const struct cli *c)
{
	const char *named = c->socket ? c->socket : getenv("TALEA_SOCKET");
	const char *path = c->session.st.socket;
	int sock = ask_connect(path);

	fprintf(stderr, "talea %s: no daemon answers at %s", session_verb(c),
		path[0] ? path : "its socket");
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

int session_try(struct cli *c, enum session_needs needs)
{
	const struct talea_options opt = { .size = sizeof(opt),
					   .socket = c->socket,
					   .ns = c->ns,
					   .app = "talea",
					   .timeout_ms = ATTACH_TIMEOUT_MS,
					   .flags = needs == SESSION_ADD ? 0 : TALEA_READ_ONLY };
	struct session *s = &c->session;
	int rc = talea_open(&s->t, &opt);

	s->st = (struct talea_status){ .size = sizeof(s->st) };
	if (!rc)
		rc = talea_status(s->t, &s->st);
	if (!rc && !s->ask)
		s->ask = ask_open(&s->st);
	return rc ? rc : s->ask ? 0 : -ENOMEM;
}

int session_open(struct cli *c, enum session_needs needs)
{
	int rc;

	if (needs == SESSION_NONE)
		return CLI_OK;
	rc = session_try(c, needs);
	if (rc)
		return session_failed(c, rc);
	if (c->session.st.connected)
		return CLI_OK;
	session_no_daemon(c);
	return CLI_NO_DAEMON;
}

void session_close(struct cli *c)
{
	ask_close(c->session.ask);
	talea_close(c->session.t);
	c->session = (struct session){ 0 };
}

/* --- questions ------------------------------------------------------------------------------ */

int session_ask(const struct cli *c, enum wire_query_what what, const char *name, uint64_t from,
		const struct wire_answer **ret)
{
	int err = ask_worker(c->session.ask, what, name, from, ret);

	return err ? session_ask_failed(c, err) : CLI_OK;
}

int session_status(const struct cli *c, const struct wire_status **ret)
{
	int err = ask_status(c->session.ask, ret);

	return err ? session_ask_failed(c, err) : CLI_OK;
}

int session_explain(const struct cli *c, const char *name, const struct wire_explain **ret)
{
	int err = ask_explain(c->session.ask, name, ret);

	return err ? session_ask_failed(c, err) : CLI_OK;
}

int session_probes(const struct cli *c, struct wire_probe **ret, uint32_t *ret_nr)
{
	int err = ask_probes(c->session.ask, ret, ret_nr);

	return err ? session_ask_failed(c, err) : CLI_OK;
}

int session_probe(const struct cli *c, const struct wire_probe_change *change, const char *text,
		  const struct wire_probe **ret)
{
	int err = ask_probe(c->session.ask, change, text, ret), rc;

	if (!err)
		return CLI_OK;
	rc = session_ask_failed(c, err);
	/* Here the user's text is wrong: the machine was not asked yet. */
	return err == -EINVAL && change->is_checked_only ? CLI_USAGE : rc;
}

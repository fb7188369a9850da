/*
 * Reaching the daemon: through the library for totals, and over a connection of its own for what
 * only the worker knows (status, probes). Turns errors into sentences and exit codes. Owns no state;
 * called by the verbs.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli.h"

#define ATTACH_TIMEOUT_MS 1000

static int exit_code(int err)
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
	return exit_code(err);
}

static const char *verb_of(const struct cli *c)
{
	return c->verb ? c->verb->name : "status";
}

static int control_connect(const char *path)
{
	struct timeval limit = { .tv_sec = ATTACH_TIMEOUT_MS / 1000,
				 .tv_usec = ATTACH_TIMEOUT_MS % 1000 * 1000 };
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int sock, err;

	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	strcpy(addr.sun_path, path);
	sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return -errno;
	if (setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) ||
	    setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) ||
	    connect(sock, (struct sockaddr *)&addr, sizeof(addr))) {
		err = errno == ENOENT ? -ECONNREFUSED : -errno;
		close(sock);
		return err;
	}
	return sock;
}

/* Nobody listens, or a daemon that does not get to answering. */
static void say_no_daemon(const struct cli *c, const struct talea_status *st)
{
	const char *named = c->socket ? c->socket : getenv("TALEA_SOCKET");
	int sock = control_connect(st->socket);

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

/* --- a connection of its own ---------------------------------------------------------------- */

struct control {
	int sock;
	uint32_t number;
	const char *name_space;
	union {
		struct wire_head head;
		struct wire_error error;
		struct wire_answer answer;
		char bytes[WIRE_MAX];
	} in;
};

static void head_set(struct wire_head *head, enum wire_kind kind, uint32_t number, size_t length)
{
	*head = (struct wire_head){ .magic = WIRE_MAGIC,
				    .version = WIRE_VERSION,
				    .kind = kind,
				    .number = number,
				    .length = (uint32_t)length };
}

static int control_hello(struct control *ctl)
{
	struct wire_hello hello = { .abi = SHM_ABI,
				    .access = WIRE_READ,
				    .fingerprint = shm_fingerprint(),
				    .app = "talea" };

	head_set(&hello.head, WIRE_HELLO, ++ctl->number, sizeof(hello));
	snprintf(hello.name_space, sizeof(hello.name_space), "%s", ctl->name_space);
	return wire_send(ctl->sock, &hello, NULL, 0, 0);
}

static int control_ask(struct control *ctl, enum wire_query_what what)
{
	struct wire_query query = { .what = what };

	head_set(&query.head, WIRE_QUERY, ++ctl->number, sizeof(query));
	return wire_send(ctl->sock, &query, NULL, 0, 0);
}

/* Waits for a message of this kind; a new worker's RESUME gives -EAGAIN: say HELLO again. */
static int control_wait(struct control *ctl, enum wire_kind kind, size_t *ret_got)
{
	unsigned int fds_nr = 0;
	ssize_t got;
	int rc;

	got = wire_recv(ctl->sock, &ctl->in, sizeof(ctl->in), NULL, 0, &fds_nr, 0);
	if (got == -EAGAIN || got == -EWOULDBLOCK)
		return -ETIMEDOUT;
	if (got < 0)
		return (int)got;
	if (got == 0)
		return -ECONNRESET;
	rc = wire_check(&ctl->in, (size_t)got);
	if (rc)
		return rc;
	if (ctl->in.head.kind == WIRE_RESUME)
		return -EAGAIN;
	if (ctl->in.head.kind == WIRE_ERROR)
		return ctl->in.error.err < 0 ? ctl->in.error.err : -EPROTO;
	if (ctl->in.head.kind != kind)
		return -EPROTO;
	*ret_got = (size_t)got;
	return 0;
}

/* One HELLO and one QUERY; -EAGAIN when a new worker came between. */
static int control_try(struct control *ctl, enum wire_query_what what, size_t *ret_got)
{
	int rc;

	rc = control_hello(ctl);
	if (!rc)
		rc = control_wait(ctl, WIRE_WELCOME, ret_got);
	if (!rc)
		rc = control_ask(ctl, what);
	if (!rc)
		rc = control_wait(ctl, WIRE_ANSWER, ret_got);
	return rc;
}

static int take_records(const struct control *ctl, size_t got, size_t record_bytes,
			void **ret_records, uint32_t *ret_nr)
{
	const struct wire_answer *answer = &ctl->in.answer;
	void *records;

	if (got < sizeof(*answer) || answer->nr > (got - sizeof(*answer)) / record_bytes)
		return -EPROTO;
	records = calloc(answer->nr + 1, record_bytes);
	if (!records)
		return -ENOMEM;
	memcpy(records, answer->records, answer->nr * record_bytes);
	*ret_records = records;
	*ret_nr = answer->nr;
	return 0;
}

int attach_query(const struct talea_status *st, enum wire_query_what what, size_t record_bytes,
		 void **ret_records, uint32_t *ret_nr)
{
	struct control *ctl = calloc(1, sizeof(*ctl));
	size_t got = 0;
	int rc;

	if (!ctl)
		return attach_failed(NULL, "status", -ENOMEM);
	ctl->name_space = st->namespace_name;
	rc = ctl->sock = control_connect(st->socket);
	if (rc < 0)
		goto out_free;
	rc = -EAGAIN;
	for (int i = 0; i < 8 && rc == -EAGAIN; i++)
		rc = control_try(ctl, what, &got);
	if (!rc)
		rc = take_records(ctl, got, record_bytes, ret_records, ret_nr);
	close(ctl->sock);
out_free:
	if (rc && ctl->in.head.kind == WIRE_ERROR && ctl->in.error.text_bytes)
		fprintf(stderr, "talea: %.*s\n", (int)ctl->in.error.text_bytes, ctl->in.error.text);
	else if (rc)
		fprintf(stderr, "talea: the daemon at %s: %s\n", st->socket, strerror(-rc));
	free(ctl);
	return rc ? exit_code(rc) : CLI_OK;
}

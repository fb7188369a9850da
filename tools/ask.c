/*
 * Asking the worker itself, over a connection of its own: what only it knows (status, probes,
 * clients, explanations, lanes, changes), and what an operator has it do. Owns the connection
 * between ask_open and ask_close; a new worker is told the same question again. Called by the
 * verbs.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli.h"

#define ASK_TIMEOUT_S 2
#define ASK_PROBE_TIMEOUT_S 15 /* types are read, programs checked, symbols looked up */
#define ASK_TRIES 8

union message {
	struct wire_head head;
	struct wire_error error;
	struct wire_answer answer;
	struct wire_registered done;
	struct wire_query query;
	struct wire_change change;
	struct wire_probe_change probe;
	char bytes[WIRE_MAX];
};

struct ask {
	int sock;
	uint32_t number;
	bool is_greeted;
	const struct talea_status *st;
	union message *in, *out; /* one allocation */
};

int ask_connect(const char *path)
{
	struct timeval limit = { .tv_sec = ASK_TIMEOUT_S };
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

static void head_set(struct wire_head *head, enum wire_kind kind, uint32_t number, size_t length)
{
	*head = (struct wire_head){ .magic = WIRE_MAGIC,
				    .version = WIRE_VERSION,
				    .kind = kind,
				    .number = number,
				    .length = (uint32_t)length };
}

/* Waits for a message of this kind; a new worker's RESUME gives -EAGAIN: say HELLO again. */
static int wait_for(struct ask *a, enum wire_kind kind)
{
	unsigned int fds_nr = 0;
	ssize_t got;
	int rc;

	got = wire_recv(a->sock, a->in, sizeof(*a->in), NULL, 0, &fds_nr, 0);
	if (got == -EAGAIN || got == -EWOULDBLOCK)
		return -ETIMEDOUT;
	if (got < 0)
		return (int)got;
	if (got == 0)
		return -ECONNRESET;
	rc = wire_admin_check(a->in, (size_t)got);
	if (rc)
		return rc;
	if (a->in->head.kind == WIRE_RESUME) {
		a->is_greeted = false;
		return -EAGAIN;
	}
	if (a->in->head.kind == WIRE_ERROR)
		return a->in->error.err < 0 ? a->in->error.err : -EPROTO;
	return a->in->head.kind == kind ? 0 : -EPROTO;
}

static int greet(struct ask *a)
{
	struct wire_hello hello = { .abi = SHM_ABI,
				    .access = WIRE_READ,
				    .fingerprint = shm_fingerprint(),
				    .app = "talea" };
	int rc;

	head_set(&hello.head, WIRE_HELLO, ++a->number, sizeof(hello));
	snprintf(hello.name_space, sizeof(hello.name_space), "%s", a->st->namespace_name);
	rc = wire_send(a->sock, &hello, NULL, 0, 0);
	if (!rc)
		rc = wait_for(a, WIRE_WELCOME);
	a->is_greeted = !rc;
	return rc;
}

/* Sends what lies in a->out and waits for its answer, once more when a new worker came between. */
static int exchange(struct ask *a, enum wire_kind kind)
{
	int rc = -EAGAIN;

	a->out->head.number = ++a->number;
	a->in->head.kind = 0;
	for (int i = 0; i < ASK_TRIES && rc == -EAGAIN; i++) {
		rc = a->is_greeted ? 0 : greet(a);
		if (!rc)
			rc = wire_send(a->sock, a->out, NULL, 0, 0);
		if (!rc)
			rc = wait_for(a, kind);
	}
	return rc;
}

/* The exit code, after saying what the worker, or the kernel, said. */
static int failed(const struct ask *a, int rc)
{
	if (a->in->head.kind == WIRE_ERROR && a->in->error.text_bytes)
		fprintf(stderr, "talea: %.*s\n", (int)a->in->error.text_bytes, a->in->error.text);
	else
		fprintf(stderr, "talea: the daemon at %s: %s\n", a->st->socket, strerror(-rc));
	return rc == -ENOENT ? CLI_NO_MATCH : attach_exit(rc);
}

int ask_open(const struct talea_status *st, struct ask **ret)
{
	struct ask *a = calloc(1, sizeof(*a));
	int rc;

	if (a)
		a->in = calloc(2, sizeof(*a->in));
	if (!a || !a->in) {
		free(a);
		return attach_failed(NULL, "status", -ENOMEM);
	}
	a->out = a->in + 1;
	a->st = st;
	rc = a->sock = ask_connect(st->socket);
	if (rc < 0) {
		rc = failed(a, rc);
		free(a->in);
		free(a);
		return rc;
	}
	*ret = a;
	return CLI_OK;
}

void ask_close(struct ask *a)
{
	if (!a)
		return;
	close(a->sock);
	free(a->in);
	free(a);
}

int ask_worker(struct ask *a, enum wire_query_what what, const char *name, uint64_t from,
	       const struct wire_answer **ret)
{
	size_t name_bytes = name ? strlen(name) : 0;
	int rc;

	a->out->query = (struct wire_query){ .what = what, .name_bytes = (uint32_t)name_bytes,
					    .from = from };
	head_set(&a->out->head, WIRE_QUERY, 0, sizeof(a->out->query) + name_bytes);
	if (name_bytes >= WIRE_NAME_MAX)
		return failed(a, -ENAMETOOLONG);
	if (name)
		memcpy(a->out->query.name, name, name_bytes);
	rc = exchange(a, WIRE_ANSWER);
	if (!rc && a->in->answer.what != what)
		rc = -EPROTO;
	if (rc)
		return failed(a, rc);
	*ret = &a->in->answer;
	return CLI_OK;
}

int ask_probes(struct ask *a, struct wire_probe **ret, uint32_t *ret_nr)
{
	const struct wire_answer *answer;
	struct wire_probe *list = NULL, *more;
	uint32_t nr = 0;
	int rc;

	do {
		rc = ask_worker(a, WIRE_PROBES, NULL, nr, &answer);
		if (rc != CLI_OK)
			goto out_free;
		more = realloc(list, (nr + answer->nr + 1) * sizeof(*list));
		if (!more) {
			rc = attach_failed(NULL, "probes", -ENOMEM);
			goto out_free;
		}
		list = more;
		memcpy(list + nr, answer->records, answer->nr * sizeof(*list));
		nr += answer->nr;
	} while (answer->nr == WIRE_PROBES_MAX);
	*ret = list;
	*ret_nr = nr;
	return CLI_OK;

out_free:
	free(list);
	return rc;
}

static void limit_set(struct ask *a, uint32_t seconds)
{
	struct timeval limit = { .tv_sec = seconds };

	setsockopt(a->sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
}

int ask_probe(struct ask *a, const struct wire_probe_change *change, const char *text,
	      const struct wire_probe **ret)
{
	size_t bytes = text ? strlen(text) : 0;
	int rc;

	if (bytes >= WIRE_TEXT_MAX) {
		fprintf(stderr, "talea: %zu bytes are too many for a probe; %u at most\n", bytes,
			WIRE_TEXT_MAX - 1);
		return CLI_USAGE;
	}
	a->out->probe = *change;
	a->out->probe.bytes = (uint32_t)bytes;
	head_set(&a->out->head, WIRE_PROBE, 0, sizeof(a->out->probe) + bytes);
	if (text)
		memcpy(a->out->probe.text, text, bytes);
	limit_set(a, ASK_PROBE_TIMEOUT_S + change->ms / 1000);
	rc = exchange(a, WIRE_ANSWER);
	limit_set(a, ASK_TIMEOUT_S);
	if (!rc && (a->in->answer.what != WIRE_PROBES || a->in->answer.nr < (ret != NULL)))
		rc = -EPROTO;
	if (rc == -EINVAL && change->is_checked_only) { /* the text is wrong, not the machine */
		failed(a, rc);
		return CLI_USAGE;
	}
	if (rc)
		return failed(a, rc);
	if (ret)
		*ret = (const struct wire_probe *)(const void *)a->in->answer.records;
	return CLI_OK;
}

/* Puts the first names into the message, as many as fit; how many. */
static uint32_t change_fill(struct ask *a, enum wire_change_op op, const char *const *names,
			    size_t nr)
{
	struct wire_change *m = &a->out->change;

	*m = (struct wire_change){ .op = op };
	for (size_t i = 0; i < nr && m->nr < WIRE_ENTRIES_MAX; i++) {
		size_t bytes = strlen(names[i]) + 1;

		if (sizeof(*m) + m->bytes + bytes > WIRE_MAX)
			break;
		memcpy(m->names + m->bytes, names[i], bytes);
		m->bytes += (uint32_t)bytes;
		m->nr++;
	}
	head_set(&m->head, WIRE_CHANGE, 0, sizeof(*m) + m->bytes);
	return m->nr;
}

int ask_change(struct ask *a, enum wire_change_op op, const char *const *names, size_t nr,
	       ask_verdict *verdict, void *arg)
{
	uint32_t batch;
	int rc;

	for (size_t at = 0; at < nr; at += batch) {
		const struct wire_registered *done = &a->in->done;
		const char *texts;

		batch = change_fill(a, op, names + at, nr - at);
		rc = batch ? exchange(a, WIRE_REGISTERED) : -ENAMETOOLONG;
		if (!rc && done->nr != batch)
			rc = -EPROTO;
		if (rc)
			return failed(a, rc);
		texts = (const char *)&done->results[batch];
		for (uint32_t i = 0; i < batch; i++)
			verdict(at + i, done->results[i].err,
				done->results[i].err ? texts + done->results[i].text_at : "", arg);
	}
	return CLI_OK;
}

/*
 * Questions to the worker; see ask.h. Owns the connection. When a new worker takes over the
 * connection, the question is sent again.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "shm/base/array.h"
#include "shm/base/why.h"
#include "tools/expo/ask.h"

#define ASK_TIMEOUT_S 2
#define ASK_PROBE_TIMEOUT_S 15 /* the keeper reads types, checks programs, looks up symbols */
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
	int sock; /* -1: not connected yet */
	uint32_t number;
	bool is_greeted;
	const struct talea_status *st;
	struct why why;
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
	if (setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) ||
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

/* Waits for a message of this kind. -EAGAIN: a new worker sent RESUME and expects a HELLO. */
static int ask_receive(struct ask *a, enum wire_kind kind)
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

static int ask_greet(struct ask *a)
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
		rc = ask_receive(a, WIRE_WELCOME);
	a->is_greeted = !rc;
	return rc;
}

/* The sentence for rc: the worker's own, if it sent one. Returns rc. */
static int ask_failed(struct ask *a, int rc)
{
	const struct wire_error *error = &a->in->error;

	if (error->head.kind == WIRE_ERROR && error->text_bytes)
		why_set(&a->why, rc, "%.*s", (int)error->text_bytes, error->text);
	else
		why_set(&a->why, rc, "the daemon at %s: %s", a->st->socket, strerror(-rc));
	return rc;
}

/* Sends a->out and waits for its answer, again when a new worker came between. */
static int ask_exchange(struct ask *a, enum wire_kind kind, uint32_t timeout_s)
{
	const struct timeval limit = { .tv_sec = timeout_s };
	int rc = -EAGAIN;

	a->out->head.number = ++a->number;
	a->in->head.kind = 0;
	if (a->sock < 0)
		a->sock = ask_connect(a->st->socket);
	if (a->sock < 0)
		return ask_failed(a, a->sock);
	setsockopt(a->sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	for (int i = 0; i < ASK_TRIES && rc == -EAGAIN; i++) {
		rc = a->is_greeted ? 0 : ask_greet(a);
		if (!rc)
			rc = wire_send(a->sock, a->out, NULL, 0, 0);
		if (!rc)
			rc = ask_receive(a, kind);
	}
	return rc ? ask_failed(a, rc) : 0;
}

struct ask *ask_open(const struct talea_status *st)
{
	struct ask *a = calloc(1, sizeof(*a));

	if (!a)
		return NULL;
	a->in = calloc(2, sizeof(*a->in));
	if (!a->in) {
		free(a);
		return NULL;
	}
	a->out = a->in + 1;
	a->st = st;
	a->sock = -1;
	return a;
}

void ask_close(struct ask *a)
{
	if (!a)
		return;
	if (a->sock >= 0)
		close(a->sock);
	free(a->in);
	free(a);
}

const char *ask_why(const struct ask *a) { return a->why.reason; }

int ask_worker(struct ask *a, enum wire_query_what what, const char *name, uint64_t from,
	       const struct wire_answer **ret)
{
	size_t name_bytes = name ? strlen(name) : 0;
	int rc;

	a->out->query = (struct wire_query){ .what = what, .name_bytes = (uint32_t)name_bytes,
					    .from = from };
	head_set(&a->out->head, WIRE_QUERY, 0, sizeof(a->out->query) + name_bytes);
	a->in->head.kind = 0;
	if (name_bytes >= WIRE_NAME_MAX)
		return ask_failed(a, -ENAMETOOLONG);
	if (name)
		memcpy(a->out->query.name, name, name_bytes);
	rc = ask_exchange(a, WIRE_ANSWER, ASK_TIMEOUT_S);
	if (rc)
		return rc;
	if (a->in->answer.what != what)
		return ask_failed(a, -EPROTO);
	*ret = &a->in->answer;
	return 0;
}

int ask_status(struct ask *a, const struct wire_status **ret)
{
	const struct wire_answer *answer = NULL;
	int rc = ask_worker(a, WIRE_STATUS, NULL, 0, &answer);

	if (!rc)
		*ret = (const struct wire_status *)(const void *)answer->records;
	return rc;
}

int ask_explain(struct ask *a, const char *name, const struct wire_explain **ret)
{
	const struct wire_answer *answer = NULL;
	int rc = ask_worker(a, WIRE_EXPLAIN, name, 0, &answer);

	if (!rc)
		*ret = (const struct wire_explain *)(const void *)answer->records;
	return rc;
}

int ask_probes(struct ask *a, struct wire_probe **ret, uint32_t *ret_nr)
{
	const struct wire_answer *answer;
	struct wire_probe *list = NULL;
	uint32_t nr = 0, max = 0;
	int rc;

	do {
		rc = ask_worker(a, WIRE_PROBES, NULL, nr, &answer);
		if (rc)
			goto out_free;
		if (array_reserve(&list, nr + answer->nr, &max)) {
			rc = why_set(&a->why, -ENOMEM, "%s", strerror(ENOMEM));
			goto out_free;
		}
		memcpy(list + nr, answer->records, answer->nr * sizeof(*list));
		nr += answer->nr;
	} while (answer->nr == WIRE_PROBES_MAX);
	*ret = list;
	*ret_nr = nr;
	return 0;

out_free:
	free(list);
	return rc;
}

int ask_probe(struct ask *a, const struct wire_probe_change *change, const char *text,
	      const struct wire_probe **ret)
{
	size_t bytes = text ? strlen(text) : 0;
	int rc;

	if (bytes >= WIRE_TEXT_MAX)
		return why_set(&a->why, -EMSGSIZE, "%zu bytes are too many for a probe; %u at most",
			       bytes, WIRE_TEXT_MAX - 1);
	a->out->probe = *change;
	a->out->probe.bytes = (uint32_t)bytes;
	head_set(&a->out->head, WIRE_PROBE, 0, sizeof(a->out->probe) + bytes);
	if (text)
		memcpy(a->out->probe.text, text, bytes);
	rc = ask_exchange(a, WIRE_ANSWER, ASK_PROBE_TIMEOUT_S + change->ms / 1000);
	if (rc)
		return rc;
	if (a->in->answer.what != WIRE_PROBES || a->in->answer.nr < (ret != NULL))
		return ask_failed(a, -EPROTO);
	if (ret)
		*ret = (const struct wire_probe *)(const void *)a->in->answer.records;
	return 0;
}

/* Puts as many names as fit into the message; returns how many. */
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
	       ask_result *result, void *arg)
{
	uint32_t batch;
	int rc;

	for (size_t at = 0; at < nr; at += batch) {
		const struct wire_registered *done = &a->in->done;
		const char *texts;

		a->in->head.kind = 0;
		batch = change_fill(a, op, names + at, nr - at);
		if (!batch)
			return ask_failed(a, -ENAMETOOLONG);
		rc = ask_exchange(a, WIRE_REGISTERED, ASK_TIMEOUT_S);
		if (rc)
			return rc;
		if (done->nr != batch)
			return ask_failed(a, -EPROTO);
		texts = (const char *)&done->results[batch];
		for (uint32_t i = 0; i < batch; i++)
			result(at + i, done->results[i].err,
			       done->results[i].err ? texts + done->results[i].text_at : "", arg);
	}
	return 0;
}

/*
 * The benchmarks' way to the private daemon: through the library, and over a plain connection for
 * what has no call (the directory's mapping, a batch of names). Owns nothing after it returns.
 * Called by the programs of tests/bench that need a daemon.
 */
#define _GNU_SOURCE
#include "tests/bench/lib/attach.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "shm/region.h"
#include "tests/bench/lib/bench.h"

struct talea *attach_open(const char *name_space)
{
	struct talea_options opt = { .size = sizeof(opt),
				     .ns = name_space,
				     .app = "bench",
				     .timeout_ms = 10000,
				     .flags = TALEA_NEED_DAEMON };
	struct talea_status st = { .size = sizeof(st) };
	struct talea *t;
	int err;

	err = talea_open(&t, &opt);
	if (err)
		bench_die("talea_open", talea_strerror(t, err));
	err = talea_status(t, &st);
	if (err)
		bench_die("talea_status", talea_strerror(t, err));
	if (!st.rseq)
		fprintf(stderr, "bench: adds without rseq: %s\n", st.rseq_why);
	return t;
}

struct talea_counter attach_counter(struct talea *t, const char *name, const char *key, int hot)
{
	struct talea_total total = { .size = sizeof(total) };
	struct talea_counter c;
	int err;

	err = talea_counter(t, &c, name, "Made by the benchmark.", "key", key, NULL);
	if (err)
		bench_die(name, talea_strerror(t, err));
	err = talea_sync(t, 10000);
	if (!err)
		err = talea_read(t, c, TALEA_SUM, 0, &total);
	if (err)
		bench_die(name, talea_strerror(t, err));
	if (!total.hot != !hot)
		bench_wrong("%s{key=\"%s\"} is %s", name, key, total.hot ? "hot" : "cold");
	return c;
}

/* --- a connection of its own ----------------------------------------------------------------- */

static char in[WIRE_MAX] __attribute__((aligned(8)));

/* Waits for one message of this kind. */
static const void *control_wait(struct control *c, enum wire_kind kind, int *fds,
				unsigned int *fds_nr)
{
	const struct wire_head *head = (const struct wire_head *)in;
	const struct wire_error *e = (const struct wire_error *)in;
	ssize_t got = wire_recv(c->sock, in, sizeof(in), fds, fds ? REGION_PARTS : 0, fds_nr, 0);

	if (got <= 0)
		bench_die("the daemon's socket", got ? strerror((int)-got) : "end of file");
	if (wire_admin_check(in, (size_t)got))
		bench_die("the daemon's socket", "a message that does not check");
	if (head->kind == WIRE_ERROR)
		bench_die("the daemon refused", e->text);
	if (head->kind != kind)
		bench_die("the daemon's socket", "a message of another kind");
	return in;
}

void control_open(struct control *c, const char *name_space)
{
	const char *path = getenv("TALEA_SOCKET");
	struct wire_hello hello = { .head = { WIRE_MAGIC, WIRE_VERSION, WIRE_HELLO, 1,
					      sizeof(hello) },
				    .abi = SHM_ABI,
				    .access = WIRE_WRITE,
				    .fingerprint = shm_fingerprint(),
				    .app = "bench" };
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	unsigned int fds_nr = 0;
	int fds[REGION_PARTS], err;
	void *d;

	if (!path || strlen(path) >= sizeof(addr.sun_path))
		bench_die("TALEA_SOCKET", "not set, or too long");
	strcpy(addr.sun_path, path);
	snprintf(hello.name_space, sizeof(hello.name_space), "%s", name_space);
	c->number = 1;
	c->sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (c->sock < 0 || connect(c->sock, (struct sockaddr *)&addr, sizeof(addr)))
		bench_die(path, strerror(errno));
	err = wire_send(c->sock, &hello, NULL, 0, 0);
	if (err)
		bench_die(path, strerror(-err));
	control_wait(c, WIRE_WELCOME, fds, &fds_nr);
	if (fds_nr != REGION_PARTS)
		bench_die(path, "no memory came with the welcome");
	err = region_map(fds[REGION_D], REGION_D, false, &d);
	if (err)
		bench_die("mapping the directory", strerror(-err));
	for (unsigned int i = 0; i < fds_nr; i++)
		close(fds[i]);
	c->d = d;
}

struct wire_register *control_message(void)
{
	struct wire_register *msg = malloc(WIRE_MAX);

	if (!msg)
		bench_die("malloc", strerror(errno));
	*msg = (struct wire_register){ .head = { WIRE_MAGIC, WIRE_VERSION, WIRE_REGISTER, 0,
						 sizeof(*msg) } };
	return msg;
}

void control_register(struct control *c, struct wire_register *msg)
{
	const struct wire_registered *reply;
	int err;

	msg->head.number = ++c->number;
	err = wire_send(c->sock, msg, NULL, 0, 0);
	if (err)
		bench_die("registering", strerror(-err));
	reply = control_wait(c, WIRE_REGISTERED, NULL, NULL);
	for (uint32_t i = 0; i < reply->nr; i++)
		if (reply->results[i].err)
			bench_die("registering", (const char *)(reply->results + reply->nr) +
							 reply->results[i].text_at);
}

void control_change(struct control *c, enum wire_change_op op, const char *base, unsigned int first,
		    unsigned int nr)
{
	static char buf[WIRE_MAX] __attribute__((aligned(8)));
	struct wire_change *m = (struct wire_change *)buf;
	const struct wire_registered *reply;
	int err;

	*m = (struct wire_change){ .head = { WIRE_MAGIC, WIRE_VERSION, WIRE_CHANGE, ++c->number, 0 },
				   .op = op, .nr = nr };
	for (unsigned int i = 0; i < nr; i++)
		m->bytes += (uint32_t)sprintf(m->names + m->bytes, "%s{key=\"%u\"}", base,
					      first + i) + 1;
	m->head.length = (uint32_t)(sizeof(*m) + m->bytes);
	err = wire_send(c->sock, m, NULL, 0, 0);
	if (err)
		bench_die("changing", strerror(-err));
	reply = control_wait(c, WIRE_REGISTERED, NULL, NULL);
	for (uint32_t i = 0; i < reply->nr; i++)
		if (reply->results[i].err)
			bench_die("changing", strerror(-reply->results[i].err));
}

void control_status(struct control *c, struct wire_status *ret)
{
	const struct wire_query q = {
		.head = { WIRE_MAGIC, WIRE_VERSION, WIRE_QUERY, ++c->number, sizeof(q) },
		.what = WIRE_STATUS,
	};
	const struct wire_answer *a;
	int err = wire_send(c->sock, &q, NULL, 0, 0);

	if (err)
		bench_die("asking", strerror(-err));
	a = control_wait(c, WIRE_ANSWER, NULL, NULL);
	memcpy(ret, a->records, sizeof(*ret));
}

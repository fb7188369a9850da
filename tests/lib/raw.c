/* See raw.h. Called by the harness and by the tests of bad input. */
#define _GNU_SOURCE
#include "tests/lib/raw.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

int raw_connect(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval limit = { .tv_sec = 5 };
	int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), err;

	if (sock < 0)
		return -errno;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(sock, (struct sockaddr *)&address, sizeof(address)) == 0)
		return sock;
	err = -errno;
	close(sock);
	return err;
}

void raw_begin(void *buf, uint16_t kind, uint32_t number, size_t length)
{
	memset(buf, 0, length);
	*(struct wire_head *)buf = (struct wire_head){ WIRE_MAGIC, WIRE_VERSION, kind, number,
						       (uint32_t)length };
}

int raw_put_counter(struct wire_register *m, const char *name, const char *help)
{
	struct wire_entry e = { .type = SHM_COUNTER, .name_bytes = (uint16_t)strlen(name),
				.help_bytes = (uint16_t)strlen(help) };

	return wire_entry_put(m, &e, name, help, NULL);
}

static ssize_t recv_with_fds(int sock, void *buf, size_t size, int *fds, unsigned int *fds_nr)
{
	const struct wire_head *head = buf;
	ssize_t n;

	do {
		n = wire_recv(sock, buf, size, fds, fds ? 3 : 0, fds_nr, 0);
	} while (n >= (ssize_t)sizeof(*head) && head->kind == WIRE_RESUME);
	return n;
}

ssize_t raw_recv(int sock, void *buf, size_t size)
{
	return recv_with_fds(sock, buf, size, NULL, NULL);
}

/* Receives and wants this kind; an ERROR becomes its errno. */
static int expect(int sock, uint16_t kind, void *buf, size_t size, int *fds, unsigned int *fds_nr)
{
	const struct wire_head *head = buf;
	ssize_t n = recv_with_fds(sock, buf, size, fds, fds_nr);

	if (n <= 0)
		return n ? (int)n : -ECONNRESET;
	if (wire_admin_check(buf, (size_t)n))
		return -EPROTO;
	if (head->kind == WIRE_ERROR)
		return ((const struct wire_error *)buf)->err;
	return head->kind == kind ? 0 : -EPROTO;
}

int raw_hello(int sock, const char *name_space, uint32_t access, struct wire_welcome *ret,
	      int *ret_fds)
{
	_Alignas(8) char in[WIRE_MAX];
	unsigned int fds_nr = 0;
	struct wire_hello m;
	int fds[3], err;

	raw_begin(&m, WIRE_HELLO, 1, sizeof(m));
	m.abi = SHM_ABI;
	m.access = access;
	m.fingerprint = shm_fingerprint();
	snprintf(m.name_space, sizeof(m.name_space), "%s", name_space);
	snprintf(m.app, sizeof(m.app), "test");
	err = wire_send(sock, &m, NULL, 0, 0);
	if (err)
		return err;
	err = expect(sock, WIRE_WELCOME, in, sizeof(in), fds, &fds_nr);
	if (!err && fds_nr != 3)
		err = -EBADF;
	if (!err && ret)
		memcpy(ret, in, sizeof(*ret));
	if (!err && ret_fds)
		memcpy(ret_fds, fds, sizeof(fds));
	for (unsigned int i = 0; i < fds_nr && (err || !ret_fds); i++)
		close(fds[i]);
	return err;
}

int raw_status(int sock, struct wire_status *ret)
{
	_Alignas(8) char in[WIRE_MAX];
	struct wire_query m;
	int err;

	raw_begin(&m, WIRE_QUERY, 2, sizeof(m));
	m.what = WIRE_STATUS;
	err = wire_send(sock, &m, NULL, 0, 0);
	if (!err)
		err = expect(sock, WIRE_ANSWER, in, sizeof(in), NULL, NULL);
	if (!err)
		memcpy(ret, ((struct wire_answer *)(void *)in)->records, sizeof(*ret));
	return err;
}

int raw_status_once(const char *socket, struct wire_status *ret)
{
	int sock = raw_connect(socket), err;

	if (sock < 0)
		return sock;
	err = raw_hello(sock, "default", WIRE_READ, NULL, NULL);
	if (!err)
		err = raw_status(sock, ret);
	close(sock);
	return err;
}

int raw_change(int sock, enum wire_change_op op, const char *name, struct wire_result *ret)
{
	_Alignas(8) char in[WIRE_MAX], out[sizeof(struct wire_change) + WIRE_NAME_MAX];
	struct wire_change *m = (void *)out;
	size_t bytes = strlen(name) + 1;
	int err;

	raw_begin(m, WIRE_CHANGE, 3, sizeof(*m) + bytes);
	m->op = op;
	m->nr = 1;
	m->bytes = (uint32_t)bytes;
	memcpy(m->names, name, bytes);
	err = wire_send(sock, m, NULL, 0, 0);
	if (!err)
		err = expect(sock, WIRE_REGISTERED, in, sizeof(in), NULL, NULL);
	if (!err && ret)
		*ret = ((struct wire_registered *)(void *)in)->results[0];
	return err ? err : ((struct wire_registered *)(void *)in)->results[0].err;
}

int raw_explain(int sock, const char *name, struct wire_explain *ret)
{
	_Alignas(8) char in[WIRE_MAX], out[sizeof(struct wire_query) + WIRE_NAME_MAX];
	struct wire_query *m = (void *)out;
	int err;

	raw_begin(m, WIRE_QUERY, 4, sizeof(*m) + strlen(name));
	m->what = WIRE_EXPLAIN;
	m->name_bytes = (uint32_t)strlen(name);
	memcpy(m->name, name, m->name_bytes);
	err = wire_send(sock, m, NULL, 0, 0);
	if (!err)
		err = expect(sock, WIRE_ANSWER, in, sizeof(in), NULL, NULL);
	if (!err)
		memcpy(ret, ((struct wire_answer *)(void *)in)->records, sizeof(*ret));
	return err;
}

/*
 * The control socket of an attachment: connecting, HELLO, requests with a deadline, and RESUME of a
 * new worker. Owns attach.fd and the fields about it. The caller holds the conn lock. Nothing here
 * touches keys or targets.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

static void text_set(char *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void text_set(char *text, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, TEXT_MAX, format, ap);
	va_end(ap);
}

/* After closefrom() the number may be another file: the library must not read or close that one. */
static bool fd_is_ours(const struct attach *a)
{
	struct stat st;

	return a->fd >= 0 && fstat(a->fd, &st) == 0 && S_ISSOCK(st.st_mode) &&
	       st.st_ino == a->fd_ino;
}

void conn_close(struct attach *a)
{
	if (fd_is_ours(a))
		close(a->fd);
	a->fd = -1;
}

static int wait_for(int fd, short events, uint64_t deadline_ns)
{
	for (;;) {
		struct pollfd p = { .fd = fd, .events = events };
		uint64_t now_ns = mono_ns();
		uint64_t left_ns = now_ns < deadline_ns ? deadline_ns - now_ns : 0;
		int r = poll(&p, 1, (int)((left_ns + NS_PER_MS - 1) / NS_PER_MS));

		if (r > 0)
			return 0;
		if (r == 0)
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
}

/* A daemon that does not read fills the queue: then wait as for an answer. */
static int send_by(struct attach *a, const void *msg, uint64_t deadline_ns)
{
	int err;

	while ((err = wire_send(a->fd, msg, NULL, 0, MSG_DONTWAIT)) == -EAGAIN) {
		err = wait_for(a->fd, POLLOUT, deadline_ns);
		if (err)
			return err;
	}
	return err == -EPIPE ? -ECONNRESET : err;
}

static int send_hello(struct attach *a, uint64_t deadline_ns)
{
	struct wire_hello m = {
		.head = { WIRE_MAGIC, WIRE_VERSION, WIRE_HELLO, ++a->number, sizeof(m) },
		.abi = SHM_ABI,
		.access = a->read_only ? WIRE_READ : WIRE_WRITE,
		.fingerprint = shm_fingerprint(),
	};

	a->hello = a->number;
	if (a->region) {
		m.has_fds = 1;
		memcpy(m.region_id, a->region->id, sizeof(m.region_id));
	}
	memcpy(m.name_space, a->ns, sizeof(m.name_space));
	memcpy(m.app, a->app, sizeof(m.app));
	return send_by(a, &m, deadline_ns);
}

static int map_region(const struct wire_welcome *w, const int *fds, struct region **ret, char *text)
{
	struct region *r = calloc(1, sizeof(*r));
	void *at[REGION_PARTS] = { NULL };
	const char *why = "";
	int err = r ? 0 : -ENOMEM;

	for (int i = 0; i < REGION_PARTS && !err; i++) {
		err = region_check(fds[i], i, &why);
		if (err)
			text_set(text, "the daemon's memory is refused: %s. fix: install libtalea and "
				 "talead of one version", why);
	}
	for (int i = 0; i < REGION_PARTS && !err; i++) {
		err = region_map(fds[i], i, i == REGION_S && w->access == WIRE_WRITE, &at[i]);
		if (err)
			text_set(text, "the shared memory cannot be mapped: %s. It needs 7 GiB of "
				 "address space (not memory). fix: raise `ulimit -v`, or `ulimit -l` "
				 "under mlockall",
				 strerror(-err));
	}
	if (err) {
		for (int i = 0; i < REGION_PARTS; i++)
			if (at[i])
				munmap(at[i], region_bytes(i));
		free(r);
		return err;
	}
	memcpy(r->id, w->region_id, sizeof(r->id));
	r->view = (struct shm_view){ .d = at[REGION_D], .s = at[REGION_S], .t = at[REGION_T] };
	r->writable = w->access == WIRE_WRITE;
	*ret = r;
	return 0;
}

/* WELCOME or ERROR arrived. *ret_region is the new region when fds came with it. */
static int welcomed(struct attach *a, const void *msg, const int *fds, unsigned int fds_nr,
		    struct region **ret_region, char *text)
{
	const struct wire_welcome *w = msg;
	const struct wire_error *e = msg;

	if (w->head.kind == WIRE_ERROR) {
		text_set(text, "%.*s", (int)e->text_bytes, e->text);
		return e->err < 0 ? e->err : -EPROTO;
	}
	if (w->abi != SHM_ABI || w->fingerprint != shm_fingerprint()) {
		text_set(text, "talead has ABI %u and another memory layout, this library has ABI %u. "
			 "fix: install libtalea and talead of one version", w->abi, SHM_ABI);
		return -EPROTONOSUPPORT;
	}
	a->incarnation = w->incarnation;
	/* The worker may answer two hellos (one sent to a former worker): the second brings
	 * nothing. */
	if (a->region && memcmp(a->region->id, w->region_id, sizeof(w->region_id)) == 0)
		return 0;
	if (fds_nr == REGION_PARTS)
		return map_region(w, fds, ret_region, text);
	text_set(text, "talead sent no memory. fix: install libtalea and talead of one version");
	return -EPROTO;
}

static void close_all(const int *fds, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		close(fds[i]);
}

/*
 * Waits for the answer to request `number`, or for WELCOME when number is 0. Answers a RESUME with
 * a new HELLO; after its WELCOME *ret_resumed says that the request must be repeated. Skips late
 * answers to requests that timed out.
 */
static int await(struct attach *a, uint32_t number, void *buf, uint64_t deadline_ns,
		 struct region **ret_region, bool *ret_resumed, char *text)
{
	const struct wire_head *h = buf;

	for (;;) {
		int fds[REGION_PARTS], err = wait_for(a->fd, POLLIN, deadline_ns);
		unsigned int fds_nr = 0;
		ssize_t got;

		if (err)
			return err;
		got = wire_recv(a->fd, buf, WIRE_MAX, fds, REGION_PARTS, &fds_nr, MSG_DONTWAIT);
		if (got == -EAGAIN)
			continue;
		if (got <= 0) {
			close_all(fds, fds_nr);
			return -ECONNRESET;
		}
		err = wire_check(buf, (size_t)got);
		if (!err && h->kind == WIRE_RESUME) {
			err = send_hello(a, deadline_ns);
		} else if (!err && (h->kind == WIRE_WELCOME ||
				    (h->kind == WIRE_ERROR && h->number == a->hello))) {
			err = welcomed(a, buf, fds, fds_nr, ret_region, text);
			close_all(fds, fds_nr);
			*ret_resumed = true;
			return err;
		} else if (!err && number && h->number == number) {
			close_all(fds, fds_nr);
			return 0;
		}
		close_all(fds, fds_nr);
		if (err)
			return err;
	}
}

static int connect_socket(struct attach *a, char *text)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct stat st;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	memcpy(sa.sun_path, a->socket, sizeof(sa.sun_path));
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) || fstat(fd, &st)) {
		int err = -errno;

		close(fd);
		if (err == -ENOENT || err == -ECONNREFUSED) {
			text_set(text, "no talead answers on %s. fix: start talead, or set "
				 "TALEA_SOCKET", a->socket);
			return -ECONNREFUSED;
		}
		text_set(text, "cannot connect to %s: %s%s", a->socket, strerror(-err),
			 err == -EACCES ? ". fix: ask for access to its folder, or set "
					  "TALEA_SOCKET" : "");
		return err;
	}
	a->fd = fd;
	a->fd_ino = st.st_ino;
	return 0;
}

static int connect_once(struct attach *a, void *buf, uint64_t deadline_ns,
			struct region **ret_region, char *text)
{
	bool resumed = false;
	int err = connect_socket(a, text);

	if (!err)
		err = send_hello(a, deadline_ns);
	if (!err)
		err = await(a, 0, buf, deadline_ns, ret_region, &resumed, text);
	if (err)
		conn_close(a);
	return err == -EPIPE ? -ECONNRESET : err;
}

int conn_open(struct attach *a, uint64_t deadline_ns, struct region **ret_region, char *text)
{
	static const struct timespec pause = { .tv_nsec = 2000000 };
	char *buf = malloc(WIRE_MAX);
	int err = buf ? connect_once(a, buf, deadline_ns, ret_region, text) : -ENOMEM;

	/* A keeper that dies takes along the connections that it accepted and its standby does not
	 * hold yet. A standby that does not accept fills its queue. */
	while ((err == -ECONNRESET || err == -EAGAIN) && mono_ns() < deadline_ns) {
		nanosleep(&pause, NULL);
		err = connect_once(a, buf, deadline_ns, ret_region, text);
	}
	if (err == -EAGAIN)
		err = -ETIMEDOUT;
	if (err == -ETIMEDOUT)
		text_set(text, "talead on %s did not answer in time: it may be stopped. see: "
			 "talea status",
			 a->socket);
	else if (err == -ECONNRESET)
		text_set(text, "talead on %s ended the connection. see: its log", a->socket);
	free(buf);
	return err;
}

bool conn_alive(struct attach *a, char *text)
{
	struct region *none = NULL;
	bool resumed = false;
	char *buf;
	int err;

	if (!fd_is_ours(a)) {
		a->fd = -1;
		return false;
	}
	if (wait_for(a->fd, POLLIN, 0) == -ETIMEDOUT)
		return true;
	/* The socket is readable: an end of file, a RESUME, or the late answer to a request that
	 * timed out. */
	buf = malloc(WIRE_MAX);
	if (!buf)
		return true;
	do
		err = await(a, 0, buf, 0, &none, &resumed, text);
	while (!err);
	if (err != -ETIMEDOUT || none)
		conn_close(a);
	free(buf);
	return a->fd >= 0;
}

int conn_register(struct attach *a, struct wire_register *msg, struct wire_registered *reply,
		  uint64_t deadline_ns, char *text)
{
	struct region *region = NULL;
	bool resumed = true;
	int err = 0;

	msg->head.number = ++a->number;
	while (resumed && !err) {
		resumed = false;
		err = send_by(a, msg, deadline_ns);
		if (!err)
			err = await(a, msg->head.number, reply, deadline_ns, &region, &resumed, text);
	}
	if (err == -ETIMEDOUT) {
		text_set(text, "talead did not answer in time: what was declared counts privately and "
			 "is carried over later");
	} else if (err || region) {
		conn_close(a);
		text_set(text, "talead ended the connection: what was declared counts privately and "
			 "is carried over later");
		return err ? err : -ECONNRESET;
	}
	if (err)
		return err;
	if (reply->head.kind == WIRE_ERROR) {
		const struct wire_error *e = (const struct wire_error *)reply;

		text_set(text, "%.*s", (int)e->text_bytes, e->text);
		return e->err < 0 ? e->err : -EPROTO;
	}
	return reply->head.kind == WIRE_REGISTERED && reply->nr == msg->nr ? 0 : -EPROTO;
}

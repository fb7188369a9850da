/*
 * The checks of the clients' wire, and sending and receiving for both wires: see wire.h. Owns no
 * memory and keeps no state. A receiver may read a message that passed wire_check by its struct
 * without another bound: its size fits its kind, its counts fit its size and its strings end inside
 * it.
 */
#define _GNU_SOURCE
#include "wire.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define WIRE_FDS_MAX 253 /* SCM_MAX_FD: no message can carry more */

#define FIXED_STRING_ENDS(field) (memchr((field), 0, sizeof(field)) != NULL)

static int check_hello(const void *msg, size_t got)
{
	const struct wire_hello *m = msg;

	if (got != sizeof(*m))
		return -EMSGSIZE;
	if (!FIXED_STRING_ENDS(m->name_space) || !FIXED_STRING_ENDS(m->app))
		return -EPROTO;
	if (!m->access || m->access > (WIRE_READ | WIRE_WRITE))
		return -EPROTO;
	return m->has_fds > 1 ? -EPROTO : 0;
}

static int check_welcome(const void *msg, size_t got)
{
	const struct wire_welcome *m = msg;

	if (got != sizeof(*m))
		return -EMSGSIZE;
	return m->fds_nr != 0 && m->fds_nr != 3 ? -EPROTO : 0;
}

static int check_error(const void *msg, size_t got)
{
	const struct wire_error *m = msg;

	if (got < offsetof(struct wire_error, text))
		return -EMSGSIZE;
	if (m->text_bytes > WIRE_TEXT_MAX ||
	    got != offsetof(struct wire_error, text) + m->text_bytes)
		return -EMSGSIZE;
	if (m->err >= 0 || !m->text_bytes || m->text[m->text_bytes - 1])
		return -EPROTO;
	return 0;
}

static int check_resume(const void *msg, size_t got)
{
	(void)msg;
	return got == sizeof(struct wire_resume) ? 0 : -EMSGSIZE;
}

static int check_register(const void *msg, size_t got)
{
	const struct wire_register *m = msg;
	uint32_t nr = 0;
	size_t at = 0;
	int err = 0;

	if (got < sizeof(*m))
		return -EMSGSIZE;
	if (!m->nr || m->nr > WIRE_ENTRIES_MAX)
		return -EPROTO;
	while (wire_entry_next(m, &at, &err))
		nr++;
	if (err)
		return err;
	return nr == m->nr ? 0 : -EPROTO;
}

static int check_registered(const void *msg, size_t got)
{
	const struct wire_registered *m = msg;
	const char *texts;

	if (got < sizeof(*m))
		return -EMSGSIZE;
	if (!m->nr || m->nr > WIRE_ENTRIES_MAX)
		return -EPROTO;
	if (got != sizeof(*m) + m->nr * sizeof(m->results[0]) + (uint64_t)m->text_bytes)
		return -EMSGSIZE;
	texts = (const char *)&m->results[m->nr];
	if (m->text_bytes && texts[m->text_bytes - 1])
		return -EPROTO;
	for (uint32_t i = 0; i < m->nr; i++) {
		const struct wire_result *r = &m->results[i];

		if (r->slot >= SHM_SLOTS_MAX || r->err > 0)
			return -EPROTO;
		if (r->err && r->text_at >= m->text_bytes)
			return -EPROTO;
	}
	return 0;
}

int wire_head_check(const void *msg, size_t got)
{
	const struct wire_head *head = msg;

	if (got < sizeof(*head) || got > WIRE_MAX)
		return -EMSGSIZE;
	if (head->magic != WIRE_MAGIC)
		return -EPROTO;
	if (head->version != WIRE_VERSION)
		return -EPROTONOSUPPORT;
	return head->length != got ? -EMSGSIZE : 0;
}

int wire_check(const void *msg, size_t got)
{
	static int (*const checks[])(const void *, size_t) = {
		[WIRE_HELLO] = check_hello,
		[WIRE_WELCOME] = check_welcome,
		[WIRE_ERROR] = check_error,
		[WIRE_RESUME] = check_resume,
		[WIRE_REGISTER] = check_register,
		[WIRE_REGISTERED] = check_registered,
	};
	const struct wire_head *head = msg;
	int err = wire_head_check(msg, got);

	if (err)
		return err;
	if (head->kind >= WIRE_RING && head->kind <= WIRE_KIND_RESERVED_LAST)
		return 0; /* the receiver answers -EOPNOTSUPP without reading the body */
	if (head->kind >= sizeof(checks) / sizeof(checks[0]) || !checks[head->kind])
		return -EPROTO;
	return checks[head->kind](msg, got);
}

static size_t entry_bytes(const struct wire_entry *e)
{
	size_t bytes = sizeof(*e) + e->name_bytes + e->help_bytes + e->label_bytes;

	return (bytes + 7) & ~(size_t)7;
}

static bool entry_is_bounded(const struct wire_entry *e)
{
	return e->name_bytes && e->name_bytes <= SHM_NAME_MAX && e->help_bytes <= SHM_NAME_MAX &&
	       e->label_bytes <= SHM_NAME_MAX;
}

const struct wire_entry *wire_entry_next(const struct wire_register *msg, size_t *at, int *ret_err)
{
	size_t room = msg->head.length - sizeof(*msg) - *at;
	const struct wire_entry *e = (const struct wire_entry *)(const void *)(msg->entries + *at);

	if (!room)
		return NULL;
	if (room < sizeof(*e) || !entry_is_bounded(e) || entry_bytes(e) > room) {
		*ret_err = -EPROTO;
		return NULL;
	}
	*at += entry_bytes(e);
	return e;
}

int wire_entry_put(struct wire_register *msg, const struct wire_entry *head, const void *name,
		   const void *help, const void *label)
{
	size_t bytes = entry_bytes(head);
	size_t end = msg->nr ? msg->head.length : sizeof(*msg);
	struct wire_entry *e = (struct wire_entry *)(void *)((char *)msg + end);
	char *p = e->bytes;

	if (!entry_is_bounded(head) || msg->nr >= WIRE_ENTRIES_MAX || end + bytes > WIRE_MAX)
		return -EMSGSIZE;
	memset(e, 0, bytes);
	memcpy(e, head, sizeof(*head));
	memcpy(p, name, head->name_bytes);
	p += head->name_bytes;
	if (head->help_bytes)
		memcpy(p, help, head->help_bytes);
	p += head->help_bytes;
	if (head->label_bytes)
		memcpy(p, label, head->label_bytes);
	msg->nr++;
	msg->head.length = (uint32_t)(end + bytes);
	return 0;
}

int wire_send(int sock, const void *msg, const int *fds, unsigned int fds_nr, int flags)
{
	const struct wire_head *head = msg;
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(8 * sizeof(int))];
	} control = { .bytes = { 0 } };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)msg, .iov_len = head->length };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (fds_nr > 8)
		return -EINVAL;
	if (fds_nr) {
		struct cmsghdr *c;

		m.msg_control = control.bytes;
		m.msg_controllen = CMSG_SPACE(fds_nr * sizeof(int));
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(fds_nr * sizeof(int));
		memcpy(CMSG_DATA(c), fds, fds_nr * sizeof(int));
	}
	do {
		n = sendmsg(sock, &m, flags | MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

/* Takes every fd of a received message: puts the first fds_max into fds and closes the rest. */
static unsigned int take_fds(struct msghdr *m, int *fds, unsigned int fds_max)
{
	unsigned int kept = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		size_t bytes = c->cmsg_len - CMSG_LEN(0);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t at = 0; at + sizeof(int) <= bytes; at += sizeof(int)) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + at, sizeof(fd));
			if (kept < fds_max)
				fds[kept++] = fd;
			else
				close(fd);
		}
	}
	return kept;
}

ssize_t wire_recv(int sock, void *buf, size_t size, int *ret_fds, unsigned int fds_max,
		  unsigned int *ret_fds_nr, int flags)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(WIRE_FDS_MAX * sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = buf, .iov_len = size };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes };
	unsigned int kept;
	ssize_t n;

	do {
		m.msg_controllen = sizeof(control.bytes);
		n = recvmsg(sock, &m, flags | MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	kept = take_fds(&m, ret_fds, fds_max);
	if (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
		while (kept)
			close(ret_fds[--kept]);
		n = -EMSGSIZE;
	}
	if (ret_fds_nr)
		*ret_fds_nr = kept;
	return n;
}

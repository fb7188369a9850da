/*
 * The checks of the control protocol and its sending and receiving: see wire.h. Owns no memory and
 * keeps no state. A message that passed wire_check can be read by its struct without another bound:
 * its size fits its kind, its counts fit its size and its strings end inside it.
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

_Static_assert(sizeof(struct wire_answer) + WIRE_CLIENTS_MAX * sizeof(struct wire_client) <= WIRE_MAX &&
	       sizeof(struct wire_answer) + sizeof(struct wire_changes) +
			       WIRE_CHANGES_MAX * sizeof(struct change_shm) <= WIRE_MAX &&
	       sizeof(struct wire_answer) + WIRE_PROBES_MAX * sizeof(struct wire_probe) <= WIRE_MAX,
	       "the longest answers fit a message");

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

static int check_change(const void *msg, size_t got)
{
	const struct wire_change *m = msg;
	const char *name = m->names;
	uint32_t left;

	if (got < sizeof(*m))
		return -EMSGSIZE;
	if (got != sizeof(*m) + (uint64_t)m->bytes)
		return -EMSGSIZE;
	if (m->op < WIRE_PIN_HOT || m->op > WIRE_ACCEPT || !m->nr || m->nr > WIRE_ENTRIES_MAX)
		return -EPROTO;
	left = m->bytes;
	for (uint32_t i = 0; i < m->nr; i++) {
		size_t len = strnlen(name, left);

		if (len == left || len >= WIRE_NAME_MAX)
			return -EPROTO;
		name += len + 1;
		left -= (uint32_t)len + 1;
	}
	return left ? -EPROTO : 0;
}

static int check_probe_change(const void *msg, size_t got)
{
	const struct wire_probe_change *m = msg;

	if (got < sizeof(*m) || m->bytes >= WIRE_TEXT_MAX || got != sizeof(*m) + m->bytes)
		return -EMSGSIZE;
	if (m->op < WIRE_PROBE_ATTACH || m->op > WIRE_PROBE_COST || m->is_checked_only > 1 ||
	    memchr(m->text, 0, m->bytes))
		return -EPROTO;
	if (m->op == WIRE_PROBE_COST)
		return m->bytes || !m->ms || m->ms > WIRE_COST_MS_MAX ? -EPROTO : 0;
	return m->bytes && (!m->is_checked_only || m->op == WIRE_PROBE_ATTACH) ? 0 : -EPROTO;
}

static int check_query(const void *msg, size_t got)
{
	const struct wire_query *m = msg;

	if (got < sizeof(*m))
		return -EMSGSIZE;
	if (m->name_bytes >= WIRE_NAME_MAX || got != sizeof(*m) + m->name_bytes)
		return -EMSGSIZE;
	return memchr(m->name, 0, m->name_bytes) ? -EPROTO : 0;
}

static int check_status(const struct wire_status *s)
{
	return FIXED_STRING_ENDS(s->version) && FIXED_STRING_ENDS(s->vector) &&
			       FIXED_STRING_ENDS(s->socket) &&
			       FIXED_STRING_ENDS(s->state_folder) &&
			       FIXED_STRING_ENDS(s->name_space) &&
			       FIXED_STRING_ENDS(s->sandbox)
		       ? 0
		       : -EPROTO;
}

static int check_probe(const struct wire_probe *p)
{
	return FIXED_STRING_ENDS(p->name) && FIXED_STRING_ENDS(p->attach) &&
			       FIXED_STRING_ENDS(p->counters) && FIXED_STRING_ENDS(p->reason) &&
			       FIXED_STRING_ENDS(p->fix) && FIXED_STRING_ENDS(p->unpinned_why)
		       ? 0
		       : -EPROTO;
}

static int check_explain(const struct wire_explain *e)
{
	return e->heat <= WIRE_RETIRING && e->pin <= WIRE_RULE_NO && e->rule <= WIRE_RULE_NO &&
			       e->slot < SHM_SLOTS_MAX
		       ? 0
		       : -EPROTO;
}

/* records_bytes is at least that of the head. */
static int check_lanes(const struct wire_lanes *l, size_t records_bytes)
{
	if (l->cpus_nr > SHM_CPUS_MAX || l->slot >= SHM_SLOTS_MAX)
		return -EPROTO;
	if (l->row == SHM_ROW_NONE && l->cpus_nr)
		return -EPROTO;
	return records_bytes == sizeof(*l) + l->cpus_nr * sizeof(l->lanes[0]) ? 0 : -EMSGSIZE;
}

static int check_probes(const struct wire_probe *probes, uint32_t nr)
{
	int err = nr > WIRE_PROBES_MAX ? -EPROTO : 0;

	for (uint32_t i = 0; i < nr && !err; i++)
		err = check_probe(&probes[i]);
	return err;
}

static int check_clients(const struct wire_client *clients, uint32_t nr)
{
	if (nr > WIRE_CLIENTS_MAX)
		return -EPROTO;
	for (uint32_t i = 0; i < nr; i++)
		if (!FIXED_STRING_ENDS(clients[i].app))
			return -EPROTO;
	return 0;
}

static int check_changes(const struct wire_changes *changes, uint32_t nr)
{
	if (nr > WIRE_CHANGES_MAX)
		return -EPROTO;
	for (uint32_t i = 0; i < nr; i++)
		if (changes->changes[i].name_len > sizeof(changes->changes[i].name))
			return -EPROTO;
	return 0;
}

/* What `nr` records of each answer measure: one head, and so much a record. */
static const struct {
	uint32_t head_bytes, record_bytes;
} answers[] = {
	[WIRE_STATUS] = { 0, sizeof(struct wire_status) },
	[WIRE_PROBES] = { 0, sizeof(struct wire_probe) },
	[WIRE_CLIENTS] = { 0, sizeof(struct wire_client) },
	[WIRE_EXPLAIN] = { 0, sizeof(struct wire_explain) },
	[WIRE_LANES] = { sizeof(struct wire_lanes), 0 },
	[WIRE_CHANGES] = { sizeof(struct wire_changes), sizeof(struct change_shm) },
};

static int check_answer(const void *msg, size_t got)
{
	const struct wire_answer *m = msg;
	const void *records = m->records;
	size_t bytes;

	if (got < sizeof(*m))
		return -EMSGSIZE;
	bytes = got - sizeof(*m);
	if (!m->what || m->what >= sizeof(answers) / sizeof(answers[0]))
		return -EPROTO;
	if ((m->what == WIRE_STATUS || m->what == WIRE_EXPLAIN || m->what == WIRE_LANES) &&
	    m->nr != 1)
		return -EPROTO;
	if (m->what == WIRE_LANES ? bytes < answers[m->what].head_bytes :
	    bytes != answers[m->what].head_bytes +
			     m->nr * (uint64_t)answers[m->what].record_bytes)
		return -EMSGSIZE;
	switch (m->what) {
	case WIRE_STATUS:
		return check_status(records);
	case WIRE_PROBES:
		return check_probes(records, m->nr);
	case WIRE_CLIENTS:
		return check_clients(records, m->nr);
	case WIRE_EXPLAIN:
		return check_explain(records);
	case WIRE_LANES:
		return check_lanes(records, bytes);
	case WIRE_CHANGES:
		return check_changes(records, m->nr);
	}
	return -EPROTO;
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
		[WIRE_QUERY] = check_query,
		[WIRE_CHANGE] = check_change,
		[WIRE_PROBE] = check_probe_change,
		[WIRE_ANSWER] = check_answer,
	};
	const struct wire_head *head = msg;

	if (got < sizeof(*head) || got > WIRE_MAX)
		return -EMSGSIZE;
	if (head->magic != WIRE_MAGIC)
		return -EPROTO;
	if (head->version != WIRE_VERSION)
		return -EPROTONOSUPPORT;
	if (head->length != got)
		return -EMSGSIZE;
	if (head->kind >= WIRE_RING && head->kind <= WIRE_KIND_RESERVED_LAST)
		return 0; /* the receiver says -EOPNOTSUPP without looking at the body */
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

/* Takes every fd of a received message: the first fds_max into fds, the rest closed. */
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

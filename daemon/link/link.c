/* See link.h. */
#define _GNU_SOURCE
#include "daemon/link/link.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

int link_open(int ret_ends[2])
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret_ends))
		return -errno;
	return 0;
}

int link_send(int link, const struct link_msg *msg, const int *fds, unsigned int fds_nr)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(LINK_FDS_MAX * sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = (void *)msg, .iov_len = sizeof(*msg) };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fds_nr > LINK_FDS_MAX)
		return -EINVAL;
	if (fds_nr) {
		struct cmsghdr *c;

		mh.msg_control = control.bytes;
		mh.msg_controllen = CMSG_SPACE(fds_nr * sizeof(int));
		c = CMSG_FIRSTHDR(&mh);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(fds_nr * sizeof(int));
		memcpy(CMSG_DATA(c), fds, fds_nr * sizeof(int));
	}
	if (sendmsg(link, &mh, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		return 0;
	/* Too many fds in flight, or no memory for them: both pass when the other end reads. */
	if (errno == ETOOMANYREFS || errno == ENOBUFS || errno == ENOMEM)
		return -EAGAIN;
	return errno == ECONNRESET || errno == ENOTCONN ? -EPIPE : -errno;
}

int link_send_plain(int link, enum link_kind kind, uint32_t nr, uint64_t id)
{
	struct link_msg msg = { .kind = kind, .nr = nr, .id = id };

	return link_send(link, &msg, NULL, 0);
}

static unsigned int link_take_fds(struct msghdr *mh, int *ret_fds)
{
	unsigned int nr = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		/* The control buffer has no room for more than LINK_FDS_MAX. */
		memcpy(ret_fds + nr, CMSG_DATA(c), n * sizeof(int));
		nr += (unsigned int)n;
	}
	return nr;
}

void link_close_fds(const int *fds, unsigned int fds_nr)
{
	for (unsigned int i = 0; i < fds_nr; i++)
		close(fds[i]);
}

int link_recv(int link, struct link_msg *ret, int *ret_fds, unsigned int *ret_fds_nr)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(LINK_FDS_MAX * sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = ret, .iov_len = sizeof(*ret) };
	struct msghdr mh = { .msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.bytes,
			     .msg_controllen = sizeof(control.bytes) };
	unsigned int fds_nr;
	ssize_t n;

	do
		n = recvmsg(link, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ECONNRESET ? 0 : -errno;
	fds_nr = link_take_fds(&mh, ret_fds);
	if (n == 0)
		return 0;
	if (n != (ssize_t)sizeof(*ret) || mh.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
		link_close_fds(ret_fds, fds_nr);
		return -EPROTO;
	}
	if (ret->kind == LINK_CONFIG)
		for (unsigned int i = 0; i < LINK_REGIONS_MAX; i++)
			ret->names[i][SHM_NAMESPACE_MAX - 1] = '\0';
	else if (ret->kind != LINK_ATTACH)
		ret->text[LINK_TEXT_MAX - 1] = '\0';
	*ret_fds_nr = fds_nr;
	return 1;
}

int link_pack(const void *what, size_t bytes)
{
	int fd = memfd_create("talea-link", MFD_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = pwrite(fd, what, bytes, 0);
	if (n != (ssize_t)bytes) {
		int err = n < 0 ? -errno : -EIO;

		close(fd);
		return err;
	}
	return fd;
}

int link_unpack(int fd, void *ret, size_t bytes)
{
	char extra;

	if (pread(fd, &extra, 1, (off_t)bytes) != 0 ||
	    pread(fd, ret, bytes, 0) != (ssize_t)bytes)
		return -EPROTO;
	return 0;
}

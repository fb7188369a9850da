/*
 * The listening socket: its file is made and removed here, and nowhere is a file removed that could
 * be another talead's. Accepting is clients.c's.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/keeper/keeper.h"
#include "daemon/link/log.h"

static int in_use(const char *path, int probe)
{
	struct ucred peer = { 0 };
	socklen_t size = sizeof(peer);

	if (probe >= 0 && !getsockopt(probe, SOL_SOCKET, SO_PEERCRED, &peer, &size) && peer.pid)
		log_line("the socket %s is in use by process %d. fix: stop that one, or name another "
			 "with --socket", path, peer.pid);
	else
		log_line("the socket %s is in use by another process. fix: stop that one, or name "
			 "another with --socket", path);
	return -EADDRINUSE;
}

/*
 * Removes what a former talead left. The caller holds keeper.lock, but another state folder may
 * have named the same socket: one that still answers is in use.
 */
static int remove_stale(const struct sockaddr_un *name)
{
	const char *path = name->sun_path;
	struct stat st;
	int probe, err = 0;

	if (lstat(path, &st))
		return 0; /* what else is wrong with it, bind will say */
	if (!S_ISSOCK(st.st_mode)) {
		log_line("%s is there and is not a socket. fix: remove it, or name another with "
			 "--socket", path);
		return -EEXIST;
	}
	probe = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (probe < 0)
		return 0;
	/* EAGAIN: it listens, and more wait than it takes. */
	if (!connect(probe, (const struct sockaddr *)name, sizeof(*name)) || errno != ECONNREFUSED)
		err = in_use(path, probe);
	else
		unlink(path);
	close(probe);
	return err;
}

int socket_listen(struct keeper *k)
{
	const char *path = k->config.socket;
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	struct stat st;
	mode_t mask;
	int fd, err;

	memcpy(name.sun_path, path, strnlen(path, sizeof(name.sun_path) - 1));
	err = path_make_parents(path, 0755);
	if (!err)
		err = remove_stale(&name);
	if (err)
		return err;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* 0666 from the first moment: the worker checks credentials, not the file system. */
	mask = umask(0111);
	err = fd < 0 || bind(fd, (struct sockaddr *)&name, sizeof(name)) ? -errno : 0;
	umask(mask);
	if (!err && (listen(fd, SOMAXCONN) || lstat(path, &st)))
		err = -errno;
	if (err) {
		log_line("the socket %s cannot be made: %s. fix: --socket PATH", path,
			 strerror(-err));
		if (fd >= 0)
			close(fd);
		return err;
	}
	k->listen_fd = fd;
	k->socket_dev = st.st_dev;
	k->socket_ino = st.st_ino;
	return 0;
}

void socket_remove(struct keeper *k)
{
	struct stat st;

	if (k->listen_fd < 0)
		return;
	close(k->listen_fd);
	k->listen_fd = -1;
	if (!lstat(k->config.socket, &st) && st.st_dev == k->socket_dev &&
	    st.st_ino == k->socket_ino)
		unlink(k->config.socket);
}

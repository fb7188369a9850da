/* See listener.h. */
#define _GNU_SOURCE
#include "daemon/keeper/listener.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/keeper/state.h"
#include "daemon/link/log.h"
#include "shm/base/clock.h"

#define RESUME_NS (100 * NS_PER_MS) /* when the kernel refused to watch */

static void listener_resume(void *owner)
{
	struct listener *l = owner;

	if (listener_start(l))
		loop_timer_after(&l->resume, RESUME_NS);
}

static int listener_in_use(const char *path, int probe)
{
	struct ucred peer = { 0 };
	socklen_t size = sizeof(peer);

	if (probe >= 0 && !getsockopt(probe, SOL_SOCKET, SO_PEERCRED, &peer, &size) && peer.pid)
		log_line("the socket %s is in use by process %d. fix: stop that process, or "
			 "--socket PATH", path, peer.pid);
	else
		log_line("the socket %s is in use by another process. fix: stop that process, "
			 "or --socket PATH", path);
	return -EADDRINUSE;
}

/*
 * Removes the socket that a former talead left. The caller holds keeper.lock, but a talead with
 * another state folder may use the same socket: a socket that still answers is in use.
 */
static int listener_remove_stale(const struct sockaddr_un *name)
{
	const char *path = name->sun_path;
	struct stat st;
	int probe, err = 0;

	if (lstat(path, &st))
		return 0; /* bind reports what else is wrong with it */
	if (!S_ISSOCK(st.st_mode)) {
		log_line("%s exists and is not a socket. fix: remove it, or --socket PATH", path);
		return -EEXIST;
	}
	probe = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (probe < 0)
		return 0;
	/* EAGAIN: a process listens, and its queue is full. */
	if (!connect(probe, (const struct sockaddr *)name, sizeof(*name)) || errno != ECONNREFUSED)
		err = listener_in_use(path, probe);
	else
		unlink(path);
	close(probe);
	return err;
}

void listener_init(struct listener *l, struct loop *loop,
		   void (*ready)(void *owner, struct loop_watch *w), void *owner)
{
	*l = (struct listener){ .loop = loop, .watch = { ready, owner }, .fd = -1,
				.reserve_fd = -1 };
	loop_timer_add(loop, &l->resume, listener_resume, l);
}

int listener_open(struct listener *l, const char *path)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	struct stat st;
	mode_t mask;
	int fd, err;

	memcpy(name.sun_path, path, strnlen(path, sizeof(name.sun_path) - 1));
	err = path_make_parents(path, 0755);
	if (!err)
		err = listener_remove_stale(&name);
	if (err)
		return err;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* Mode 0666 from the first moment: the worker checks credentials, not the file system. */
	mask = umask(0111);
	err = fd < 0 || bind(fd, (struct sockaddr *)&name, sizeof(name)) ? -errno : 0;
	umask(mask);
	if (!err && (listen(fd, SOMAXCONN) || lstat(path, &st)))
		err = -errno;
	if (err) {
		log_line("talead cannot make the socket %s: %s. fix: --socket PATH", path,
			 strerror(-err));
		if (fd >= 0)
			close(fd);
		return err;
	}
	l->fd = fd;
	l->dev = st.st_dev;
	l->ino = st.st_ino;
	return 0;
}

void listener_close(struct listener *l, const char *path)
{
	struct stat st;

	if (l->fd < 0)
		return;
	close(l->fd);
	l->fd = -1;
	if (!lstat(path, &st) && st.st_dev == l->dev && st.st_ino == l->ino)
		unlink(path);
}

/* --- pauses ---------------------------------------------------------------------------------- */

int listener_start(struct listener *l)
{
	loop_timer_set(&l->resume, NEVER);
	return loop_watch_add(l->loop, &l->watch, l->fd, EPOLLIN);
}

void listener_stop(struct listener *l)
{
	loop_timer_set(&l->resume, NEVER);
	loop_watch_remove(l->loop, &l->watch, l->fd);
}

void listener_pause(struct listener *l, uint64_t ns)
{
	listener_stop(l);
	loop_timer_after(&l->resume, ns);
}

/*
 * Reads the file of a user's own object if it can be trusted. The kernel will run what is in it, so
 * only users who could load it themselves may be able to change it. Owns nothing. Called by
 * object.c.
 */
#define _GNU_SOURCE /* O_PATH */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/keeper/probe/object.h"

#define OBJECT_BYTES_MAX (16u << 20)

static int refuse_link(const char *path, const char *at, struct why *why)
{
	char real[PATH_MAX];

	why_set(why, 0, "%s is a symbolic link: a user who can change the link would "
		     "choose what the kernel runs", at);
	if (realpath(path, real))
		why_fix(why, "object = %s", real);
	else
		why_fix(why, "name the file itself by its whole path, after object =");
	return -ELOOP;
}

/*
 * A folder in which others may make files but cannot remove those of root is safe enough: the next
 * part of the path is checked itself.
 */
static bool is_sticky(const struct stat *st)
{
	return S_ISDIR(st->st_mode) && st->st_mode & S_ISVTX && st->st_uid == 0;
}

static int file_check_rights(const struct stat *st, const char *at, struct why *why)
{
	mode_t others = st->st_mode & (S_IWGRP | S_IWOTH);

	if (st->st_uid != 0 && st->st_uid != geteuid()) {
		why_set(why, 0, "%s belongs to uid %u, not to root", at, st->st_uid);
		why_fix(why, "chown root %s", at);
		return -EPERM;
	}
	if (others && !is_sticky(st)) {
		why_set(why, 0, "%s can be written by %s", at,
			others & S_IWOTH ? "everybody" : "its group");
		why_fix(why, "chmod go-w %s", at);
		return -EPERM;
	}
	return 0;
}

/* Opens the next part of the path below *fd, which it closes. at: the path so far, for messages. */
static int path_step(int *fd, const char *path, const char *part, const char *at, struct why *why)
{
	struct stat st;
	int next = openat(*fd, part, O_PATH | O_NOFOLLOW | O_CLOEXEC), err;

	if (next < 0) {
		err = -errno;
		why_set(why, 0, "%s: %s", at, strerror(-err));
		why_fix(why, "put the object there, or name another file after object =");
		return err;
	}
	close(*fd);
	*fd = next;
	if (fstat(next, &st))
		return -errno;
	if (S_ISLNK(st.st_mode))
		return refuse_link(path, at, why);
	return file_check_rights(&st, at, why);
}

/* Opens the path part by part from the root. The descriptor that was checked is the one below which
 * the next part is opened, so that the file that is read is the file that was checked. */
static int path_walk(const char *path, int *ret_fd, struct why *why)
{
	char at[PATH_MAX], *part = at, *end;
	int fd, err;

	if (path[0] != '/' || strlen(path) >= sizeof(at)) {
		why_set(why, 0, "%.200s is no absolute path", path);
		why_fix(why, "name the file by its whole path, after object =");
		return -EINVAL;
	}
	strcpy(at, path);
	fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	for (err = path_step(&fd, path, ".", "/", why); !err && *part; part = end) {
		char kept;

		part += strspn(part, "/");
		end = part + strcspn(part, "/");
		if (end == part)
			break;
		kept = *end;
		*end = '\0';
		err = path_step(&fd, path, part, at, why);
		*end = kept;
	}
	if (err)
		close(fd);
	else
		*ret_fd = fd;
	return err;
}

/* An O_PATH descriptor cannot be read, so this opens the same file by it again. */
static int open_again(int fd)
{
	char self[64];
	int again;

	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	again = open(self, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	return again < 0 ? -errno : again;
}

static int read_all(int fd, size_t bytes, void **ret, size_t *ret_bytes)
{
	char *buf = malloc(bytes + 1);
	size_t at = 0;
	ssize_t got;

	if (!buf)
		return -ENOMEM;
	while (at < bytes && (got = read(fd, buf + at, bytes - at)) != 0) {
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			int err = -errno;

			free(buf);
			return err;
		}
		at += (size_t)got;
	}
	*ret = buf;
	*ret_bytes = at;
	return 0;
}

static int file_check_kind(const struct stat *st, const char *path, struct why *why)
{
	if (!S_ISREG(st->st_mode)) {
		why_set(why, 0, "%s is no regular file", path);
		why_fix(why, "name a .bpf.o file after object =");
		return -EINVAL;
	}
	if (st->st_size == 0 || (uint64_t)st->st_size > OBJECT_BYTES_MAX) {
		why_set(why, 0, "%s has %lld bytes: expected an object of 1 byte to %u MiB",
			path, (long long)st->st_size, OBJECT_BYTES_MAX >> 20);
		why_fix(why, "build it again");
		return -EFBIG;
	}
	return 0;
}

int object_file_read(const char *path, void **ret, size_t *ret_bytes, struct why *why)
{
	int place = -1, fd = -1;
	struct stat st;
	int err = path_walk(path, &place, why);

	if (err)
		return err;
	/* Check the kind first: opening a FIFO or a device has effects. */
	err = fstat(place, &st) ? -errno : file_check_kind(&st, path, why);
	if (err)
		goto out_place;
	fd = open_again(place);
	if (fd < 0) {
		err = fd;
		why_set(why, 0, "%s: %s", path, strerror(-err));
		why_fix(why, "chmod u+r %s", path);
		goto out_place;
	}
	err = read_all(fd, (size_t)st.st_size, ret, ret_bytes);
	close(fd);
out_place:
	close(place);
	return err;
}

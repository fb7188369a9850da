/*
 * A cgroup's path by its id, and back. The id that programs see is the inode number of the cgroup's
 * folder in the cgroup2 file system, also where older hierarchies are mounted beside it. The kernel
 * takes the id as a file handle too, from a process that has CAP_DAC_READ_SEARCH. Without that
 * right this file lists all folders, and lists them again when a caller asks for an id that is not
 * in the folders. It owns the folders. The keeper's one thread alone calls it.
 *
 * A cgroup is "gone" only where that is certain: not where no cgroup2 is mounted, not where the
 * mount shows a part of the hierarchy (as in a container), and not where a folder could not be
 * read.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "daemon/keeper/probe/probe.h"
#include "shm/base/array.h"
#include "shm/base/clock.h"

#define FOLDERS_MAX   (64u * 1024)
#define DEPTH_MAX     32u
#define FRESH_NS      (20 * NS_PER_MS) /* an id that a younger list lacks is gone */
#define REST_FACTOR   20u	/* a list rests so many times as long as it took to make */
#define ROOT_INO      1u	/* of the whole hierarchy; a part of it begins at another */
#define HANDLE_KERNFS 0xfe	/* the kernel's FILEID_KERNFS: the handle is the id */

struct folder {
	uint64_t id;
	char *path; /* below the mount */
};

static struct {
	struct folder *all; /* sorted by id */
	uint32_t nr, max;
	bool is_whole; /* an id that is not in it has no cgroup */
	uint64_t made_ns, took_ns;
} folders;

static char mount[2048]; /* where mount_find found cgroup2 last */

/* --- the mount -------------------------------------------------------------------------------- */

static bool is_cgroup2(const char *path)
{
	struct statfs fs;

	return path[0] && !statfs(path, &fs) && fs.f_type == CGROUP2_SUPER_MAGIC;
}

/* Finds the first of several; ignores a mount point with a blank, which the file writes as \040. */
static int mount_find(void)
{
	char line[4096], point[sizeof(mount)];
	FILE *f;

	if (is_cgroup2(mount))
		return 0;
	mount[0] = '\0';
	f = fopen("/proc/self/mountinfo", "re");
	while (!mount[0] && f && fgets(line, sizeof(line), f))
		if (strstr(line, " - cgroup2 ") && sscanf(line, "%*s %*s %*s %*s %2047s", point) == 1 &&
		    is_cgroup2(point))
			strcpy(mount, point);
	if (f)
		fclose(f);
	return mount[0] ? 0 : -ENODEV;
}

static int mount_open(void)
{
	int fd = open(mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* --- by its handle ---------------------------------------------------------------------------- */

/* Opens the folder (O_PATH) of an id, anywhere in the hierarchy; -ESTALE: it is gone. */
static int handle_open(uint64_t id)
{
	union {
		struct file_handle head;
		char bytes[sizeof(struct file_handle) + sizeof(id)];
	} h = { .head = { .handle_bytes = sizeof(id), .handle_type = HANDLE_KERNFS } };
	int in = mount_open(), fd;

	if (in < 0)
		return in;
	memcpy(h.head.f_handle, &id, sizeof(id));
	fd = open_by_handle_at(in, &h.head, O_PATH | O_CLOEXEC);
	if (fd < 0)
		fd = -errno;
	close(in);
	return fd;
}

/* Writes a folder's path below the mount; -EXDEV: the folder is in another part of the hierarchy. */
static int folder_path(int fd, char *buf, size_t size)
{
	char link[40], path[PATH_MAX];
	size_t length = strlen(mount);
	ssize_t got;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	got = readlink(link, path, sizeof(path) - 1);
	if (got < 0)
		return -errno;
	path[got] = '\0';
	if (strncmp(path, mount, length) || (path[length] && path[length] != '/'))
		return -EXDEV;
	if ((size_t)snprintf(buf, size, "%s", path[length] ? path + length : "/") >= size)
		return -ENAMETOOLONG;
	return 0;
}

static int path_by_handle(uint64_t id, char *buf, size_t size)
{
	int fd = handle_open(id), err;

	if (fd < 0)
		return fd == -ESTALE ? -ENOENT : fd;
	err = folder_path(fd, buf, size);
	close(fd);
	return err;
}

/* --- by the list ------------------------------------------------------------------------------ */

static void folders_free(void)
{
	while (folders.nr)
		free(folders.all[--folders.nr].path);
}

static int folders_put(uint64_t id, const char *path)
{
	struct folder *f;

	if (folders.nr == FOLDERS_MAX)
		return -E2BIG;
	if (array_reserve(&folders.all, folders.nr + 1, &folders.max))
		return -ENOMEM;
	f = &folders.all[folders.nr];
	*f = (struct folder){ id, strdup(path) };
	if (!f->path)
		return -ENOMEM;
	folders.nr++;
	return 0;
}

static int folders_walk(int fd, char *path, size_t length, size_t size, unsigned int depth);

/* The number in a folder's entry is its inode's, so this needs no second system call. A folder that
 * ends meanwhile counts as gone. */
static int folders_walk_entry(int fd, const struct dirent *e, char *path, size_t length, size_t size,
		      unsigned int depth)
{
	size_t name = strlen(e->d_name);
	int err, below;

	if (depth == DEPTH_MAX || length + 1 + name >= size)
		return -ENAMETOOLONG;
	path[length] = '/';
	memcpy(path + length + 1, e->d_name, name + 1);
	err = folders_put(e->d_ino, path);
	if (err)
		return err;
	below = openat(fd, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (below < 0)
		return errno == ENOENT || errno == ENODEV ? 0 : -errno;
	return folders_walk(below, path, length + 1 + name, size, depth + 1);
}

/* Closes fd. Leaves out the folders that it cannot read, and returns the first error. */
static int folders_walk(int fd, char *path, size_t length, size_t size, unsigned int depth)
{
	DIR *dir = fdopendir(fd);
	const struct dirent *e;
	int err = 0, got;

	if (!dir) {
		err = -errno;
		close(fd);
		return err;
	}
	while (errno = 0, e = readdir(dir)) {
		if (e->d_type != DT_DIR || !strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		got = folders_walk_entry(dirfd(dir), e, path, length, size, depth);
		err = err ? err : got;
		if (got == -E2BIG || got == -ENOMEM)
			break;
	}
	err = err || !errno ? err : -errno;
	path[length] = '\0';
	closedir(dir);
	return err;
}

static int folder_order(const void *a, const void *b)
{
	const struct folder *x = a, *y = b;

	return (x->id > y->id) - (x->id < y->id);
}

static void folders_fill(void)
{
	char path[1024] = "";
	struct stat st;
	int fd = mount_open(), err;

	if (fd < 0)
		return;
	err = fstat(fd, &st) ? -errno : folders_put(st.st_ino, "/");
	if (err) {
		close(fd);
		return;
	}
	err = folders_walk(fd, path, 0, sizeof(path), 0);
	folders.is_whole = !err && st.st_ino == ROOT_INO;
	qsort(folders.all, folders.nr, sizeof(*folders.all), folder_order);
}

static void folders_make(void)
{
	uint64_t begin_ns = mono_ns();

	folders_free();
	folders.is_whole = false;
	folders_fill();
	folders.made_ns = mono_ns();
	folders.took_ns = folders.made_ns - begin_ns;
}

static const struct folder *folders_find(uint64_t id)
{
	const struct folder key = { .id = id };

	return folders.nr ? bsearch(&key, folders.all, folders.nr, sizeof(key), folder_order) : NULL;
}

/* Is the folder still the one that the list has? */
static bool is_still(const struct folder *f)
{
	char path[PATH_MAX];
	struct stat st;

	snprintf(path, sizeof(path), "%s%s", mount, f->path);
	return !stat(path, &st) && st.st_ino == f->id;
}

static int path_by_list(uint64_t id, char *buf, size_t size)
{
	const struct folder *f = folders_find(id);
	uint64_t age_ns = mono_ns() - folders.made_ns;

	if (f && !is_still(f))
		f = NULL;
	if (!f && (!folders.made_ns || (age_ns > FRESH_NS && age_ns > REST_FACTOR * folders.took_ns))) {
		folders_make();
		age_ns = mono_ns() - folders.made_ns;
		f = folders_find(id);
	}
	if (!f)
		return !folders.is_whole ? -EXDEV : age_ns > FRESH_NS ? -EAGAIN : -ENOENT;
	if ((size_t)snprintf(buf, size, "%s", f->path) >= size)
		return -ENAMETOOLONG;
	return 0;
}

/* --- by id, by path --------------------------------------------------------------------------- */

int cgroup_path(uint64_t id, char *buf, size_t size)
{
	int err = mount_find();

	if (err)
		return err;
	err = path_by_handle(id, buf, size);
	/* This process has no right to open handles, or the kernel does not support them. */
	if (err == -EPERM || err == -EOPNOTSUPP || err == -ENOSYS || err == -EINVAL)
		err = path_by_list(id, buf, size);
	return err;
}

int cgroup_id(const char *path, uint64_t *ret_id)
{
	char full[PATH_MAX];
	struct stat st;
	int err = mount_find();

	if (err)
		return err;
	if ((size_t)snprintf(full, sizeof(full), "%s/%s", mount, path) >= sizeof(full))
		return -ENAMETOOLONG;
	if (stat(full, &st))
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return -ENOTDIR;
	*ret_id = st.st_ino;
	return 0;
}

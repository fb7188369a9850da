/*
 * A cgroup's path by its id, and back. The id that programs see is the inode number of the cgroup's
 * folder in the cgroup2 file system, also where older hierarchies are mounted beside it; to the
 * kernel it is a file handle too, which takes CAP_DAC_READ_SEARCH. Without that all folders are
 * listed, anew when an id is asked for that the list does not have. Owns that list; the keeper's one
 * thread alone calls.
 *
 * "It is gone" is said only of what is known to be: not where no cgroup2 is mounted, where the mount
 * is a part of it (as in a container), or where a folder could not be looked into.
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
#include <time.h>
#include <unistd.h>

#include "daemon/keeper/probe/probe.h"

#define FOLDERS_MAX   (64u * 1024)
#define DEPTH_MAX     32u
#define FRESH_NS      20000000u /* what a list younger than this has not is gone */
#define REST_FACTOR   20u	/* so much longer than making it took it is not made anew */
#define ROOT_INO      1u	/* of the whole hierarchy; a part of it begins at another */
#define HANDLE_KERNFS 0xfe	/* the kernel's FILEID_KERNFS: the handle is the id */

struct folder {
	uint64_t id;
	char *path; /* below the mount */
};

static struct {
	struct folder *folders; /* by id */
	uint32_t nr, room;
	bool is_whole; /* what is not in it is nowhere */
	uint64_t made_ns, took_ns;
} list;

static char mount[2048]; /* where cgroup2 was mounted at the last look */

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* --- the mount -------------------------------------------------------------------------------- */

static bool is_cgroup2(const char *path)
{
	struct statfs fs;

	return path[0] && !statfs(path, &fs) && fs.f_type == CGROUP2_SUPER_MAGIC;
}

/* Of several the first; a mount point with a blank in it is written \040 and not looked for. */
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

/* The folder (O_PATH) of an id, wherever in the hierarchy; -ESTALE: it is gone. */
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

/* A folder's path below the mount; -EXDEV: it is not there, but in another part of the hierarchy. */
static int path_of(int fd, char *buf, size_t size)
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
	err = path_of(fd, buf, size);
	close(fd);
	return err;
}

/* --- by the list ------------------------------------------------------------------------------ */

static void list_drop(void)
{
	while (list.nr)
		free(list.folders[--list.nr].path);
}

static int list_put(uint64_t id, const char *path)
{
	struct folder *more;

	if (list.nr == FOLDERS_MAX)
		return -E2BIG;
	if (list.nr == list.room) {
		uint32_t room = list.room ? 2 * list.room : 256;

		more = realloc(list.folders, room * sizeof(*more));
		if (!more)
			return -ENOMEM;
		list.folders = more;
		list.room = room;
	}
	list.folders[list.nr].id = id;
	list.folders[list.nr].path = strdup(path);
	return list.folders[list.nr].path ? (list.nr++, 0) : -ENOMEM;
}

static int walk(int fd, char *path, size_t length, size_t size, unsigned int depth);

/* The number in a folder's entry is its inode's: nothing is looked at twice. One that goes away just
 * now is as good as gone. */
static int walk_below(int fd, const struct dirent *e, char *path, size_t length, size_t size,
		      unsigned int depth)
{
	size_t name = strlen(e->d_name);
	int err, below;

	if (depth == DEPTH_MAX || length + 1 + name >= size)
		return -ENAMETOOLONG;
	path[length] = '/';
	memcpy(path + length + 1, e->d_name, name + 1);
	err = list_put(e->d_ino, path);
	if (err)
		return err;
	below = openat(fd, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (below < 0)
		return errno == ENOENT || errno == ENODEV ? 0 : -errno;
	return walk(below, path, length + 1 + name, size, depth + 1);
}

/* Takes the descriptor. What it cannot look into it leaves out; the first error is told. */
static int walk(int fd, char *path, size_t length, size_t size, unsigned int depth)
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
		got = walk_below(dirfd(dir), e, path, length, size, depth);
		err = err ? err : got;
		if (got == -E2BIG || got == -ENOMEM)
			break;
	}
	err = err || !errno ? err : -errno;
	path[length] = '\0';
	closedir(dir);
	return err;
}

static int by_id(const void *a, const void *b)
{
	const struct folder *x = a, *y = b;

	return (x->id > y->id) - (x->id < y->id);
}

static void list_fill(void)
{
	char path[1024] = "";
	struct stat st;
	int fd = mount_open(), err;

	if (fd < 0)
		return;
	err = fstat(fd, &st) ? -errno : list_put(st.st_ino, "/");
	if (err) {
		close(fd);
		return;
	}
	err = walk(fd, path, 0, sizeof(path), 0);
	list.is_whole = !err && st.st_ino == ROOT_INO;
	qsort(list.folders, list.nr, sizeof(*list.folders), by_id);
}

static void list_make(void)
{
	uint64_t begin_ns = now_ns();

	list_drop();
	list.is_whole = false;
	list_fill();
	list.made_ns = now_ns();
	list.took_ns = list.made_ns - begin_ns;
}

static const struct folder *list_find(uint64_t id)
{
	const struct folder key = { .id = id };

	return list.nr ? bsearch(&key, list.folders, list.nr, sizeof(key), by_id) : NULL;
}

/* Is the folder still the one that it was when the list was made? */
static bool is_still(const struct folder *f)
{
	char path[PATH_MAX];
	struct stat st;

	snprintf(path, sizeof(path), "%s%s", mount, f->path);
	return !stat(path, &st) && st.st_ino == f->id;
}

static int path_by_list(uint64_t id, char *buf, size_t size)
{
	const struct folder *f = list_find(id);
	uint64_t age_ns = now_ns() - list.made_ns;

	if (f && !is_still(f))
		f = NULL;
	if (!f && (!list.made_ns || (age_ns > FRESH_NS && age_ns > REST_FACTOR * list.took_ns))) {
		list_make();
		age_ns = now_ns() - list.made_ns;
		f = list_find(id);
	}
	if (!f)
		return !list.is_whole ? -EXDEV : age_ns > FRESH_NS ? -EAGAIN : -ENOENT;
	if ((size_t)snprintf(buf, size, "%s", f->path) >= size)
		return -ENAMETOOLONG;
	return 0;
}

/* --- asking ----------------------------------------------------------------------------------- */

int cgroup_path(uint64_t id, char *buf, size_t size)
{
	int err = mount_find();

	if (err)
		return err;
	err = path_by_handle(id, buf, size);
	/* Without the right to, or a kernel that knows no such handles. */
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

/* See state.h. */
#define _GNU_SOURCE
#include "daemon/keeper/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/link/link.h"
#include "daemon/link/log.h"
#include "shm/base/clock.h"

#define KEEPER_LOCK "keeper.lock"
#define FIX_OTHER "--state DIR"

int path_make_parents(const char *path, mode_t mode)
{
	char part[CONFIG_PATH_MAX];
	char *slash;

	snprintf(part, sizeof(part), "%s", path);
	for (slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(part, mode) && errno != EEXIST) {
			int err = -errno;

			log_line("talead cannot make the folder %s: %s", part, strerror(-err));
			return err;
		}
		*slash = '/';
	}
	return 0;
}

/* fix: what to type; a path behind it may be "". */
static int state_refuse(const char *path, const char *why, const char *fix, const char *fix_path)
{
	log_line("the state folder %s is not safe: %s. fix: %s%s", path, why, fix, fix_path);
	return -EPERM;
}

/* A folder above that everyone may write, and that is not sticky: anyone may put another folder in
 * the place of this one. */
static int state_check_above(const char *path)
{
	char part[CONFIG_PATH_MAX], why[CONFIG_PATH_MAX + 64];
	struct stat st;
	char *slash;

	snprintf(part, sizeof(part), "%s", path);
	for (slash = strrchr(part, '/'); slash && slash > part; slash = strrchr(part, '/')) {
		*slash = '\0';
		if (stat(part, &st) || !(st.st_mode & S_IWOTH) || st.st_mode & S_ISVTX)
			continue;
		snprintf(why, sizeof(why), "everyone may replace what is in %s", part);
		return state_refuse(path, why, "chmod o-w ", part);
	}
	return 0;
}

static int state_check_folder(const struct config *c, const char *path, int fd)
{
	struct stat st;

	if (fstat(fd, &st))
		return state_refuse(path, strerror(errno), FIX_OTHER, "");
	if (st.st_uid != 0 && st.st_uid != geteuid() && st.st_uid != c->user)
		return state_refuse(path, "it belongs to another user", FIX_OTHER, "");
	if (st.st_mode & 022)
		return state_refuse(path, "others may write it", "chmod go-w ", path);
	/* The worker's uid alone needs to pass, and it is in no group of the folder. */
	if (geteuid() == 0 && c->user != 0 && st.st_uid != c->user && !(st.st_mode & S_IXOTH)) {
		if (faccessat(fd, KEEPER_LOCK, F_OK, 0) && st.st_nlink > 2)
			return state_refuse(path, "the worker's user may not enter it",
					    "--state with a folder of talead's own, or chmod o+x ",
					    path);
		if (fchmod(fd, (st.st_mode & 07777) | S_IXOTH))
			return state_refuse(path, strerror(errno), FIX_OTHER, "");
	}
	return state_check_above(path);
}

int state_open(const struct config *config, int *ret_fd)
{
	const char *path = config->state;
	int fd, path_fd, err = path_make_parents(path, 0755);

	if (err)
		return err;
	if (mkdir(path, geteuid() == 0 ? 0711 : 0700) && errno != EEXIST) {
		err = -errno;
		log_line("talead cannot make the state folder %s: %s. fix: " FIX_OTHER, path,
			 strerror(-err));
		return err;
	}
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		err = -errno;
		if (err == -ELOOP || err == -ENOTDIR)
			return state_refuse(path, "it is not a folder", FIX_OTHER, "");
		log_line("talead cannot open the state folder %s: %s. fix: " FIX_OTHER, path,
			 strerror(-err));
		return err;
	}
	err = state_check_folder(config, path, fd);
	if (err)
		goto out_fd;
	/* O_PATH: the worker gets this fd, and can open files in the folder by name but not list
	 * it. */
	path_fd = openat(fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	err = path_fd < 0 ? -errno : 0;
	if (!err)
		*ret_fd = path_fd;
out_fd:
	close(fd);
	return err;
}

/*
 * Opens a lock file, and makes it when it is missing. In a folder that the worker's uid owns, that
 * uid could have put a link there: the keeper does not write a file with a second name, nor one of
 * another user.
 */
static int state_lock_open(int state_fd, const char *name, uid_t other)
{
	int fd = openat(state_fd, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC, 0600);
	struct stat st;
	int err;

	if (fd < 0) {
		err = -errno;
		log_line("talead cannot open %s in the state folder: %s", name, strerror(-err));
		return err;
	}
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_nlink != 1 ||
	    (st.st_uid != geteuid() && st.st_uid != other)) {
		log_line("%s in the state folder is not a file that talead made. fix: remove it",
			 name);
		close(fd);
		return -EPERM;
	}
	return fd;
}

int state_lock(int state_fd, int *ret_fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd = state_lock_open(state_fd, KEEPER_LOCK, geteuid());

	if (fd < 0)
		return fd;
	if (fcntl(fd, F_OFD_SETLK, &lock)) {
		int err = errno == EACCES ? -EAGAIN : -errno;

		if (err != -EAGAIN)
			log_line("talead cannot lock " KEEPER_LOCK ": %s", strerror(-err));
		close(fd);
		return err;
	}
	*ret_fd = fd;
	return 0;
}

int state_write_pid(int lock_fd, pid_t pid)
{
	char text[32];
	int n = pid ? snprintf(text, sizeof(text), "%d\n", pid) : 0;

	/* The file is never empty in between: a reader of the first line finds a whole number. */
	if (pwrite(lock_fd, text, (size_t)n, 0) < 0 || ftruncate(lock_fd, n))
		return -errno;
	return 0;
}

pid_t state_holder(int state_fd)
{
	int fd = openat(state_fd, KEEPER_LOCK, O_RDONLY | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC);
	char text[32] = "";
	ssize_t n;

	if (fd < 0)
		return 0;
	n = pread(fd, text, sizeof(text) - 1, 0);
	close(fd);
	return n > 0 ? (pid_t)strtol(text, NULL, 10) : 0;
}

int state_is_locked(int state_fd, const char *name)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd = openat(state_fd, name ? name : KEEPER_LOCK,
			O_RDWR | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC);
	int err = 0;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fcntl(fd, F_OFD_GETLK, &lock))
		err = -errno;
	close(fd);
	return err ? err : lock.l_type != F_UNLCK;
}

int state_worker_lock_make(int state_fd, const struct config *config)
{
	int fd = state_lock_open(state_fd, LINK_WORKER_LOCK, config->user);
	int err = 0;

	if (fd < 0)
		return fd;
	if (fchown(fd, config->user, config->group) || fchmod(fd, 0600)) {
		err = -errno;
		log_line("talead cannot give " LINK_WORKER_LOCK " to uid %u: %s", config->user,
			 strerror(-err));
	}
	close(fd);
	return err;
}

int state_worker_wait(int state_fd, uint64_t ns)
{
	static const struct timespec pause = { .tv_nsec = NS_PER_MS };
	uint64_t end = mono_ns() + ns;
	int is_locked;

	while ((is_locked = state_is_locked(state_fd, LINK_WORKER_LOCK)) > 0) {
		if (mono_ns() >= end)
			return -ETIMEDOUT;
		nanosleep(&pause, NULL);
	}
	return is_locked;
}

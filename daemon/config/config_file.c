/* See config_file.h. */
#define _GNU_SOURCE
#include "daemon/config/config_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/config/config.h"

#define FILE_BYTES_MAX (1u << 20)

static int config_file_check(const char *path, int fd, struct why *why)
{
	struct stat st;

	if (fstat(fd, &st) || S_ISDIR(st.st_mode))
		return why_set(why, -EISDIR, "not a file");
	if (st.st_uid != 0 && st.st_uid != geteuid()) {
		why_set(why, -EPERM, "owned by uid %u, expected root%s", st.st_uid,
			geteuid() ? " or yourself" : "");
		why_fix(why, "chown %u %s", geteuid(), path);
		return -EPERM;
	}
	if (st.st_mode & 022) {
		why_set(why, -EPERM, "others may write it (mode %04o)", st.st_mode & 07777);
		why_fix(why, "chmod go-w %s", path);
		return -EPERM;
	}
	return 0;
}

static int config_file_text(int fd, char *text, struct why *why)
{
	size_t have = 0;
	ssize_t n = 0;

	while (have <= FILE_BYTES_MAX && (n = read(fd, text + have, FILE_BYTES_MAX + 1 - have)) > 0)
		have += (size_t)n;
	if (n < 0)
		return why_set(why, -errno, "cannot be read: %s", strerror(errno));
	if (have > FILE_BYTES_MAX)
		return why_set(why, -EFBIG, "longer than %u bytes", FILE_BYTES_MAX);
	if (memchr(text, '\0', have))
		return why_set(why, -EINVAL, "holds a NUL byte: not a configuration file");
	text[have] = '\0';
	return 0;
}

int config_file_read(const char *path, char **ret_text, struct why *why)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY), err;
	char *text;

	if (fd < 0)
		return why_set(why, -errno, "cannot be opened: %s", strerror(errno));
	text = malloc(FILE_BYTES_MAX + 1);
	err = text ? config_file_check(path, fd, why)
		   : why_set(why, -ENOMEM, "cannot be read: memory is short");
	if (!err)
		err = config_file_text(fd, text, why);
	close(fd);
	if (err)
		free(text);
	else
		*ret_text = text;
	return err;
}

/* --- folders --------------------------------------------------------------------------------- */

static int config_file_is_conf(const struct dirent *e)
{
	size_t n = strlen(e->d_name);

	return e->d_name[0] != '.' && n > 5 && !strcmp(e->d_name + n - 5, ".conf");
}

static int config_file_by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

void config_file_each(const char *folder, void (*visit)(const char *path, void *arg), void *arg)
{
	struct dirent **names;
	char path[CONFIG_PATH_MAX];
	int nr = scandir(folder, &names, config_file_is_conf, config_file_by_bytes);

	for (int i = 0; i < nr; i++) {
		if (snprintf(path, sizeof(path), "%s/%s", folder, names[i]->d_name) <
		    (int)sizeof(path))
			visit(path, arg);
		free(names[i]);
	}
	if (nr >= 0)
		free(names);
}

/*
 * talead as a child or in place of this program; see run.h. Owns the child between its start and its
 * end.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/base/array.h"
#include "tools/run.h"

#define ARGS_MAX 8
#define READ_LEAST 4096

/* A build puts talead beside this program, an installation into a folder beside its folder. */
static bool run_find(char *buf, size_t size)
{
	static const char *const places[] = { "talead", "../sbin/talead" };
	char self[PATH_MAX];
	ssize_t got = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (got <= 0)
		return false;
	self[got] = '\0';
	if (!strrchr(self, '/'))
		return false;
	strrchr(self, '/')[1] = '\0';
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		if ((size_t)snprintf(buf, size, "%s%s", self, places[i]) < size &&
		    access(buf, X_OK) == 0)
			return true;
	return false;
}

/* Returns only when it failed. */
static void run_exec(const char *const *args)
{
	char path[PATH_MAX];
	char *argv[ARGS_MAX] = { (char *)(uintptr_t)"talead" };

	for (size_t i = 0; i + 2 < ARGS_MAX && args[i]; i++)
		argv[i + 1] = (char *)(uintptr_t)args[i];
	if (run_find(path, sizeof(path)))
		execv(path, argv);
	execvp("talead", argv);
}

static int run_failed(const struct cli *c, int err)
{
	return cli_fail(c, CLI_FAILED, "talead, which knows that, cannot be run: %s%s",
			strerror(err),
			err == ENOENT ? ". fix: install it beside talea, or in the PATH" : "");
}

int run_become(const struct cli *c, const char *const *args)
{
	fflush(stdout);
	run_exec(args);
	return run_failed(c, errno);
}

/* The text until the end of file; NULL: no memory. */
static char *run_read_all(int fd)
{
	size_t nr = 0, max = 0;
	char *text = NULL;
	ssize_t got;

	while (!array_reserve(&text, nr + READ_LEAST, &max)) {
		got = read(fd, text + nr, max - nr - 1);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			text[nr] = '\0';
			return text;
		}
		nr += (size_t)got;
	}
	free(text);
	return NULL;
}

int run_read(const struct cli *c, const char *const *args, char **ret, int *ret_status)
{
	int ends[2], status;
	char *text;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC))
		return run_failed(c, errno);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		if (dup2(ends[1], STDOUT_FILENO) >= 0)
			run_exec(args);
		_exit(errno == ENOENT ? 127 : 126);
	}
	close(ends[1]);
	if (pid < 0) {
		close(ends[0]);
		return run_failed(c, errno);
	}
	text = run_read_all(ends[0]);
	close(ends[0]);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	if (!text || status == 126 || status == 127) {
		free(text);
		return run_failed(c, status == 127 ? ENOENT : status == 126 ? EACCES : ENOMEM);
	}
	*ret = text;
	*ret_status = status;
	return CLI_OK;
}

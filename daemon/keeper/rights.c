/* See rights.h. */
#define _GNU_SOURCE
#include "daemon/keeper/rights.h"

#include <cap-ng.h>
#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "daemon/link/log.h"
#include "shm/base/array.h"

void fd_list_add(struct fd_list *list, int fd)
{
	if (fd < 0)
		return;
	if (array_reserve(&list->fds, list->nr + 1, &list->max))
		_exit(1);
	list->fds[list->nr++] = fd;
}

static int fd_by_number(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

void fd_list_close_others(struct fd_list *list)
{
	unsigned int from = STDERR_FILENO + 1;

	/* The list has what may stay and not what must go: by default a new fd is closed. */
	qsort(list->fds, list->nr, sizeof(int), fd_by_number);
	for (unsigned int i = 0; i < list->nr; i++) {
		unsigned int fd = (unsigned int)list->fds[i];

		if (fd > from)
			close_range(from, fd - 1, 0);
		if (fd >= from)
			from = fd + 1;
	}
	close_range(from, ~0u, 0);
	free(list->fds);
	*list = (struct fd_list){ 0 };
}

static int rights_failed(const char *what)
{
	int err = errno ? -errno : -EPERM;

	log_line("the worker does not run: it cannot give up its rights (%s: %s)", what,
		 strerror(-err));
	return err;
}

static int rights_drop_ids(const struct config *c)
{
	if (geteuid() != 0)
		return 0;
	if (setgroups(0, NULL))
		return rights_failed("setgroups");
	if (setresgid(c->group, c->group, c->group))
		return rights_failed("setresgid");
	if (setresuid(c->user, c->user, c->user))
		return rights_failed("setresuid");
	return 0;
}

int rights_drop(const struct config *config)
{
	int err;

	/* The bounding set first: emptying it needs CAP_SETPCAP, which goes with the uid. A process
	 * that never had CAP_SETPCAP cannot empty the set, and gains nothing from it under
	 * no_new_privs. */
	errno = 0;
	capng_get_caps_process();
	if (capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP)) {
		capng_clear(CAPNG_SELECT_BOUNDS);
		if (capng_apply(CAPNG_SELECT_BOUNDS))
			return rights_failed("bounding set");
	}
	err = rights_drop_ids(config);
	if (err)
		return err;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return rights_failed("no_new_privs");
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	capng_clear(CAPNG_SELECT_CAPS);
	if (capng_apply(CAPNG_SELECT_CAPS))
		return rights_failed("capabilities");
	/* Checks what the kernel did, not what was asked of it. */
	capng_get_caps_process();
	if (capng_have_capabilities(CAPNG_SELECT_CAPS) != CAPNG_NONE)
		return rights_failed("capabilities remain");
	return 0;
}

/*
 * The worker: takes its lock, enters its sandbox, makes the regions live, starts the fold thread
 * and becomes the control thread. Owns the order of these steps, and nothing else. The keeper calls
 * it in the child it forked.
 */
#define _GNU_SOURCE
#include "daemon/worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "daemon/link/log.h"
#include "daemon/worker/control/control.h"
#include "daemon/worker/sandbox.h"
#include "shm/base/clock.h"

#define LOCK_WAIT_MS 30000
#define LOCK_STEP_MS 5

/*
 * The kernel grants the lock when the former worker is wholly gone, so that two workers never store
 * to D or T. The fd stays open as long as the process runs.
 */
static int worker_lock(int state_fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct timespec step = { 0, LOCK_STEP_MS * NS_PER_MS };
	int fd = openat(state_fd, LINK_WORKER_LOCK, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	for (int ms = 0; fcntl(fd, F_OFD_SETLK, &lock); ms += LOCK_STEP_MS) {
		if (errno != EAGAIN && errno != EACCES)
			return -errno;
		if (ms >= LOCK_WAIT_MS)
			return -ETIMEDOUT;
		nanosleep(&step, NULL);
	}
	return 0;
}

static int worker_threads(struct worker_start *ws, struct registry *registry)
{
	static struct control control; /* too large for a stack */
	struct fold *fold;
	int err;

	err = fold_open(&fold, ws, registry);
	if (err) {
		log_line("the regions cannot be made live: %s", strerror(-err));
		return err;
	}
	err = fold_start(fold);
	if (err) {
		log_line("the fold thread cannot be started: %s", strerror(-err));
		return err;
	}
	err = link_send_plain(ws->link_fd, LINK_READY, 0, 0);
	if (!err || err == -EPIPE)
		err = control_run(&control, ws, registry, fold);
	if (err) /* the fold thread still runs: the exit ends it, and the regions need no last fold */
		return err;
	fold_join(fold);
	registry_fini(registry);
	fold_close(fold);
	return link_send_plain(ws->link_fd, LINK_DONE, 0, 0);
}

int worker_run(struct worker_start *ws)
{
	static struct registry registry;
	int err = worker_lock(ws->state_fd);

	if (err) {
		log_line("%s/%s cannot be locked: %s. fix: end the process that holds it",
			 ws->config.state, LINK_WORKER_LOCK, strerror(-err));
		return 1;
	}
	prctl(PR_SET_NAME, "talea-worker");
	/* Before the registry: liburcu makes threads of its own, and they must be inside. */
	sandbox_enter();
	err = registry_init(&registry, &ws->config);
	if (err) {
		log_line("the worker has no memory: %s", strerror(-err));
		return 1;
	}
	registry_enter();
	err = worker_threads(ws, &registry);
	registry_leave();
	return err ? 1 : 0;
}

/* See stop.h. */
#define _GNU_SOURCE
#include "daemon/keeper/stop.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "daemon/keeper/probe/probe.h"
#include "daemon/keeper/state.h"
#include "daemon/link/log.h"
#include "shm/base/clock.h"

#define STOP_PATIENCE_NS (20 * NS_PER_S)
#define EXIT_NO_DAEMON 3

static int stop_log_none(const struct config *config)
{
	log_line("no talead runs on the state folder %s. fix: --state DIR, or the -c FILE with "
		 "which it was started", config->state);
	return EXIT_NO_DAEMON;
}

static bool is_denied(int err) { return err == -EPERM || err == -EACCES; }

static int stop_log_failed(const struct config *config, pid_t pid, int err)
{
	log_line("talead pid %d on the state folder %s was not stopped: %s%s", pid, config->state,
		 strerror(-err),
		 is_denied(err) ? ". fix: talead --stop as the user that started it, or as root" : "");
	return 1;
}

static int stop_log_lock(const struct config *config, int err)
{
	log_line("whether a talead runs on the state folder %s is not known: its lock cannot be "
		 "read: %s%s", config->state, strerror(-err),
		 is_denied(err) ? ". fix: the same as root" : "");
	return 1;
}

/*
 * Stops one keeper and waits for its end: 0, or -errno; -ESRCH when another process has the lock
 * now. The lock is read again after the pidfd was opened: then the pidfd is the holder's.
 */
static int stop_one(int state_fd, pid_t pid, uint64_t end)
{
	int fd = pidfd_open(pid, 0), err = 0;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t now;

	if (fd < 0)
		return -errno;
	if (state_is_locked(state_fd, NULL) <= 0 || state_holder(state_fd) != pid)
		err = -ESRCH;
	else if (pidfd_send_signal(fd, SIGTERM, NULL, 0))
		err = -errno;
	now = mono_ns();
	if (!err && poll(&p, 1, now < end ? (int)((end - now) / NS_PER_MS) : 0) == 0)
		err = -ETIMEDOUT;
	close(fd);
	return err;
}

int stop_run(const struct config *config)
{
	int fd = open(config->state, O_PATH | O_DIRECTORY | O_CLOEXEC), is_locked, err;
	uint64_t end = mono_ns() + STOP_PATIENCE_NS;
	pid_t pid = 0;

	if (fd < 0)
		return stop_log_none(config);
	/* Again while it is held: a standby may take over between the check and the signal. */
	while ((is_locked = state_is_locked(fd, NULL)) > 0) {
		pid_t holder = state_holder(fd);

		err = holder ? stop_one(fd, holder, end) : -ESRCH;
		if (holder)
			pid = holder;
		if ((err && err != -ESRCH) || mono_ns() >= end)
			return stop_log_failed(config, pid, err ? err : -ETIMEDOUT);
		poll(NULL, 0, 1);
	}
	close(fd);
	if (is_locked < 0)
		return stop_log_lock(config, is_locked);
	return pid ? 0 : stop_log_none(config);
}

int unpin_run(const struct config *config)
{
	int fd = open(config->state, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int is_locked = fd < 0 ? 0 : state_is_locked(fd, NULL), nr;

	if (is_locked > 0)
		log_line("nothing was unpinned: talead pid %d runs on the state folder %s. fix: "
			 "talead --stop before, or talea detach NAME for one probe",
			 state_holder(fd), config->state);
	if (fd >= 0)
		close(fd);
	if (is_locked)
		return is_locked > 0 ? 1 : stop_log_lock(config, is_locked);
	nr = pins_remove_all(config->state);
	if (nr < 0)
		log_line("the pins below %s were not removed: %s%s", config->state, strerror(-nr),
			 is_denied(nr) ? ". fix: talead --unpin as root" : "");
	else if (nr == 0)
		log_line("nothing is pinned below %s", config->state);
	else
		log_line("%d probe%s ended", nr, nr == 1 ? "" : "s");
	return nr < 0;
}

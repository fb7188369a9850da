/*
 * The terminal of `talea watch`; see term.h.
 *
 * term.c reads Ctrl-C as a key and does not leave it to the terminal: the terminal would also send
 * the signal to the shell script or the make that runs beside talea, and end it with an error.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "shm/base/clock.h"
#include "tools/show/term.h"

enum key { KEY_CTRL_C = 3, KEY_CTRL_D = 4, KEY_CTRL_Z = 26, KEY_CTRL_BACKSLASH = 28 };

static struct {
	bool is_open, has_keys;
	struct termios saved;
	sigset_t unblocked; /* the mask while waiting */
} term;
static volatile sig_atomic_t quit_signal, resized;

static void on_quit(int sig)
{
	quit_signal = sig;
}

static void on_resize(int sig)
{
	(void)sig;
	resized = 1;
}

static void term_put(const char *text)
{
	fputs(text, stdout);
	fflush(stdout);
}

static void screen_enter(void)
{
	struct termios raw = term.saved;

	if (term.has_keys) {
		raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | ISIG);
		raw.c_cc[VMIN] = 0;
		raw.c_cc[VTIME] = 0;
		tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
	}
	term_put("\033[?1049h\033[?25l\033[?7l\033[H\033[2J");
}

static void screen_leave(void)
{
	term_put("\033[?7h\033[?25h\033[?1049l");
	if (term.has_keys)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &term.saved);
}

static void term_handle(int sig, void (*handler)(int))
{
	struct sigaction sa = { .sa_handler = handler };

	sigemptyset(&sa.sa_mask);
	sigaction(sig, &sa, NULL);
}

int term_open(void)
{
	static const int quits[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	sigset_t blocked;

	sigemptyset(&blocked);
	for (size_t i = 0; i < sizeof(quits) / sizeof(quits[0]); i++) {
		sigaddset(&blocked, quits[i]);
		term_handle(quits[i], on_quit);
	}
	sigaddset(&blocked, SIGWINCH);
	term_handle(SIGWINCH, on_resize);
	if (sigprocmask(SIG_BLOCK, &blocked, &term.unblocked))
		return -errno;
	/* These signals end the screen also when talea inherited them blocked. */
	for (size_t i = 0; i < sizeof(quits) / sizeof(quits[0]); i++)
		sigdelset(&term.unblocked, quits[i]);
	sigdelset(&term.unblocked, SIGWINCH);
	term.has_keys = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &term.saved) == 0;
	term.is_open = true;
	screen_enter();
	return 0;
}

void term_close(void)
{
	if (!term.is_open)
		return;
	term.is_open = false;
	screen_leave();
}

/* Ctrl-Z stops the whole job, after the terminal is as the shell left it. */
static void stop_job(void)
{
	screen_leave();
	kill(0, SIGTSTP);
	screen_enter();
	resized = 1;
}

static enum term_event read_key(void)
{
	unsigned char key;
	ssize_t got = read(STDIN_FILENO, &key, 1);

	if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN))
		return TERM_QUIT; /* the terminal hung up */
	if (got < 0)
		return TERM_TICK;
	switch (key) {
	case 'q':
	case 'Q':
	case KEY_CTRL_C:
	case KEY_CTRL_D:
	case KEY_CTRL_BACKSLASH:
		return TERM_QUIT;
	case KEY_CTRL_Z:
		stop_job();
		return TERM_RESIZE;
	default:
		return TERM_RESIZE; /* any other key: a fresh frame at once */
	}
}

enum term_event term_wait(uint64_t until_mono_ns)
{
	struct pollfd in = { .fd = term.has_keys ? STDIN_FILENO : -1, .events = POLLIN };

	for (;;) {
		uint64_t now = mono_ns(), left = until_mono_ns > now ? until_mono_ns - now : 0;
		struct timespec limit = { .tv_sec = (time_t)(left / NS_PER_S),
					  .tv_nsec = (long)(left % NS_PER_S) };
		int nr = ppoll(&in, 1, &limit, &term.unblocked);

		if (quit_signal)
			return TERM_QUIT;
		if (resized) {
			resized = 0;
			return TERM_RESIZE;
		}
		if (nr > 0)
			return read_key();
		if (nr == 0)
			return TERM_TICK;
		if (errno != EINTR)
			return TERM_QUIT;
	}
}

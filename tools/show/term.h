/*
 * The terminal of `talea watch`: alternate screen, keys, resize, stop and continue, and putting all
 * of it back on every way out. Owns the terminal's settings between term_open and term_close, and
 * the handlers of the signals that matter to a screen. Called by watch.c.
 */
#ifndef TOOLS_SHOW_TERM_H
#define TOOLS_SHOW_TERM_H

#include <stdint.h>

/* What happened while waiting for the next frame. */
enum term_event { TERM_TICK, TERM_QUIT, TERM_RESIZE };
int term_open(void); /* alternate screen, no echo; 0 or -errno */
void term_close(void);
enum term_event term_wait(uint64_t until_mono_ns);

#endif

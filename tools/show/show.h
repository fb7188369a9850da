/*
 * Words and numbers for people: what the terminal can do, units, times, names that cannot drive the
 * terminal, bars. Owns `show`, set once at start and at each resize. Called by every verb.
 */
#ifndef TOOLS_SHOW_SHOW_H
#define TOOLS_SHOW_SHOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum show_style { SHOW_PLAIN, SHOW_BOLD, SHOW_GREY, SHOW_GOOD, SHOW_BAD, SHOW_RATE };

struct show {
	bool is_tty;  /* stdout is a terminal */
	bool color;   /* may use SGR */
	bool utf8;    /* may use more than ASCII */
	int columns;
	int lines;
};
extern struct show show;
#define SHOW_TEXT 40

void show_init(void);
void show_measure(void); /* the size of the terminal, again */
void show_style(FILE *f, enum show_style style);

/* Each writes into a buffer of SHOW_TEXT bytes and returns it. */
const char *show_exact(char *buf, int64_t value);     /* 12,345,678 */
const char *show_human(char *buf, int64_t value);     /* 12.35 M */
const char *show_rate(char *buf, double rate);	      /* 1.234 k, or - when not known */
const char *show_speed(char *buf, double rate);	      /* the same outside of columns */
const char *show_ns(char *buf, uint64_t ns);	      /* 41 us, 6 ms, 2 h 14 min */
const char *show_bytes(char *buf, uint64_t bytes);    /* 12.3 MiB */
const char *show_time(char *buf, uint64_t at_ns);   /* 2026-11-23 20:06:39, local */
const char *show_clock(char *buf, uint64_t at_ns);  /* 20:06:39, local */
const char *show_since(char *buf, uint64_t at_ns);  /* the clock of the last day, else the time */
const char *show_user(char *buf, uint32_t uid);	      /* a name, or the number */
const char *show_plural(uint64_t nr);		      /* "s", or "" for 1 */

/* Text in exactly `width` columns: padded, or cut in its middle. Control characters, which could
 * drive the terminal, are shown as '?', here and in the two below. */
void show_padded(FILE *f, const char *text, int width);
void show_text(FILE *f, const char *text); /* all of it */
void show_name(FILE *f, const char *name); /* exact where a program reads it, else as show_text */
int show_width(const char *text);

/* The words in this style, then plain again. */
void show_styled(enum show_style style, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* The head of a table: a bold line. */
void show_head(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A line of a report: a label in bold, then the words. */
void show_line(const char *label, const char *format, ...) __attribute__((format(printf, 2, 3)));
void show_bar(FILE *f, double share, int columns); /* share of 1 */
void show_shade(FILE *f, double share);		   /* one column, the darker the more */
void show_spark(FILE *f, const float *history, size_t nr, int columns);

#endif

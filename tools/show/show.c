/*
 * Words and numbers for people; see show.h.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <langinfo.h>
#include <limits.h>
#include <locale.h>
#include <math.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

#include "shm/base/clock.h"
#include "shm/names.h"
#include "tools/show/show.h"

#define DAY_NS (86400 * NS_PER_S)

struct show show;

/* A locale that is named but not installed still says what the terminal understands. */
static bool show_utf8(void)
{
	const char *names[] = { getenv("LC_ALL"), getenv("LC_CTYPE"), getenv("LANG") };

	if (setlocale(LC_CTYPE, "") && !strcmp(nl_langinfo(CODESET), "UTF-8"))
		return true;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!names[i] || !names[i][0])
			continue;
		if (!strcasestr(names[i], "utf-8") && !strcasestr(names[i], "utf8"))
			return false;
		return setlocale(LC_CTYPE, "C.UTF-8") != NULL;
	}
	return false;
}

void show_measure(void)
{
	const char *columns = getenv("COLUMNS"), *lines = getenv("LINES");
	struct winsize size;

	show.columns = show.is_tty ? 80 : 100;
	show.lines = 24;
	if (show.is_tty && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col) {
		show.columns = size.ws_col;
		show.lines = size.ws_row;
		return;
	}
	if (columns && atoi(columns) > 0)
		show.columns = atoi(columns);
	if (lines && atoi(lines) > 0)
		show.lines = atoi(lines);
}

void show_init(void)
{
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

	show.is_tty = isatty(STDOUT_FILENO);
	show.color = show.is_tty && !(no_color && *no_color) && term && strcmp(term, "dumb");
	show.utf8 = show_utf8();
	show_measure();
}

void show_style(FILE *f, enum show_style style)
{
	static const char *const sgr[] = {
		[SHOW_PLAIN] = "\033[0m",    [SHOW_BOLD] = "\033[1m", [SHOW_GREY] = "\033[90m",
		[SHOW_GOOD] = "\033[32m", [SHOW_BAD] = "\033[31m", [SHOW_RATE] = "\033[36m",
	};

	if (show.color)
		fputs(sgr[style], f);
}

/* --- numbers -------------------------------------------------------------------------------- */

const char *show_exact(char *buf, int64_t value)
{
	char digits[24];
	uint64_t abs = value < 0 ? -(uint64_t)value : (uint64_t)value;
	int n = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)abs);
	char *out = buf;

	if (value < 0)
		*out++ = '-';
	for (int i = 0; i < n; i++) {
		if (i && (n - i) % 3 == 0)
			*out++ = ',';
		*out++ = digits[i];
	}
	*out = '\0';
	return buf;
}

/* Four digits and a unit. The unit's place is kept when there is none, so that columns line up. */
static void scaled(char *buf, double value, const char *none)
{
	static const char units[] = " kMGTPE";
	double abs = fabs(value);
	int unit = 0, decimals;

	while (abs >= 999.95 && unit < 6) {
		abs /= 1000;
		value /= 1000;
		unit++;
	}
	decimals = abs >= 99.995 ? 1 : abs >= 9.9995 ? 2 : 3;
	if (unit)
		snprintf(buf, SHOW_TEXT, "%.*f %c", decimals, value, units[unit]);
	else
		snprintf(buf, SHOW_TEXT, "%.*f%s", abs == floor(abs) ? 0 : abs >= 10 ? 1 : 2, value,
			 none);
}

const char *show_human(char *buf, int64_t value)
{
	if (value > -1000000 && value < 1000000) {
		show_exact(buf, value);
		return strcat(buf, "  ");
	}
	scaled(buf, (double)value, "  ");
	return buf;
}

const char *show_rate(char *buf, double rate)
{
	if (isnan(rate))
		strcpy(buf, "-  ");
	else
		scaled(buf, rate, "  ");
	return buf;
}

const char *show_speed(char *buf, double rate)
{
	show_rate(buf, rate);
	for (size_t len = strlen(buf); len && buf[len - 1] == ' ';)
		buf[--len] = '\0';
	return buf;
}

const char *show_ns(char *buf, uint64_t ns)
{
	unsigned long long s = ns / NS_PER_S;

	if (ns == UINT64_MAX)
		strcpy(buf, "unknown");
	else if (ns < 1000)
		snprintf(buf, SHOW_TEXT, "%llu ns", (unsigned long long)ns);
	else if (ns < 999500)
		snprintf(buf, SHOW_TEXT, "%llu us", (unsigned long long)(ns + 500) / 1000);
	else if (ns < 999500000)
		snprintf(buf, SHOW_TEXT, "%llu ms", (unsigned long long)(ns + 500000) / 1000000);
	else if (s < 120)
		snprintf(buf, SHOW_TEXT, "%llu s", (unsigned long long)(ns + 500000000) / 1000000000);
	else if (s < 7200)
		snprintf(buf, SHOW_TEXT, "%llu min %llu s", s / 60, s % 60);
	else if (s < 2 * 86400)
		snprintf(buf, SHOW_TEXT, "%llu h %llu min", s / 3600, s / 60 % 60);
	else
		snprintf(buf, SHOW_TEXT, "%llu d %llu h", s / 86400, s / 3600 % 24);
	return buf;
}

const char *show_bytes(char *buf, uint64_t bytes)
{
	static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
	double n = (double)bytes;
	size_t unit = 0;

	while (n >= 1024 && unit < 4) {
		n /= 1024;
		unit++;
	}
	snprintf(buf, SHOW_TEXT, unit && n < 100 ? "%.1f %s" : "%.0f %s", n, units[unit]);
	return buf;
}

/* --- times ---------------------------------------------------------------------------------- */

static const char *formatted(char *buf, const char *format, uint64_t at_ns)
{
	time_t s = (time_t)(at_ns / NS_PER_S);
	struct tm tm;

	localtime_r(&s, &tm);
	strftime(buf, SHOW_TEXT, format, &tm);
	return buf;
}

const char *show_time(char *buf, uint64_t at_ns)
{
	return formatted(buf, "%Y-%m-%d %H:%M:%S", at_ns);
}

const char *show_clock(char *buf, uint64_t at_ns) { return formatted(buf, "%H:%M:%S", at_ns); }

const char *show_since(char *buf, uint64_t at_ns)
{
	return real_ns() < at_ns + DAY_NS ? show_clock(buf, at_ns) : show_time(buf, at_ns);
}

/* --- text ----------------------------------------------------------------------------------- */

/* Characters that change the direction in which the rest of the line is read. */
static bool is_turning(wchar_t c)
{
	return c == 0x61c || c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) ||
	       (c >= 0x2066 && c <= 0x2069);
}

/* The next character: returns its bytes; also its columns, and whether it is safe to write. */
static int next_char(const char *p, int *ret_columns, bool *ret_is_safe)
{
	mbstate_t state = { 0 };
	wchar_t wide;
	size_t n;
	int columns;

	n = mbrtowc(&wide, p, strlen(p), &state);
	columns = n == (size_t)-1 || n == (size_t)-2 || is_turning(wide) ? -1 : wcwidth(wide);
	*ret_is_safe = columns >= 0;
	*ret_columns = columns >= 0 ? columns : 1;
	return columns >= 0 || (n != (size_t)-1 && n != (size_t)-2 && n) ? (int)n : 1;
}

int show_width(const char *text)
{
	int width = 0, columns;
	bool is_safe;

	for (const char *p = text; *p; width += columns)
		p += next_char(p, &columns, &is_safe);
	return width;
}

/* Writes the characters in columns from..to of text; returns how many columns they have. */
static int write_part(FILE *f, const char *text, int from, int to)
{
	int at = 0, used = 0, columns, bytes;
	bool is_safe;

	for (const char *p = text; *p; p += bytes, at += columns) {
		bytes = next_char(p, &columns, &is_safe);
		if (at < from || at + columns > to)
			continue;
		if (is_safe)
			fwrite(p, 1, (size_t)bytes, f);
		else
			fputc('?', f);
		used += columns;
	}
	return used;
}

void show_padded(FILE *f, const char *text, int width)
{
	int all = show_width(text), used, head;

	if (all <= width) {
		used = write_part(f, text, 0, all);
	} else {
		/* Keeps both ends: names differ at their end as often as at their beginning. */
		head = (width - 1) * 2 / 3;
		used = write_part(f, text, 0, head);
		fputs(show.utf8 ? "…" : "~", f);
		used += 1 + write_part(f, text, all - (width - 1 - head), all);
	}
	fprintf(f, "%*s", width - used, "");
}

void show_spark(FILE *f, const float *history, size_t nr, int columns)
{
	static const char *const bars[] = { "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" };
	static const char ascii[] = "_.-:=+*#";
	size_t shown = columns < 0 ? 0 : (size_t)columns < nr ? (size_t)columns : nr;
	float most = 0;

	for (size_t i = 0; i < shown; i++)
		if (fabsf(history[i]) > most)
			most = fabsf(history[i]);
	for (size_t i = shown; i-- > 0;) {
		int level;

		if (isnan(history[i])) {
			fputc(' ', f);
			continue;
		}
		level = most > 0 ? (int)lrintf(fabsf(history[i]) / most * 7) : 0;
		if (show.utf8)
			fputs(bars[level], f);
		else
			fputc(ascii[level], f);
	}
}

void show_text(FILE *f, const char *text)
{
	write_part(f, text, 0, show_width(text));
}

void show_name(FILE *f, const char *name)
{
	if (isatty(fileno(f)))
		show_text(f, name);
	else
		fputs(name, f);
}

#define LABEL_COLUMNS 10

/* Breaks lines between words; the terminal would break within a word. */
static void print_wrapped(const char *text)
{
	int room = show.is_tty ? show.columns - LABEL_COLUMNS : INT_MAX, at = 0;
	char word[NAME_DISPLAY_MAX + 1];

	while (*text) {
		size_t len = strcspn(text, " ");
		int width;

		if (len >= sizeof(word))
			len = sizeof(word) - 1;
		memcpy(word, text, len);
		word[len] = '\0';
		width = show_width(word);
		if (at && at + 1 + width > room) {
			printf("\n%*s", LABEL_COLUMNS, "");
			at = 0;
		} else if (at) {
			putchar(' ');
			at++;
		}
		show_text(stdout, word);
		at += width;
		text += len;
		text += *text == ' ';
	}
}

static void show_vstyled(enum show_style style, const char *format, va_list args)
{
	show_style(stdout, style);
	vprintf(format, args);
	show_style(stdout, SHOW_PLAIN);
}

void show_styled(enum show_style style, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	show_vstyled(style, format, args);
	va_end(args);
}

void show_head(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	show_vstyled(SHOW_BOLD, format, args);
	va_end(args);
	putchar('\n');
}

void show_line(const char *label, const char *format, ...)
{
	char text[NAME_DISPLAY_MAX + 1024];
	va_list args;

	show_style(stdout, SHOW_BOLD);
	printf("%-*s", LABEL_COLUMNS, label);
	show_style(stdout, SHOW_PLAIN);
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	print_wrapped(text);
	putchar('\n');
}

const char *show_plural(uint64_t nr) { return nr == 1 ? "" : "s"; }

const char *show_user(char *buf, uint32_t uid)
{
	const struct passwd *pw = getpwuid(uid);

	if (pw)
		snprintf(buf, SHOW_TEXT, "%s", pw->pw_name);
	else
		snprintf(buf, SHOW_TEXT, "%u", uid);
	return buf;
}

void show_bar(FILE *f, double share, int columns)
{
	static const char *const eighths[] = { "", "▏", "▎", "▍", "▌", "▋", "▊", "▉" };
	int at = (int)lrint(share * columns * 8);

	for (; at >= 8; at -= 8)
		fputs(show.utf8 ? "█" : "#", f);
	if (show.utf8)
		fputs(eighths[at], f);
}

void show_shade(FILE *f, double share)
{
	static const char *const shades[] = { " ", "░", "▒", "▓", "█" };
	static const char ascii[] = " .:=#";
	/* Whatever moved at all is visible. */
	int level = share > 0 ? 1 + (int)(share * 3.999) : 0;

	if (show.utf8)
		fputs(shades[level > 4 ? 4 : level], f);
	else
		fputc(ascii[level > 4 ? 4 : level], f);
}

/*
 * Fuzzing the configuration: a file of any bytes is read or refused with words, never more; what
 * was read is printed as a file that means the same. Run by tests/fuzz/run.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/config/config.h"
#include "tests/fuzz/fuzz.h"

struct file {
	int fd;
	char path[32];
};

static struct file given, printed;

static void file_make(struct file *f)
{
	f->fd = memfd_create("configuration", MFD_CLOEXEC);
	fuzz_check(f->fd >= 0 && fchmod(f->fd, 0600) == 0);
	snprintf(f->path, sizeof(f->path), "/proc/self/fd/%d", f->fd);
}

static void file_put(struct file *f, const void *bytes, size_t size)
{
	fuzz_check(ftruncate(f->fd, 0) == 0);
	fuzz_check(pwrite(f->fd, bytes, size, 0) == (ssize_t)size);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	setenv("HOME", "/nowhere", 1);
	setenv("XDG_STATE_HOME", "/nowhere/state", 1);
	setenv("XDG_RUNTIME_DIR", "/nowhere/run", 1);
	file_make(&given);
	file_make(&printed);
	return 0;
}

/* Every mistake is a sentence of one line. */
static void say(const char *text)
{
	fuzz_check(*text && strlen(text) < 4096 && !strchr(text, '\n'));
}

static void quiet(const char *text)
{
	(void)text;
}

/* The same without comments: they say in which file each value stood. */
static char *print(const struct config *c, const struct config_origins *o)
{
	char *text = NULL, *from, *to;
	size_t bytes = 0;
	FILE *out = open_memstream(&text, &bytes);

	fuzz_check(out != NULL);
	config_print(c, o, out);
	fuzz_check(fclose(out) == 0);
	for (from = to = text; *from;) {
		size_t line = strcspn(from, "\n");

		line += from[line] == '\n';
		if (*from != '#') {
			memmove(to, from, line);
			to += line;
		}
		from += line;
	}
	*to = '\0';
	return text;
}

static void ask(const struct config *c)
{
	static const char *const names[] = {
		"a_total", "likes_total{post=\"1\"}", "a{b=\"c\",d=\"e\\\\\\\"\"}", "",
	};

	for (unsigned int i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		fuzz_check(config_labels_max(c, names[i]) > 0);
		fuzz_check(config_hot(c, names[i]) <= 2);
		config_ttl_s(c, names[i]);
	}
	config_is_admin(c, 1000);
	fuzz_check(config_namespace_find(c, "default") == &c->namespaces[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct config_source source = { .file = given.path };
	const struct config_source again = { .file = printed.path };
	struct config_origins *origins;
	struct config c, same;
	char *first, *second;

	file_put(&given, data, size);
	if (config_load(&source, &c, &origins, say))
		return 0;
	ask(&c);
	first = print(&c, origins);
	config_origins_free(origins);
	file_put(&printed, first, strlen(first));
	fuzz_check(config_load(&again, &same, &origins, quiet) == 0);
	second = print(&same, origins);
	config_origins_free(origins);
	fuzz_check(strcmp(first, second) == 0);
	free(first);
	free(second);
	return 0;
}

/*
 * Finds a library by its name where the dynamic linker would: in /etc/ld.so.cache, which ldconfig
 * makes, then in the default folders. It ignores LD_LIBRARY_PATH and the RPATH of programs, because
 * other processes have others. Owns nothing; see elf.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/keeper/probe/symbols/elf.h"

#define CACHE	    "/etc/ld.so.cache"
#define CACHE_MAGIC "glibc-ld.so.cache1.1"
#define CACHE_MAX   (64u << 20)

#if defined(__x86_64__)
#define CACHE_FLAGS 0x0303 /* of the 64-bit ABI, for libc.so.6 */
#define MULTIARCH   "x86_64-linux-gnu"
#elif defined(__aarch64__)
#define CACHE_FLAGS 0x0a03
#define MULTIARCH   "aarch64-linux-gnu"
#else
#define CACHE_FLAGS 0x0003
#define MULTIARCH   "."
#endif

/* glibc's own, sysdeps/generic/dl-cache.h: texts are given as offsets from the header. */
struct cache_entry {
	int32_t flags;
	uint32_t name, path;
	uint32_t os_version;
	uint64_t hwcap; /* not 0: of a folder for newer CPUs */
};
struct cache_head {
	char magic[20];
	uint32_t entries_nr;
	uint32_t texts_bytes;
	uint32_t unused[5];
};

static void *cache_read(size_t *ret_bytes)
{
	int fd = open(CACHE, O_RDONLY | O_CLOEXEC);
	size_t have = 0;
	char *bytes = NULL;
	struct stat st;
	ssize_t n;

	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) || st.st_size < (off_t)sizeof(struct cache_head) || st.st_size > CACHE_MAX)
		goto out_close;
	bytes = malloc((size_t)st.st_size + 1);
	while (bytes && have < (size_t)st.st_size &&
	       (n = read(fd, bytes + have, (size_t)st.st_size - have)) > 0)
		have += (size_t)n;
	if (bytes)
		bytes[have] = '\0'; /* so that each text ends in the buffer */
	*ret_bytes = have;
out_close:
	close(fd);
	return bytes;
}

static bool is_library(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISREG(st.st_mode);
}

static int cache_find(const char *name, char *path, size_t size)
{
	size_t bytes = 0;
	char *cache = cache_read(&bytes);
	const struct cache_head *head = (void *)cache;
	const struct cache_entry *entry;
	int err = -ENOENT;

	if (!cache || bytes < sizeof(*head) || memcmp(head->magic, CACHE_MAGIC, sizeof(head->magic)) ||
	    head->entries_nr > (bytes - sizeof(*head)) / sizeof(*entry))
		goto out_free;
	entry = (const void *)(head + 1);
	for (uint32_t i = 0; err && i < head->entries_nr; i++, entry++) {
		if (entry->flags != CACHE_FLAGS || entry->hwcap || entry->name >= bytes ||
		    entry->path >= bytes || strcmp(cache + entry->name, name) ||
		    !is_library(cache + entry->path))
			continue;
		if (snprintf(path, size, "%s", cache + entry->path) < (int)size)
			err = 0;
	}
out_free:
	free(cache);
	return err;
}

int elf_library_find(const char *name, char *path, size_t size)
{
	static const char *const folders[] = { "/lib/" MULTIARCH, "/usr/lib/" MULTIARCH, "/lib64",
					       "/usr/lib64", "/lib", "/usr/lib" };
	char try[512];

	if (strchr(name, '/')) {
		struct stat st;

		if (stat(name, &st))
			return -errno;
		if (!S_ISREG(st.st_mode))
			return -ENOEXEC;
		return snprintf(path, size, "%s", name) < (int)size ? 0 : -ENAMETOOLONG;
	}
	if (!cache_find(name, path, size))
		return 0;
	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
		if (snprintf(try, sizeof(try), "%s/%s", folders[i], name) < (int)sizeof(try) &&
		    is_library(try))
			return snprintf(path, size, "%s", try) < (int)size ? 0 : -ENAMETOOLONG;
	return -ENOENT;
}

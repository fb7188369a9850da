/*
 * What lies in programs and libraries: symbols, USDT notes, and where a library is. Reads files that
 * anybody may have made: everything is bounded and checked. Owns nothing. For daemon/probe alone.
 */
#ifndef PROBE_ELF_H
#define PROBE_ELF_H

#include <stddef.h>
#include <stdint.h>

/* As the dynamic linker finds it: a path as it is, else /etc/ld.so.cache and its default folders.
 * -ENOENT. */
int elf_library_find(const char *name, char *path, size_t size);

/* The place of a function in the file, for a uprobe. -ENOENT. */
int elf_symbol_offset(const char *path, const char *symbol, uint64_t *ret_offset);

/* Each function's name that a spec can have: printable, no blank, no colon. Non-zero from visit ends
 * it and is the result. */
int elf_symbols_each(const char *path, int (*visit)(const char *name, void *arg), void *arg);

struct elf_usdt {
	char provider[64], name[128];
	char args[256]; /* "8@%rdi -4@-20(%rbp)" */
	uint64_t offset, semaphore_offset; /* in the file; 0: no semaphore */
};

/* Each USDT whose names a spec can have; as above. */
int elf_usdt_each(const char *path, int (*visit)(const struct elf_usdt *u, void *arg), void *arg);

#endif

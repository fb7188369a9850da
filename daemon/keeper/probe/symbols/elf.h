/*
 * Symbols and USDT notes of programs and libraries, and where a library is. Any user may have made
 * these files, so every size and offset is bounded and checked. Owns nothing. For keeper/probe and
 * keeper/doctor.
 */
#ifndef PROBE_ELF_H
#define PROBE_ELF_H

#include <stddef.h>
#include <stdint.h>

/* Finds a library as the dynamic linker does: a path stays as it is; a name is searched in
 * /etc/ld.so.cache, then in the default folders. -ENOENT. */
int elf_library_find(const char *name, char *path, size_t size);

/* The function's offset in the file, for a uprobe. -ENOENT; -ENOTSUP: the program chooses it when
 * it starts (an ifunc); -ENOTUNIQ: several functions have this name. */
int elf_symbol_offset(const char *path, const char *symbol, uint64_t *ret_offset);

/* Visits each function's name that a spec can have: printable, no blank, no colon. A non-zero
 * result of visit ends this and is returned. */
int elf_symbols_each(const char *path, int (*visit)(const char *name, void *arg), void *arg);

struct elf_usdt {
	char provider[64], name[128];
	char args[256]; /* "8@%rdi -4@-20(%rbp)" */
	uint64_t offset, semaphore_offset; /* in the file; 0: no semaphore */
};

/* Visits each USDT whose names a spec can have; as above. */
int elf_usdt_each(const char *path, int (*visit)(const struct elf_usdt *u, void *arg), void *arg);

#endif

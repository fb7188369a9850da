/*
 * What object.c has help for: a file that nobody but its owner can have changed (object_file.c).
 * For object.c alone; what it offers to others stands in load.h.
 */
#ifndef PROBE_OBJECT_H
#define PROBE_OBJECT_H

#include <stddef.h>

#include "daemon/keeper/probe/explain.h"

/*
 * Reads a file that may run in the kernel: regular, reached by no symbolic link, and it and each
 * folder on the way root's (or our own where we are not root) and nobody else's to write. 0 with
 * all of it in *ret, to be freed; else -errno, and *why has which of them it is and what to type.
 */
int object_file_read(const char *path, void **ret, size_t *ret_bytes, struct why *why);

#endif

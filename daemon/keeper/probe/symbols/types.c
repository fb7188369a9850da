/*
 * Reads the type information of the kernel and of its modules. Owns nothing after it returns.
 * Called to find a name (prototype.c), to find names that are alike (nearest.c) and to list them
 * (available.c).
 */
#include "daemon/keeper/probe/symbols/types.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

int types_each(int (*visit)(const struct btf *btf, uint32_t first, void *arg), void *arg)
{
	struct btf *kernel = btf__parse(TYPES_KERNEL, NULL);
	const struct dirent *entry;
	DIR *folder = NULL;
	int err;

	if (!kernel)
		return -ENODATA;
	err = visit(kernel, 1, arg);
	if (!err)
		folder = opendir(TYPES_FOLDER);
	while (!err && folder && (entry = readdir(folder))) {
		char path[sizeof(TYPES_FOLDER) + 1 + sizeof(entry->d_name)];
		struct btf *module;

		if (entry->d_name[0] == '.' || !strcmp(entry->d_name, "vmlinux"))
			continue;
		snprintf(path, sizeof(path), TYPES_FOLDER "/%s", entry->d_name);
		module = btf__parse_split(path, kernel);
		if (module)
			err = visit(module, btf__type_cnt(kernel), arg);
		btf__free(module);
	}
	if (folder)
		closedir(folder);
	btf__free(kernel);
	return err;
}

/*
 * Reads the names of probes' keys from the running kernel: enumerators of its type information and
 * devices of /sys/kernel/irq. Owns nothing: daemon/spec/probe_names.c keeps the names. attach.c
 * calls this for a probe that it has attached. A key whose name cannot be read is shown by its
 * number.
 */
#include <bpf/btf.h>
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/keeper/probe/learn.h"
#include "daemon/keeper/probe/symbols/types.h"
#include "daemon/spec/probe_names.h"

/* --- enumerators ------------------------------------------------------------------------------ */

static bool has_member(const struct btf *btf, const struct btf_type *type, const char *member)
{
	const struct btf_enum *e = btf_enum(type);

	for (uint16_t i = 0; i < btf_vlen(type); i++)
		if (!strcmp(btf__name_by_offset(btf, e[i].name_off), member))
			return true;
	return false;
}

static const struct btf_type *enum_with(const struct btf *btf, const char *member)
{
	uint32_t nr = btf__type_cnt(btf);

	for (uint32_t id = 1; id < nr; id++) {
		const struct btf_type *type = btf__type_by_id(btf, id);

		if (btf_is_enum(type) && has_member(btf, type, member))
			return type;
	}
	return NULL;
}

/* Puts an enumerator's name without the prefix and suffix that all of them have. */
static void name_put(struct probe_names *n, const struct probe_enum *e, int32_t value,
		     const char *name)
{
	size_t prefix = strlen(e->prefix), suffix = e->suffix ? strlen(e->suffix) : 0, length;
	char buf[64];

	if (value < 0 || (uint32_t)value >= e->nr)
		return;
	if (!strncmp(name, e->prefix, prefix))
		name += prefix;
	length = strlen(name);
	if (suffix && length > suffix && !strcmp(name + length - suffix, e->suffix))
		length -= suffix;
	if (length > sizeof(buf))
		length = sizeof(buf);
	for (size_t i = 0; i < length; i++)
		buf[i] = e->is_upper ? name[i] : (char)tolower((unsigned char)name[i]);
	probe_names_put(n, (uint32_t)value + e->add, buf, length);
}

static void enums_learn(const struct btf *btf, enum probe_id id, struct probe_names *n)
{
	n->bytes = 0;
	for (uint32_t i = 0; i < PROBE_ENUMS_MAX; i++) {
		const struct probe_enum *e = &probe_types[id].enums[i];
		const struct btf_type *type = e->member ? enum_with(btf, e->member) : NULL;
		const struct btf_enum *values = type ? btf_enum(type) : NULL;

		for (uint16_t v = 0; type && v < btf_vlen(type); v++)
			name_put(n, e, values[v].val, btf__name_by_offset(btf, values[v].name_off));
	}
	probe_names_set(id, n);
}

/* Reads the types once for all probes: reading takes longer than all that follows. */
static void enums_learn_all(struct probe_names *n)
{
	static bool is_done;
	struct btf *btf = is_done ? NULL : btf__parse(TYPES_KERNEL, NULL);

	for (unsigned int id = 0; btf && id < PROBE_NR; id++)
		if (probe_types[id].enums[0].member)
			enums_learn(btf, id, n);
	is_done |= btf != NULL;
	btf__free(btf);
}

/* --- interrupts ------------------------------------------------------------------------------- */

static void irqs_learn(enum probe_id id, struct probe_names *n)
{
	DIR *folder = opendir("/sys/kernel/irq");
	const struct dirent *entry;
	char path[32 + sizeof(entry->d_name)], line[128];

	n->bytes = 0;
	while (folder && (entry = readdir(folder))) {
		ssize_t got = -1;
		int fd;

		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "%s/actions", entry->d_name);
		fd = openat(dirfd(folder), path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0) {
			got = read(fd, line, sizeof(line));
			close(fd);
		}
		while (got > 0 && isspace((unsigned char)line[got - 1]))
			got--;
		if (got > 0)
			probe_names_put(n, (uint32_t)strtoul(entry->d_name, NULL, 10), line,
					(size_t)got);
	}
	if (folder)
		closedir(folder);
	probe_names_set(id, n);
}

void probe_learn(enum probe_id id)
{
	struct probe_names *n = malloc(sizeof(*n));

	if (n && probe_types[id].enums[0].member)
		enums_learn_all(n);
	if (n && probe_types[id].has_irq_names)
		irqs_learn(id, n);
	free(n);
}

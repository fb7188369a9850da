/*
 * Reference counters: the kernel's own counts, in /proc, of what probes count too, and by how much
 * the two may differ for a known reason. Owns the table of them and a list of readings until
 * references_fini; talea-probes(7) explains each reason. Reads files alone, needs no privilege.
 * Called by verbs/drift.c.
 */
#ifndef TOOLS_REFERENCE_H
#define TOOLS_REFERENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a probe may count against the reference counter without being wrong. */
enum reference_tolerance {
	REFERENCE_EXACT = 0,
	REFERENCE_MORE = 1,
	REFERENCE_LESS = 2,
	REFERENCE_EITHER = 3,
};

/* One reading of one number of a file of /proc, and the counters whose sum it should be. */
struct reference {
	char counter[64]; /* its name before the braces */
	char label[16];	  /* "": all label sets */
	char values[64];  /* of that label, with '|' between */
	char source[80];  /* "/proc/stat ctxt"; no two have the same */
	enum reference_tolerance tolerance;
	const char *reason, *why; /* of the tolerance: in a word, in a sentence */
	uint32_t unit; /* how much one event adds at most */
	bool wraps;    /* at 2^32 */
	uint64_t nr;
};
struct references {
	struct reference *list;
	size_t nr, max;
};

/* Reads all that this kernel has. is_same_network: talead is in this process's network namespace. 0
 * or -ENOMEM. */
int references_read(struct references *ret, bool is_same_network);
const struct reference *references_find(const struct references *references, const char *source);
void references_fini(struct references *references);

#endif

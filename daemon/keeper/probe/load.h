/*
 * One attempt to attach a probe, for this folder alone. attach.c makes the attempt; declared.c
 * opens what was declared in text, and object.c opens objects.
 */
#ifndef PROBE_LOAD_H
#define PROBE_LOAD_H

#include <bpf/libbpf.h>

#include "daemon/keeper/probe/explain.h"
#include "daemon/keeper/probe/probe.h"

struct load {
	const struct probe_spec *spec;
	const struct probe_type *type; /* of the pack; NULL: it is none of those */
	struct bpf_object *obj;	       /* opened, constants set, not yet loaded */
	const char *target; /* what its program is attached to, if its section does not say that */
	uint64_t elf_hash;  /* adopt_hash of what obj was opened from */
	struct probe_live *live;
	struct failure failure; /* step, log; what is needed to explain */
	char without[128];	/* failure.without */
};

/* adopt.c: for elf_hash, by whoever opens obj. */
uint64_t adopt_hash(const void *elf, size_t bytes);

/*
 * declared.c: opens the embedded object of the spec's event and sets constants, target, and the
 * size of the hashed keys; fills live->sources[0].
 */
int declared_open(struct load *l);

/* Attaches a program of the spec's event, at several sites where the event has them (uprobes,
 * USDT). */
int declared_attach(struct load *l, int prog_fd, int *ret_link_fds, uint32_t max, uint32_t *ret_nr);

/*
 * object.c: opens the object of a probe of the pack, or the file of the spec, which must be root's
 * and nobody else's to write. Fills live->sources[], but for descriptors.
 */
int object_open(struct load *l);

/* The maps of an opened probe: dense counts, and hashed keys (NULL: none). */
struct bpf_map *load_counts_map(const struct load *l, uint32_t source);
struct bpf_map *load_keys_map(const struct load *l, uint32_t source);

#endif

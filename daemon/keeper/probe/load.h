/*
 * One attempt to bring a probe to life, for daemon/probe alone: attach.c makes it, declared.c and
 * object.c open what is theirs.
 */
#ifndef PROBE_LOAD_H
#define PROBE_LOAD_H

#include <bpf/libbpf.h>

#include "daemon/keeper/probe/explain.h"
#include "daemon/keeper/probe/probe.h"

struct load {
	uint32_t id;
	const struct probe_spec *spec; /* not those of the table */
	struct bpf_object *obj;		/* opened, constants set, not yet loaded */
	struct bpf_program *stub, *body; /* objects have neither: stub.c makes one of each program */
	int entry_fd;		/* what declared_attach attaches in the stub's place, if not 0 */
	uint64_t elf_hash;	/* adopt_hash of what obj was opened from */
	struct probe_live *live;
	struct failure failure; /* step, log; what is needed to explain */
	char without[128];	/* failure.without */
};

/* adopt.c: for elf_hash, by whoever opens obj. */
uint64_t adopt_hash(const void *elf, size_t bytes);

/* table.c: the embedded object of a probe of the table. */
const void *table_elf(uint32_t id, size_t *ret_bytes);

/*
 * declared.c: opens the embedded object of the spec's event and sets constants, the key's size and
 * the size of map `keys`; fills live->sources[0]. Map `counts` is the dense one.
 */
int declared_open(struct load *l);

/* Attaches the loaded stub, at several sites where the event has them (uprobes, USDT). */
int declared_attach(struct load *l, int *ret_link_fds, uint32_t max, uint32_t *ret_nr);

/*
 * object.c: opens an object with counters of talea.bpf.h: the file of the spec, which must be
 * root's and nobody else's to write, or elf. Fills live->sources[].def, keys_max. The maps of
 * source i are found by object_counts_map() and object_keys_map() (NULL: no keys).
 */
int object_open(struct load *l, const void *elf, size_t bytes);
struct bpf_map *object_counts_map(const struct load *l, uint32_t source);
struct bpf_map *object_keys_map(const struct load *l, uint32_t source);

#endif

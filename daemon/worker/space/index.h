/*
 * The directory's index as its only writer sees it, and the private table of base names. Owns
 * struct space_index and struct space_bases, and puts names into the registry; remove.c takes them
 * out of it. Readers walk the index meanwhile (shm/directory.h). The fold thread alone calls this.
 */
#ifndef SPACE_INDEX_H
#define SPACE_INDEX_H

#include "daemon/worker/space/space.h"

/* Room for one more entry. 0 or -ENOMEM. */
int index_reserve(struct space *space);

/* Makes a live slot findable: in D for every process, in the registry for the worker's threads. */
void index_put(struct space *space, uint32_t slot, uint64_t hash);

/* Makes it unfindable in D. Does nothing when it is not there. */
void index_remove(struct space *space, uint32_t slot, uint64_t hash);

/* At start: index_recover drops the entries of slots that are not in use, then
 * index_put_missing for each live slot. */
void index_recover(struct space *space);
void index_put_missing(struct space *space, uint32_t slot, uint64_t hash);

/* A slot whose base name (the part before '{') is this one, or SHM_SLOT_NONE. */
uint32_t bases_find(const struct space *space, const char *base, uint32_t len);
int bases_reserve(struct space *space);
void bases_put(struct space *space, uint32_t slot);
void bases_close(struct space *space);

#endif

/*
 * What another thread than the fold's may read of a namespace. Owns nothing: space.c fills a
 * struct space_view before any other thread knows of the space, and the fold thread publishes all
 * that changes in D and T, which every thread reads as a client does. Control includes this and not
 * space.h; its functions that run on the fold thread (serve.c) include space.h.
 *
 *   field           written by                  ordering
 *   all of a view   space_open, once            control gets the space from fold_start or from an
 *                                               answered request, both of which order it
 *   d               the fold thread             shm/directory.h: generation and state are taken,
 *                                               what they show is whole
 *   t               the fold thread             epoch, busy_tick and changes_nr are taken; single
 *                                               words are read with shm_count_read or shm_read32
 *   s               clients                     u64 values alone, read with shm_count_read
 *   registry        the fold thread             RCU: inside registry_read_begin
 *
 * A view is there as long as its space: from space_open until fold_close, when control has ended.
 */
#ifndef SPACE_VIEW_H
#define SPACE_VIEW_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/link/link.h"
#include "shm/directory.h"

struct registry;
struct space;

struct space_view {
	char name[SHM_NAMESPACE_MAX];
	uint32_t idx; /* of the namespace, as its records in the registry have it */
	struct region_fds fds;
	struct registry *registry;
	const struct dir_shm *d;
	const struct totals_shm *t;
	const char *s;
};

const struct space_view *space_view(const struct space *space);

static inline bool type_is_member(uint8_t type)
{
	return type == SHM_MEMBER || type == SHM_LEVEL_MEMBER;
}

static inline bool type_is_family(uint8_t type)
{
	return type == SHM_FAMILY || type == SHM_LEVEL_FAMILY;
}

/* Who registered a name, or the family of a member: enum shm_origin. */
static inline uint8_t view_origin(const struct space_view *v, uint32_t slot)
{
	uint64_t name = shm_count_read(&dir_slot(v->d, slot)->name);

	if (name_is_member(name))
		name = shm_count_read(&dir_slot(v->d, dir_member(v->d, name)->family)->name);
	return dir_name(v->d, name)->origin;
}

#endif

/*
 * Committing memory. The parts of a region are sparse; a page gets memory here, when the first cell
 * in it is handed out, so that neither a client's add nor the daemon's store is ever the first
 * touch and a machine that is out of memory refuses a registration instead of killing a process.
 * Owns struct space_pages. The fold thread alone calls this (register.c, rows.c, index.c, space.c).
 */
#ifndef SPACE_PAGES_H
#define SPACE_PAGES_H

#include "daemon/worker/space/space.h"

/* The heads of the parts, the lists of the busiest and the history. 0 or -ENOMEM. */
int pages_heads(struct space *space);

/* Makes sure that everything of the slots, names or rows below `upto` has pages. 0 or -ENOMEM. */
int pages_slots(struct space *space, uint32_t upto);
int pages_names(struct space *space, uint64_t upto_bytes);
int pages_rows(struct space *space, uint32_t upto);
int pages_index(struct space *space, uint64_t word);

/* The table of `word` has no pages afterwards and reads as zero. */
void pages_index_punch(struct space *space, uint64_t word);

/* At start: as many lanes as this machine can have CPUs, or as a live region has, if those are
 * more. */
void pages_lanes_open(struct space *space);
void pages_lanes_recover(struct space *space);

/* Looks for data beyond the last lane (PROTOCOL 1) and extends the lanes to it. */
void pages_lanes_check(struct space *space);

/* The number of lanes that this machine can have: the highest possible CPU + 1. */
uint32_t pages_cpus_possible(void);

#endif

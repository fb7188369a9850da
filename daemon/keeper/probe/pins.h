/*
 * What attach.c and adopt.c need of pins.c beside probe.h: find, open and write one pinned probe.
 * The folder of a probe holds `meta`; countsN, keysN and ledgerN for each source; and linkN, progN
 * and slotN for each program.
 */
#ifndef PROBE_PINS_H
#define PROBE_PINS_H

#include "daemon/keeper/probe/probe.h"

#define PIN_MAGIC   0x746165616c617430ull
#define PIN_VERSION 2u

/* The one entry of map `meta`. Its head keeps its place in all versions. */
struct pin_meta {
	uint64_t magic;
	uint32_t version, bytes; /* of this struct */
	uint32_t origin;	 /* enum probe_origin */
	uint32_t cpus_nr;
	uint64_t layout_hash;  /* all that must be the same to continue the counts */
	uint64_t program_hash; /* of the code and its constants */
	uint64_t since_real_ns;
	uint32_t progs_nr, links_nr, sources_nr;
	uint32_t reserved;
	struct {
		uint32_t stride, dense_nr, events_nr;
		uint32_t keys_nr, keys_max; /* hashed keys: parts of one, and room for them */
	} sources[PROBE_SOURCES_MAX]; /* as in struct probe_source */
	struct probe_spec spec;
};

/* 0; -ENOENT: nothing of that name; -EPROTO: made by a talead that knew another struct pin_meta. */
int pin_find(const struct pins *pins, const char *name, struct pin_meta *ret);

/* Opens the maps of a pinned probe into live, each of whose descriptors is -1; and its programs,
 * slots and links. On failure live's are for the caller to close. */
int pin_open_maps(const struct pins *pins, const char *name, const struct pin_meta *m,
		  struct probe_live *live);
int pin_open_programs(const struct pins *pins, const char *name, const struct pin_meta *m,
		      struct probe_live *live);

/* Pins a live probe in one step: it is there wholly, in place of what had its name, or not at all. */
int pin_store(const struct pins *pins, const char *name, const struct pin_meta *m,
	      const struct probe_live *live);

/* Changes what is in meta; and puts other programs and links in the place of the pinned ones. */
int pin_update(const struct pins *pins, const char *name, const struct pin_meta *m);
int pin_drop_programs(const struct pins *pins, const char *name);
int pin_store_programs(const struct pins *pins, const char *name, const struct probe_live *live);

/* Descriptors that can only read, for the worker. */
int pin_open_readers(const struct pins *pins, const char *name, struct probe_live *live);

#endif

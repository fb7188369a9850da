/*
 * Names: the rules for them, their one canonical spelling, finding and matching them. The library
 * uses it (canonical spelling, look-up by name), the worker (the rules) and the tools. Owns no
 * memory; every function works on the caller's buffers and is MT-safe.
 */
#ifndef SHM_NAMES_H
#define SHM_NAMES_H

#include <stddef.h>
#include <stdint.h>

#include "layout.h"

/* A displayed name at its longest: base, labels, every byte of a value escaped. */
#define NAME_DISPLAY_MAX (4 * SHM_NAME_MAX)
#define NAME_LABELS_MAX 64

/* The parts of a name. All point into the text; values still have their escapes. */
struct name_label {
	const char *name;
	size_t name_len;
	const char *value;
	size_t value_len;
};

struct name_parts {
	const char *base;
	size_t base_len;
	unsigned int labels_nr;
	struct name_label labels[NAME_LABELS_MAX];
};

/* Splits `name` or `name{label="value",...}` into its parts, in the order written; -EINVAL where it
 * does not parse. In a glob any character may be escaped and quotes may be missing. */
int name_parse(const char *text, size_t len, int is_glob, struct name_parts *ret);

/* The bytes that an escaped value means; their number, or -ENAMETOOLONG. Adds no NUL. */
int name_unescape(const char *value, size_t len, char *buf, size_t size);

/*
 * Writes `base` or `base{a="x",b="y"}`: labels (pairs, NULL at the end; may be NULL) sorted by name,
 * values escaped as Prometheus does (\\, \", \n). Returns the length, or -ENAMETOOLONG, or -EINVAL
 * for a label without value or twice the same. Checks no other rule.
 */
int name_canonical(const char *base, const char *const *labels, char *buf, size_t size);

/* Brings any spelling (spaces, label order) of `name{...}` to the canonical one; as above, and
 * -EINVAL where it does not parse. */
int name_normalise(const char *text, char *buf, size_t size);

/* Bytes of the UTF-8 sequence at s, 0 where there is none (overlong, surrogate, cut off). */
size_t name_utf8_sequence(const unsigned char *s, size_t len);

/*
 * The rules of registration: Prometheus' characters, counters end in _total and nothing else does,
 * base units only, help is one non-empty UTF-8 line, prefixes talea_ and kernel_ are talea's own. The
 * name must be canonical; label (families alone) is the label's name without a key kind. 0, or
 * -EINVAL with one sentence in why that says what is wrong and what would be right.
 */
int name_check(enum shm_slot_type type, const char *name, size_t name_len, const char *help,
	       size_t help_len, const char *label, size_t label_len, char *why, size_t why_size);

/* The rules of a family's key: 8 bytes, or UTF-8 text of 1 to SHM_NAME_MAX bytes without NUL. */
int name_check_value(enum shm_key_kind kind, const void *value, size_t len, char *why,
		     size_t why_size);

/*
 * The full name of any live slot, members included. Its length, or -ENOENT for a slot that is free
 * or damaged, or gets another owner meanwhile. Safe beside removal and reuse: never a mixture of
 * two names.
 */
int name_display(const struct dir_shm *d, uint32_t slot, char *buf, size_t size);

/*
 * As name_display for a slot that may have been removed: the name it had last, with the generation
 * it was read at (odd: live). The record of a free slot stays whole for SHM_QUARANTINE_NS after its
 * removal; a caller that relies on an even generation must check that less time has passed.
 */
int name_display_last(const struct dir_shm *d, uint32_t slot, char *buf, size_t size,
		      uint32_t *ret_generation);

/* The slot of a canonical name, members included; SHM_SLOT_NONE and *ret_generation untouched when
 * there is none. */
uint32_t name_find(const struct dir_shm *d, const char *name, uint32_t *ret_generation);

/*
 * Does glob (`*`, `?`, [set]) match name? A glob without braces matches all label sets of the base
 * names it matches; with braces each named label must be there and its value match, others are free.
 */
int name_match(const char *glob, const char *name);

#endif

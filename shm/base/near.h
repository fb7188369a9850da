/*
 * The nearest name: which of several was meant by one that does not exist. One distance and one
 * limit for the configuration, the verbs of the command line and the kernel's names. Owns nothing.
 * MT-safe.
 */
#ifndef BASE_NEAR_H
#define BASE_NEAR_H

#include <stdbool.h>
#include <stdint.h>

#define NEAR_BYTES 127 /* longer words are near to nothing */
#define NEAR_FAR UINT32_MAX

/* How many single edits (insert, delete, change, swap two neighbours) make b of a; NEAR_FAR for
 * words longer than NEAR_BYTES. */
uint32_t near_distance(const char *a, const char *b);

/* May a word at this distance be what was meant by `word`? */
bool near_is_meant(uint32_t distance, const char *word);

/* The one of names (a NULL at the end) that was most likely meant; NULL when none is near. */
const char *near_word(const char *word, const char *const *names);

#endif

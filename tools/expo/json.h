/*
 * JSON of what talea counts and of what the daemon says about itself, as jansson values; the shape
 * is documented in talea(1), section JSON. Every function returns a new value, or NULL when memory
 * is short. Called by the writers of expo.h and by the verbs.
 */
#ifndef TOOLS_EXPO_JSON_H
#define TOOLS_EXPO_JSON_H

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

#include <talea.h>

#define EXPO_SCHEMA 1

/* {"schema": 1}, and with a namespace {"schema": 1, "namespace": "..."} */
json_t *json_document(const char *namespace_name);
json_t *json_text(const char *text);   /* invalid UTF-8 replaced */
json_t *json_rate(double rate);	       /* null when it is not known */
json_t *json_time(uint64_t real_ns);   /* null for 0 */
json_t *json_why(uint32_t why);	       /* of an enum shm_why; null when there is none */
json_t *json_base(const char *name);   /* a canonical name up to its labels */
json_t *json_labels(const char *name); /* the labels of a canonical name */
json_t *json_counter(const char *name, const struct talea_total *total);

/* The text of a value on one line, malloced; frees the value, which may be NULL. */
char *json_line(json_t *value);

#endif

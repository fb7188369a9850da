/* The objects of the pack; see embedded.c. */
#ifndef PROBE_EMBEDDED_H
#define PROBE_EMBEDDED_H

#include "daemon/spec/pack.h"

/* The bytes of its object, which live as long as the program. */
const void *embedded_object(const struct probe_type *type, size_t *ret_bytes);

#endif

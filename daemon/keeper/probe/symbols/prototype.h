/*
 * Which arguments a tracepoint or a kernel function has and how wide they are, from the type
 * information of the kernel and of its modules. Owns nothing. For keeper/probe alone.
 */
#ifndef PROBE_PROTOTYPE_H
#define PROBE_PROTOTYPE_H

#include <stdbool.h>
#include <stdint.h>

#define PROTOTYPE_PARAMS_MAX 12u

/* One value that an event brings. */
struct prototype_value {
	uint8_t bytes; /* 1, 2, 4 or 8; 0: it does not fit a word */
	uint8_t is_signed;
	uint8_t is_pointer;
};

/* The arguments of a tracepoint or function, and what it returns (bytes 0: nothing). */
struct prototype {
	uint32_t params_nr;
	struct prototype_value params[PROTOTYPE_PARAMS_MAX];
	struct prototype_value result;
};

/* Finds tracepoint `name`, or function `name`, in the kernel, then in its modules. 0; -ENOENT: no
 * such name; -ENODATA: this kernel has no type information. */
int prototype_find(const char *name, bool is_function, struct prototype *ret);

#endif

/*
 * Growing arrays: a pointer, how many elements are in use, and for how many there is room. The
 * three are the caller's variables; this owns the doubling and its overflow check, and nothing
 * else. free() ends one.
 */
#ifndef BASE_ARRAY_H
#define BASE_ARRAY_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define ARRAY_FIRST 64u /* elements of the first allocation */

/* The list with room for nr elements, and their number in *max; NULL when memory is short, and then
 * list and *max are as before. */
static inline void *array_grown(void *list, size_t nr, size_t *max, size_t element_bytes)
{
	size_t more = *max ? 2 * *max : ARRAY_FIRST, bytes;
	void *ret;

	if (nr <= *max)
		return list;
	if (more < nr)
		more = nr;
	if (__builtin_mul_overflow(more, element_bytes, &bytes))
		return NULL;
	ret = realloc(list, bytes);
	if (ret)
		*max = more;
	return ret;
}

/* Room for nr elements in *list, which has room for *max (a uint32_t or a size_t): 0, or -ENOMEM
 * with all as before. Elements keep their values; new ones are not initialised. */
#define array_reserve(list, nr, max)                                                               \
	({                                                                                         \
		size_t array_max = *(max);                                                         \
		void *array_list = array_grown(*(list), (nr), &array_max, sizeof(**(list)));       \
		int array_err = !array_list || array_max > (__typeof__(*(max)))-1 ? -ENOMEM : 0;   \
                                                                                                   \
		if (array_list)                                                                    \
			*(list) = array_list;                                                      \
		if (!array_err)                                                                    \
			*(max) = (__typeof__(*(max)))array_max;                                    \
		array_err;                                                                         \
	})

#endif

/*
 * Makes and maps the parts of a region. The keeper makes them; the worker and the clients map them.
 * Owns nothing after it returns: fds and mappings belong to the caller.
 */
#ifndef SHM_REGION_H
#define SHM_REGION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum region_part { REGION_D = 0, REGION_S = 1, REGION_T = 2, REGION_PARTS = 3 };

/* Bytes of address space of a part. */
size_t region_bytes(enum region_part part);

/*
 * Makes one part: a memfd of its full sparse size, mode 0600, sealed against shrinking, growing and
 * further sealing, so that no mapping of it can ever fault past its end. *ret_rw is the writable
 * descriptor, *ret_ro a read-only re-open of it; both CLOEXEC.
 */
int region_make(enum region_part part, const char *name_space, int *ret_rw, int *ret_ro);

/* Is this fd a part as region_make makes it? 0, or -EBADF with a reason in *ret_why. */
int region_check(int fd, enum region_part part, const char **ret_why);

/* Parts are mapped at multiples of this, so that an address inside T also names T (talea_peek). */
#define REGION_ALIGN (512ull << 20)

/*
 * Maps a whole part without committing a page, even under mlockall(MCL_FUTURE), and keeps it out of
 * core dumps. MCL_CURRENT after this call still commits the whole reserve.
 */
int region_map(int fd, enum region_part part, bool writable, void **ret);

#endif

/* See region.h. */
#define _GNU_SOURCE
#include "region.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "layout.h"

#ifndef MFD_NOEXEC_SEAL /* Linux 6.3 */
#define MFD_NOEXEC_SEAL 0x0008U
#endif

#define REGION_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

size_t region_bytes(enum region_part part)
{
	static const size_t bytes[REGION_PARTS] = { SHM_D_BYTES, SHM_S_BYTES, SHM_T_BYTES };

	return bytes[part];
}

int region_make(enum region_part part, const char *name_space, int *ret_rw, int *ret_ro)
{
	static const char letter[REGION_PARTS] = { 'D', 'S', 'T' };
	char name[128], path[64];
	int rw, ro, err;

	snprintf(name, sizeof(name), "talea-%c:%s", letter[part], name_space);
	rw = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
	if (rw < 0 && errno == EINVAL)
		rw = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (rw < 0)
		return -errno;
	/* Older kernels make a memfd with mode 0777: another uid could open it again for
	 * writing. */
	if (fchmod(rw, 0600) || ftruncate(rw, (off_t)region_bytes(part)) ||
	    fcntl(rw, F_ADD_SEALS, REGION_SEALS))
		goto out_rw;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", rw);
	ro = open(path, O_RDONLY | O_CLOEXEC);
	if (ro < 0)
		goto out_rw;
	*ret_rw = rw;
	*ret_ro = ro;
	return 0;

out_rw:
	err = -errno;
	close(rw);
	return err;
}

int region_check(int fd, enum region_part part, const char **ret_why)
{
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || (seals & REGION_SEALS) != REGION_SEALS) {
		*ret_why = "the memory is not sealed";
		return -EBADF;
	}
	if (fstat(fd, &st) || (uint64_t)st.st_size != region_bytes(part)) {
		*ret_why = "the memory has another size";
		return -EBADF;
	}
	return 0;
}

/* Address space of which `bytes` begin at a multiple of align; unmaps the rest. */
static void *reserve_aligned(size_t bytes, size_t align)
{
	char *p = mmap(NULL, bytes + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		       0);
	size_t before;

	if (p == MAP_FAILED)
		return NULL;
	before = -(uintptr_t)p & (align - 1);
	if (before)
		munmap(p, before);
	munmap(p + before + bytes, align - before);
	return p + before;
}

int region_map(int fd, enum region_part part, bool writable, void **ret)
{
	size_t bytes = region_bytes(part);
	void *at = reserve_aligned(bytes, REGION_ALIGN), *p;

	if (!at)
		return -ENOMEM;
	p = mmap(at, bytes, PROT_NONE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, 0);
	/* Under mlockall(MCL_FUTURE) a readable mapping would be populated whole at mprotect. */
	if (p == MAP_FAILED || munlock(p, bytes) ||
	    mprotect(p, bytes, PROT_READ | (writable ? PROT_WRITE : 0))) {
		int err = -errno;

		munmap(at, bytes);
		return err;
	}
	madvise(p, bytes, MADV_DONTDUMP);
	*ret = p;
	return 0;
}

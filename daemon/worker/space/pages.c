/* See pages.h. */
#define _GNU_SOURCE
#include "daemon/worker/space/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/link/log.h"

#ifndef MADV_POPULATE_READ /* Linux 5.14 */
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

#define PAGE_BYTES 4096ull

/* Handed out in steps, because each commit is a handful of system calls. The fold reads whole
 * blocks of slots. */
#define SLOTS_STEP SPACE_BLOCK
#define ROWS_STEP  512u
#define NAMES_STEP (64ull << 10)

static struct log_limit populate_limit;

static int populate(const void *at, uint64_t bytes, int advice)
{
	uintptr_t from = (uintptr_t)at & ~(PAGE_BYTES - 1);
	uintptr_t to = ((uintptr_t)at + bytes + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);

	if (madvise((void *)from, to - from, advice) == 0)
		return 0;
	log_limited(&populate_limit, "no memory for new counters: %s. fix: more memory, or a lower "
		    "counters-max", strerror(errno));
	return -ENOMEM;
}

static int populate_write(const void *at, uint64_t bytes)
{
	return populate(at, bytes, MADV_POPULATE_WRITE);
}

/* A read fault gives a hole of a memfd its page: S gets memory without being writable here. */
static int populate_read(const void *at, uint64_t bytes)
{
	return populate(at, bytes, MADV_POPULATE_READ);
}

int pages_heads(struct space *space)
{
	if (populate_write(space->d, sizeof(struct dir_shm)) ||
	    populate_write(space->t,
			   SHM_T_CHANGES + SHM_CHANGES_NR * sizeof(struct change_shm)) ||
	    populate_read(space->s, sizeof(struct shards_shm)))
		return -ENOMEM;
	return 0;
}

int pages_slots(struct space *space, uint32_t upto)
{
	uint32_t from = space->pages.slots_nr, nr;

	if (upto <= from)
		return 0;
	if (upto > SHM_SLOTS_MAX)
		return -ENOMEM;
	upto = (upto + SLOTS_STEP - 1) / SLOTS_STEP * SLOTS_STEP;
	nr = upto - from;
	if (populate_write(space_slot(space, from), nr * sizeof(struct slot_shm)) ||
	    populate_write(space_totals(space, 0) + from, nr * 8ull) ||
	    populate_write(space_totals(space, 1) + from, nr * 8ull) ||
	    populate_write(space_states(space) + from, nr) ||
	    populate_read(space->s + shards_cold(from), nr * 8ull))
		return -ENOMEM;
	space->pages.slots_nr = upto;
	return 0;
}

int pages_names(struct space *space, uint64_t upto_bytes)
{
	uint64_t from = space->pages.names_bytes;

	if (upto_bytes <= from)
		return 0;
	upto_bytes = (upto_bytes + NAMES_STEP - 1) / NAMES_STEP * NAMES_STEP;
	/* The reader's bound check (dir_record) leaves this much free behind the last name. */
	if (upto_bytes > SHM_NAMES_BYTES - NAMES_STEP)
		return -ENOMEM;
	if (populate_write((char *)space->d + SHM_D_NAMES + from, upto_bytes - from))
		return -ENOMEM;
	space->pages.names_bytes = upto_bytes;
	return 0;
}

static int pages_lanes(struct space *space, uint32_t lane, uint32_t lanes_end, uint32_t row,
		       uint32_t rows_end)
{
	for (; lane < lanes_end; lane++)
		if (populate_read(space->s + shards_lane(lane) + row * 8ull,
				  (rows_end - row) * 8ull))
			return -ENOMEM;
	return 0;
}

int pages_rows(struct space *space, uint32_t upto)
{
	if (upto <= space->pages.rows_nr)
		return 0;
	upto = (upto + ROWS_STEP - 1) / ROWS_STEP * ROWS_STEP;
	if (pages_lanes(space, 0, space->pages.lanes_nr, space->pages.rows_nr, upto))
		return -ENOMEM;
	space->pages.rows_nr = upto;
	return 0;
}

int pages_index(struct space *space, uint64_t word)
{
	return populate_write(dir_index(space->d, word), 4ull << index_order(word));
}

void pages_index_punch(struct space *space, uint64_t word)
{
	madvise((void *)(uintptr_t)dir_index(space->d, word), 4ull << index_order(word),
		MADV_REMOVE);
}

/* --- lanes ------------------------------------------------------------------------------------ */

uint32_t pages_cpus_possible(void)
{
	char text[4096], *last;
	int fd = open("/sys/devices/system/cpu/possible", O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	long nr;

	if (fd >= 0)
		close(fd);
	if (got <= 0) {
		nr = sysconf(_SC_NPROCESSORS_CONF);
	} else {
		/* "0-3,8-11": the last number is the highest CPU. */
		text[got] = '\0';
		last = strpbrk(text, "\n");
		if (last)
			*last = '\0';
		last = text + strlen(text);
		while (last > text && last[-1] >= '0' && last[-1] <= '9')
			last--;
		nr = atol(last) + 1;
	}
	if (nr < 1)
		return 1;
	return nr > (long)SHM_CPUS_MAX ? SHM_CPUS_MAX : (uint32_t)nr;
}

void pages_lanes_open(struct space *space)
{
	space->pages.lanes_nr = pages_cpus_possible();
}

void pages_lanes_recover(struct space *space)
{
	uint32_t lanes_nr = shm_read32(&space->d->cpus_nr);

	if (lanes_nr > space->pages.lanes_nr && lanes_nr <= SHM_CPUS_MAX)
		space->pages.lanes_nr = lanes_nr;
	shm_set32(&space->d->cpus_nr, space->pages.lanes_nr);
}

/* The first byte of data behind the last lane, or 0. */
static uint64_t data_behind_lanes(const struct space *space)
{
	uint64_t end = shards_lane(space->pages.lanes_nr), page = end & ~(PAGE_BYTES - 1);
	off_t at;

	/* A lane ends inside a page: where the last lane has that page, only its cells can tell. */
	if (shards_lane(space->pages.lanes_nr - 1) + space->pages.rows_nr * 8ull > page) {
		for (uint64_t cell = end; cell < page + PAGE_BYTES; cell += 8)
			if (shm_count_read((const uint64_t *)(space->s + cell)))
				return end;
		page += PAGE_BYTES;
	}
	at = lseek(space->view.fds.ro[REGION_S], (off_t)page, SEEK_DATA);
	if (at < 0)
		return 0;
	return (uint64_t)at < end ? end : (uint64_t)at;
}

void pages_lanes_check(struct space *space)
{
	uint64_t at;
	uint32_t lanes_nr;

	if (space->pages.lanes_nr >= SHM_CPUS_MAX)
		return;
	at = data_behind_lanes(space);
	if (!at)
		return;
	lanes_nr = (uint32_t)((at - SHM_S_LANES) / SHM_LANE_STRIDE) + 1;
	if (lanes_nr > SHM_CPUS_MAX)
		lanes_nr = SHM_CPUS_MAX;
	if (lanes_nr <= space->pages.lanes_nr ||
	    pages_lanes(space, space->pages.lanes_nr, lanes_nr, 0, space->pages.rows_nr))
		return;
	log_line("namespace %s: adds on CPU %u, which the kernel does not list as possible: "
		 "summing %u lanes instead of %u", space->view.name, lanes_nr - 1, lanes_nr,
		 space->pages.lanes_nr);
	space->pages.lanes_nr = lanes_nr;
	shm_set32(&space->d->cpus_nr, lanes_nr);
}

/* See changes.h. */
#include "daemon/worker/space/changes.h"

#include <string.h>

#include "daemon/worker/space/space.h"
#include "shm/base/clock.h"
#include "shm/names.h"

static struct change_shm *changes_ring(const struct totals_shm *t)
{
	return (struct change_shm *)((uintptr_t)t + SHM_T_CHANGES);
}

void changes_put(struct space *space, const struct change_shm *change)
{
	uint64_t nr = shm_count_read(&space->t->changes_nr);
	struct change_shm *to = &changes_ring(space->t)[nr % SHM_CHANGES_NR];
	struct change_shm c = *change;
	char name[NAME_DISPLAY_MAX];
	int len = c.slot ? name_display_last(space->d, c.slot, name, sizeof(name), &c.generation) : 0;

	c.real_ns = real_ns();
	if (len < 0)
		len = 0;
	c.name_len = (uint16_t)((size_t)len < sizeof(c.name) ? (size_t)len : sizeof(c.name));
	memcpy(c.name, name, c.name_len);
	/* ORDER(changes): the entry is stored after the number under which its place was last used. */
	shm_seq_write_begin();
	*to = c;
	shm_publish(&space->t->changes_nr, nr + 1);
}

uint32_t changes_copy(const struct totals_shm *t, uint64_t from, struct change_shm *ret, uint32_t max,
		      uint64_t *ret_first)
{
	uint64_t nr, again, oldest;
	uint32_t copied;

	do {
		/* ORDER(changes): what was copied is whole if the ring has not gone round
		 * meanwhile. */
		nr = shm_take(&t->changes_nr);
		oldest = nr > SHM_CHANGES_NR / 2 ? nr - SHM_CHANGES_NR / 2 : 0;
		/* A client sent `from`: it may be any number. */
		from = from > nr ? nr : from > oldest ? from : oldest;
		for (copied = 0; copied < max && from + copied < nr; copied++)
			ret[copied] = changes_ring(t)[(from + copied) % SHM_CHANGES_NR];
		again = shm_seq_read_retry(&t->changes_nr, nr) ?
				shm_take(&t->changes_nr) : nr;
	} while (again > from + SHM_CHANGES_NR / 2 + SHM_CHANGES_NR / 4);
	*ret_first = from;
	return copied;
}

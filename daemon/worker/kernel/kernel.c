/* See kernel.h. */
#include "daemon/worker/kernel/kernel.h"

#include <unistd.h>

#define ENDS_MAX 4u /* folds for the last sums of a probe whose keys come and go */

int kernel_open(struct kernel *k, struct space *space, int link_fd)
{
	int err = kernel_parts_open(&k->parts, space);

	key_names_init(&k->names, link_fd);
	for (unsigned int id = 0; id < PROBE_NR && !err; id++)
		err = dense_init(&k->pack[id], id, &k->parts);
	return err;
}

void kernel_close(struct kernel *k)
{
	for (uint32_t place = 0; place < PROBES_MAX; place++)
		for (uint32_t i = 0; i < k->probes[place].sources_nr; i++)
			source_close(k->probes[place].sources[i]);
	for (unsigned int id = 0; id < PROBE_NR; id++)
		dense_fini(&k->pack[id]);
	key_names_fini(&k->names);
	kernel_parts_close(&k->parts);
}

/* --- beginning and ending --------------------------------------------------------------------- */

static void statistics_take(struct kernel_probe *p)
{
	struct source_statistics now = { 0 }, *s = &p->statistics;

	for (uint32_t i = 0; i < p->sources_nr; i++)
		source_statistics(p->sources[i], &now);
	shm_count_set(&s->keys_nr, now.keys_nr);
	shm_count_set(&s->kept, now.kept);
	shm_count_set(&s->overflow, now.overflow);
	shm_count_set(&s->refused, now.refused);
	shm_count_set(&s->folded, now.folded);
	shm_count_set(&s->freed_nr, now.freed_nr);
	shm_count_set(&s->is_conflict, now.is_conflict);
}

static int kernel_probe_begin(struct kernel *k, uint32_t place, struct probe_live *live,
			      uint64_t incarnation)
{
	struct kernel_probe *p = &k->probes[place];
	int err = 0;

	p->statistics = (struct source_statistics){ 0 };
	p->incarnation = incarnation;
	for (uint32_t i = 0; i < live->sources_nr && i < PROBE_SOURCES_MAX; i++) {
		struct dense *dense = live->sources[i].dense_nr && place < PROBE_NR ? &k->pack[place]
										     : NULL;
		int failed = source_open(&p->sources[p->sources_nr], &k->parts, &k->names, dense,
					 &live->sources[i], live->cpus_nr, incarnation);

		p->sources_nr += !failed;
		err = err ? err : failed;
	}
	if (!p->sources_nr)
		p->incarnation = 0; /* the next message of the keeper tries again */
	return err;
}

static void kernel_probe_end(struct kernel *k, uint32_t place)
{
	struct kernel_probe *p = &k->probes[place];

	/* Dense keys are read a last time; of hashed ones the last published sums stay. */
	if (place < PROBE_NR && k->pack[place].incarnation) {
		source_fold(p->sources[0], true);
		statistics_take(p);
	}
	for (uint32_t i = 0; i < p->sources_nr; i++)
		source_end(p->sources[i]);
	p->sources_nr = 0;
	p->ends_nr = 0;
	p->incarnation = 0;
}

static void fds_close(struct probe_live *live)
{
	for (uint32_t i = 0; i < live->sources_nr && i < PROBE_SOURCES_MAX; i++) {
		int *fds[] = { &live->sources[i].counts_fd, &live->sources[i].keys_fd,
			       &live->sources[i].ledger_fd };

		for (unsigned int n = 0; n < 3; n++) {
			if (*fds[n] >= 0)
				close(*fds[n]);
			*fds[n] = -1;
		}
	}
}

/* 0: it is not attached. */
static uint64_t incarnation_of(const struct probe_live *live)
{
	if (!live->origin || live->state != WIRE_PROBE_ATTACHED)
		return 0;
	return kernel_part_incarnation(live->since_real_ns);
}

bool kernel_ends(struct kernel *k, uint32_t place, const struct probe_live *live)
{
	struct kernel_probe *p = &k->probes[place];
	bool is_more = false;

	if (p->incarnation == incarnation_of(live) || p->ends_nr == ENDS_MAX)
		return false;
	for (uint32_t i = 0; i < p->sources_nr; i++)
		is_more |= source_ends(p->sources[i]);
	p->ends_nr += is_more;
	return is_more;
}

int kernel_probe(struct kernel *k, uint32_t place, struct probe_live *live)
{
	struct kernel_probe *p = &k->probes[place];
	uint64_t incarnation = incarnation_of(live);
	int err = 0;

	if (p->incarnation && p->incarnation != incarnation)
		kernel_probe_end(k, place);
	if (incarnation && !p->incarnation)
		err = kernel_probe_begin(k, place, live, incarnation);
	fds_close(live);
	return err;
}

void kernel_settle(struct kernel *k)
{
	for (unsigned int id = 0; id < PROBE_NR; id++)
		if (!k->pack[id].incarnation)
			dense_find(&k->pack[id]);
	kernel_parts_settle(&k->parts);
}

void kernel_cgroup(struct kernel *k, uint64_t id, const char *path)
{
	key_names_cgroup(&k->names, id, path);
}

void kernel_configure(struct kernel *k, const struct config *config)
{
	for (unsigned int id = 0; id < PROBE_NR; id++)
		if (config->probes >> id & 1)
			dense_make(&k->pack[id]);
}

/* --- all probes -------------------------------------------------------------------------------- */

void kernel_fold(struct kernel *k, bool is_last)
{
	for (uint32_t place = 0; place < PROBES_MAX; place++) {
		struct kernel_probe *p = &k->probes[place];

		if (!p->sources_nr)
			continue;
		for (uint32_t i = 0; i < p->sources_nr; i++)
			source_fold(p->sources[i], is_last);
		statistics_take(p);
	}
}

void kernel_folded(struct kernel *k)
{
	kernel_parts_folded(&k->parts);
}

void kernel_statistics(const struct kernel *k, uint32_t place, struct source_statistics *ret)
{
	const struct source_statistics *s = &k->probes[place].statistics;

	ret->keys_nr = shm_count_read(&s->keys_nr);
	ret->kept = shm_count_read(&s->kept);
	ret->overflow = shm_count_read(&s->overflow);
	ret->refused = shm_count_read(&s->refused);
	ret->folded = shm_count_read(&s->folded);
	ret->freed_nr = shm_count_read(&s->freed_nr);
	ret->is_conflict = shm_count_read(&s->is_conflict);
	/* Its counters are there without it, too. */
	if (place < PROBE_NR && probe_types[place].keys_nr)
		ret->keys_nr = shm_count_read(&k->pack[place].keys_nr);
}

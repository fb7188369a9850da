/* See inside.h. */
#define _GNU_SOURCE
#include "tests/lib/inside.h"

#include "tests/lib/test.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/worker/space/busy.h"
#include "daemon/worker/space/heat.h"
#include "daemon/worker/space/deferred.h"
#include "daemon/worker/space/rows.h"
#include "daemon/worker/space/quota.h"
#include "daemon/worker/space/register.h"
#include "daemon/worker/space/remove.h"
#include "daemon/worker/space/suspect.h"
#include "daemon/worker/space/totals.h"

#define SECOND_NS 1000000000ull

static void space_start(struct inside *in)
{
	assert_int_equal(registry_init(&in->registry, &in->config), 0);
	assert_int_equal(space_open(&in->space, &in->fds, 0, &in->registry, &in->config), 0);
	shm_set32(&in->space->d->promotion, 0); /* as after a good self-test */
}

void inside_start(struct inside *in, uint32_t rows_max)
{
	void *p;

	memset(in, 0, sizeof(*in));
	strcpy(in->fds.name, "default");
	for (enum region_part part = REGION_D; part < REGION_PARTS; part++)
		assert_int_equal(region_make(part, "unit", &in->fds.rw[part], &in->fds.ro[part]), 0);
	in->config.namespaces_nr = 1;
	in->config.namespaces[0] = (struct config_namespace){
		.name = "default", .counters_max = 1000000, .counters_max_per_uid = 1000000,
		.rows_max = rows_max,
	};
	assert_int_equal(region_map(in->fds.rw[REGION_S], REGION_S, true, &p), 0);
	in->shards = p;
	space_start(in);
}

void inside_stop(struct inside *in)
{
	registry_fini(&in->registry);
	space_close(in->space);
	munmap(in->shards, region_bytes(REGION_S));
	for (enum region_part part = REGION_D; part < REGION_PARTS; part++) {
		close(in->fds.rw[part]);
		close(in->fds.ro[part]);
	}
}

void inside_restart(struct inside *in)
{
	registry_fini(&in->registry);
	space_close(in->space);
	space_start(in);
}

static uint32_t claim(struct inside *in, const struct claim *c)
{
	struct why why;
	struct wire_result r;
	struct quota quota;

	registry_read_begin();
	quota_init(&quota, in->space, &in->config);
	register_claim(in->space, &quota, c, &r, &why);
	registry_read_end();
	if (r.err)
		fail_msg("%s", why.reason);
	return r.slot;
}

uint32_t inside_make(struct inside *in, enum shm_slot_type type, const char *name)
{
	static const char help[] = "Of a test.";
	struct claim c = {
		.type = (uint8_t)type, .uid = 1000, .name = name, .name_len = (uint32_t)strlen(name),
		.help = help, .help_len = sizeof(help) - 1,
	};

	if (type == SHM_FAMILY || type == SHM_LEVEL_FAMILY) {
		c.label = "key";
		c.label_len = 3;
	}
	return claim(in, &c);
}

uint32_t inside_member(struct inside *in, uint32_t family, const char *key)
{
	const struct slot_shm *s = space_slot(in->space, family);
	const struct claim c = {
		.type = name_type(s->name) == SHM_FAMILY ? SHM_MEMBER : SHM_LEVEL_MEMBER,
		.uid = 1000, .name = key, .name_len = (uint32_t)strlen(key), .family = family,
		.family_generation = slot_generation(s->route),
	};

	return claim(in, &c);
}

void inside_add_cold(struct inside *in, uint32_t slot, uint64_t n)
{
	shm_count_add((uint64_t *)(in->shards + shards_cold(slot)), n);
}

void inside_add_row(struct inside *in, uint32_t slot, uint32_t cpu, uint64_t n)
{
	uint32_t row = slot_row(space_slot(in->space, slot)->route);

	assert_int_not_equal(row, SHM_ROW_NONE);
	shm_count_add((uint64_t *)(in->shards + shards_lane(cpu) + row), n);
}

void inside_fold(struct inside *in, uint64_t interval_ns)
{
	const struct fold_times times = { .mono_ns = 1, .real_ns = 1, .interval_ns = interval_ns };
	struct space *space = in->space;

	registry_read_begin();
	totals_fold(space, &times);
	remove_late_all(space);
	heat_fold(space, &in->config, interval_ns);
	registry_read_end();
}

void inside_second(struct inside *in)
{
	registry_read_begin();
	busy_tick(in->space, SECOND_NS, SECOND_NS);
	heat_second(in->space, &in->config, SECOND_NS);
	suspect_rows(in->space);
	registry_read_end();
}

uint32_t inside_grace(struct inside *in)
{
	uint32_t nr;

	registry_read_begin();
	nr = deferred_begin(in->space);
	while (!deferred_end(in->space))
		;
	registry_read_end();
	return nr;
}

int64_t inside_total(const struct inside *in, uint32_t slot)
{
	return (int64_t)space_totals(in->space, in->space->t->epoch & 1)[slot];
}

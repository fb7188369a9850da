/* See members.h. */
#define _GNU_SOURCE
#include "tests/lib/members.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/worker/space/deferred.h"
#include "daemon/worker/space/quota.h"
#include "daemon/worker/space/register.h"
#include "daemon/worker/space/remove.h"
#include "daemon/worker/space/totals.h"
#include "tests/lib/clock.h"
#include "tests/lib/test.h"

#define SECOND_NS 1000000000ull

static struct region_fds fds = { .name = "default" };
struct config config;
struct registry registry;
struct space *space;
char *shards;
uint32_t family, removed;

uint32_t make(uint8_t type, const char *name, uint32_t len, uint32_t of)
{
	static const char help[] = "Made by a test.";
	struct claim c = { .type = type, .uid = 1000, .name = name, .name_len = len };
	struct why why;
	struct wire_result r;
	struct quota quota;

	if (type == SHM_MEMBER) {
		c.family = of;
		c.family_generation = slot_generation(space_slot(space, of)->route);
	} else {
		c.help = help;
		c.help_len = sizeof(help) - 1;
		c.label = "key";
		c.label_len = type == SHM_FAMILY ? 3 : 0;
	}
	registry_read_begin();
	quota_init(&quota, space, &config);
	register_claim(space, &quota, &c, &r, &why);
	registry_read_end();
	if (r.err)
		fail_msg("%s", why.reason);
	return r.slot;
}

uint32_t member(const char *key)
{
	return make(SHM_MEMBER, key, (uint32_t)strlen(key), family);
}

uint32_t find(const char *key, uint32_t *ret_generation)
{
	return dir_find(space->d, family, key, strlen(key), ret_generation);
}

uint32_t generation(uint32_t slot)
{
	return slot_generation(space_slot(space, slot)->route);
}

uint64_t *cell(uint32_t slot)
{
	return (uint64_t *)(void *)(shards + shards_cold(slot));
}

int64_t total(uint32_t slot)
{
	return (int64_t)space_totals(space, space->t->epoch & 1)[slot];
}

void fold(void)
{
	struct timespec t;
	struct fold_times times = { .interval_ns = SECOND_NS / 100 };

	clock_gettime(CLOCK_MONOTONIC, &t);
	times.mono_ns = (uint64_t)t.tv_sec * SECOND_NS + (uint64_t)t.tv_nsec;
	registry_read_begin();
	totals_fold(space, &times);
	remove_late_all(space);
	registry_read_end();
}

void grace(void)
{
	registry_read_begin();
	deferred_begin(space);
	deferred_end(space);
	registry_read_end();
}

void forget(uint32_t slot)
{
	registry_read_begin();
	assert_int_equal(remove_begin(space, slot, SHM_WHY_FORGET, 7), 0);
	registry_read_end();
}

void quarantine_pass(void)
{
	grace();
	fold();
	fold();
	urcu_memb_barrier();
	clock_ahead_s += SHM_QUARANTINE_NS / SECOND_NS;
}

static void space_start(void)
{
	assert_int_equal(registry_init(&registry, &config), 0);
	assert_int_equal(space_open(&space, &fds, 0, &registry, &config), 0);
	shm_set32(&space->d->promotion, 0); /* the self-test has passed */
}

void members_restart(void)
{
	registry_fini(&registry);
	space_close(space);
	space_start();
}

int members_set_up(void **state)
{
	void *p;

	(void)state;
	for (enum region_part part = REGION_D; part < REGION_PARTS; part++)
		assert_int_equal(region_make(part, "unit", &fds.rw[part], &fds.ro[part]), 0);
	memset(&config, 0, sizeof(config));
	config.namespaces_nr = 1;
	config.namespaces[0] = (struct config_namespace){
		.name = "default", .counters_max = 1000000, .counters_max_per_uid = 1000000,
		.rows_max = 100,
	};
	assert_int_equal(region_map(fds.rw[REGION_S], REGION_S, true, &p), 0);
	shards = p;
	space_start();
	family = make(SHM_FAMILY, "likes_total", 11, 0);
	removed = dir_name(space->d, space_slot(space, family)->name)->removed;
	return 0;
}

int members_tear_down(void **state)
{
	(void)state;
	registry_fini(&registry);
	space_close(space);
	munmap(shards, region_bytes(REGION_S));
	for (enum region_part part = REGION_D; part < REGION_PARTS; part++) {
		close(fds.rw[part]);
		close(fds.ro[part]);
	}
	return 0;
}

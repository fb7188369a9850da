/* See idle.h. */
#include "daemon/worker/space/idle.h"

#include <string.h>

#include "daemon/worker/space/busy.h"
#include "daemon/worker/space/remove.h"
#include "shm/base/clock.h"
#include "shm/names.h"

#define SCAN_NS 4000000u /* of each second */
#define SCAN_FAMILIES 256u

/* One scan of the members: the rules, and for the members of which families they can hold. */
struct idle_scan {
	const struct config *config;
	uint32_t now_s;
	uint64_t ttl_min_s; /* of all rules */
	struct {
		uint32_t family;
		bool is_ruled;
	} families[SCAN_FAMILIES];
};

static bool rule_has_ttl(const struct config_rule *rule)
{
	return rule->ttl_s && rule->ttl_s != CONFIG_TTL_UNSET;
}

static uint64_t ttl_min_s(const struct config *config)
{
	uint64_t least = UINT64_MAX;

	for (uint32_t i = 0; i < config->rules_nr; i++)
		if (rule_has_ttl(&config->rules[i]) && config->rules[i].ttl_s < least)
			least = config->rules[i].ttl_s;
	return least;
}

/* Can a rule with a ttl hold for members of this family? */
static bool family_is_ruled(const struct space *space, const struct config *config, uint32_t family)
{
	uint64_t word = shm_count_read(&space_slot(space, family)->name);
	char name[SHM_NAME_MAX + 1], glob[CONFIG_GLOB_MAX];

	memcpy(name, dir_name(space->d, word)->text, name_length(word));
	name[name_length(word)] = '\0';
	for (uint32_t i = 0; i < config->rules_nr; i++) {
		const struct config_rule *rule = &config->rules[i];

		if (!rule_has_ttl(rule))
			continue;
		memcpy(glob, rule->glob, sizeof(glob));
		glob[strcspn(glob, "{")] = '\0';
		if (name_match(glob, name))
			return true;
	}
	return false;
}

static bool family_can_idle(const struct space *space, struct idle_scan *scan, uint32_t family)
{
	unsigned int at = family % SCAN_FAMILIES;

	if (scan->families[at].family != family) {
		scan->families[at].family = family;
		scan->families[at].is_ruled = family_is_ruled(space, scan->config, family);
	}
	return scan->families[at].is_ruled;
}

static bool slot_can_idle(const struct space *space, uint32_t slot)
{
	const struct slot_shm *s = space_slot(space, slot);

	return type_is_member(name_type(shm_count_read(&s->name))) &&
	       (slot_generation(shm_count_read(&s->route)) & 1) &&
	       (space_states(space)[slot] & SHM_T_STATE) != SHM_T_SUSPECT &&
	       !remove_is_counted(space, slot);
}

static void idle_check(struct space *space, struct idle_scan *scan, uint32_t slot)
{
	char name[NAME_DISPLAY_MAX];
	uint32_t idle_s, ttl_s, family;

	if (!slot_can_idle(space, slot))
		return;
	idle_s = busy_idle_s(space, slot, scan->now_s);
	family = dir_member(space->d, shm_count_read(&space_slot(space, slot)->name))->family;
	if (idle_s < scan->ttl_min_s || !family_can_idle(space, scan, family) ||
	    name_display(space->d, slot, name, sizeof(name)) < 0)
		return;
	ttl_s = config_ttl_s(scan->config, name);
	if (ttl_s && idle_s >= ttl_s)
		remove_begin(space, slot, SHM_WHY_TTL, 0);
}

void idle_second(struct space *space, const struct config *config)
{
	struct idle_scan scan = { .config = config, .ttl_min_s = ttl_min_s(config) };
	uint32_t slots_nr = space_slots_nr(space);
	uint64_t begin_ns = mono_ns();

	if (scan.ttl_min_s == UINT64_MAX)
		return;
	scan.now_s = (uint32_t)(begin_ns / NS_PER_S);
	for (uint32_t i = 0; i < slots_nr; i++) {
		if (++space->idle_slot >= slots_nr)
			space->idle_slot = SHM_SLOT_FIRST;
		if (space->idle_slot < slots_nr)
			idle_check(space, &scan, space->idle_slot);
		if (i % 64 == 63 && mono_ns() - begin_ns > SCAN_NS)
			break; /* the next second resumes here */
	}
}

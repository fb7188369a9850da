/* See quota.h. */
#include "daemon/worker/space/quota.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/base/array.h"

#define SLOTS_PER_COUNTER 4u /* slots that a namespace may take for a counter of its quota */
#define SLOTS_EXTRA 1024u

/* --- counting what there is ------------------------------------------------------------------- */

static struct uid_count *uid_count(struct space_quota *counts, uid_t uid)
{
	for (uint32_t i = 0; i < counts->uids_nr; i++)
		if (counts->uids[i].uid == uid)
			return &counts->uids[i];
	if (array_reserve(&counts->uids, counts->uids_nr + 1, &counts->uids_max))
		return NULL;
	counts->uids[counts->uids_nr] = (struct uid_count){ uid, 0 };
	return &counts->uids[counts->uids_nr++];
}

/* A live slot counts from now on, or no longer: n is 1 or -1. */
static void quota_count(struct space *space, uint32_t slot, uint32_t n)
{
	uint64_t name = shm_count_read(&space_slot(space, slot)->name);
	struct space_quota *counts = &space->quota;
	uint8_t type = name_type(name);
	struct uid_count *count;
	uid_t uid;

	if (type == SHM_OTHER || type == SHM_REMOVED)
		return;
	if (type_is_member(type)) {
		const struct member_shm *m = dir_member(space->d, name);

		uid = m->uid;
		counts->members_nr += n;
		counts->members_of[m->family] += n;
	} else {
		uid = dir_name(space->d, name)->uid;
		if (type_is_family(type))
			counts->families_nr += n;
		else
			counts->counters_nr += n;
	}
	if (space_origin(space, slot) != SHM_ORIGIN_USER)
		return;
	counts->counted_nr += n;
	count = uid_count(counts, uid);
	if (count)
		count->nr += n;
}

void quota_account(struct space *space, uint32_t slot)
{
	quota_count(space, slot, 1);
}

void quota_discount(struct space *space, uint32_t slot)
{
	quota_count(space, slot, UINT32_MAX);
}

void quota_close(struct space *space)
{
	free(space->quota.uids);
}

/* --- quotas ----------------------------------------------------------------------------------- */

void quota_init(struct quota *q, const struct space *space, const struct config *config)
{
	q->config = config;
	q->ns = config_namespace_find(config, space->view.name);
	q->family = SHM_SLOT_NONE;
	q->labels_max = 0;
}

static uint32_t quota_labels_max(struct quota *q, const struct space *space, uint32_t family)
{
	uint64_t word = shm_count_read(&space_slot(space, family)->name);
	char name[SHM_NAME_MAX + 1];

	if (q->family == family)
		return q->labels_max;
	memcpy(name, space_name(space, family)->text, name_length(word));
	name[name_length(word)] = '\0';
	q->family = family;
	q->labels_max = config_labels_max(q->config, name);
	return q->labels_max;
}

int quota_check(struct space *space, struct quota *q, const struct claim *c, char *why)
{
	const struct uid_count *count = uid_count(&space->quota, c->uid);

	if (!q->ns) {
		snprintf(why, REGISTER_WHY_MAX, "namespace %s is no longer in the configuration: "
			 "it takes no new counters", space->view.name);
		return -EDQUOT;
	}
	if (type_is_member(c->type) &&
	    space->quota.members_of[c->family] >= quota_labels_max(q, space, c->family)) {
		const struct name_shm *n = space_name(space, c->family);

		snprintf(why, REGISTER_WHY_MAX, "family %.*s has its labels-max of %u keys: new "
			 "ones count in %.*s{talea=\"other\"}. fix: [counter %.*s] labels-max = "
			 "%llu", n->base_len, n->text, q->labels_max, n->base_len, n->text,
			 n->base_len, n->text, 2ull * q->labels_max);
		return -EDQUOT;
	}
	/* The slots of removed members are used again, but not at once, and not for keys of each
	 * length. */
	if (space_slots_nr(space) / SLOTS_PER_COUNTER >= q->ns->counters_max + SLOTS_EXTRA) {
		snprintf(why, REGISTER_WHY_MAX, "namespace %s has used up %u slots for counters-max = "
			 "%u: members come and go faster than their slots can be used again; new ones "
			 "count in overflow. see: talea status", space->view.name,
			 space_slots_nr(space), q->ns->counters_max);
		return -EDQUOT;
	}
	if (space->quota.counted_nr >= q->ns->counters_max) {
		snprintf(why, REGISTER_WHY_MAX, "namespace %s has its counters-max of %u: new ones "
			 "count in overflow. fix: [namespace %s] counters-max = %llu", space->view.name,
			 q->ns->counters_max, space->view.name, 2ull * q->ns->counters_max);
		return -EDQUOT;
	}
	if (!count)
		return -ENOMEM;
	if (count->nr >= q->ns->counters_max_per_uid) {
		snprintf(why, REGISTER_WHY_MAX, "uid %u has its counters-max-per-uid of %u in "
			 "namespace %s: new ones count in overflow. fix: [namespace %s] "
			 "counters-max-per-uid = %llu", (unsigned int)c->uid,
			 q->ns->counters_max_per_uid, space->view.name, space->view.name,
			 2ull * q->ns->counters_max_per_uid);
		return -EDQUOT;
	}
	return 0;
}

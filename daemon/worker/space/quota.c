/* See quota.h. */
#include "daemon/worker/space/quota.h"

#include <errno.h>
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

static int family_quota_check(const struct space *space, struct quota *q, const struct claim *c,
			      struct why *why)
{
	const struct name_shm *n = space_name(space, c->family);
	uint32_t max = quota_labels_max(q, space, c->family);

	if (space->quota.members_of[c->family] < max)
		return 0;
	why_set(why, -EDQUOT, "family %.*s has its labels-max of %u keys: new ones count in "
		"%.*s{talea=\"other\"}", n->base_len, n->text, max, n->base_len, n->text);
	why_fix(why, "[counter %.*s] labels-max = %llu", n->base_len, n->text, 2ull * max);
	return -EDQUOT;
}

static int namespace_quota_check(const struct space *space, const struct config_namespace *ns,
				 struct why *why)
{
	const char *name = space->view.name;
	uint32_t slots_nr = space_slots_nr(space), max = ns->counters_max;

	/* The slots of removed members are used again, but not at once, and not for keys of each
	 * length. */
	if (slots_nr / SLOTS_PER_COUNTER >= max + SLOTS_EXTRA)
		return why_set(why, -EDQUOT, "namespace %s has used up %u slots for counters-max = "
			       "%u: members come and go faster than their slots can be used again; "
			       "new ones count in overflow. see: talea status", name, slots_nr,
			       max);
	if (space->quota.counted_nr < max)
		return 0;
	why_set(why, -EDQUOT, "namespace %s has its counters-max of %u: new ones count in "
		"overflow", name, max);
	why_fix(why, "[namespace %s] counters-max = %llu", name, 2ull * max);
	return -EDQUOT;
}

int quota_check(struct space *space, struct quota *q, const struct claim *c, struct why *why)
{
	const struct uid_count *count = uid_count(&space->quota, c->uid);
	const char *name = space->view.name;
	uint32_t max;
	int err = 0;

	if (!q->ns)
		return why_set(why, -EDQUOT, "namespace %s is no longer in the configuration: it "
			       "takes no new counters", name);
	if (type_is_member(c->type))
		err = family_quota_check(space, q, c, why);
	if (!err)
		err = namespace_quota_check(space, q->ns, why);
	if (err)
		return err;
	if (!count)
		return why_set(why, -ENOMEM, "the daemon has no memory for it");
	max = q->ns->counters_max_per_uid;
	if (count->nr < max)
		return 0;
	why_set(why, -EDQUOT, "uid %u has its counters-max-per-uid of %u in namespace %s: new ones "
		"count in overflow", (unsigned int)c->uid, max, name);
	why_fix(why, "[namespace %s] counters-max-per-uid = %llu", name, 2ull * max);
	return -EDQUOT;
}

/*
 * What a client asks to register, and whether there is one: compares a claim with the names in D.
 * Owns nothing and changes nothing. Any thread, inside registry_read_begin: control asks before it
 * asks the fold thread to make what is missing (register.h).
 */
#ifndef SPACE_CLAIM_H
#define SPACE_CLAIM_H

#include <sys/types.h>

#include "daemon/worker/space/view.h"
#include "shm/base/why.h"
#include "shm/wire.h"

/* Texts are not NUL-terminated. */
struct claim {
	uint8_t type; /* enum shm_slot_type */
	uint8_t key_kind;
	uint8_t origin; /* enum shm_origin */
	uid_t uid;
	const char *name, *help, *label; /* members: name is the key */
	uint32_t name_len, help_len, label_len;
	uint32_t family, family_generation;
};

/*
 * Looks up a name of this owner (0, or a member's family): the slot or SHM_SLOT_NONE, and the
 * generation that the slot had when its name was compared, because a member may be removed
 * meanwhile. The fold thread uses the index in D, which it alone changes; other threads of the
 * worker use the registry, in which a record stays whole until they have left registry_read_begin.
 */
typedef uint32_t claim_lookup_fn(const struct space_view *v, const struct claim *c, uint32_t owner,
				 uint32_t *ret_generation);
claim_lookup_fn claim_by_registry, claim_by_index;

/*
 * 1 when it exists as claimed, 0 when there is none, -EEXIST when another claim has the name,
 * -EOPNOTSUPP for a type of later versions, -EINVAL or -ESTALE for a family that is none. *ret is
 * set but for 0: on an error to the counter in which its adds count. why may be NULL.
 */
int claim_find(const struct space_view *v, const struct claim *c, claim_lookup_fn *lookup,
	       struct wire_result *ret, struct why *why);

/* The counter in which adds count when a claim of this type is refused. */
uint32_t claim_overflow(uint8_t type);

void claim_result(const struct space_view *v, uint32_t slot, int err, struct wire_result *ret);

/* Is the counter, level or family in this slot all that the claim says? */
bool claim_is_met(const struct space_view *v, const struct claim *c, uint32_t slot);

/* Has the counter in this slot the claim's help text? */
bool claim_has_help(const struct space_view *v, const struct claim *c, uint32_t slot);

/* Says both sides of a conflict between a claim and the slot that has its name or its base.
 * -EEXIST. */
int claim_conflict(const struct space_view *v, const struct claim *c, uint32_t slot,
		   struct why *why);

#endif

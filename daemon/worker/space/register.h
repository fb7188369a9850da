/*
 * Registering: whose a name is, and making a new slot. register_find is for any thread inside
 * registry_read_begin (control asks it first); everything else is the fold thread's. Owns nothing
 * but the order in which a slot becomes visible; memory is pages.c's, finding is index.c's, how
 * many there may be quota.c's.
 */
#ifndef SPACE_REGISTER_H
#define SPACE_REGISTER_H

#include "daemon/worker/space/space.h"
#include "shm/wire.h"

#define REGISTER_WHY_MAX WIRE_TEXT_MAX

/* What somebody asks for. Texts are not NUL-terminated. */
struct claim {
	uint8_t type; /* enum shm_slot_type */
	uint8_t key_kind;
	uint8_t origin; /* enum shm_origin */
	uid_t uid;
	const char *name, *help, *label; /* members: name is the key */
	uint32_t name_len, help_len, label_len;
	uint32_t family, family_generation;
};

struct quota;

/*
 * Looks a claim up: 1 when it exists as claimed, 0 when there is none, -EEXIST when the name is
 * somebody else's, -EOPNOTSUPP for a type of later versions, or -EINVAL or -ESTALE for a family
 * that is none. *ret is set but for 0: on an
 * error to where its adds count, and why holds a sentence.
 */
int register_find(const struct space *space, const struct claim *c, struct wire_result *ret,
		  char *why);

/* Finds or makes; *ret is always set, ret->err is the result and why the sentence for it. */
void register_claim(struct space *space, struct quota *q, const struct claim *c,
		    struct wire_result *ret, char *why);

/*
 * The same for the daemon's own and the kernel's counters, families and members: no quota, no rules
 * of names. -EEXIST: a program has registered the name, or it is of another type, help or label.
 */
int register_own(struct space *space, const struct claim *c, uint32_t *ret_slot);

#endif

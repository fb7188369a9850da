/*
 * Registering: who may have a new slot, and making it. register_find is for any thread inside
 * registry_read_begin (control asks it first); everything else is the fold thread's. Owns nothing
 * but the order in which a slot becomes visible; memory is pages.c's, finding is index.c's.
 */
#ifndef SPACE_REGISTER_H
#define SPACE_REGISTER_H

#include "daemon/space/space.h"
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

/* The quotas that hold for one client's claims, looked up once for a message. */
struct quota {
	const struct config *config;
	const struct config_namespace *ns;
	uint32_t family;     /* labels_max is this one's; 0: none looked up yet */
	uint32_t labels_max;
};

void quota_init(struct quota *q, const struct space *space, const struct config *config);

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

/* The same for the daemon's own and the kernel's counters: no quota, no rules of names. */
int register_own(struct space *space, const struct claim *c, uint32_t *ret_slot);

/* Counts a live slot, at registration and after a restart; no longer counts a member that goes. */
void register_account(struct space *space, uint32_t slot);
void register_discount(struct space *space, uint32_t slot);

#endif

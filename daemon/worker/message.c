/* See message.h. */
#include "daemon/worker/message.h"

#include <string.h>

#include "daemon/space/register.h"

static const struct wire_register *message_of(const struct request *r)
{
	return (const struct wire_register *)r->message;
}

static void claim_of(const struct wire_entry *e, uid_t uid, struct claim *ret)
{
	*ret = (struct claim){
		.type = e->type, .key_kind = e->key_kind, .origin = SHM_ORIGIN_USER, .uid = uid,
		.name = e->bytes, .name_len = e->name_bytes,
		.help = e->bytes + e->name_bytes, .help_len = e->help_bytes,
		.label = e->bytes + e->name_bytes + e->help_bytes, .label_len = e->label_bytes,
		.family = e->family, .family_generation = e->family_generation,
	};
	/* What a message says and its type does not have is not part of the name. */
	if (ret->type != SHM_FAMILY && ret->type != SHM_LEVEL_FAMILY) {
		ret->key_kind = 0;
		ret->label_len = 0;
	}
}

uint32_t message_look(struct request *r)
{
	const struct wire_register *m = message_of(r);
	const struct wire_entry *e;
	uint32_t i = 0, missing = 0;
	char why[REGISTER_WHY_MAX];
	struct claim c;
	size_t at = 0;
	int err;

	*r->reply = (struct wire_registered){ .head = m->head, .nr = m->nr };
	r->reply->head.kind = WIRE_REGISTERED;
	r->reply->head.length = (uint32_t)(sizeof(*r->reply) + m->nr * sizeof(r->reply->results[0]));
	for (; i < m->nr && (e = wire_entry_next(m, &at, &err)); i++) {
		struct wire_result *result = &r->reply->results[i];

		claim_of(e, r->uid, &c);
		if (register_find(r->space, &c, result, why) == 1)
			continue;
		/* Refusals are counted in D, which is the fold thread's. */
		*result = (struct wire_result){ .slot = SHM_SLOT_NONE };
		missing++;
	}
	return missing;
}

/* Appends an explanation; the same as the last one is sent once, and so is the last that fits. */
static uint32_t text_put(struct wire_registered *reply, const char *why, uint32_t last_at)
{
	char *texts = (char *)&reply->results[reply->nr];
	uint32_t len = (uint32_t)strlen(why) + 1, at = reply->text_bytes;

	if (at && strcmp(texts + last_at, why) == 0)
		return last_at;
	if (reply->head.length + len > WIRE_MAX)
		return last_at;
	memcpy(texts + at, why, len);
	reply->text_bytes += len;
	reply->head.length += len;
	return at;
}

void message_register(struct request *r, const struct config *config)
{
	const struct wire_register *m = message_of(r);
	uint32_t last_at = 0;
	const struct wire_entry *e;
	char why[REGISTER_WHY_MAX];
	struct quota quota;
	struct claim c;
	size_t at = 0;
	int err;

	quota_init(&quota, r->space, config);
	for (uint32_t i = 0; i < m->nr && (e = wire_entry_next(m, &at, &err)); i++) {
		struct wire_result *result = &r->reply->results[i];

		if (result->slot != SHM_SLOT_NONE)
			continue;
		claim_of(e, r->uid, &c);
		register_claim(r->space, &quota, &c, result, why);
		if (result->err)
			result->text_at = last_at = text_put(r->reply, why, last_at);
	}
}

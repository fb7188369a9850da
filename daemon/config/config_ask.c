/*
 * Questions to a configuration that was read: what holds for one counter, user or namespace. Reads
 * no file. See config.h.
 */
#include "daemon/config/config.h"

#include <string.h>

#include "names.h"

/* A rule that does not set the key is skipped before its glob is tried: globs are what costs. */
uint32_t config_labels_max(const struct config *c, const char *name)
{
	for (uint32_t i = c->rules_nr; i-- > 0;)
		if (c->rules[i].labels_max && name_match(c->rules[i].glob, name))
			return c->rules[i].labels_max;
	return CONFIG_LABELS_MAX;
}

uint32_t config_hot(const struct config *c, const char *display_name)
{
	for (uint32_t i = c->rules_nr; i-- > 0;)
		if (c->rules[i].hot != SHM_HOT_UNSET &&
		    name_match(c->rules[i].glob, display_name))
			return c->rules[i].hot;
	return SHM_HOT_AUTO;
}

uint32_t config_ttl_s(const struct config *c, const char *display_name)
{
	for (uint32_t i = c->rules_nr; i-- > 0;)
		if (c->rules[i].ttl_s != CONFIG_TTL_UNSET &&
		    name_match(c->rules[i].glob, display_name))
			return (uint32_t)c->rules[i].ttl_s;
	return 0;
}

bool config_is_admin(const struct config *c, uid_t uid)
{
	for (uint32_t i = 0; i < c->admins_nr; i++)
		if (c->admins[i] == uid)
			return true;
	return uid == 0 || uid == c->keeper_uid;
}

const struct config_namespace *config_namespace_find(const struct config *c, const char *name)
{
	for (uint32_t i = 0; i < c->namespaces_nr; i++)
		if (!strcmp(c->namespaces[i].name, name))
			return &c->namespaces[i];
	return NULL;
}

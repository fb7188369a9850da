/* See regions.h. */
#include "daemon/keeper/regions.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/link/log.h"

static void region_close(struct region_fds *r)
{
	for (unsigned int part = 0; part < REGION_PARTS; part++) {
		if (r->rw[part] >= 0)
			close(r->rw[part]);
		if (r->ro[part] >= 0)
			close(r->ro[part]);
	}
}

static int regions_add(struct regions *all, const char *name)
{
	struct region_fds r = { .rw = { -1, -1, -1 }, .ro = { -1, -1, -1 } };

	if (all->nr == LINK_REGIONS_MAX) {
		log_line("talead cannot make namespace %s: it has %u already, with those that the "
			 "configuration no longer has. fix: restart talead", name, all->nr);
		return -ENOSPC;
	}
	for (unsigned int part = 0; part < REGION_PARTS; part++) {
		int err = region_make(part, name, &r.rw[part], &r.ro[part]);

		if (err) {
			log_line("talead cannot make the memory of namespace %s: %s", name,
				 strerror(-err));
			region_close(&r);
			return err;
		}
	}
	snprintf(r.name, sizeof(r.name), "%s", name);
	all->list[all->nr++] = r;
	return 0;
}

int regions_ensure(struct regions *r, const struct config *config)
{
	uint32_t before = r->nr;

	for (uint32_t i = 0; i < config->namespaces_nr; i++) {
		const char *name = config->namespaces[i].name;
		uint32_t at = 0;
		int err;

		while (at < r->nr && strcmp(r->list[at].name, name))
			at++;
		err = at < r->nr ? 0 : regions_add(r, name);
		if (!err)
			continue;
		while (r->nr > before)
			region_close(&r->list[--r->nr]);
		return err;
	}
	return 0;
}

void regions_list_fds(const struct regions *r, struct fd_list *list)
{
	for (uint32_t i = 0; i < r->nr; i++)
		for (unsigned int part = 0; part < REGION_PARTS; part++) {
			fd_list_add(list, r->list[i].rw[part]);
			fd_list_add(list, r->list[i].ro[part]);
		}
}

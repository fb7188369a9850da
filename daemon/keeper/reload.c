/* See reload.h. */
#include "daemon/keeper/reload.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/keeper/keeper.h"
#include "daemon/link/log.h"

/* --- in the keeper --------------------------------------------------------------------------- */

static void reload_log_fixed(const char *what, const char *now, const char *later)
{
	log_line("%s stays %s: it becomes %s when talead is restarted", what, now, later);
}

/* Keeps the values that cannot change while a talead runs, and logs each that differs. */
static void reload_keep_fixed(const struct keeper *k, struct config *fresh)
{
	const struct config *old = &k->config;
	char now[16], later[16];

	if (strcmp(old->socket, fresh->socket))
		reload_log_fixed("socket", old->socket, fresh->socket);
	if (strcmp(old->state, fresh->state))
		reload_log_fixed("state", old->state, fresh->state);
	if (old->user != fresh->user) {
		snprintf(now, sizeof(now), "uid %u", old->user);
		snprintf(later, sizeof(later), "uid %u", fresh->user);
		reload_log_fixed("user", now, later);
	}
	memcpy(fresh->socket, old->socket, sizeof(fresh->socket));
	memcpy(fresh->state, old->state, sizeof(fresh->state));
	fresh->user = old->user;
	fresh->group = old->group;
	if (old->pin_auto != fresh->pin_auto)
		reload_log_fixed("pin", old->pin_auto ? "auto" : "no", fresh->pin_auto ? "auto" : "no");
	fresh->pin_auto = old->pin_auto;
}

static int reload_send(struct keeper *k, uint32_t first_new)
{
	struct link_msg msg = { .kind = LINK_CONFIG, .nr = k->regions.nr - first_new };
	int fds[LINK_FDS_MAX], fd = link_pack(&k->config, sizeof(k->config));
	unsigned int nr = 0;

	if (fd < 0)
		return fd;
	fds[nr++] = fd;
	for (uint32_t i = 0; i < msg.nr; i++) {
		const struct region_fds *r = &k->regions.list[first_new + i];

		memcpy(msg.names[i], r->name, sizeof(msg.names[i]));
		memcpy(fds + nr, r->rw, sizeof(r->rw));
		memcpy(fds + nr + REGION_PARTS, r->ro, sizeof(r->ro));
		nr += 2 * REGION_PARTS;
	}
	child_send(&k->children.standby, &msg, fds, nr);
	child_send(&k->children.worker, &msg, fds, nr);
	close(fd);
	return 0;
}

void reload(struct keeper *k)
{
	static struct config fresh, old;
	uint32_t first_new = k->regions.nr;
	int err = config_load(&k->source, &fresh, NULL, log_text);

	if (!err) {
		reload_keep_fixed(k, &fresh);
		old = k->config;
		k->config = fresh;
		err = regions_ensure(&k->regions, &k->config);
		if (!err)
			err = reload_send(k, first_new);
		if (err)
			k->config = old;
	}
	if (err) {
		log_line("the configuration stays as it was before SIGHUP");
		return;
	}
	probes_reload(k);
	log_line("the configuration was read again");
}

/* --- in the standby -------------------------------------------------------------------------- */

int reload_apply(struct keeper *k, const struct link_msg *msg, const int *fds,
		 unsigned int fds_nr)
{
	struct regions *all = &k->regions;
	unsigned int at = 1;

	if (msg->nr > LINK_REGIONS_MAX - all->nr || fds_nr != 1 + 2 * REGION_PARTS * msg->nr ||
	    link_unpack(fds[0], &k->config, sizeof(k->config))) {
		link_close_fds(fds, fds_nr);
		return -EPROTO;
	}
	close(fds[0]);
	for (uint32_t i = 0; i < msg->nr; i++, at += 2 * REGION_PARTS) {
		struct region_fds *r = &all->list[all->nr++];

		memcpy(r->name, msg->names[i], sizeof(r->name));
		memcpy(r->rw, fds + at, sizeof(r->rw));
		memcpy(r->ro, fds + at + REGION_PARTS, sizeof(r->ro));
	}
	return 0;
}

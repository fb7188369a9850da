/*
 * The configuration at the start and at each SIGHUP, and the regions of its namespaces. A region is
 * never taken away while this talead lives: it has adders. Probes are wanted.c's.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/keeper/keeper.h"
#include "daemon/link/log.h"

static void say(const char *text)
{
	log_line("%s", text);
}

/* --- regions --------------------------------------------------------------------------------- */

static void region_close(struct region_fds *r)
{
	for (unsigned int part = 0; part < REGION_PARTS; part++) {
		if (r->rw[part] >= 0)
			close(r->rw[part]);
		if (r->ro[part] >= 0)
			close(r->ro[part]);
	}
}

static int region_add(struct keeper *k, const char *name)
{
	struct region_fds r = { .rw = { -1, -1, -1 }, .ro = { -1, -1, -1 } };

	if (k->regions_nr == LINK_REGIONS_MAX) {
		log_line("namespace %s: no room, with those that were configured before. fix: restart "
			 "talead", name);
		return -ENOSPC;
	}
	for (unsigned int part = 0; part < REGION_PARTS; part++) {
		int err = region_make(part, name, &r.rw[part], &r.ro[part]);

		if (err) {
			log_line("the memory of namespace %s cannot be made: %s", name,
				 strerror(-err));
			region_close(&r);
			return err;
		}
	}
	snprintf(r.name, sizeof(r.name), "%s", name);
	k->regions[k->regions_nr++] = r;
	return 0;
}

int regions_ensure(struct keeper *k)
{
	uint32_t before = k->regions_nr;

	for (uint32_t i = 0; i < k->config.namespaces_nr; i++) {
		const char *name = k->config.namespaces[i].name;
		uint32_t at = 0;
		int err;

		while (at < k->regions_nr && strcmp(k->regions[at].name, name))
			at++;
		err = at < k->regions_nr ? 0 : region_add(k, name);
		if (!err)
			continue;
		while (k->regions_nr > before)
			region_close(&k->regions[--k->regions_nr]);
		return err;
	}
	return 0;
}

/* --- at SIGHUP ------------------------------------------------------------------------------- */

static void fixed(const char *what, const char *now, const char *later)
{
	log_line("%s stays %s: %s holds after a restart", what, now, later);
}

/* What cannot change in a life stays, and is named. */
static void keep_fixed(const struct keeper *k, struct config *fresh)
{
	const struct config *old = &k->config;
	char now[16], later[16];

	if (strcmp(old->socket, fresh->socket))
		fixed("socket", old->socket, fresh->socket);
	if (strcmp(old->state, fresh->state))
		fixed("state", old->state, fresh->state);
	if (old->user != fresh->user) {
		snprintf(now, sizeof(now), "uid %u", old->user);
		snprintf(later, sizeof(later), "uid %u", fresh->user);
		fixed("user", now, later);
	}
	memcpy(fresh->socket, old->socket, sizeof(fresh->socket));
	memcpy(fresh->state, old->state, sizeof(fresh->state));
	fresh->user = old->user;
	fresh->group = old->group;
	if (old->pin_auto != fresh->pin_auto)
		fixed("pin", old->pin_auto ? "auto" : "no", fresh->pin_auto ? "auto" : "no");
	fresh->pin_auto = old->pin_auto;
}

static int config_tell(struct keeper *k, uint32_t first_new)
{
	struct link_msg msg = { .kind = LINK_CONFIG, .nr = k->regions_nr - first_new };
	int fds[LINK_FDS_MAX], fd = link_pack(&k->config, sizeof(k->config));
	unsigned int nr = 0;

	if (fd < 0)
		return fd;
	fds[nr++] = fd;
	for (uint32_t i = 0; i < msg.nr; i++) {
		const struct region_fds *r = &k->regions[first_new + i];

		memcpy(msg.names[i], r->name, sizeof(msg.names[i]));
		memcpy(fds + nr, r->rw, sizeof(r->rw));
		memcpy(fds + nr + REGION_PARTS, r->ro, sizeof(r->ro));
		nr += 2 * REGION_PARTS;
	}
	child_tell(&k->spare, &msg, fds, nr);
	child_tell(&k->worker, &msg, fds, nr);
	close(fd);
	return 0;
}

void reload(struct keeper *k)
{
	static struct config fresh, old;
	uint32_t first_new = k->regions_nr;
	int err = config_load(&k->source, &fresh, NULL, say);

	if (!err) {
		keep_fixed(k, &fresh);
		old = k->config;
		k->config = fresh;
		err = regions_ensure(k);
		if (!err)
			err = config_tell(k, first_new);
		if (err)
			k->config = old;
	}
	if (err) {
		log_line("the configuration stays as it was before SIGHUP");
		return;
	}
	wanted_ensure(k, false);
	log_line("the configuration was read again");
}

/* --- in the spare ---------------------------------------------------------------------------- */

static int unheard(const int *fds, unsigned int fds_nr)
{
	for (unsigned int i = 0; i < fds_nr; i++)
		close(fds[i]);
	return -EPROTO;
}

int reload_config_heard(struct keeper *k, const struct link_msg *msg, const int *fds,
			unsigned int fds_nr)
{
	unsigned int at = 1;

	if (msg->nr > LINK_REGIONS_MAX - k->regions_nr ||
	    fds_nr != 1 + 2 * REGION_PARTS * msg->nr ||
	    link_unpack(fds[0], &k->config, sizeof(k->config)))
		return unheard(fds, fds_nr);
	close(fds[0]);
	for (uint32_t i = 0; i < msg->nr; i++, at += 2 * REGION_PARTS) {
		struct region_fds *r = &k->regions[k->regions_nr++];

		memcpy(r->name, msg->names[i], sizeof(r->name));
		memcpy(r->rw, fds + at, sizeof(r->rw));
		memcpy(r->ro, fds + at + REGION_PARTS, sizeof(r->ro));
	}
	return 0;
}

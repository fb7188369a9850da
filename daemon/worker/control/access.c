/* See access.h. */
#define _GNU_SOURCE
#include "daemon/worker/control/access.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif

struct peer {
	struct access_peer who;
	gid_t *groups; /* the primary one first */
	uint32_t groups_nr;
};

static int peer_groups(int sock, gid_t primary, struct peer *ret)
{
	socklen_t bytes = 0;
	gid_t *groups;

	/* Called with no room, getsockopt returns how much is needed. */
	if (getsockopt(sock, SOL_SOCKET, SO_PEERGROUPS, NULL, &bytes) && errno != ERANGE)
		bytes = 0;
	groups = malloc(bytes + sizeof(*groups));
	if (!groups)
		return -ENOMEM;
	groups[0] = primary;
	if (bytes && getsockopt(sock, SOL_SOCKET, SO_PEERGROUPS, groups + 1, &bytes)) {
		int err = -errno;

		free(groups);
		return err;
	}
	ret->groups = groups;
	ret->groups_nr = 1 + bytes / sizeof(*groups);
	return 0;
}

static int peer_init(struct peer *ret, int sock)
{
	struct ucred cred;
	socklen_t bytes = sizeof(cred);

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &bytes))
		return -errno;
	ret->who = (struct access_peer){ cred.uid, cred.pid };
	return peer_groups(sock, cred.gid, ret);
}

static bool uid_listed(uid_t uid, const uid_t *list, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++)
		if (list[i] == uid)
			return true;
	return false;
}

static bool group_listed(const struct peer *p, const gid_t *list, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++)
		for (uint32_t k = 0; k < p->groups_nr; k++)
			if (list[i] == p->groups[k])
				return true;
	return false;
}

/* Root and the daemon's own uids could take the memory in any case: they may always attach. */
static bool may_write(const struct peer *p, const struct config *config,
		      const struct config_namespace *ns)
{
	uid_t uid = p->who.uid;

	return uid == 0 || uid == config->keeper_uid || uid == config->user ||
	       uid_listed(uid, ns->users, ns->users_nr) ||
	       group_listed(p, ns->groups, ns->groups_nr);
}

static bool may_read(const struct peer *p, const struct config *config,
		     const struct config_namespace *ns)
{
	return may_write(p, config, ns) || config_is_admin(config, p->who.uid) ||
	       uid_listed(p->who.uid, ns->read_users, ns->read_users_nr) ||
	       group_listed(p, ns->read_groups, ns->read_groups_nr);
}

int access_check(int sock, const struct config *config, const struct config_namespace *ns,
		 uint32_t access, struct access_peer *ret, struct why *why)
{
	bool is_write = access & WIRE_WRITE;
	struct peer peer = { .groups = NULL };
	int err = peer_init(&peer, sock);

	if (err)
		return why_set(why, err, "the credentials of this connection cannot be read: %s",
			       strerror(-err));
	if (is_write ? !may_write(&peer, config, ns) : !may_read(&peer, config, ns)) {
		err = why_set(why, -EACCES, "uid %u may not %s namespace %s%s",
			      (unsigned int)peer.who.uid, is_write ? "add to" : "read", ns->name,
			      ns->users_set || ns->groups_nr ? "" :
			      " (only root and talead's own user may)");
		why_fix(why, "in %s, section [namespace %s], name %u in `%s =`, then SIGHUP to talead",
			config->file, ns->name, (unsigned int)peer.who.uid,
			is_write ? "users" : "read-users");
	}
	*ret = peer.who;
	free(peer.groups);
	return err;
}

/*
 * Attachments: one for each socket and namespace in a process. An attachment is immortal, and every
 * talea_open of its namespace shares it. Owns the list of them, the region of each, and the order
 * of steps when a call finds the daemon there, gone, or back with another region.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

#define SYSTEM_SOCKET "/run/talea/sock"

static struct attach *attaches; /* table lock; read without it at exit */

static int socket_path(const char *wanted, char *ret, size_t size)
{
	const char *env = secure_getenv("TALEA_SOCKET"), *dir = secure_getenv("XDG_RUNTIME_DIR");
	int n;

	if (wanted && *wanted)
		n = snprintf(ret, size, "%s", wanted);
	else if (env && *env)
		n = snprintf(ret, size, "%s", env);
	else if (dir && *dir && (n = snprintf(ret, size, "%s/talea/sock", dir)) < (int)size &&
		 access(ret, F_OK) == 0)
		return 0;
	else
		n = snprintf(ret, size, "%s", SYSTEM_SOCKET);
	return n < (int)size ? 0 : -ENAMETOOLONG;
}

/* Finds the attachment, or makes it. NULL with errno. Table lock held. */
struct attach *attach_get(const struct talea_options *opt)
{
	const char *ns = opt->ns && *opt->ns ? opt->ns : secure_getenv("TALEA_NAMESPACE");
	bool read_only = opt->flags & TALEA_READ_ONLY;
	char path[sizeof(attaches->socket)] = "";
	struct attach *a;

	if (!ns || !*ns)
		ns = "default";
	if (strlen(ns) >= SHM_NAMESPACE_MAX || socket_path(opt->socket, path, sizeof(path))) {
		errno = EINVAL;
		return NULL;
	}
	for (a = attaches; a; a = a->next)
		if (a->read_only == read_only && strcmp(a->ns, ns) == 0 &&
		    strcmp(a->socket, path) == 0)
			return a;
	a = calloc(1, sizeof(*a));
	if (!a)
		return NULL;
	memcpy(a->socket, path, sizeof(path));
	snprintf(a->ns, sizeof(a->ns), "%s", ns);
	snprintf(a->app, sizeof(a->app), "%s", opt->app ? opt->app : program_invocation_short_name);
	a->read_only = read_only;
	a->fd = -1;
	a->next = attaches;
	attaches = a;
	return a;
}

static void region_change(struct attach *a, struct region *r)
{
	lock_table();
	/* ORDER(region): mapped and checked before anyone binds to it. */
	shm_publish_ptr(&a->region, r);
	a->unbound = 0;
	for (struct key *k = a->keys; k; k = k->next)
		a->unbound++;
	for (struct talea_family_ *f = a->families; f; f = f->next)
		a->unbound++;
	unlock_table();
}

int attach_poll(struct attach *a, uint64_t deadline_ns, char *text)
{
	struct region *region = NULL;
	int err;

	text[0] = '\0';
	if (lock_forked())
		for (struct attach *other = attaches; other; other = other->next) {
			conn_close(other);
			other->unbound++; /* _Fork may have come at any moment: count again */
		}
	if (!conn_alive(a, text)) {
		err = conn_open(a, deadline_ns, &region, text);
		if (err)
			return err;
		if (region)
			region_change(a, region);
	}
	err = bind_all(a, deadline_ns, text);
	lock_table();
	key_carry(a);
	unlock_table();
	return err;
}

/* Carries over at exit what is still private, if a daemon is there. */
static void __attribute__((destructor)) attach_exit(void)
{
	char text[TEXT_MAX];

	for (struct attach *a = attaches; a; a = a->next) {
		uint64_t deadline = mono_ns() + NS_PER_S;

		if (a->read_only || !key_private_sum(a) || lock_conn(deadline))
			continue;
		attach_poll(a, deadline, text);
		unlock_conn();
	}
}

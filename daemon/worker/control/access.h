/*
 * Who may attach: the credentials of a socket against a namespace's lists. Owns no state; control
 * calls it for each HELLO, before any fd is sent.
 */
#ifndef WORKER_ACCESS_H
#define WORKER_ACCESS_H

#include <stddef.h>
#include <sys/types.h>

#include "daemon/config/config.h"
#include "shm/wire.h"

/* Who is at the other end of a socket, as the kernel says: when it connected. */
struct access_peer {
	uid_t uid;
	pid_t pid;
};

/*
 * May the peer of `sock` have `access` (WIRE_READ, WIRE_WRITE) to ns? 0 with its uid, or -EACCES
 * with a sentence that says who may and which line lets it in, or what asking the kernel failed
 * with. Admins may read every namespace.
 */
int access_check(int sock, const struct config *config, const struct config_namespace *ns,
		 uint32_t access, struct access_peer *ret, char *why, size_t why_size);

#endif

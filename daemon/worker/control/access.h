/*
 * Which client may attach: compares the credentials of a socket with a namespace's lists. Owns no
 * state; message.c calls it for each HELLO, before it sends any fd.
 */
#ifndef WORKER_ACCESS_H
#define WORKER_ACCESS_H

#include <sys/types.h>

#include "daemon/config/config.h"
#include "shm/base/why.h"
#include "shm/wire.h"

/* The process at the other end of a socket when it connected, as the kernel says. */
struct access_peer {
	uid_t uid;
	pid_t pid;
};

/*
 * May the peer of `sock` have `access` (WIRE_READ, WIRE_WRITE) to ns? 0 with the peer; -EACCES with
 * who may and which line lets it in; or what asking the kernel failed with. Admins may read every
 * namespace.
 */
int access_check(int sock, const struct config *config, const struct config_namespace *ns,
		 uint32_t access, struct access_peer *ret, struct why *why);

#endif

/*
 * The control protocol spoken by hand, without libtalea: for asking a talead what it is, and for
 * clients that do what libtalea never would. Owns nothing; sockets belong to the caller.
 */
#ifndef TESTS_LIB_RAW_H
#define TESTS_LIB_RAW_H

#include <stdint.h>
#include <sys/types.h>

#include "shm/wire_admin.h"

/* Connects; the socket waits at most 5 s in each call. -errno when nobody listens. */
int raw_connect(const char *socket);

/* Says HELLO. 0 with three fds (closed when ret_fds is NULL), the error that the daemon gave, or
 * -errno. */
int raw_hello(int sock, const char *name_space, uint32_t access, struct wire_welcome *ret,
	      int *ret_fds);

/* Asks for the daemon's state on a connection that said HELLO. */
int raw_status(int sock, struct wire_status *ret);

/* Connects, says HELLO to `default`, asks and hangs up. */
int raw_status_once(const char *socket, struct wire_status *ret);

/* Has one counter (by its display name) changed, as an admin: what became of it, or the error. */
int raw_change(int sock, enum wire_change_op op, const char *name, struct wire_result *ret);

/* Explains one counter: 0, -ENOENT. */
int raw_explain(int sock, const char *name, struct wire_explain *ret);

/* Begins a message of a kind in a buffer. */
void raw_begin(void *buf, uint16_t kind, uint32_t number, size_t length);

/* Appends one counter to a REGISTER made by raw_begin. */
int raw_put_counter(struct wire_register *m, const char *name, const char *help);

/* Receives the next message that is no RESUME: its size, 0 at end of file, -errno. */
ssize_t raw_recv(int sock, void *buf, size_t size);

#endif

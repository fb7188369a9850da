/*
 * The listening socket: its file, the descriptor, and one descriptor in reserve. Its file is made
 * and removed here, and no file is removed that could be another talead's. clients.c accepts from
 * it.
 */
#ifndef KEEPER_LISTENER_H
#define KEEPER_LISTENER_H

#include <stdbool.h>
#include <sys/types.h>

#include "daemon/keeper/loop.h"

struct listener {
	struct loop *loop;
	struct loop_watch watch;
	struct loop_timer resume; /* when to listen again after accept failed */
	int fd;
	int reserve_fd; /* given up for a moment to refuse a client when the fd table is full */
	dev_t dev; /* of the socket's file: only that one is removed at the end */
	ino_t ino;
};

/* ready is called with owner when a client waits. */
void listener_init(struct listener *l, struct loop *loop,
		   void (*ready)(void *owner, struct loop_watch *w), void *owner);
int listener_open(struct listener *l, const char *path);
void listener_close(struct listener *l, const char *path);

/* Clients that connect while the listener is paused wait, and do not wake the loop. */
int listener_start(struct listener *l);
void listener_stop(struct listener *l);
void listener_pause(struct listener *l, uint64_t ns);

#endif

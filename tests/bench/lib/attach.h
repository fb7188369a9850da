/*
 * Reaching the private daemon that tests/bench/run started (TALEA_SOCKET); see attach.c. Everything
 * here ends the program when it fails: without a daemon there is nothing to measure.
 */
#ifndef BENCH_LIB_ATTACH_H
#define BENCH_LIB_ATTACH_H

#include <stdint.h>

#include "shm/wire_admin.h"
#include "talea.h"

/* Attaches to a namespace and says on stderr if adds there are not what they should be. */
struct talea *attach_open(const char *name_space);

/* A new counter. hot: it must have a row, else it must have none. */
struct talea_counter attach_counter(struct talea *t, const char *name, const char *key, int hot);

/* A connection of its own, for what the library has no call for. */
struct control {
	int sock;
	uint32_t number;
	const struct dir_shm *d; /* mapped once more, as a client maps it */
};
void control_open(struct control *c, const char *name_space);

/* Sends a prepared REGISTER and waits for its results, all of which must be good. */
void control_register(struct control *c, struct wire_register *msg);

/* Sends a CHANGE for nr names `base{key="N"}` with N from `first` on; all results must be good. */
void control_change(struct control *c, enum wire_change_op op, const char *base, unsigned int first,
		    unsigned int nr);

/* The daemon's state. */
void control_status(struct control *c, struct wire_status *ret);

/* An empty REGISTER in a buffer of WIRE_MAX bytes. */
struct wire_register *control_message(void);

#endif

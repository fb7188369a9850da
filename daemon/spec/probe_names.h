/*
 * The names of probes' keys. Owns the names that only the running kernel knows (enumerators of its
 * type information, devices of its interrupts). The keeper reads them when it attaches a probe, and
 * its children inherit them; the message about a probe that is attached later carries them (struct
 * link_probe). All other names come from the C library, libseccomp and the list in pack.c.
 */
#ifndef DAEMON_PROBE_NAMES_H
#define DAEMON_PROBE_NAMES_H

#include "daemon/spec/pack.h"

/* Flat, to be sent: for each name the key in 2 bytes and the text with its NUL. */
struct probe_names {
	uint32_t bytes;
	char packed[32 * 1024];
};

/*
 * Appends a name; what cannot stand in a label becomes '_'. Empty ones, a second one of a key and
 * what does not fit are left out: such a key is shown by its number.
 */
void probe_names_put(struct probe_names *n, uint32_t key, const char *name, size_t length);

/* The probe's names from now on, as a copy, if it has none yet. Before its map is folded. */
void probe_names_set(enum probe_id id, const struct probe_names *n);

/* Writes those of the probe for sending; none: bytes is 0. */
void probe_names_get(enum probe_id id, struct probe_names *ret);

/* NULL if the kernel has not said. */
const char *probe_names_find(enum probe_id id, uint32_t key);

/* The functions that the list of the pack refers to. See struct probe_counter. */
typedef int probe_labels(enum probe_id id, const struct probe_counter *c, uint32_t at, char *buf,
			 size_t size);
probe_labels labels_word;      /* c->label="c->words[at]" */
probe_labels labels_learned;   /* c->label="the name that the kernel has", nr_7; "other": the last */
probe_labels labels_syscall;   /* abi, syscall */
probe_labels labels_errno;     /* errno */
probe_labels labels_irq;       /* device, irq */
probe_labels labels_tcp_state; /* from, to */
probe_labels labels_signal;    /* result, signal */
probe_labels labels_lock;      /* lock */

#endif

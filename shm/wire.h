/*
 * The wire of clients: what libtalea and the worker send each other over the SOCK_SEQPACKET socket.
 * One packet is one message: a wire_head and a body that its kind names. WIRE_MAX bounds every
 * message, and the receiver checks it (wire.c); the worker answers a message that fails the check
 * with WIRE_ERROR and ends the connection. Native byte order: both ends are on one machine. What
 * operators' tools send over the same socket stands in wire_admin.h.
 *
 *   client                            worker
 *   HELLO{abi, namespace, access} ──►          checks credentials
 *                                 ◄── WELCOME + fds of D, S, T   or ERROR
 *   REGISTER{n entries}           ──►          idempotent: an existing name is found again
 *                                 ◄── REGISTERED{n results}
 *                                 ◄── RESUME{incarnation} of a new worker. The client sends HELLO again
 *                                     (no fds come when it says it has them) and repeats every
 *                                     unanswered request under its old number.
 */
#ifndef SHM_WIRE_H
#define SHM_WIRE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "layout.h"

#define WIRE_MAGIC   0x454c4154u /* "TALE" */
#define WIRE_VERSION 1u
#define WIRE_MAX     (128u * 1024)
#define WIRE_ENTRIES_MAX 1024u
#define WIRE_TEXT_MAX 512u
#define WIRE_NAME_MAX (4 * SHM_NAME_MAX) /* a display name with its NUL */

enum wire_kind {
	WIRE_HELLO = 1,
	WIRE_WELCOME = 2,
	WIRE_ERROR = 3,
	WIRE_RESUME = 4,
	WIRE_REGISTER = 5,
	WIRE_REGISTERED = 6,
	/* wire_admin.h */
	WIRE_QUERY = 7,
	WIRE_ANSWER = 8,
	WIRE_CHANGE = 9,
	WIRE_PROBE = 10,
	/* Reserved for later capabilities; answered with -EOPNOTSUPP today. */
	WIRE_RING = 16,
	WIRE_ADOPT = 17,
	WIRE_OWNED = 20,
	WIRE_KIND_RESERVED_LAST = 31,
};

enum wire_feature { /* both sides must know a bit to use it; none is needed today */
	WIRE_FEATURE_RING = 1 << 0,
	WIRE_FEATURE_ADOPT = 1 << 1,
	WIRE_FEATURE_OWNED = 1 << 4,
	WIRE_FEATURE_HISTOGRAM = 1 << 5,
	WIRE_FEATURE_EDGES = 1 << 6,
};

enum wire_access { WIRE_READ = 1, WIRE_WRITE = 2 };

struct wire_head {
	uint32_t magic;
	uint16_t version;
	uint16_t kind;
	uint32_t number; /* of the request; the reply carries the same */
	uint32_t length; /* of the whole message */
};

static inline struct wire_head wire_head_of(enum wire_kind kind, uint32_t number, size_t length)
{
	return (struct wire_head){ WIRE_MAGIC, WIRE_VERSION, (uint16_t)kind, number, (uint32_t)length };
}

struct wire_hello {
	struct wire_head head;
	uint32_t abi;
	uint32_t access; /* enum wire_access */
	uint64_t fingerprint;
	uint64_t features;
	uint32_t has_fds; /* 1: region_id is mapped already, send no fds */
	uint32_t reserved;
	unsigned char region_id[16];
	char name_space[SHM_NAMESPACE_MAX]; /* NUL-terminated */
	char app[SHM_NAMESPACE_MAX];	    /* what the program calls itself, may be empty */
};

/* With three fds (D and T read-only; S writable for WIRE_WRITE) unless has_fds matched. */
struct wire_welcome {
	struct wire_head head;
	uint32_t abi;
	uint32_t access;
	uint64_t fingerprint;
	uint64_t features;
	uint64_t incarnation; /* of the worker */
	uint32_t fds_nr;      /* 0 or 3 */
	uint32_t reserved;
	unsigned char region_id[16];
};

struct wire_error {
	struct wire_head head;
	int32_t err; /* a negative errno */
	uint32_t text_bytes;
	char text[WIRE_TEXT_MAX]; /* what failed, why, what to do; text_bytes are sent, NUL included */
};

struct wire_resume {
	struct wire_head head;
	uint64_t incarnation;
};

/*
 * REGISTER: nr entries, each padded to 8 bytes. For counters, levels and families: name (canonical)
 * then help then label. For members: the key bytes; `family` names the family's slot.
 */
struct wire_entry {
	uint8_t type; /* enum shm_slot_type: a counter, a level, a family or a member of one */
	uint8_t key_kind; /* families: enum shm_key_kind */
	uint16_t name_bytes;
	uint16_t help_bytes;
	uint16_t label_bytes;
	uint32_t family;
	uint32_t family_generation;
	char bytes[];
};

struct wire_register {
	struct wire_head head;
	uint32_t nr;
	uint32_t reserved;
	char entries[];
};

/*
 * One result an entry, in order. err 0: slot is the counter's. err < 0: slot is the overflow slot
 * (or the family's `other`), where its adds count, and text_at the offset of a NUL-terminated
 * explanation in texts.
 */
struct wire_result {
	uint32_t slot;
	uint32_t generation;
	int32_t err;
	uint32_t text_at;
};

struct wire_registered {
	struct wire_head head;
	uint32_t nr;
	uint32_t text_bytes; /* of the texts behind the results */
	struct wire_result results[];
};

/* 0, or -EPROTO / -EMSGSIZE / -EPROTONOSUPPORT for a message of `got` bytes in an 8-byte aligned
 * buffer. Reserved kinds pass with any body: the receiver answers them with -EOPNOTSUPP. The kinds
 * of wire_admin.h are -EPROTO: libtalea has no use for them. */
int wire_check(const void *msg, size_t got);

/* The head alone, of any kind; results as wire_check. */
int wire_head_check(const void *msg, size_t got);

/* Walks the entries of a REGISTER: the entry at *at (0 for the first), advancing it; NULL at the
 * end or when it does not fit (then *ret_err is -EPROTO). After wire_check all nr entries fit. */
const struct wire_entry *wire_entry_next(const struct wire_register *msg, size_t *at, int *ret_err);

/* Appends an entry to a message buffer of WIRE_MAX bytes and keeps nr and head.length; a message
 * with nr 0 is empty whatever its length says. -EMSGSIZE when the entry does not fit. */
int wire_entry_put(struct wire_register *msg, const struct wire_entry *head, const void *name,
		   const void *help, const void *label);

/* Sends one message with up to 8 fds; 0 or -errno. flags: MSG_DONTWAIT or 0. */
int wire_send(int sock, const void *msg, const int *fds, unsigned int fds_nr, int flags);

/*
 * Receives one message of at most size bytes. Returns its size, 0 at end of file, or -errno;
 * -EMSGSIZE: the message was longer and is lost. *ret_fds_nr (may be NULL) is the number of fds in
 * ret_fds, all CLOEXEC. It closes the fds beyond fds_max, and all of them on an error.
 */
ssize_t wire_recv(int sock, void *buf, size_t size, int *ret_fds, unsigned int fds_max,
		  unsigned int *ret_fds_nr, int flags);

#endif

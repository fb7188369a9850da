/*
 * What the files of libtalea share. Nothing here is installed.
 *
 * Owner of each piece of state:
 *   target.c   targets, bind records, private cells: everything that the adding path touches
 *   lock.c     the two locks and what fork does to them
 *   attach.c   attachments and their regions          conn.c    the socket: hello, requests, resume
 *   key.c      keys of an attachment: from name to target; carrying over
 *   bind.c     making keys and families count in the shared region
 *   api.c      open, close, status                    helper.c  the helper thread
 *   declare.c  the declaring calls     family.c  the family calls     read.c, each.c  reading
 *
 * Two locks (lock.c): `conn` is held while waiting for the daemon, `table` only for short changes of
 * keys and bindings. Order: conn, then table. The adding path takes neither.
 */
#ifndef TALEA_INTERNAL_H
#define TALEA_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "directory.h"
#include "include/talea.h"
#include "names.h"
#include "region.h"
#include "shm/base/clock.h"
#include "wire.h"

#define TEXT_MAX 600

/* A mapped region. Immortal: handles bound to it may add during the whole life of the process. */
struct region {
	unsigned char id[16];
	struct shm_view view;
	bool writable;
	uint64_t has_gone; /* a program used a handle whose member is gone, since a call claimed
			    * this word */
};

enum bind_kind { BIND_PRIVATE, BIND_PLAIN, BIND_MEMBER };

/*
 * What the out-of-line path needs, in one immortal record that is immutable but for is_late: a
 * thread that took the pointer sees fields that belong together (PROTOCOL 1).
 */
struct bind {
	enum bind_kind kind;
	uint32_t is_late; /* members: a thread added after the removal */
	bool is_own_member; /* of the key itself: may be removed */
	uint32_t generation;
	uint32_t slot;
	bool overflow; /* the declaration failed: this is the overflow slot or `other` */
	const uint64_t *word;
	uint64_t *cold;
	uint64_t *removed;  /* members: where a late add goes */
	uint64_t *fallback; /* members: the region's fallback_used */
	struct region *region;
};

/* One per key and process, immortal. The target is first: a handle's pointer is the key's. */
struct key {
	struct talea_target_ target;
	struct attach *attach;
	struct key *next;		/* all keys of the attachment, newest first */
	struct talea_family_ *family;	/* of a member */
	uint64_t *cell;			/* private cell; NULL until one is needed */
	struct key *next_cell;		/* of those that have a cell */
	char *help;
	uint64_t hash;
	uint32_t len;
	uint8_t type;	   /* enum shm_slot_type */
	bool was_hot;	   /* the hot fields were published once */
	bool out_of_line;  /* rebound without membarrier: stays out of line */
	bool taken;	   /* conn lock: already in the batch that is being bound */
	int err;	   /* of its registration */
	char name[];	   /* canonical name, or the member's key */
};

/* Where a family is in one region; immutable. */
struct family_bind {
	struct region *region;
	uint32_t slot;
	uint64_t *other;
	uint64_t *removed;
};

struct talea_family_ {
	struct attach *attach;
	struct talea_family_ *next;
	struct family_bind *bind; /* published; NULL before the first attachment */
	struct key *other;	  /* private until attached: keys past the cap */
	char *name, *help, *label;
	int timeout_ms;
	uint64_t full_until_ns; /* CLOCK_MONOTONIC: the daemon said that no more keys fit */
	uint8_t type;	   /* SHM_FAMILY or SHM_LEVEL_FAMILY */
	uint8_t key_kind;
	int err;
};

/* Open addressing; grown by publishing a new one, the old stays readable. */
struct key_table {
	uint32_t mask;
	uint32_t used;
	struct key *slots[];
};

/* One per socket and namespace, immortal: several opens share it. */
struct attach {
	struct attach *next;
	char socket[108];
	char ns[SHM_NAMESPACE_MAX];
	char app[SHM_NAMESPACE_MAX];
	bool read_only;
	int opens;
	/* conn lock */
	int fd;
	uint64_t fd_ino;
	uint32_t number; /* of the newest request */
	uint32_t hello;	 /* of the newest hello */
	uint64_t incarnation;
	/* table lock */
	struct region *region; /* published */
	struct key *keys;
	struct key *cells; /* keys with a private cell: carried over at every call */
	size_t unbound;	   /* keys and families that are not bound to `region` */
	/* conn lock: holders of removed members, see bind_all */
	uint64_t moves;		 /* of `region` when holders were last scanned */
	uint64_t moved_after_ns; /* CLOCK_MONOTONIC: the next scan is not before */
	struct talea_family_ *families;
	struct key *refuge, *refuge_level; /* where declarations without a valid name count */
	struct key_table *table; /* published */
	uint32_t private_members;
	uint64_t out_of_line;
	uint64_t refused;
};

struct helper;

struct talea {
	struct attach *attach;
	int timeout_ms;
	unsigned int flags;
	struct helper *helper;
	struct talea *next_open;
	int err;
	char text[TEXT_MAX];
};

/* lock.c. deadline_ns is mono_ns(). */
int lock_conn(uint64_t deadline_ns); /* 0 or -ETIMEDOUT */
void unlock_conn(void);
void lock_table(void);
void unlock_table(void);
void lock_init(void);
bool lock_forked(void); /* true once in a new child: its inherited sockets are not its own */

/* target.c */
extern const uint64_t target_no_row;
int64_t target_rseq_off(const char **ret_why);
bool target_membarrier(void);
void target_init(struct talea_target_ *t);
void target_cold(struct talea_target_ *t, struct bind *b);
uint64_t *cell_alloc(void);
void member_add(struct bind *b, uint64_t n); /* cold, or late */
void member_add_hot(struct bind *b, uint64_t n); /* where it had a row a moment ago */
struct bind *bind_alloc(void); /* table lock held, as for cell_alloc */
/* Moves each key with a new record in binds[i] to it; see PROTOCOL 4. Table lock held. Returns how many
 * had to leave the inline path. */
size_t target_rebind(struct key **keys, struct bind **binds, size_t nr);
uint64_t target_undeclared(void);

/* key.c; table lock held but for key_find, which needs none. */
struct key *key_find(const struct attach *a, const struct talea_family_ *f, const void *name,
		     size_t len);
struct key *key_make(struct attach *a, struct talea_family_ *f, uint8_t type, const void *name,
		     size_t len, const char *help);
int key_cell(struct key *k);	/* gives it a private cell */
int key_private(struct key *k); /* makes a key that is not bound yet count in a private cell */
void key_carry(struct attach *a);
uint64_t key_private_sum(const struct attach *a);
struct talea_family_ *family_find(const struct attach *a, const char *name);

/* conn.c; conn lock held. err_text gets TEXT_MAX bytes at most. */
int conn_open(struct attach *a, uint64_t deadline_ns, struct region **ret_region, char *err_text);
bool conn_alive(struct attach *a, char *err_text);
void conn_close(struct attach *a);
int conn_register(struct attach *a, struct wire_register *msg, struct wire_registered *reply,
		  uint64_t deadline_ns, char *err_text);

/* attach.c. text gets TEXT_MAX bytes. */
struct attach *attach_get(const struct talea_options *opt);
int attach_poll(struct attach *a, uint64_t deadline_ns, char *text); /* conn lock held */

/* bind.c; conn lock held, attached. The result is that of the first that failed. */
int bind_family(struct attach *a, struct talea_family_ *f, uint64_t deadline_ns, char *text);
int bind_keys(struct attach *a, struct key **keys, size_t nr, uint64_t deadline_ns, char *text);
/* Binds what is not bound to the region, and holders of removed members anew; no work when there is
 * nothing to do. */
int bind_all(struct attach *a, uint64_t deadline_ns, char *text);
int bind_values(struct talea_family_ *f, const struct talea_key *const *keys, size_t nr,
		uint64_t deadline_ns, char *text);
/* Bound to the attachment's region, and (members) to the present owner of the name? */
bool key_is_bound(const struct key *k);

/* family.c: the target of a family handle when no family could be made; adds to it are
 * undeclared. */
extern struct talea_family_ family_undeclared;

/* api.c: keeps the text for talea_strerror and returns err. */
int fail(struct talea *t, int err, const char *text);

/* helper.c */
int helper_start(struct talea *t);
void helper_stop(struct talea *t);

static inline struct key *key_of(struct talea_target_ *target)
{
	return (struct key *)target;
}

static inline uint64_t deadline_of(const struct talea *t)
{
	return mono_ns() + (uint64_t)t->timeout_ms * NS_PER_MS;
}

#endif

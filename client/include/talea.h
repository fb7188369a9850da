/*
 * talea: counting at memory speed.
 *
 *	#include <talea.h>
 *	int main(void)
 *	{
 *		struct talea *t;
 *		struct talea_counter reqs;
 *		struct talea_total n = { .size = sizeof n };
 *		if (talea_open(&t, NULL) ||
 *		    talea_counter(t, &reqs, "demo_requests_total", "Requests served.",
 *				  "app", "demo", NULL))
 *			return 1;
 *		for (int i = 0; i < 1000000; i++)
 *			talea_inc(reqs);
 *		if (talea_sync(t, 1000) == 0 && talea_read(t, reqs, TALEA_COMPACTED, 0, &n) == 0)
 *			printf("%lld\n", (long long)n.value);
 *		talea_close(t);
 *	}                            // cc ex.c $(pkg-config --cflags --libs talea)
 *
 * Returns: 0 or -errno, where nothing else is said; talea_strerror() says what failed and what to
 * do. A call leaves its outputs untouched when it fails, except handles: a declaring call always
 * leaves a usable handle. When the declaration failed, its adds count in the namespace's overflow
 * counter, or privately.
 *
 * Ownership: the library copies every string that it is given. It frees nothing of the caller's.
 *
 * Each call says what it costs and where it is safe, in these words:
 *   wait-free    a bounded handful of instructions: no system call, no lock, no allocation
 *   no syscall   retries beside a fold; no lock and no wait, one clock read
 *   may block    asks the daemon, and waits for it up to timeout_ms (talea_options)
 *   MT-safe      threads may call it at the same time, on the same objects
 *   not in signal handlers    it takes a lock, or allocates
 *
 * fork: the child inherits every handle and every struct talea. Its adds count at once; its first
 * call that is not an add gives it a connection of its own. Private adds stay with the parent,
 * which carries them over. A helper thread is the parent's alone.
 *
 * Caveats
 * - A handle is good for the life of the process: through talea_close, fork, dlclose of the code
 *   that declared it, and restarts and absence of the daemon. A zeroed handle is not a handle: use
 *   TALEA_COUNTER_INIT for one that is not declared yet.
 * - Do not add between vfork and exec, nor from a thread that shares another's thread-local storage
 *   (clone without CLONE_SETTLS): the kernel registers rseq per thread, and such an add may be
 *   lost.
 * - mlockall(MCL_CURRENT) after talea_open may commit the whole sparse reserve; MCL_FUTURE does
 *   not.
 * - A plug-in that is unloaded must use the shared library, which stays loaded for ever: other
 *   threads may hold the targets that it contains. A static copy inside the plug-in would be
 *   unmapped with it.
 * - gdb cannot single-step through an add (the kernel aborts the section at every stop; the add
 *   then takes the out-of-line path and still counts). valgrind and ThreadSanitizer see only that
 *   path.
 */
#ifndef TALEA_H
#define TALEA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TALEA_VERSION "0.1.0"
#define TALEA_ABI 1

/* An attachment to a namespace. talea_open makes it, talea_close frees it. */
struct talea;

/* Handles: values to copy freely, valid for the life of the process. Nobody frees them. */
struct talea_target_;
struct talea_family_;
struct talea_counter { struct talea_target_ *target_; };
struct talea_level { struct talea_target_ *target_; };
struct talea_family { struct talea_family_ *family_; };

/* Static initialisers. Adds before the declaration count in a private cell that no name owns
 * (talea_status: undeclared), and are not carried over. */
extern struct talea_target_ talea_undeclared_;
#define TALEA_COUNTER_INIT { &talea_undeclared_ }
#define TALEA_LEVEL_INIT { &talea_undeclared_ }

/* --- attaching ----------------------------------------------------------------------------- */

enum talea_open_flags {
	TALEA_NEED_DAEMON = 1 << 0,   /* an absent daemon is an error (-ECONNREFUSED) */
	TALEA_HELPER_THREAD = 1 << 1, /* a thread of the library attaches and carries over, 10 a s */
	TALEA_READ_ONLY = 1 << 2,     /* totals alone: what is declared and added stays private */
};

struct talea_options {
	size_t size;	    /* sizeof(struct talea_options) */
	const char *socket; /* NULL: $TALEA_SOCKET, else the user's socket, else the system's */
	const char *ns;	    /* NULL: $TALEA_NAMESPACE, else "default" */
	const char *app;    /* what to call this program in `talea clients`; NULL: its name */
	int timeout_ms;	    /* longest wait of any call for the daemon; 0: 1000 */
	unsigned int flags; /* enum talea_open_flags */
};

/*
 * Attaches to a namespace of the daemon, or prepares to: an absent daemon is no error. Adds then
 * stay in private memory, and a later call that is not an add carries them over exactly once.
 * Several opens of one namespace share one connection.
 *
 * opt: NULL is all defaults. *ret is the caller's, to be given to talea_close. It is set on errors
 * of the daemon too, so that handles can be declared and talea_strerror asked; it is NULL with
 * TALEA_NEED_DAEMON, and untouched for -ENOMEM and -EINVAL.
 * Errors: -EINVAL: an option is wrong. -EACCES: the daemon lets this user in for less or for
 * nothing. -ENOENT: there is no such namespace. -EPROTONOSUPPORT: library and daemon have different
 * versions. -ECONNREFUSED: no daemon, with TALEA_NEED_DAEMON.
 * May block. MT-safe; not in signal handlers.
 */
int talea_open(struct talea **ret, const struct talea_options *opt);

/*
 * Carries over what is private, waiting at most a second, frees t and its texts, and ends the
 * connection when this was the last open of the namespace. Handles go on counting while their
 * region exists. NULL is allowed.
 * May block. MT-safe, but no other thread may use t during or after it; not in signal handlers.
 */
void talea_close(struct talea *t);

struct talea_status {
	size_t size;	       /* in: sizeof(struct talea_status) */
	int connected;	       /* 1: attached to a live daemon */
	int rseq;	       /* 1: adds use restartable sequences; 0: atomic adds on the cold cell */
	const char *rseq_why;  /* why not, or "" */
	uint64_t epoch;	       /* of the newest published fold; 0 when not attached */
	uint64_t age_ns;       /* of that fold; UINT64_MAX when not attached */
	uint64_t private_adds; /* sum of what is counted but not carried over yet */
	uint64_t undeclared;   /* adds through TALEA_COUNTER_INIT handles never declared */
	uint64_t refused;      /* declarations that failed: their handles count in overflow */
	uint64_t out_of_line;  /* handles that had to leave the inline path after a new region */
	uint64_t incarnation;  /* of the worker */
	char namespace_name[48];
	char socket[112];
};

/*
 * Attaches if need be, carries over what is private, and reports the state. Poll it when the
 * program makes no other call but adds. ret->size is set by the caller; the strings in *ret are
 * copies, but rseq_why, which is static.
 * Errors: -EINVAL: t is NULL, or the size is wrong. An absent daemon is none: connected is 0.
 * May block. MT-safe; not in signal handlers.
 */
int talea_status(struct talea *t, struct talea_status *ret);

/* The ABI that this library was built with; compare with TALEA_ABI. Wait-free; safe anywhere. */
unsigned int talea_abi(void);

/*
 * What `err` means and what to do: err is the result of the last failed call on t, or any -errno. t
 * may be NULL. The text belongs to t; the next failing call on t overwrites it, and talea_close
 * frees it.
 * No syscall. MT-safe as long as no other thread's call on t fails meanwhile; not in signal
 * handlers.
 */
const char *talea_strerror(const struct talea *t, int err);

/* --- declaring ----------------------------------------------------------------------------- */

enum talea_level_flags {
	TALEA_OWNED = 1 << 0, /* given back when this process ends: -EOPNOTSUPP in this version */
};

/*
 * Declares a counter, or finds it. The name ends in _total, help is one line; label, value pairs
 * and a NULL follow. A name that exists is found in shared memory; a new one costs one round trip.
 *
 * *ret is set in any case. When the daemon is absent the handle counts privately and is carried
 * over.
 * Errors: -EEXIST: the name has another type or help. -EDQUOT: over quota. -EINVAL: the name breaks
 * the rules of Prometheus. With these three the handle counts in the overflow counter. -ETIMEDOUT:
 * the daemon did not answer; the handle counts privately and is carried over. -ENOMEM.
 * May block. MT-safe; not in signal handlers.
 */
int talea_counter(struct talea *t, struct talea_counter *ret, const char *name, const char *help,
		  ... /* label, value, NULL */);

/* As talea_counter, with the labels in an array that ends with NULL. */
int talea_counter_v(struct talea *t, struct talea_counter *ret, const char *name, const char *help,
		    const char *const *labels);

/* As talea_counter, for a level: a count that may go down. Its name does not end in _total.
 * -EOPNOTSUPP: TALEA_OWNED. */
int talea_level(struct talea *t, struct talea_level *ret, const char *name, const char *help,
		unsigned int flags, ... /* label, value, NULL */);
int talea_level_v(struct talea *t, struct talea_level *ret, const char *name, const char *help,
		  unsigned int flags, const char *const *labels);

/*
 * Declares a family: one counter for each value of `label`. "post" takes UTF-8 text, "post:u64" a
 * uint64_t (8 bytes in native order, shown in decimal). Ownership, errors, cost and safety as
 * talea_counter.
 */
int talea_family(struct talea *t, struct talea_family *ret, const char *name, const char *help,
		 const char *label);
int talea_level_family(struct talea *t, struct talea_family *ret, const char *name,
		       const char *help, const char *label);

/* A key of a family. */
struct talea_key {
	const void *value;
	size_t len;
	uint64_t n; /* talea_family_add_many: how much; for levels the two's complement */
};

/*
 * Resolves a key once; the handle then adds inline. A key that exists costs a look-up in shared
 * memory; a new one is one round trip.
 *
 * *ret is set in any case. Errors: -EDQUOT: the family is full; the handle counts in `other`.
 * -ETIMEDOUT: the daemon did not answer; the handle counts privately until it is carried over.
 * -EINVAL: the value is no key of this family; the handle counts in `other`. -ENOMEM.
 * May block. MT-safe; not in signal handlers.
 *
 * A member may be removed (`talea forget`, or its time to live) while a program holds handles of
 * it. They stay safe: their later adds count in the family's {talea="removed"}, never for another
 * member. The next call that is not an add (talea_status, any declaring call, the helper thread)
 * finds the name again for a removed handle that was used: it makes the member anew when the handle
 * was added to, and only looks for it when the handle was read.
 */
int talea_family_get(struct talea_family *f, const void *value, size_t len,
		     struct talea_counter *ret);
int talea_level_family_get(struct talea_family *f, const void *value, size_t len,
			   struct talea_level *ret);

/* As talea_family_get for nr keys at once: all new ones in as few exchanges as fit. Every ret[i] is
 * set; the result is that of the first key that failed. */
int talea_family_get_many(struct talea_family *f, const struct talea_key *keys, size_t nr,
			  struct talea_counter *ret);

/*
 * Resolves a key and adds n to it. The add counts in any case, exactly once: for a key that cannot
 * be had it counts in `other`.
 *
 * Errors: -EDQUOT: the family is full. -ETIMEDOUT: the daemon did not answer. -EINVAL: the value is
 * no key of this family. In each case the add counted in `other`.
 * A key that exists: wait-free but for the length of its index chain, safe wherever talea_add is. A
 * new key: may block for one round trip; not in signal handlers. Without a daemon it counts in a
 * private cell of its own. MT-safe.
 * talea_family_add_many adds keys[i].n to each key.
 */
int talea_family_add(struct talea_family *f, const void *value, size_t len, uint64_t n);
int talea_level_family_add(struct talea_family *f, const void *value, size_t len, int64_t n);
int talea_family_add_many(struct talea_family *f, const struct talea_key *keys, size_t nr);

/* --- adding -------------------------------------------------------------------------------- */

/*
 * talea_inc, talea_add and talea_level_add (inline, in talea_add.h) add to a handle. They cannot
 * fail. Wait-free. Safe in all threads, in signal handlers, in atfork handlers, in children of fork
 * and _Fork, before the daemon exists and after talea_close. The _fn twins are the same as
 * functions, for other languages.
 */
void talea_inc_fn(struct talea_counter c);
void talea_add_fn(struct talea_counter c, uint64_t n);
void talea_level_add_fn(struct talea_level l, int64_t n);

/* --- reading ------------------------------------------------------------------------------- */

enum talea_how {
	TALEA_SUM = 1,	     /* the shards, now; kernel counters answer TALEA_COMPACTED */
	TALEA_COMPACTED = 2, /* the newest fold */
	TALEA_CACHED = 3,    /* compacted if not older than max_age_ns, else the sum */
	TALEA_GLOBAL = 4,    /* all nodes of the cluster: -EOPNOTSUPP in this version */
};

enum talea_state { TALEA_OK = 1, TALEA_UNKNOWN = 2, TALEA_SUSPECT = 3 };
enum talea_type { TALEA_TYPE_COUNTER = 1, TALEA_TYPE_LEVEL = 2 };
enum talea_origin { TALEA_USER = 0, TALEA_KERNEL = 1, TALEA_OWN = 2 };

struct talea_total {
	size_t size;	     /* in: sizeof(struct talea_total) */
	int64_t value;
	double rate;	     /* adds a second over the last full second; NaN when not known */
	uint64_t as_of_ns;   /* CLOCK_REALTIME of the read that made the value */
	uint64_t age_ns;     /* now minus the start of the fold (0 for TALEA_SUM) */
	uint64_t epoch;	     /* of the fold; for TALEA_SUM the newest published */
	enum talea_how how;  /* how it was read in the end */
	enum talea_state state;
	enum talea_type type;
	enum talea_origin origin;
	int hot;	     /* 1: it has a row */
	const char *help;    /* talea_read_name and talea_each: valid while t is open; else NULL */
	float history[60];   /* rates of the last 60 full seconds, newest first; NaN: not known */
};

/*
 * Reads one counter. max_age_ns: TALEA_CACHED takes the fold's value up to this age;
 * TALEA_COMPACTED gives -ESTALE for an older one, with *ret filled; 0 is any age. The caller sets
 * ret->size.
 * Errors: -ENOTCONN: before the first attachment. -ENOENT: the handle is of a member that was
 * removed (see talea_family_get). -ESTALE. -EAGAIN: the counter changed all the while. -EINVAL.
 * -EOPNOTSUPP: TALEA_GLOBAL.
 * No syscall. MT-safe.
 */
int talea_read(struct talea *t, struct talea_counter c, enum talea_how how, uint64_t max_age_ns,
	       struct talea_total *ret);
int talea_read_level(struct talea *t, struct talea_level l, enum talea_how how,
		     uint64_t max_age_ns, struct talea_total *ret);

/* As talea_read by display name: `name` or `name{label="value"}`, members included. -ENOENT: there
 * is none. ret->help belongs to the library and is valid while t is open. */
int talea_read_name(struct talea *t, const char *name_with_labels, enum talea_how how,
		    uint64_t max_age_ns, struct talea_total *ret);

/*
 * Visits every counter whose name matches glob, in order of slots (that of registration until
 * members are removed); NULL or "*" is all. A glob without braces matches all label sets; labels
 * may be globs: likes_total{post="4*"}. When visit returns non-zero, that ends the visits and is
 * the result. The name and the total belong to the library and last for the call of visit.
 *
 * What is visited belongs together, and is read before the first visit: visit may be slow, and may
 * remove members. TALEA_COMPACTED: all values are of one epoch. TALEA_SUM: all are summed while no
 * member's sum moved to its family's {talea="removed"}; where members are removed all the while,
 * for 50 ms, the values are those of one epoch instead and `how` is TALEA_COMPACTED. Either way a
 * removal neither lowers nor raises the sum over a family: a member being removed is visited until
 * its sum has moved. Kernel counters are always compacted.
 *
 * Errors: -EAGAIN: the daemon was ahead all the while; try again. -ENOTCONN, -ENOMEM, -EINVAL.
 * Cost: one copy of all totals (8 bytes a slot), one name read for each slot, and about 100 bytes
 * of memory for each match; TALEA_SUM in addition what talea_read costs for each match, more than
 * once beside removals. It does not wait for the daemon. MT-safe; not in signal handlers.
 */
int talea_each(struct talea *t, const char *glob, enum talea_how how,
	       int (*visit)(const char *name, const struct talea_total *total, void *arg),
	       void *arg);

/*
 * Carries over private adds, then waits until the published totals contain every add made before
 * the call: for the second epoch after the current one. timeout_ms: the longest wait, in place of
 * that of talea_options.
 * Errors: -ETIMEDOUT. -ENOTCONN: there is no daemon.
 * May block. MT-safe; not in signal handlers.
 */
int talea_sync(struct talea *t, int timeout_ms);

#ifdef __cplusplus
}
#endif

#include "talea_add.h"

#endif

/*
 * The declaring calls: counters, levels, families. Each leaves a usable handle in any case. All
 * take the same steps: find or make the key, bind it if there is a daemon, otherwise let it count
 * privately.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define LABELS_MAX 32

/* An absent daemon is no error to a caller: the handle counts privately for now. */
static int absent_is_fine(int err)
{
	return err == -ECONNREFUSED ? 0 : err;
}

/* Takes the conn lock and attaches if it can. *ret_locked: the caller gives the lock back. */
static int attach_begin(struct talea *t, uint64_t deadline_ns, bool *ret_locked)
{
	int err = lock_conn(deadline_ns);

	*ret_locked = err == 0;
	if (err)
		return fail(t, err, "another thread waits for talead: what was declared counts "
			    "privately and is carried over later");
	return attach_poll(t->attach, deadline_ns, t->text);
}

/* The key that counts for declarations without a valid name. Table lock held. */
static struct key *refuge_key(struct attach *a, uint8_t type)
{
	struct key **k = type == SHM_LEVEL ? &a->refuge_level : &a->refuge;
	const char *name = type == SHM_LEVEL ? "talea_overflow" : "talea_overflow_total";

	if (!*k)
		*k = key_make(a, NULL, type, name, strlen(name), "");
	return *k;
}

/* Table lock held. NULL: no memory, or (*ret_err) another declaration of this name. */
static struct key *counter_key(struct attach *a, uint8_t type, const char *name, const char *help,
			       int *ret_err)
{
	struct key *k = key_find(a, NULL, name, strlen(name));

	if (k && (k->type != type || strcmp(k->help, help) != 0)) {
		*ret_err = -EEXIST;
		return NULL;
	}
	return k ? k : key_make(a, NULL, type, name, strlen(name), help);
}

/* Lets k count: shared if attached, else privately. Conn lock held when err is 0. */
static int settle(struct talea *t, struct key *k, int err, uint64_t deadline_ns)
{
	int bound;

	if (!err && !key_is_bound(k))
		err = bind_keys(t->attach, &k, 1, deadline_ns, t->text);
	else if (!err)
		err = k->err;
	lock_table();
	if (!k->target.bind) {
		bound = key_private(k);
		err = err ? err : bound;
	}
	unlock_table();
	return err;
}

static int declare(struct talea *t, uint8_t type, struct talea_target_ **ret, const char *name,
		   const char *help, const char *const *labels)
{
	char canonical[NAME_DISPLAY_MAX];
	uint64_t deadline = deadline_of(t);
	int n = name_canonical(name, labels, canonical, sizeof(canonical));
	int err, bad = n < 0 ? n : n > (int)SHM_NAME_MAX ? -ENAMETOOLONG : n ? 0 : -EINVAL;
	bool locked;
	struct key *k = NULL;

	if (!bad && strlen(help) > SHM_NAME_MAX)
		bad = -EMSGSIZE;
	err = attach_begin(t, deadline, &locked);
	lock_table();
	if (!bad)
		k = counter_key(t->attach, type, canonical, help, &bad);
	if (!k)
		k = refuge_key(t->attach, type);
	if (k && t->attach->read_only && !k->cell)
		key_private(k);
	t->attach->refused += bad != 0;
	unlock_table();
	if (k)
		err = settle(t, k, err, deadline);
	if (locked)
		unlock_conn();
	/* ORDER(bind) */
	*ret = k && shm_take_ptr(&k->target.bind) ? &k->target : &talea_undeclared_;
	if (!k)
		return fail(t, -ENOMEM, "no memory for one more counter");
	if (bad) {
		char text[TEXT_MAX];

		snprintf(text, sizeof(text), bad == -EEXIST ?
			 "%s is declared twice in this program with another type or help text" :
			 bad == -EMSGSIZE ? "the help of %s is longer than 1024 bytes" :
			 "%s: labels must be name, value pairs, each name once, 1024 bytes in "
			 "all", name);
		return fail(t, bad == -EMSGSIZE ? -EINVAL : bad, text);
	}
	return fail(t, absent_is_fine(err), t->text);
}

static int labels_take(const char **labels, va_list ap)
{
	int nr = 0;

	while ((labels[nr] = va_arg(ap, const char *)))
		if (++nr > 2 * LABELS_MAX)
			break;
	if (nr <= 2 * LABELS_MAX)
		return 0;
	labels[0] = "";
	labels[1] = NULL; /* a label without a value: refused with a text */
	return 0;
}

int talea_counter_v(struct talea *t, struct talea_counter *ret, const char *name, const char *help,
		    const char *const *labels)
{
	if (!ret)
		return -EINVAL;
	ret->target_ = &talea_undeclared_;
	if (!t || !name || !help)
		return -EINVAL;
	return declare(t, SHM_COUNTER, &ret->target_, name, help, labels);
}

int talea_counter(struct talea *t, struct talea_counter *ret, const char *name, const char *help,
		  ...)
{
	const char *labels[2 * LABELS_MAX + 1];
	va_list ap;

	va_start(ap, help);
	labels_take(labels, ap);
	va_end(ap);
	return talea_counter_v(t, ret, name, help, labels);
}

int talea_level_v(struct talea *t, struct talea_level *ret, const char *name, const char *help,
		  unsigned int flags, const char *const *labels)
{
	int err;

	if (!ret)
		return -EINVAL;
	ret->target_ = &talea_undeclared_;
	if (!t || !name || !help)
		return -EINVAL;
	err = declare(t, SHM_LEVEL, &ret->target_, name, help, labels);
	if (flags)
		return fail(t, flags == TALEA_OWNED ? -EOPNOTSUPP : -EINVAL,
			    "TALEA_OWNED is not in this version: the level counts, but is not given "
			    "back when this process ends");
	return err;
}

int talea_level(struct talea *t, struct talea_level *ret, const char *name, const char *help,
		unsigned int flags, ...)
{
	const char *labels[2 * LABELS_MAX + 1];
	va_list ap;

	va_start(ap, flags);
	labels_take(labels, ap);
	va_end(ap);
	return talea_level_v(t, ret, name, help, flags, labels);
}

/* --- families ------------------------------------------------------------------------------------ */

static struct talea_family_ *family_make(struct attach *a, uint8_t type, const char *name,
					 const char *help, const char *label)
{
	struct talea_family_ *f = calloc(1, sizeof(*f));
	const char *colon = strrchr(label, ':');

	if (!f)
		return NULL;
	f->attach = a;
	f->type = type;
	f->name = strdup(name);
	f->help = strdup(help);
	f->label = strdup(label);
	if (!f->name || !f->help || !f->label)
		goto out_free;
	if (colon && strcmp(colon, ":u64") == 0) {
		f->key_kind = SHM_KEY_U64;
		f->label[colon - label] = '\0';
	}
	f->other = key_make(a, f, SHM_OTHER, "", 0, NULL);
	if (!f->other)
		goto out_free;
	f->next = a->families;
	a->families = f;
	a->unbound++;
	return f;

out_free:
	free(f->label);
	free(f->help);
	free(f->name);
	free(f);
	return NULL;
}

static bool family_same(const struct talea_family_ *f, uint8_t type, const char *help,
			const char *label)
{
	size_t len = strlen(f->label);

	return f->type == type && strcmp(f->help, help) == 0 && strncmp(f->label, label, len) == 0 &&
	       strcmp(label + len, f->key_kind == SHM_KEY_U64 ? ":u64" : "") == 0;
}

/*
 * The family of this name, made if it does not exist. When it cannot be made (*ret_bad): the
 * refuge, whose keys count in the overflow counter. Table lock held. NULL: no memory.
 */
static struct talea_family_ *family_of(struct attach *a, uint8_t type, const char *name,
				       const char *help, const char *label, int *ret_bad)
{
	struct talea_family_ *f = family_find(a, name);
	bool fits = *name && strlen(name) <= SHM_NAME_MAX && strlen(help) <= SHM_NAME_MAX &&
		    strlen(label) <= SHM_NAME_MAX;

	*ret_bad = !fits ? -EINVAL : f && !family_same(f, type, help, label) ? -EEXIST : 0;
	if (!*ret_bad)
		return f ? f : family_make(a, type, name, help, label);
	for (f = a->families; f; f = f->next)
		if (f->type == type && !f->name[0])
			return f;
	f = family_make(a, type, "", "", "");
	if (f)
		f->err = -EINVAL;
	return f;
}

static int family_declare(struct talea *t, struct talea_family *ret, uint8_t type, const char *name,
			  const char *help, const char *label)
{
	uint64_t deadline;
	struct talea_family_ *f;
	int err, settled, bad;
	bool locked;

	if (!ret)
		return -EINVAL;
	ret->family_ = &family_undeclared;
	if (!t || !name || !help || !label)
		return -EINVAL;
	deadline = deadline_of(t);
	err = attach_begin(t, deadline, &locked);
	lock_table();
	f = family_of(t->attach, type, name, help, label, &bad);
	if (f)
		f->timeout_ms = t->timeout_ms;
	t->attach->refused += bad != 0;
	unlock_table();
	if (f) {
		if (!err)
			err = bind_family(t->attach, f, deadline, t->text);
		settled = settle(t, f->other, !locked ? -ETIMEDOUT : f->bind ? 0 : -ENOTCONN, deadline);
		if (settled != -ENOMEM || f->other->target.bind)
			ret->family_ = f;
	}
	if (locked)
		unlock_conn();
	if (ret->family_ == &family_undeclared)
		return fail(t, -ENOMEM, "no memory for one more family");
	if (bad)
		return fail(t, bad, bad == -EEXIST ?
			    "the family is declared twice in this program with another type, help or "
			    "label" :
			    "name, help and label of a family have 1 to 1024 bytes");
	return fail(t, absent_is_fine(err), t->text);
}

int talea_family(struct talea *t, struct talea_family *ret, const char *name, const char *help,
		 const char *label)
{
	return family_declare(t, ret, SHM_FAMILY, name, help, label);
}

int talea_level_family(struct talea *t, struct talea_family *ret, const char *name,
		       const char *help, const char *label)
{
	return family_declare(t, ret, SHM_LEVEL_FAMILY, name, help, label);
}

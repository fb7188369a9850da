/*
 * Opening, closing and asking for the state of an attachment, and the texts of errors. Owns struct
 * talea, which is one caller's view of a shared attachment.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "read.h"

#define TIMEOUT_MS 1000

int fail(struct talea *t, int err, const char *text)
{
	shm_set32((uint32_t *)&t->err, (uint32_t)err); /* threads may share t */
	if (err && text != t->text)
		snprintf(t->text, sizeof(t->text), "%s", text);
	return err;
}

const char *talea_strerror(const struct talea *t, int err)
{
	if (t && err && err == (int)shm_read32((const uint32_t *)&t->err) && t->text[0])
		return t->text;
	switch (-err) {
	case 0:
		return "no error";
	case ECONNREFUSED:
		return "no talead answers. fix: start talead, or set TALEA_SOCKET";
	case ENOTCONN:
		return "not attached to a talead yet. fix: start talead, then call talea_status()";
	case ETIMEDOUT:
		return "talead did not answer in time. see: talea status";
	case EOPNOTSUPP:
		return "this version of talea does not have that yet";
	case ESTALE:
		return "the newest total is older than max_age_ns. see: talea status";
	case EEXIST:
		return "the name is registered with another type or help text";
	case EDQUOT:
		return "over quota: adds count in the overflow counter. fix: raise counters-max or "
		       "labels-max";
	case ENOENT:
		return "there is no such counter. see: talea list";
	case EINVAL:
		return "an argument is not valid: a NULL, a size of 0, or a name that breaks the rules";
	default:
		return strerror(-err);
	}
}

unsigned int talea_abi(void)
{
	return TALEA_ABI;
}

/* A caller built with an older header passes a smaller struct: take what it has. */
static int options_take(struct talea_options *ret, const struct talea_options *opt)
{
	*ret = (struct talea_options){ .size = sizeof(*ret) };
	if (!opt)
		return 0;
	if (opt->size < offsetof(struct talea_options, flags) + sizeof(opt->flags))
		return -EINVAL;
	memcpy(ret, opt, opt->size < sizeof(*ret) ? opt->size : sizeof(*ret));
	if (ret->flags & ~(unsigned int)(TALEA_NEED_DAEMON | TALEA_HELPER_THREAD | TALEA_READ_ONLY))
		return -EINVAL;
	return ret->timeout_ms < 0 ? -EINVAL : 0;
}

/* Attaches if it can. The result and its text are what the caller gets when the daemon is
 * absent. */
static int first_poll(struct talea *t, struct talea_status *ret)
{
	uint64_t deadline = deadline_of(t);
	int err = lock_conn(deadline);

	if (err)
		return fail(t, err, "another thread waits for talead. see: talea status");
	err = attach_poll(t->attach, deadline, t->text);
	if (ret) {
		ret->connected = t->attach->fd >= 0;
		ret->incarnation = ret->connected ? t->attach->incarnation : 0;
	}
	unlock_conn();
	return fail(t, err, t->text);
}

int talea_open(struct talea **ret, const struct talea_options *opt)
{
	struct talea_options o;
	struct talea *t;
	int err;

	if (!ret)
		return -EINVAL;
	err = options_take(&o, opt);
	if (err)
		return err;
	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	lock_init();
	t->timeout_ms = o.timeout_ms ? o.timeout_ms : TIMEOUT_MS;
	t->flags = o.flags;
	lock_table();
	t->attach = attach_get(&o);
	err = t->attach ? 0 : -errno;
	if (!err)
		t->attach->opens++;
	unlock_table();
	if (err)
		goto out_free;
	err = first_poll(t, NULL);
	if (err && (o.flags & TALEA_NEED_DAEMON))
		goto out_close;
	if (err == -ECONNREFUSED || err == -ETIMEDOUT)
		err = 0;
	if (!err && (o.flags & TALEA_HELPER_THREAD)) {
		err = helper_start(t);
		if (err)
			fail(t, err, "the helper thread cannot be made. fix: poll talea_status() "
				     "instead");
	}
	*ret = t;
	return err;

out_close:
	*ret = NULL;
	lock_table();
	t->attach->opens--;
	unlock_table();
out_free:
	free(t);
	return err;
}

void talea_close(struct talea *t)
{
	struct attach *a = t ? t->attach : NULL;
	uint64_t deadline = mono_ns() + (uint64_t)TIMEOUT_MS * NS_PER_MS;
	bool last;

	if (!t)
		return;
	helper_stop(t);
	lock_table();
	a->opens--;
	unlock_table();
	if (lock_conn(deadline) == 0) {
		lock_table();
		last = a->opens == 0;
		unlock_table();
		if (a->fd >= 0 || key_private_sum(a))
			attach_poll(a, deadline, t->text);
		if (last)
			conn_close(a);
		unlock_conn();
	}
	free(t);
}

int talea_status(struct talea *t, struct talea_status *ret)
{
	struct talea_status s = { .size = sizeof(s), .age_ns = UINT64_MAX };
	struct attach *a = t ? t->attach : NULL;
	size_t size = ret ? ret->size : 0;
	const struct region *r;

	if (!t || size < sizeof(size) || size > 4096)
		return -EINVAL;
	first_poll(t, &s);
	s.rseq = target_rseq_off(&s.rseq_why) != 0;
	/* ORDER(region) */
	r = shm_take_ptr(&a->region);
	if (r && s.connected) {
		struct fold_times times;
		uint64_t now;

		read_compacted(r, SHM_SLOT_OVERFLOW, &times);
		now = mono_ns();
		s.epoch = times.epoch;
		s.age_ns = now > times.mono_ns ? now - times.mono_ns : 0;
		if (s.rseq && (r->view.d->promotion & SHM_ROWS_OFF)) {
			s.rseq = 0;
			s.rseq_why = "talead's self-test of rseq failed on this kernel";
		}
	}
	lock_table();
	s.private_adds = key_private_sum(a);
	s.refused = a->refused;
	s.out_of_line = a->out_of_line;
	unlock_table();
	s.undeclared = target_undeclared();
	snprintf(s.namespace_name, sizeof(s.namespace_name), "%s", a->ns);
	snprintf(s.socket, sizeof(s.socket), "%s", a->socket);
	s.size = size;
	memcpy(ret, &s, size < sizeof(s) ? size : sizeof(s));
	return 0;
}

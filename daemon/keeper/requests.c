/*
 * What the worker asks of the keeper: attaching, ending and replacing probes, a window of
 * statistics, the path of a cgroup. The worker is the weaker one: every byte of a request is
 * checked here again, texts are ended, and the answer carries only the worker's own number back.
 * Owns k->cost. Called by keeper.c.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/keeper/keeper.h"
#include "shm/base/clock.h"

#define CGROUPS_PER_SECOND 10000u /* of paths looked up; more are called by their ids */

static void request_answer(struct keeper *k, uint64_t request, int err, const char *text)
{
	struct link_msg msg = { .kind = LINK_ANSWER, .nr = (uint32_t)err, .id = request };

	snprintf(msg.text, sizeof(msg.text), "%s", text);
	child_send(&k->children.worker, &msg, NULL, 0);
}

/* --- probes ----------------------------------------------------------------------------------- */

static void request_attach(struct keeper *k, const struct link_msg *msg)
{
	static struct probe_spec spec;
	char why[256], text[LINK_TEXT_MAX] = "";
	int err;

	memcpy(&spec, &msg->spec, sizeof(spec));
	err = spec_check(&spec, why, sizeof(why));
	/* An object runs what is in it: only the configuration may name one. */
	if (!err && spec.event == SPEC_OBJECT) {
		err = -EPERM;
		snprintf(why, sizeof(why), OBJECT_NAMED);
	}
	if (err)
		snprintf(text, sizeof(text), "%s", why);
	else
		err = probes_attach(k, &spec, text);
	request_answer(k, msg->id, err, text);
}

/* A name that does not end in the message is no probe's. */
static void request_named(struct keeper *k, const struct link_msg *msg)
{
	char name[sizeof(((struct probe_spec *)NULL)->name)], text[LINK_TEXT_MAX] = "";
	int err;

	if (!memchr(msg->text, '\0', sizeof(name))) {
		request_answer(k, msg->id, -ENOENT, "there is no probe of so long a name");
		return;
	}
	strcpy(name, msg->text);
	err = msg->kind == LINK_DETACH ? probes_detach(k, name, text)
				       : probes_replace(k, name, text);
	request_answer(k, msg->id, err, text);
}

/* --- cost ------------------------------------------------------------------------------------- */

void cost_window_init(struct cost_window *w)
{
	w->fd = -1;
	loop_timer_set(&w->end, NEVER);
}

void requests_init(struct keeper *k)
{
	loop_timer_add(&k->loop, &k->cost.end, NULL, NULL);
	cost_window_init(&k->cost);
}

static void request_cost(struct keeper *k, const struct link_msg *msg)
{
	struct cost_window *w = &k->cost;
	char text[LINK_TEXT_MAX];
	uint32_t ms = msg->nr < 1 ? 1 : msg->nr;
	int fd;

	if (ms > LINK_COST_MS_MAX)
		ms = LINK_COST_MS_MAX;
	if (w->fd >= 0) {
		request_answer(k, msg->id, -EBUSY, "somebody else measures just now. fix: try "
						   "again in some seconds");
		return;
	}
	fd = cost_begin(k->probes.live, w->before);
	if (fd < 0) {
		snprintf(text, sizeof(text), "the kernel gives no statistics of programs: %s%s",
			 strerror(-fd), fd == -EPERM ? ". fix: run talead as root: CAP_SYS_ADMIN is "
						       "what they take" : "");
		request_answer(k, msg->id, fd, text);
		return;
	}
	w->fd = fd;
	w->began_ns = mono_ns();
	loop_timer_set(&w->end, w->began_ns + ms * NS_PER_MS);
	w->request = msg->id;
	w->worker = k->children.worker.pid;
}

void request_cost_due(struct keeper *k)
{
	struct link_msg msg = { .kind = LINK_COST };
	static struct probe_cost cost[PROBES_MAX];
	struct cost_window *w = &k->cost;
	uint64_t now = mono_ns();
	int fd;

	/* The worker that asked is gone: nobody waits, and statistics cost every program of this
	 * host. */
	if (w->fd < 0 || (now < w->end.due_ns && k->children.worker.pid == w->worker))
		return;
	cost_end(w->fd, k->probes.live, w->before, cost);
	w->fd = -1;
	loop_timer_set(&w->end, NEVER);
	if (k->children.worker.pid != w->worker)
		return;
	fd = link_pack(cost, sizeof(cost));
	if (fd < 0) {
		request_answer(k, w->request, fd, "no memory for the figures");
		return;
	}
	msg.nr = (uint32_t)((now - w->began_ns) / 1000000);
	child_send(&k->children.worker, &msg, &fd, 1);
	close(fd);
	request_answer(k, w->request, 0, "");
}

/* --- cgroups ---------------------------------------------------------------------------------- */

static void request_cgroup(struct keeper *k, const struct link_msg *msg)
{
	static uint64_t second_ns;
	static uint32_t nr;
	struct link_msg back = { .kind = LINK_CGROUP, .id = msg->id };
	uint64_t now = mono_ns();

	if (now - second_ns >= NS_PER_S) {
		second_ns = now;
		nr = 0;
	}
	if (nr++ >= CGROUPS_PER_SECOND)
		return;
	if (cgroup_path(msg->id, back.text, sizeof(back.text)))
		back.text[0] = '\0';
	child_send(&k->children.worker, &back, NULL, 0);
}

void request_take(struct keeper *k, const struct link_msg *msg)
{
	switch (msg->kind) {
	case LINK_ATTACH:
		request_attach(k, msg);
		break;
	case LINK_DETACH:
	case LINK_REPLACE:
		request_named(k, msg);
		break;
	case LINK_COST:
		request_cost(k, msg);
		break;
	case LINK_CGROUP:
		request_cgroup(k, msg);
		break;
	}
}

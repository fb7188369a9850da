/*
 * Which probes there are: those of the pack that the configuration names, its [probe NAME], and
 * those of commands, which only the pins remember. Owns k->probes. Makes the lists for reconcile.c
 * and carries its actions out, and what requests.c asks for; sends each change to standby and
 * worker, which are born with the rest. How a probe is attached is keeper/probe's.
 *
 * What the configuration no longer asks for ends, with its pins, at SIGHUP or at the next start. A
 * probe that it asks for in another form counts as before: another form would begin its counts
 * again, and that takes a request (probes_replace).
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/keeper/keeper.h"
#include "daemon/keeper/reconcile.h"
#include "daemon/link/log.h"
#include "shm/base/array.h"
#include "shm/base/clock.h"

/* --- each second ------------------------------------------------------------------------------ */

/* Keys whose owner is gone, and events that were missed. */
static void probes_second(void *owner)
{
	struct keeper *k = owner;
	bool any = false;

	for (uint32_t id = 0; id < PROBES_MAX; id++) {
		struct probe_live *live = &k->probes.live[id];
		uint64_t missed;

		if (live->state != WIRE_PROBE_ATTACHED)
			continue;
		any = true;
		probe_reap(id, live);
		if (k->children.worker.link < 0)
			continue;
		missed = probe_missed(live);
		if (missed != k->probes.missed[id] &&
		    !link_send_plain(k->children.worker.link, LINK_MISSED, id, missed))
			k->probes.missed[id] = missed;
	}
	if (any)
		loop_timer_after(&k->probes.tick, NS_PER_S);
}

/* --- the pins --------------------------------------------------------------------------------- */

void probes_init(struct keeper *k)
{
	for (uint32_t id = 0; id < PROBES_MAX; id++)
		probe_live_init(id, &k->probes.live[id]);
	k->probes.pins = (struct pins){ .fd = -1 };
	loop_timer_add(&k->loop, &k->probes.tick, probes_second, k);
}

/* Nothing is mounted before there is something to pin. */
static void pins_need(struct keeper *k)
{
	if (k->probes.pins.fd >= 0)
		return;
	if (k->config.bpf_auto && k->config.pin_auto)
		pins_open(&k->probes.pins, k->config.state);
	else
		snprintf(k->probes.pins.why, sizeof(k->probes.pins.why), "pin = no");
}

/* Is there a folder for pins from an earlier time? */
static bool has_pins(const struct keeper *k)
{
	return faccessat(k->state.fd, "bpf", F_OK, 0) == 0;
}

/* --- places ----------------------------------------------------------------------------------- */

static struct probe_live *probe_find(struct keeper *k, const char *name, uint32_t *ret_place)
{
	*ret_place = PROBES_MAX;
	for (uint32_t place = 0; place < PROBES_MAX; place++)
		if (k->probes.live[place].origin &&
		    !strcmp(probe_name(&k->probes.live[place]), name)) {
			*ret_place = place;
			return &k->probes.live[place];
		}
	return NULL;
}

/* Its place, where it has one; else its own in the pack, or a free one. 0 or -ENOSPC. */
static int place_for(struct keeper *k, const char *name, uint32_t *ret_place)
{
	const struct probe_type *type = pack_find(name);

	if (probe_find(k, name, ret_place))
		return 0;
	*ret_place = type ? (uint32_t)(type - probe_types) : PROBE_NR;
	while (!type && *ret_place < PROBES_MAX && k->probes.live[*ret_place].origin)
		++*ret_place;
	return *ret_place < PROBES_MAX ? 0 : -ENOSPC;
}

static const struct probe_spec *config_spec(const struct keeper *k, const char *name)
{
	for (uint32_t i = 0; i < k->config.specs_nr; i++)
		if (!strcmp(k->config.specs[i].name, name))
			return &k->config.specs[i];
	return NULL;
}

/* Does the configuration ask for it? */
static bool is_configured(const struct keeper *k, const char *name)
{
	const struct probe_type *type = pack_find(name);

	return type ? k->config.probes >> (type - probe_types) & 1 : config_spec(k, name) != NULL;
}

/* --- sending ---------------------------------------------------------------------------------- */

static void probe_send(struct keeper *k, uint32_t id)
{
	struct link_msg msg = { .kind = LINK_PROBE, .nr = id };
	static struct link_probe message;
	int fds[1 + PROBE_FDS_MAX];

	message.live = k->probes.live[id];
	if (id < PROBE_NR)
		probe_names_get(id, &message.names);
	else
		message.names.bytes = 0;
	fds[0] = link_pack(&message, sizeof(message));
	if (fds[0] < 0)
		goto out_killed;
	child_send(&k->children.standby, &msg, fds, 1 + probe_fds_get(&message.live, fds + 1));
	close(fds[0]);
	probe_for_worker(&message.live);
	fds[0] = link_pack(&message, sizeof(message));
	if (fds[0] < 0)
		goto out_killed;
	child_send(&k->children.worker, &msg, fds, 1 + probe_fds_get(&message.live, fds + 1));
	close(fds[0]);
	return;

out_killed: /* their successors are born with it */
	child_kill(&k->children.standby);
	child_kill(&k->children.worker);
}

int probes_receive(struct keeper *k, const struct link_msg *msg, const int *fds, unsigned int fds_nr)
{
	static struct link_probe message;
	struct probe_live *live;

	if (msg->nr >= PROBES_MAX || !fds_nr || link_unpack(fds[0], &message, sizeof(message)) ||
	    probe_fds_put(&message.live, fds + 1, fds_nr - 1)) {
		for (unsigned int i = 0; i < fds_nr; i++)
			close(fds[i]);
		return -EPROTO;
	}
	close(fds[0]);
	live = &k->probes.live[msg->nr];
	probe_close(live);
	*live = message.live;
	if (msg->nr < PROBE_NR)
		probe_names_set(msg->nr, &message.names);
	if (live->state == WIRE_PROBE_ATTACHED)
		loop_timer_set(&k->probes.tick, 0);
	return 0;
}

/* --- attaching and ending --------------------------------------------------------------------- */

/* One line for all that failed alike: without rights that is every one. */
static void log_failed(const struct keeper *k, bool *failed)
{
	char names[1024];

	for (uint32_t i = 0; i < PROBES_MAX; i++) {
		const struct probe_live *live = &k->probes.live[i];
		uint32_t alike = 0;
		size_t used = 0;

		for (uint32_t j = i; failed[i] && j < PROBES_MAX; j++) {
			const struct probe_live *other = &k->probes.live[j];

			if (!failed[j] || strcmp(other->reason, live->reason) ||
			    strcmp(other->fix, live->fix))
				continue;
			if (used < sizeof(names))
				used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s",
							 alike++ ? ", " : "", probe_name(other));
			failed[j] = j == i;
		}
		if (alike)
			log_line("probe%s %s not loaded: %s%s%s", alike > 1 ? "s" : "", names,
				 live->reason, live->fix[0] ? ". fix: " : "", live->fix);
	}
}

/* Whoever wrote an object learns from the log that another one counts now. */
static void log_replaced(const struct probe_live *live)
{
	const char *name = probe_name(live);

	if (live->replaced == PROBE_REPLACED && live->spec.event == SPEC_OBJECT)
		log_line("probe %s: its object has changed: the new programs took the places of the "
			 "old ones between two events, and its counts continue without a gap", name);
	else if (live->replaced == PROBE_REPLACED_GAP)
		log_line("probe %s: %s changed: the old programs ended and the new ones began, and its "
			 "counts continue. events of the %.3f ms between are not counted. it has none "
			 "when both are of the same events", name,
			 live->spec.event == SPEC_OBJECT ? "its object has" : "its programs have",
			 (double)live->gap_ns / 1e6);
	else if (live->replaced == PROBE_REPLACED_GAP_KILLED)
		log_line("probe %s: its programs began again, and its counts continue. events since a "
			 "talead was killed while it replaced them are not counted", name);
}

/* Attaches into its place, and sends that. What was there has no descriptor. */
static int place_attach(struct keeper *k, uint32_t id, const struct probe_spec *spec, uint32_t origin,
		     bool is_replacing)
{
	struct probe_desired desired = { .spec = spec, .origin = origin,
					 .is_replacing = is_replacing };
	struct probe_live *live = &k->probes.live[id];
	int err;

	pins_need(k);
	err = probe_attach(&k->probes.pins, &desired, live);
	k->probes.missed[id] = 0;
	if (!err) {
		const char *why_not = probe_reap_why_not(live);

		if (why_not)
			log_line("probe %s: keys whose owner is gone stay: %s. when all its room is "
				 "taken, new ones count in `other`", probe_name(live), why_not);
		log_replaced(live);
		loop_timer_after(&k->probes.tick, 0);
	}
	probe_send(k, id);
	return err;
}

static void place_free(struct keeper *k, uint32_t id)
{
	probe_live_init(id, &k->probes.live[id]);
	probe_send(k, id);
}

/* One that failed because another layout is pinned has that pinned still. */
static void place_end(struct keeper *k, uint32_t id)
{
	pins_remove(&k->probes.pins, probe_name(&k->probes.live[id]));
	probe_end(&k->probes.pins, &k->probes.live[id]);
	place_free(k, id);
}

/* --- reconciling ------------------------------------------------------------------------------ */

struct pinned_list {
	const struct keeper *k;
	struct reconcile_pinned *list;
	uint32_t nr, max;
	int err; /* the list is not whole: what is not in it may be pinned all the same */
};

static void pinned_add(const struct pinned_probe *seen, void *arg)
{
	struct pinned_list *l = arg;
	struct reconcile_pinned *p;

	if (!seen->spec) {
		/* One that is desired fails with the same reason when it is attached. */
		if (!is_configured(l->k, seen->name))
			log_line("probe %s was pinned by another version of talead: it counts, and is "
				 "not shown. fix: talead --unpin", seen->name);
		return;
	}
	if (!l->err)
		l->err = array_reserve(&l->list, l->nr + 1, &l->max);
	if (l->err)
		return;
	p = &l->list[l->nr++];
	*p = (struct reconcile_pinned){ .origin = seen->origin, .spec = *seen->spec,
					.since_real_ns = seen->since_real_ns };
	snprintf(p->name, sizeof(p->name), "%s", seen->name);
}

static uint32_t desired_list(struct keeper *k, struct reconcile_desired *ret)
{
	uint32_t nr = 0;

	for (uint32_t id = 0; id < PROBE_NR; id++)
		if (k->config.probes >> id & 1)
			ret[nr++] = (struct reconcile_desired){ &k->probes.live[id].spec,
								PROBE_OF_PACK };
	for (uint32_t i = 0; i < k->config.specs_nr; i++)
		ret[nr++] = (struct reconcile_desired){ &k->config.specs[i], PROBE_OF_CONFIG };
	return nr;
}

static void apply_attach(struct keeper *k, const struct reconcile_action *a, bool *failed)
{
	uint32_t place;

	if (place_for(k, a->name, &place))
		log_line("probe %s: no room, there are %u. fix: talea detach one", a->name,
			 PROBES_MAX);
	else
		failed[place] = place_attach(k, place, a->spec, a->origin, false) != 0;
}

static void apply(struct keeper *k, const struct reconcile_action *a, bool *failed)
{
	const struct probe_live *live = a->place < PROBES_MAX ? &k->probes.live[a->place] : NULL;
	char why[256];

	switch (a->what) {
	case RECONCILE_GONE:
		place_end(k, a->place);
		break;
	case RECONCILE_RENEWED: /* what is pinned is adopted by an action behind this one */
		probe_close(&k->probes.live[a->place]);
		place_free(k, a->place);
		break;
	case RECONCILE_END:
		log_line("probe %s ends: the configuration no longer asks for it", probe_name(live));
		place_end(k, a->place);
		break;
	case RECONCILE_UNPIN:
		log_line("probe %s ends: the configuration no longer asks for it", a->name);
		pins_remove(&k->probes.pins, a->name);
		break;
	case RECONCILE_UNUSABLE:
		snprintf(why, sizeof(why), OBJECT_NAMED);
		if (a->spec->event != SPEC_OBJECT)
			spec_check(a->spec, why, sizeof(why));
		log_line("probe %s is pinned and cannot be adopted: %s. fix: talead --unpin", a->name,
			 why);
		break;
	case RECONCILE_ATTACH:
		apply_attach(k, a, failed);
		break;
	case RECONCILE_NAME_TAKEN:
		log_line("[probe %s] has the name of a probe that talead brings along: it is not "
			 "loaded. fix: give it another name", a->name);
		break;
	case RECONCILE_OTHER_LABELS:
		log_line("probe %s still counts \"%s\": the labels of %s stay while this talead runs. "
			 "fix: give [probe %s] another counter =", a->name, live->spec.text,
			 a->spec->counter, a->name);
		break;
	case RECONCILE_OTHER_FORM:
		log_line("probe %s still counts \"%s\". fix: talea attach --replace %s, which begins "
			 "its counts again", a->name, live->spec.text, a->name);
		break;
	}
}

/* pinned NULL: the pins were not read. */
static void probes_reconcile(struct keeper *k, const struct pinned_list *pinned)
{
	struct reconcile_desired desired[PROBE_NR + CONFIG_SPECS_MAX];
	struct reconcile_lists lists = {
		.desired = desired, .desired_nr = desired_list(k, desired), .live = k->probes.live,
		.pinned = pinned ? pinned->list : NULL, .pinned_nr = pinned ? pinned->nr : 0,
	};
	struct reconcile_action *actions = calloc(reconcile_max(&lists), sizeof(*actions));
	bool failed[PROBES_MAX] = { false };
	uint32_t nr;

	if (!actions) {
		log_line("no memory to attach or end probes: they stay as they are. fix: free some, "
			 "and kill -HUP %d", k->self.pid);
		return;
	}
	nr = reconcile(&lists, actions);
	for (uint32_t i = 0; i < nr; i++)
		apply(k, &actions[i], failed);
	free(actions);
	log_failed(k, failed);
}

static void reconcile_with_pins(struct keeper *k)
{
	struct pinned_list pinned = { .k = k };

	pins_need(k);
	/* Not NULL: that nothing is pinned says something, too. */
	if (k->probes.pins.fd >= 0) {
		pinned.err = array_reserve(&pinned.list, 1, &pinned.max);
		pins_each(&k->probes.pins, pinned_add, &pinned);
	}
	if (pinned.err)
		log_line("no memory to read what is pinned: probes of commands that are not attached "
			 "count, and are not shown. fix: free some, and restart talead");
	probes_reconcile(k, pinned.err ? NULL : &pinned);
	free(pinned.list);
}

void probes_start(struct keeper *k)
{
	bool may_pin = k->config.bpf_auto && k->config.pin_auto;
	int nr;

	if (may_pin && has_pins(k)) {
		reconcile_with_pins(k);
		return;
	}
	nr = has_pins(k) ? pins_remove_all(k->config.state) : 0;
	if (nr > 0)
		log_line("%d probe%s that a former talead had pinned end%s: %s", nr, nr > 1 ? "s" : "",
			 nr > 1 ? "" : "s", k->config.bpf_auto ? "pin = no" : "bpf = off");
	probes_reconcile(k, NULL);
}

void probes_reload(struct keeper *k)
{
	probes_reconcile(k, NULL);
}

void probes_takeover(struct keeper *k)
{
	if (k->probes.pins.fd < 0 && !has_pins(k))
		return;
	pins_close(&k->probes.pins);
	pins_need(k);
	if (k->probes.pins.fd >= 0)
		reconcile_with_pins(k);
}

/* --- on request ------------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 4)))
static int refused(char *text, int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(text, LINK_TEXT_MAX, format, args);
	va_end(args);
	return err;
}

static int refused_attach(const struct keeper *k, uint32_t id, int err, char *text)
{
	const struct probe_live *live = &k->probes.live[id];

	return refused(text, err, "probe %s not loaded: %s%s%s", probe_name(live), live->reason,
		      live->fix[0] ? ". fix: " : "", live->fix);
}

/* Nobody could distinguish two probes that feed one counter. */
static const char *feeder(const struct keeper *k, const char *counter)
{
	for (uint32_t id = 0; id < PROBES_MAX; id++) {
		const struct probe_live *live = &k->probes.live[id];

		for (uint32_t i = 0; live->state == WIRE_PROBE_ATTACHED && i < live->sources_nr; i++)
			if (!strcmp(live->sources[i].def.name, counter))
				return probe_name(live);
	}
	return NULL;
}

int probes_attach(struct keeper *k, const struct probe_spec *spec, char *text)
{
	uint32_t id;
	struct probe_live *live = probe_find(k, spec->name, &id);
	const char *other;
	int err;

	text[0] = '\0';
	if (!k->config.bpf_auto)
		return refused(text, -EPERM, "the configuration has bpf = off. fix: take that out of "
					    "[daemon], and restart talead");
	if (live && live->state == WIRE_PROBE_ATTACHED &&
	    spec_equals(spec, &live->spec))
		return 0;
	if (pack_find(spec->name) || (live && (live->state == WIRE_PROBE_ATTACHED ||
						   live->origin == PROBE_OF_CONFIG)))
		return refused(text, -EEXIST, "there is another probe called %s. fix: talea detach "
					     "%s, or give this one another name: NAME_total=EVENT",
			      spec->name, spec->name);
	other = feeder(k, spec->counter);
	if (other)
		return refused(text, -EEXIST, "%s is counted by probe %s. fix: give this one another "
					      "name: NAME_total=EVENT", spec->counter, other);
	if (place_for(k, spec->name, &id))
		return refused(text, -ENOSPC, "no room: there are %u probes. fix: talea detach one",
			      PROBES_MAX);
	err = place_attach(k, id, spec, PROBE_OF_COMMAND, false);
	if (!err)
		return 0;
	refused_attach(k, id, err, text);
	/* Only one that can be replaced stays in the list. */
	if (err != -EEXIST)
		place_free(k, id);
	return err;
}

static int refused_name(const char *name, char *text)
{
	return refused(text, -ENOENT, "there is no probe %s. fix: talea probes lists them", name);
}

int probes_detach(struct keeper *k, const char *name, char *text)
{
	uint32_t id;
	struct probe_live *live = probe_find(k, name, &id);

	text[0] = '\0';
	if (!live)
		return refused_name(name, text);
	if (is_configured(k, name))
		return refused(text, -EBUSY, "probe %s is asked for by the configuration (%s). fix: "
					    "take it out there, and kill -HUP %d", name,
			      k->config.file, k->self.pid);
	place_end(k, id);
	return 0;
}

int probes_replace(struct keeper *k, const char *name, char *text)
{
	static struct probe_spec spec;
	static struct probe_live old;
	const struct probe_spec *configured = config_spec(k, name);
	uint32_t id, origin;
	struct probe_live *live = probe_find(k, name, &id);
	bool is_changed;
	int err;

	text[0] = '\0';
	if (!live)
		return refused_name(name, text);
	is_changed = configured && !spec_equals(configured, &live->spec);
	if (live->state == WIRE_PROBE_ATTACHED && !is_changed)
		return refused(text, -EALREADY, "probe %s counts what is asked for: there is nothing "
						"to replace", name);
	if (is_changed && reconcile_has_other_labels(configured, live))
		return refused(text, -EEXIST, "the labels of %s stay while this talead runs, and it is "
					     "counted by others. fix: give [probe %s] another counter "
					     "=, and kill -HUP %d; or restart talead",
			      configured->counter, name, k->self.pid);
	spec = configured ? *configured : live->spec;
	origin = configured ? PROBE_OF_CONFIG : live->origin;
	old = *live;
	err = place_attach(k, id, &spec, origin, true);
	if (!err) {
		probe_close(&old);
		return 0;
	}
	refused_attach(k, id, err, text);
	/* What counted before still does. */
	if (old.state == WIRE_PROBE_ATTACHED) {
		*live = old;
		probe_send(k, id);
	}
	return err;
}

/*
 * Which probes there are to be: those of the table that the configuration names, its [probe NAME],
 * and those of commands, which only the pins remember. Owns k->probes and k->probes.pins; brings
 * probes to life and ends them, and tells each change to standby and worker, which are born with
 * the rest. How one is attached is daemon/probe's.
 *
 * What the configuration no longer asks for ends, with its pins, at SIGHUP or at the next start.
 * One that it asks for in another form counts on as it did: another form would begin its counts
 * again, and that takes a request (wanted_replace).
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/keeper/keeper.h"
#include "daemon/link/log.h"
#include "shm/base/clock.h"

/* --- each second ------------------------------------------------------------------------------ */

/* Keys whose owner is gone, and events that were missed. */
static void wanted_tick(void *owner)
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

void wanted_init(struct keeper *k)
{
	for (uint32_t id = 0; id < PROBES_MAX; id++)
		probe_live_init(id, &k->probes.live[id]);
	k->probes.pins = (struct pins){ .fd = -1 };
	loop_timer_add(&k->loop, &k->probes.tick, wanted_tick, k);
}

/* Nothing is mounted before there is something to pin. */
static void pins_ensure(struct keeper *k)
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

/* --- looking ---------------------------------------------------------------------------------- */

static struct probe_live *find(struct keeper *k, const char *name, uint32_t *ret_id)
{
	*ret_id = PROBES_MAX;
	for (uint32_t id = 0; id < PROBES_MAX; id++)
		if (k->probes.live[id].origin && !strcmp(probe_name(&k->probes.live[id]), name)) {
			*ret_id = id;
			return &k->probes.live[id];
		}
	return NULL;
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

static int free_place(const struct keeper *k, uint32_t *ret_id)
{
	for (uint32_t id = PROBE_NR; id < PROBES_MAX; id++)
		if (!k->probes.live[id].origin) {
			*ret_id = id;
			return 0;
		}
	return -ENOSPC;
}

/* --- telling ---------------------------------------------------------------------------------- */

static void tell(struct keeper *k, uint32_t id)
{
	struct link_msg msg = { .kind = LINK_PROBE, .nr = id };
	static struct link_probe told;
	int fds[1 + PROBE_FDS_MAX];

	told.live = k->probes.live[id];
	if (id < PROBE_NR)
		probe_names_get(id, &told.names);
	else
		told.names.bytes = 0;
	fds[0] = link_pack(&told, sizeof(told));
	if (fds[0] < 0)
		goto out_killed;
	child_send(&k->children.standby, &msg, fds, 1 + probe_fds_get(&told.live, fds + 1));
	close(fds[0]);
	probe_for_worker(&told.live);
	fds[0] = link_pack(&told, sizeof(told));
	if (fds[0] < 0)
		goto out_killed;
	child_send(&k->children.worker, &msg, fds, 1 + probe_fds_get(&told.live, fds + 1));
	close(fds[0]);
	return;

out_killed: /* their successors are born with it */
	child_kill(&k->children.standby);
	child_kill(&k->children.worker);
}

int wanted_heard(struct keeper *k, const struct link_msg *msg, const int *fds, unsigned int fds_nr)
{
	static struct link_probe told;
	struct probe_live *live;

	if (msg->nr >= PROBES_MAX || !fds_nr || link_unpack(fds[0], &told, sizeof(told)) ||
	    probe_fds_put(&told.live, fds + 1, fds_nr - 1)) {
		for (unsigned int i = 0; i < fds_nr; i++)
			close(fds[i]);
		return -EPROTO;
	}
	close(fds[0]);
	live = &k->probes.live[msg->nr];
	probe_close(live);
	*live = told.live;
	if (msg->nr < PROBE_NR)
		probe_names_set(msg->nr, &told.names);
	if (live->state == WIRE_PROBE_ATTACHED)
		loop_timer_set(&k->probes.tick, 0);
	return 0;
}

/* --- bringing to life ------------------------------------------------------------------------- */

/* One line for all that failed alike: without rights that is every one. */
static void say_failed(const struct keeper *k, bool *failed)
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

/* A user's object is somebody's work: that another one counts now is not for him to find out. */
static void say_replaced(const struct probe_live *live)
{
	const char *name = probe_name(live);

	if (live->replaced == PROBE_REPLACED && live->spec.event == SPEC_OBJECT)
		log_line("probe %s: its object has changed: the new programs took the places of the "
			 "old ones between two events, and its counts go on without a gap", name);
	else if (live->replaced == PROBE_REPLACED_GAP)
		log_line("probe %s: its object has changed: the old programs ended and the new ones "
			 "began, and its counts go on. events of the %.3f ms between are not counted. "
			 "it has none when both are of the same events", name,
			 (double)live->gap_ns / 1e6);
	else if (live->replaced == PROBE_REPLACED_GAP_KILLED)
		log_line("probe %s: its programs began again, and its counts go on. events since a "
			 "talead was killed while it replaced them are not counted", name);
}

/* Attaches into its place, and tells. What was there has no descriptor. */
static int attach_at(struct keeper *k, uint32_t id, const struct probe_spec *spec, uint32_t origin,
		     bool is_replacing)
{
	struct probe_desired desired = { .spec = spec, .origin = origin,
					 .is_replacing = is_replacing };
	struct probe_live *live = &k->probes.live[id];
	int err;

	pins_ensure(k);
	err = probe_attach(&k->probes.pins, &desired, live);
	k->probes.missed[id] = 0;
	if (!err) {
		const char *why_not = probe_reap_why_not(live);

		if (why_not)
			log_line("probe %s: keys whose owner is gone stay: %s. when all its room is "
				 "taken, new ones count in `other`", probe_name(live), why_not);
		say_replaced(live);
		loop_timer_after(&k->probes.tick, 0);
	}
	tell(k, id);
	return err;
}

static void free_at(struct keeper *k, uint32_t id)
{
	probe_live_init(id, &k->probes.live[id]);
	tell(k, id);
}

/* One that failed because another layout is pinned has that pinned still. */
static void end_at(struct keeper *k, uint32_t id)
{
	pins_remove(&k->probes.pins, probe_name(&k->probes.live[id]));
	probe_end(&k->probes.pins, &k->probes.live[id]);
	free_at(k, id);
}

static bool has_label(const struct talea_counter_def *def, const char *label)
{
	for (uint32_t i = 0; i < def->keys_nr; i++)
		if (!strcmp(def->keys[i].label, label))
			return true;
	return false;
}

/*
 * A counter's labels stay while talead runs (I13). One probe in the place of another that counted
 * in the same counter by other keys would count, and be shown nowhere.
 */
static bool is_by_others(const struct probe_spec *spec, const struct probe_live *live)
{
	struct talea_counter_def now, was;
	uint32_t same = 0;

	if (live->state != WIRE_PROBE_ATTACHED || strcmp(spec->counter, live->spec.counter))
		return false;
	spec_counter(spec, &now);
	spec_counter(&live->spec, &was);
	for (uint32_t i = 0; i < now.keys_nr; i++)
		same += has_label(&was, now.keys[i].label);
	return now.keys_nr != was.keys_nr || same != now.keys_nr;
}

static void ensure_spec(struct keeper *k, const struct probe_spec *spec, uint32_t origin,
			bool *failed)
{
	uint32_t id;
	struct probe_live *live = find(k, spec->name, &id);

	if (pack_find(spec->name)) {
		log_line("[probe %s] has the name of a probe that talead brings along: it is not "
			 "loaded. fix: give it another name", spec->name);
		return;
	}
	if (live && live->state == WIRE_PROBE_ATTACHED) {
		if (is_by_others(spec, live))
			log_line("probe %s goes on counting what it did, \"%s\": the labels of %s stay "
				 "while this talead runs. fix: give [probe %s] another counter =",
				 spec->name, live->spec.text, spec->counter, spec->name);
		else if (!spec_equals(spec, &live->spec))
			log_line("probe %s goes on counting what it did, \"%s\". fix: talea attach "
				 "--replace %s, which begins its counts again", spec->name,
				 live->spec.text, spec->name);
		return;
	}
	if (!live && free_place(k, &id)) {
		log_line("probe %s: no room, there are %u. fix: talea detach one", spec->name,
			 PROBES_MAX);
		return;
	}
	failed[id] = attach_at(k, id, spec, origin, false) != 0;
}

/* --- what was pinned before ------------------------------------------------------------------- */

struct pinned {
	struct pinned *next;
	uint32_t origin;
	char name[sizeof(((struct probe_spec *)NULL)->name)];
	struct probe_spec spec;
};

static void note_pinned(const struct pinned_probe *seen, void *arg)
{
	struct pinned **list = arg, *p = calloc(1, sizeof(*p));

	if (!p)
		return;
	p->origin = seen->origin;
	snprintf(p->name, sizeof(p->name), "%s", seen->name);
	p->spec = *seen->spec;
	p->next = *list;
	*list = p;
}

/* Those of commands are gone on with; those that the configuration asked for and no longer does
 * end. */
static void ensure_pinned(struct keeper *k, bool *failed)
{
	struct pinned *list = NULL, *p;
	char why[256];

	pins_each(&k->probes.pins, note_pinned, &list);
	while ((p = list)) {
		list = p->next;
		if (is_configured(k, p->name)) {
			/* attached with the rest of the configuration */
		} else if (p->origin != PROBE_OF_COMMAND) {
			log_line("probe %s ends: the configuration no longer asks for it", p->name);
			pins_remove(&k->probes.pins, p->name);
		} else if (p->spec.event == SPEC_OBJECT || spec_check(&p->spec, why, sizeof(why))) {
			log_line("probe %s is pinned and not gone on with: %s. fix: talead --unpin",
				 p->name, p->spec.event == SPEC_OBJECT ? OBJECT_NAMED : why);
		} else {
			ensure_spec(k, &p->spec, PROBE_OF_COMMAND, failed);
		}
		free(p);
	}
}

static void end_unconfigured(struct keeper *k)
{
	for (uint32_t id = 0; id < PROBES_MAX; id++) {
		struct probe_live *live = &k->probes.live[id];
		const char *name = probe_name(live);

		if (!live->origin || live->origin == PROBE_OF_COMMAND || is_configured(k, name))
			continue;
		log_line("probe %s ends: the configuration no longer asks for it", name);
		end_at(k, id);
	}
}

static void ensure_configured(struct keeper *k, bool *failed)
{
	for (uint32_t id = 0; id < PROBE_NR; id++)
		if (k->config.probes >> id & 1 && k->probes.live[id].state != WIRE_PROBE_ATTACHED)
			failed[id] = attach_at(k, id, &k->probes.live[id].spec, PROBE_OF_PACK,
					       false) != 0;
	for (uint32_t i = 0; i < k->config.specs_nr; i++)
		ensure_spec(k, &k->config.specs[i], PROBE_OF_CONFIG, failed);
}

void wanted_ensure(struct keeper *k, bool is_start)
{
	bool failed[PROBES_MAX] = { false };

	end_unconfigured(k);
	if (is_start && has_pins(k) && !(k->config.bpf_auto && k->config.pin_auto)) {
		int nr = pins_remove_all(k->config.state);

		if (nr > 0)
			log_line("%d probe%s that a former talead had pinned end%s: %s", nr,
				 nr > 1 ? "s" : "", nr > 1 ? "" : "s",
				 k->config.bpf_auto ? "pin = no" : "bpf = off");
	} else if (is_start && has_pins(k)) {
		pins_ensure(k);
		ensure_pinned(k, failed);
	}
	ensure_configured(k, failed);
	say_failed(k, failed);
}

struct seen {
	struct keeper *k;
	uint64_t since_real_ns[PROBES_MAX]; /* 0: not pinned */
};

static void note_seen(const struct pinned_probe *p, void *arg)
{
	struct seen *s = arg;
	uint32_t id;

	if (find(s->k, p->name, &id))
		s->since_real_ns[id] = p->since_real_ns;
}

/*
 * The pins are the truth: the former keeper unpins before it tells, and pins before it tells. What
 * it did not come to tell of, and what it did not come to, is done here.
 */
void wanted_take_over(struct keeper *k)
{
	struct seen seen = { .k = k };
	bool failed[PROBES_MAX] = { false };

	if (k->probes.pins.fd < 0 && !has_pins(k))
		return;
	pins_close(&k->probes.pins);
	pins_ensure(k);
	if (k->probes.pins.fd < 0)
		return;
	pins_each(&k->probes.pins, note_seen, &seen);
	for (uint32_t id = 0; id < PROBES_MAX; id++) {
		if (!k->probes.live[id].is_pinned ||
		    seen.since_real_ns[id] == k->probes.live[id].since_real_ns)
			continue;
		if (!seen.since_real_ns[id]) {
			end_at(k, id);
			continue;
		}
		/* Replaced: this one has ended, and the other is there to be gone on with. */
		probe_close(&k->probes.live[id]);
		free_at(k, id);
	}
	end_unconfigured(k);
	ensure_pinned(k, failed);
	ensure_configured(k, failed);
	say_failed(k, failed);
}

/* --- on request ------------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 4)))
static int answer(char *text, int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(text, LINK_TEXT_MAX, format, args);
	va_end(args);
	return err;
}

static int answer_failed(const struct keeper *k, uint32_t id, int err, char *text)
{
	const struct probe_live *live = &k->probes.live[id];

	return answer(text, err, "probe %s not loaded: %s%s%s", probe_name(live), live->reason,
		      live->fix[0] ? ". fix: " : "", live->fix);
}

/* Two probes that feed one counter would be told apart by nobody. */
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

int wanted_attach(struct keeper *k, const struct probe_spec *spec, char *text)
{
	uint32_t id;
	struct probe_live *live = find(k, spec->name, &id);
	const char *other;
	int err;

	text[0] = '\0';
	if (!k->config.bpf_auto)
		return answer(text, -EPERM, "the configuration has bpf = off. fix: take that out of "
					    "[daemon], and restart talead");
	if (live && live->state == WIRE_PROBE_ATTACHED &&
	    spec_equals(spec, &live->spec))
		return 0;
	if (pack_find(spec->name) || (live && (live->state == WIRE_PROBE_ATTACHED ||
						   live->origin == PROBE_OF_CONFIG)))
		return answer(text, -EEXIST, "there is another probe called %s. fix: talea detach "
					     "%s, or give this one another name: NAME_total=EVENT",
			      spec->name, spec->name);
	other = feeder(k, spec->counter);
	if (other)
		return answer(text, -EEXIST, "%s is counted by probe %s. fix: name this one otherwise: "
					     "NAME_total=EVENT", spec->counter, other);
	if (!live && free_place(k, &id))
		return answer(text, -ENOSPC, "no room: there are %u probes. fix: talea detach one",
			      PROBES_MAX);
	err = attach_at(k, id, spec, PROBE_OF_COMMAND, false);
	if (!err)
		return 0;
	answer_failed(k, id, err, text);
	/* Only one that can be replaced stays in the list. */
	if (err != -EEXIST)
		free_at(k, id);
	return err;
}

static int answer_unknown(const char *name, char *text)
{
	return answer(text, -ENOENT, "there is no probe %s. fix: talea probes lists them", name);
}

int wanted_detach(struct keeper *k, const char *name, char *text)
{
	uint32_t id;
	struct probe_live *live = find(k, name, &id);

	text[0] = '\0';
	if (!live)
		return answer_unknown(name, text);
	if (is_configured(k, name))
		return answer(text, -EBUSY, "probe %s is asked for by the configuration (%s). fix: "
					    "take it out there, and kill -HUP %d", name,
			      k->config.file, k->self.pid);
	end_at(k, id);
	return 0;
}

int wanted_replace(struct keeper *k, const char *name, char *text)
{
	static struct probe_spec spec;
	static struct probe_live old;
	const struct probe_spec *configured = config_spec(k, name);
	uint32_t id, origin;
	struct probe_live *live = find(k, name, &id);
	bool is_changed;
	int err;

	text[0] = '\0';
	if (!live)
		return answer_unknown(name, text);
	is_changed = configured && !spec_equals(configured, &live->spec);
	if (live->state == WIRE_PROBE_ATTACHED && !is_changed)
		return answer(text, -EALREADY, "probe %s counts what is asked for: there is nothing to "
					       "replace", name);
	if (is_changed && is_by_others(configured, live))
		return answer(text, -EEXIST, "the labels of %s stay while this talead runs, and it is "
					     "counted by others. fix: give [probe %s] another counter "
					     "=, and kill -HUP %d; or restart talead",
			      configured->counter, name, k->self.pid);
	spec = configured ? *configured : live->spec;
	origin = configured ? PROBE_OF_CONFIG : live->origin;
	old = *live;
	err = attach_at(k, id, &spec, origin, true);
	if (!err) {
		probe_close(&old);
		return 0;
	}
	answer_failed(k, id, err, text);
	/* What counted before goes on. */
	if (old.state == WIRE_PROBE_ATTACHED) {
		*live = old;
		tell(k, id);
	}
	return err;
}

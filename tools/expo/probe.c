/*
 * Probes as the worker describes them; see probe.h.
 */
#include <string.h>

#include "tools/expo/json.h"
#include "tools/expo/probe.h"

const struct wire_probe *probe_find(const struct wire_probe *list, uint32_t nr, const char *name)
{
	for (uint32_t i = 0; i < nr; i++)
		if (!strcmp(list[i].name, name))
			return &list[i];
	return NULL;
}

const char *probe_state_text(const struct wire_probe *probe)
{
	return probe->state == WIRE_PROBE_ATTACHED ? "attached" :
	       probe->state == WIRE_PROBE_FAILED   ? "failed" : "off";
}

size_t probe_counter(const struct wire_probe *probe, size_t at)
{
	return strcspn(probe->counters + at, " ");
}

size_t probe_counter_next(const struct wire_probe *probe, size_t at)
{
	at += probe_counter(probe, at);
	return at + (probe->counters[at] == ' ');
}

bool probe_feeds(const struct wire_probe *probe, const char *base, size_t length)
{
	for (size_t at = 0, n; (n = probe_counter(probe, at)) > 0;
	     at = probe_counter_next(probe, at))
		if (n == length && !strncmp(probe->counters + at, base, length))
			return true;
	return false;
}

/* --- JSON ----------------------------------------------------------------------------------- */

static json_t *probe_counters_json(const struct wire_probe *p)
{
	json_t *list = json_array();

	for (size_t at = 0, n; list && (n = probe_counter(p, at)) > 0;
	     at = probe_counter_next(p, at))
		json_array_append_new(list, json_stringn(p->counters + at, n));
	return list;
}

static void probe_set_number(json_t *probe, const char *key, bool is_known, uint64_t nr)
{
	json_object_set_new(probe, key, is_known ? json_integer((json_int_t)nr) : json_null());
}

static void probe_set_text(json_t *probe, const char *key, const char *text)
{
	if (*text)
		json_object_set_new(probe, key, json_text(text));
}

json_t *probe_json(const struct wire_probe *p)
{
	static const char *const origins[] = { "table", "table", "config", "command" };
	bool is_on = p->state == WIRE_PROBE_ATTACHED;
	json_t *probe = json_pack(
		"{s:o, s:s, s:o, s:o, s:o, s:s, s:b, s:b, s:b, s:o}", "name", json_text(p->name),
		"state", probe_state_text(p), "attach", json_text(p->attach), "counter",
		json_stringn(p->counters, probe_counter(p, 0)), "counters", probe_counters_json(p),
		"origin", origins[p->origin <= WIRE_PROBE_COMMAND ? p->origin : 0], "default",
		p->is_default, "pinned", p->is_pinned, "adopted", p->is_adopted, "since",
		json_time(p->since_real_ns));

	probe_set_number(probe, "keys", true, p->keys_nr);
	probe_set_number(probe, "keys_max", p->keys_max, p->keys_max);
	probe_set_number(probe, "events", is_on, p->events);
	probe_set_number(probe, "missed", is_on, p->missed);
	probe_set_number(probe, "overflow", is_on, p->overflow);
	probe_set_number(probe, "refused", is_on, p->refused);
	probe_set_number(probe, "removed", is_on, p->folded);
	probe_set_number(probe, "keys_freed", is_on, p->freed_nr);
	if (p->cost_ms)
		json_object_set_new(probe, "cost",
				    json_pack("{s:I, s:I, s:I}", "ms", (json_int_t)p->cost_ms,
					      "runs", (json_int_t)p->cost_runs, "ns",
					      (json_int_t)p->cost_ns));
	probe_set_text(probe, "reason", p->reason);
	probe_set_text(probe, "fix", p->fix);
	probe_set_text(probe, "unpinned_why", is_on && !p->is_pinned ? p->unpinned_why : "");
	return probe;
}

json_t *probes_json(const struct wire_probe *probes, uint32_t nr)
{
	json_t *list = json_array();

	for (uint32_t i = 0; list && i < nr; i++)
		json_array_append_new(list, probe_json(&probes[i]));
	return list;
}

/*
 * Talea's own metrics; see metrics.h.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/base/array.h"
#include "shm/names.h"
#include "tools/expo/metrics.h"

#define BUSIEST_NR 20

enum metric_family {
	FOLD_LAG, FOLD_DURATION, WRITES, IMBALANCE, READ, ROWS, ROW_CHANGES, ROWS_WAITING,
	REFUSALS, PROBE_UP, PROBE_PINNED, PROBE_MISSED, PROBE_OVERFLOW, PROBE_REMOVED,
	PROBE_KEYS_FREED, GRACE_BLOCKED, GRACE_DURATION, GRACES, MEMBERS_REMOVED,
	LATE_ADDS, SUSPECTS, STRAYS, WORKER_RESTARTS, FAMILIES_NR,
};

static const struct {
	const char *name, *help;
	bool is_counter;
} families[FAMILIES_NR] = {
	[FOLD_LAG] = { "talea_fold_lag_seconds", "Age of the published totals.", false },
	[FOLD_DURATION] = { "talea_fold_duration_seconds", "What the last fold took.", false },
	[WRITES] = { "talea_writes_per_second", "Adds a second of the busiest counters.", false },
	[IMBALANCE] = { "talea_lane_imbalance",
			"Busiest CPU over the mean of those that add, of the busiest hot counters.",
			false },
	[READ] = { "talea_read_seconds", "What reading one counter took in the last sample.", false },
	[ROWS] = { "talea_rows", "Rows by state.", false },
	[ROW_CHANGES] = { "talea_row_changes", "Counters that changed to this state.", true },
	[ROWS_WAITING] = { "talea_rows_waiting", "Counters hot enough for a row, without one.",
			   false },
	[REFUSALS] = { "talea_refusals", "Registrations refused; their adds count as overflow.", true },
	[PROBE_UP] = { "talea_probe_up", "Whether a probe that is asked for is attached.", false },
	[PROBE_PINNED] = { "talea_probe_pinned",
			   "Whether an attached probe counts on when no talead runs.", false },
	[PROBE_MISSED] = { "talea_probe_missed", "Runs of a probe that the kernel left out.", true },
	[PROBE_OVERFLOW] = { "talea_probe_overflow",
			     "Counted without its key, because there was no room for it.", true },
	[PROBE_REMOVED] = { "talea_probe_removed",
			    "Counted with a key whose owner is gone since; in the sum of removed ones.",
			    true },
	[PROBE_KEYS_FREED] = { "talea_probe_keys_freed", "Keys freed because their owner is gone.",
			       true },
	[GRACE_BLOCKED] = { "talea_grace_blocked_cpus",
			    "CPUs that cannot be visited: nothing given back is used again.", false },
	[GRACE_DURATION] = { "talea_grace_duration_seconds", "What the last grace took.", false },
	[GRACES] = { "talea_graces", "Visits to all CPUs, each for all that waited.", true },
	[MEMBERS_REMOVED] = { "talea_members_removed", "Members of families removed.", true },
	[LATE_ADDS] = { "talea_late_adds",
			"Added to members after their removal; in the sum of removed ones.", true },
	[SUSPECTS] = { "talea_suspects", "Counters frozen: they fell without a correction.",
		       false },
	[STRAYS] = { "talea_strays", "Changes of cells that nobody owns, not accepted yet.", false },
	[WORKER_RESTARTS] = { "talea_worker_restarts", "Workers started anew after a death.", true },
};

/* --- a list --------------------------------------------------------------------------------- */

static void metrics_put(struct metrics *m, enum metric_family family, const char *label,
			const char *value, double n)
{
	if (isnan(n) || array_reserve(&m->list, m->nr + 1, &m->max))
		return;
	m->list[m->nr++] = (struct metric){
		.family = families[family].name, .help = families[family].help,
		.is_counter = families[family].is_counter, .label = label,
		.label_value = label ? strdup(value) : NULL, .value = n,
	};
}

void metrics_fini(struct metrics *metrics)
{
	for (size_t i = 0; i < metrics->nr; i++)
		free(metrics->list[i].label_value);
	free(metrics->list);
	*metrics = (struct metrics){ 0 };
}

/* The name that globs are compared with. */
static void sample_name(char *buf, size_t size, const char *family, bool is_counter)
{
	snprintf(buf, size, "%s%s", family, is_counter ? "_total" : "");
}

static bool is_family(const char *glob, size_t i)
{
	char sample[64];

	sample_name(sample, sizeof(sample), families[i].name, families[i].is_counter);
	return name_match(glob, sample);
}

bool metrics_match(const char *glob)
{
	for (size_t i = 0; i < FAMILIES_NR; i++)
		if (is_family(glob, i))
			return true;
	return false;
}

/* Keeps what the selection includes. Globs are compared with names, not with labels. */
static void metrics_filter(const struct selection *s, struct metrics *m)
{
	size_t nr = 0;

	for (size_t i = 0; i < m->nr; i++) {
		bool is_included = s->globs_nr == 0;
		char sample[64];

		sample_name(sample, sizeof(sample), m->list[i].family, m->list[i].is_counter);
		for (size_t a = 0; a < s->globs_nr; a++)
			is_included |= name_match(s->globs[a], sample);
		for (size_t e = 0; e < s->excludes_nr; e++)
			is_included &= !name_match(s->excludes[e], sample);
		if (is_included)
			m->list[nr++] = m->list[i];
		else
			free(m->list[i].label_value);
	}
	m->nr = nr;
}

/* --- what they are -------------------------------------------------------------------------- */

static double seconds(uint64_t ns)
{
	return (double)ns / 1e9;
}

static int metrics_compare(const void *a, const void *b)
{
	double x = fabs((*(const struct pick *const *)a)->rate);
	double y = fabs((*(const struct pick *const *)b)->rate);

	return x < y ? 1 : x > y ? -1 : 0;
}

/* The busiest counters, at most BUSIEST_NR; returns how many. */
static size_t busiest(const struct picks *picks, const struct pick **ret)
{
	const struct pick **all = malloc((picks->nr + 1) * sizeof(*all));
	size_t nr = 0;

	for (size_t i = 0; all && i < picks->nr; i++)
		/* The adds that a removal moves into `removed` are not new. */
		if (picks->list[i].rate != 0 && !isnan(picks->list[i].rate) &&
		    picks->list[i].state != TALEA_UNKNOWN &&
		    !strstr(picks->list[i].name, "{talea=\"removed\"}"))
			all[nr++] = &picks->list[i];
	if (nr)
		qsort(all, nr, sizeof(*all), metrics_compare);
	nr = nr < BUSIEST_NR ? nr : BUSIEST_NR;
	if (nr)
		memcpy(ret, all, nr * sizeof(*ret));
	free(all);
	return nr;
}

static int metrics_put_busiest(struct ask *ask, const struct picks *picks, struct metrics *m)
{
	const struct pick *top[BUSIEST_NR];
	size_t nr = busiest(picks, top);

	for (size_t i = 0; i < nr; i++)
		metrics_put(m, WRITES, "counter", top[i]->name, top[i]->rate);
	for (size_t i = 0; i < nr; i++) {
		const struct wire_explain *e;
		int rc;

		if (!top[i]->is_hot)
			continue;
		rc = ask_explain(ask, top[i]->name, &e);
		if (rc == -ENOENT) /* removed meanwhile */
			continue;
		if (rc)
			return rc;
		if (e->imbalance > 0)
			metrics_put(m, IMBALANCE, "counter", top[i]->name, (double)e->imbalance);
	}
	return 0;
}

static void metrics_put_status(const struct wire_status *s, struct metrics *m)
{
	static const char *const hows[] = { "sum", "compacted", "cached" };
	static const char *const heats[] = { "promoting", "hot", "retiring", "cold" };

	for (size_t i = 0; i < sizeof(hows) / sizeof(hows[0]); i++)
		if (s->read_ns[i]) /* the first sample comes after a second */
			metrics_put(m, READ, "how", hows[i], seconds(s->read_ns[i]));
	metrics_put(m, ROWS, "state", "hot", s->rows_used - s->rows_retiring);
	metrics_put(m, ROWS, "state", "retiring", s->rows_retiring);
	metrics_put(m, ROWS, "state", "free",
		    s->rows_max > s->rows_used ? s->rows_max - s->rows_used : 0);
	for (size_t i = 0; i < sizeof(heats) / sizeof(heats[0]); i++)
		metrics_put(m, ROW_CHANGES, "to", heats[i], (double)s->row_changes[i]);
	metrics_put(m, ROWS_WAITING, NULL, NULL, s->rows_waiting);
	metrics_put(m, REFUSALS, "reason", "registration", (double)s->refusals);
	metrics_put(m, GRACE_BLOCKED, NULL, NULL, s->grace_blocked_cpus);
	if (s->graces_nr)
		metrics_put(m, GRACE_DURATION, NULL, NULL, seconds(s->grace_ns));
	metrics_put(m, GRACES, NULL, NULL, (double)s->graces_nr);
	metrics_put(m, MEMBERS_REMOVED, NULL, NULL, (double)s->removed_nr);
	metrics_put(m, LATE_ADDS, NULL, NULL, (double)s->late_adds);
	metrics_put(m, SUSPECTS, NULL, NULL, s->suspects_nr);
	metrics_put(m, STRAYS, NULL, NULL, (double)s->strays_nr);
	metrics_put(m, WORKER_RESTARTS, NULL, NULL, s->worker_restarts);
}

/* One number of each attached probe; is_keyed: only of probes with keys. */
static void metrics_put_attached(const struct wire_probe *probes, uint32_t nr,
				 enum metric_family family,
				 uint64_t (*number)(const struct wire_probe *p), bool is_keyed,
				 struct metrics *m)
{
	for (uint32_t i = 0; i < nr; i++)
		if (probes[i].state == WIRE_PROBE_ATTACHED && (!is_keyed || probes[i].keys_max))
			metrics_put(m, family, "probe", probes[i].name, (double)number(&probes[i]));
}

static uint64_t probe_missed(const struct wire_probe *p)
{
	return p->missed;
}

static uint64_t probe_pinned(const struct wire_probe *p)
{
	return p->is_pinned;
}

static uint64_t probe_overflow(const struct wire_probe *p)
{
	return p->overflow;
}

static uint64_t probe_folded(const struct wire_probe *p)
{
	return p->folded;
}

static uint64_t probe_freed(const struct wire_probe *p)
{
	return p->freed_nr;
}

static int metrics_put_probes(struct ask *ask, struct metrics *m)
{
	struct wire_probe *probes = NULL;
	uint32_t nr = 0;
	int rc = ask_probes(ask, &probes, &nr);

	if (rc)
		return rc;
	for (uint32_t i = 0; i < nr; i++)
		if (probes[i].state != WIRE_PROBE_OFF)
			metrics_put(m, PROBE_UP, "probe", probes[i].name,
			    probes[i].state == WIRE_PROBE_ATTACHED);
	metrics_put_attached(probes, nr, PROBE_PINNED, probe_pinned, false, m);
	metrics_put_attached(probes, nr, PROBE_MISSED, probe_missed, false, m);
	metrics_put_attached(probes, nr, PROBE_OVERFLOW, probe_overflow, true, m);
	metrics_put_attached(probes, nr, PROBE_REMOVED, probe_folded, true, m);
	metrics_put_attached(probes, nr, PROBE_KEYS_FREED, probe_freed, true, m);
	free(probes);
	return 0;
}

int metrics_take(const struct selection *s, struct talea *t, const struct talea_status *st,
		 struct ask *ask, struct metrics *ret, struct why *why)
{
	/* The busiest of all counters, whichever the selection includes. */
	const struct selection all = { .how = s->how };
	const struct wire_status *status;
	struct picks picks = { 0 };
	const char *missed;
	int rc;

	*ret = (struct metrics){ 0 };
	rc = picks_take(&all, t, &picks, &missed);
	if (rc) {
		why_set(why, rc, "%s", talea_strerror(t, rc));
		goto out_fini;
	}
	rc = ask_status(ask, &status);
	if (rc)
		goto out_why;
	metrics_put(ret, FOLD_LAG, NULL, NULL,
		    st->age_ns == UINT64_MAX ? NAN : seconds(st->age_ns));
	metrics_put(ret, FOLD_DURATION, NULL, NULL, seconds(status->fold_duration_ns));
	metrics_put_status(status, ret);
	rc = metrics_put_busiest(ask, &picks, ret);
	if (!rc)
		rc = metrics_put_probes(ask, ret);
	metrics_filter(s, ret);
out_why:
	if (rc)
		why_set(why, rc, "%s", ask_why(ask));
out_fini:
	picks_fini(&picks);
	return rc;
}

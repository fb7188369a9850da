/*
 * The verb `status`, and `talea` alone: what the worker reports about the daemon, and what the library
 * sees of it. Owns nothing; called from the table of verbs.
 */
#include <inttypes.h>
#include <stdio.h>

#include "shm/base/clock.h"
#include "shm/layout.h"
#include "tools/cli.h"
#include "tools/expo/facts.h"
#include "tools/show/show.h"

static void print_daemon(const struct facts *f)
{
	const struct wire_status *d = &f->daemon;
	uint64_t now = real_ns();
	char a[SHOW_TEXT], b[SHOW_TEXT];

	show_line("daemon", "talead %s at %s", d->version, d->socket);
	show_line("totals", "not durable: they last as long as the daemon's region; pinned probes "
			    "continue to count");
	show_line("region", "since %s (%s)", show_time(a, d->started_real_ns),
		  show_ns(b, now > d->started_real_ns ? now - d->started_real_ns : 0));
	show_line("folder", "%s", d->state_folder);
	show_line("keeper", "pid %u, taken over %u time%s", d->keeper_pid, d->keeper_takeovers,
		  show_plural(d->keeper_takeovers));
	if (d->standby_pid)
		show_line("standby", "pid %u", d->standby_pid);
	else
		show_line("standby", "none");
	show_line("worker", "pid %u, restarted %u time%s, running for %s", d->worker_pid,
		  d->worker_restarts, show_plural(d->worker_restarts),
		  show_ns(a, now > d->worker_started_real_ns ? now - d->worker_started_real_ns : 0));
	show_line("sandbox", "%s", d->sandbox);
	show_line("clients", "%u beside this command; %u namespace%s", d->clients_nr, d->namespaces_nr,
		  show_plural(d->namespaces_nr));
}

static void print_fold(const struct facts *f)
{
	const struct wire_status *d = &f->daemon;
	char a[SHOW_TEXT], b[SHOW_TEXT];

	show_line("epoch", "%s, age %s", show_exact(a, (int64_t)f->st.epoch), show_ns(b, f->st.age_ns));
	show_ns(a, d->fold_interval_ns);
	show_ns(b, d->fold_duration_ns);
	show_line("fold", "every %s, takes %s, %.1f %% of a core; %u CPU%s, %s", a, b,
		  d->fold_cpu_permille / 10.0, d->cpus_nr, show_plural(d->cpus_nr), d->vector);
}

static void print_rows(const struct wire_status *d)
{
	char a[SHOW_TEXT], b[SHOW_TEXT], e[SHOW_TEXT];

	show_exact(a, d->rows_used - d->rows_retiring);
	show_exact(b, d->rows_max);
	show_line("rows", "%s hot of at most %s, %u retiring, %s waiting for one", a, b,
		  d->rows_retiring, show_exact(e, d->rows_waiting));
	show_exact(a, (int64_t)d->row_changes[1]);
	show_exact(b, (int64_t)d->row_changes[3]);
	show_line("", "%s given so far, %s given back; the last visit to all CPUs took %s", a, b,
		  d->graces_nr ? show_ns(e, d->grace_ns) : "no time: none was needed");
	if (d->grace_blocked_cpus)
		show_line("", "%u CPU%s cannot be visited: until then no returned row is used again. "
			  "fix: let talead run there (cpuset, a real-time task that never "
			  "sleeps)",
			  d->grace_blocked_cpus, show_plural(d->grace_blocked_cpus));
	if (d->promotion & SHM_ROWS_OFF)
		show_line("", "off: the start-up test found adds lost, so every counter is cold. "
			  "fix: a kernel whose restartable sequences abort");
	else if (d->promotion & SHM_REUSE_OFF)
		show_line("", "none is used twice: the start-up test of restartable sequences has not "
			  "passed (yet). see: talead's log");
}

/* What is wrong, in red. */
static void print_suspects(const struct wire_status *d)
{
	char nr[SHOW_TEXT];

	if (d->suspects_nr) {
		show_exact(nr, d->suspects_nr);
		show_style(stdout, SHOW_BAD);
		show_line("suspect", "%s counter%s fell and %s frozen. which: talea accept", nr,
			  show_plural(d->suspects_nr), d->suspects_nr == 1 ? "is" : "are");
	}
	if (d->strays_nr) {
		show_style(stdout, SHOW_BAD);
		show_line("strays",
			  "%s change%s of cells that no counter owns: a client stores where it must "
			  "not. which: talea history; who: talea clients; then: talea accept --apply",
			  show_exact(nr, (int64_t)d->strays_nr), show_plural(d->strays_nr));
	}
	if (!d->suspects_nr && !d->strays_nr)
		show_line("suspect", "none");
}

static void print_region(const struct facts *f)
{
	const struct wire_status *d = &f->daemon;
	char a[SHOW_TEXT], b[SHOW_TEXT];

	show_line("namespace", "%s", f->st.namespace_name);
	show_exact(a, d->counters_nr);
	show_exact(b, d->members_nr);
	show_line("counters", "%s, the kernel's and talea's own included; %s member%s of families", a,
		  b, show_plural(d->members_nr));
	if (d->removed_nr || d->late_adds) {
		show_exact(a, (int64_t)d->removed_nr);
		show_exact(b, (int64_t)d->late_adds);
		show_line("removed", "%s member%s; %s added to them too late, kept in their family's "
			  "sum", a, show_plural(d->removed_nr), b);
	}
	if (d->fallback_used)
		show_line("", "their cells are not used again: a thread without restartable sequences "
			  "adds to members");
	print_rows(d);
	print_suspects(d);
	show_line("refusals", "%s", show_exact(a, (int64_t)d->refusals));
	show_line("memory", "%s", show_bytes(a, d->memory_bytes));
	if (f->st.rseq)
		show_line("adds", "restartable sequences");
	else
		show_line("adds", "atomic, on cold cells: %s", f->st.rseq_why ? f->st.rseq_why : "");
}

static void print_probes(const struct facts *f)
{
	uint64_t events = 0, missed = 0, overflow = 0;
	uint32_t attached = 0, failed = 0, off = 0, unpinned = 0;
	const struct wire_probe *first = NULL;
	const char *label = "probes";
	char number[SHOW_TEXT];

	for (uint32_t i = 0; i < f->probes_nr; i++) {
		const struct wire_probe *p = &f->probes[i];

		if (p->state == WIRE_PROBE_ATTACHED) {
			attached++;
			events += p->events;
			missed += p->missed;
			overflow += p->overflow;
			unpinned += !p->is_pinned;
		} else if (p->state == WIRE_PROBE_FAILED) {
			first = first ? first : p;
			failed++;
		} else {
			off++;
		}
	}
	if (attached) {
		show_line(label, "%u attached, %s events, %" PRIu64 " missed", attached,
			  show_exact(number, (int64_t)events), missed);
		label = "";
	}
	if (overflow)
		show_line(label, "%s found no room for their key. which: talea probes",
			  show_exact(number, (int64_t)overflow));
	if (attached)
		show_line(label, unpinned ? "%u of %u pinned; the others end with talead. why: talea "
					    "probes" :
					    "%u of %u pinned: they count on when no talead runs",
			  attached - unpinned, attached);
	if (failed) {
		number[0] = '\0';
		if (failed > 1)
			snprintf(number, sizeof(number), " and %u more", failed - 1);
		show_line(label, "%s%s not attached: %s. try: talea probes", first->name, number,
			  first->reason);
		label = "";
	}
	if (off)
		show_line(label, "%u off: not asked for. try: talea probes", off);
}

/* --- the verbs ------------------------------------------------------------------------------- */

static int status_take(const struct cli *c, struct facts *ret)
{
	int err = facts_take(c->session.ask, &c->session.st, ret);

	if (!err)
		return CLI_OK;
	facts_fini(ret);
	return session_ask_failed(c, err);
}

int verb_status(struct cli *c)
{
	struct facts f;
	int rc = status_take(c, &f);

	if (rc != CLI_OK)
		return rc;
	if (c->json) {
		rc = cli_json(facts_json(&f));
	} else {
		print_daemon(&f);
		print_fold(&f);
		print_region(&f);
		print_probes(&f);
	}
	facts_fini(&f);
	return rc;
}

int verb_overview(struct cli *c)
{
	uint32_t attached = 0, desired = 0, pinned = 0;
	char a[SHOW_TEXT], b[SHOW_TEXT], e[SHOW_TEXT];
	struct facts f;
	int rc;

	rc = status_take(c, &f);
	if (rc != CLI_OK)
		return rc;
	if (c->json) {
		rc = cli_json(facts_json(&f));
		goto out_fini;
	}
	for (uint32_t i = 0; i < f.probes_nr; i++) {
		attached += f.probes[i].state == WIRE_PROBE_ATTACHED;
		pinned += f.probes[i].state == WIRE_PROBE_ATTACHED && f.probes[i].is_pinned;
		desired += f.probes[i].state != WIRE_PROBE_OFF;
	}
	printf("talead %s counts since %s; age %s, epoch %s\n", f.daemon.version,
	       show_time(a, f.daemon.started_real_ns), show_ns(b, f.st.age_ns),
	       show_exact(e, (int64_t)f.st.epoch));
	show_exact(a, f.daemon.counters_nr);
	show_exact(b, f.daemon.members_nr);
	printf("namespace %s: %s counters with talea's own, %s family member%s, %u client%s\n",
	       f.st.namespace_name, a, b, show_plural(f.daemon.members_nr),
	       f.daemon.clients_nr, show_plural(f.daemon.clients_nr));
	if (desired)
		printf("kernel: %u of %u probe%s attached\n", attached, desired, show_plural(desired));
	else
		printf("kernel: no probes\n");
	printf("not durable: totals last as long as the daemon's region%s\n",
	       pinned ? "; pinned probes continue to count" : "");
	if (f.daemon.suspects_nr || f.daemon.strays_nr)
		printf("wrong: a total fell, or a cell that no counter owns changed. next: talea "
		       "status    talea accept    talea history\n");
	else
		printf("next: talea watch    talea get NAME    talea add NAME    talea help\n");
out_fini:
	facts_fini(&f);
	return rc;
}

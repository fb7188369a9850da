/*
 * talead --doctor: what kernel probes need on this machine, one line each: there, not there and not
 * needed, or what to type. Owns the report, what can be looked at without a try, and the probes
 * that the configuration asks for, each attached and ended again, without pins; what is tried
 * with programs and maps is doctor_try.c's. Called by main.c in a process of its own; leaves
 * nothing.
 */
#define _GNU_SOURCE
#include "daemon/keeper/doctor/doctor.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <linux/membarrier.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/keeper/probe/symbols/types.h"
#include "daemon/link/rseq_selftest.h"

#define LOCKDOWN     "/sys/kernel/security/lockdown"
#define PID_INIT_INO 0xeffffffcu /* the kernel's number of the first pid namespace */
#define SELFTEST_S   5u

/* --- the report ------------------------------------------------------------------------------- */

static const char *const states[DOCTOR_STATES_NR] = { "ok", "skip", "fail" };

void doctor_group(struct doctor *d, const char *group)
{
	d->group = group;
	if (!d->checks)
		fprintf(d->out, "%s\n", group);
}

/* Paths may be no UTF-8. */
static json_t *json_text(const char *text)
{
	json_t *as_it_is = json_string(text);
	char ascii[1024];
	size_t i;

	if (as_it_is)
		return as_it_is;
	for (i = 0; text[i] && i + 1 < sizeof(ascii); i++)
		ascii[i] = (char)((unsigned char)text[i] < 0x80 ? text[i] : '?');
	ascii[i] = '\0';
	return json_string(ascii);
}

/* A finding is one line, whatever the verifier or a path brings. */
static void print_part(FILE *out, const char *before, const char *text)
{
	if (*text)
		fputs(before, out);
	for (; *text; text++)
		fputc((unsigned char)*text < ' ' ? ' ' : *text, out);
}

void doctor_say(struct doctor *d, enum doctor_state state, const char *what, const struct why *e)
{
	const char *why = e ? e->reason : "", *fix = e && state != DOCTOR_OK ? e->fix : "";

	d->nr[state]++;
	if (d->checks) {
		json_array_append_new(d->checks,
				      json_pack("{s:s, s:o, s:s, s:o, s:o}", "group", d->group, "what",
						json_text(what), "state", states[state], "why",
						json_text(why), "fix", json_text(fix)));
		return;
	}
	fprintf(d->out, "%-4s", states[state]);
	print_part(d->out, "  ", what);
	print_part(d->out, ": ", why);
	print_part(d->out, ". fix: ", fix);
	fputc('\n', d->out);
}

void doctor_sayf(struct doctor *d, enum doctor_state state, const char *what, const char *format, ...)
{
	struct why e = { 0 };
	va_list args;

	va_start(args, format);
	vsnprintf(e.reason, sizeof(e.reason), format, args);
	va_end(args);
	doctor_say(d, state, what, &e);
}

bool doctor_needs_bpf(const struct doctor *d)
{
	return d->config->bpf_auto && (d->config->probes || d->config->specs_nr);
}

bool doctor_needs(const struct doctor *d, uint32_t event)
{
	bool is_btf = event == SPEC_TP_BTF;

	if (is_btf || event == SPEC_RAW_TP)
		for (uint32_t id = 0; id < PROBE_NR; id++)
			if (d->config->probes >> id & 1 &&
			    is_btf == !strncmp(probe_types[id].attach, "tp_btf:", 7))
				return true;
	for (uint32_t i = 0; i < d->config->specs_nr; i++)
		if (d->config->specs[i].event == event ||
		    (event == SPEC_UPROBE && d->config->specs[i].event == SPEC_USDT))
			return true;
	return false;
}

enum doctor_state doctor_broken(bool is_needed)
{
	return is_needed ? DOCTOR_FAIL : DOCTOR_SKIP;
}

bool doctor_is_untried(struct doctor *d, const char *what)
{
	if (!d->config->bpf_auto)
		doctor_sayf(d, DOCTOR_SKIP, what, "bpf = off");
	else if (d->lacking)
		doctor_sayf(d, DOCTOR_SKIP, what, "not tried without %s", d->lacking);
	return !d->config->bpf_auto || d->lacking;
}

/* --- the kernel ------------------------------------------------------------------------------- */

static void look_at_version(struct doctor *d)
{
	struct utsname name = { 0 };
	struct why e = { 0 };
	bool is_old = explain_kernel_is_old(&name);

	why_set(&e, 0, is_old ? "this is %.64s" : "%.64s", name.release);
	why_fix(&e, "boot Linux 6.1 or later");
	doctor_say(d, is_old ? doctor_broken(doctor_needs_bpf(d)) : DOCTOR_OK, "Linux 6.1 or later",
		   &e);
}

static void look_at_bpf(struct doctor *d)
{
	static const char what[] = "bpf()";
	struct failure f = { .step = "make a map", .without = "set [daemon] bpf = off",
			     .map_bytes = 4096 };
	struct why e = { 0 };
	int fd;

	if (doctor_is_untried(d, what))
		return;
	fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "talea_doctor", 4, 8, 1, NULL);
	if (fd >= 0) {
		close(fd);
		doctor_say(d, DOCTOR_OK, what, NULL);
		return;
	}
	d->lacking = what;
	f.err = fd;
	explain_failure(&f, &e);
	doctor_say(d, doctor_broken(doctor_needs_bpf(d)), what, &e);
}

static void look_at_types(struct doctor *d)
{
	struct why e = { 0 };
	bool is_needed = doctor_needs(d, SPEC_TP_BTF) || doctor_needs(d, SPEC_FENTRY) ||
			 doctor_needs(d, SPEC_FEXIT);

	if (!explain_btf(SPEC_TP_BTF, &e))
		doctor_sayf(d, DOCTOR_OK, "type information", "%s", TYPES_KERNEL);
	else
		doctor_say(d, doctor_broken(is_needed), "type information", &e);
}

static void look_at_lockdown(struct doctor *d)
{
	struct why e = { 0 };
	char line[128];

	if (!explain_line(LOCKDOWN, line, sizeof(line))) {
		doctor_sayf(d, DOCTOR_SKIP, "lockdown", "%s, so it cannot be seen",
			    access(LOCKDOWN, F_OK) ? "there is no " LOCKDOWN :
						     LOCKDOWN " cannot be read");
		return;
	}
	why_set(&e, 0, "%.100s", line);
	why_fix(&e, "boot with lockdown=integrity instead of lockdown=confidentiality");
	doctor_say(d, strstr(line, "[confidentiality]") ? doctor_broken(doctor_needs_bpf(d)) :
		   DOCTOR_OK, "lockdown", &e);
}

static void look_at_kernel(struct doctor *d)
{
	doctor_group(d, "kernel");
	look_at_version(d);
	look_at_types(d);
	look_at_lockdown(d);
}

/* --- rights ----------------------------------------------------------------------------------- */

static void look_at_capability(struct doctor *d, const char *what, unsigned int cap)
{
	uint64_t caps = explain_caps();
	struct why e = { 0 };

	if (caps >> cap & 1)
		doctor_say(d, DOCTOR_OK, what, NULL);
	else if (caps >> CAP_SYS_ADMIN & 1)
		doctor_sayf(d, DOCTOR_OK, what, "CAP_SYS_ADMIN includes it");
	else if (!d->config->bpf_auto)
		doctor_sayf(d, DOCTOR_SKIP, what, "bpf = off");
	else {
		explain_rights(&e);
		doctor_say(d, doctor_broken(doctor_needs_bpf(d)), what, &e);
	}
}

static void look_at_namespaces(struct doctor *d)
{
	struct stat st;

	if (explain_in_user_namespace())
		doctor_sayf(d, DOCTOR_SKIP, "user namespace",
			    "not the host's: capabilities do not count for bpf() here");
	else
		doctor_sayf(d, DOCTOR_OK, "user namespace", "the host's");
	if (!stat("/proc/self/ns/pid", &st) && st.st_ino == PID_INIT_INO)
		doctor_sayf(d, DOCTOR_OK, "pid namespace", "the host's");
	else
		doctor_sayf(d, DOCTOR_SKIP, "pid namespace",
			    "not the host's: pid and tgid in keys are the host's numbers");
}

static void look_at_rights(struct doctor *d)
{
	doctor_group(d, "rights");
	look_at_capability(d, "CAP_BPF", CAP_BPF);
	look_at_capability(d, "CAP_PERFMON", CAP_PERFMON);
	if (explain_caps() >> CAP_SYS_ADMIN & 1)
		doctor_say(d, DOCTOR_OK, "CAP_SYS_ADMIN", NULL);
	else if (!doctor_needs_bpf(d))
		doctor_sayf(d, DOCTOR_SKIP, "CAP_SYS_ADMIN", "no kernel probe is asked for");
	else
		doctor_sayf(d, DOCTOR_SKIP, "CAP_SYS_ADMIN",
			    "without it talead mounts no bpffs for its pins, `talea probes --cost` "
			    "has no figures, and some kernels allow no uprobes");
	look_at_bpf(d);
	look_at_namespaces(d);
	doctor_sayf(d, DOCTOR_OK, "locked memory",
		    "the kernel counts maps to talead's cgroup: no limit of RLIMIT_MEMLOCK stops them");
}

/* --- folders and mounts ----------------------------------------------------------------------- */

/* What is there of a path that talead would make. */
static void existing_part(const char *path, char *buf, size_t size)
{
	struct stat st;
	char *slash;

	snprintf(buf, size, "%s", path);
	while (stat(buf, &st) && (slash = strrchr(buf, '/')))
		slash[slash == buf] = '\0';
}

static void look_at_state(struct doctor *d)
{
	const char *path = d->config->state;
	char part[CONFIG_PATH_MAX];
	struct why e = { 0 };
	struct stat st;
	bool is_there;

	existing_part(path, part, sizeof(part));
	is_there = !strcmp(part, path);
	why_set(&e, 0, "%.200s%s", path, is_there ? "" : ", which talead will make");
	if (stat(part, &st) || !S_ISDIR(st.st_mode)) {
		why_set(&e, 0, "%.200s is no folder", part);
		why_fix(&e, "name another by --state");
	} else if (faccessat(AT_FDCWD, part, W_OK | X_OK, AT_EACCESS)) {
		why_set(&e, 0, "%.120s cannot be %s: %s", path, is_there ? "written" : "made",
			strerror(errno));
		why_fix(&e, "as root: install -d -o %u %.120s; or name another by --state",
			geteuid(), path);
	} else if (is_there && st.st_mode & (S_IWGRP | S_IWOTH)) {
		why_set(&e, 0, "%.120s is not safe: others may write it", path);
		why_fix(&e, "chmod go-w %.200s", path);
	}
	doctor_say(d, e.fix[0] ? DOCTOR_FAIL : DOCTOR_OK, "state folder", &e);
}

static void count_one(const struct pinned_probe *p, void *arg)
{
	(void)p;
	++*(uint32_t *)arg;
}

/* As it is now, in the words of pins_open; what is there is neither mounted nor mended here. */
static bool look_at_pins(struct doctor *d, int mount_err)
{
	static const char what[] = "pins";
	struct why e = { 0 };
	struct pins pins;
	uint32_t nr = 0;
	const char *fix;
	bool is_there;

	if (!d->config->bpf_auto || !d->config->pin_auto) {
		doctor_sayf(d, DOCTOR_SKIP, what, "%s", d->config->bpf_auto ? "pin = no" : "bpf = off");
		return false;
	}
	pins_look(&pins, d->config->state, mount_err);
	is_there = pins.fd >= 0;
	if (is_there) {
		if (!d->lacking)
			pins_each(&pins, count_one, &nr);
		doctor_sayf(d, DOCTOR_OK, what, "%.200s is mounted, %u probe%s pinned in it", pins.path,
			    nr, nr == 1 ? " is" : "s are");
	} else if (!pins.why[0]) {
		doctor_sayf(d, DOCTOR_OK, what, "talead will mount %.200s", pins.path);
	} else {
		fix = strstr(pins.why, ". fix");
		why_set(&e, 0, "%.*s: probes end with talead", fix ? (int)(fix - pins.why) : -1,
			pins.why);
		if (fix)
			why_fix(&e, "%s%s",
				access(pins.path, F_OK) == 0 ?
					"" :
					"start talead once, which makes that folder; then ",
				fix + strlen(fix[5] == ',' ? ". fix, " : ". fix: "));
		doctor_say(d, DOCTOR_SKIP, what, &e);
	}
	pins_close(&pins);
	return is_there;
}

static void look_at_cgroups(struct doctor *d)
{
	struct why e = { 0 };
	uint64_t id;

	if (!cgroup_id("/", &id)) {
		doctor_sayf(d, DOCTOR_OK, "cgroup2", "cgroups have their paths");
		return;
	}
	why_set(&e, 0, "not mounted here: cgroups in keys are numbers, and no filter can name one");
	why_fix(&e, "mount -t cgroup2 cgroup2 /sys/fs/cgroup");
	doctor_say(d, DOCTOR_SKIP, "cgroup2", &e);
}

static void look_at_tracefs(struct doctor *d)
{
	static const char *const paths[] = { "/sys/kernel/tracing", "/sys/kernel/debug/tracing" };
	struct statfs fs;

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		if (!statfs(paths[i], &fs) && fs.f_type == TRACEFS_MAGIC) {
			doctor_sayf(d, DOCTOR_OK, "tracefs", "%s; no probe of talea needs it",
				    paths[i]);
			return;
		}
	doctor_sayf(d, DOCTOR_SKIP, "tracefs", "not mounted; no probe of talea needs it");
}

static void look_at_files(struct doctor *d)
{
	int mount_err;

	doctor_group(d, "files");
	look_at_state(d);
	mount_err = doctor_bpffs(d);
	d->has_pins = look_at_pins(d, mount_err);
	look_at_cgroups(d);
	look_at_tracefs(d);
}

/* --- what counters of programs need ----------------------------------------------------------- */

/* In a child: it binds itself to a CPU. */
static int selftest(void)
{
	int status, err = -EAGAIN;
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		alarm(SELFTEST_S);
		while (err == -EAGAIN)
			err = rseq_selftest(1);
		_exit(-err);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -ETIMEDOUT;
}

static void look_at_counters(struct doctor *d)
{
	long barriers = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
	int err = selftest();

	doctor_group(d, "counters of programs");
	if (!err)
		doctor_sayf(d, DOCTOR_OK, "rseq", "its sections abort as they must");
	else
		doctor_sayf(d, DOCTOR_SKIP, "rseq",
			    "%s: rows and cells that were once used are not used again",
			    err == -ENOSYS ? "there is none for programs here" :
			    err == -1 ? "its sections are not aborted" : strerror(-err));
	if (barriers >= 0 && barriers & MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ)
		doctor_say(d, DOCTOR_OK, "membarrier", NULL);
	else
		doctor_sayf(d, DOCTOR_SKIP, "membarrier",
			    "%s: a counter that became cold keeps its row",
			    barriers < 0 ? strerror(errno) : "not for rseq");
}

/* --- the probes of the configuration ---------------------------------------------------------- */

/* Those of the pack, then the specs, in the state that they came to. */
struct tried {
	struct probe_live *live;
	bool is_said[PROBES_MAX];
	uint32_t nr;
};

static void try_probe(struct tried *t, const struct probe_spec *spec, enum probe_origin origin)
{
	struct probe_desired desired = { .spec = spec, .origin = origin };
	struct pins pins = { .fd = -1 };

	probe_attach(&pins, &desired, &t->live[t->nr]);
	probe_close(&t->live[t->nr++]);
}

static bool is_alike(const struct probe_live *a, const struct probe_live *b)
{
	return a->state == b->state && !strcmp(a->reason, b->reason) && !strcmp(a->fix, b->fix);
}

/* As `talea probes` does it: one line for all that came to the same. */
static void say_alike(struct doctor *d, struct tried *t, uint32_t first)
{
	const struct probe_live *live = &t->live[first];
	struct why e;
	char *names = NULL;
	size_t bytes;
	FILE *f = open_memstream(&names, &bytes);
	uint32_t nr = 0;

	if (!f)
		return;
	for (uint32_t i = first; i < t->nr; i++)
		nr += is_alike(&t->live[i], live);
	fputs(nr > 1 ? "probes " : "probe ", f);
	for (uint32_t i = first; i < t->nr; i++)
		if (is_alike(&t->live[i], live)) {
			fprintf(f, "%s%s", i > first ? ", " : "", probe_name(&t->live[i]));
			t->is_said[i] = true;
		}
	if (fclose(f) == 0) {
		memcpy(e.reason, live->reason, sizeof(e.reason));
		memcpy(e.fix, live->fix, sizeof(e.fix));
		doctor_say(d, live->state == WIRE_PROBE_ATTACHED ? DOCTOR_OK : DOCTOR_FAIL, names, &e);
	}
	free(names);
}

static void look_at_probes(struct doctor *d)
{
	const struct config *c = d->config;
	struct tried t = { .live = calloc(PROBES_MAX, sizeof(*t.live)) };
	struct probe_spec spec;

	doctor_group(d, "probes of the configuration");
	if (!doctor_needs_bpf(d))
		doctor_sayf(d, DOCTOR_SKIP, "probes", c->bpf_auto ? "none is asked for" : "bpf = off");
	for (uint32_t id = 0; t.live && id < PROBE_NR; id++)
		if (c->probes >> id & 1) {
			pack_spec(id, &spec);
			try_probe(&t, &spec, PROBE_OF_PACK);
		}
	for (uint32_t i = 0; t.live && i < c->specs_nr && t.nr < PROBES_MAX; i++)
		try_probe(&t, &c->specs[i], PROBE_OF_CONFIG);
	for (uint32_t i = 0; i < t.nr; i++)
		if (!t.is_said[i])
			say_alike(d, &t, i);
	free(t.live);
}

/* ---------------------------------------------------------------------------------------------- */

static int finish(struct doctor *d)
{
	int err = 0;
	json_t *doc;

	if (d->checks) {
		doc = json_pack("{s:i, s:o, s:i}", "schema", 1, "checks", d->checks, "failed",
				(int)d->nr[DOCTOR_FAIL]);
		err = json_dumpf(doc, d->out, JSON_COMPACT);
		fputc('\n', d->out);
		json_decref(doc);
	} else {
		fprintf(d->out, "%u ok, %u skipped, %u failed\n", d->nr[DOCTOR_OK], d->nr[DOCTOR_SKIP],
			d->nr[DOCTOR_FAIL]);
	}
	return err || fflush(d->out) || ferror(d->out) || d->nr[DOCTOR_FAIL];
}

int doctor_run(const struct config *config, FILE *out, bool is_json)
{
	struct doctor d = { .config = config, .out = out, .checks = is_json ? json_array() : NULL };
	struct why e;

	libbpf_set_print(NULL);
	d.lacking = explain_rights(&e) ? "CAP_BPF and CAP_PERFMON" : NULL;
	look_at_kernel(&d);
	look_at_rights(&d);
	doctor_programs(&d);
	look_at_files(&d);
	doctor_maps(&d);
	look_at_counters(&d);
	look_at_probes(&d);
	return finish(&d);
}

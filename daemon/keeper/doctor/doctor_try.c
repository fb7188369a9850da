/*
 * The doctor's tries: programs are loaded through the same path as a probe, run by events made here
 * and taken down; maps are made, used as the daemon uses them and closed. Owns nothing after a
 * call: no pin, no mount but in a child's private table. Called by doctor.c, which keeps the
 * report.
 */
#define _GNU_SOURCE
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/keeper/doctor/doctor.h"

#define EVENTS_NR 100u
#define KEYS_NR	  8u
#define REPORT	  "report this line with the output of uname -r"

/* --- programs --------------------------------------------------------------------------------- */

struct trial {
	const char *what, *name, *text;
	uint32_t event;
	void (*make_event)(void);
};

static void call_kernel(void)
{
	(void)syscall(SYS_getppid);
}

static void call_libc(void)
{
	(void)getppid();
}

static void read_nothing(void)
{
	char byte;
	int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);

	if (fd >= 0) {
		if (read(fd, &byte, 1) != 1)
			byte = 0;
		close(fd);
	}
}

static const struct trial trials[] = {
	{ "raw_tp", "raw_tp", "raw_tp:sys_enter", SPEC_RAW_TP, call_kernel },
	{ "tp_btf", "tp_btf", "tp_btf:sys_enter", SPEC_TP_BTF, call_kernel },
	{ "fentry", "fentry", "fentry:vfs_read", SPEC_FENTRY, read_nothing },
	{ "fexit", "fexit", "fexit:vfs_read", SPEC_FEXIT, read_nothing },
	{ "uprobe and usdt", "uprobe", "uprobe:libc.so.6:getppid", SPEC_UPROBE, call_libc },
	{ "uretprobe", "uretprobe", "uretprobe:libc.so.6:getppid", SPEC_URETPROBE, call_libc },
};
#define TRIALS_NR (sizeof(trials) / sizeof(trials[0]))

/* Of a probe without keys; the map is frozen, but may be looked at. */
static uint64_t counted(const struct probe_live *live)
{
	uint64_t sum = 0, value;

	for (uint32_t cpu = 0; cpu < live->cpus_nr; cpu++) {
		uint32_t at = cpu * TALEA_SOURCE_STRIDE + TALEA_SOURCE_TOTAL;

		if (!bpf_map_lookup_elem(live->sources[0].counts_fd, &at, &value))
			sum += value;
	}
	return sum;
}

static uint64_t count_events(const struct probe_live *live, void (*make_event)(void))
{
	uint64_t before = counted(live);

	for (uint32_t i = 0; i < EVENTS_NR; i++)
		make_event();
	return counted(live) - before;
}

/* live must be closed in any case. */
static int attach(const char *name, const char *text, struct probe_live *live)
{
	struct pins pins = { .fd = -1 };
	struct probe_spec spec;
	struct probe_desired desired = { .spec = &spec, .origin = PROBE_OF_COMMAND };
	char why[256] = "";

	probe_live_init(PROBES_MAX, live);
	if (spec_parse(name, text, &spec, why, sizeof(why))) {
		snprintf(live->reason, sizeof(live->reason), "%s", why);
		return -EINVAL;
	}
	return probe_attach(&pins, &desired, live);
}

static void say_live(struct doctor *d, enum doctor_state state, const char *what,
		     const struct probe_live *live)
{
	struct why e;

	memcpy(e.reason, live->reason, sizeof(e.reason));
	memcpy(e.fix, live->fix, sizeof(e.fix));
	doctor_say(d, state, what, &e);
}

static void try_program(struct doctor *d, const struct trial *t, struct probe_live *live)
{
	enum doctor_state broken = doctor_broken(doctor_needs(d, t->event));
	struct why e = { 0 };
	uint64_t nr;

	if (doctor_is_untried(d, t->what))
		return;
	if (attach(t->name, t->text, live)) {
		say_live(d, broken, t->what, live);
	} else {
		nr = count_events(live, t->make_event);
		why_set(&e, 0, "loaded and attached, but of %u events it saw %u", EVENTS_NR,
			(unsigned int)nr);
		why_fix(&e, REPORT);
		if (nr < EVENTS_NR)
			doctor_say(d, broken, t->what, &e);
		else
			doctor_sayf(d, DOCTOR_OK, t->what, "loaded, attached, counted");
	}
	probe_close(live);
}

static void try_statistics(struct doctor *d)
{
	static const char what[] = "statistics";
	int fd;

	if (doctor_is_untried(d, what))
		return;
	fd = bpf_enable_stats(BPF_STATS_RUN_TIME);
	if (fd >= 0)
		doctor_say(d, DOCTOR_OK, what, NULL);
	else
		doctor_sayf(d, DOCTOR_SKIP, what, "`talea probes --cost` has no figures: %s",
			    fd == -EPERM ? "CAP_SYS_ADMIN is missing" : strerror(-fd));
	if (fd >= 0)
		close(fd);
}

void doctor_programs(struct doctor *d)
{
	struct probe_live *live = calloc(1, sizeof(*live));

	doctor_group(d, "programs");
	for (size_t i = 0; live && i < TRIALS_NR; i++)
		try_program(d, &trials[i], live);
	free(live);
	try_statistics(d);
}

/* --- maps ------------------------------------------------------------------------------------- */

/* What went wrong with a map, if something did: "" in step is all right. */
struct flaw {
	const char *step;
	int err; /* 0: it was allowed, and must not be */
};

static bool is_flawed(struct flaw *f, const char *step, int rc)
{
	if (rc < 0)
		*f = (struct flaw){ step, rc };
	return rc < 0;
}

/* What must be refused with EPERM. */
static bool is_allowed(struct flaw *f, const char *step, int rc)
{
	if (rc != -EPERM)
		*f = (struct flaw){ step, rc < 0 ? rc : 0 };
	return rc != -EPERM;
}

/* Mapped to be read, frozen: then nobody but programs writes it. */
static void try_array(struct flaw *f)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_MMAPABLE);
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	uint64_t value = 7, *mapped;
	uint32_t key = 0;
	void *p;
	int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "talea_doctor", 4, 8, KEYS_NR, &opts);

	if (is_flawed(f, "make it mmapable", fd))
		return;
	mapped = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, 0);
	if (mapped == MAP_FAILED) {
		*f = (struct flaw){ "map it", -errno };
		goto out_close;
	}
	if (is_flawed(f, "write it", bpf_map_update_elem(fd, &key, &value, BPF_ANY)) ||
	    is_flawed(f, "freeze it", bpf_map_freeze(fd)))
		goto out_unmap;
	if (mapped[0] != value)
		*f = (struct flaw){ "see through the mapping what was written", -ENODATA };
	is_allowed(f, "write it frozen", bpf_map_update_elem(fd, &key, &value, BPF_ANY));
	p = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p != MAP_FAILED) {
		*f = (struct flaw){ "map it writable", 0 };
		munmap(p, page);
	}
out_unmap:
	munmap(mapped, page);
out_close:
	close(fd);
}

/* A map of keys as a probe has one, filled; -errno. */
static int keys_make(int cpus_nr, uint64_t *values)
{
	int fd = bpf_map_create(BPF_MAP_TYPE_PERCPU_HASH, "talea_doctor", 4, 8, KEYS_NR, NULL);

	for (uint32_t key = 0; fd >= 0 && key < KEYS_NR; key++) {
		int err;

		for (int cpu = 0; cpu < cpus_nr; cpu++)
			values[cpu] = key + 1;
		err = bpf_map_update_elem(fd, &key, values, BPF_ANY);
		if (err) {
			close(fd);
			return err;
		}
	}
	return fd;
}

static int batch_read(int fd, uint64_t *values, uint32_t *ret_nr)
{
	LIBBPF_OPTS(bpf_map_batch_opts, opts);
	uint32_t keys[2 * KEYS_NR], batch = 0, nr = 2 * KEYS_NR;
	int err = bpf_map_lookup_batch(fd, NULL, &batch, keys, values, &nr, &opts);

	*ret_nr = nr;
	return err == -ENOENT ? 0 : err; /* the end of the map */
}

static void try_batch(int fd, uint64_t *values, struct flaw *f)
{
	uint32_t nr;

	if (!is_flawed(f, "read it in batches", batch_read(fd, values, &nr)) && nr != KEYS_NR)
		*f = (struct flaw){ "read all of it in one batch", -ENODATA };
}

static void try_take(int fd, uint64_t *values, struct flaw *f)
{
	uint32_t key = 3;

	if (is_flawed(f, "look a key up and delete it at once",
		      bpf_map_lookup_and_delete_elem(fd, &key, values)))
		return;
	if (values[0] != key + 1)
		*f = (struct flaw){ "get the value of a key that is deleted", -ENODATA };
	if (bpf_map_lookup_elem(fd, &key, values) != -ENOENT)
		*f = (struct flaw){ "see a deleted key gone", -EEXIST };
}

/* By number: where there is no bpffs. */
static void try_reader(int fd, uint64_t *values, struct flaw *f)
{
	LIBBPF_OPTS(bpf_get_fd_by_id_opts, opts, .open_flags = BPF_F_RDONLY);
	struct bpf_map_info info = { 0 };
	uint32_t bytes = sizeof(info), nr, key = 1;
	int reader;

	if (is_flawed(f, "ask for its number", bpf_obj_get_info_by_fd(fd, &info, &bytes)))
		return;
	reader = bpf_map_get_fd_by_id_opts(info.id, &opts);
	if (is_flawed(f, "open it by number, which takes CAP_SYS_ADMIN", reader))
		return;
	if (!is_flawed(f, "read it so", batch_read(reader, values, &nr)))
		is_allowed(f, "write it so", bpf_map_update_elem(reader, &key, values, BPF_ANY));
	close(reader);
}

/* As the worker reads it: in a child that gave away all its capabilities. */
static void try_unprivileged(int fd, uint64_t *values, struct flaw *f)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 };
	uint32_t nr;
	int status = 0;
	pid_t pid = fork();

	if (pid == 0)
		_exit(syscall(SYS_capset, &head, none) ? errno : -batch_read(fd, values, &nr));
	if (is_flawed(f, "start a process", pid < 0 ? -errno : 0))
		return;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	is_flawed(f, "read it without capabilities", WIFEXITED(status) ? -WEXITSTATUS(status) : -EINTR);
}

static void say_map(struct doctor *d, const char *what, const struct flaw *f, bool is_dispensable)
{
	struct failure failure = { .err = f->err, .step = f->step, .map_bytes = 4096,
				   .without = "set [daemon] bpf = off and " REPORT };
	struct why e = { 0 };

	if (f->step && !f->err) {
		why_set(&e, 0, "anybody who has it can %s", f->step);
		why_fix(&e, REPORT);
	} else if (f->step && is_dispensable) {
		why_set(&e, 0, "cannot %s: %s", f->step, strerror(-f->err));
	} else if (f->step) {
		explain_failure(&failure, &e);
	}
	doctor_say(d,
		   !f->step ? DOCTOR_OK : doctor_broken(!is_dispensable && doctor_needs_bpf(d)),
		   what, &e);
}

/* --- maps of probes --------------------------------------------------------------------------- */

/* Entered through its trampoline it counts; with nothing in the tail-call slot it does not. */
static void try_tail_call(struct doctor *d, struct probe_live *live)
{
	static const char what[] = "tail call";
	uint32_t key = 0;
	struct flaw f = { 0 };

	if (doctor_is_untried(d, what))
		return;
	if (attach("tail_call", "raw_tp:sys_enter", live))
		say_live(d, doctor_broken(doctor_needs_bpf(d)), what, live);
	else {
		if (count_events(live, call_kernel) < EVENTS_NR)
			f = (struct flaw){ "count through a tail call", -ENODATA };
		else if (!is_flawed(&f, "empty its slot",
				    bpf_map_delete_elem(live->slot_fds[0], &key)) &&
			 count_events(live, call_kernel))
			f = (struct flaw){ "end it by its slot", -EBUSY };
		say_map(d, what, &f, false);
	}
	probe_close(live);
}

/* Are they counted, and freed when their owner is gone? */
static void try_owned_keys(struct doctor *d, const char *what, const char *text,
			   struct probe_live *live)
{
	const struct probe_source *s = &live->sources[0];
	unsigned char key[TALEA_KEY_BYTES];
	const char *why;

	if (doctor_is_untried(d, what))
		return;
	if (attach("keys", text, live)) {
		say_live(d, doctor_broken(doctor_needs_bpf(d)), what, live);
	} else {
		call_kernel();
		why = d->has_pins && s->ledger_fd < 0 ? NULL : probe_reap_why_not(live);
		if (bpf_map_get_next_key(s->keys_fd, NULL, key))
			doctor_sayf(d, doctor_broken(doctor_needs_bpf(d)), what,
				    "an event made no key");
		else if (why)
			doctor_sayf(d, DOCTOR_SKIP, what,
				    "counted, but not freed when their owner is gone: %s", why);
		else
			doctor_sayf(d, DOCTOR_OK, what, "counted, and freed when their owner is gone");
	}
	probe_close(live);
}

void doctor_maps(struct doctor *d)
{
	static const struct {
		const char *what;
		void (*try)(int fd, uint64_t *values, struct flaw *f);
		bool is_dispensable; /* the daemon goes on without it, and says so */
	} tries[] = {
		{ "keys read in batches", try_batch, false },
		{ "keys read without capabilities", try_unprivileged, false },
		{ "keys freed with what they held", try_take, false },
		{ "keys by a read-only descriptor", try_reader, true },
	};
	struct probe_live *live = calloc(1, sizeof(*live));
	int cpus_nr = libbpf_num_possible_cpus(), fd;
	uint64_t *values;
	struct flaw f = { 0 };

	doctor_group(d, "maps");
	if (!doctor_is_untried(d, "counts mapped and frozen")) {
		try_array(&f);
		say_map(d, "counts mapped and frozen", &f, false);
	}
	values = calloc(2 * KEYS_NR * (cpus_nr > 0 ? (size_t)cpus_nr : 1), sizeof(*values));
	for (size_t i = 0; values && i < sizeof(tries) / sizeof(tries[0]); i++) {
		if (doctor_is_untried(d, tries[i].what))
			continue;
		f = (struct flaw){ 0 };
		fd = cpus_nr > 0 ? keys_make(cpus_nr, values) : cpus_nr;
		if (!is_flawed(&f, "make a PERCPU_HASH", fd)) {
			tries[i].try(fd, values, &f);
			close(fd);
		}
		say_map(d, tries[i].what, &f, tries[i].is_dispensable);
	}
	if (live) {
		try_tail_call(d, live);
		try_owned_keys(d, "keys of processes", "raw_tp:sys_enter by tgid", live);
		try_owned_keys(d, "keys of cgroups", "raw_tp:sys_enter by cgroup", live);
	}
	free(live);
	free(values);
}

/* --- pins ------------------------------------------------------------------------------------- */

#define ANY_FOLDER "/dev" /* of the child's own mount table */

/* What the child found, in memory that it shares with its parent. */
struct bpffs {
	const char *step; /* what it was doing */
	int err;
	int mount_err; /* until it has mounted */
};

/* In a chroot "/" is no mount: those above it are reached by entering the namespace anew. */
static int mounts_separate(void)
{
	int fd, err = 0;

	if (unshare(CLONE_NEWNS))
		return -errno;
	if (!mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return 0;
	if (errno != EINVAL)
		return -errno;
	fd = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (setns(fd, CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		err = -errno;
	close(fd);
	return err;
}

static void bpffs_use(struct bpffs *b)
{
	LIBBPF_OPTS(bpf_obj_get_opts, opts, .file_flags = BPF_F_RDONLY);
	static const char path[] = ANY_FOLDER "/doctor";
	uint32_t key = 0;
	uint64_t value = 1;
	int fd, reader;

	b->step = "have mounts of its own";
	b->err = mounts_separate();
	if (!b->err) {
		b->step = "mount one";
		b->err = mount("bpf", ANY_FOLDER, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700")
				 ? -errno : 0;
	}
	b->mount_err = b->err;
	if (b->err)
		return;
	b->step = "make a map";
	b->err = fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "talea_doctor", 4, 8, 1, NULL);
	if (fd < 0)
		return;
	b->step = "pin a map";
	b->err = bpf_obj_pin(fd, path);
	if (b->err)
		return;
	b->step = "open a pinned map to read alone";
	b->err = reader = bpf_obj_get_opts(path, &opts);
	if (reader < 0)
		return;
	b->step = "keep a process that may only read a pinned map from writing it";
	b->err = bpf_map_update_elem(reader, &key, &value, BPF_ANY) == -EPERM ? 0 : -EEXIST;
}

int doctor_bpffs(struct doctor *d)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	static const char what[] = "bpffs";
	struct bpffs *b, result = { .err = -EINTR };
	pid_t pid;

	if (doctor_is_untried(d, what))
		return explain_caps() >> CAP_SYS_ADMIN & 1 ? 0 : -EPERM;
	b = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (b == MAP_FAILED)
		return -errno;
	*b = result;
	pid = fork();
	if (pid == 0) {
		bpffs_use(b);
		_exit(0);
	}
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	result = *b;
	munmap(b, page);
	if (!result.err)
		doctor_sayf(d, DOCTOR_OK, what, "mounted, pinned, read");
	else
		doctor_sayf(d, DOCTOR_SKIP, what, "cannot %s: %s", result.step ? result.step : "try it",
			    strerror(-result.err));
	return result.mount_err;
}

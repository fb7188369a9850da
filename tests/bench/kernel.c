/*
 * What counting in the kernel costs: the time that each way to count system calls adds to getppid,
 * beside an empty program, a plain per-CPU array and bpftrace, and what reading the counts costs
 * beside the batch call that per-CPU maps have. Makes its own probes, without a daemon, in a mount
 * namespace of its own, where bpftrace finds its tracefs. Root only. Called by tests/bench/run.
 *
 * Each way is attached for its own slices alone; a time is what a call takes more than just before
 * and after, when nothing is attached.
 */
#define _GNU_SOURCE
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bpf/pack/syscalls.skel.h"
#include "bpf/talea_kernel.h"
#include "daemon/keeper/probe/probe.h"
#include "daemon/worker/space/lanes.h"
#include "tests/bench/bpf/percpu.skel.h"
#include "tests/bench/lib/bench.h"

#define ROUNDS	    5000u /* few, so that little else changes meanwhile */
#define SLICES	    11u
#define PEER_ROUNDS 50000u /* it takes half a second to begin: fewer slices, longer ones */
#define PATIENCE_MS 20000
#define SLOTS	    1024u

/* One way to count: a program for the tracepoint, or a script for bpftrace. */
struct way {
	const char *name, *more;
	const char *event, *action; /* of bpftrace; NULL: prog_fd */
	const char *tracepoint; /* NULL: the program knows (tp_btf) */
	int prog_fd, link_fd;
	pid_t pid; /* bpftrace */
	int output;
};

static void *calloc_or_die(size_t nr, size_t size)
{
	void *p = calloc(nr, size);

	if (!p)
		bench_die("memory", strerror(errno));
	return p;
}

/* --- attaching and detaching ------------------------------------------------------------------ */

/* Reads bpftrace's output as far as `word`; NULL: to its end. Returns the greatest of its counts. */
static unsigned long long read_until(struct way *w, const char *word)
{
	struct pollfd in = { .fd = w->output, .events = POLLIN };
	unsigned long long most = 0, number;
	static char text[1 << 20];
	size_t used = 0;

	for (;;) {
		ssize_t got = poll(&in, 1, PATIENCE_MS) == 1 && used < sizeof(text) - 1 ?
				      read(w->output, text + used, sizeof(text) - 1 - used) : -1;

		if (got <= 0 && (word || got < 0))
			bench_die(w->action, used ? text : "bpftrace says nothing");
		used += (size_t)got;
		text[used] = '\0';
		if (!got || (word && strstr(text, word)))
			break;
	}
	for (const char *at = text; (at = strstr(at, ": ")); at += 2)
		if (sscanf(at, ": %llu", &number) == 1 && number > most)
			most = number;
	return most;
}

static void bpftrace_start(struct way *w)
{
	char script[256];
	int out[2];

	/* It prints when all is attached. */
	snprintf(script, sizeof(script), "%s { %s } interval:ms:100 { printf(\"ready\\n\"); }",
		 w->event, w->action);
	if (pipe(out))
		bench_die("pipe", strerror(errno));
	w->pid = fork();
	if (w->pid < 0)
		bench_die("fork", strerror(errno));
	if (w->pid == 0) {
		cpu_set_t all;

		memset(&all, 0xff, sizeof(all));
		sched_setaffinity(0, sizeof(all), &all);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(out[1], 1);
		dup2(out[1], 2);
		close(out[0]);
		execlp("bpftrace", "bpftrace", "-B", "none", "-e", script, NULL);
		_exit(127);
	}
	close(out[1]);
	w->output = out[0];
	read_until(w, "ready");
}

static void bpftrace_stop(struct way *w)
{
	kill(w->pid, SIGINT);
	if (read_until(w, NULL) < PEER_ROUNDS)
		bench_wrong("bpftrace's %s counted fewer than the %u calls made", w->action,
			    PEER_ROUNDS);
	close(w->output);
	waitpid(w->pid, NULL, 0);
}

static void attach(const struct figure *f)
{
	struct way *w = f->arg;

	if (w->event) {
		bpftrace_start(w);
		return;
	}
	w->link_fd = bpf_raw_tracepoint_open(w->tracepoint, w->prog_fd);
	if (w->link_fd < 0)
		bench_die(w->name, strerror(errno));
}

static void detach(const struct figure *f)
{
	struct way *w = f->arg;

	if (w->event)
		bpftrace_stop(w);
	else
		close(w->link_fd);
}

/* --- the ways ---------------------------------------------------------------------------------- */

static int empty_program(void)
{
	const struct bpf_insn insns[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	int fd = bpf_prog_load(BPF_PROG_TYPE_RAW_TRACEPOINT, NULL, "GPL", insns,
			       sizeof(insns) / sizeof(insns[0]), NULL);

	if (fd < 0)
		bench_die("loading an empty program", strerror(-fd));
	return fd;
}

/* A program of an object of ours, entered itself. */
static int object_program(const void *elf, size_t bytes, const char *name)
{
	struct bpf_object *obj = bpf_object__open_mem(elf, bytes, NULL);
	struct bpf_map *map = obj ? bpf_object__find_map_by_name(obj, "counts") : NULL;

	if (map)
		bpf_map__set_max_entries(map, (uint32_t)libbpf_num_possible_cpus() *
						      TALEA_SYSCALLS_STRIDE);
	if (!obj || bpf_object__load(obj))
		bench_die(name, strerror(errno));
	return bpf_program__fd(bpf_object__find_program_by_name(obj, name));
}

/* As talead loads it (NULL: the one of system calls in the pack); its own link ends, so that it counts
 * in its blocks alone. */
static struct probe_live *probe(const char *text)
{
	struct probe_live *live = calloc_or_die(1, sizeof(*live));
	const struct pins pins = { .fd = -1 };
	struct probe_spec spec;
	struct probe_desired desired = { .spec = &spec, .origin = PROBE_OF_COMMAND };
	char why[256];

	if (!text)
		pack_spec(PROBE_SYSCALLS, &spec);
	else if (spec_parse(NULL, text, &spec, why, sizeof(why)))
		bench_die(text, why);
	if (probe_attach(&pins, &desired, live))
		bench_die(spec.name, live->reason);
	for (uint32_t i = 0; i < live->links_nr; i++) {
		close(live->link_fds[i]);
		live->link_fds[i] = -1;
	}
	return live;
}

/* What the probe has counted of getppid is no less than what was called in its blocks. */
static void check_probe(const struct probe_live *live)
{
	const size_t bytes = source_map_bytes(live, 0);
	const uint64_t *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, live->sources[0].counts_fd, 0);
	const uint64_t calls = (uint64_t)BENCH_BLOCKS * SLICES * ROUNDS;
	uint64_t sum;

	if (map == MAP_FAILED)
		bench_die("mapping the counts", strerror(errno));
	lanes_sum((const char *)map, TALEA_SYSCALLS_STRIDE * sizeof(*map), live->cpus_nr,
		 SYS_getppid, 1, &sum);
	if (sum < calls)
		bench_wrong("the probe counted %llu of %llu calls", (unsigned long long)sum,
			    (unsigned long long)calls);
}

/* --- adding ------------------------------------------------------------------------------------ */

static void BENCH_LOOP call_getppid(uint64_t n)
{
	while (n--)
		syscall(SYS_getppid);
}

enum { NOTHING, EMPTY, PLAIN, DIRECT, OURS, ALL, BY_COMM, PEER_ALL, PEER_BY_COMM, WAYS };

/*
 * bpftrace with the event that costs it least: its raw tracepoint, where this version has one. NULL:
 * there is none here.
 */
static const char *peer_event(char *more, size_t size)
{
	static const char raw[] = "rawtracepoint:sys_enter";
	static const char plain[] = "tracepoint:raw_syscalls:sys_enter";
	FILE *f = popen("bpftrace --version 2>/dev/null", "re");
	char version[64] = "";
	const char *event;

	if (f && !fgets(version, sizeof(version), f))
		version[0] = '\0';
	if (f)
		pclose(f);
	version[strcspn(version, "\n\"\\")] = '\0';
	if (!version[0]) {
		fprintf(stderr, "bench kernel: no bpftrace here: not compared\n");
		return NULL;
	}
	event = system("timeout 20 bpftrace -e 'rawtracepoint:sys_enter { exit(); }' "
		       "</dev/null >/dev/null 2>&1") ? plain : raw;
	snprintf(more, size, "\"peer\":\"%s, %s\"", version, event);
	return event;
}

static void adding(void)
{
	static char peer[128];
	const char *event = peer_event(peer, sizeof(peer));
	struct probe_live *ours = probe(NULL);
	struct probe_live *all = probe("raw_tp:sys_enter");
	struct probe_live *by_comm = probe("raw_tp:sys_enter by comm");
	size_t percpu_bytes, ours_bytes;
	const void *percpu_elf = percpu__elf_bytes(&percpu_bytes);
	const void *ours_elf = syscalls__elf_bytes(&ours_bytes);
	struct way ways[WAYS] = {
		[NOTHING] = { .name = "getppid" },
		[EMPTY] = { .name = "syscalls_empty", .tracepoint = "sys_enter",
			    .prog_fd = empty_program() },
		[PLAIN] = { .name = "syscalls_percpu_array",
			    .prog_fd = object_program(percpu_elf, percpu_bytes, "percpu") },
		[DIRECT] = { .name = "syscalls_without_stub",
			     .prog_fd = object_program(ours_elf, ours_bytes, "syscalls") },
		[OURS] = { .name = "syscalls_probe", .prog_fd = ours->prog_fds[0] },
		[ALL] = { .name = "declared_all", .more = "\"probe\":\"raw_tp:sys_enter\"",
			  .tracepoint = "sys_enter", .prog_fd = all->prog_fds[0] },
		[BY_COMM] = { .name = "declared_by_comm",
			      .more = "\"probe\":\"raw_tp:sys_enter by comm\"",
			      .tracepoint = "sys_enter", .prog_fd = by_comm->prog_fds[0] },
		[PEER_ALL] = { .name = "bpftrace_count", .more = peer, .event = event,
			       .action = "@ = count();" },
		[PEER_BY_COMM] = { .name = "bpftrace_count_by_comm", .more = peer, .event = event,
				   .action = "@[comm] = count();" },
	};
	struct figure f[WAYS] = { 0 };

	for (unsigned int i = 0; i < WAYS; i++) {
		f[i] = (struct figure){ .name = ways[i].name, .more = ways[i].more,
					.run = call_getppid, .arg = &ways[i],
					.rounds = i < PEER_ALL ? ROUNDS : PEER_ROUNDS,
					.slices = i < PEER_ALL ? SLICES : 1,
					.begin = i == NOTHING ? NULL : attach, .end = detach };
	}
	bench_run(f, PEER_ALL);
	check_probe(ours);
	bench_report(&f[NOTHING]);
	bench_report(&f[EMPTY]);
	bench_report(&f[PLAIN]);
	bench_report(&f[DIRECT]);
	bench_ratio(&f[OURS], &f[EMPTY], AT_MOST, 1.3, 0);
	bench_ratio(&f[OURS], &f[PLAIN], AT_MOST, 1.15, 0);
	bench_report(&f[ALL]);
	bench_report(&f[BY_COMM]);
	if (event) { /* ours once more, beside it */
		bench_run(f, WAYS);
		bench_ratio(&f[PEER_ALL], &f[OURS], AT_LEAST, 1.4, 0);
		bench_ratio(&f[PEER_ALL], &f[ALL], AT_LEAST, 1.4, 0);
		bench_ratio(&f[PEER_BY_COMM], &f[BY_COMM], AT_LEAST, 1.3, 0);
	}
	probe_close(ours);
	probe_close(all);
	probe_close(by_comm);
}

/* --- reading ----------------------------------------------------------------------------------- */

static uint64_t sums[SLOTS], *batch, *cells;
static uint32_t keys[SLOTS], cpus_nr;
static int percpu_map;

static void run_fold(uint64_t n)
{
	while (n--)
		lanes_sum((const char *)cells, TALEA_STRIDE(SLOTS) * sizeof(*cells), cpus_nr, 0,
			 SLOTS, sums);
	BENCH_USE(sums);
}

static void run_batch(uint64_t n)
{
	uint32_t position, nr = 0;

	while (n--) {
		nr = SLOTS;
		bpf_map_lookup_batch(percpu_map, NULL, &position, keys, batch, &nr, NULL);
	}
	if (nr != SLOTS)
		bench_die("BPF_MAP_LOOKUP_BATCH", strerror(errno));
}

/* The same counts in both: 1,024 slots, all CPUs. */
static void reading(void)
{
	struct figure f[2] = {
		{ .name = "read_1024_slots", .run = run_fold },
		{ .name = "read_1024_lookup_batch", .run = run_batch },
	};
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_MMAPABLE);
	uint32_t entries;
	uint64_t *value;
	int map;

	cpus_nr = (uint32_t)libbpf_num_possible_cpus();
	entries = cpus_nr * TALEA_STRIDE(SLOTS);
	map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "cells", sizeof(uint32_t), sizeof(uint64_t),
			     entries, &opts);
	percpu_map = bpf_map_create(BPF_MAP_TYPE_PERCPU_ARRAY, "percpu", sizeof(uint32_t),
				    sizeof(uint64_t), SLOTS, NULL);
	if (map < 0 || percpu_map < 0)
		bench_die("making maps", strerror(errno));
	cells = mmap(NULL, entries * sizeof(*cells), PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
	if (cells == MAP_FAILED)
		bench_die("mapping cells", strerror(errno));
	batch = calloc_or_die((size_t)SLOTS * cpus_nr, sizeof(*batch));
	value = calloc_or_die(cpus_nr, sizeof(*value));
	for (uint32_t slot = 0; slot < SLOTS; slot++) {
		for (uint32_t cpu = 0; cpu < cpus_nr; cpu++)
			cells[cpu * TALEA_STRIDE(SLOTS) + slot] = value[cpu] = slot * 7 + cpu;
		bpf_map_update_elem(percpu_map, &slot, value, 0);
	}
	bench_run(f, 2);
	bench_report(&f[1]);
	bench_ratio(&f[0], &f[1], AT_MOST, 0.05, 0);
	for (uint32_t slot = 0; slot < SLOTS; slot++) {
		uint64_t sum = 0;

		for (uint32_t cpu = 0; cpu < cpus_nr; cpu++)
			sum += batch[(size_t)slot * cpus_nr + cpu];
		if (sum != sums[keys[slot]])
			bench_wrong("slot %u: %llu and %llu", keys[slot], (unsigned long long)sum,
				    (unsigned long long)sums[keys[slot]]);
	}
}

int main(void)
{
	bench_init("kernel");
	libbpf_set_print(NULL);
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		bench_die("a mount namespace", strerror(errno));
	mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);
	mount("tracefs", "/sys/kernel/tracing", "tracefs", 0, NULL);
	signal(SIGPIPE, SIG_IGN);
	adding();
	reading();
	return bench_done();
}

/*
 * Measuring and reporting for tests/bench: blocks, medians, pinning, pairs of threads or processes,
 * JSON lines and verdicts. Owns the choice of CPUs and the verdict of the program; knows nothing of
 * counters. Called by every program of tests/bench from its main thread.
 */
#define _GNU_SOURCE
#include "tests/bench/lib/bench.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shm/order.h"

#define BLOCK_NS 25e6
#define PAIR_CHUNKS 256 /* of a block: some 0.1 ms each, far less than a scheduler's turn */
#define PAIR_PATIENCE 20 /* blocks' worth of chunks to find those in which both were running */

static const char *program_name;
static int cpus[2] = { -1, -1 }; /* of the second thread or process, and of everything else */
static int failures;

_Noreturn void bench_die(const char *what, const char *why)
{
	fprintf(stderr, "bench %s: %s: %s\n", program_name, what, why);
	exit(2);
}

void bench_wrong(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fprintf(stderr, "bench %s: WRONG: ", program_name);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	failures++;
}

/* --- the machine ----------------------------------------------------------------------------- */

/* Do two CPUs share a core? They would share its adders too. */
static int are_siblings(int a, int b)
{
	char path[96], word[32];
	unsigned long from, to;
	int is = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list",
		 a);
	f = fopen(path, "re");
	if (!f)
		return 0;
	while (!is && fscanf(f, "%31[0-9-]%*[,\n]", word) == 1) {
		char *end;

		from = to = strtoul(word, &end, 10);
		if (*end == '-')
			to = strtoul(end + 1, NULL, 10);
		is = (unsigned long)b >= from && (unsigned long)b <= to;
	}
	fclose(f);
	return is;
}

/* The last CPU and the last one that is not its sibling: the first ones serve more interrupts. */
static void choose_cpus(void)
{
	cpu_set_t allowed;

	CPU_ZERO(&allowed);
	sched_getaffinity(0, sizeof(allowed), &allowed);
	for (int cpu = CPU_SETSIZE - 1; cpu >= 0; cpu--) {
		if (!CPU_ISSET(cpu, &allowed))
			continue;
		if (cpus[1] < 0)
			cpus[1] = cpu;
		else if (cpus[0] < 0 && !are_siblings(cpus[1], cpu))
			cpus[0] = cpu;
	}
	for (int cpu = 0; cpu < CPU_SETSIZE && cpus[0] < 0; cpu++)
		if (CPU_ISSET(cpu, &allowed) && cpu != cpus[1])
			cpus[0] = cpu;
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		bench_die("cannot pin to a CPU", strerror(errno));
}

/* The CPU's name, the kernel, how many CPUs: a figure means nothing without them. */
static const char *machine(void)
{
	static char text[320];
	char line[256], model[128] = "";
	struct utsname un;
	FILE *f;

	if (text[0])
		return text;
	uname(&un);
	f = fopen("/proc/cpuinfo", "re");
	while (f && !model[0] && fgets(line, sizeof(line), f))
		if (sscanf(line, "model name : %127[^\n\"\\]", model) != 1)
			model[0] = 0;
	if (f)
		fclose(f);
	snprintf(text, sizeof(text), "%s, %s %s, %ld CPUs", model[0] ? model : un.machine,
		 un.sysname, un.release, sysconf(_SC_NPROCESSORS_ONLN));
	return text;
}

void bench_init(const char *program)
{
	program_name = program;
	choose_cpus();
	pin(cpus[1]);
	fprintf(stderr, "bench %s: on %s\n", program, machine());
}

/* --- one block ------------------------------------------------------------------------------- */

static double clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static double run_one(const struct figure *f, uint64_t rounds)
{
	clockid_t clock = f->by == BY_WALL ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID;
	double begin = clock_ns(clock);

	f->run(rounds);
	return (clock_ns(clock) - begin) / (double)rounds;
}

/* What the two of a pair share: a page between processes. */
struct pair {
	const struct figure *figure;
	uint64_t chunk; /* rounds */
	uint64_t ready __attribute__((aligned(64)));
	uint32_t stop __attribute__((aligned(64)));
	double ns[2] __attribute__((aligned(64)));
	struct {
		uint64_t chunks_nr;
	} __attribute__((aligned(64))) progress[2];
};

/*
 * Both begin together; when one is done the other stops too. A chunk counts when the other one
 * finished one meanwhile: while something else has the other's CPU, this one would be alone.
 */
static void pair_work(struct pair *p, int who)
{
	uint64_t counted = 0, tried = 0, seen;
	double begin, ns, sum = 0;

	pin(cpus[who]);
	p->figure->run(p->chunk);
	shm_count_add(&p->ready, 1);
	while (shm_count_read(&p->ready) < 2)
		sched_yield();
	do {
		seen = shm_count_read(&p->progress[!who].chunks_nr);
		begin = clock_ns(CLOCK_THREAD_CPUTIME_ID);
		p->figure->run(p->chunk);
		ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - begin;
		shm_count_set(&p->progress[who].chunks_nr, ++tried);
		if (shm_count_read(&p->progress[!who].chunks_nr) != seen) {
			sum += ns;
			counted++;
		}
	} while (counted < PAIR_CHUNKS && tried < PAIR_CHUNKS * PAIR_PATIENCE &&
		 !shm_read32(&p->stop));
	shm_set32(&p->stop, 1);
	p->ns[who] = counted ? sum / (double)(counted * p->chunk) : 0;
}

static void *pair_thread(void *arg)
{
	pair_work(arg, 0);
	return NULL;
}

static void run_both(struct pair *p)
{
	pthread_t thread;
	pid_t pid;

	if (p->figure->by == BY_THREADS) {
		if (pthread_create(&thread, NULL, pair_thread, p))
			bench_die("pthread_create", strerror(errno));
		pair_work(p, 1);
		pthread_join(thread, NULL);
		return;
	}
	pid = fork();
	if (pid < 0)
		bench_die("fork", strerror(errno));
	if (pid == 0) {
		pair_work(p, 0);
		_exit(0);
	}
	pair_work(p, 1);
	waitpid(pid, NULL, 0);
}

static double run_pair(const struct figure *f, uint64_t rounds)
{
	struct pair *p = mmap(NULL, sizeof(*p), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			      -1, 0);
	double ns = 0;

	if (p == MAP_FAILED)
		bench_die("mmap", strerror(errno));
	for (int tries = 0; tries < PAIR_PATIENCE && !ns; tries++) {
		*p = (struct pair){ .figure = f, .chunk = rounds / PAIR_CHUNKS + 1 };
		run_both(p);
		ns = p->ns[0] && p->ns[1] ? (p->ns[0] + p->ns[1]) / 2 : 0;
	}
	munmap(p, sizeof(*p));
	if (!ns)
		bench_die(f->name, "two CPUs were never to be had at once");
	return ns;
}

/* --- all blocks ------------------------------------------------------------------------------ */

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double run_added(const struct figure *f)
{
	double added[BENCH_SLICES], without, with;

	for (unsigned int i = 0; i < f->slices; i++) {
		without = run_one(f, f->rounds / 2);
		f->begin(f);
		f->run(f->rounds / 16);
		with = run_one(f, f->rounds);
		f->end(f);
		f->run(f->rounds / 16);
		added[i] = with - (without + run_one(f, f->rounds / 2)) / 2;
	}
	qsort(added, f->slices, sizeof(added[0]), by_value);
	return added[f->slices / 2];
}

static double run_block(const struct figure *f)
{
	int is_pair = f->by == BY_THREADS || f->by == BY_PROCESSES;
	double ns = f->begin ? run_added(f) : is_pair ? run_pair(f, f->rounds) : run_one(f, f->rounds);
	double per = f->per != 0 ? f->per : 1;

	return f->is_bandwidth ? per / ns : ns / per;
}

static void calibrate(struct figure *f)
{
	uint64_t rounds = 1;
	double ns;

	if (f->rounds)
		return;
	if (f->by == BY_ONE || f->by == BY_WALL) {
		run_one(f, 1);
		for (;; rounds *= 4) {
			ns = run_one(f, rounds);
			if (ns * (double)rounds > BLOCK_NS / 16)
				break;
		}
	} else {
		ns = run_pair(f, 1000 * PAIR_CHUNKS);
	}
	f->rounds = (uint64_t)(BLOCK_NS / ns) + 1;
}

void bench_run(struct figure *figures, unsigned int nr)
{
	double sorted[BENCH_BLOCKS];

	for (unsigned int i = 0; i < nr; i++) {
		if ((figures[i].by == BY_THREADS || figures[i].by == BY_PROCESSES) && cpus[0] < 0)
			bench_die(figures[i].name, "needs two CPUs, and only one is allowed here");
		calibrate(&figures[i]);
	}
	/* To and fro: whatever grows or shrinks with time has the same share in each. */
	for (unsigned int b = 0; b < BENCH_BLOCKS; b++)
		for (unsigned int i = 0; i < nr; i++) {
			struct figure *f = &figures[b & 1 ? nr - 1 - i : i];

			f->block[b] = run_block(f);
		}
	for (unsigned int i = 0; i < nr; i++) {
		memcpy(sorted, figures[i].block, sizeof(sorted));
		qsort(sorted, BENCH_BLOCKS, sizeof(sorted[0]), by_value);
		figures[i].value = sorted[BENCH_BLOCKS / 2];
		figures[i].min = sorted[0];
		figures[i].max = sorted[BENCH_BLOCKS - 1];
	}
}

/* --- reporting ------------------------------------------------------------------------------- */

static const char *unit(const struct figure *f) { return f->is_bandwidth ? "GB/s" : "ns"; }

static void line_begin(const struct figure *f)
{
	printf("{\"name\":\"%s\",\"value\":%.4g,\"unit\":\"%s\"", f->name, f->value, unit(f));
}

static void line_end(const struct figure *f)
{
	printf(",\"spread\":[%.4g,%.4g]", f->min, f->max);
	if (f->more)
		printf(",%s", f->more);
	printf(",\"machine\":\"%s\"}\n", machine());
	fflush(stdout);
}

void bench_report(const struct figure *f)
{
	line_begin(f);
	line_end(f);
	fprintf(stderr, "bench %s: %s %.4g %s (%.4g to %.4g)\n", program_name, f->name, f->value,
		unit(f), f->min, f->max);
}

void bench_ratio(const struct figure *f, const struct figure *to, enum bench_limit kind,
		 double limit, double aim)
{
	double ratio = f->value / to->value, least = 1e300, most = 0;
	const char *verdict = "reached";

	for (unsigned int b = 0; b < BENCH_BLOCKS; b++) {
		double r = f->block[b] / to->block[b];

		least = r < least ? r : least;
		most = r > most ? r : most;
	}
	if (kind == AT_MOST ? ratio > limit : ratio < limit) {
		verdict = "MISSED";
		failures++;
	} else if (aim != 0 && (kind == AT_MOST ? ratio > aim : ratio < aim)) {
		verdict = "reached with its spread shown";
	}
	line_begin(f);
	printf(",\"ratio\":%.4g,\"to\":\"%s\",\"ratio_spread\":[%.4g,%.4g],\"reach\":", ratio,
	       to->name, least, most);
	if (aim != 0)
		printf("%.4g,\"reach_with_spread\":%.4g", aim, limit);
	else
		printf("%.4g", limit);
	line_end(f);
	fprintf(stderr,
		"bench %s: %s: %s to %s: measured %.4g (%.4g to %.4g), reach %s %.4g, on %s\n",
		program_name, verdict, f->name, to->name, ratio, least, most,
		kind == AT_MOST ? "<=" : ">=", aim != 0 ? aim : limit, machine());
}

int bench_done(void) { return failures != 0; }

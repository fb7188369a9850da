/* See kernel.h. */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include "tests/lib/child.h"
#include "tests/lib/kernel.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <talea.h>

#include "tests/lib/needs.h"

struct harness kernel_daemon;
static struct talea *client;

void kernel_start(const char *daemon)
{
	struct talea_options options = { .size = sizeof(options), .timeout_ms = 5000,
					 .flags = TALEA_NEED_DAEMON };

	harness_start(&kernel_daemon, daemon, NULL);
	options.socket = kernel_daemon.socket;
	assert_int_equal(talea_open(&client, &options), 0);
}

int kernel_setup(void **state)
{
	(void)state;
	if (geteuid() == 0)
		kernel_start("probes = *");
	return 0;
}

int kernel_teardown(void **state)
{
	(void)state;
	talea_close(client);
	client = NULL;
	harness_cleanup(&kernel_daemon);
	return 0;
}

/* The log names a probe only when it was not attached: "probe(s) NAME, NAME not loaded: why". */
void kernel_needs(const char *probe)
{
	char *line = NULL;
	size_t size = 0;
	FILE *log;

	test_needs_bpf();
	log = fopen(kernel_daemon.log, "re");
	assert_non_null(log);
	while (getline(&line, &size, log) > 0 && !strstr(line, probe))
		;
	if (!feof(log) && !strstr(line, "has no tracepoint"))
		fail_msg("%s", line);
	if (!feof(log)) {
		fclose(log);
		test_skip("this kernel has not the tracepoint");
	}
	free(line);
	fclose(log);
}

static int add_up(const char *name, const struct talea_total *total, void *sum)
{
	(void)name;
	*(uint64_t *)sum += (uint64_t)total->value;
	return 0;
}

bool kernel_is_known(const char *name)
{
	struct talea_total total = { .size = sizeof(total) };

	return !talea_read_name(client, name, TALEA_COMPACTED, 0, &total) && total.state == TALEA_OK;
}

uint64_t kernel_count(const char *glob)
{
	uint64_t sum = 0;

	assert_int_equal(talea_sync(client, 5000), 0);
	assert_int_equal(talea_each(client, glob, TALEA_COMPACTED, add_up, &sum), 0);
	return sum;
}

uint64_t kernel_reference(const char *path, const char *key, unsigned int numbers)
{
	FILE *f = fopen(path, "re");
	size_t size = 0, length = strlen(key);
	char *line = NULL, *at, *end;
	uint64_t sum = 0;

	assert_non_null(f);
	while (getline(&line, &size, f) > 0) {
		at = line + strspn(line, " ");
		if (strncmp(at, key, length))
			continue;
		at += length;
		for (unsigned int i = 0; i < numbers; i++, at = end) {
			sum += strtoull(at, &end, 10);
			if (end == at)
				break;
		}
		break;
	}
	free(line);
	fclose(f);
	return sum;
}

void kernel_run(void (*load)(void))
{
	pid_t pid = test_fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		load();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* One run: does what was counted lie in the reference counter's bracket? */
static bool agrees_with_reference(const char *glob, uint64_t (*reference)(void), void (*load)(void),
			  uint64_t at_least)
{
	uint64_t seen[4], before, counted, under_way = (uint64_t)sysconf(_SC_NPROCESSORS_CONF);

	seen[0] = reference();
	before = kernel_count(glob);
	seen[1] = reference();
	kernel_run(load);
	seen[2] = reference();
	counted = kernel_count(glob) - before;
	seen[3] = reference();
	print_message("# %s: %llu, reference counter: %llu to %llu\n", glob,
		      (unsigned long long)counted,
		      (unsigned long long)(seen[2] - seen[1]),
		      (unsigned long long)(seen[3] - seen[0]));
	assert_true(counted >= at_least);
	return counted + under_way >= seen[2] - seen[1] &&
	       counted <= seen[3] - seen[0] + under_way;
}

/*
 * Kernels of virtual machines may run no BPF program in the tasks of the machine's own agent: when
 * it has work the reference counter has some more.
 */
void kernel_compare(const char *glob, uint64_t (*reference)(void), void (*load)(void),
		    uint64_t at_least)
{
	for (int i = 0; i < 5; i++)
		if (agrees_with_reference(glob, reference, load, at_least))
			return;
	fail_msg("five times %s was not what the kernel's reference counter says", glob);
}

uint64_t kernel_counts(const char *glob, void (*load)(void), uint64_t at_least)
{
	uint64_t before = kernel_count(glob), counted;

	kernel_run(load);
	counted = kernel_count(glob) - before;
	if (counted < at_least)
		fail_msg("%s went up by %llu, not by %llu", glob, (unsigned long long)counted,
			 (unsigned long long)at_least);
	return counted;
}

uint64_t kernel_counts_of_others(const char *glob, uint64_t ns)
{
	uint64_t before = kernel_count(glob);

	harness_sleep_ms((unsigned int)(ns / 1000000) + 1);
	return kernel_count(glob) - before;
}

/*
 * Others make their events in bursts: of many runs one counts ours and what they make in as long a
 * time.
 */
void kernel_counts_about(const char *glob, void (*load)(void), uint64_t nr)
{
	uint64_t least = UINT64_MAX, at_most = nr + nr / 2;

	for (int i = 0; i < 100; i++) {
		uint64_t begin, counted, others, ns;

		if (i >= 10)
			harness_sleep_ms(100);
		begin = harness_now_ns();
		counted = kernel_counts(glob, load, nr);
		if (counted <= at_most)
			return;
		ns = harness_now_ns() - begin;
		others = kernel_counts_of_others(glob, ns);
		if (counted <= at_most + others)
			return;
		least = counted - others < least ? counted - others : least;
	}
	fail_msg("%s went up by %llu or more beside what others make, not by %llu to %llu", glob,
		 (unsigned long long)least, (unsigned long long)nr, (unsigned long long)at_most);
}

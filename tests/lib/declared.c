/* See declared.h. */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include "tests/lib/child.h"
#include "tests/lib/declared.h"

#include <bpf/bpf.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/needs.h"

static const struct pins no_pins = { .fd = -1 };

static void spell(const char *format, char *buf, size_t size)
{
	char self[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	size_t used = 0;

	assert_true(length > 0);
	self[length] = '\0';
	for (; *format && used + 1 < size; format++) {
		if (!strncmp(format, "$SELF", 5))
			used += (size_t)snprintf(buf + used, size - used, "%s", self);
		else if (!strncmp(format, "$TGID", 5))
			used += (size_t)snprintf(buf + used, size - used, "%d", getpid());
		else if (!strncmp(format, "$RARE", 5))
			used += (size_t)snprintf(buf + used, size - used, "%d", DECLARED_RARE);
		else {
			buf[used++] = *format;
			continue;
		}
		format += 4;
	}
	assert_true(used < size);
	buf[used] = '\0';
}

int declared_try(const char *declared, struct probe_live *live)
{
	struct probe_spec spec;
	struct probe_desired desired = { .spec = &spec, .origin = PROBE_OF_COMMAND };
	char text[SPEC_TEXT_MAX], why[512];

	test_needs_bpf();
	spell(declared, text, sizeof(text));
	if (spec_parse(NULL, text, &spec, why, sizeof(why)))
		fail_msg("%s: %s", text, why);
	return probe_attach(&no_pins, &desired, live);
}

void declared_begin(const char *declared, struct probe_live *live)
{
	if (declared_try(declared, live))
		fail_msg("%s: %s. fix: %s", declared, live->reason, live->fix);
	assert_int_equal(live->state, WIRE_PROBE_ATTACHED);
	assert_int_equal(live->sources_nr, 1);
}

void declared_end(struct probe_live *live)
{
	probe_end(&no_pins, live);
}

uint64_t declared_cell(const struct probe_live *live, uint32_t cell)
{
	uint64_t sum = 0, v;

	for (uint32_t cpu = 0; cpu < live->cpus_nr; cpu++) {
		uint32_t at = cpu * TALEA_SOURCE_STRIDE + cell;

		assert_int_equal(bpf_map_lookup_elem(live->sources[0].counts_fd, &at, &v), 0);
		sum += v;
	}
	return sum;
}

uint64_t declared_total(const struct probe_live *live)
{
	return declared_cell(live, TALEA_SOURCE_TOTAL);
}

uint64_t declared_member(const struct probe_live *live, const void *key)
{
	uint64_t v[4096], sum = 0;

	assert_true(live->cpus_nr <= 4096);
	if (bpf_map_lookup_elem(live->sources[0].keys_fd, key, v))
		return 0;
	for (uint32_t cpu = 0; cpu < live->cpus_nr; cpu++)
		sum += v[cpu];
	return sum;
}

uint64_t declared_member_of(const struct probe_live *live, int64_t number)
{
	return declared_member(live, &number);
}

uint64_t declared_kept(const struct probe_live *live, uint32_t *ret_keys_nr)
{
	char key[TALEA_KEY_BYTES], next[TALEA_KEY_BYTES];
	uint64_t sum = 0;
	void *at = NULL;

	*ret_keys_nr = 0;
	while (!bpf_map_get_next_key(live->sources[0].keys_fd, at, next)) {
		memcpy(key, next, sizeof(key));
		at = key;
		sum += declared_member(live, key);
		++*ret_keys_nr;
	}
	return sum;
}

void declared_call(unsigned int times)
{
	for (unsigned int i = 0; i < times; i++)
		syscall(DECLARED_RARE, 0);
}

void declared_in_child(void (*run)(void))
{
	pid_t pid = test_fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		run();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* See probing.h. */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include "tests/lib/child.h"
#include "tests/lib/probing.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "tests/lib/harness.h"

struct probing probing = { .pins = { .fd = -1 } };

const struct probe_spec probing_by_comm = {
	.name = "raw_tp_sched_process_exec",
	.counter = "probe_sched_process_exec_total",
	.target = "sched_process_exec",
	.event = SPEC_RAW_TP,
	.keys_max = 64,
	.keys_nr = 1,
	.keys = { { .field = SPEC_COMM } },
	.text = "raw_tp:sched_process_exec by comm",
};

int probing_setup(void **state)
{
	(void)state;
	strcpy(probing.folder, "/tmp/talea-test-XXXXXX");
	probing.pins = (struct pins){ .fd = -1 };
	if (!mkdtemp(probing.folder))
		return -1;
	if (geteuid() == 0)
		pins_open(&probing.pins, probing.folder);
	return 0;
}

int probing_teardown(void **state)
{
	char path[64];

	(void)state;
	pins_close(&probing.pins);
	pins_remove_all(probing.folder);
	snprintf(path, sizeof(path), "%s/bpf", probing.folder);
	umount2(path, MNT_DETACH);
	rmdir(path);
	rmdir(probing.folder);
	return 0;
}

static int attach(const struct pins *pins, const struct probe_desired *desired)
{
	int err = probe_attach(pins, desired, &probing.live);

	if (err)
		print_message("# %s. fix: %s\n", probing.live.reason, probing.live.fix);
	return err;
}

int probing_attach(uint32_t id, bool is_replacing)
{
	struct probe_spec spec;
	const struct probe_desired desired = { .spec = &spec, .origin = PROBE_OF_PACK,
					 .is_replacing = is_replacing };

	pack_spec(id, &spec);
	return attach(&probing.pins, &desired);
}

int probing_attach_by_comm(const struct pins *pins)
{
	const struct probe_desired desired = { .spec = &probing_by_comm,
					 .origin = PROBE_OF_COMMAND };

	return attach(pins, &desired);
}

void probing_run_true(void)
{
	pid_t pid = test_fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		execlp("true", "true", NULL);
		_exit(127);
	}
	assert_int_equal(harness_wait(pid), 0);
}

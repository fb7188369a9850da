/*
 * What others may do with pins: a worker with the maps it is given, an ordinary user with a bpffs that
 * was mounted for him and without, and anybody with the folders above. Without a daemon, as root only;
 * all mounts are made in the private mount namespace of the test.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "tests/lib/child.h"
#include "tests/lib/harness.h"
#include "tests/lib/needs.h"
#include "tests/lib/probing.h"

/* NULL, or what a worker can do with its descriptors that it must not. */
static const char *worker_can(void)
{
	struct probe_live worker = probing.live;
	struct probe_source *s = &worker.sources[0];
	char key[TALEA_KEY_BYTES] = "true", next[TALEA_KEY_BYTES];
	uint64_t values[1024] = { 0 };
	struct probe_ledger ledger = { 0 };
	uint32_t zero = 0;

	probe_for_worker(&worker);
	if (worker.slot_fds[0] >= 0 || worker.prog_fds[0] >= 0 || worker.link_fds[0] >= 0)
		return "change the program";
	if (!bpf_map_update_elem(s->keys_fd, key, values, BPF_ANY))
		return "write keys";
	if (!bpf_map_delete_elem(s->keys_fd, key) || errno == ENOENT)
		return "delete keys";
	if (s->ledger_fd >= 0 && !bpf_map_update_elem(s->ledger_fd, &zero, &ledger, BPF_ANY))
		return "write the ledger";
	if (!bpf_map_update_elem(s->counts_fd, &zero, values, BPF_ANY))
		return "write counts";
	if (bpf_map_get_next_key(s->keys_fd, NULL, next) ||
	    bpf_map_lookup_elem(s->keys_fd, next, values))
		return "not read keys";
	if (s->ledger_fd >= 0 && bpf_map_lookup_elem(s->ledger_fd, &zero, &ledger))
		return "not read the ledger";
	return NULL;
}

static void a_worker_reads_keys_and_ledger_and_writes_neither(void **state)
{
	const struct pins none = { .fd = -1, .why = "a test" };

	(void)state;
	test_needs_bpf();
	for (int pinned = 0; pinned < 2; pinned++) {
		assert_int_equal(probing_attach_by_comm(pinned ? &probing.pins : &none), 0);
		assert_int_equal(probing.live.is_pinned, pinned);
		assert_string_equal(probing.live.unpinned_why, pinned ? "" : "a test");
		assert_true(probing.live.sources[0].ledger_fd >= 0);
		probing_run_true();
		assert_ptr_equal(worker_can(), NULL);
		probe_end(&probing.pins, &probing.live);
	}
}

/* --- as an ordinary user ---------------------------------------------------------------------- */

static int as_nobody(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	const uint64_t caps = 1ull << CAP_BPF | 1ull << CAP_PERFMON;
	struct __user_cap_data_struct data[2] = {
		{ .effective = (uint32_t)caps, .permitted = (uint32_t)caps },
		{ .effective = (uint32_t)(caps >> 32), .permitted = (uint32_t)(caps >> 32) },
	};

	if (prctl(PR_SET_KEEPCAPS, 1) || setresgid(65534, 65534, 65534) ||
	    setresuid(65534, 65534, 65534))
		return -errno;
	return syscall(SYS_capset, &head, data) ? -errno : 0;
}

/* Who may not mount: nothing is pinned, and why is said; keys can then be written by nobody. */
static int without_a_mount(void)
{
	CHECK(as_nobody() == 0);
	pins_open(&probing.pins, probing.folder);
	CHECK(probing.pins.fd < 0 && strstr(probing.pins.why, "may not mount. fix, as root: d=/"));
	CHECK(probing_attach_by_comm(&probing.pins) == 0);
	CHECK(!probing.live.is_pinned && !strcmp(probing.live.unpinned_why, probing.pins.why));
	CHECK(probing.live.sources[0].keys_fd >= 0 && probing.live.sources[0].ledger_fd < 0);
	probing_run_true();
	CHECK(worker_can() == NULL);
	return 0;
}

/* Where somebody has mounted it for him he pins, and goes on, as root does. */
static int with_a_mount(void)
{
	CHECK(as_nobody() == 0);
	pins_open(&probing.pins, probing.folder);
	CHECK(probing.pins.fd >= 0);
	CHECK(probing_attach_by_comm(&probing.pins) == 0);
	CHECK(probing.live.is_pinned && probing.live.sources[0].ledger_fd >= 0);
	probe_close(&probing.live);
	probing_run_true();
	CHECK(probing_attach_by_comm(&probing.pins) == 0);
	CHECK(probing.live.is_adopted);
	CHECK(worker_can() == NULL);
	probe_end(&probing.pins, &probing.live);
	return 0;
}

static void run_child(int (*run)(void))
{
	pid_t pid = test_fork();

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(run());
	assert_int_equal(harness_wait(pid), 0);
}

static void an_ordinary_user_pins_where_a_bpffs_was_mounted_for_him(void **state)
{
	char path[64];

	(void)state;
	test_needs_bpf();
	snprintf(path, sizeof(path), "%s/bpf", probing.folder);
	assert_int_equal(chown(probing.folder, 65534, 65534), 0);
	pins_close(&probing.pins);
	assert_int_equal(umount2(path, MNT_DETACH), 0);
	run_child(without_a_mount);
	assert_int_equal(mount("bpf", path, "bpf", 0, NULL), 0);
	assert_int_equal(chown(path, 65534, 65534), 0);
	assert_int_equal(chmod(path, 0700), 0);
	run_child(with_a_mount);
	assert_int_equal(chmod(path, 0777), 0);
	pins_open(&probing.pins, probing.folder);
	assert_int_equal(probing.pins.fd, -1);
	assert_non_null(strstr(probing.pins.why, "others may write it"));
}

/*
 * Above the bpffs others may own folders, and in one that was mounted for a user he may make links:
 * nothing that these lead to is touched.
 */
static void what_another_puts_in_the_place_of_a_folder_is_left_alone(void **state)
{
	char away[64], decoy[64], victim[96], path[96];

	(void)state;
	test_needs_bpf();
	assert_int_equal(probing_attach(PROBE_SYSCALLS, false), 0);
	snprintf(away, sizeof(away), "%s.away", probing.folder);
	snprintf(decoy, sizeof(decoy), "%s/bpf/syscalls", probing.folder);
	snprintf(victim, sizeof(victim), "%s/victim", decoy);
	assert_int_equal(rename(probing.folder, away), 0);
	assert_int_equal(mkdir(probing.folder, 0755), 0);
	snprintf(path, sizeof(path), "%s/bpf", probing.folder);
	assert_int_equal(mkdir(path, 0755), 0);
	assert_int_equal(mkdir(decoy, 0755), 0);
	close(open(victim, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	probe_end(&probing.pins, &probing.live);
	assert_int_equal(access(victim, F_OK), 0);
	snprintf(path, sizeof(path), "%s/bpf/syscalls", away);
	assert_int_equal(access(path, F_OK), -1);
	snprintf(path, sizeof(path), "%s/bpf/link", away);
	assert_int_equal(symlink(decoy, path), 0);
	assert_int_equal(pins_remove_all(away), 0);
	assert_int_equal(access(victim, F_OK), 0);
	assert_int_equal(unlink(victim), 0);
	assert_int_equal(rmdir(decoy), 0);
	pins_close(&probing.pins);
	snprintf(path, sizeof(path), "%s/bpf", away);
	umount2(path, MNT_DETACH);
	rmdir(path);
	rmdir(away);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		PROBING_TEST(a_worker_reads_keys_and_ledger_and_writes_neither),
		PROBING_TEST(an_ordinary_user_pins_where_a_bpffs_was_mounted_for_him),
		PROBING_TEST(what_another_puts_in_the_place_of_a_folder_is_left_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

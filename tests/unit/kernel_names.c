/*
 * What the members of keyed counters are called: two keys never have one name, and the paths of
 * cgroups are asked from the keeper.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <string.h>
#include <unistd.h>

#include "daemon/link/link.h"
#include "shm/names.h"
#include "tests/lib/keys.h"

/* --- keys ------------------------------------------------------------------------------------- */

static void several_keys_are_several_labels_in_order(void **state)
{
	struct {
		uint64_t pid;
		char comm[16];
		int64_t err;
	} key = { 4711, "a\"b\\c\n\xff", 11 };
	char name[NAME_DISPLAY_MAX];
	uint32_t slot;

	(void)state;
	keys_set_up();
	keys_def(0, "pid", TALEA_KEY_PID, 8);
	keys_def(1, "comm", TALEA_KEY_TEXT, 16);
	keys_def(2, "errno", TALEA_KEY_ERRNO, 8);
	keys_begin();
	keys_store(&key, 9);
	keys_fold();
	slot = keys_slot("fam_total{comm=\"a\\\"b\\\\x5cc\\\\x0a\\\\xff\",errno=\"EAGAIN\","
			 "pid=\"4711\"}");
	assert_int_not_equal(slot, SHM_SLOT_NONE);
	assert_int_equal(inside_total(&keys_inside, slot), 9);
	assert_true(name_display(keys_inside.space->d, slot, name, sizeof(name)) > 0);
	assert_int_equal(keys_slot(name), slot);
	assert_int_equal(keys_slot("fam_total{comm=\"x\",pid=\"1\"}"), SHM_SLOT_NONE);
	assert_int_not_equal(keys_slot("fam_total{talea=\"other\"}"), SHM_SLOT_NONE);
	keys_finish();
}

static void two_keys_never_have_one_name(void **state)
{
	static const unsigned char keys[][17] = {
		"\\x41", "A", "\\", "\xff", "\xc3\xbf", "\xc3", "\0A", "A\0B", "", "\x01", "\\x00",
		"\xed\xa0\x80", "\xf0\x9f\x98\x80", "AAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAA",
	};
	const size_t nr = sizeof(keys) / sizeof(keys[0]);

	(void)state;
	keys_by_comm();
	for (size_t i = 0; i < nr; i++)
		keys_store(keys[i], 1ull << i);
	keys_fold();
	assert_int_equal(keys_inside.space->quota.members_nr, nr);
	assert_int_equal(keys_sum, (1ll << nr) - 1);
	assert_int_equal(keys_total("fam_total{comm=\"\xc3\xbf\"}"), 1 << 4);
	assert_int_equal(keys_total("fam_total{comm=\"\\\\xc3\"}"), 1 << 5);
	assert_int_equal(keys_total("fam_total{comm=\"A\"}"), 1 << 1);
	keys_finish();
}

/* Escapes of a terminal, also U+009B, other directions and no width are written as bytes. */
static void what_is_not_seen_is_written_as_bytes(void **state)
{
	static const struct {
		unsigned char key[17];
		const char *name;
	} keys[] = {
		{ "\x1b[31m", "fam_total{comm=\"\\\\x1b[31m\"}" },
		{ "a\nb 1", "fam_total{comm=\"a\\\\x0ab 1\"}" },
		{ "\xc2\x9b" "31m", "fam_total{comm=\"\\\\xc2\\\\x9b31m\"}" },
		{ "\xe2\x80\xae" "abc", "fam_total{comm=\"\\\\xe2\\\\x80\\\\xaeabc\"}" },
		{ "a\xe2\x80\x8b" "b", "fam_total{comm=\"a\\\\xe2\\\\x80\\\\x8bb\"}" },
		{ "\xef\xbb\xbf" "a", "fam_total{comm=\"\\\\xef\\\\xbb\\\\xbfa\"}" },
		{ "\x7f", "fam_total{comm=\"\\\\x7f\"}" },
		{ "\xc3\xa4 \xe6\x97\xa5", "fam_total{comm=\"\xc3\xa4 \xe6\x97\xa5\"}" },
	};

	(void)state;
	keys_by_comm();
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		keys_store(keys[i].key, i + 1);
	keys_fold();
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		assert_int_equal(keys_total(keys[i].name), i + 1);
	keys_finish();
}

static void numbers_are_named_by_their_kind(void **state)
{
	struct {
		int64_t signed_number;
		uint64_t err, cpu;
	} key = { -5, 0, 3 };

	(void)state;
	keys_set_up();
	keys_def(0, "a", TALEA_KEY_S64, 8);
	keys_def(1, "b", TALEA_KEY_ERRNO, 8);
	keys_def(2, "c", TALEA_KEY_CPU, 8);
	keys_begin();
	keys_store(&key, 1);
	key.err = 4095;
	keys_store(&key, 2);
	key.err = (uint64_t)-1;
	keys_store(&key, 3);
	keys_fold();
	assert_int_equal(keys_total("fam_total{a=\"-5\",b=\"none\",c=\"3\"}"), 1);
	assert_int_equal(keys_total("fam_total{a=\"-5\",b=\"4095\",c=\"3\"}"), 2);
	assert_int_equal(keys_total("fam_total{a=\"-5\",b=\"-1\",c=\"3\"}"), 3);
	keys_finish();
}

/* --- cgroups ---------------------------------------------------------------------------------- */

/* Answers what the worker asked, as the keeper would. Returns how many questions there were. */
static unsigned int answer(uint64_t id, const char *path)
{
	int fds[LINK_FDS_MAX];
	unsigned int fds_nr, nr = 0;
	struct link_msg m;

	while (link_recv(keys_link[1], &m, fds, &fds_nr) == 1) {
		assert_int_equal(m.kind, LINK_CGROUP);
		if (m.id == id)
			kernel_cgroup(keys_kernel, id, path);
		nr++;
	}
	return nr;
}

static void by_cgroup(void)
{
	keys_set_up();
	keys_def(0, "cgroup", TALEA_KEY_CGROUP, 8);
	keys_begin();
}

static void a_cgroup_counts_when_its_path_is_known(void **state)
{
	uint64_t id = 77;

	(void)state;
	by_cgroup();
	keys_store(&id, 5);
	keys_fold();
	assert_int_equal(keys_sum, 0);
	assert_int_equal(answer(77, "/system.slice/a.service"), 1);
	keys_fold();
	assert_int_equal(keys_total("fam_total{cgroup=\"/system.slice/a.service\"}"), 5);
	keys_fold();
	assert_int_equal(answer(77, ""), 0);
	keys_finish();
}

static void a_cgroup_that_is_gone_or_unanswered_counts_under_its_number(void **state)
{
	uint64_t id = 77, other = 78;

	(void)state;
	by_cgroup();
	keys_store(&id, 5);
	keys_store(&other, 6);
	keys_fold();
	answer(77, "");
	keys_fold();
	assert_int_equal(keys_total("fam_total{cgroup=\"id:77\"}"), 5);
	assert_int_equal(keys_sum, 5);
	usleep(1100000);
	keys_fold();
	assert_int_equal(keys_total("fam_total{cgroup=\"id:78\"}"), 6);
	keys_finish();
}

static void a_cgroup_made_again_waits_until_the_former_is_freed(void **state)
{
	uint64_t id = 77, again = 78;

	(void)state;
	by_cgroup();
	keys_store(&id, 5);
	keys_fold();
	answer(77, "/a");
	keys_fold();
	keys_store(&again, 2);
	keys_fold();
	answer(78, "/a");
	keys_fold();
	assert_int_equal(keys_total("fam_total{cgroup=\"/a\"}"), 5);
	keys_free(&id, 5);
	keys_fold();
	keys_fold();
	assert_int_equal(keys_total("fam_total{cgroup=\"/a\"}"), 2);
	assert_int_equal(keys_sum, 7);
	keys_finish();
}

static void a_new_worker_shows_what_was_published_until_all_paths_are_known(void **state)
{
	uint64_t id[2] = { 77, 78 };

	(void)state;
	by_cgroup();
	keys_store(&id[0], 5);
	keys_store(&id[1], 6);
	keys_fold();
	kernel_cgroup(keys_kernel, 77, "/a");
	kernel_cgroup(keys_kernel, 78, "/b");
	keys_fold();
	answer(0, "");
	keys_free(&id[1], 6);
	keys_worker_again(true);
	keys_fold();
	assert_int_equal(keys_total("fam_total{cgroup=\"/a\"}"), 5);
	assert_int_equal(keys_total("fam_total{cgroup=\"/b\"}"), 6);
	assert_int_equal(keys_sum, 11);
	answer(77, "/a");
	keys_fold();
	assert_int_equal(keys_slot("fam_total{cgroup=\"/b\"}"), SHM_SLOT_NONE);
	assert_int_equal(keys_sum, 11);
	keys_finish();
}

static void long_paths_are_cut_and_still_differ(void **state)
{
	uint64_t id[2] = { 77, 78 };
	char path[900];

	(void)state;
	by_cgroup();
	memset(path, 'p', sizeof(path));
	path[sizeof(path) - 1] = '\0';
	keys_store(&id[0], 5);
	keys_store(&id[1], 6);
	keys_fold();
	kernel_cgroup(keys_kernel, 77, path);
	path[sizeof(path) - 2] = 'q';
	kernel_cgroup(keys_kernel, 78, path);
	keys_fold();
	assert_int_equal(keys_sum, 11);
	assert_int_equal(keys_inside.space->quota.members_nr, 2);
	keys_finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(several_keys_are_several_labels_in_order),
		cmocka_unit_test(two_keys_never_have_one_name),
		cmocka_unit_test(what_is_not_seen_is_written_as_bytes),
		cmocka_unit_test(numbers_are_named_by_their_kind),
		cmocka_unit_test(a_cgroup_counts_when_its_path_is_known),
		cmocka_unit_test(a_cgroup_that_is_gone_or_unanswered_counts_under_its_number),
		cmocka_unit_test(a_cgroup_made_again_waits_until_the_former_is_freed),
		cmocka_unit_test(a_new_worker_shows_what_was_published_until_all_paths_are_known),
		cmocka_unit_test(long_paths_are_cut_and_still_differ),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

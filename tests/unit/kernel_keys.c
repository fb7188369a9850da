/*
 * Counters with keys as the worker reads them: adding, freeing, and whose they are. Whatever
 * happens, a family's sum is that of all that was added, and no epoch shows less than the one
 * before.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <errno.h>
#include <pthread.h>

#include "daemon/worker/space/quota.h"
#include "daemon/worker/space/register.h"
#include "daemon/worker/kernel/maps.h"
#include "tests/lib/keys.h"

/* --- counting --------------------------------------------------------------------------------- */

static void a_member_counts_what_its_key_does(void **state)
{
	(void)state;
	keys_by_comm();
	keys_store("bash\0\0\0\0\0\0\0\0\0\0\0", 7);
	keys_store("cc1\0\0\0\0\0\0\0\0\0\0\0\0", 40);
	keys_overflow(3);
	keys_fold();
	assert_int_equal(keys_total("fam_total{comm=\"bash\"}"), 7);
	assert_int_equal(keys_total("fam_total{comm=\"cc1\"}"), 40);
	assert_int_equal(keys_total("fam_total{talea=\"other\"}"), 3);
	assert_int_equal(keys_sum, 50);
	keys_store("bash\0\0\0\0\0\0\0\0\0\0\0", 107);
	keys_fold();
	assert_int_equal(keys_total("fam_total{comm=\"bash\"}"), 107);
	keys_finish();
}

static void a_counter_without_keys_is_one_counter(void **state)
{
	(void)state;
	keys_set_up();
	keys_begin();
	keys_counts[TALEA_SOURCE_TOTAL] = 5;
	keys_counts[(keys_cpus_nr - 1) * TALEA_SOURCE_STRIDE] += 6;
	keys_fold();
	assert_int_equal(keys_total("fam_total"), 11);
	keys_worker_again(true);
	keys_fold();
	assert_int_equal(keys_total("fam_total"), 11);
	keys_tell(false);
	keys_fold();
	assert_int_equal(keys_total("fam_total"), 11);
	keys_finish();
}

/* --- freeing ---------------------------------------------------------------------------------- */

static void a_freed_key_moves_into_removed_in_one_epoch(void **state)
{
	uint64_t pid = 11, stays = 12;

	(void)state;
	keys_by_pid();
	keys_store(&pid, 100);
	keys_store(&stays, 5);
	keys_fold();
	keys_store(&pid, 130); /* its last adds, which no fold has seen */
	keys_free(&pid, 130);
	keys_fold();
	assert_int_equal(keys_total("fam_total{talea=\"removed\"}"), 130);
	assert_int_equal(keys_slot("fam_total{pid=\"11\"}"), SHM_SLOT_NONE);
	assert_int_equal(keys_sum, 135);
	inside_grace(&keys_inside);
	keys_fold();
	assert_int_equal(keys_sum, 135);
	assert_int_equal(keys_inside.space->quota.members_nr, 1);
	keys_finish();
}

static void while_a_key_is_freed_the_former_sums_stay(void **state)
{
	uint64_t pid = 11, other = 12;

	(void)state;
	keys_by_pid();
	keys_store(&pid, 100);
	keys_store(&other, 1);
	keys_fold();
	keys_ledger.seq++;
	keys_ledger_store();
	keys_delete(&pid);
	keys_store(&other, 1000);
	keys_fold();
	assert_int_equal(keys_sum, 101);
	assert_int_equal(keys_total("fam_total{pid=\"11\"}"), 100);
	keys_worker_again(true); /* also those that a former worker published */
	keys_fold();
	assert_int_equal(keys_sum, 101);
	assert_int_equal(keys_total("fam_total{pid=\"11\"}"), 100);
	keys_ledger.seq++;
	keys_ledger.folded = 100;
	keys_ledger_store();
	keys_fold();
	assert_int_equal(keys_sum, 1100);
	assert_int_equal(keys_slot("fam_total{pid=\"11\"}"), SHM_SLOT_NONE);
	keys_finish();
}

static void a_pid_that_comes_again_has_a_member_of_its_own(void **state)
{
	uint64_t pid = 11;
	uint32_t first;

	(void)state;
	keys_by_pid();
	keys_store(&pid, 100);
	keys_fold();
	first = keys_slot("fam_total{pid=\"11\"}");
	keys_free(&pid, 100);
	keys_store(&pid, 7); /* and no fold has seen it gone */
	keys_fold();
	assert_int_equal(keys_sum, 100);
	keys_fold();
	assert_int_equal(keys_sum, 107);
	assert_int_equal(keys_total("fam_total{pid=\"11\"}"), 7);
	assert_int_not_equal(keys_slot("fam_total{pid=\"11\"}"), first);
	keys_finish();
}

static void what_somebody_else_deletes_is_not_lost(void **state)
{
	uint64_t pid = 11, other = 12;

	(void)state;
	keys_by_pid();
	keys_store(&pid, 100);
	keys_store(&other, 1);
	keys_fold();
	assert_true(keys_delete(&pid));
	for (int i = 0; i < 200; i++)
		keys_fold();
	assert_int_equal(keys_sum, 101);
	keys_store(&other, 50);
	keys_fold();
	assert_int_equal(keys_sum, 150);
	keys_finish();
}

/* --- whose it is ------------------------------------------------------------------------------ */

static int claim_as_user(struct claim *c)
{
	struct why why;
	struct wire_result r;
	struct quota quota;

	c->uid = 1000;
	registry_read_begin();
	quota_init(&quota, keys_inside.space, &keys_inside.config);
	register_claim(keys_inside.space, &quota, c, &r, &why);
	registry_read_end();
	return r.err;
}

static void no_program_registers_members_of_the_kernel(void **state)
{
	struct claim c = { .type = SHM_FAMILY, .name = "fam_total", .name_len = 9,
			   .help = "Of a test.", .help_len = 10, .label = "comm", .label_len = 4 };

	(void)state;
	keys_by_comm();
	keys_store("bash\0\0\0\0\0\0\0\0\0\0\0", 7);
	keys_fold();
	assert_int_equal(claim_as_user(&c), -EINVAL);
	c = (struct claim){ .type = SHM_MEMBER, .name = "bash", .name_len = 4,
			    .family = keys_slot("fam_total") };
	c.family_generation = slot_generation(space_slot(keys_inside.space, c.family)->route);
	assert_int_equal(claim_as_user(&c), -EINVAL);
	c = (struct claim){ .type = SHM_FAMILY, .key_kind = SHM_KEY_LABELS, .name = "mine_total",
			    .name_len = 10, .help = "Of a test.", .help_len = 10, .label = "comm",
			    .label_len = 4 };
	assert_int_equal(claim_as_user(&c), -EINVAL);
	assert_int_equal(keys_inside.space->quota.counted_nr, 0);
	keys_finish();
}

static void what_a_program_has_registered_is_left_alone(void **state)
{
	struct source_statistics look;

	(void)state;
	keys_set_up();
	inside_make(&keys_inside, SHM_COUNTER, "fam_total");
	keys_def(0, "comm", TALEA_KEY_TEXT, 16);
	keys_begin();
	keys_store("bash\0\0\0\0\0\0\0\0\0\0\0", 7);
	keys_fold();
	assert_int_equal(keys_total("fam_total"), 0);
	kernel_statistics(keys_kernel, KEYS_PROBE, &look);
	assert_int_equal(look.is_conflict, 1);
	keys_finish();
}

/* --- reading ---------------------------------------------------------------------------------- */

#define STABLE 20000u

static uint8_t is_over; /* by shm_set8 */

/* Adds and deletes keys beside those that stay. */
static void *churn(void *arg)
{
	(void)arg;
	for (uint64_t n = 0; !shm_read8(&is_over); n++) {
		uint64_t key = STABLE + 1 + n % 30000;

		if (n / 30000 & 1)
			keys_delete(&key);
		else
			keys_store(&key, 1);
	}
	return NULL;
}

static void a_pass_finds_each_key_once_while_others_come_and_go(void **state)
{
	static uint8_t seen[STABLE + 1];
	struct map_pass pass;
	pthread_t thread;

	(void)state;
	keys_by_pid();
	for (uint64_t key = 1; key <= STABLE; key++)
		keys_store(&key, key);
	shm_set8(&is_over, 0);
	assert_int_equal(pthread_create(&thread, NULL, churn, NULL), 0);
	assert_int_equal(map_pass_init(&pass, 8), 0);
	for (int i = 0; i < 30; i++) {
		uint32_t nr = 0;

		assert_int_equal(map_pass_read(&pass, keys_source.keys_fd, 8), 0);
		memset(seen, 0, sizeof(seen));
		for (uint32_t at = 0; at < pass.nr; at++) {
			uint64_t key = ((uint64_t *)(void *)pass.keys)[at];

			if (key > STABLE)
				continue;
			assert_int_equal(seen[key]++, 0);
			assert_int_equal(pass.sums[at], key);
			nr++;
		}
		assert_int_equal(nr, STABLE);
	}
	shm_set8(&is_over, 1);
	pthread_join(thread, NULL);
	map_pass_fini(&pass);
	keys_finish();
}

static void a_bucket_that_is_larger_than_the_room_is_read_again(void **state)
{
	struct map_pass pass;

	(void)state;
	keys_by_pid();
	for (uint64_t key = 1; key <= 5000; key++)
		keys_store(&key, 1);
	assert_int_equal(map_pass_init(&pass, 8), 0);
	pass.chunk = 1; /* so that nearly no bucket fits */
	assert_int_equal(map_pass_read(&pass, keys_source.keys_fd, 8), 0);
	assert_int_equal(pass.nr, 5000);
	assert_true(pass.chunk > 1);
	map_pass_fini(&pass);
	keys_finish();
}

static void a_flood_of_keys_is_exact(void **state)
{
	uint64_t all = 0;

	(void)state;
	keys_by_pid();
	for (uint64_t key = 1; key <= STABLE; key++, all += key)
		keys_store(&key, key + 1);
	keys_fold();
	assert_int_equal(keys_sum, all);
	for (uint64_t key = 1; key <= STABLE; key += 2)
		keys_free(&key, key + 1);
	registry_read_begin();
	kernel_fold(keys_kernel, true);
	registry_read_end();
	keys_fold();
	assert_int_equal(keys_sum, all);
	assert_int_equal(keys_inside.space->quota.members_nr, STABLE / 2);
	keys_finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_member_counts_what_its_key_does),
		cmocka_unit_test(a_counter_without_keys_is_one_counter),
		cmocka_unit_test(a_freed_key_moves_into_removed_in_one_epoch),
		cmocka_unit_test(while_a_key_is_freed_the_former_sums_stay),
		cmocka_unit_test(a_pid_that_comes_again_has_a_member_of_its_own),
		cmocka_unit_test(what_somebody_else_deletes_is_not_lost),
		cmocka_unit_test(no_program_registers_members_of_the_kernel),
		cmocka_unit_test(what_a_program_has_registered_is_left_alone),
		cmocka_unit_test(a_pass_finds_each_key_once_while_others_come_and_go),
		cmocka_unit_test(a_bucket_that_is_larger_than_the_room_is_read_again),
		cmocka_unit_test(a_flood_of_keys_is_exact),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

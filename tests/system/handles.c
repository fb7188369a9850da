/*
 * Handles of members that are removed: what is added late counts in the family's `removed`, names are
 * found again, and a slot that is handed out again counts for its new owner alone. members.c does it
 * all at once.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#undef fail /* cmocka's; the library has its own */
#include "client/internal.h"
#include "tests/lib/child.h"
#include "tests/lib/client.h"
#include "tests/lib/raw.h"

static struct harness h;
static uint64_t *reused; /* slots that were handed out again; shared with clients */

static int start(void **state)
{
	(void)state;
	harness_start(&h, NULL, "[counter members_hot_total]\nhot = yes\n"
				"[counter members_cold_total]\nhot = no\n");
	reused = mmap(NULL, sizeof(*reused), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	assert_ptr_not_equal(reused, MAP_FAILED);
	return 0;
}

static int clean_up(void **state)
{
	(void)state;
	munmap(reused, sizeof(*reused));
	harness_cleanup(&h);
	return 0;
}

/* Forgets one member and waits until what it counted has moved. */
static void forget(struct talea *t, const char *family, uint64_t key)
{
	const uint64_t *moves = &t->attach->region->view.d->moves;
	uint64_t before = shm_take(moves);
	struct wire_welcome w;
	struct wire_result r;
	char name[64];
	int sock;

	snprintf(name, sizeof(name), "%s{key=\"%llu\"}", family, (unsigned long long)key);
	sock = raw_connect(getenv("TALEA_SOCKET"));
	CHECK(sock >= 0 && raw_hello(sock, "default", WIRE_WRITE, &w, NULL) == 0);
	CHECK(raw_change(sock, WIRE_FORGET, name, &r) == 0 && r.err == 0);
	close(sock);
	for (int i = 0; shm_take(moves) < before + 2; i++) {
		CHECK(i < 5000);
		harness_sleep_ms(1);
	}
}

/* --- names found again ------------------------------------------------------------------------- */

static int64_t value_of(struct talea *t, const char *name)
{
	struct talea_total n = { .size = sizeof(n) };

	CHECK(talea_read_name(t, name, TALEA_SUM, 0, &n) == 0);
	return n.value;
}

static int read_by(struct talea *t, struct talea_counter c, int64_t *ret)
{
	struct talea_total n = { .size = sizeof(n) };
	int err = talea_read(t, c, TALEA_SUM, 0, &n);

	*ret = n.value;
	return err;
}

static int use_handles_of_removed_members(void *arg)
{
	struct talea *t = client_open("default");
	const char *name = arg;
	char removed[64], first[64];
	struct talea_family f = client_family(t, name);
	struct talea_status s = { .size = sizeof(s) };
	struct talea_stamp stamp;
	uint64_t keys[2] = { 1, 2 };
	struct talea_counter c[2];
	int64_t value = 0;

	snprintf(removed, sizeof(removed), "%s{talea=\"removed\"}", name);
	snprintf(first, sizeof(first), "%s{key=\"1\"}", name);
	for (int i = 0; i < 2; i++)
		CHECK(talea_family_get(&f, &keys[i], 8, &c[i]) == 0);
	talea_add(c[0], 5);
	talea_add(c[1], 50);
	CHECK(talea_sync(t, 5000) == 0);
	for (int i = 0; i < 2; i++)
		forget(t, name, keys[i]);
	CHECK(value_of(t, removed) == 55);
	CHECK(read_by(t, c[0], &value) == -ENOENT && strstr(talea_strerror(t, -ENOENT), "removed"));
	CHECK(talea_peek(c[0], &stamp) == -ENOENT);
	/* A handle that does not add brings no name back. */
	CHECK(talea_status(t, &s) == 0);
	CHECK(read_by(t, c[0], &value) == -ENOENT);
	talea_add(c[0], 3);
	talea_add_fn(c[0], 4);
	CHECK(value_of(t, removed) == 62);
	CHECK(talea_status(t, &s) == 0);
	CHECK(read_by(t, c[0], &value) == 0 && value == 0);
	talea_add(c[0], 7);
	CHECK(read_by(t, c[0], &value) == 0 && value == 7);
	CHECK(value_of(t, first) == 7);
	/* Somebody else makes the second one again; its holder finds it without adding. */
	CHECK(talea_family_add(&f, &keys[1], 8, 9) == 0);
	CHECK(read_by(t, c[1], &value) == -ENOENT);
	CHECK(talea_status(t, &s) == 0);
	CHECK(read_by(t, c[1], &value) == 0 && value == 9);
	/* Asked for by its key, a removed one is made anew at once. */
	forget(t, name, keys[0]);
	CHECK(talea_family_get(&f, &keys[0], 8, &c[0]) == 0);
	CHECK(read_by(t, c[0], &value) == 0 && value == 0);
	talea_close(t);
	return 0;
}

static void handles_of_removed_members_find_their_names_again(void **state)
{
	(void)state;
	harness_run(&h, use_handles_of_removed_members, "members_cold_total");
	harness_run(&h, use_handles_of_removed_members, "members_hot_total");
	harness_stop(&h);
}

/* A handle that is bound anew cannot go back to the inline path there, and is as exact. */
static int use_handles_without_membarrier(void *arg)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_membarrier, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog filter = { sizeof(code) / sizeof(code[0]), code };
	struct talea_status s = { .size = sizeof(s) };
	struct talea *t;

	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0);
	CHECK(use_handles_of_removed_members(arg) == 0);
	t = client_open("default");
	CHECK(talea_status(t, &s) == 0 && s.out_of_line == 2);
	talea_close(t);
	return 0;
}

static void and_where_membarrier_is_not_allowed(void **state)
{
	(void)state;
	harness_run(&h, use_handles_without_membarrier, "members_cold_total");
	harness_run(&h, use_handles_without_membarrier, "members_hot_total");
	harness_stop(&h);
}

/* --- slots that are handed out again ----------------------------------------------------------- */

#define OWNERS_NR 20u

static uint32_t slot_of(struct talea *t, const char *family, uint64_t key, uint32_t *ret_generation)
{
	const struct dir_shm *d = t->attach->region->view.d;
	uint32_t owner = dir_find(d, 0, family, strlen(family), ret_generation);

	return dir_find(d, owner, &key, sizeof(key), ret_generation);
}

/* Makes members for the slots of the removed ones in another process. */
static void make_elsewhere(const char *family)
{
	pid_t pid = test_fork();
	int status;

	if (pid == 0) {
		execl("/proc/self/exe", "handles", "make", family, NULL);
		_exit(127);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

/* Adds through handles of removed members whose slots are others' by now. */
static uint32_t add_late(const char *name, const struct talea_counter *old)
{
	struct talea_options options = { .size = sizeof(options), .flags = TALEA_READ_ONLY };
	uint32_t generation = 0, reused = 0;
	struct talea *reader;
	char member[64];

	CHECK(talea_open(&reader, &options) == 0);
	for (uint64_t key = 100; key < 100 + OWNERS_NR; key++) {
		CHECK(slot_of(reader, name, key, &generation) != SHM_SLOT_NONE);
		reused += generation > 1;
	}
	for (uint32_t i = 0; i < 5000 * OWNERS_NR; i++)
		talea_inc(old[i % OWNERS_NR]);
	snprintf(member, sizeof(member), "%s{talea=\"removed\"}", name);
	CHECK(value_of(reader, member) == (1000 + 5000) * OWNERS_NR);
	for (uint64_t key = 100; key < 100 + OWNERS_NR; key++) {
		snprintf(member, sizeof(member), "%s{key=\"%llu\"}", name, (unsigned long long)key);
		CHECK(value_of(reader, member) == 0);
	}
	talea_close(reader);
	return reused;
}

/* Holds handles of members that are removed and whose slots become others', and goes on adding. */
static int hold_on_while_slots_change_hands(void *arg)
{
	struct talea *t = client_open("default");
	const char *name = arg;
	struct talea_family f = client_family(t, name);
	struct talea_counter c[OWNERS_NR];
	int64_t value;

	for (uint64_t key = 0; key < OWNERS_NR; key++) {
		CHECK(talea_family_get(&f, &key, 8, &c[key]) == 0);
		talea_add(c[key], 1000);
	}
	CHECK(talea_sync(t, 5000) == 0);
	for (uint64_t key = 0; key < OWNERS_NR; key++)
		forget(t, name, key);
	/* From here on no call of this attachment that would bind the handles anew. */
	harness_sleep_ms((unsigned int)(SHM_QUARANTINE_NS / 1000000 + 700));
	make_elsewhere(name);
	shm_count_add(reused, add_late(name, c));
	for (uint64_t key = 100; key < 100 + OWNERS_NR; key++) {
		CHECK(talea_family_get(&f, &key, 8, &c[0]) == 0);
		talea_add(c[0], key);
		CHECK(read_by(t, c[0], &value) == 0 && value == (int64_t)key);
	}
	talea_close(t);
	return 0;
}

static int main_make(const char *name)
{
	struct talea *t = client_open("default");
	struct talea_family f = client_family(t, name);
	struct talea_counter c;

	for (uint64_t key = 100; key < 100 + OWNERS_NR; key++)
		CHECK(talea_family_get(&f, &key, 8, &c) == 0);
	talea_close(t);
	return 0;
}

static void a_slot_handed_out_again_counts_for_its_new_owner_alone(void **state)
{
	pid_t pids[2];

	(void)state;
	pids[0] = harness_client(&h, hold_on_while_slots_change_hands, "members_cold_total");
	pids[1] = harness_client(&h, hold_on_while_slots_change_hands, "members_hot_total");
	for (int i = 0; i < 2; i++)
		assert_int_equal(harness_wait(pids[i]), 0);
	/* Each family may have got slots of the other. */
	print_message("# %llu of %u slots were handed out again\n",
		      (unsigned long long)*reused, 2 * OWNERS_NR);
	assert_true(*reused > OWNERS_NR / 2);
	harness_stop(&h);
}

#define HANDLES_TEST(f) cmocka_unit_test_setup_teardown(f, start, clean_up)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		HANDLES_TEST(handles_of_removed_members_find_their_names_again),
		HANDLES_TEST(and_where_membarrier_is_not_allowed),
		HANDLES_TEST(a_slot_handed_out_again_counts_for_its_new_owner_alone),
	};

	if (argc == 3 && !strcmp(argv[1], "make"))
		return main_make(argv[2]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

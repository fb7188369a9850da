/*
 * What the keeper makes of a worker's requests, when the worker is somebody else's by now: forged
 * specs, names that do not end, statistics that nobody ends, floods. The test is keeper and worker at
 * once, at the two ends of a link. What is attached for real needs root.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/keeper/keeper.h"
#include "tests/lib/clock.h"
#include "tests/lib/harness.h"
#include "tests/lib/needs.h"

/* A call that nothing else on a host makes. */
#define RARE_CALL SYS_sched_get_priority_max
#define CALLS	  1000u
#define FORGED	  20000u
#define ASKED	  30000u

static struct keeper k;
static int worker; /* the worker's end of the link */

static int begin(void **state)
{
	int ends[2];

	(void)state;
	memset(&k, 0, sizeof(k));
	k.config.bpf_auto = 1;
	k.self.pid = getpid();
	k.state.fd = -1;
	loop_init(&k.loop);
	probes_init(&k);
	requests_init(&k);
	if (link_open(ends))
		return -1;
	k.children.standby = (struct child){ .name = "standby", .pidfd = -1, .link = -1 };
	k.children.worker = (struct child){ .name = "worker", .pid = getpid(), .pidfd = -1,
					    .link = ends[0] };
	worker = ends[1];
	return 0;
}

static int end(void **state)
{
	(void)state;
	for (uint32_t id = 0; id < PROBES_MAX; id++)
		probe_close(&k.probes.live[id]);
	if (k.cost.fd >= 0)
		close(k.cost.fd);
	close(k.children.worker.link);
	close(worker);
	return 0;
}

/* As keeper.c takes it from the link. */
static void ask(const struct link_msg *msg)
{
	static struct link_msg taken;
	int fds[LINK_FDS_MAX];
	unsigned int fds_nr;

	assert_int_equal(link_send(worker, msg, NULL, 0), 0);
	assert_int_equal(link_recv(k.children.worker.link, &taken, fds, &fds_nr), 1);
	request_take(&k, &taken);
}

/* The next thing that the worker hears; *ret_fd: its descriptor or -1. */
static bool hear(struct link_msg *ret, int *ret_fd)
{
	int fds[LINK_FDS_MAX];
	unsigned int fds_nr;

	*ret_fd = -1;
	if (link_recv(worker, ret, fds, &fds_nr) != 1)
		return false;
	for (unsigned int i = 0; i < fds_nr; i++) {
		if (i == 0)
			*ret_fd = fds[i];
		else
			close(fds[i]);
	}
	return true;
}

/* What is answered to the request `id`; what is told of probes is passed by. */
static int answered(uint64_t id, struct link_msg *ret)
{
	int fd;

	do {
		assert_true(hear(ret, &fd));
		if (fd >= 0)
			close(fd);
	} while (ret->kind == LINK_PROBE);
	assert_int_equal(ret->kind, LINK_ANSWER);
	assert_int_equal(ret->id, id);
	assert_non_null(memchr(ret->text, '\0', sizeof(ret->text)));
	return (int)ret->nr;
}

static void nothing_is_attached(void)
{
	for (uint32_t id = 0; id < PROBES_MAX; id++)
		assert_int_equal(k.probes.live[id].origin, 0);
}

static struct link_msg attach_of(const char *text)
{
	struct link_msg msg = { .kind = LINK_ATTACH, .id = 7 };
	char why[512];

	if (spec_parse(NULL, text, &msg.spec, why, sizeof(why)))
		fail_msg("%s: %s", text, why);
	return msg;
}

/* --- forged specs ----------------------------------------------------------------------------- */

static void refused(const struct link_msg *msg, int err)
{
	struct link_msg answer;

	ask(msg);
	assert_int_equal(answered(msg->id, &answer), err);
	assert_true(strlen(answer.text) > 10);
	nothing_is_attached();
}

static void a_forged_spec_is_refused_and_nothing_is_attached(void **state)
{
	const struct link_msg good = attach_of("raw_tp:sys_enter by comm,tgid if arg1 == 3 max 8");
	struct link_msg m;

	(void)state;
	memset(&m, 0xff, sizeof(m));
	m.kind = LINK_ATTACH;
	m.id = UINT64_MAX;
	refused(&m, -EINVAL);
	m = (struct link_msg){ .kind = LINK_ATTACH, .id = 1 };
	refused(&m, -EINVAL);
#define FORGE(change)              \
	do {                       \
		m = good;          \
		change;            \
		refused(&m, -EINVAL); \
	} while (0)
	FORGE(memset(m.spec.name, 'a', sizeof(m.spec.name)));
	FORGE(memset(m.spec.counter, 'a', sizeof(m.spec.counter)));
	FORGE(memset(m.spec.target, 'a', sizeof(m.spec.target)));
	FORGE(memset(m.spec.text, 'a', sizeof(m.spec.text)));
	FORGE(memset(m.spec.filters[0].text, 'a', sizeof(m.spec.filters[0].text)));
	FORGE(strcpy(m.spec.name, "../../etc"));
	FORGE(strcpy(m.spec.name, "syscalls"));
	FORGE(m.spec.name[sizeof(m.spec.name) - 2] = 'x');
	FORGE(strcpy(m.spec.counter, "kernel_forks_total"));
	FORGE(strcpy(m.spec.file, "/etc/passwd"));
	FORGE(m.spec.event = 0);
	FORGE(m.spec.event = UINT32_MAX);
	FORGE(m.spec.keys_nr = UINT32_MAX);
	FORGE(m.spec.filters_nr = UINT32_MAX);
	FORGE(m.spec.keys_max = 0);
	FORGE(m.spec.keys_max = UINT32_MAX);
	FORGE(m.spec.keys[0].field = 255);
	FORGE(m.spec.keys[1].reserved[5] = 1);
	FORGE(m.spec.keys[2].field = SPEC_UID);
	FORGE(m.spec.filters[0].op = 0);
	FORGE(m.spec.filters[0].reserved = 1);
	FORGE(m.spec.filters[3].value = 1);
	FORGE(m.spec.amount.arg = 200);
}

/* Bytes at random in a good one: always an answer. What passes the check goes no further here. */
static void forged_at_random_every_spec_is_answered(void **state)
{
	const struct link_msg good = attach_of("uprobe:libc.so.6:malloc by comm if uid == 0 add arg0");
	unsigned int seed = (unsigned int)getpid();
	struct link_msg m, answer;
	uint32_t passed = 0;

	(void)state;
	k.config.bpf_auto = 0;
	ask(&good);
	assert_int_equal(answered(good.id, &answer), -EPERM);
	assert_non_null(strstr(answer.text, "bpf = off"));
	for (uint32_t i = 0; i < FORGED; i++) {
		int err;

		m = good;
		m.id = i;
		for (int n = 1 + rand_r(&seed) % 4; n; n--)
			((unsigned char *)&m.spec)[(unsigned int)rand_r(&seed) % sizeof(m.spec)] =
				(unsigned char)rand_r(&seed);
		ask(&m);
		err = answered(i, &answer);
		assert_true(err == -EINVAL || err == -EPERM);
		passed += err == -EPERM;
	}
	print_message("# %u of %u passed the check\n", passed, FORGED);
	nothing_is_attached();
}

static void an_object_is_not_a_workers_to_name(void **state)
{
	struct link_msg m = { .kind = LINK_ATTACH, .id = 3 };

	(void)state;
	m.spec.event = SPEC_OBJECT;
	strcpy(m.spec.name, "mine");
	strcpy(m.spec.file, "/etc/talea/mine.bpf.o");
	strcpy(m.spec.text, "object");
	refused(&m, -EPERM);
}

static void a_name_that_does_not_end_is_no_probes(void **state)
{
	static const enum link_kind kinds[] = { LINK_DETACH, LINK_REPLACE };
	struct link_msg m, answer;

	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		memset(&m, 'a', sizeof(m));
		m.kind = kinds[i];
		m.id = 9;
		refused(&m, -ENOENT);
		strcpy(m.text, "../../../etc");
		refused(&m, -ENOENT);
		m.text[0] = '\0';
		ask(&m);
		assert_int_equal(answered(9, &answer), -ENOENT);
	}
}

/* --- what is asked for rightly ---------------------------------------------------------------- */

static void calls(void)
{
	for (uint32_t i = 0; i < CALLS; i++)
		syscall(RARE_CALL, 0);
}

/* One that counts the rare call; its place. */
static uint32_t attach_rare(void)
{
	struct link_msg answer, m;
	char text[128];

	test_needs_bpf();
	snprintf(text, sizeof(text), "rare_total=raw_tp:sys_enter by tgid if arg1 == %d",
		 (int)RARE_CALL);
	m = attach_of(text);
	ask(&m);
	if (answered(m.id, &answer))
		fail_msg("%s", answer.text);
	for (uint32_t id = PROBE_NR; id < PROBES_MAX; id++)
		if (k.probes.live[id].origin == PROBE_OF_COMMAND)
			return id;
	fail_msg("answered, and not attached");
	return 0;
}

static void what_is_asked_for_rightly_is_attached_once_and_ended(void **state)
{
	uint32_t id = attach_rare();
	struct link_msg m = { .kind = LINK_DETACH, .id = 11 }, answer;

	(void)state;
	assert_int_equal(k.probes.live[id].state, WIRE_PROBE_ATTACHED);
	assert_int_equal(attach_rare(), id);
	for (uint32_t other = id + 1; other < PROBES_MAX; other++)
		assert_int_equal(k.probes.live[other].origin, 0);
	strcpy(m.text, k.probes.live[id].spec.name);
	ask(&m);
	assert_int_equal(answered(11, &answer), 0);
	assert_string_equal(answer.text, "");
	nothing_is_attached();
}

/* --- another form of what is configured -------------------------------------------------------- */

/* The configuration comes to ask for this, in this counter. */
static void configure(const char *text, const char *counter)
{
	struct probe_spec *spec = &k.config.specs[0];
	char why[512];

	if (spec_parse("rare", text, spec, why, sizeof(why)))
		fail_msg("%s: %s", text, why);
	strcpy(spec->counter, counter);
	k.config.specs_nr = 1;
	probes_reload(&k);
}

static int replaced(struct link_msg *answer)
{
	struct link_msg m = { .kind = LINK_REPLACE, .id = 13, .text = "rare" };

	ask(&m);
	return answered(13, answer);
}

/* Its counter's labels stay: what replaced it would count, and be shown nowhere. */
static void by_other_keys_it_is_replaced_in_another_counter_alone(void **state)
{
	const struct probe_live *live = &k.probes.live[PROBE_NR];
	struct link_msg answer;
	int keys_fd;

	(void)state;
	test_needs_bpf();
	configure("raw_tp:sys_enter by comm,tgid", "rare_total");
	assert_int_equal(live->state, WIRE_PROBE_ATTACHED);
	keys_fd = live->sources[0].keys_fd;
	configure("raw_tp:sys_enter by comm,uid", "rare_total");
	assert_int_equal(replaced(&answer), -EEXIST);
	assert_non_null(strstr(answer.text, "rare_total stay"));
	assert_non_null(strstr(answer.text, "another counter"));
	assert_int_equal(live->state, WIRE_PROBE_ATTACHED);
	assert_int_equal(live->sources[0].keys_fd, keys_fd);
	configure("raw_tp:sys_enter by comm,uid", "rare_by_uid_total");
	assert_int_equal(replaced(&answer), 0);
	assert_string_equal(live->sources[0].def.name, "rare_by_uid_total");
	configure("raw_tp:sys_enter by comm,uid if arg1 == 1", "rare_by_uid_total");
	assert_int_equal(replaced(&answer), 0);
	assert_int_equal(live->state, WIRE_PROBE_ATTACHED);
}

/* --- taking over ------------------------------------------------------------------------------ */

/* As the standby finds it when the keeper was killed before it told of a replacement, or before it had
 * attached all that the configuration asks for. */
static void a_new_keeper_goes_on_with_what_is_pinned_and_attaches_what_is_wanting(void **state)
{
	const struct probe_live *live = &k.probes.live[PROBE_NR];
	struct probe_live *told = &k.probes.live[PROBE_NR];
	char folder[] = "/tmp/talea-requests.XXXXXX";
	uint64_t since;

	(void)state;
	test_needs_bpf();
	assert_non_null(mkdtemp(folder));
	snprintf(k.config.state, sizeof(k.config.state), "%s", folder);
	k.state.fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	k.config.pin_auto = 1;
	configure("raw_tp:sys_enter by comm", "rare_total");
	assert_true(live->is_pinned && !live->is_adopted);
	since = live->since_real_ns;
	told->since_real_ns--;
	probes_takeover(&k);
	assert_int_equal(live->state, WIRE_PROBE_ATTACHED);
	assert_true(live->is_adopted && live->since_real_ns == since);
	probe_close(told);
	*told = (struct probe_live){ 0 };
	probe_live_init(PROBES_MAX, told);
	pins_remove(&k.probes.pins, "rare");
	probes_takeover(&k);
	assert_int_equal(live->state, WIRE_PROBE_ATTACHED);
	assert_true(live->is_pinned && !live->is_adopted);
	pins_close(&k.probes.pins);
	assert_int_equal(pins_remove_all(folder), 1);
	close(k.state.fd);
	rmdir(folder);
}

/* --- cost ------------------------------------------------------------------------------------- */

static void ask_cost(uint64_t id, uint32_t ms)
{
	ask(&(struct link_msg){ .kind = LINK_COST, .id = id, .nr = ms });
}

static uint64_t runs(uint32_t id)
{
	struct bpf_prog_info info = { 0 };
	uint32_t bytes = sizeof(info);

	assert_int_equal(bpf_obj_get_info_by_fd(k.probes.live[id].prog_fds[0], &info, &bytes), 0);
	return info.run_cnt;
}

/* Others on this host may measure too: of some tries one is without. */
static bool is_off(uint32_t id)
{
	for (int i = 0; i < 50; i++) {
		uint64_t before = runs(id);

		calls();
		if (runs(id) == before)
			return true;
		harness_sleep_ms(100);
	}
	return false;
}

static void a_window_measures_what_ran_in_it_and_ends(void **state)
{
	static struct probe_cost cost[PROBES_MAX];
	uint32_t id = attach_rare();
	struct link_msg m;
	int fd, window;

	(void)state;
	ask_cost(5, 0);
	window = k.cost.fd;
	assert_true(window >= 0);
	calls();
	clock_ahead_s++;
	request_cost_due(&k);
	assert_true(hear(&m, &fd));
	assert_int_equal(m.kind, LINK_COST);
	assert_in_range(m.nr, 1000, 30000);
	assert_int_equal(link_unpack(fd, cost, sizeof(cost)), 0);
	close(fd);
	assert_int_equal(answered(5, &m), 0);
	/* All of this process's calls run it, and all others'. */
	assert_in_range(cost[id].runs, CALLS, UINT64_MAX);
	assert_in_range(cost[id].ns, cost[id].runs, cost[id].runs * 100000);
	for (uint32_t other = 0; other < PROBES_MAX; other++)
		if (other != id)
			assert_int_equal(cost[other].runs, 0);
	assert_int_equal(k.cost.fd, -1);
	assert_int_equal(fcntl(window, F_GETFD), -1);
	assert_true(k.cost.end.due_ns == NEVER);
	assert_true(is_off(id));
}

static void one_window_at_a_time_and_none_is_longer_than_allowed(void **state)
{
	struct link_msg m;
	int fd;

	(void)state;
	test_needs_bpf();
	ask_cost(5, UINT32_MAX);
	assert_true(k.cost.end.due_ns - k.cost.began_ns <= LINK_COST_MS_MAX * 1000000ull);
	ask_cost(6, 100);
	assert_int_equal(answered(6, &m), -EBUSY);
	assert_non_null(strstr(m.text, "fix: "));
	request_cost_due(&k);
	assert_false(hear(&m, &fd)); /* the first one goes on */
	clock_ahead_s += 11;
	request_cost_due(&k);
	assert_true(hear(&m, &fd));
	assert_int_equal(m.kind, LINK_COST);
	close(fd);
	assert_int_equal(answered(5, &m), 0);
	ask_cost(7, 1);
	assert_true(k.cost.fd >= 0);
}

static void a_window_ends_with_the_worker_that_asked_for_it(void **state)
{
	struct link_msg m;
	int fd, window;

	(void)state;
	test_needs_bpf();
	ask_cost(5, LINK_COST_MS_MAX);
	window = k.cost.fd;
	request_cost_due(&k);
	assert_int_equal(k.cost.fd, window);
	k.children.worker.pid++;
	request_cost_due(&k);
	assert_int_equal(k.cost.fd, -1);
	assert_int_equal(fcntl(window, F_GETFD), -1);
	assert_false(hear(&m, &fd)); /* its successor asked for nothing */
}

/* --- cgroups ---------------------------------------------------------------------------------- */

static void paths_of_cgroups_are_told_and_a_flood_of_questions_is_bounded(void **state)
{
	struct link_msg m = { .kind = LINK_CGROUP }, back;
	uint32_t answers = 0;
	uint64_t root;
	int fd;

	(void)state;
	clock_ahead_s += 2;
	m.id = UINT64_MAX;
	ask(&m);
	assert_true(hear(&back, &fd));
	assert_int_equal(back.kind, LINK_CGROUP);
	assert_true(back.id == UINT64_MAX);
	assert_string_equal(back.text, "");
	for (uint32_t i = 0; i < ASKED; i++) {
		m.id = UINT64_MAX - i;
		ask(&m);
		answers += hear(&back, &fd);
	}
	print_message("# %u of %u questions answered\n", answers, ASKED);
	assert_in_range(answers, 1, ASKED - 1);
	clock_ahead_s++;
	if (cgroup_id("/", &root))
		test_skip("no cgroup2 is mounted here");
	m.id = root;
	ask(&m);
	assert_true(hear(&back, &fd));
	assert_string_equal(back.text, "/");
}

#define WITH_KEEPER(test) cmocka_unit_test_setup_teardown(test, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_KEEPER(a_forged_spec_is_refused_and_nothing_is_attached),
		WITH_KEEPER(forged_at_random_every_spec_is_answered),
		WITH_KEEPER(an_object_is_not_a_workers_to_name),
		WITH_KEEPER(a_name_that_does_not_end_is_no_probes),
		WITH_KEEPER(what_is_asked_for_rightly_is_attached_once_and_ended),
		WITH_KEEPER(by_other_keys_it_is_replaced_in_another_counter_alone),
		WITH_KEEPER(a_new_keeper_goes_on_with_what_is_pinned_and_attaches_what_is_wanting),
		WITH_KEEPER(a_window_measures_what_ran_in_it_and_ends),
		WITH_KEEPER(one_window_at_a_time_and_none_is_longer_than_allowed),
		WITH_KEEPER(a_window_ends_with_the_worker_that_asked_for_it),
		WITH_KEEPER(paths_of_cgroups_are_told_and_a_flood_of_questions_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

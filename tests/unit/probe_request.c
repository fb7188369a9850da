/*
 * What the worker does with an admin's request about a probe
 * (daemon/worker/control/probe_request.c): it checks it, sends it to the keeper, holds the client,
 * and answers when the keeper has and the fold thread has seen it. The test is client, keeper and
 * fold thread: the last one by two functions that take its place (tests/dir.mk).
 */
#include "tests/lib/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/worker/control/control.h"
#include "daemon/worker/kernel/kernel.h"
#include "tests/lib/inside.h"

#define ATTACH "x_total=raw_tp:sched_wakeup by comm"

static struct inside in;
static struct control c;
static struct worker_start start;
static int keeper, client;
static struct connection *conn;
static struct keeper_request *asked; /* of the fold thread, and not finished yet */

void __wrap_keeper_request_ask(struct control *control, const struct keeper_request *what);
void __wrap_fold_probe_statistics(const struct fold *f, uint32_t place,
				  struct source_statistics *ret);

void __wrap_keeper_request_ask(struct control *control, const struct keeper_request *what)
{
	(void)control;
	assert_null(asked);
	asked = malloc(sizeof(*asked));
	assert_non_null(asked);
	*asked = *what;
}

void __wrap_fold_probe_statistics(const struct fold *f, uint32_t place,
				  struct source_statistics *ret)
{
	(void)f;
	(void)place;
	*ret = (struct source_statistics){ .kept = 42 };
}

static void fold_finishes(void)
{
	struct keeper_request *r = asked;

	assert_non_null(r);
	asked = NULL;
	r->request.finish(&c, &r->request);
}

static int begin(void **state)
{
	int link[2], sockets[2];

	(void)state;
	inside_start(&in, 8);
	memset(&c, 0, sizeof(c));
	memset(&start, 0, sizeof(start));
	if (link_open(link) || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets))
		return -1;
	start.link_fd = link[0];
	keeper = link[1];
	client = sockets[0];
	c.start = &start;
	c.epoll = epoll_create1(EPOLL_CLOEXEC);
	c.spaces[c.spaces_nr++] = in.space;
	for (uint32_t place = 0; place < PROBES_MAX; place++)
		probe_live_init(place, &c.probes[place].live);
	conn = connection_open(&c, 1, sockets[1], CONNECTION_GREETED);
	return conn ? 0 : -1;
}

static int end(void **state)
{
	(void)state;
	connections_fini(&c);
	close(c.epoll);
	close(client);
	close(keeper);
	if (start.link_fd >= 0)
		close(start.link_fd);
	inside_stop(&in);
	return 0;
}

static void request(enum wire_probe_op op, const char *text, bool is_checked_only, uint32_t number)
{
	_Alignas(8) char buf[sizeof(struct wire_probe_change) + WIRE_TEXT_MAX] = "";
	struct wire_probe_change *m = (void *)buf;

	m->head.number = number;
	m->op = op;
	m->bytes = (uint32_t)strlen(text);
	m->is_checked_only = is_checked_only;
	memcpy(m->text, text, m->bytes);
	probe_request_receive(&c, conn, m);
}

/* What the client gets now: the kind, 0 for nothing. */
static uint16_t answer(void *ret, size_t size, uint32_t number)
{
	ssize_t n = recv(client, ret, size, MSG_DONTWAIT);
	const struct wire_head *head = ret;

	if (n <= 0)
		return 0;
	assert_int_equal(head->number, number);
	return head->kind;
}

static void expect_record(uint32_t number, const char *name, uint32_t state)
{
	_Alignas(8) char buf[sizeof(struct wire_answer) + sizeof(struct wire_probe)];
	const struct wire_answer *a = (void *)buf;
	const struct wire_probe *p = (const void *)a->records;

	assert_int_equal(answer(buf, sizeof(buf), number), WIRE_ANSWER);
	assert_int_equal(a->nr, 1);
	assert_string_equal(p->name, name);
	assert_int_equal(p->state, state);
}

static void expect_error(uint32_t number, int err, const char *text)
{
	static struct wire_error e;

	assert_int_equal(answer(&e, sizeof(e), number), WIRE_ERROR);
	assert_int_equal(e.err, err);
	if (!strstr(e.text, text))
		fail_msg("\"%s\" is not in \"%s\"", text, e.text);
}

static void expect_nothing(void)
{
	char buf[64];

	assert_int_equal(recv(client, buf, sizeof(buf), MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
}

/* What the keeper gets now; false: nothing. */
static bool keeper_gets(struct link_msg *ret)
{
	int fds[LINK_FDS_MAX];
	unsigned int fds_nr;
	int err = link_recv(keeper, ret, fds, &fds_nr);

	assert_true(err == 1 || err == -EAGAIN);
	return err == 1;
}

static void keeper_answers(uint64_t id, int err, const char *text)
{
	struct link_msg m = { .kind = LINK_ANSWER, .nr = (uint32_t)err, .id = id };

	strcpy(m.text, text);
	probe_request_answered(&c, &m);
}

static void probe_is_attached(uint32_t place, const char *text)
{
	struct probe_live *live = &c.probes[place].live;
	char why[256];

	assert_int_equal(spec_parse(NULL, text, &live->spec, why, sizeof(why)), 0);
	live->origin = PROBE_OF_COMMAND;
	live->state = WIRE_PROBE_ATTACHED;
}

/* --- the way of a request --------------------------------------------------------------------- */

static void an_attach_is_answered_when_keeper_and_fold_thread_have_done_it(void **state)
{
	struct link_msg m;

	(void)state;
	request(WIRE_PROBE_ATTACH, ATTACH, false, 7);
	assert_true(conn->is_asking && conn->is_paused);
	assert_true(keeper_gets(&m));
	assert_int_equal(m.kind, LINK_ATTACH);
	assert_string_equal(m.spec.counter, "x_total");
	expect_nothing();
	probe_is_attached(PROBE_NR, ATTACH);
	keeper_answers(m.id, 0, "");
	assert_true(conn->is_asking);
	expect_nothing();
	fold_finishes();
	assert_false(conn->is_asking || conn->is_paused);
	expect_record(7, c.probes[PROBE_NR].live.spec.name, WIRE_PROBE_ATTACHED);
}

static void what_the_keeper_refuses_is_answered_with_its_text(void **state)
{
	struct link_msg m;

	(void)state;
	request(WIRE_PROBE_ATTACH, ATTACH, false, 8);
	assert_true(keeper_gets(&m));
	keeper_answers(m.id, -ENOSPC, "no room: there are 96 probes");
	fold_finishes();
	expect_error(8, -ENOSPC, "no room: there are 96 probes");
	assert_false(conn->is_asking);
}

/* The keeper is trusted with no errno that is none. */
static void an_answer_that_is_no_errno_is_a_protocol_error(void **state)
{
	struct link_msg m;

	(void)state;
	request(WIRE_PROBE_ATTACH, ATTACH, false, 9);
	assert_true(keeper_gets(&m));
	keeper_answers(m.id, 12345, "");
	fold_finishes();
	expect_error(9, -EPROTO, "");
}

static void a_detach_says_what_it_has_counted_to_its_end(void **state)
{
	struct link_msg m;

	(void)state;
	probe_is_attached(PROBE_NR, ATTACH);
	request(WIRE_PROBE_DETACH, c.probes[PROBE_NR].live.spec.name, false, 10);
	assert_true(keeper_gets(&m));
	assert_int_equal(m.kind, LINK_DETACH);
	assert_string_equal(m.text, c.probes[PROBE_NR].live.spec.name);
	probe_live_init(PROBE_NR, &c.probes[PROBE_NR].live);
	keeper_answers(m.id, 0, "");
	fold_finishes();
	expect_record(10, m.text, WIRE_PROBE_OFF);
}

/* --- what never reaches the keeper ------------------------------------------------------------ */

static void a_spec_that_does_not_parse_is_refused_at_once(void **state)
{
	struct link_msg m;

	(void)state;
	request(WIRE_PROBE_ATTACH, "raw_tp:sched_wakeup by nonsense", false, 1);
	expect_error(1, -EINVAL, "nonsense");
	assert_false(keeper_gets(&m) || conn->is_asking);
}

static void a_counter_that_a_program_has_registered_is_refused_with_another_name(void **state)
{
	struct link_msg m;

	(void)state;
	inside_make(&in, SHM_COUNTER, "x_total");
	request(WIRE_PROBE_ATTACH, ATTACH, false, 2);
	expect_error(2, -EEXIST, "a program has registered x_total. fix: talea attach "
				 "'x_by_comm_total=raw_tp:sched_wakeup by comm'");
	assert_false(keeper_gets(&m) || conn->is_asking);
}

static void a_dry_run_is_answered_and_sent_nowhere(void **state)
{
	struct link_msg m;

	(void)state;
	request(WIRE_PROBE_ATTACH, ATTACH, true, 3);
	expect_record(3, "x", 0);
	assert_false(keeper_gets(&m) || conn->is_asking);
}

static void a_probe_that_does_not_exist_cannot_be_detached_or_replaced(void **state)
{
	struct link_msg m;

	(void)state;
	request(WIRE_PROBE_DETACH, "nobody", false, 4);
	expect_error(4, -ENOENT, "there is no probe nobody");
	request(WIRE_PROBE_REPLACE, "nobody", false, 5);
	expect_error(5, -ENOENT, "there is no probe nobody");
	assert_false(keeper_gets(&m));
}

/* --- what can go wrong on the way ------------------------------------------------------------- */

static void the_requests_under_way_are_bounded(void **state)
{
	struct link_msg m;
	uint64_t first = 0;

	(void)state;
	for (uint32_t i = 0; i < PROBE_REQUESTS_MAX; i++) {
		request(WIRE_PROBE_ATTACH, ATTACH, false, i);
		assert_true(keeper_gets(&m));
		first = first ? first : m.id;
	}
	request(WIRE_PROBE_ATTACH, ATTACH, false, 99);
	expect_error(99, -EAGAIN, "more requests about probes under way");
	assert_false(keeper_gets(&m));
	/* One that ends makes room for another. */
	keeper_answers(first, -EINVAL, "no");
	fold_finishes();
	expect_error(0, -EINVAL, "no");
	request(WIRE_PROBE_ATTACH, ATTACH, false, 100);
	assert_true(keeper_gets(&m));
}

static void a_client_that_is_gone_is_not_answered_and_is_freed_then(void **state)
{
	struct link_msg m;

	(void)state;
	request(WIRE_PROBE_ATTACH, ATTACH, false, 11);
	assert_true(keeper_gets(&m));
	connection_end(&c, conn);
	connections_free(&c);
	assert_ptr_equal(c.connections.ended, conn); /* its request is under way */
	keeper_answers(m.id, 0, "");
	fold_finishes();
	connections_free(&c);
	assert_null(c.connections.ended);
}

static void an_answer_to_no_request_or_to_one_that_ended_has_no_effect(void **state)
{
	struct link_msg m;

	(void)state;
	keeper_answers(77, 0, "");
	assert_null(asked);
	request(WIRE_PROBE_ATTACH, ATTACH, false, 12);
	assert_true(keeper_gets(&m));
	keeper_answers(m.id, -EPERM, "no");
	fold_finishes();
	expect_error(12, -EPERM, "no");
	keeper_answers(m.id, 0, "");
	assert_null(asked);
	expect_nothing();
}

/* The next worker is asked again by the client: this one holds it and says nothing. */
static void without_a_keeper_the_client_waits_for_the_next_worker(void **state)
{
	(void)state;
	close(keeper);
	keeper = -1;
	request(WIRE_PROBE_ATTACH, ATTACH, false, 13);
	assert_true(conn->is_asking);
	expect_nothing();
}

#define REQUEST_TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		REQUEST_TEST(an_attach_is_answered_when_keeper_and_fold_thread_have_done_it),
		REQUEST_TEST(what_the_keeper_refuses_is_answered_with_its_text),
		REQUEST_TEST(an_answer_that_is_no_errno_is_a_protocol_error),
		REQUEST_TEST(a_detach_says_what_it_has_counted_to_its_end),
		REQUEST_TEST(a_spec_that_does_not_parse_is_refused_at_once),
		REQUEST_TEST(a_counter_that_a_program_has_registered_is_refused_with_another_name),
		REQUEST_TEST(a_dry_run_is_answered_and_sent_nowhere),
		REQUEST_TEST(a_probe_that_does_not_exist_cannot_be_detached_or_replaced),
		REQUEST_TEST(the_requests_under_way_are_bounded),
		REQUEST_TEST(a_client_that_is_gone_is_not_answered_and_is_freed_then),
		REQUEST_TEST(an_answer_to_no_request_or_to_one_that_ended_has_no_effect),
		REQUEST_TEST(without_a_keeper_the_client_waits_for_the_next_worker),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

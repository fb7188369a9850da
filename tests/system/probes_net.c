/*
 * What the probes of TCP and of dropped packets count. The packets run over the loopback of a network
 * namespace of the test's own, whose /proc/net/snmp nobody else writes. Root only.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "tests/lib/child.h"
#include "tests/lib/kernel.h"

#define CONNECTIONS 50
#define DATAGRAMS   500
#define PORT	    4321

static uint64_t *own; /* what the namespace's book says in the end; shared with the child */

static const struct sockaddr_in address = {
	.sin_family = AF_INET,
	.sin_port = __builtin_bswap16(PORT),
	.sin_addr.s_addr = __builtin_bswap32(INADDR_LOOPBACK),
};
static const struct sockaddr *const to = (const struct sockaddr *)&address;

static int setup(void **state)
{
	own = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return own == MAP_FAILED ? -1 : kernel_setup(state);
}

static void enter_network(void)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd;

	CHECK(unshare(CLONE_NEWNET) == 0);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	CHECK(fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &lo) == 0);
	close(fd);
}

/* Numbers of the second line that begins with "Tcp:" are named by the first. */
static uint64_t reference_tcp(const char *name)
{
	char names[1024] = "", numbers[1024] = "", *rest_names, *rest_numbers;
	FILE *f = fopen("/proc/self/net/snmp", "re");
	const char *one, *number;

	CHECK(f);
	while (fgets(names, sizeof(names), f) && strncmp(names, "Tcp:", 4))
		;
	CHECK(fgets(numbers, sizeof(numbers), f));
	fclose(f);
	one = strtok_r(names, " \n", &rest_names);
	number = strtok_r(numbers, " \n", &rest_numbers);
	while (one && number && strcmp(one, name)) {
		one = strtok_r(NULL, " \n", &rest_names);
		number = strtok_r(NULL, " \n", &rest_numbers);
	}
	CHECK(one && number);
	return (uint64_t)atoll(number);
}

static int tcp(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0);
	return fd;
}

static int listener(void)
{
	int fd = tcp();

	CHECK(bind(fd, to, sizeof(address)) == 0 && listen(fd, 2 * CONNECTIONS) == 0);
	return fd;
}

/* --- connections ------------------------------------------------------------------------------ */

static void open_and_close(void)
{
	int server;

	enter_network();
	server = listener();
	for (int i = 0; i < CONNECTIONS; i++) {
		int fd = tcp(), peer;

		CHECK(connect(fd, to, sizeof(address)) == 0);
		peer = accept(server, NULL, NULL);
		CHECK(peer >= 0);
		close(fd);
		close(peer);
	}
	own[0] = reference_tcp("ActiveOpens");
	own[1] = reference_tcp("PassiveOpens");
}

static void opens_are_no_fewer_than_the_namespace_s_own(void **state)
{
	(void)state;
	kernel_needs("tcp_states");
	kernel_counts_about("kernel_tcp_active_opens_total", open_and_close, CONNECTIONS);
	assert_int_equal(own[0], CONNECTIONS);
	kernel_counts_about("kernel_tcp_passive_opens_total", open_and_close, CONNECTIONS);
	assert_int_equal(own[1], CONNECTIONS);
	kernel_counts_about("kernel_tcp_state_changes_total{from=\"syn_sent\",to=\"established\"}",
			    open_and_close, CONNECTIONS);
	kernel_counts_about("kernel_tcp_state_changes_total{from=\"established\",to=\"close_wait\"}",
			    open_and_close, CONNECTIONS);
	assert_int_equal(kernel_count("kernel_tcp_state_changes_total{to=\"nr_*\"}"), 0);
}

/* --- resets ----------------------------------------------------------------------------------- */

static void knock_where_nobody_listens(void)
{
	enter_network();
	for (int i = 0; i < CONNECTIONS; i++) {
		int fd = tcp();

		CHECK(connect(fd, to, sizeof(address)) == -1 && errno == ECONNREFUSED);
		close(fd);
	}
	own[0] = reference_tcp("OutRsts");
}

static void close_with_data_unread(void)
{
	int server;

	enter_network();
	server = listener();
	for (int i = 0; i < CONNECTIONS; i++) {
		int fd = tcp(), peer;

		CHECK(connect(fd, to, sizeof(address)) == 0 && write(fd, "x", 1) == 1);
		peer = accept(server, NULL, NULL);
		CHECK(peer >= 0);
		close(peer);
		close(fd);
	}
	own[0] = reference_tcp("OutRsts");
}

static void resets_are_no_fewer_than_the_namespace_s_own(void **state)
{
	(void)state;
	kernel_needs("tcp_resets_sent");
	kernel_needs("tcp_resets_received");
	kernel_counts_about("kernel_tcp_resets_sent_total", knock_where_nobody_listens, CONNECTIONS);
	assert_int_equal(own[0], CONNECTIONS);
	kernel_counts_about("kernel_tcp_resets_received_total", knock_where_nobody_listens,
			    CONNECTIONS);
	kernel_counts_about("kernel_tcp_resets_sent_total", close_with_data_unread, CONNECTIONS);
	assert_int_equal(own[0], CONNECTIONS);
}

static void resets_have_the_kernel_s_reasons(void **state)
{
	(void)state;
	kernel_needs("tcp_resets_sent");
	kernel_run(knock_where_nobody_listens);
	if (kernel_count("kernel_tcp_resets_sent_total{reason=\"other\"}"))
		test_skip("this kernel gives no reason");
	kernel_counts_about("kernel_tcp_resets_sent_total{reason=\"no_socket\"}",
			    knock_where_nobody_listens, CONNECTIONS);
	kernel_counts_about("kernel_tcp_resets_sent_total{reason=\"tcp_abort_on_close\"}",
			    close_with_data_unread, CONNECTIONS);
}

/* --- drops and retransmits -------------------------------------------------------------------- */

/* The socket takes no packet of these: a filter lets 0 bytes of each through. */
static void set_filter(int fd, struct sock_filter *code, unsigned short nr)
{
	const struct sock_fprog filter = { .len = nr, .filter = code };

	CHECK(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) == 0);
}

static void drop_all(int fd)
{
	struct sock_filter none[] = { BPF_STMT(BPF_RET | BPF_K, 0) };

	set_filter(fd, none, 1);
}

static void drop_one_in_eight(int fd)
{
	struct sock_filter some[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_RANDOM)),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 1u << 29, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};

	set_filter(fd, some, 4);
}

/* What is tried again comes again after a second; nothing is under way when the book is read. */
static void wait_for_one_try(void)
{
	harness_sleep_ms(1400);
	own[0] = reference_tcp("RetransSegs");
}

static void call_the_deaf(void)
{
	int server;

	enter_network();
	server = listener();
	drop_all(server);
	for (int i = 0; i < CONNECTIONS; i++) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

		CHECK(fd >= 0 && connect(fd, to, sizeof(address)) == -1 && errno == EINPROGRESS);
	}
	wait_for_one_try();
}

/* Callers that do not hear the answer: both sides repeat themselves. */
static void call_and_be_deaf(void)
{
	enter_network();
	listener();
	for (int i = 0; i < CONNECTIONS; i++) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

		CHECK(fd >= 0);
		drop_all(fd);
		CHECK(connect(fd, to, sizeof(address)) == -1 && errno == EINPROGRESS);
	}
	wait_for_one_try();
}

/* Much at once over a line that loses some: what is repeated leaves in buffers of many segments. */
static void send_over_a_bad_line(void)
{
	static char bytes[4 << 20];
	const int segment = 536;
	int server, fd, peer;
	size_t got = 0;
	pid_t pid;

	enter_network();
	server = listener();
	fd = tcp();
	CHECK(setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof(segment)) == 0);
	CHECK(connect(fd, to, sizeof(address)) == 0);
	peer = accept(server, NULL, NULL);
	CHECK(peer >= 0);
	drop_one_in_eight(peer);
	pid = test_fork();
	CHECK(pid >= 0);
	if (pid == 0)
		_exit(write(fd, bytes, sizeof(bytes)) == sizeof(bytes) ? 0 : 1);
	while (got < sizeof(bytes)) {
		ssize_t part = read(peer, bytes, sizeof(bytes));

		CHECK(part > 0);
		got += (size_t)part;
	}
	own[0] = reference_tcp("RetransSegs");
}

/* All of the machine's are counted; what the host's own network repeats meanwhile is no fault. */
static void assert_reference(const char *glob, void (*load)(void), uint64_t at_least)
{
	uint64_t counted = kernel_counts(glob, load, at_least);

	print_message("# %s: %llu, book: %llu\n", glob, (unsigned long long)counted,
		      (unsigned long long)own[0]);
	assert_in_range(own[0], at_least, counted);
	assert_true(counted <= own[0] + own[0] / 2);
}

static void what_is_sent_again_is_what_the_namespace_s_reference_counter_says(void **state)
{
	uint64_t before;

	(void)state;
	kernel_needs("tcp_retransmits");
	kernel_needs("tcp_synack_retransmits");
	assert_reference("kernel_tcp_retransmits_total", call_the_deaf, CONNECTIONS);
	before = kernel_count("kernel_tcp_retransmits_total{kind=\"syn_ack\"}");
	assert_reference("kernel_tcp_retransmits_total", call_and_be_deaf, 2 * CONNECTIONS);
	assert_true(kernel_count("kernel_tcp_retransmits_total{kind=\"syn_ack\"}") >=
		    before + CONNECTIONS);
	assert_reference("kernel_tcp_retransmits_total", send_over_a_bad_line, 100);
}

static int datagrams(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0);
	return fd;
}

static void send_datagrams(int fd)
{
	for (int i = 0; i < DATAGRAMS; i++)
		if (sendto(fd, "x", 1, 0, to, sizeof(address)) != 1)
			CHECK(errno == ECONNREFUSED);
}

static void send_to_a_filter(void)
{
	int server;

	enter_network();
	server = datagrams();
	CHECK(bind(server, to, sizeof(address)) == 0);
	drop_all(server);
	send_datagrams(datagrams());
}

static void send_to_nobody(void)
{
	enter_network();
	send_datagrams(datagrams());
}

static void drops_have_the_kernel_s_reasons(void **state)
{
	(void)state;
	kernel_needs("packet_drops");
	kernel_counts_about("kernel_packet_drops_total{reason=\"socket_filter\"}", send_to_a_filter,
			    DATAGRAMS);
	kernel_counts_about("kernel_packet_drops_total{reason=\"no_socket\"}", send_to_nobody,
			    DATAGRAMS);
	assert_int_equal(kernel_count("kernel_packet_drops_total{reason=\"nr_*\"}"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(opens_are_no_fewer_than_the_namespace_s_own),
		cmocka_unit_test(resets_are_no_fewer_than_the_namespace_s_own),
		cmocka_unit_test(resets_have_the_kernel_s_reasons),
		cmocka_unit_test(what_is_sent_again_is_what_the_namespace_s_reference_counter_says),
		cmocka_unit_test(drops_have_the_kernel_s_reasons),
	};

	return cmocka_run_group_tests(tests, setup, kernel_teardown);
}

/*
 * Sending and receiving messages of the control protocol: fds travel or are closed, and nothing
 * that does not fit is taken for a message.
 */
#include "tests/lib/test.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shm/wire.h"

static struct wire_hello *make_hello(void)
{
	static struct wire_hello m;

	m = (struct wire_hello){
		.head = { WIRE_MAGIC, WIRE_VERSION, WIRE_HELLO, 7, sizeof(m) },
		.abi = SHM_ABI, .access = WIRE_WRITE, .name_space = "default",
	};
	return &m;
}

static void pair(int sv[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv), 0);
}

static int open_fds(void)
{
	int nr = 0;

	for (int fd = 0; fd < 512; fd++)
		nr += fcntl(fd, F_GETFD) >= 0;
	return nr;
}

static void fds_travel_cloexec_and_those_not_wanted_are_closed(void **state)
{
	int sv[2], fds[3] = { 0, 1, 2 }, got[3] = { -1, -1, -1 }, before;
	unsigned int nr = 99;
	struct wire_hello *m;
	_Alignas(8) char in[WIRE_MAX];

	(void)state;
	pair(sv);
	before = open_fds();
	m = make_hello();
	assert_int_equal(wire_send(sv[0], m, fds, 3, 0), 0);
	assert_int_equal(wire_recv(sv[1], in, sizeof(in), got, 3, &nr, 0), sizeof(*m));
	assert_int_equal(nr, 3);
	assert_memory_equal(in, m, sizeof(*m));
	for (int i = 0; i < 3; i++) {
		assert_int_equal(fcntl(got[i], F_GETFD), FD_CLOEXEC);
		close(got[i]);
	}
	assert_int_equal(wire_send(sv[0], m, fds, 3, 0), 0);
	assert_int_equal(wire_recv(sv[1], in, sizeof(in), got, 1, &nr, 0), sizeof(*m));
	assert_int_equal(nr, 1);
	close(got[0]);
	assert_int_equal(wire_send(sv[0], m, fds, 3, 0), 0);
	assert_int_equal(wire_recv(sv[1], in, sizeof(in), NULL, 0, NULL, 0), sizeof(*m));
	assert_int_equal(open_fds(), before);
	close(sv[0]);
	close(sv[1]);
}

static void a_message_longer_than_the_buffer_is_an_error_and_leaves_no_fd(void **state)
{
	int sv[2], fds[3] = { 0, 1, 2 }, got[3], before;
	_Alignas(8) char in[64];
	unsigned int nr = 99;

	(void)state;
	pair(sv);
	before = open_fds();
	assert_int_equal(wire_send(sv[0], make_hello(), fds, 3, 0), 0);
	assert_int_equal(wire_recv(sv[1], in, sizeof(in), got, 3, &nr, 0), -EMSGSIZE);
	assert_int_equal(nr, 0);
	assert_int_equal(open_fds(), before);
	assert_int_equal(wire_recv(sv[1], in, sizeof(in), got, 3, &nr, MSG_DONTWAIT), -EAGAIN);
	close(sv[0]);
	assert_int_equal(wire_recv(sv[1], in, sizeof(in), got, 3, &nr, 0), 0);
	assert_int_equal(wire_send(sv[1], make_hello(), NULL, 0, 0), -EPIPE);
	close(sv[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fds_travel_cloexec_and_those_not_wanted_are_closed),
		cmocka_unit_test(a_message_longer_than_the_buffer_is_an_error_and_leaves_no_fd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

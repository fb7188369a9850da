/*
 * Adds between two system calls that nothing else makes, so that strace shows what the adds do:
 * on a hot counter, a cold one and an existing member of a family.
 */
#include <stdlib.h>
#include <sys/syscall.h>
#include <talea.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	long adds = argc > 1 ? atol(argv[1]) : 1000;
	struct talea_counter hot, cold;
	struct talea_family keys;
	struct talea *t;
	uint64_t key = 7;

	if (talea_open(&t, NULL) ||
	    talea_counter(t, &hot, "quiet_hot_total", "Adds under strace.", NULL) ||
	    talea_counter(t, &cold, "quiet_cold_total", "Adds under strace.", NULL) ||
	    talea_family(t, &keys, "quiet_keys_total", "Adds under strace.", "key:u64") ||
	    talea_family_add(&keys, &key, sizeof(key), 1))
		return 1;
	syscall(SYS_getsid, 0);
	for (long i = 0; i < adds; i++)
		talea_inc(hot);
	for (long i = 0; i < adds / 10; i++) {
		talea_inc(cold);
		talea_family_add(&keys, &key, sizeof(key), 1);
	}
	syscall(SYS_getsid, 0);
	talea_close(t);
	return 0;
}

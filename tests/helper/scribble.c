/* Stores where it must not, as a program with a fault would: adds N to the cold cell that lies SLOTS
 * beyond the one of the counter NAME. What a hostile client is to tests/system/hot.sh. */
#include <stdio.h>
#include <stdlib.h>

#include <talea.h>

#include "shm/order.h"

int main(int argc, char **argv)
{
	struct talea_counter c;
	struct talea *t;

	if (argc != 4) {
		fprintf(stderr, "scribble NAME SLOTS N\n");
		return 2;
	}
	if (talea_open(&t, NULL) || talea_counter(t, &c, argv[1], "Of a test.", NULL)) {
		fprintf(stderr, "scribble: %s\n", talea_strerror(t, 0));
		return 1;
	}
	shm_count_add(c.target_->cold + strtol(argv[2], NULL, 10),
		      (uint64_t)strtoll(argv[3], NULL, 10));
	talea_close(t);
	return 0;
}

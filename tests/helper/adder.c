/* Adds N to a counter and ends: what an exec()ed program is to tests/system/adding.c. */
#include <stdio.h>
#include <stdlib.h>

#include <talea.h>

int main(int argc, char **argv)
{
	struct talea_counter c;
	struct talea *t;

	if (argc != 3) {
		fprintf(stderr, "adder NAME N\n");
		return 2;
	}
	if (talea_open(&t, NULL) || talea_counter(t, &c, argv[1], "Of a test.", NULL)) {
		fprintf(stderr, "adder: %s\n", talea_strerror(t, 0));
		return 1;
	}
	talea_add(c, (uint64_t)strtoull(argv[2], NULL, 10));
	talea_close(t);
	return 0;
}

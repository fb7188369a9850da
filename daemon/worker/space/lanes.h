/*
 * Summing lanes: the one place where the daemon reads many cells at memory speed, for user rows and
 * kernel maps alike. Owns no memory and knows no slots; called by the fold and by the benchmark.
 * MT-safe. The cells are changed by others meanwhile: each is read once, as an aligned u64.
 */
#ifndef SPACE_LANES_H
#define SPACE_LANES_H

#include <stddef.h>
#include <stdint.h>

/*
 * ret[i] = the sum over cpus_nr lanes of row first_row + i, for rows_nr rows. lane0 is the first
 * lane's row 0, stride the bytes from one lane to the next (a multiple of 8).
 */
void lanes_sum(const char *lane0, size_t stride, unsigned int cpus_nr, size_t first_row,
	      size_t rows_nr, uint64_t *ret);

/* The instruction set that lanes_sum uses on this machine: avx512f, avx2 or portable. */
const char *lanes_vector_name(void);

/* The twin that runs everywhere, and each body that this machine can run, for the test that
 * compares them. NULL past the last. */
typedef void lanes_sum_fn(const char *lane0, size_t stride, unsigned int cpus_nr, size_t first_row,
			 size_t rows_nr, uint64_t *ret);
lanes_sum_fn *lanes_body(unsigned int idx, const char **ret_name);

#endif

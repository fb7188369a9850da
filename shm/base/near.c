/* The nearest name; see near.h. */
#include <stddef.h>
#include <string.h>

#include "shm/base/near.h"

static uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }

uint32_t near_distance(const char *a, const char *b)
{
	uint32_t a_len = (uint32_t)strnlen(a, NEAR_BYTES + 1),
		 b_len = (uint32_t)strnlen(b, NEAR_BYTES + 1);
	uint32_t rows[3][NEAR_BYTES + 1];

	if (a_len > NEAR_BYTES || b_len > NEAR_BYTES)
		return NEAR_FAR;
	for (uint32_t j = 0; j <= b_len; j++)
		rows[0][j] = j;
	for (uint32_t i = 1; i <= a_len; i++) {
		uint32_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *older = rows[(i + 1) % 3];

		row[0] = i;
		for (uint32_t j = 1; j <= b_len; j++) {
			row[j] = least(above[j - 1] + (a[i - 1] != b[j - 1]),
				       least(above[j], row[j - 1]) + 1);
			/* Two exchanged letters are one slip of the hand. */
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				row[j] = least(row[j], older[j - 2] + 1);
		}
	}
	return rows[a_len % 3][b_len];
}

bool near_is_meant(uint32_t distance, const char *word) { return distance <= strlen(word) / 3 + 1; }

const char *near_word(const char *word, const char *const *names)
{
	uint32_t best = NEAR_FAR;
	const char *ret = NULL;

	for (; *names; names++) {
		uint32_t distance = near_distance(word, *names);

		if (distance < best) {
			best = distance;
			ret = *names;
		}
	}
	return ret && near_is_meant(best, word) ? ret : NULL;
}

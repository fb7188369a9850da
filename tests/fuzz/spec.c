/*
 * Fuzzing what declares a probe: a text of any bytes becomes a spec that passes its own check, or is
 * refused with one sentence; a spec of any bytes is checked without a byte read beyond it. Run by
 * tests/fuzz/run.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/spec/probe_spec.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return 0;
}

static void take_text(const char *text)
{
	struct talea_counter_def def;
	struct probe_spec s, again;
	char why[512] = "";

	if (spec_parse(NULL, text, &s, why, sizeof(why))) {
		fuzz_check(*why && !strchr(why, '\n'));
		return;
	}
	fuzz_check(spec_check(&s, why, sizeof(why)) == 0);
	spec_counter(&s, &def);
	fuzz_check(counter_key_bytes(&def) <= TALEA_KEY_BYTES);
	/* What is shown says the same when it is read. */
	fuzz_check(spec_parse(s.name, s.text, &again, why, sizeof(why)) == 0);
	fuzz_check(memcmp(&s, &again, sizeof(s)) == 0);
}

/* Of the heap, so that its end is watched; from a good one, so that bytes get past the first check. */
static void take_bytes(const uint8_t *data, size_t size)
{
	struct probe_spec *s = malloc(sizeof(*s));
	char why[512];

	fuzz_check(s && spec_parse("x", "usdt:/a:p:n by comm,arg1 if comm == x add arg0", s, why,
				   sizeof(why)) == 0);
	for (; size >= 3; data += 3, size -= 3)
		((uint8_t *)s)[(data[0] | data[1] << 8) % sizeof(*s)] = data[2];
	if (!spec_check(s, why, sizeof(why))) {
		struct talea_counter_def def;

		spec_counter(s, &def);
		fuzz_check(counter_key_bytes(&def) <= TALEA_KEY_BYTES);
	}
	free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	fuzz_check(text != NULL);
	memcpy(text, data, size);
	text[size] = '\0';
	take_text(text);
	free(text);
	take_bytes(data, size);
	return 0;
}

/* See client.h. Owns nothing; every call is made in a client process but client_expect. */
#include "tests/lib/client.h"

#include <stdio.h>

struct talea *client_open(const char *name_space)
{
	struct talea_options options = { .size = sizeof(options), .ns = name_space };
	struct talea *t;

	CHECK(talea_open(&t, &options) == 0);
	return t;
}

struct talea_counter client_declare(struct talea *t, const char *name)
{
	struct talea_counter c;

	CHECK(talea_counter(t, &c, name, "Of a test.", NULL) == 0);
	return c;
}

struct talea_family client_family(struct talea *t, const char *name)
{
	struct talea_family f;

	CHECK(talea_family(t, &f, name, "Of a test.", "key:u64") == 0);
	return f;
}

static int64_t value_of(const char *name_space, const char *name)
{
	struct talea_total n = { .size = sizeof(n) };
	struct talea *t = client_open(name_space);
	int64_t sum;

	CHECK(talea_read_name(t, name, TALEA_SUM, 0, &n) == 0);
	sum = n.value;
	CHECK(talea_sync(t, 5000) == 0);
	CHECK(talea_read_name(t, name, TALEA_COMPACTED, 0, &n) == 0);
	CHECK(sum == n.value);
	talea_close(t);
	return sum;
}

struct expected {
	const char *name_space, *name;
	int64_t value;
};

static int is_as_expected(void *arg)
{
	const struct expected *e = arg;
	int64_t value = value_of(e->name_space, e->name);

	if (value != e->value)
		fprintf(stderr, "# %s is %lld, not %lld\n", e->name, (long long)value,
			(long long)e->value);
	return value != e->value;
}

void client_expect(const struct harness *h, const char *name_space, const char *name,
		   int64_t value)
{
	struct expected e = { name_space, name, value };

	harness_run(h, is_as_expected, &e);
}

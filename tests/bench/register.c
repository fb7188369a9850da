/*
 * What a new name costs when a thousand are registered in one batch, in elapsed time: counters in
 * one exchange over the control socket, and members of a family through talea_family_get_many.
 * Each block uses names that never were. Called by tests/bench/run.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/layout.h"
#include "tests/bench/lib/attach.h"
#include "tests/bench/lib/bench.h"

#define NAMES 1000
#define HELP "Made by the benchmark."

static struct control control;
static struct talea_family members;
static uint64_t next_name;

static void run_counters(uint64_t n)
{
	while (n--) {
		struct wire_register *msg = control_message();

		for (int i = 0; i < NAMES; i++) {
			char name[64];
			int len = snprintf(name, sizeof(name), "bench_new_total{key=\"%llu\"}",
					   (unsigned long long)next_name++);
			struct wire_entry e = { .type = SHM_COUNTER,
						.name_bytes = (uint16_t)len,
						.help_bytes = sizeof(HELP) - 1 };

			if (wire_entry_put(msg, &e, name, HELP, NULL))
				bench_die("wire_entry_put",
					  "a thousand names do not fit one message");
		}
		control_register(&control, msg);
		free(msg);
	}
}

static void run_members(uint64_t n)
{
	static struct talea_counter handles[NAMES];
	static struct talea_key keys[NAMES];
	static uint64_t values[NAMES];
	int err;

	while (n--) {
		for (int i = 0; i < NAMES; i++) {
			values[i] = next_name++;
			keys[i] = (struct talea_key){ .value = &values[i],
						      .len = sizeof(values[i]) };
		}
		err = talea_family_get_many(&members, keys, NAMES, handles);
		if (err)
			bench_die("talea_family_get_many", talea_strerror(NULL, err));
	}
}

int main(void)
{
	enum { COUNTERS, MEMBERS, NR };
	struct figure f[NR] = {
		[COUNTERS] = { .name = "register_1000",
			       .run = run_counters,
			       .by = BY_WALL,
			       .per = NAMES,
			       .rounds = 1,
			       .more = "\"what\":\"counters, one exchange\"" },
		[MEMBERS] = { .name = "register_1000_members",
			      .run = run_members,
			      .by = BY_WALL,
			      .per = NAMES,
			      .rounds = 1,
			      .more = "\"what\":\"talea_family_get_many\"" },
	};
	struct talea *t;
	int err;

	bench_init("register");
	t = attach_open("default");
	err = talea_family(t, &members, "bench_members_total", HELP, "id:u64");
	if (err)
		bench_die("talea_family", talea_strerror(t, err));
	control_open(&control, "default");
	bench_run(f, NR);
	bench_report(&f[COUNTERS]);
	bench_report(&f[MEMBERS]);
	return bench_done();
}

/*
 * Fuzzing what a worker does with messages that passed the checks, on a namespace of its own in
 * this process. The input is a list of steps: messages of any bytes or of known shapes, adds,
 * folds, seconds, graces, new workers. Nothing may fault; every answer passes the check of its
 * receiver; and after each fold the totals together are what was added, whatever came and went. Run
 * by tests/fuzz/run.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "daemon/worker/space/busy.h"
#include "daemon/worker/space/heat.h"
#include "daemon/worker/space/deferred.h"
#include "daemon/worker/space/rows.h"
#include "daemon/worker/space/idle.h"
#include "daemon/worker/space/remove.h"
#include "daemon/worker/space/suspect.h"
#include "daemon/worker/space/totals.h"
#include "daemon/worker/control/serve.h"
#include "shm/names.h"
#include "shm/region.h"
#include "tests/fuzz/fuzz.h"

#define STEPS_MAX 200u
#define SECOND_NS 1000000000ull
#define ROWS	  3u
#define WORKERS_MAX 2u

static struct region_fds fds = { .name = "default" };
static struct config config;
static struct registry registry;
static struct space *space;
static char *shards;
static struct dir_shm *dir;
static uint64_t added;
static bool is_fallback, is_grace_under_way;
static unsigned int workers_nr;
static uint64_t passed_ns; /* time goes on by steps, too */
static char *message_buf, *reply_buf;

/* What the namespace asks the kernel for, the same in each run. The linker brings its calls here
 * (fuzz.mk). */
ssize_t __wrap_getrandom(void *buf, size_t size, unsigned int flags);
ssize_t __wrap_getrandom(void *buf, size_t size, unsigned int flags)
{
	(void)flags;
	memset(buf, 7, size);
	return (ssize_t)size;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *t);
int __real_clock_gettime(clockid_t clock, struct timespec *t);
int __wrap_clock_gettime(clockid_t clock, struct timespec *t)
{
	int err = __real_clock_gettime(clock, t);

	t->tv_sec += (time_t)(passed_ns / SECOND_NS);
	return err;
}

/* The registry's thread naps 10 ms before it looks for work: two inputs in three would wait for
 * that. */
int poll(struct pollfd *fds_polled, nfds_t nr, int timeout_ms)
{
	return nr ? (int)syscall(SYS_poll, fds_polled, nr, timeout_ms) : sched_yield();
}

struct input {
	const uint8_t *at;
	size_t left;
};

static uint8_t take8(struct input *in)
{
	if (!in->left)
		return 0;
	in->left--;
	return *in->at++;
}

static size_t take(struct input *in, void *to, size_t bytes)
{
	bytes = bytes < in->left ? bytes : in->left;
	memcpy(to, in->at, bytes);
	in->at += bytes;
	in->left -= bytes;
	return bytes;
}

/* --- the namespace ---------------------------------------------------------------------------- */

static void rule(const char *glob, enum shm_hot_rule hot, uint64_t ttl_s, uint32_t labels_max)
{
	struct config_rule *r = &config.rules[config.rules_nr++];

	*r = (struct config_rule){ .hot = hot, .ttl_s = ttl_s, .labels_max = labels_max };
	strcpy(r->glob, glob);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	void *p;

	(void)argc;
	(void)argv;
	for (enum region_part part = REGION_D; part < REGION_PARTS; part++)
		fuzz_check(region_make(part, "fuzz", &fds.rw[part], &fds.ro[part]) == 0);
	fuzz_check(region_map(fds.rw[REGION_S], REGION_S, true, &p) == 0);
	shards = p;
	fuzz_check(region_map(fds.rw[REGION_D], REGION_D, true, &p) == 0);
	dir = p;
	config.namespaces_nr = 1;
	config.namespaces[0] = (struct config_namespace){
		.name = "default", .counters_max = 64, .counters_max_per_uid = 40, .rows_max = ROWS,
	};
	rule("hot_*", SHM_HOT_YES, CONFIG_TTL_UNSET, 0);
	rule("idle_*", SHM_HOT_UNSET, 2, 0);
	rule("few_*", SHM_HOT_UNSET, CONFIG_TTL_UNSET, 3);
	rule("*{k=\"cold*\"}", SHM_HOT_NO, CONFIG_TTL_UNSET, 0);
	message_buf = malloc(WIRE_MAX);
	reply_buf = malloc(WIRE_MAX);
	fuzz_check(message_buf && reply_buf);
	return 0;
}

static void worker_start(void)
{
	is_grace_under_way = false;
	fuzz_check(registry_init(&registry, &config) == 0);
	/* liburcu 0.13 stops this thread and never joins it: its stack would stay. */
	fuzz_check(pthread_detach(urcu_memb_get_call_rcu_thread(registry.reclaim)) == 0);
	fuzz_check(space_open(&space, &fds, 0, &registry, &config) == 0);
	shm_set32(&space->d->promotion, 0);
}

static void worker_stop(void)
{
	registry_fini(&registry);
	space_close(space);
}

/* One region for all inputs: a worker builds one that is not live from nothing. */
static void region_start(void)
{
	madvise(shards, region_bytes(REGION_S), MADV_REMOVE);
	dir->state = SHM_BUILDING;
	added = 0;
	passed_ns = 0;
	workers_nr = 0;
	worker_start();
}

/* --- what goes on beside ---------------------------------------------------------------------- */

static void totals_check(bool is_settled)
{
	const uint64_t *totals = space_totals(space, space->t->epoch & 1);
	uint64_t sum = 0;

	for (uint32_t slot = SHM_SLOT_OVERFLOW; slot < space_slots_nr(space); slot++)
		sum += totals[slot];
	/* What came late without a section is shown when the fold after this one has moved it. */
	fuzz_check(is_settled || !is_fallback ? sum == added : sum <= added);
	fuzz_check(!space->suspects.nr && !space->t->strays_nr);
	fuzz_check(!(space->d->moves & 1) && !space->d->intent.valid);
}

static void rows_check(void)
{
	uint32_t owner[ROWS] = { 0 }, used = 0;

	for (uint32_t slot = SHM_SLOT_OVERFLOW; slot < space_slots_nr(space); slot++) {
		uint32_t row = rows_of_slot(space, slot);

		if (row == SHM_ROW_NONE)
			continue;
		fuzz_check(row < ROWS && !owner[row]);
		owner[row] = slot;
		used++;
	}
	fuzz_check(used == space->rows.used_nr);
}

static void fold(bool is_settled)
{
	const struct fold_times times = {
		.mono_ns = passed_ns + 1, .real_ns = 1, .interval_ns = 10000000,
	};

	totals_fold(space, &times);
	totals_check(is_settled);
	remove_late_all(space);
	heat_fold(space, &config, times.interval_ns);
	rows_check();
}

static void second(void)
{
	passed_ns += SECOND_NS;
	busy_tick(space, passed_ns, SECOND_NS);
	heat_second(space, &config, SECOND_NS);
	suspect_rows(space);
	remove_second(space);
	idle_second(space, &config);
}

/*
 * A client's add, where a section can still put it: in the row as long as a state names it, in the
 * cell until a removal has ended. Without sections also later, if the word says so since before.
 */
static void add(struct input *in)
{
	uint32_t slot = take8(in) % space_slots_nr(space), n = take8(in) + 1u;
	const struct slot_shm *s = space_slot(space, slot);
	uint32_t generation = slot_generation(s->route), row = slot_row(s->state);
	uint8_t type = name_type(s->name), where = take8(in);

	if (!slot || !generation || type == SHM_FAMILY || type == SHM_LEVEL_FAMILY)
		return;
	if (!(generation & 1) && !(state_flags(s->state) & SHM_F_REMOVING) && !is_fallback)
		return;
	if (where & 128)
		n <<= 14;
	added += n;
	if ((where & 1) && row != SHM_ROW_NONE)
		shm_count_add((uint64_t *)(void *)(shards + row +
						   shards_lane((where >> 1) % space->pages.lanes_nr)),
			      n);
	else
		shm_count_add((uint64_t *)(void *)(shards + shards_cold(slot)), n);
}

/* --- messages --------------------------------------------------------------------------------- */

static void reply_check(const struct client_request *r)
{
	const struct wire_registered *reply = r->reply;
	const struct wire_result *result = reply->results;

	fuzz_check(wire_admin_check(reply, reply->head.length) == 0);
	if (reply->head.kind != WIRE_REGISTERED || r->message->kind != WIRE_REGISTER)
		return;
	for (uint32_t i = 0; i < reply->nr; i++, result++) {
		const struct slot_shm *s = space_slot(space, result->slot);

		fuzz_check(result->slot && (result->generation & 1) &&
			   slot_generation(s->route) == result->generation);
	}
}

/* As message.c and fold.c do with a message that passed. */
static void handle(const struct wire_head *head, uid_t uid)
{
	struct client_request r = {
		.space = space, .uid = uid, .message = (struct wire_head *)(uintptr_t)head,
		.reply = (struct wire_registered *)(void *)reply_buf,
	};
	const struct wire_query *q = (const struct wire_query *)(const void *)head;

	if (head->kind == WIRE_REGISTER) {
		if (serve_begin(&r))
			serve_register(NULL, &r.request, &config);
	} else if (head->kind == WIRE_CHANGE) {
		serve_change(NULL, &r.request, &config);
	} else if (head->kind == WIRE_QUERY && (q->what == WIRE_EXPLAIN || q->what == WIRE_LANES)) {
		serve_query(NULL, &r.request, &config);
		if (r.err) {
			fuzz_check(strlen(r.text) < WIRE_TEXT_MAX);
			return;
		}
	} else {
		return;
	}
	reply_check(&r);
}

/* In memory of just its size, so that a look behind its end is seen. */
static void receive(const void *bytes, size_t size, uid_t uid)
{
	struct wire_head *m = malloc(size ? size : 1);

	fuzz_check(m != NULL);
	memcpy(m, bytes, size);
	if (wire_admin_check(m, size) == 0)
		handle(m, uid);
	free(m);
}

static void message_raw(struct input *in, uid_t uid)
{
	char body[512];
	static const uint8_t kinds[4] = { WIRE_REGISTER, WIRE_CHANGE, WIRE_QUERY, WIRE_HELLO };
	struct wire_head head = { WIRE_MAGIC, WIRE_VERSION, kinds[take8(in) % 4], 1, 0 };
	size_t bytes = take8(in) * 2u;

	bytes = take(in, body + sizeof(head), bytes < sizeof(body) - sizeof(head) ?
						      bytes : sizeof(body) - sizeof(head));
	bytes += sizeof(head);
	head.length = (uint32_t)bytes;
	memcpy(body, &head, sizeof(head));
	receive(body, bytes, uid);
}

static const char *const known[] = {
	"hot_total", "hits_total", "hits_total{a=\"b\"}", "depth", "likes_total", "few_total",
	"idle_total", "hot_likes_total", "open", "talea_overflow_total",
};
#define KNOWN_NR (sizeof(known) / sizeof(known[0]))

static void entry_put(struct wire_register *m, struct input *in)
{
	uint8_t shape = take8(in), at = take8(in);
	const char *name = known[at % KNOWN_NR];
	char key[64];
	struct wire_entry e = {
		.type = shape & 15, .key_kind = shape >> 4 & 1,
		.name_bytes = (uint16_t)strlen(name), .help_bytes = 7, .label_bytes = 1,
	};

	if (e.type == SHM_MEMBER || e.type == SHM_LEVEL_MEMBER) {
		e.family = take8(in) % SHM_SLOTS_MAX;
		e.family_generation = slot_generation(space_slot(space, e.family)->route);
		e.name_bytes = (uint16_t)(shape & 32 ? 8 : at % sizeof(key) + 1u);
		memset(key, 'k', sizeof(key));
		take(in, key, shape & 64 ? 4 : 1);
		e.help_bytes = e.label_bytes = 0;
		name = key;
	} else if (shape & 32) {
		e.name_bytes = (uint16_t)take(in, key, at % sizeof(key));
		e.help_bytes = at & 7;
		name = key;
	} else if (e.type != SHM_FAMILY && e.type != SHM_LEVEL_FAMILY) {
		e.label_bytes = 0;
	}
	wire_entry_put(m, &e, name, "A help.", "k");
}

static void message_register_shaped(struct input *in, uid_t uid)
{
	struct wire_register *m = (struct wire_register *)(void *)message_buf;
	unsigned int nr = take8(in) % 8u + 1;

	*m = (struct wire_register){
		.head = { WIRE_MAGIC, WIRE_VERSION, WIRE_REGISTER, 1, sizeof(*m) },
	};
	while (nr--)
		entry_put(m, in);
	receive(m, m->head.length, uid);
}

/* A display name of the namespace, or one that it may have. */
static size_t name_take(struct input *in, char *name, size_t size)
{
	uint8_t which = take8(in);
	uint32_t at = which >> 1;
	int len = which & 1 ? name_display(space->d, at % space_slots_nr(space), name, size) :
			      snprintf(name, size, "%s", known[at % KNOWN_NR]);

	if (len < 0 || which == 254)
		len = 0;
	name[len] = '\0';
	return (size_t)len;
}

static void message_change_shaped(struct input *in, uid_t uid)
{
	struct wire_change *m = (struct wire_change *)(void *)message_buf;

	*m = (struct wire_change){ .head = { WIRE_MAGIC, WIRE_VERSION, WIRE_CHANGE, 1, 0 } };
	m->op = take8(in) % 5u + WIRE_PIN_HOT;
	m->nr = take8(in) % 3u + 1;
	for (uint32_t i = 0; i < m->nr; i++)
		m->bytes += (uint32_t)name_take(in, m->names + m->bytes, NAME_DISPLAY_MAX) + 1;
	m->head.length = (uint32_t)sizeof(*m) + m->bytes;
	receive(m, m->head.length, uid);
}

static void message_query_shaped(struct input *in, uid_t uid)
{
	struct wire_query *m = (struct wire_query *)(void *)message_buf;

	*m = (struct wire_query){ .head = { WIRE_MAGIC, WIRE_VERSION, WIRE_QUERY, 1, 0 } };
	m->what = take8(in) & 1 ? WIRE_EXPLAIN : WIRE_LANES;
	m->name_bytes = (uint32_t)name_take(in, m->name, NAME_DISPLAY_MAX);
	m->head.length = (uint32_t)sizeof(*m) + m->name_bytes;
	receive(m, m->head.length, uid);
}

/* --- steps ------------------------------------------------------------------------------------ */

static void step(struct input *in)
{
	uint8_t what = take8(in);
	uid_t uid = 1000 + (what >> 6);

	switch (what % 16) {
	case 0:
	case 1:
		message_raw(in, uid);
		break;
	case 2:
	case 3:
	case 4:
		message_register_shaped(in, uid);
		break;
	case 5:
	case 6:
		message_change_shaped(in, uid);
		break;
	case 7:
		message_query_shaped(in, uid);
		break;
	case 8:
		fold(false);
		break;
	case 9:
		second();
		break;
	case 10:
		if (!is_grace_under_way)
			is_grace_under_way = deferred_begin(space) > 0;
		break;
	case 11:
		if (is_grace_under_way)
			deferred_end(space);
		is_grace_under_way = false;
		break;
	case 12:
		passed_ns += take8(in) % 16u * SECOND_NS;
		break;
	case 13:
		/* A new worker. Each costs as much as all the rest of an input. */
		if (workers_nr++ > WORKERS_MAX)
			break;
		registry_read_end();
		worker_stop();
		worker_start();
		registry_read_begin();
		break;
	default:
		add(in);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };

	region_start();
	is_fallback = take8(&in) & 1;
	((struct shards_shm *)(void *)shards)->fallback_used = is_fallback;
	registry_read_begin();
	for (unsigned int steps = 0; in.left && steps < STEPS_MAX; steps++)
		step(&in);
	fold(false);
	fold(true);
	registry_read_end();
	worker_stop();
	return 0;
}

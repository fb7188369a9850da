/*
 * Every place that a program may add from, each counted exactly once: forked and exec()ed processes,
 * atfork and signal handlers, locked memory, plugins that come and go, thousands of threads.
 */
#define _GNU_SOURCE
#include "tests/lib/test.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "client/include/talea.h"
#include "tests/lib/client.h"
#include "tests/lib/harness.h"

static struct harness h;

static int start(void **state)
{
	(void)state;
	harness_start(&h, NULL, "[counter *]\nhot = yes\n[namespace cold]\nrows-max = 0\n");
	return 0;
}

static int clean_up(void **state)
{
	(void)state;
	harness_cleanup(&h);
	return 0;
}

static void wait_child(pid_t pid)
{
	int status;

	CHECK(pid > 0);
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* --- fork ---------------------------------------------------------------------------------- */

static int add_over_forks(void *arg)
{
	struct talea *t = client_open("default"), *cold = client_open("cold");
	struct talea_counter hot = client_declare(t, "fork_total");
	struct talea_counter c = client_declare(cold, "fork_cold_total");
	struct talea_family f;
	uint64_t key = 42;

	(void)arg;
	CHECK(talea_family(t, &f, "fork_keys_total", "Of a test.", "key:u64") == 0);
	for (int i = 0; i < 20; i++) {
		pid_t pid;

		talea_inc(hot);
		talea_inc(c);
		CHECK(talea_family_add(&f, &key, sizeof(key), 1) == 0);
		pid = i & 1 ? fork() : _Fork();
		if (pid == 0) {
			struct talea_counter mine;

			talea_inc(hot);
			talea_inc(c);
			CHECK(talea_family_add(&f, &key, sizeof(key), 1) == 0);
			if (i % 4 < 2) {
				/* A child that calls more than an add gets its own connection. */
				mine = client_declare(t, "fork_child_total");
				talea_inc(mine);
				key = 1000 + (uint64_t)i;
				CHECK(talea_family_add(&f, &key, sizeof(key), 1) == 0);
			}
			talea_inc(hot);
			_exit(0);
		}
		talea_inc(hot);
		wait_child(pid);
	}
	talea_close(t);
	talea_close(cold);
	return 0;
}

static void adds_of_forked_children_count_once(void **state)
{
	(void)state;
	harness_run(&h, add_over_forks, NULL);
	client_expect(&h, "default", "fork_total", 80);
	client_expect(&h, "cold", "fork_cold_total", 40);
	client_expect(&h, "default", "fork_keys_total{key=\"42\"}", 40);
	client_expect(&h, "default", "fork_child_total", 10);
	harness_stop(&h);
}

static struct talea_counter atfork_counter = TALEA_COUNTER_INIT;

static void add_at_fork(void)
{
	talea_inc(atfork_counter);
}

/* The handlers are registered before the library's own: they run inside its fork handling. */
static int add_in_atfork_handlers(void *arg)
{
	struct talea *t;

	(void)arg;
	CHECK(pthread_atfork(add_at_fork, add_at_fork, add_at_fork) == 0);
	t = client_open("default");
	atfork_counter = client_declare(t, "atfork_total");
	CHECK(pthread_atfork(add_at_fork, add_at_fork, add_at_fork) == 0);
	for (int i = 0; i < 50; i++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(0);
		wait_child(pid);
	}
	talea_close(t);
	return 0;
}

static void adds_in_atfork_handlers_count_once(void **state)
{
	(void)state;
	harness_run(&h, add_in_atfork_handlers, NULL);
	/* Twice before, twice in the parent, twice in the child. */
	client_expect(&h, "default", "atfork_total", 50 * 6);
	harness_stop(&h);
}

struct forker {
	struct talea *t;
	struct talea_counter c;
	volatile int has_ended;
	uint64_t added;
};

static void *call_all_the_time(void *arg)
{
	struct forker *f = arg;
	struct talea_status s = { .size = sizeof(s) };

	while (!f->has_ended) {
		talea_inc(f->c);
		f->added++;
		CHECK(talea_status(f->t, &s) == 0);
	}
	return NULL;
}

/* fork and _Fork while other threads hold the library's locks: the child must not hang. */
static int fork_beside_calls(void *arg)
{
	struct forker f = { .t = client_open("default") };
	uint64_t children = 0;
	pthread_t id;

	(void)arg;
	f.c = client_declare(f.t, "beside_total");
	CHECK(pthread_create(&id, NULL, call_all_the_time, &f) == 0);
	for (int i = 0; i < 100; i++) {
		pid_t pid = i & 1 ? fork() : _Fork();

		if (pid == 0) {
			alarm(60);
			talea_inc(f.c);
			talea_inc(client_declare(f.t, "beside_total"));
			_exit(0);
		}
		wait_child(pid);
		children += 2;
	}
	f.has_ended = 1;
	pthread_join(id, NULL);
	talea_add(f.c, 1000000 - f.added - children);
	talea_close(f.t);
	return 0;
}

static void children_forked_beside_calls_neither_hang_nor_count_twice(void **state)
{
	(void)state;
	if (TEST_IS_TSAN)
		test_skip("needs a build without TSan, which sees threads that a child has not");
	harness_run(&h, fork_beside_calls, NULL);
	client_expect(&h, "default", "beside_total", 1000000);
	harness_stop(&h);
}

/* --- exec, plugins, memory ----------------------------------------------------------------- */

static int add_then_exec(void *arg)
{
	struct talea *t = client_open("default");
	struct talea_counter c = client_declare(t, "exec_total");
	char path[256];

	(void)arg;
	talea_add(c, 1000);
	execl(harness_built("tests/helper/adder", path, sizeof(path)), "adder", "exec_total", "234",
	      NULL);
	return 1;
}

static void adds_before_and_after_exec_count(void **state)
{
	char path[256];

	(void)state;
	if (access(harness_built("tests/helper/adder", path, sizeof(path)), X_OK))
		fail_msg("%s is not built", path);
	harness_run(&h, add_then_exec, NULL);
	client_expect(&h, "default", "exec_total", 1234);
	harness_stop(&h);
}

struct plugin {
	void *library;
	int (*open)(const char *name);
	void (*add)(unsigned int n);
	void (*close)(void);
	pthread_barrier_t added, unloaded;
};

static void *add_in_plugin(void *arg)
{
	struct plugin *p = arg;

	p->add(1000);
	pthread_barrier_wait(&p->added);
	/* Asleep while the plugin's code goes: its rseq descriptor must not be left behind. */
	pthread_barrier_wait(&p->unloaded);
	for (int i = 0; i < 20; i++)
		usleep(500);
	return NULL;
}

static int load_and_unload(void *arg)
{
	char path[256];

	(void)arg;
	/* As an installed library would be found. */
	CHECK(dlopen(harness_built("libtalea.so", path, sizeof(path)), RTLD_NOW | RTLD_GLOBAL));
	for (int round = 0; round < 10; round++) {
		pthread_t ids[4];
		struct plugin p;

		p.library = dlopen(harness_built("tests/plugin/adder.so", path, sizeof(path)),
				   RTLD_NOW);
		if (!p.library)
			fprintf(stderr, "# %s\n", dlerror());
		CHECK(p.library);
		p.open = (int (*)(const char *))dlsym(p.library, "plugin_open");
		p.add = (void (*)(unsigned int))dlsym(p.library, "plugin_add");
		p.close = (void (*)(void))dlsym(p.library, "plugin_close");
		CHECK(p.open("plugin_total") == 0);
		pthread_barrier_init(&p.added, NULL, 5);
		pthread_barrier_init(&p.unloaded, NULL, 5);
		for (int i = 0; i < 4; i++)
			CHECK(pthread_create(&ids[i], NULL, add_in_plugin, &p) == 0);
		pthread_barrier_wait(&p.added);
		p.close();
		CHECK(dlclose(p.library) == 0);
		CHECK(!dlopen(path, RTLD_NOW | RTLD_NOLOAD));
		pthread_barrier_wait(&p.unloaded);
		for (int i = 0; i < 4; i++)
			pthread_join(ids[i], NULL);
	}
	return 0;
}

static void a_plugin_may_be_unloaded_while_its_threads_sleep(void **state)
{
	(void)state;
	harness_run(&h, load_and_unload, NULL);
	client_expect(&h, "default", "plugin_total", 10 * 4 * 1000);
	harness_stop(&h);
}

static uint64_t locked_kb(void)
{
	uint64_t kb = UINT64_MAX;
	char line[256];
	FILE *f = fopen("/proc/self/status", "re");

	CHECK(f);
	while (fgets(line, sizeof(line), f)) {
		if (!strncmp(line, "VmRSS:", 6))
			kb = strtoull(line + 6, NULL, 10);
	}
	fclose(f);
	return kb;
}

static int add_with_locked_memory(void *arg)
{
	struct talea_counter c;
	struct talea *t;

	(void)arg;
	CHECK(mlockall(MCL_CURRENT | MCL_FUTURE) == 0);
	t = client_open("default");
	c = client_declare(t, "locked_total");
	for (int i = 0; i < 1000; i++)
		talea_inc(c);
	CHECK(locked_kb() < 256 * 1024);
	talea_close(t);
	return 0;
}

static void under_mlockall_adds_count_and_the_reserve_is_not_committed(void **state)
{
	struct wire_status s;

	(void)state;
	if (getuid() != 0)
		test_skip("needs root, for mlockall without a limit");
	if (TEST_IS_SANITIZED)
		test_skip("needs a build without sanitizer, which would lock its shadow memory");
	harness_run(&h, add_with_locked_memory, NULL);
	client_expect(&h, "default", "locked_total", 1000);
	harness_status(&h, &s);
	assert_true(s.memory_bytes < 64ull << 20);
	harness_stop(&h);
}

/* --- signals and threads ------------------------------------------------------------------- */

static struct talea_counter signal_hot = TALEA_COUNTER_INIT, signal_cold = TALEA_COUNTER_INIT;
static struct talea_family signal_keys;
static volatile sig_atomic_t handled;

static void add_in_handler(int number)
{
	uint64_t key = 7;

	(void)number;
	handled++;
	talea_inc(signal_hot);
	talea_inc(signal_cold);
	talea_family_add(&signal_keys, &key, sizeof(key), 1);
}

#define SIGNAL_ADDS 1000000

static int add_under_signals(void *arg)
{
	struct talea *t = client_open("default"), *cold = client_open("cold");
	struct itimerval often = { { 0, 100 }, { 0, 100 } }, never = { { 0, 0 }, { 0, 0 } };
	uint64_t key = 7;

	(void)arg;
	signal_hot = client_declare(t, "signal_total");
	signal_cold = client_declare(cold, "signal_cold_total");
	CHECK(talea_family(t, &signal_keys, "signal_keys_total", "Of a test.", "key:u64") == 0);
	CHECK(talea_family_add(&signal_keys, &key, sizeof(key), 1) == 0);
	CHECK(signal(SIGPROF, add_in_handler) != SIG_ERR);
	CHECK(signal(SIGALRM, add_in_handler) != SIG_ERR);
	CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
	CHECK(setitimer(ITIMER_PROF, &often, NULL) == 0);
	for (int i = 0; i < SIGNAL_ADDS; i++) {
		talea_inc(signal_hot);
		talea_inc(signal_cold);
		if (i % 8 == 0)
			CHECK(talea_family_add(&signal_keys, &key, sizeof(key), 1) == 0);
	}
	setitimer(ITIMER_REAL, &never, NULL);
	setitimer(ITIMER_PROF, &never, NULL);
	CHECK(handled > 20);
	/* Up to a round number, whatever the number of signals was. */
	talea_add(signal_hot, 3 * SIGNAL_ADDS - SIGNAL_ADDS - (uint64_t)handled);
	talea_add(signal_cold, 3 * SIGNAL_ADDS - SIGNAL_ADDS - (uint64_t)handled);
	CHECK(talea_family_add(&signal_keys, &key, sizeof(key),
			       3 * SIGNAL_ADDS - SIGNAL_ADDS / 8 - 1 - (uint64_t)handled) == 0);
	talea_close(t);
	talea_close(cold);
	return 0;
}

static void adds_in_and_under_signal_handlers_count_once(void **state)
{
	(void)state;
	harness_run(&h, add_under_signals, NULL);
	client_expect(&h, "default", "signal_total", 3 * SIGNAL_ADDS);
	client_expect(&h, "cold", "signal_cold_total", 3 * SIGNAL_ADDS);
	client_expect(&h, "default", "signal_keys_total{key=\"7\"}", 3 * SIGNAL_ADDS);
	harness_stop(&h);
}

#define THREADS 4000
#define THREAD_ADDS 200

static struct talea_counter thread_hot = TALEA_COUNTER_INIT, thread_cold = TALEA_COUNTER_INIT;
static struct talea_family thread_keys;

static void *add_and_end(void *arg)
{
	uint64_t key = (uintptr_t)arg % 16;

	for (int i = 0; i < THREAD_ADDS; i++) {
		talea_inc(thread_hot);
		talea_inc(thread_cold);
		CHECK(talea_family_add(&thread_keys, &key, sizeof(key), 1) == 0);
		if (i % 50 == 0)
			sched_yield();
	}
	return NULL;
}

static int add_from_threads(void *arg)
{
	struct talea *t = client_open("default"), *cold = client_open("cold");
	static pthread_t ids[THREADS];
	pthread_attr_t small;
	uintptr_t joined = 0;

	(void)arg;
	thread_hot = client_declare(t, "threads_total");
	thread_cold = client_declare(cold, "threads_cold_total");
	CHECK(talea_family(t, &thread_keys, "threads_keys_total", "Of a test.", "key:u64") == 0);
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 64 * 1024);
	/* As many at once as the machine allows. */
	for (uintptr_t made = 0; made < THREADS;) {
		if (pthread_create(&ids[made], &small, add_and_end, (void *)made) == 0)
			made++;
		else
			CHECK(made > joined && pthread_join(ids[joined++], NULL) == 0);
	}
	while (joined < THREADS)
		CHECK(pthread_join(ids[joined++], NULL) == 0);
	talea_close(t);
	talea_close(cold);
	return 0;
}

static void adds_of_thousands_of_threads_count_once(void **state)
{
	(void)state;
	harness_run(&h, add_from_threads, NULL);
	client_expect(&h, "default", "threads_total", (int64_t)THREADS * THREAD_ADDS);
	client_expect(&h, "cold", "threads_cold_total", (int64_t)THREADS * THREAD_ADDS);
	client_expect(&h, "default", "threads_keys_total{key=\"15\"}",
		      (int64_t)THREADS / 16 * THREAD_ADDS);
	harness_stop(&h);
}

#define ADD_TEST(f) cmocka_unit_test_setup_teardown(f, start, clean_up)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ADD_TEST(adds_of_forked_children_count_once),
		ADD_TEST(adds_in_atfork_handlers_count_once),
		ADD_TEST(children_forked_beside_calls_neither_hang_nor_count_twice),
		ADD_TEST(adds_before_and_after_exec_count),
		ADD_TEST(a_plugin_may_be_unloaded_while_its_threads_sleep),
		ADD_TEST(under_mlockall_adds_count_and_the_reserve_is_not_committed),
		ADD_TEST(adds_in_and_under_signal_handlers_count_once),
		ADD_TEST(adds_of_thousands_of_threads_count_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

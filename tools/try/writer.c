/*
 * A program to look at, for `make try`: counts as a server would. `writer SOCKET requests` counts
 * requests on one hot counter, as fast as it can in bursts whose length swells and ebbs; `writer
 * SOCKET likes` counts likes on a family, some posts far more than others and new ones all the time.
 * Ends with its parent, or at SIGTERM. Started by tools/try/run.
 */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <talea.h>

#define SWELL_SECONDS 24
#define PAUSE_NS 2000000
#define BURST_MOST 1500000
#define POSTS_FIRST 12
#define POSTS_MOST 400

static volatile sig_atomic_t is_ended;

static void on_term(int sig)
{
	(void)sig;
	is_ended = 1;
}

static double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Between 0.1 and 1, so that there is something to see. */
static double swell(double since)
{
	return 0.55 - 0.45 * cos(since * 2 * M_PI / SWELL_SECONDS);
}

static void pause_ns(long ns)
{
	struct timespec t = { .tv_nsec = ns };

	nanosleep(&t, NULL);
}

static int requests(struct talea *t, pid_t parent)
{
	struct talea_counter reqs;
	double start = now_s();
	int rc = talea_counter(t, &reqs, "demo_requests_total", "Requests served.", NULL);

	while (!rc && !is_ended && getppid() == parent) {
		long burst = (long)(BURST_MOST * swell(now_s() - start));

		for (long i = 0; i < burst; i++)
			talea_inc(reqs);
		pause_ns(PAUSE_NS);
	}
	return rc;
}

static int likes(struct talea *t, pid_t parent)
{
	struct talea_family posts;
	double start = now_s();
	unsigned int seed = 1;
	int rc = talea_family(t, &posts, "demo_likes_total", "Likes of a post.", "post:u64");

	while (!rc && !is_ended && getppid() == parent) {
		double since = now_s() - start;
		long burst = (long)(20000 * swell(since + SWELL_SECONDS / 3.0));
		unsigned int nr = POSTS_FIRST + (unsigned int)(since / 2);

		if (nr > POSTS_MOST)
			nr = POSTS_MOST;
		for (long i = 0; i < burst; i++) {
			/* The square favours the newest posts, as people do. */
			double u = (double)rand_r(&seed) / ((double)RAND_MAX + 1);
			uint64_t post = nr - (uint64_t)(u * u * u * nr);

			rc = talea_family_add(&posts, &post, sizeof(post), 1);
			if (rc && rc != -ETIMEDOUT)
				return rc;
		}
		rc = 0;
		pause_ns(2 * PAUSE_NS);
	}
	return rc;
}

int main(int argc, char **argv)
{
	struct talea_options opt = { .size = sizeof(opt), .app = "demo" };
	struct sigaction sa = { .sa_handler = on_term };
	pid_t parent = getppid();
	struct talea *t;
	int rc;

	if (argc != 3 || (strcmp(argv[2], "requests") && strcmp(argv[2], "likes"))) {
		fprintf(stderr, "usage: writer SOCKET requests|likes\n");
		return 2;
	}
	sigaction(SIGTERM, &sa, NULL);
	opt.socket = argv[1];
	rc = talea_open(&t, &opt);
	if (!rc)
		rc = !strcmp(argv[2], "likes") ? likes(t, parent) : requests(t, parent);
	if (rc)
		fprintf(stderr, "writer: %s\n", talea_strerror(t, rc));
	talea_close(t);
	return rc ? 1 : 0;
}

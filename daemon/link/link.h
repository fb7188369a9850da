/*
 * The messages between keeper, standby and worker, and what a worker is born with. A link is a
 * SOCK_SEQPACKET socketpair; one packet is one struct link_msg and its fds. Both ends were one
 * program before the fork, so messages have no version. The keeper trusts no byte that a worker
 * sends: a worker may be in somebody else's hands.
 *
 *   keeper ──► worker   CLIENT, CONFIG, PROBE, STANDBY, MISSED, CGROUP, COST, ANSWER, STOP (GO before
 *                       worker_run)
 *   worker ──► keeper   READY, DONE, ATTACH, DETACH, REPLACE, CGROUP, COST
 *   keeper ──► standby  CLIENT, CONFIG, PROBE, WORKER, STOP
 *   standby ──► keeper  HELD
 *
 * End of file on the worker's link: the keeper is gone. Its standby kills this worker within
 * moments; without a standby the worker ends itself after 5 s.
 */
#ifndef DAEMON_LINK_H
#define DAEMON_LINK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/config/config.h"
#include "daemon/spec/probe_names.h"
#include "daemon/spec/pack.h"
#include "region.h"

#define LINK_REGIONS_MAX CONFIG_NAMESPACES_MAX
#define LINK_CLIENTS_MAX 4096u
#define LINK_FDS_MAX (1 + 2 * REGION_PARTS * LINK_REGIONS_MAX)
#define LINK_TEXT_MAX 1024u
_Static_assert(LINK_FDS_MAX >= 1 + PROBE_FDS_MAX, "room for the fds of a probe");

enum link_kind {
	LINK_CLIENT = 1, /* id; fds: the client's socket */
	LINK_CONFIG,	 /* fds: memfd of a struct config, then for each of the nr new regions in
			  * names[]: rw D, S, T, ro D, S, T */
	LINK_PROBE,	 /* nr: the probe's id; fds: memfd of a struct link_probe, then those of
			  * probe_fds_get: all of them to the standby, to the worker those that
			  * probe_for_worker leaves. Sent when a probe changes; origin 0: it ended */
	LINK_STANDBY,	 /* nr: pid of the standby, 0 for none now */
	LINK_MISSED,	 /* nr: the probe's id; id: the result of probe_missed() */
	LINK_STOP,	 /* worker: fold a last time, send DONE, end with 0. standby: end now */
	LINK_WORKER,	 /* nr: pid of a new worker; fds: its pidfd */
	LINK_GO,	 /* the standby has the worker's pidfd: run */
	LINK_HELD,	 /* id: the standby holds that client */
	LINK_READY,	 /* the regions are live */
	LINK_DONE,	 /* after the last fold */

	/* The worker's requests. id is the worker's number for the request; ANSWER has the same. */
	LINK_ATTACH,	 /* spec: the keeper calls spec_check() again */
	LINK_DETACH,	 /* text: the probe's name */
	LINK_REPLACE,	 /* text: the name of a probe that failed with -EEXIST: its pins end */
	LINK_COST,	 /* nr: milliseconds of statistics, at most LINK_COST_MS_MAX. Back, before the
			  * ANSWER: fds: memfd of struct probe_cost[PROBES_MAX]; nr: ms measured */
	LINK_CGROUP,	 /* id: of a cgroup. Back: the same id, text: its path; "" when it is gone */
	LINK_ANSWER,	 /* nr: (uint32_t)err; text: why and what to type, "" for 0. For ATTACH and
			  * REPLACE the PROBE came before it, also when they failed */
};
#define LINK_COST_MS_MAX 10000u

struct link_msg {
	uint32_t kind; /* enum link_kind */
	uint32_t nr;
	uint64_t id;
	union {
		char names[LINK_REGIONS_MAX][SHM_NAMESPACE_MAX];
		char text[LINK_TEXT_MAX]; /* link_recv ends it with a NUL */
		struct probe_spec spec;
	};
};

/* A probe that changed while standby and worker run; those born later inherit its names. */
struct link_probe {
	struct probe_live live;
	struct probe_names names;
};

/* A region as the keeper made it. -1: this process must not have the fd. */
struct region_fds {
	char name[SHM_NAMESPACE_MAX];
	int rw[REGION_PARTS];
	int ro[REGION_PARTS];
};

struct link_client {
	uint64_t id; /* counts up; no id is given twice while a talead runs */
	int fd;
};

/*
 * All that a worker is born with. The worker owns every fd in it; no other fd is open but 0, 1 and
 * 2. SIGINT, SIGTERM, SIGHUP and SIGPIPE are ignored, every other signal is as at exec. There is a
 * region for each namespace that was configured since this talead started; no new client gets one
 * whose namespace is no longer in config.
 */
struct worker_start {
	struct config config;
	uint32_t regions_nr;
	struct region_fds regions[LINK_REGIONS_MAX];
	uint32_t clients_nr;
	struct link_client *clients; /* never freed: the worker has it until its end */
	struct probe_live probes[PROBES_MAX]; /* as probe_for_worker leaves them */
	int link_fd;
	int state_fd;	      /* O_PATH of the state folder: openat() opens LINK_WORKER_LOCK also
			       * where the worker may not search the folder's path */
	uint64_t incarnation; /* microseconds REALTIME, higher than any before */
	uint32_t keeper_pid;
	uint32_t standby_pid; /* 0: none now */
	uint32_t worker_restarts;
	uint32_t keeper_takeovers;
	uint64_t started_real_ns; /* when the regions were made */
};

/* Made by the keeper, owned by the worker's uid, mode 0600. Locked with F_OFD_SETLK. */
#define LINK_WORKER_LOCK "worker.lock"

/* The function that a worker runs: main.c hands worker_run to the keeper. */
typedef int worker_entry(struct worker_start *ws);

/* Makes a link; both ends CLOEXEC. 0 or -errno. */
int link_open(int ret_ends[2]);

/*
 * Sends one message with its fds, never waiting: 0; -EAGAIN when the other end is behind; -EPIPE
 * when it is gone. The fds stay the caller's.
 */
int link_send(int link, const struct link_msg *msg, const int *fds, unsigned int fds_nr);

/* Sends a message that is only a kind, a number and an id. */
int link_send_plain(int link, enum link_kind kind, uint32_t nr, uint64_t id);

/*
 * Receives one message, never waiting: 1 with *ret and the fds (all CLOEXEC, now the caller's; room
 * for LINK_FDS_MAX); 0 when the other end is gone; -EAGAIN when there is none; -EPROTO for a packet
 * that is no message.
 */
int link_recv(int link, struct link_msg *ret, int *ret_fds, unsigned int *ret_fds_nr);

/* Closes the fds of a message that is not applied. */
void link_close_fds(const int *fds, unsigned int fds_nr);

/* A flat struct as a memfd (CLOEXEC), and back: -EPROTO when it has another size. */
int link_pack(const void *what, size_t bytes);
int link_unpack(int fd, void *ret, size_t bytes);

#endif

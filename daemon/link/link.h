/*
 * What keeper, standby and worker say to each other, and what a worker is born with. A link is a
 * SOCK_SEQPACKET socketpair; one packet is one struct link_msg and its fds. Both ends are ours and
 * were one program, so nothing is versioned; the keeper still trusts no byte that a worker sends
 * for more than "ready" and "done".
 *
 *   keeper ──► worker   CLIENT, CONFIG, PROBE, STANDBY, MISSED, CGROUP, COST, ANSWER, STOP (GO before
 *                       worker_run)
 *   worker ──► keeper   READY, DONE, ATTACH, DETACH, REPLACE, CGROUP, COST
 *   keeper ──► standby  CLIENT, CONFIG, PROBE, WORKER, STOP
 *   standby ──► keeper  HELD
 *
 * End of file on the worker's link: the keeper is gone. Either its standby kills this worker within
 * moments, or nobody is left and the worker ends itself after 5 s.
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
			  * probe_fds_get: what live has for the standby, what probe_for_worker leaves
			  * for the worker. Sent whenever a probe changes; origin 0: it ended. */
	LINK_STANDBY,	 /* nr: pid of the standby, 0 for none now */
	LINK_MISSED,	 /* nr: the probe's id; id: what probe_missed() said */
	LINK_STOP,	 /* worker: fold a last time, send DONE, end with 0. standby: end now */
	LINK_WORKER,	 /* nr: pid of a new worker; fds: its pidfd */
	LINK_GO,	 /* the standby knows of this worker: run */
	LINK_HELD,	 /* id: the standby holds that client */
	LINK_READY,	 /* the regions are live */
	LINK_DONE,	 /* after the last fold */

	/* What the worker asks for. id is its number for the request; ANSWER has the same. */
	LINK_ATTACH,	 /* spec: spec_check()ed again by the keeper */
	LINK_DETACH,	 /* text: the probe's name */
	LINK_REPLACE,	 /* text: the name of a probe that failed with -EEXIST: its pins end */
	LINK_COST,	 /* nr: milliseconds of statistics, at most LINK_COST_MS_MAX. Back, before the
			  * ANSWER: fds: memfd of struct probe_cost[PROBES_MAX]; nr: ms measured */
	LINK_CGROUP,	 /* id: of a cgroup. Back: the same id, text: its path; "" when it is gone */
	LINK_ANSWER,	 /* nr: (uint32_t)err; text: why and what to do, "" for 0. For ATTACH and
			  * REPLACE the PROBE came before it, also of one that failed */
};
#define LINK_COST_MS_MAX 10000u

struct link_msg {
	uint32_t kind; /* enum link_kind */
	uint32_t nr;
	uint64_t id;
	union {
		char names[LINK_REGIONS_MAX][SHM_NAMESPACE_MAX];
		char text[LINK_TEXT_MAX]; /* NUL-terminated: the receiver sees to it */
		struct probe_spec spec;
	};
};

/* A probe attached while its hearers live: those born later inherit its names. */
struct link_probe {
	struct probe_live live;
	struct probe_names names;
};

/* A region as the keeper made it. -1 where a process must not have the fd. */
struct region_fds {
	char name[SHM_NAMESPACE_MAX];
	int rw[REGION_PARTS];
	int ro[REGION_PARTS];
};

struct link_client {
	uint64_t id; /* counts up, never reused while the set lives */
	int fd;
};

/*
 * All that a worker has. It owns every fd in it; no other fd is open but 0, 1 and 2. SIGINT,
 * SIGTERM, SIGHUP and SIGPIPE are ignored, every other signal is as at exec. The regions are those
 * of all namespaces that ever were configured in this talead's life: one whose namespace is no
 * longer in config stays readable to nobody new.
 */
struct worker_start {
	struct config config;
	uint32_t regions_nr;
	struct region_fds regions[LINK_REGIONS_MAX];
	uint32_t clients_nr;
	struct link_client *clients; /* freed by nobody: it is this process's for life */
	struct probe_live probes[PROBES_MAX]; /* as probe_for_worker leaves them */
	int link_fd;
	int state_fd;	      /* O_PATH of the state folder: openat(state_fd, LINK_WORKER_LOCK, O_RDWR)
			       * works where the folder's path may not be searchable */
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

/* A message that is only a kind, a number and an id. */
int link_send_plain(int link, enum link_kind kind, uint32_t nr, uint64_t id);

/*
 * Takes one message, never waiting: 1 with *ret and the fds (all CLOEXEC, now the caller's; room
 * for LINK_FDS_MAX); 0 when the other end is gone; -EAGAIN when there is none; -EPROTO for a packet
 * that is none of ours.
 */
int link_recv(int link, struct link_msg *ret, int *ret_fds, unsigned int *ret_fds_nr);

/* A flat struct as a memfd (CLOEXEC), and back: -EPROTO when it has another size. */
int link_pack(const void *what, size_t bytes);
int link_unpack(int fd, void *ret, size_t bytes);

#endif

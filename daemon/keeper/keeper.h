/*
 * What the files of the keeper share. One process, one thread, one epoll; everything it holds is in
 * struct keeper, so that a fork (a worker, the spare) inherits the whole set.
 *
 * Owner of each piece:
 *   keeper.c    the loop, the phases of the end        state.c     folder and locks
 *   clients.c   client sockets and their hand-over     socket.c    the listening socket
 *   children.c  forking, deaths, who is told what      rights.c    what a worker must not have
 *   spare.c     waiting, and taking over               reload.c    SIGHUP: configuration, regions
 *   stop.c      talead --stop, --unpin                 wanted.c    which probes there are to be
 *   requests.c  what the worker asks for: attach, detach, cost, the path of a cgroup
 *
 * Functions give 0 or -errno; those that can fail have said why through log_line when they return.
 */
#ifndef DAEMON_KEEPER_H
#define DAEMON_KEEPER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "daemon/config/config.h"
#include "daemon/link/link.h"
#include "daemon/keeper/probe/probe.h"

#define NS_PER_S 1000000000ull
#define NEVER UINT64_MAX

/* A client's way: at each step a kill of the keeper leaves it whole or unanswered. */
enum client_at {
	CLIENT_NEW,    /* accepted; the spare has not been told */
	CLIENT_SENT,   /* told, and not acknowledged */
	CLIENT_HELD,   /* the spare has it, or there is no spare: the worker may have it */
	CLIENT_SERVED, /* the worker has it and may answer */
};

struct client {
	TAILQ_ENTRY(client) entry; /* in free, pending (before SERVED) or served */
	uint64_t id;
	int fd;
	enum client_at at;
};
TAILQ_HEAD(client_list, client);

/* A process that the keeper keeps alive: the worker, the spare. */
struct child {
	const char *name;
	pid_t pid;  /* 0: none now */
	int pidfd;
	int link;   /* -1: none, or its other end is gone */
	bool is_killed; /* by this keeper */
	uint64_t started_ns;
	uint64_t start_ns;     /* when to start the next one; NEVER while one runs */
	uint64_t kill_ns;      /* it should have ended by then; NEVER: it may live */
	uint64_t deaths_ns[3]; /* the last three, newest first */
	uint32_t wait_s;       /* 0: no waiting between death and start */
	uint64_t oom_kills_nr; /* the kernel's count when it was started */
};

enum phase { PHASE_RUN, PHASE_STOP_SPARE, PHASE_STOP_WORKER, PHASE_END };

/* Statistics that the worker asked for. */
struct cost_window {
	int fd;
	uint64_t end_ns; /* NEVER: none */
	uint64_t began_ns;
	uint64_t request; /* the worker's number for it */
	pid_t worker;	  /* who asked */
	struct probe_cost before[PROBES_MAX];
};

struct keeper {
	struct config config;
	struct config_source source; /* to read the configuration again */
	pid_t pid;
	int self_pidfd; /* of the keeper; a spare watches it */
	bool is_spare;	  /* this process came out of spare_start() as the child */
	bool is_pid_due;  /* keeper.lock is held and does not name this process yet */
	enum phase phase;
	int exit_code;

	int epoll_fd, signal_fd, listen_fd;
	int reserve_fd; /* given up for a moment to refuse a client when the fd table is full */
	int state_fd, lock_fd;
	dev_t socket_dev; /* of the socket's file: only that one is removed at the end */
	ino_t socket_ino;
	uint64_t listen_ns; /* when to listen again after accept failed; NEVER: listening */
	uint64_t push_ns;   /* when to try handing over again; NEVER: nothing waits */
	uint64_t tick_ns;   /* when to ask the probes what they missed; NEVER: none attached */

	struct region_fds regions[LINK_REGIONS_MAX];
	uint32_t regions_nr;
	struct probe_live probes[PROBES_MAX];
	uint64_t missed[PROBES_MAX]; /* as the worker was told */
	struct pins pins;
	struct cost_window cost; /* under way; fd -1: none */
	pid_t spare_told;	   /* the spare's pid as the worker was told */

	struct child worker, spare;
	uint32_t worker_restarts, keeper_takeovers;
	uint64_t incarnation, started_real_ns;

	struct client clients[LINK_CLIENTS_MAX];
	uint32_t clients_nr, clients_max;
	uint64_t client_id; /* the last one given */
	struct client_list free, pending, served;
};

/* What an epoll event is about: in the low byte of its data; clients have index and id above. */
enum event_kind { EVENT_SIGNAL, EVENT_LISTEN, EVENT_WORKER, EVENT_SPARE, EVENT_CLIENT };

uint64_t now_ns(void);

/* keeper.c */
int keeper_run(const struct config *config, const struct config_source *source);
int keeper_watch(struct keeper *k, int fd, uint32_t events, uint64_t data);
void keeper_unwatch(struct keeper *k, int fd);
/* A fresh epoll that watches the clients: at start, and in a new spare. */
int keeper_epoll_open(struct keeper *k);
/* Signals come to a signalfd and clients to the listener: at start, and after a takeover. */
int keeper_serve_open(struct keeper *k);

/* state.c: the folder is made and checked; its locks are as PROTOCOL 7 has them. */
int state_open(const struct config *config, int *ret_fd);
int state_lock(int state_fd, int *ret_fd);  /* keeper.lock: -EAGAIN (nothing said): it is held */
pid_t state_holder(int state_fd);	    /* the pid in keeper.lock, 0 when it names none */
int state_is_locked(int state_fd, const char *name);
int state_write_pid(int lock_fd, pid_t pid);
int state_worker_lock_make(int state_fd, const struct config *config);
/* Until nobody holds worker.lock, at most that long: 0 or -ETIMEDOUT (nothing said). */
int state_worker_wait(int state_fd, uint64_t ns);

/* socket.c */
int socket_listen(struct keeper *k);
void socket_remove(struct keeper *k);
int path_make_parents(const char *path, mode_t mode);

/* clients.c */
void clients_init(struct keeper *k);
void clients_accept(struct keeper *k);
int client_add(struct keeper *k, uint64_t id, int fd, enum client_at at);
void client_hangup(struct keeper *k, uint64_t data);
uint64_t client_data(const struct keeper *k, const struct client *c);
void clients_held(struct keeper *k, uint64_t id);  /* the spare says so */
void clients_all_held(struct keeper *k);	   /* by a spare just forked, or there is none */
void clients_all_served(struct keeper *k);	   /* by a worker just forked with all held ones */
void clients_push(struct keeper *k);		   /* hands over what can be */

/* children.c */
void children_init(struct keeper *k);
void children_ensure(struct keeper *k); /* afterwards k->is_spare tells which process this is */
void children_reap(struct keeper *k);
void child_unlink(struct keeper *k, struct child *child);
void child_kill(struct child *child);
void child_kill_due(struct child *child); /* when kill_ns is past */
/* Sends, waiting at most a second; a child that does not take it is killed: its successor is born
 * with what it would have been told. */
void child_tell(struct child *child, const struct link_msg *msg, const int *fds, unsigned int nr);

/* spare.c: the life of a spare. 0: this process is the keeper now. 1: it ends with k->exit_code. */
int spare_wait(struct keeper *k);

/* rights.c */
int rights_drop(const struct config *config);

/* A list of descriptors; those below 0 are not taken. Ends the process when memory does. */
struct fd_list {
	int *fds;
	unsigned int nr, room;
};
void fd_list_add(struct fd_list *list, int fd);
/* Closes every other one but 0, 1 and 2; frees the list. */
void fds_keep_only(struct fd_list *list);

/* reload.c */
int regions_ensure(struct keeper *k); /* one for each namespace */
void reload(struct keeper *k);
/* What the spare is told of a reload: 0, then the fds are in k; or -EPROTO, and they are closed. */
int reload_config_heard(struct keeper *k, const struct link_msg *msg, const int *fds,
			unsigned int fds_nr);

/* wanted.c: probes of the table, of [probe NAME] and of commands. Each change is told to spare and
 * worker, which are born with the rest. */
#define OBJECT_NAMED "an object is loaded from the configuration alone"
void wanted_init(struct keeper *k);
void wanted_ensure(struct keeper *k, bool is_start); /* attaches what is wanted and is not there */
void wanted_take_over(struct keeper *k); /* what the former keeper had begun ends or is gone on with */
void wanted_tick(struct keeper *k);   /* once a second: what was missed, keys whose owner is gone */
int wanted_heard(struct keeper *k, const struct link_msg *msg, const int *fds, unsigned int fds_nr);
/* For requests.c: 0 or -errno with why and what to do in text, LINK_TEXT_MAX. */
int wanted_attach(struct keeper *k, const struct probe_spec *spec, char *text);
int wanted_detach(struct keeper *k, const char *name, char *text);
int wanted_replace(struct keeper *k, const char *name, char *text);

/* requests.c: what the worker asks for; and what is to be done about the cost now. */
void request_take(struct keeper *k, const struct link_msg *msg);
void request_cost_due(struct keeper *k);

/* stop.c */
int stop_run(const struct config *config);
int unpin_run(const struct config *config);

#endif

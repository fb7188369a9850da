/* See registry.h. */
#include "daemon/worker/registry.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include <urcu/pointer.h>

#include "shm/order.h"

#if defined(__has_feature) /* clang's way to say it; gcc's is a macro */
#if __has_feature(address_sanitizer)
#define IS_POISONED
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define IS_POISONED
#endif
#ifdef IS_POISONED
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, bytes)   ((void)(at), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#endif

#define BUCKETS_MIN 1024u
#define BUCKETS_MAX (1u << 25)

static struct config *config_copy(const struct config *config)
{
	struct config *copy = malloc(sizeof(*copy));

	if (copy)
		memcpy(copy, config, sizeof(*copy));
	return copy;
}

/* Signals are the control thread's: none may end in this one. */
static struct call_rcu_data *reclaim_open(void)
{
	struct call_rcu_data *reclaim;
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	reclaim = urcu_memb_create_call_rcu_data(0, -1);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return reclaim;
}

int registry_init(struct registry *r, const struct config *config)
{
	r->config = config_copy(config);
	if (!r->config)
		return -ENOMEM;
	r->names_nr = 0;
	r->buckets_nr = BUCKETS_MIN;
	r->names = cds_lfht_new_flavor(BUCKETS_MIN, BUCKETS_MIN, BUCKETS_MAX, 0, &urcu_memb_flavor,
				       NULL);
	if (!r->names)
		goto out_config;
	r->reclaim = reclaim_open();
	if (!r->reclaim)
		goto out_names;
	return 0;

out_names:
	cds_lfht_destroy(r->names, NULL);
out_config:
	free(r->config);
	return -ENOMEM;
}

void registry_fini(struct registry *r)
{
	struct cds_lfht_iter iter;
	struct cds_lfht_node *node;

	registry_read_begin();
	cds_lfht_for_each(r->names, &iter, node)
		cds_lfht_del(r->names, node);
	registry_read_end();
	urcu_memb_barrier();
	if (urcu_memb_get_thread_call_rcu_data() == r->reclaim)
		urcu_memb_set_thread_call_rcu_data(NULL);
	urcu_memb_call_rcu_data_free(r->reclaim);
	cds_lfht_destroy(r->names, NULL);
	free(r->config);
}

void registry_enter(void)
{
	urcu_memb_register_thread();
}

void registry_leave(void)
{
	urcu_memb_unregister_thread();
}

void registry_read_begin(void)
{
	urcu_memb_read_lock();
}

void registry_read_end(void)
{
	urcu_memb_read_unlock();
}

const struct config *registry_config(const struct registry *r)
{
	return rcu_dereference(r->config);
}

int registry_configure(struct registry *r, const struct config *config)
{
	struct config *copy = config_copy(config), *old;

	if (!copy)
		return -ENOMEM;
	old = rcu_xchg_pointer(&r->config, copy);
	urcu_memb_synchronize_rcu();
	free(old);
	return 0;
}

void registry_grow(struct registry *r, uint64_t names_nr)
{
	uint64_t buckets_nr = r->buckets_nr;

	names_nr += shm_count_read(&r->names_nr);
	while (buckets_nr < names_nr && buckets_nr < BUCKETS_MAX)
		buckets_nr *= 2;
	if (buckets_nr == r->buckets_nr)
		return;
	cds_lfht_resize(r->names, buckets_nr);
	r->buckets_nr = buckets_nr;
}

void registry_add(struct registry *r, struct record *rec, uint64_t hash)
{
	cds_lfht_node_init(&rec->node);
	cds_lfht_add(r->names, hash, &rec->node);
	shm_count_set(&r->names_nr, r->names_nr + 1);
}

static void record_gone(struct rcu_head *head)
{
	struct registry_gone *gone = caa_container_of(head, struct registry_gone, head);

	ASAN_POISON_MEMORY_REGION(gone->rec, sizeof(*gone->rec));
	/* ORDER(gone): the last reader has left before the owner may store to the record. */
	shm_publish32(&gone->is_gone, 1);
}

void registry_remove(struct registry *r, struct record *rec, struct registry_gone *gone)
{
	if (cds_lfht_del(r->names, &rec->node))
		return;
	shm_count_set(&r->names_nr, r->names_nr - 1);
	gone->rec = rec;
	shm_set32(&gone->is_gone, 0);
	if (urcu_memb_get_thread_call_rcu_data() != r->reclaim)
		urcu_memb_set_thread_call_rcu_data(r->reclaim);
	urcu_memb_call_rcu(&gone->head, record_gone);
}

bool registry_is_gone(const struct registry_gone *gone)
{
	/* ORDER(gone) */
	return shm_take32(&gone->is_gone);
}

void registry_reclaim(struct record *rec)
{
	ASAN_UNPOISON_MEMORY_REGION(rec, sizeof(*rec));
}

struct query {
	bool (*match)(const struct record *rec, const void *key);
	const void *key;
};

static int node_matches(struct cds_lfht_node *node, const void *key)
{
	const struct query *q = key;

	return q->match(caa_container_of(node, struct record, node), q->key);
}

const struct record *registry_find(struct registry *r, uint64_t hash,
				   bool (*match)(const struct record *rec, const void *key),
				   const void *key)
{
	struct query q = { match, key };
	struct cds_lfht_iter iter;
	struct cds_lfht_node *node;

	cds_lfht_lookup(r->names, hash, node_matches, &q, &iter);
	node = cds_lfht_iter_get_node(&iter);
	return node ? caa_container_of(node, struct record, node) : NULL;
}

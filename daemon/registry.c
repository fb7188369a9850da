/* See registry.h. */
#include "daemon/registry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <urcu/pointer.h>

#include "shm/order.h"

#define BUCKETS_MIN 1024u
#define BUCKETS_MAX (1u << 25)

static struct config *config_copy(const struct config *config)
{
	struct config *copy = malloc(sizeof(*copy));

	if (copy)
		memcpy(copy, config, sizeof(*copy));
	return copy;
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
	if (!r->names) {
		free(r->config);
		return -ENOMEM;
	}
	return 0;
}

void registry_fini(struct registry *r)
{
	struct cds_lfht_iter iter;
	struct cds_lfht_node *node;

	registry_read_begin();
	cds_lfht_for_each(r->names, &iter, node)
		cds_lfht_del(r->names, node);
	registry_read_end();
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

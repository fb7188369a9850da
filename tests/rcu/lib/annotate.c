/*
 * What ThreadSanitizer is told of liburcu, whose objects it does not see into: the order that each call
 * promises, no more. Linked to talead and the test programs of SAN=thread alone, in the place of the
 * calls named in tests/dir.mk (--wrap). A suppression could not do this: a report about a request that
 * went through a queue names both of our threads and nothing of liburcu.
 *
 *   before                         after                              because
 *   cds_wfcq_enqueue               the dequeue of that node           the queue hands it over
 *   cds_lfht_add                   a look-up or walk that finds it    adding publishes the node
 *   rcu_xchg_pointer               rcu_dereference of what it stored  it publishes
 *   every read section before it   the end of synchronize_rcu         the grace period
 *   call_rcu, and those sections   the callback                       the grace period
 *   every callback before it       the end of rcu_barrier             it waits for them
 *
 * With TALEA_TSAN_PLANT in the environment each enqueue also counts in a variable of no protection,
 * which two threads of the daemon do: the control of tests/rcu/tsan.sh.
 */
#include <stdlib.h>

#include <sanitizer/tsan_interface.h>
#include <urcu/rculfhash.h>
#include <urcu/urcu-memb.h>
#include <urcu/wfcqueue.h>

#include "shm/order.h"

/* Stand for the sections of all readers, and for the callbacks. */
static char grace, ended;

/* --- queues ----------------------------------------------------------------------------------- */

bool __real_cds_wfcq_enqueue(cds_wfcq_head_ptr_t head, struct cds_wfcq_tail *tail,
			     struct cds_wfcq_node *node);
bool __wrap_cds_wfcq_enqueue(cds_wfcq_head_ptr_t head, struct cds_wfcq_tail *tail,
			     struct cds_wfcq_node *node);
bool __wrap_cds_wfcq_enqueue(cds_wfcq_head_ptr_t head, struct cds_wfcq_tail *tail,
			     struct cds_wfcq_node *node)
{
	static unsigned int planted;

	if (getenv("TALEA_TSAN_PLANT"))
		planted++;
	__tsan_release(node);
	return __real_cds_wfcq_enqueue(head, tail, node);
}

struct cds_wfcq_node *__real___cds_wfcq_dequeue_blocking(cds_wfcq_head_ptr_t head,
							 struct cds_wfcq_tail *tail);
struct cds_wfcq_node *__wrap___cds_wfcq_dequeue_blocking(cds_wfcq_head_ptr_t head,
							 struct cds_wfcq_tail *tail);
struct cds_wfcq_node *__wrap___cds_wfcq_dequeue_blocking(cds_wfcq_head_ptr_t head,
							 struct cds_wfcq_tail *tail)
{
	struct cds_wfcq_node *node = __real___cds_wfcq_dequeue_blocking(head, tail);

	if (node)
		__tsan_acquire(node);
	return node;
}

/* --- the table -------------------------------------------------------------------------------- */

void __real_cds_lfht_add(struct cds_lfht *ht, unsigned long hash, struct cds_lfht_node *node);
void __wrap_cds_lfht_add(struct cds_lfht *ht, unsigned long hash, struct cds_lfht_node *node);
void __wrap_cds_lfht_add(struct cds_lfht *ht, unsigned long hash, struct cds_lfht_node *node)
{
	__tsan_release(node);
	__real_cds_lfht_add(ht, hash, node);
}

struct search {
	cds_lfht_match_fct match;
	const void *key;
};

static int found(struct cds_lfht_node *node, const void *key)
{
	const struct search *s = key;

	__tsan_acquire(node);
	return s->match(node, s->key);
}

void __real_cds_lfht_lookup(struct cds_lfht *ht, unsigned long hash, cds_lfht_match_fct match,
			    const void *key, struct cds_lfht_iter *iter);
void __wrap_cds_lfht_lookup(struct cds_lfht *ht, unsigned long hash, cds_lfht_match_fct match,
			    const void *key, struct cds_lfht_iter *iter);
void __wrap_cds_lfht_lookup(struct cds_lfht *ht, unsigned long hash, cds_lfht_match_fct match,
			    const void *key, struct cds_lfht_iter *iter)
{
	struct search s = { match, key };

	__real_cds_lfht_lookup(ht, hash, found, &s, iter);
}

static void walked(struct cds_lfht_iter *iter)
{
	struct cds_lfht_node *node = cds_lfht_iter_get_node(iter);

	if (node)
		__tsan_acquire(node);
}

void __real_cds_lfht_first(struct cds_lfht *ht, struct cds_lfht_iter *iter);
void __wrap_cds_lfht_first(struct cds_lfht *ht, struct cds_lfht_iter *iter);
void __wrap_cds_lfht_first(struct cds_lfht *ht, struct cds_lfht_iter *iter)
{
	__real_cds_lfht_first(ht, iter);
	walked(iter);
}

void __real_cds_lfht_next(struct cds_lfht *ht, struct cds_lfht_iter *iter);
void __wrap_cds_lfht_next(struct cds_lfht *ht, struct cds_lfht_iter *iter);
void __wrap_cds_lfht_next(struct cds_lfht *ht, struct cds_lfht_iter *iter)
{
	__real_cds_lfht_next(ht, iter);
	walked(iter);
}

/* --- pointers and grace periods --------------------------------------------------------------- */

void *__real_rcu_dereference_sym(void *p);
void *__wrap_rcu_dereference_sym(void *p);
void *__wrap_rcu_dereference_sym(void *p)
{
	p = __real_rcu_dereference_sym(p);
	__tsan_acquire(p);
	return p;
}

void *__real_rcu_xchg_pointer_sym(void **where, void *p);
void *__wrap_rcu_xchg_pointer_sym(void **where, void *p);
void *__wrap_rcu_xchg_pointer_sym(void **where, void *p)
{
	__tsan_release(p);
	return __real_rcu_xchg_pointer_sym(where, p);
}

void __real_urcu_memb_read_unlock(void);
void __wrap_urcu_memb_read_unlock(void);
void __wrap_urcu_memb_read_unlock(void)
{
	__tsan_release(&grace);
	__real_urcu_memb_read_unlock();
}

void __real_urcu_memb_synchronize_rcu(void);
void __wrap_urcu_memb_synchronize_rcu(void);
void __wrap_urcu_memb_synchronize_rcu(void)
{
	__real_urcu_memb_synchronize_rcu();
	__tsan_acquire(&grace);
}

/* The daemon has one callback: more would each need their own. */
static void (*callback)(struct rcu_head *head);

static void called(struct rcu_head *head)
{
	__tsan_acquire(&grace);
	__tsan_acquire(head);
	shm_take_ptr(&callback)(head);
	__tsan_release(&ended);
}

void __real_urcu_memb_barrier(void);
void __wrap_urcu_memb_barrier(void);
void __wrap_urcu_memb_barrier(void)
{
	__real_urcu_memb_barrier();
	__tsan_acquire(&ended);
}

void __real_urcu_memb_call_rcu(struct rcu_head *head, void (*func)(struct rcu_head *head));
void __wrap_urcu_memb_call_rcu(struct rcu_head *head, void (*func)(struct rcu_head *head));
void __wrap_urcu_memb_call_rcu(struct rcu_head *head, void (*func)(struct rcu_head *head))
{
	if (shm_take_ptr(&callback) && shm_take_ptr(&callback) != func)
		abort();
	shm_publish_ptr(&callback, func);
	__tsan_release(head);
	__real_urcu_memb_call_rcu(head, called);
}

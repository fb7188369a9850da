/*
 * Memory ordering for everything in shared memory: the only file with __atomic_*.
 *
 * Each operation is named by the role it plays, not by its strength. Every use outside plain
 * counting carries an ORDER(tag) comment that names the race it prevents; the same tag stands on
 * the other side of the pair, and the lint checks that both are there.
 *
 *   writer                      reader                      what the pair promises
 *   shm_count_add               shm_count_read              one add is one count, no order
 *   shm_publish                 shm_take                    all stored before is seen after
 *   shm_seq_write_begin/_end    shm_seq_read_retry          a copy taken between is of one moment
 *   shm_fence                   shm_fence                   store-then-load on both sides (Dekker)
 */
#ifndef SHM_ORDER_H
#define SHM_ORDER_H

#include <stdbool.h>
#include <stdint.h>

/* Adds to a cell that others add to at the same time; wait-free, signal safe. */
static inline void shm_count_add(uint64_t *cell, uint64_t n)
{
	__atomic_fetch_add(cell, n, __ATOMIC_RELAXED);
}

/* One untorn value of a cell that others change; no order. */
static inline uint64_t shm_count_read(const uint64_t *cell)
{
	return __atomic_load_n(cell, __ATOMIC_RELAXED);
}

/* One untorn store without order: the caller publishes it with another store. */
static inline void shm_count_set(uint64_t *cell, uint64_t v)
{
	__atomic_store_n(cell, v, __ATOMIC_RELAXED);
}

static inline uint32_t shm_read32(const uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static inline void shm_set32(uint32_t *word, uint32_t v)
{
	__atomic_store_n(word, v, __ATOMIC_RELAXED);
}

static inline uint8_t shm_read8(const uint8_t *byte)
{
	return __atomic_load_n(byte, __ATOMIC_RELAXED);
}

static inline void shm_set8(uint8_t *byte, uint8_t v)
{
	__atomic_store_n(byte, v, __ATOMIC_RELAXED);
}

/* Everything stored before becomes visible no later than this word; pairs with shm_take. */
static inline void shm_publish(uint64_t *word, uint64_t v)
{
	__atomic_store_n(word, v, __ATOMIC_RELEASE);
}

static inline void shm_publish32(uint32_t *word, uint32_t v)
{
	__atomic_store_n(word, v, __ATOMIC_RELEASE);
}

static inline uint64_t shm_take(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static inline uint32_t shm_take32(const uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

/* Pointers between threads of one process, same pair. */
#define shm_publish_ptr(where, p) __atomic_store_n((where), (p), __ATOMIC_RELEASE)
#define shm_take_ptr(where)	  __atomic_load_n((where), __ATOMIC_ACQUIRE)

/* Takes ownership of *word if it still holds `from`. */
static inline bool shm_claim(uint64_t *word, uint64_t from, uint64_t to)
{
	return __atomic_compare_exchange_n(word, &from, to, false, __ATOMIC_ACQ_REL,
					   __ATOMIC_ACQUIRE);
}

/*
 * A seqlock whose version is stored by shm_publish. The writer calls write_begin after the last
 * published version and before its first plain store; the reader takes the version, reads, and
 * asks read_retry whether the version is still the one it took.
 */
static inline void shm_seq_write_begin(void)
{
	__atomic_thread_fence(__ATOMIC_RELEASE);
}

static inline bool shm_seq_read_retry(const uint64_t *version, uint64_t taken)
{
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return __atomic_load_n(version, __ATOMIC_RELAXED) != taken;
}

/* A full fence: my stores before it are seen before my loads after it read. */
static inline void shm_fence(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

#endif

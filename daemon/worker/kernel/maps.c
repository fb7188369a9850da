/* See maps.h. */
#define _GNU_SOURCE
#include "daemon/worker/kernel/maps.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CHUNK_FIRST 256u
#define CHUNK_MAX   (1u << 20) /* no map has more keys, so no bucket has */

static int bpf(int cmd, union bpf_attr *attr)
{
	return syscall(SYS_bpf, cmd, attr, sizeof(*attr)) ? -errno : 0;
}

/* "0-3,8-11" has 8. */
static uint32_t cpu_list_count(const char *list)
{
	uint32_t nr = 0;
	char *end;

	for (;; list = end + 1) {
		unsigned long first = strtoul(list, &end, 10), last = first;

		if (end == list)
			break;
		if (*end == '-')
			last = strtoul(end + 1, &end, 10);
		if (last >= first && last < SHM_CPUS_MAX * 64)
			nr += (uint32_t)(last - first) + 1;
		if (*end != ',')
			break;
	}
	return nr;
}

uint32_t maps_cpus_nr(void)
{
	int fd = open("/sys/devices/system/cpu/possible", O_RDONLY | O_CLOEXEC);
	char list[4096];
	ssize_t got = fd < 0 ? 0 : read(fd, list, sizeof(list) - 1);
	uint32_t nr;
	long conf;

	if (fd >= 0)
		close(fd);
	list[got > 0 ? got : 0] = '\0';
	nr = cpu_list_count(list);
	conf = nr ? 0 : sysconf(_SC_NPROCESSORS_CONF);
	return nr ? nr : conf > 0 ? (uint32_t)conf : 1;
}

static int chunk_grow(struct map_pass *p, uint32_t key_bytes, uint32_t chunk)
{
	void *keys = realloc(p->chunk_keys, (size_t)chunk * key_bytes), *values;

	if (!keys)
		return -ENOMEM;
	p->chunk_keys = keys;
	values = realloc(p->chunk_values, (size_t)chunk * p->cpus_nr * sizeof(uint64_t));
	if (!values)
		return -ENOMEM;
	p->chunk_values = values;
	p->chunk = chunk;
	return 0;
}

int map_pass_init(struct map_pass *p, uint32_t key_bytes)
{
	*p = (struct map_pass){ .cpus_nr = maps_cpus_nr() };
	return chunk_grow(p, key_bytes, CHUNK_FIRST);
}

void map_pass_fini(struct map_pass *p)
{
	free(p->keys);
	free(p->sums);
	free(p->chunk_keys);
	free(p->chunk_values);
}

/* Appends the nr keys that a call has returned. */
static int chunk_take(struct map_pass *p, uint32_t key_bytes, uint32_t nr)
{
	if (p->nr + nr > p->max) {
		uint32_t max = 2 * p->max + nr + CHUNK_FIRST;
		void *more = realloc(p->keys, (size_t)max * key_bytes);

		if (!more)
			return -ENOMEM;
		p->keys = more;
		more = realloc(p->sums, max * sizeof(*p->sums));
		if (!more)
			return -ENOMEM;
		p->sums = more;
		p->max = max;
	}
	memcpy(p->keys + (size_t)p->nr * key_bytes, p->chunk_keys, (size_t)nr * key_bytes);
	for (uint32_t i = 0; i < nr; i++) {
		uint64_t sum = 0;

		for (uint32_t cpu = 0; cpu < p->cpus_nr; cpu++)
			sum += p->chunk_values[(size_t)i * p->cpus_nr + cpu];
		p->sums[p->nr++] = sum;
	}
	return 0;
}

int map_pass_read(struct map_pass *p, int fd, uint32_t key_bytes)
{
	uint64_t next[2] = { 0 }; /* the number of a bucket */
	union bpf_attr attr;
	bool is_begun = false;
	int err, took = 0;

	p->nr = 0;
	do {
		memset(&attr, 0, sizeof(attr));
		attr.batch.map_fd = (uint32_t)fd;
		attr.batch.in_batch = is_begun ? (uintptr_t)&next[0] : 0;
		attr.batch.out_batch = (uintptr_t)&next[1];
		attr.batch.keys = (uintptr_t)p->chunk_keys;
		attr.batch.values = (uintptr_t)p->chunk_values;
		attr.batch.count = p->chunk;
		err = bpf(BPF_MAP_LOOKUP_BATCH, &attr);
		if (err == -ENOSPC && !attr.batch.count) {
			/* The next bucket has more keys than there is room: it is read again. */
			took = p->chunk < CHUNK_MAX ? chunk_grow(p, key_bytes, 2 * p->chunk) :
						      -EOVERFLOW;
			continue;
		}
		if (err && err != -ENOENT && err != -ENOSPC)
			break;
		took = chunk_take(p, key_bytes, attr.batch.count);
		next[0] = next[1];
		is_begun = true;
	} while (err != -ENOENT && !took);
	err = err == -ENOENT || took ? took : err;
	if (err)
		p->nr = 0;
	return err;
}

int map_ledger_read(int fd, struct probe_ledger *ret)
{
	union bpf_attr attr;
	uint32_t key = 0;

	memset(&attr, 0, sizeof(attr));
	attr.map_fd = (uint32_t)fd;
	attr.key = (uintptr_t)&key;
	attr.value = (uintptr_t)ret;
	return bpf(BPF_MAP_LOOKUP_ELEM, &attr);
}

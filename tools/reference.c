/*
 * Reference counters; see reference.h.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/base/array.h"
#include "tools/reference.h"

#define LINE_MAX_BYTES 8192
#define SECTOR	       512
#define REQUEST_BYTES  (1u << 20) /* what a disk's request usually has at most */
#define PACKET_BYTES   (1u << 16)

struct tolerance {
	enum reference_tolerance tolerance;
	const char *reason, *why;
};

static const struct tolerance exact = { REFERENCE_EXACT, "", "" };
static const struct tolerance dying = {
	REFERENCE_MORE, "dying", "a victim that was ending anyway is in the probe's count alone"
};
static const struct tolerance faults = {
	REFERENCE_EITHER, "faults",
	"the kernel also counts pages brought in for itself, the probe exceptions that need no page"
};
static const struct tolerance handlers = {
	REFERENCE_MORE, "handlers",
	"the probe counts handlers: each device of a shared line, each call for interrupts taken at "
	"once"
};
static const struct tolerance flushes = {
	REFERENCE_MORE, "flushes", "a write with a flush ends twice for the probe, once for the kernel"
};
static const struct tolerance namespaces = {
	REFERENCE_MORE, "namespaces",
	"the probe counts in all network namespaces, /proc in this process's own"
};
static const struct tolerance segments = {
	REFERENCE_EITHER, "segments",
	"older kernels also count a segment that could not be sent; the probe counts in all network "
	"namespaces"
};
static const struct tolerance drivers = {
	REFERENCE_EITHER, "drivers",
	"drivers count when and what they like, some only what has left the card"
};
static const struct tolerance elsewhere = {
	REFERENCE_EITHER, "elsewhere", "talead may be in another network namespace than this process"
};

/* --- a list --------------------------------------------------------------------------------- */

static struct reference *reference_put(struct references *all, const char *counter,
				       const struct tolerance *tolerance, uint64_t nr)
{
	struct reference *one;

	if (array_reserve(&all->list, all->nr + 1, &all->max))
		return NULL;
	one = &all->list[all->nr++];
	*one = (struct reference){ .tolerance = tolerance->tolerance,
				   .reason = tolerance->reason,
				   .why = tolerance->why,
				   .unit = 1,
				   .nr = nr };
	snprintf(one->counter, sizeof(one->counter), "%s", counter);
	return one;
}

static void reference_label(struct reference *one, const char *name, const char *values)
{
	snprintf(one->label, sizeof(one->label), "%s", name);
	snprintf(one->values, sizeof(one->values), "%s", values);
}

const struct reference *references_find(const struct references *references, const char *source)
{
	for (size_t i = 0; i < references->nr; i++)
		if (!strcmp(references->list[i].source, source))
			return &references->list[i];
	return NULL;
}

void references_fini(struct references *references)
{
	free(references->list);
	*references = (struct references){ 0 };
}

/* --- files of a name and a number a line ---------------------------------------------------- */

static const struct {
	const char *path, *key, *counter;
	const struct tolerance *tolerance;
} singles[] = {
	{ "/proc/stat", "ctxt", "kernel_context_switches_total", &exact },
	{ "/proc/stat", "processes", "kernel_forks_total", &exact },
	{ "/proc/vmstat", "oom_kill", "kernel_oom_kills_total", &dying },
	{ "/proc/vmstat", "pgfault", "kernel_page_faults_total", &faults },
};

static int singles_of_file(struct references *all, const char *path)
{
	FILE *f = fopen(path, "re");
	char line[LINE_MAX_BYTES];
	struct reference *one;

	while (f && fgets(line, sizeof(line), f)) {
		size_t length = strcspn(line, " ");

		for (size_t i = 0; i < sizeof(singles) / sizeof(singles[0]); i++) {
			if (strcmp(singles[i].path, path) || strlen(singles[i].key) != length ||
			    strncmp(singles[i].key, line, length))
				continue;
			one = reference_put(all, singles[i].counter, singles[i].tolerance,
				  strtoull(line + length, NULL, 10));
			if (!one) {
				fclose(f);
				return -ENOMEM;
			}
			snprintf(one->source, sizeof(one->source), "%s %s", path, singles[i].key);
		}
	}
	if (f)
		fclose(f);
	return 0;
}

/* --- files of a column a CPU ---------------------------------------------------------------- */

/* The sum of the first numbers, cpus_nr at most. *ret_rest: the text behind them. */
static uint64_t cpus_sum(const char *at, unsigned int cpus_nr, const char **ret_rest)
{
	uint64_t sum = 0;
	char *end;

	for (unsigned int i = 0; i < cpus_nr; i++, at = end) {
		unsigned long long n = strtoull(at, &end, 10);

		if (end == at)
			break;
		sum += n;
	}
	*ret_rest = at;
	return sum;
}

/* How many CPUs the first line of a file names. */
static unsigned int cpus_columns(const char *head)
{
	unsigned int nr = 0;

	for (const char *at = head; (at = strstr(at, "CPU")); at += 3)
		nr++;
	return nr;
}

/* The line's name as far as the colon; NULL: it has none. */
static char *line_name(char *line, char **ret_rest)
{
	char *name = line + strspn(line, " "), *colon = strchr(name, ':');

	if (!colon)
		return NULL;
	*colon = '\0';
	*ret_rest = colon + 1;
	return name;
}

static bool is_digits(const char *text)
{
	return *text && !text[strspn(text, "0123456789")];
}

/* All rows of softirqs; of interrupts the numbered rows, which are lines of devices. */
static int rows_of_file(struct references *all, const char *path, const char *counter,
			const char *label_name, bool is_numbered)
{
	FILE *f = fopen(path, "re");
	char *line = NULL, *name, *rest;
	size_t size = 0;
	unsigned int cpus_nr = 0;
	int rc = 0;

	if (f && getline(&line, &size, f) > 0)
		cpus_nr = cpus_columns(line);
	while (!rc && f && getline(&line, &size, f) > 0) {
		struct reference *one;
		const char *end;
		uint64_t nr;

		name = line_name(line, &rest);
		if (!name || (is_numbered && !is_digits(name)))
			continue;
		nr = cpus_sum(rest, cpus_nr, &end);
		one = reference_put(all, counter, is_numbered ? &handlers : &exact, nr);
		if (!one) {
			rc = -ENOMEM;
			break;
		}
		reference_label(one, label_name, name);
		one->wraps = true;
		snprintf(one->source, sizeof(one->source), "%s %.32s", path, name);
	}
	free(line);
	if (f)
		fclose(f);
	return rc;
}

/* --- disks ---------------------------------------------------------------------------------- */

/* Does the device have requests of its own? A partition has none, nor a device that only passes them
 * on. */
static bool has_requests(const char *device)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/block/%.64s/mq", device);
	for (char *c = path + strlen("/sys/block/"); *c; c++)
		if (*c == '/' && strcmp(c, "/mq"))
			*c = '!'; /* as sysfs writes a name with a slash */
	return access(path, F_OK) == 0;
}

static const struct {
	const char *operations, *direction;
	unsigned int requests, sectors; /* fields behind the name, from 0 */
} disk_fields[] = {
	{ "read", "reads", 0, 2 },
	{ "write|write_zeroes|zone_append", "writes", 4, 6 },
	{ "discard", "discards", 11, 13 },
};
#define DISK_FIELDS (sizeof(disk_fields) / sizeof(disk_fields[0]))
#define DISK_NUMBERS 14

static int put_disks(struct references *all, const uint64_t *requests, const uint64_t *sectors)
{
	for (size_t i = 0; i < DISK_FIELDS; i++) {
		struct reference *one = reference_put(
			all, "kernel_disk_requests_completed_total", &flushes, requests[i]);

		if (!one)
			return -ENOMEM;
		reference_label(one, "operation", disk_fields[i].operations);
		snprintf(one->source, sizeof(one->source), "/proc/diskstats %s",
			 disk_fields[i].direction);
		one = reference_put(all, "kernel_disk_bytes_total", &exact, sectors[i] * SECTOR);
		if (!one)
			return -ENOMEM;
		reference_label(one, "operation", disk_fields[i].operations);
		one->unit = REQUEST_BYTES;
		snprintf(one->source, sizeof(one->source), "/proc/diskstats %s' sectors",
			 disk_fields[i].direction);
	}
	return 0;
}

static int disks(struct references *all)
{
	uint64_t requests[DISK_FIELDS] = { 0 }, sectors[DISK_FIELDS] = { 0 };
	FILE *f = fopen("/proc/diskstats", "re");
	char line[512], name[65];
	int at;

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f)) {
		uint64_t numbers[DISK_NUMBERS] = { 0 };
		const char *from;
		char *end;

		if (sscanf(line, "%*u %*u %64s%n", name, &at) != 1 || !has_requests(name))
			continue;
		from = line + at;
		for (int i = 0; i < DISK_NUMBERS; i++, from = end)
			numbers[i] = strtoull(from, &end, 10);
		for (size_t i = 0; i < DISK_FIELDS; i++) {
			requests[i] += numbers[disk_fields[i].requests];
			sectors[i] += numbers[disk_fields[i].sectors];
		}
	}
	fclose(f);
	return put_disks(all, requests, sectors);
}

/* --- network -------------------------------------------------------------------------------- */

static const struct {
	const char *key, *counter;
	const struct tolerance *tolerance;
} tcp_fields[] = {
	{ "ActiveOpens", "kernel_tcp_active_opens_total", &namespaces },
	{ "PassiveOpens", "kernel_tcp_passive_opens_total", &namespaces },
	{ "RetransSegs", "kernel_tcp_retransmits_total", &segments },
	{ "OutRsts", "kernel_tcp_resets_sent_total", &namespaces },
};

static int put_tcp(struct references *all, const char *key, uint64_t nr)
{
	for (size_t i = 0; i < sizeof(tcp_fields) / sizeof(tcp_fields[0]); i++) {
		struct reference *one;

		if (strcmp(tcp_fields[i].key, key))
			continue;
		one = reference_put(all, tcp_fields[i].counter, tcp_fields[i].tolerance, nr);
		if (!one)
			return -ENOMEM;
		snprintf(one->source, sizeof(one->source), "/proc/net/snmp %s", key);
	}
	return 0;
}

/* A line of names, then one of numbers, both behind "Tcp:". */
static int tcp(struct references *all)
{
	FILE *f = fopen("/proc/net/snmp", "re");
	char names[LINE_MAX_BYTES], numbers[LINE_MAX_BYTES], *rest_names, *rest_numbers;
	const char *name, *number;
	bool is_found = false;
	int rc = 0;

	while (f && !is_found && fgets(names, sizeof(names), f))
		is_found = !strncmp(names, "Tcp:", 4) && fgets(numbers, sizeof(numbers), f);
	if (f)
		fclose(f);
	if (!is_found)
		return 0;
	name = strtok_r(names, " \n", &rest_names);
	number = strtok_r(numbers, " \n", &rest_numbers);
	while (name && number && !rc) {
		rc = put_tcp(all, name, strtoull(number, NULL, 10));
		name = strtok_r(NULL, " \n", &rest_names);
		number = strtok_r(NULL, " \n", &rest_numbers);
	}
	return rc;
}

static const struct {
	const char *number, *counter;
	unsigned int field; /* behind the colon, from 0 */
	uint32_t unit;
} interface_fields[] = {
	{ "received packets", "kernel_network_receive_packets_total", 1, 1 },
	{ "received bytes", "kernel_network_receive_bytes_total", 0, PACKET_BYTES },
	{ "sent packets", "kernel_network_transmit_packets_total", 9, 1 },
	{ "sent bytes", "kernel_network_transmit_bytes_total", 8, PACKET_BYTES },
};
#define INTERFACE_NUMBERS 10

static int put_interface(struct references *all, const char *device, const uint64_t *numbers,
			 bool is_same_network)
{
	const struct tolerance *tolerance = !is_same_network     ? &elsewhere :
					!strcmp(device, "lo") ? &exact :
								&drivers;

	for (size_t i = 0; i < sizeof(interface_fields) / sizeof(interface_fields[0]); i++) {
		struct reference *one = reference_put(all, interface_fields[i].counter, tolerance,
				       numbers[interface_fields[i].field]);

		if (!one)
			return -ENOMEM;
		reference_label(one, "device", device);
		one->unit = interface_fields[i].unit;
		snprintf(one->source, sizeof(one->source), "/proc/net/dev %.16s %s", device,
			 interface_fields[i].number);
	}
	return 0;
}

static int interfaces(struct references *all, bool is_same_network)
{
	FILE *f = fopen("/proc/net/dev", "re");
	char line[512], *name, *rest;
	int rc = 0;

	while (!rc && f && fgets(line, sizeof(line), f)) {
		uint64_t numbers[INTERFACE_NUMBERS];

		name = line_name(line, &rest);
		if (!name) /* the head */
			continue;
		for (int i = 0; i < INTERFACE_NUMBERS; i++)
			numbers[i] = strtoull(rest, &rest, 10);
		rc = put_interface(all, name, numbers, is_same_network);
	}
	if (f)
		fclose(f);
	return rc;
}

/* --- all ------------------------------------------------------------------------------------ */

int references_read(struct references *ret, bool is_same_network)
{
	int rc;

	*ret = (struct references){ 0 };
	rc = singles_of_file(ret, "/proc/stat");
	if (!rc)
		rc = rows_of_file(ret, "/proc/softirqs", "kernel_softirqs_total", "vector", false);
	if (!rc)
		rc = rows_of_file(ret, "/proc/interrupts", "kernel_interrupts_total", "irq", true);
	if (!rc)
		rc = disks(ret);
	if (!rc)
		rc = tcp(ret);
	if (!rc)
		rc = interfaces(ret, is_same_network);
	if (!rc)
		rc = singles_of_file(ret, "/proc/vmstat");
	if (rc)
		references_fini(ret);
	return rc;
}

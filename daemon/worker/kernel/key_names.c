/* See key_names.h. */
#define _GNU_SOURCE
#include "daemon/worker/kernel/key_names.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/link/link.h"
#include "shm/base/array.h"
#include "shm/base/clock.h"
#include "shm/names.h"

#define ASK_NS	      NS_PER_S
#define FORGET_NS     (60 * NS_PER_S)
#define VALUE_MAX     320u /* of one label's value; three of them, escaped, fit a name */
#define VALUE_KEPT    280u /* of one that is longer */

void key_names_init(struct key_names *n, int link_fd)
{
	*n = (struct key_names){ .link_fd = link_fd };
}

void key_names_fini(struct key_names *n)
{
	for (uint32_t i = 0; i < n->cgroups_nr; i++)
		free(n->cgroups[i].path);
	free(n->cgroups);
}

bool key_names_are_freed(const struct talea_counter_def *def)
{
	return counter_has_key(def, TALEA_KEY_PID) || counter_has_key(def, TALEA_KEY_TGID) ||
	       counter_has_key(def, TALEA_KEY_CGROUP);
}

/* --- cgroups ---------------------------------------------------------------------------------- */

static struct cgroup_name *cgroup_find(struct key_names *n, uint64_t id)
{
	for (uint32_t i = 0; i < n->cgroups_nr; i++)
		if (n->cgroups[i].id == id)
			return &n->cgroups[i];
	return NULL;
}

static void cgroups_forget(struct key_names *n, uint64_t now)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < n->cgroups_nr; i++) {
		if (now - n->cgroups[i].used_ns < FORGET_NS)
			n->cgroups[kept++] = n->cgroups[i];
		else
			free(n->cgroups[i].path);
	}
	n->cgroups_nr = kept;
}

static struct cgroup_name *cgroup_add(struct key_names *n, uint64_t id, uint64_t now)
{
	cgroups_forget(n, now);
	if (array_reserve(&n->cgroups, n->cgroups_nr + 1, &n->cgroups_max))
		return NULL;
	n->cgroups[n->cgroups_nr] = (struct cgroup_name){ .id = id };
	return &n->cgroups[n->cgroups_nr++];
}

void key_names_cgroup(struct key_names *n, uint64_t id, const char *path)
{
	struct cgroup_name *c = cgroup_find(n, id);

	if (c && !c->path)
		c->path = strdup(path);
}

/* The path; "": the cgroup is called by its id; NULL: the path is not known yet. */
static const char *cgroup_name_get(struct key_names *n, uint64_t id)
{
	uint64_t now = mono_ns();
	struct cgroup_name *c = cgroup_find(n, id);

	if (!c)
		c = cgroup_add(n, id, now);
	if (!c || n->link_fd < 0)
		return "";
	c->used_ns = now;
	if (c->path)
		return c->path;
	if (!c->asked_ns) {
		if (!link_send_plain(n->link_fd, LINK_CGROUP, 0, id))
			c->asked_ns = now;
		return NULL;
	}
	return now - c->asked_ns > ASK_NS ? "" : NULL;
}

/* --- values ----------------------------------------------------------------------------------- */

/*
 * A character that is invisible, or that changes how others are shown: control characters (also
 * those of two bytes, because a terminal takes U+009B for an escape), characters without width, and
 * those that change the direction.
 */
static bool is_unseen(const unsigned char *s, size_t nr)
{
	uint32_t c = nr == 2 ? (s[0] & 0x1fu) << 6 | (s[1] & 0x3f) :
		     nr == 3 ? (s[0] & 0xfu) << 12 | (s[1] & 0x3fu) << 6 | (s[2] & 0x3f) : s[0];

	return nr < 4 && (c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xad || c == 0x61c ||
			  (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
			  (c >= 0x2060 && c <= 0x206f) || c == 0xfeff);
}

/* Copies visible UTF-8 except backslashes, and escapes all other bytes: two texts never become the
 * same. */
static int text_value(const unsigned char *s, size_t len, char *buf, size_t size)
{
	size_t at = 0;

	for (size_t i = 0, nr; i < len && at + 5 <= size; i += nr) {
		nr = s[i] == '\\' ? 0 : name_utf8_sequence(s + i, len - i);
		if (nr && !is_unseen(s + i, nr)) {
			memcpy(buf + at, s + i, nr);
			at += nr;
			continue;
		}
		nr = 1;
		at += (size_t)snprintf(buf + at, size - at, "\\x%02x", s[i]);
	}
	buf[at] = '\0';
	return (int)at;
}

/* Zeroes at the end are padding. The value of a label is never empty. */
static int bytes_value(const unsigned char *s, size_t len, char *buf, size_t size)
{
	while (len && !s[len - 1])
		len--;
	return len ? text_value(s, len, buf, size) : snprintf(buf, size, "\\x00");
}

static int cgroup_value(struct key_names *n, uint64_t id, bool with_ids, char *buf, size_t size)
{
	const char *path = with_ids ? "" : cgroup_name_get(n, id);
	int len;

	if (!path)
		return -EAGAIN;
	if (!*path)
		return snprintf(buf, size, "id:%" PRIu64, id);
	len = text_value((const unsigned char *)path, strlen(path), buf, size);
	if ((size_t)len <= VALUE_MAX)
		return len;
	len = VALUE_KEPT;
	while ((buf[len] & 0xc0) == 0x80)
		len--;
	return len + snprintf(buf + len, size - (size_t)len, "~id:%" PRIu64, id);
}

static int errno_value(uint64_t v, char *buf, size_t size)
{
	const char *name = v && v < 4096 ? strerrorname_np((int)v) : NULL;

	if (!v)
		return snprintf(buf, size, "none");
	return name ? snprintf(buf, size, "%s", name) : snprintf(buf, size, "%" PRId64, (int64_t)v);
}

static int key_value(struct key_names *n, const struct talea_key_def *k, const unsigned char *at,
		     bool with_ids, char *buf, size_t size)
{
	uint64_t v;

	if (k->kind == TALEA_KEY_TEXT)
		return bytes_value(at, k->bytes, buf, size);
	memcpy(&v, at, sizeof(v));
	switch (k->kind) {
	case TALEA_KEY_S64:
		return snprintf(buf, size, "%" PRId64, (int64_t)v);
	case TALEA_KEY_CGROUP:
		return cgroup_value(n, v, with_ids, buf, size);
	case TALEA_KEY_ERRNO:
		return errno_value(v, buf, size);
	}
	return snprintf(buf, size, "%" PRIu64, v);
}

/* --- members ---------------------------------------------------------------------------------- */

static int label_order(const void *a, const void *b)
{
	return strncmp(*(const char *const *)a, *(const char *const *)b,
		       sizeof(((struct talea_key_def *)0)->label));
}

int key_names_label(const struct talea_counter_def *def, char *buf, size_t size)
{
	const char *labels[TALEA_KEYS_MAX];
	int len = 0;

	for (uint32_t i = 0; i < def->keys_nr; i++)
		labels[i] = def->keys[i].label;
	qsort(labels, def->keys_nr, sizeof(labels[0]), label_order);
	for (uint32_t i = 0; i < def->keys_nr; i++)
		len += snprintf(buf + len, size - (size_t)len, "%s%s", i ? "," : "", labels[i]);
	return len;
}

int key_names_member(struct key_names *n, const struct talea_counter_def *def,
		     const unsigned char *key, bool with_ids, char *buf, size_t size)
{
	char values[TALEA_KEYS_MAX][LINK_TEXT_MAX * 4];
	const char *labels[2 * TALEA_KEYS_MAX + 1];
	char name[4 + SHM_NAME_MAX];
	int len = 0;

	for (uint32_t i = 0; i < def->keys_nr; i++) {
		len = key_value(n, &def->keys[i], key, with_ids, values[i], sizeof(values[i]));
		if (len < 0)
			return len;
		labels[2 * i] = def->keys[i].label;
		labels[2 * i + 1] = values[i];
		key += def->keys[i].bytes;
	}
	if (def->keys_nr > 1) {
		labels[2 * def->keys_nr] = NULL;
		len = name_canonical("x", labels, name, sizeof(name)) - 3; /* x{ and } */
		if (len < 0)
			return -ENAMETOOLONG;
	}
	if ((size_t)len > size)
		return -ENAMETOOLONG;
	memcpy(buf, def->keys_nr > 1 ? name + 2 : values[0], (size_t)len);
	return len;
}

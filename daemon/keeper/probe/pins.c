/*
 * The bpffs below the state folder and what is pinned in it: one folder for each probe. It owns the
 * form of these folders; what a probe is, and whether a pinned one can be adopted, is adopt.c's.
 *
 * A folder is made under another name, `meta` last, and then renamed: one that has no meta or still
 * has that name was left by a talead that was killed, and goes at the next start. bpffs takes no
 * dots in names: they stand there as '=', which no probe's name has.
 */
#define _GNU_SOURCE
#include "daemon/keeper/probe/pins.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define FOLDER "bpf"
#define HALF_MADE '+' /* before the name */
#define PIN_PATH_MAX (NAME_MAX + 64) /* /proc/self/fd/N, a folder, what is in it */

/* --- the mount -------------------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3)))
static void nothing_pinned(struct pins *pins, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(pins->why, sizeof(pins->why), format, args);
	va_end(args);
	if (pins->fd >= 0)
		close(pins->fd);
	pins->fd = -1;
}

/* For pins->why, which is short: half a path would be wrong. */
static const char *path_to_type(const struct pins *pins)
{
	return strlen(pins->path) > 44 ? "STATE/" FOLDER : pins->path;
}

static bool is_bpffs(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && (unsigned long)fs.f_type == BPF_FS_MAGIC;
}

static int folder_open(const char *path)
{
	int fd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* What is in a folder that others may write may be somebody else's. */
static bool is_ours(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (st.st_uid == geteuid() || st.st_uid == 0) &&
	       !(st.st_mode & (S_IWGRP | S_IWOTH));
}

/* By a descriptor: the state folder may be the worker's user's, who could put a link there. */
static int mount_here(const char *path)
{
	char self[32];
	int fd, err = 0;

	if (mkdir(path, 0700) && errno != EEXIST)
		return -errno;
	fd = folder_open(path);
	if (fd < 0)
		return fd;
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	if (mount("bpf", self, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700"))
		err = -errno;
	close(fd);
	return err;
}

static void half_made_remove(const struct pins *pins);

/* Opens the folder if it is a bpffs, else -ENOENT or why it cannot be opened. */
static int folder_take(struct pins *pins, const char *state)
{
	*pins = (struct pins){ .fd = -1 };
	snprintf(pins->path, sizeof(pins->path), "%s/" FOLDER, state);
	pins->fd = folder_open(pins->path);
	if (pins->fd >= 0 && is_bpffs(pins->fd))
		return 0;
	pins_close(pins);
	return -ENOENT;
}

static void not_mounted(struct pins *pins, int err)
{
	if (err == -EPERM || err == -EACCES)
		nothing_pinned(pins, "may not mount. fix, as root: d=%.44s; mount -t bpf -o mode=700 "
				     "bpf $d && chown %u $d", path_to_type(pins), geteuid());
	else
		nothing_pinned(pins, "no bpffs at %.60s: %s", pins->path, strerror(-err));
}

/* A bpffs that is not ours to write is none. */
static void check_rights(struct pins *pins)
{
	if (!is_ours(pins->fd))
		nothing_pinned(pins, "others may write it. fix, as root: d=%.44s; chown %u $d; "
				     "chmod 700 $d", path_to_type(pins), geteuid());
	else if (faccessat(pins->fd, ".", W_OK | X_OK, AT_EACCESS))
		nothing_pinned(pins, "may not write it. fix, as root: chown %u %.60s", geteuid(),
			       pins->path);
}

void pins_open(struct pins *pins, const char *state)
{
	int err = folder_take(pins, state);

	if (err) {
		err = mount_here(pins->path);
		if (!err)
			err = folder_take(pins, state);
		if (err)
			return not_mounted(pins, err);
	}
	check_rights(pins);
	if (pins->fd >= 0)
		half_made_remove(pins);
}

void pins_look(struct pins *pins, const char *state, int mount_err)
{
	if (!folder_take(pins, state))
		check_rights(pins);
	else if (mount_err)
		not_mounted(pins, mount_err);
}

void pins_close(struct pins *pins)
{
	if (pins->fd >= 0)
		close(pins->fd);
	pins->fd = -1;
}

/* --- names ------------------------------------------------------------------------------------ */

struct pin_path {
	char text[PIN_PATH_MAX];
};

/*
 * What is in the bpffs is named by its descriptor: whoever owns a folder above it, as the worker's
 * user may the state folder, could put a link in the place of its path.
 */
static struct pin_path inside(const struct pins *pins, const char *folder)
{
	struct pin_path p;

	snprintf(p.text, sizeof(p.text), "/proc/self/fd/%d/%s", pins->fd, folder);
	return p;
}

/* The folder of a probe, and with `what` something in it; half made or not. */
static struct pin_path path_of(const struct pins *pins, bool is_half_made, const char *name,
			       const char *what)
{
	struct pin_path p = inside(pins, is_half_made ? "+" : "");
	size_t at = strlen(p.text);

	snprintf(p.text + at, sizeof(p.text) - at, "%s%s%s", name, *what ? "/" : "", what);
	for (size_t i = 0; name[i] && at + i < sizeof(p.text); i++)
		if (p.text[at + i] == '.')
			p.text[at + i] = '=';
	return p;
}

static void name_from(const char *folder, char *ret, size_t size)
{
	snprintf(ret, size, "%s", folder);
	for (; *ret; ret++)
		if (*ret == '=')
			*ret = '.';
}

/* --- meta ------------------------------------------------------------------------------------- */

static int meta_read(const char *path, struct pin_meta *ret)
{
	struct bpf_map_info info = { 0 };
	uint32_t bytes = sizeof(info), key = 0;
	int fd = bpf_obj_get(path), err = 0;

	if (fd < 0)
		return fd;
	if (bpf_obj_get_info_by_fd(fd, &info, &bytes) || info.type != BPF_MAP_TYPE_ARRAY ||
	    info.value_size != sizeof(*ret) || bpf_map_lookup_elem(fd, &key, ret) ||
	    ret->magic != PIN_MAGIC || ret->version != PIN_VERSION || ret->bytes != sizeof(*ret) ||
	    ret->progs_nr > PROBE_PROGRAMS_MAX || ret->links_nr > PROBE_PROGRAMS_MAX ||
	    ret->sources_nr > PROBE_SOURCES_MAX)
		err = -EPROTO;
	close(fd);
	return err;
}

static int meta_pin(const char *path, const struct pin_meta *m)
{
	int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "talea_meta", sizeof(uint32_t), sizeof(*m), 1,
				NULL);
	uint32_t key = 0;
	int err = fd < 0 ? fd : bpf_map_update_elem(fd, &key, m, BPF_ANY);

	if (!err)
		err = bpf_obj_pin(fd, path);
	if (fd >= 0)
		close(fd);
	return err;
}

int pin_find(const struct pins *pins, const char *name, struct pin_meta *ret)
{
	return pins->fd < 0 ? -ENOENT : meta_read(path_of(pins, false, name, "meta").text, ret);
}

int pin_update(const struct pins *pins, const char *name, const struct pin_meta *m)
{
	struct pin_path p = path_of(pins, false, name, "meta");
	uint32_t key = 0;
	int fd = bpf_obj_get(p.text), err;

	if (fd < 0)
		return fd;
	err = bpf_map_update_elem(fd, &key, m, BPF_ANY);
	close(fd);
	return err;
}

/* --- what lies beside it ---------------------------------------------------------------------- */

/* Each thing that a probe has pinned: its name, and its place in live. NULL behind the last. */
struct item {
	char name[24];
	int *fd;
};

static int *item_at(struct item *it, const char *what, uint32_t nr, int *fd)
{
	snprintf(it->name, sizeof(it->name), "%s%u", what, nr);
	return fd;
}

enum { ITEM_COUNTS, ITEM_KEYS, ITEM_LEDGER, SOURCE_ITEMS };

static struct item source_item(struct probe_live *live, uint32_t source, unsigned int what)
{
	static const char *const names[SOURCE_ITEMS] = { "counts", "keys", "ledger" };
	struct probe_source *s = &live->sources[source];
	struct item it;

	it.fd = item_at(&it, names[what], source,
			(int *[]){ &s->counts_fd, &s->keys_fd, &s->ledger_fd }[what]);
	return it;
}

enum { ITEM_LINK, ITEM_PROG, ITEM_SLOT, PROGRAM_ITEMS };

static struct item program_item(struct probe_live *live, uint32_t nr, unsigned int what)
{
	static const char *const names[PROGRAM_ITEMS] = { "link", "prog", "slot" };
	struct item it;

	it.fd = item_at(&it, names[what], nr,
			(int *[]){ live->link_fds, live->prog_fds, live->slot_fds }[what] + nr);
	return it;
}

/* Keys are read into room for TALEA_KEY_BYTES, whatever lies there. */
static int keys_check(int fd)
{
	struct bpf_map_info info = { 0 };
	uint32_t bytes = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &bytes))
		return -errno;
	return info.type == BPF_MAP_TYPE_PERCPU_HASH && info.key_size <= TALEA_KEY_BYTES &&
	       info.value_size == sizeof(uint64_t) ? 0 : -EPROTO;
}

static int pin_item_open(const struct pins *pins, const char *name, const struct item *it)
{
	struct pin_path p = path_of(pins, false, name, it->name);

	*it->fd = bpf_obj_get(p.text);
	return *it->fd < 0 ? *it->fd : 0;
}

static int item_pin(const struct pins *pins, bool is_half_made, const char *name,
		    const struct item *it)
{
	struct pin_path p = path_of(pins, is_half_made, name, it->name);

	return *it->fd < 0 ? 0 : bpf_obj_pin(*it->fd, p.text);
}

static int source_open_maps(const struct pins *pins, const char *name, bool has_keys,
			    struct probe_live *live, uint32_t source)
{
	struct item it = source_item(live, source, ITEM_COUNTS);
	int err = pin_item_open(pins, name, &it);

	if (err || !has_keys)
		return err;
	it = source_item(live, source, ITEM_KEYS);
	err = pin_item_open(pins, name, &it);
	if (!err)
		err = keys_check(*it.fd);
	if (err)
		return err;
	it = source_item(live, source, ITEM_LEDGER);
	err = pin_item_open(pins, name, &it);
	return err == -ENOENT ? 0 : err; /* keys that are frozen have no ledger */
}

int pin_open_maps(const struct pins *pins, const char *name, const struct pin_meta *m,
		  struct probe_live *live)
{
	int err = 0;

	live->sources_nr = m->sources_nr;
	for (uint32_t i = 0; !err && i < m->sources_nr; i++)
		err = source_open_maps(pins, name, m->sources[i].keys_nr, live, i);
	return err;
}

int pin_open_programs(const struct pins *pins, const char *name, const struct pin_meta *m,
		      struct probe_live *live)
{
	int err = 0;

	for (unsigned int what = 0; what < PROGRAM_ITEMS; what++)
		for (uint32_t i = 0; !err && i < (what == ITEM_LINK ? m->links_nr : m->progs_nr); i++) {
			struct item it = program_item(live, i, what);

			err = pin_item_open(pins, name, &it);
			if (err == -ENOENT && what == ITEM_SLOT) /* not every program has one */
				err = 0;
		}
	live->progs_nr = m->progs_nr;
	live->links_nr = m->links_nr;
	return err;
}

/* Programs first: a link that is pinned has its program beside it. */
static int programs_pin(const struct pins *pins, bool is_half_made, const char *name,
			struct probe_live *live)
{
	static const unsigned int order[] = { ITEM_PROG, ITEM_SLOT, ITEM_LINK };
	int err = 0;

	for (unsigned int n = 0; n < PROGRAM_ITEMS; n++) {
		uint32_t nr = order[n] == ITEM_LINK ? live->links_nr : live->progs_nr;

		for (uint32_t i = 0; !err && i < nr; i++) {
			struct item it = program_item(live, i, order[n]);

			err = item_pin(pins, is_half_made, name, &it);
		}
	}
	return err;
}

int pin_store_programs(const struct pins *pins, const char *name, const struct probe_live *live)
{
	return programs_pin(pins, false, name, (struct probe_live *)live);
}

int pin_open_readers(const struct pins *pins, const char *name, struct probe_live *live)
{
	LIBBPF_OPTS(bpf_obj_get_opts, opts, .file_flags = BPF_F_RDONLY);

	for (uint32_t i = 0; i < live->sources_nr; i++) {
		struct probe_source *s = &live->sources[i];
		int *fds[] = { &s->keys_ro_fd, &s->ledger_ro_fd };

		for (unsigned int n = 0; s->ledger_fd >= 0 && n < 2; n++) {
			struct item it = source_item(live, i, n ? ITEM_LEDGER : ITEM_KEYS);
			struct pin_path p = path_of(pins, false, name, it.name);

			*fds[n] = bpf_obj_get_opts(p.text, &opts);
			if (*fds[n] < 0)
				return *fds[n];
		}
	}
	return 0;
}

/* --- taking away ------------------------------------------------------------------------------ */

/*
 * meta goes first: a folder that loses a race against SIGKILL is half made. bpffs has links too:
 * one that stands for a folder is not followed.
 */
static int folder_remove(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *folder = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	if (folder)
		unlinkat(fd, "meta", 0);
	else if (fd >= 0)
		close(fd);
	while (folder && (entry = readdir(folder)))
		if (entry->d_name[0] != '.')
			unlinkat(fd, entry->d_name, 0);
	if (folder)
		closedir(folder);
	return rmdir(path) ? -errno : 0;
}

int pin_drop_programs(const struct pins *pins, const char *name)
{
	static struct probe_live none; /* for the names alone */

	for (unsigned int n = 0; n < PROGRAM_ITEMS * PROBE_PROGRAMS_MAX; n++) {
		struct item it = program_item(&none, n % PROBE_PROGRAMS_MAX, n / PROBE_PROGRAMS_MAX);
		struct pin_path p = path_of(pins, false, name, it.name);

		if (unlink(p.text) && errno != ENOENT)
			return -errno;
	}
	return 0;
}

int pins_remove(const struct pins *pins, const char *name)
{
	return pins->fd < 0 ? -ENOENT : folder_remove(path_of(pins, false, name, "").text);
}

static bool is_half_made(const struct pins *pins, const char *folder)
{
	return folder[0] == HALF_MADE || access(path_of(pins, false, folder, "meta").text, F_OK);
}

/* Calls visit with the name of each folder, which it may remove. What has a dot is the kernel's. */
static int folders_each(const struct pins *pins, void (*visit)(const struct pins *pins,
							       const char *folder, void *arg),
			void *arg)
{
	struct dirent **list;
	int nr = scandir(inside(pins, "").text, &list, NULL, alphasort);

	if (nr < 0)
		return -errno;
	for (int i = 0; i < nr; i++) {
		if (!strchr(list[i]->d_name, '.'))
			visit(pins, list[i]->d_name, arg);
		free(list[i]);
	}
	free(list);
	return 0;
}

static void remove_if_half_made(const struct pins *pins, const char *folder, void *arg)
{
	(void)arg;
	if (is_half_made(pins, folder))
		folder_remove(inside(pins, folder).text);
}

static void half_made_remove(const struct pins *pins)
{
	folders_each(pins, remove_if_half_made, NULL);
}

static void remove_and_count(const struct pins *pins, const char *folder, void *arg)
{
	bool is_whole = !is_half_made(pins, folder);

	if (!folder_remove(inside(pins, folder).text))
		*(int *)arg += is_whole;
}

int pins_remove_all(const char *state)
{
	struct pins pins = { .fd = -1 };
	int nr = 0, err = 0;

	snprintf(pins.path, sizeof(pins.path), "%s/" FOLDER, state);
	pins.fd = folder_open(pins.path);
	if (pins.fd == -ENOENT || (pins.fd >= 0 && !is_bpffs(pins.fd)))
		goto out;
	if (pins.fd < 0)
		return pins.fd;
	err = folders_each(&pins, remove_and_count, &nr);
	pins_close(&pins);
	/* What somebody else mounted for us stays, empty. */
	if (!err && !umount2(pins.path, UMOUNT_NOFOLLOW))
		rmdir(pins.path);
out:
	if (pins.fd >= 0)
		close(pins.fd);
	return err ? err : nr;
}

/* --- storing ---------------------------------------------------------------------------------- */

/* Of a probe that replaces another there is always one that is whole; the other is half made. */
static int folder_put(const char *made, const char *whole)
{
	if (!renameat2(AT_FDCWD, made, AT_FDCWD, whole, RENAME_EXCHANGE)) {
		folder_remove(made);
		return 0;
	}
	/* EINVAL: before Linux 5.16 the two are not exchanged at once. */
	if (errno != ENOENT && errno != EINVAL)
		return -errno;
	folder_remove(whole);
	return rename(made, whole) ? -errno : 0;
}

int pin_store(const struct pins *pins, const char *name, const struct pin_meta *m,
	      const struct probe_live *live)
{
	struct probe_live *l = (struct probe_live *)live;
	struct pin_path made, whole;
	int err;

	if (pins->fd < 0)
		return -ENOTSUP;
	made = path_of(pins, true, name, "");
	whole = path_of(pins, false, name, "");
	folder_remove(made.text);
	if (mkdir(made.text, 0700))
		return -errno;
	err = programs_pin(pins, true, name, l);
	for (unsigned int n = 0; !err && n < SOURCE_ITEMS * l->sources_nr; n++) {
		struct item it = source_item(l, n / SOURCE_ITEMS, n % SOURCE_ITEMS);

		err = item_pin(pins, true, name, &it);
	}
	if (!err)
		err = meta_pin(path_of(pins, true, name, "meta").text, m);
	if (!err)
		err = folder_put(made.text, whole.text);
	if (err)
		folder_remove(made.text);
	return err;
}

/* --- all of them ------------------------------------------------------------------------------ */

struct each {
	void (*visit)(const struct pinned_probe *p, void *arg);
	void *arg;
};

static void visit_one(const struct pins *pins, const char *folder, void *arg)
{
	static struct pin_meta m;
	const struct each *e = arg;
	char name[256];
	int err;

	if (is_half_made(pins, folder))
		return;
	name_from(folder, name, sizeof(name));
	err = pin_find(pins, name, &m);
	if (!err)
		e->visit(&(struct pinned_probe){ .name = name, .origin = m.origin, .spec = &m.spec,
						 .since_real_ns = m.since_real_ns }, e->arg);
	else if (err == -EPROTO)
		e->visit(&(struct pinned_probe){ .name = name }, e->arg);
}

void pins_each(const struct pins *pins, void (*visit)(const struct pinned_probe *p, void *arg),
	       void *arg)
{
	struct each e = { visit, arg };

	if (pins->fd >= 0)
		folders_each(pins, visit_one, &e);
}

/* See config_value.h. */
#define _GNU_SOURCE
#include "daemon/config/config_value.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/base/clock.h"
#include "shm/base/near.h"
#include "shm/base/text.h"

#define NOBODY 65534u

/* --- numbers --------------------------------------------------------------------------------- */

static int parse_count(const struct config_key *key, void *section, const char *text,
		       struct why *why)
{
	uint64_t v;

	(void)why;
	if (text_digits(&text, &v) || *text || v < key->min || v > key->max)
		return -EINVAL;
	*config_u32(key, section) = (uint32_t)v;
	return 0;
}

static void show_count(const struct config_key *key, const void *section, char *buf, size_t size)
{
	snprintf(buf, size, "%u", *config_u32(key, section));
}

/* For a key whose 0 means "not set". */
static void show_count_set(const struct config_key *key, const void *section, char *buf,
			   size_t size)
{
	buf[0] = '\0';
	if (*config_u32(key, section))
		show_count(key, section, buf, size);
}

static int parse_ns(const char *text, uint64_t *ret_ns, struct why *why)
{
	int err = text_duration(text, ret_ns);

	if (err == -ENODATA)
		why_set(why, err, "a time needs its unit (ns, us, ms, s, m, h, d)");
	return err;
}

static void show_ns(uint64_t ns, char *buf, size_t size)
{
	struct text t;

	text_init(&t, buf, size);
	text_put_duration(&t, ns);
}

static int parse_time(const struct config_key *key, void *section, const char *text,
		      struct why *why)
{
	uint64_t v;

	if (parse_ns(text, &v, why) || v < key->min || v > key->max)
		return -EINVAL;
	*config_u64(key, section) = v;
	return 0;
}

static void show_time(const struct config_key *key, const void *section, char *buf, size_t size)
{
	show_ns(*config_u64(key, section), buf, size);
}

static int parse_ttl(const struct config_key *key, void *section, const char *text, struct why *why)
{
	uint64_t v = 0;

	if (strcmp(text, "0") && parse_ns(text, &v, why))
		return -EINVAL;
	if (v % NS_PER_S || v / NS_PER_S > key->max)
		return -EINVAL;
	*config_u64(key, section) = v / NS_PER_S;
	return 0;
}

static void show_ttl(const struct config_key *key, const void *section, char *buf, size_t size)
{
	uint64_t v = *config_u64(key, section);

	snprintf(buf, size, "%s", v ? "" : "0");
	if (v && v != CONFIG_TTL_UNSET)
		show_ns(v * NS_PER_S, buf, size);
}

/* One of the key's words: the value is the word's place. A place may be "": not set. */
static int parse_choice(const struct config_key *key, void *section, const char *text,
			struct why *why)
{
	(void)why;
	for (uint32_t i = 0; *text && key->words[i]; i++)
		if (!strcmp(text, key->words[i])) {
			*config_u32(key, section) = i;
			return 0;
		}
	return -EINVAL;
}

static void show_choice(const struct config_key *key, const void *section, char *buf, size_t size)
{
	snprintf(buf, size, "%s", key->words[*config_u32(key, section)]);
}

/* Percent with at most one decimal, kept in permille. */
static int parse_percent(const struct config_key *key, void *section, const char *text,
			 struct why *why)
{
	uint64_t v;

	(void)why;
	if (text_digits(&text, &v) || v > key->max)
		return -EINVAL;
	v *= 10;
	if (text[0] == '.' && text[1] >= '0' && text[1] <= '9') {
		v += (uint64_t)(text[1] - '0');
		text += 2;
	}
	if (strcmp(text, "%") || v < key->min || v > key->max)
		return -EINVAL;
	*config_u32(key, section) = (uint32_t)v;
	return 0;
}

static void show_percent(const struct config_key *key, const void *section, char *buf, size_t size)
{
	uint32_t v = *config_u32(key, section);

	if (v % 10)
		snprintf(buf, size, "%u.%u%%", v / 10, v % 10);
	else
		snprintf(buf, size, "%u%%", v / 10);
}

/* --- paths ----------------------------------------------------------------------------------- */

static int parse_path(const struct config_key *key, void *section, const char *text,
		      struct why *why)
{
	if (text[0] != '/')
		return -EINVAL;
	if (strlen(text) >= key->max) {
		return why_set(why, -EINVAL, "the path has %zu bytes, at most %llu fit",
			 strlen(text), (unsigned long long)key->max - 1);
	}
	memcpy(config_field(key, section), text, strlen(text) + 1);
	return 0;
}

static void show_text(const struct config_key *key, const void *section, char *buf, size_t size)
{
	snprintf(buf, size, "%s", (const char *)config_field(key, section));
}

/* A path below an environment variable; "" when that is not set or the path does not fit. */
static void path_from(char *ret, size_t size, const char *base, const char *tail)
{
	ret[0] = '\0';
	if (base && base[0] == '/' && strlen(base) + strlen(tail) < size)
		strcpy(stpcpy(ret, base), tail);
}

void config_default_paths(struct config *c)
{
	const char *state = getenv("XDG_STATE_HOME");

	if (geteuid() == 0) {
		strcpy(c->socket, "/run/talea/sock");
		strcpy(c->state, "/var/lib/talea");
		return;
	}
	path_from(c->socket, sizeof(c->socket), getenv("XDG_RUNTIME_DIR"), "/talea/sock");
	if (state && state[0] == '/')
		path_from(c->state, sizeof(c->state), state, "/talea");
	else
		path_from(c->state, sizeof(c->state), getenv("HOME"), "/.local/state/talea");
}

/* --- users and groups ------------------------------------------------------------------------ */

/* As chown(1): a word that is no user's name is a number. */
static int find_user(const char *word, uid_t *ret_uid, gid_t *ret_gid)
{
	const struct passwd *pw = getpwnam(word);
	uint64_t v;

	if (!pw) {
		if (text_digits(&word, &v) || *word || v >= UINT32_MAX)
			return -ENOENT;
		*ret_uid = *ret_gid = (uint32_t)v;
		pw = getpwuid((uid_t)v);
	}
	if (pw) {
		*ret_uid = pw->pw_uid;
		*ret_gid = pw->pw_gid;
	}
	return 0;
}

static int find_group(const char *word, gid_t *ret)
{
	const struct group *gr = getgrnam(word);
	uint64_t v;

	if (gr) {
		*ret = gr->gr_gid;
		return 0;
	}
	if (text_digits(&word, &v) || *word || v >= UINT32_MAX)
		return -ENOENT;
	*ret = (gid_t)v;
	return 0;
}

static int parse_user(const struct config_key *key, void *section, const char *text,
		      struct why *why)
{
	struct config *c = section;
	uid_t uid;
	gid_t gid;

	(void)key;
	if (find_user(text, &uid, &gid)) {
		return why_set(why, -EINVAL, "there is no user %s", text);
	}
	if (geteuid() != 0 && uid != geteuid()) {
		return why_set(why, -EINVAL, "only root can run the worker as another user than "
					     "itself (uid %u)", geteuid());
	}
	c->user = uid;
	c->group = gid;
	return 0;
}

static void show_uid(uid_t uid, char *buf, size_t size)
{
	const struct passwd *pw = getpwuid(uid);

	if (pw)
		snprintf(buf, size, "%s", pw->pw_name);
	else
		snprintf(buf, size, "%u", uid);
}

static void show_user(const struct config_key *key, const void *section, char *buf, size_t size)
{
	(void)key;
	show_uid(((const struct config *)section)->user, buf, size);
}

void config_default_user(struct config *c)
{
	const struct passwd *pw;

	c->user = geteuid();
	c->group = getegid();
	if (c->user != 0)
		return;
	pw = getpwnam("talea");
	c->user = pw ? pw->pw_uid : NOBODY;
	c->group = pw ? pw->pw_gid : NOBODY;
}

/* The fields that a list of users or groups sets. */
struct id_list {
	uint32_t *nr, *ids;
	bool is_groups;
};

static struct id_list id_list(const struct config_key *key, const void *section)
{
	struct config_namespace *ns = (struct config_namespace *)section;
	struct config *c = (struct config *)section;

	if (key->section == CONFIG_DAEMON)
		return (struct id_list){ &c->admins_nr, c->admins, false };
	switch (key->offset) {
	case offsetof(struct config_namespace, users):
		return (struct id_list){ &ns->users_nr, ns->users, false };
	case offsetof(struct config_namespace, groups):
		return (struct id_list){ &ns->groups_nr, ns->groups, true };
	case offsetof(struct config_namespace, read_users):
		return (struct id_list){ &ns->read_users_nr, ns->read_users, false };
	default:
		return (struct id_list){ &ns->read_groups_nr, ns->read_groups, true };
	}
}

static int parse_ids(const struct config_key *key, void *section, const char *text, struct why *why)
{
	struct id_list list = id_list(key, section);
	uint32_t ids[CONFIG_IDS_MAX], nr = 0;
	char words[CONFIG_VALUE_MAX], *rest, *word;

	if (strlen(text) >= sizeof(words))
		return -EINVAL;
	strcpy(words, text);
	for (word = strtok_r(words, CONFIG_WORD_BREAK, &rest); word;
	     word = strtok_r(NULL, CONFIG_WORD_BREAK, &rest)) {
		gid_t primary;

		if (nr == CONFIG_IDS_MAX) {
			return why_set(why, -EINVAL, "more than %u %s", CONFIG_IDS_MAX,
				 list.is_groups ? "groups" : "users: give them a group");
		}
		if (list.is_groups ? find_group(word, &ids[nr])
				   : find_user(word, &ids[nr], &primary)) {
			return why_set(why, -EINVAL, "there is no %s %.64s",
				 list.is_groups ? "group" : "user", word);
		}
		nr++;
	}
	memcpy(list.ids, ids, nr * sizeof(ids[0]));
	*list.nr = nr;
	if (key->section == CONFIG_NAMESPACE &&
	    key->offset == offsetof(struct config_namespace, users))
		((struct config_namespace *)section)->users_set = 1;
	return 0;
}

static void show_ids(const struct config_key *key, const void *section, char *buf, size_t size)
{
	struct id_list list = id_list(key, section);
	size_t used = 0;

	buf[0] = '\0';
	for (uint32_t i = 0; i < *list.nr && used < size; i++) {
		const struct group *gr = list.is_groups ? getgrgid(list.ids[i]) : NULL;
		char word[256];

		if (gr)
			snprintf(word, sizeof(word), "%s", gr->gr_name);
		else if (list.is_groups)
			snprintf(word, sizeof(word), "%u", list.ids[i]);
		else
			show_uid(list.ids[i], word, sizeof(word));
		used += (size_t)snprintf(buf + used, size - used, "%s%s", i ? ", " : "", word);
	}
}

/* --- the table ------------------------------------------------------------------------------- */

#define D(field) CONFIG_DAEMON, .offset = offsetof(struct config, field)
#define N(field) CONFIG_NAMESPACE, .offset = offsetof(struct config_namespace, field)
#define P(field) CONFIG_PROBE, .offset = offsetof(struct probe_spec, field)
#define R(field) CONFIG_COUNTER, .offset = offsetof(struct config_rule, field)
#define COUNTERS_LIMIT (SHM_SLOTS_MAX - 64)

static const char *const bpf_words[] = { "off", "auto", NULL };
static const char *const pin_words[] = { "no", "auto", NULL };
static const char *const hot_words[] = { [SHM_HOT_AUTO] = "auto", [SHM_HOT_YES] = "yes",
					 [SHM_HOT_NO] = "no", [SHM_HOT_UNSET] = "", NULL };

const struct config_key config_keys[CONFIG_SECTIONS_NR][CONFIG_KEYS_MAX] = {
	[CONFIG_DAEMON] = {
		{ D(socket), .name = "socket", .max = CONFIG_SOCKET_MAX,
		  .expects = "an absolute path", .parse = parse_path, .show = show_text },
		{ D(state), .name = "state", .max = CONFIG_PATH_MAX,
		  .expects = "an absolute path", .parse = parse_path, .show = show_text },
		{ D(user), .name = "user", .expects = "the name or number of a user",
		  .parse = parse_user, .show = show_user },
		{ D(admins), .name = "admins", .expects = "names or numbers of users",
		  .parse = parse_ids, .show = show_ids },
		{ D(fold_ns), .name = "fold", .min = 1000000, .max = 10000000000,
		  .expects = "a time from 1ms to 10s, such as 10ms",
		  .parse = parse_time, .show = show_time },
		{ D(fold_cpu_permille), .name = "fold-cpu", .min = 1, .max = 1000,
		  .expects = "a share of one core from 0.1% to 100%, such as 5%",
		  .parse = parse_percent, .show = show_percent },
		{ D(bpf_auto), .name = "bpf", .expects = "auto or off", .words = bpf_words,
		  .parse = parse_choice, .show = show_choice },
		{ D(probes), .name = "probes",
		  .expects = "default, none, or a list of probes, such as default, syscalls, block_*",
		  .parse = config_parse_probes, .show = config_show_probes },
		{ D(pin_auto), .name = "pin", .expects = "auto or no", .words = pin_words,
		  .parse = parse_choice, .show = show_choice },
		{ .name = NULL },
	},
	[CONFIG_NAMESPACE] = {
		{ N(users), .name = "users", .expects = "names or numbers of users",
		  .parse = parse_ids, .show = show_ids },
		{ N(groups), .name = "groups", .expects = "names or numbers of groups",
		  .parse = parse_ids, .show = show_ids },
		{ N(read_users), .name = "read-users", .expects = "names or numbers of users",
		  .parse = parse_ids, .show = show_ids },
		{ N(read_groups), .name = "read-groups", .expects = "names or numbers of groups",
		  .parse = parse_ids, .show = show_ids },
		{ N(counters_max), .name = "counters-max", .min = 1, .max = COUNTERS_LIMIT,
		  .expects = "a number from 1 to 16777152",
		  .parse = parse_count, .show = show_count },
		{ N(counters_max_per_uid), .name = "counters-max-per-uid", .min = 1,
		  .max = COUNTERS_LIMIT, .expects = "a number from 1 to 16777152",
		  .parse = parse_count, .show = show_count },
		{ N(rows_max), .name = "rows-max", .max = SHM_ROWS_MAX,
		  .expects = "a number from 0 to 131584",
		  .parse = parse_count, .show = show_count },
		{ .name = NULL },
	},
	[CONFIG_COUNTER] = {
		{ R(hot), .name = "hot", .expects = "auto, yes or no", .words = hot_words,
		  .parse = parse_choice, .show = show_choice },
		{ R(labels_max), .name = "labels-max", .min = 1, .max = COUNTERS_LIMIT,
		  .expects = "a number from 1 to 16777152",
		  .parse = parse_count, .show = show_count_set },
		{ R(ttl_s), .name = "ttl", .max = 10ull * 365 * 86400,
		  .expects = "whole seconds up to ten years, such as 30s, 10m or 7d, or 0 for never",
		  .parse = parse_ttl, .show = show_ttl },
		{ .name = NULL },
	},
	[CONFIG_PROBE] = {
		{ P(text), .name = "attach",
		  .expects = "an event and how it is counted, such as raw_tp:sched_switch by comm",
		  .parse = config_parse_attach, .show = config_show_attach },
		{ P(file), .name = "object", .max = sizeof(((struct probe_spec *)NULL)->file),
		  .expects = "an absolute path to a BPF object",
		  .parse = config_parse_object, .show = config_show_object },
		{ P(counter), .name = "counter", .expects = "a counter's name, such as execs_total",
		  .parse = config_parse_counter, .show = show_text },
		{ P(help), .name = "help", .expects = "what it counts, in one line",
		  .parse = config_parse_help, .show = show_text },
		{ P(keys_max), .name = "keys-max", .min = 1, .max = SPEC_KEYS_MAX_MAX,
		  .expects = "a number from 1 to 1048576",
		  .parse = parse_count, .show = show_count_set },
		{ .name = NULL },
	},
};
_Static_assert(SHM_SLOTS_MAX - 64 == 16777152 && SHM_ROWS_MAX == 131584 &&
	       SPEC_KEYS_MAX_MAX == 1048576, "as the table says");

/* --- what was meant -------------------------------------------------------------------------- */

const char *config_did_you_mean(const char *word, const char *const *names, char *buf, size_t size)
{
	const char *near = near_word(word, names);

	buf[0] = '\0';
	if (near)
		snprintf(buf, size, " (did you mean %s?)", near);
	return buf;
}

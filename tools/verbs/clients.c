/*
 * The verb `clients`: the programs that are attached to the namespace, as the worker knows them. Owns
 * nothing; called from the table of verbs.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/base/array.h"
#include "shm/base/text.h"
#include "tools/cli.h"
#include "tools/expo/json.h"
#include "tools/show/show.h"

struct clients {
	struct wire_client *list;
	size_t nr, max;
};

static int clients_order(const void *a, const void *b)
{
	uint64_t x = ((const struct wire_client *)a)->id, y = ((const struct wire_client *)b)->id;

	return x < y ? -1 : x > y;
}

/* Two pages overlap when a client left between them. */
static void clients_sort(struct clients *clients)
{
	size_t nr = 0;

	qsort(clients->list, clients->nr, sizeof(*clients->list), clients_order);
	for (size_t i = 0; i < clients->nr; i++)
		if (!nr || clients->list[nr - 1].id != clients->list[i].id)
			clients->list[nr++] = clients->list[i];
	clients->nr = nr;
}

static int clients_read(const struct cli *c, struct clients *ret)
{
	const struct wire_answer *answer;
	uint64_t from = 0;
	int rc;

	do {
		rc = session_ask(c, WIRE_CLIENTS, NULL, from, &answer);
		if (rc != CLI_OK)
			return rc;
		if (array_reserve(&ret->list, ret->nr + answer->nr, &ret->max))
			return session_failed(c, -ENOMEM);
		for (uint32_t i = 0; i < answer->nr; i++) {
			const struct wire_client *one =
				(const struct wire_client *)(const void *)answer->records + i;

			/* Leaves out the two connections of this command. */
			if (one->pid != (uint32_t)getpid())
				ret->list[ret->nr++] = *one;
		}
		from += answer->nr;
	} while (answer->nr == WIRE_CLIENTS_MAX);
	clients_sort(ret);
	return CLI_OK;
}

/* The name that the program gave, else the kernel's name of the process that has this pid now. */
static const char *app_of(const struct wire_client *client, char *buf, size_t size)
{
	char path[32];
	FILE *f;

	if (client->app[0])
		return client->app;
	snprintf(path, sizeof(path), "/proc/%u/comm", client->pid);
	f = fopen(path, "re");
	buf[0] = '\0';
	if (f && fgets(buf, (int)size, f))
		buf[strcspn(buf, "\n")] = '\0';
	if (f)
		fclose(f);
	return buf;
}

static int clients_json(const struct cli *c, const struct clients *clients)
{
	json_t *doc = json_document(c->session.st.namespace_name), *list = json_array();
	char user[SHOW_TEXT], app[64];

	for (size_t i = 0; i < clients->nr; i++) {
		const struct wire_client *one = &clients->list[i];

		json_array_append_new(
			list, json_pack("{s:I, s:i, s:I, s:o, s:s, s:o, s:o, s:I}", "id",
					(json_int_t)one->id, "pid", (int)one->pid, "uid",
					(json_int_t)one->uid, "user",
					json_text(show_user(user, one->uid)), "access",
					one->access & WIRE_WRITE ? "write" : "read", "app",
					json_text(app_of(one, app, sizeof(app))), "since",
					json_time(one->since_real_ns), "names_asked_for",
					(json_int_t)one->registered_nr));
	}
	json_object_set_new(doc, "clients", list);
	return cli_json(doc);
}

static void clients_print(const struct clients *clients)
{
	char user[SHOW_TEXT], since[SHOW_TEXT], names[SHOW_TEXT], utc[TEXT_UTC_BYTES], app[64];
	int left = show.columns - 62;

	if (show.is_tty)
		show_head("%7s  %-12s  %-6s  %9s  %-19s  %s", "PID", "USER", "ACCESS", "NAMES",
			  "SINCE", "PROGRAM");
	for (size_t i = 0; i < clients->nr; i++) {
		const struct wire_client *one = &clients->list[i];
		const char *access = one->access & WIRE_WRITE ? "write" : "read";
		const char *name = app_of(one, app, sizeof(app));

		show_user(user, one->uid);
		if (!show.is_tty) {
			printf("%u %s %s %" PRIu64 " %s ", one->pid, user, access, one->registered_nr,
			       text_utc(utc, one->since_real_ns));
			show_text(stdout, *name ? name : "-");
			putchar('\n');
			continue;
		}
		printf("%7u  ", one->pid);
		show_padded(stdout, user, 12);
		printf("  %-6s  %9s  %-19s  ", access, show_exact(names, (int64_t)one->registered_nr),
		       show_time(since, one->since_real_ns));
		show_padded(stdout, name, left < 8 ? 8 : left < show_width(name) ? left :
							   show_width(name));
		putchar('\n');
	}
}

int verb_clients(struct cli *c)
{
	struct clients clients = { 0 };
	int rc = clients_read(c, &clients);

	if (rc == CLI_OK && c->json)
		rc = clients_json(c, &clients);
	else if (rc == CLI_OK)
		clients_print(&clients);
	if (rc == CLI_OK && !clients.nr && !c->json && show.is_tty)
		fprintf(stderr, "no program is attached but this command\n");
	free(clients.list);
	return rc;
}

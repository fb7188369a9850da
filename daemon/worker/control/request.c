/* See request.h. */
#include "daemon/worker/control/request.h"

#include <stdlib.h>

#include "daemon/link/log.h"
#include "daemon/worker/control/control.h"

/* --- of clients ------------------------------------------------------------------------------- */

static void client_request_free(struct client_request *r)
{
	free(r->message);
	free(r->reply);
	free(r);
}

struct client_request *client_request_get(struct client_requests *all)
{
	struct client_request *r = all->free;

	if (r) {
		all->free = r->next_free;
		return r;
	}
	if (all->nr == CLIENT_REQUESTS_MAX)
		return NULL;
	r = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	r->message = malloc(WIRE_MAX);
	r->reply = malloc(WIRE_MAX);
	if (!r->message || !r->reply) {
		client_request_free(r);
		return NULL;
	}
	all->nr++;
	return r;
}

void client_request_put(struct client_requests *all, struct client_request *r)
{
	r->next_free = all->free;
	all->free = r;
}

bool client_request_is_free(const struct client_requests *all)
{
	return all->free || all->nr < CLIENT_REQUESTS_MAX;
}

void client_requests_fini(struct client_requests *all)
{
	while (all->free)
		client_request_free(client_request_get(all));
}

/* --- of the keeper ---------------------------------------------------------------------------- */

void keeper_request_free(struct keeper_request *r)
{
	free(r->live);
	free(r->text);
	free(r);
}

void keeper_request_ask(struct control *c, const struct keeper_request *what)
{
	struct keeper_request *r = malloc(sizeof(*r));

	if (!r) {
		log_line("no memory: a message of the keeper has no effect");
		free(what->live);
		free(what->text);
		return;
	}
	*r = *what;
	fold_ask(c->fold, &r->request);
}

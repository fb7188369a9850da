/*
 * The verb `export`: all totals of one epoch for other programs. Owns the choice of the format; the
 * writers are expo/. Called from the table of verbs.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/base/why.h"
#include "tools/cli.h"
#include "tools/expo/expo.h"
#include "tools/select.h"

static const char *export_format(const struct cli *c)
{
	return c->format ? c->format : c->json ? "ndjson" : "openmetrics";
}

static int export_openmetrics(const struct cli *c, const struct picks *picks)
{
	const struct selection selection = select_of(c);
	struct metrics metrics;
	struct why why;
	int err = metrics_take(&selection, c->session.t, &c->session.st, c->session.ask, &metrics,
			       &why);
	int rc = CLI_OK;

	if (err) {
		rc = cli_fail(c, session_exit(err), "%s", why.reason);
	} else if (expo_openmetrics(stdout, picks, &metrics)) {
		rc = session_failed(c, -ENOMEM);
	}
	metrics_fini(&metrics);
	return rc;
}

int verb_export_begin(struct cli *c)
{
	const char *format = export_format(c);

	if (strcmp(format, "openmetrics") && strcmp(format, "csv") && strcmp(format, "ndjson"))
		return cli_fail(c, CLI_USAGE,
				"no format %s; there are openmetrics, csv and ndjson", format);
	if (c->json && strcmp(format, "ndjson"))
		return cli_fail(c, CLI_USAGE, "--json is --format ndjson, not %s", format);
	return CLI_OK;
}

int verb_export(struct cli *c)
{
	const char *format = export_format(c);
	bool is_openmetrics = !strcmp(format, "openmetrics");
	bool *may_miss = calloc(c->args_nr + 1, sizeof(*may_miss));
	struct picks picks = { 0 };
	int rc;

	if (!may_miss)
		return session_failed(c, -ENOMEM);
	/* A glob may match talea's own metrics alone. */
	for (size_t i = 0; is_openmetrics && i < c->args_nr; i++)
		may_miss[i] = metrics_match(c->args[i]);
	rc = select_picks(c, may_miss, &picks);
	free(may_miss);
	if (rc == CLI_OK && is_openmetrics)
		rc = export_openmetrics(c, &picks);
	else if (rc == CLI_OK && !strcmp(format, "csv"))
		rc = expo_csv(stdout, &picks) ? CLI_FAILED : CLI_OK;
	else if (rc == CLI_OK)
		rc = expo_ndjson(stdout, &picks, c->session.st.namespace_name) ? CLI_FAILED :
										 CLI_OK;
	picks_fini(&picks);
	return rc;
}

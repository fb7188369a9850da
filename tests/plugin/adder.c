/*
 * A plugin as a user writes one: it declares its own counter and adds inline. Loaded and unloaded by
 * tests/system/adding.c while its threads are asleep in the host.
 */
#include <talea.h>

int plugin_open(const char *name);
void plugin_add(unsigned int n);
void plugin_close(void);

static struct talea *t;
static struct talea_counter c = TALEA_COUNTER_INIT;

int plugin_open(const char *name)
{
	int err = talea_open(&t, NULL);

	return err ? err : talea_counter(t, &c, name, "Of a plugin.", NULL);
}

void plugin_add(unsigned int n)
{
	while (n--)
		talea_inc(c);
}

void plugin_close(void)
{
	talea_close(t);
}

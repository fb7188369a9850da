/*
 * What has to be done so that the probes that are desired are those that are attached: a diff of
 * three lists (desired, pinned, attached), and from it actions in an order in which they can be
 * carried out. Touches no kernel, no file and no keeper: probes.c makes the lists and carries the
 * actions out. MT-safe.
 *
 *   desired    by the configuration: probes of the pack, [probe NAME]
 *   pinned     in the bpffs: of the configuration before, or of commands, which only the pins remember
 *   attached   in this process: a place with origin set, whatever became of it
 */
#ifndef KEEPER_RECONCILE_H
#define KEEPER_RECONCILE_H

#include "daemon/spec/pack.h"

struct reconcile_desired {
	const struct probe_spec *spec;
	uint32_t origin; /* PROBE_OF_PACK or PROBE_OF_CONFIG */
};

struct reconcile_pinned {
	char name[sizeof(((struct probe_spec *)NULL)->name)];
	uint32_t origin; /* enum probe_origin */
	uint64_t since_real_ns;
	struct probe_spec spec;
};

struct reconcile_lists {
	const struct reconcile_desired *desired;
	uint32_t desired_nr;
	const struct reconcile_pinned *pinned; /* NULL: the pins were not read, and say nothing */
	uint32_t pinned_nr;
	const struct probe_live *live; /* PROBES_MAX places */
};

enum reconcile_what {
	RECONCILE_GONE = 1,	/* place: a former keeper had unpinned it: it ends */
	RECONCILE_RENEWED,	/* place: a former keeper had pinned it anew: this one is forgotten */
	RECONCILE_END,		/* place: nobody asks for it any more: it ends with its pins */
	RECONCILE_UNPIN,	/* name: pinned alone, and nobody asks for it any more */
	RECONCILE_UNUSABLE,	/* name, spec: pinned, and not to be attached by a command */
	RECONCILE_ATTACH,	/* spec, origin: attached, or adopted where it is pinned */
	RECONCILE_NAME_TAKEN,	/* spec: it has the name of a probe of the pack */
	RECONCILE_OTHER_LABELS,	/* spec, place: what is attached counts in its counter by other keys */
	RECONCILE_OTHER_FORM,	/* spec, place: what is attached has another form */
};

struct reconcile_action {
	enum reconcile_what what;
	uint32_t place;
	const char *name;		/* the lists' */
	const struct probe_spec *spec;	/* the lists' */
	uint32_t origin;
};

/* At most so many actions come of these lists. */
uint32_t reconcile_max(const struct reconcile_lists *l);

/* Fills ret, of reconcile_max() actions, which point into the lists; returns how many there are. */
uint32_t reconcile(const struct reconcile_lists *l, struct reconcile_action *ret);

/*
 * Would this spec count in the counter of what is attached by other keys? A counter's labels stay
 * while talead runs (I13): such a probe would count, and be shown nowhere.
 */
bool reconcile_has_other_labels(const struct probe_spec *spec, const struct probe_live *live);

#endif

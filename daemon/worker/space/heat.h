/*
 * Who gets a row: the policy. A counter that moves faster than HEAT_UP in one fold gets a row at
 * once if there is one; a counter that stays under HEAT_DOWN for HEAT_QUIET_S seconds gives it
 * back; when none are left the hottest counters keep theirs. Pins (flags in D) and [counter GLOB]
 * hot = come before rates. Owns struct space_heat; rows.c gives and frees the rows. The fold thread
 * alone calls this, inside registry_read_begin.
 */
#ifndef SPACE_HEAT_H
#define SPACE_HEAT_H

#include "daemon/worker/space/rates.h"
#include "daemon/worker/space/space.h"
#include "shm/base/why.h"
#include "shm/wire_admin.h"

#define HEAT_UP	     100000.0 /* adds a second */
#define HEAT_DOWN    10000.0
#define HEAT_QUIET_S 10u

/* A slot's last change of heat. Sparse: all zero means cold since it was registered. */
struct heat {
	uint64_t since_real_ns;
	float before, after; /* after: NaN until a second has passed */
	uint8_t heat : 2;    /* enum wire_heat */
	bool is_after_due : 1;
	bool is_offered : 1; /* hot, and without a row, since the last tick of those that wait */
	uint8_t why;	     /* enum shm_why */
	uint16_t rule;	     /* of the configuration: rules_seq:14 | shm_hot_rule:2; 0: not known */
};

/* How much a row is used, by the row's number. */
struct row_heat {
	struct rate rate;
	uint32_t quiet_s; /* seconds for which the rate was under the threshold */
};

/* A counter that is to have a row, by its rate or by a rule, and has none. */
struct waiting {
	uint32_t slot;
	struct rate rate;
};

void heat_open(struct space *space);

/* At start, when all rows are known: adopts the history that a former worker published. */
void heat_recover(struct space *space);

/* What a start-up self-test has found may change who can have a row. */
void heat_allowed(struct space *space, const struct config *config);

/* The fold saw this slot move by delta. */
void heat_offer(struct space *space, uint32_t slot, int64_t delta);

/* After a fold: rows for those that were offered. interval_ns is what the deltas are of. */
void heat_fold(struct space *space, const struct config *config, uint64_t interval_ns);

/* Once a second: retires rows that are quiet, gives rows to counters that wait, and takes rows away
 * for hotter counters. */
void heat_second(struct space *space, const struct config *config, uint64_t elapsed_ns);

/* A slot was registered: has it a row by rule? */
void heat_registered(struct space *space, const struct config *config, uint32_t slot);

/* The rules may have changed: checks all slots again, some with every fold. */
void heat_reconfigure(struct space *space);

/* An operator's pin. 0, or -EINVAL for a slot that never gets a row. */
int heat_pin(struct space *space, const struct config *config, uint32_t slot,
	     enum shm_hot_rule pin, uint32_t uid, struct why *why);

/* rows_retire returned seq: after the next grace period the row is freed and the slot is cold. */
void heat_defer_retirement(struct space *space, uint32_t slot, uint32_t seq);

/* Fills what an explanation says about heat. */
void heat_explain(const struct space *space, const struct config *config, uint32_t slot,
		  struct wire_explain *ret);

/* Can this slot ever have a row? */
bool heat_can_have_row(const struct space *space, uint32_t slot);

#endif

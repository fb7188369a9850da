/*
 * What `talea attach` and `[probe NAME]` ask for, as one flat struct: the worker (or the reader of
 * the configuration) makes it from text, the keeper checks every byte of it before it does
 * anything. Owns nothing; no libbpf here. The grammar stands in tools/man/talea-probes.7.scd:
 *
 *   [COUNTER=]EVENT [by KEY[,KEY[,KEY]]] [if FIELD OP VALUE [and FIELD OP VALUE]...] [add argN]
 * [max N]
 *
 *   EVENT  tp_btf:NAME  raw_tp:NAME  fentry:FUNCTION  fexit:FUNCTION  uprobe:FILE:SYMBOL
 *          uretprobe:FILE:SYMBOL  usdt:FILE:PROVIDER:NAME
 *   KEY    cpu pid tgid uid comm cgroup arg0..arg5 retval errno
 *   FIELD  pid tgid uid comm cgroup cpu arg0..arg5 retval errno     OP  == = != < <= > >= &
 */
#ifndef DAEMON_PROBE_SPEC_H
#define DAEMON_PROBE_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bpf/talea.bpf.h"

#define SPEC_TEXT_MAX	 512u /* of the text, NUL included */
#define SPEC_FILTERS_MAX 4u
#define SPEC_KEYS_MAX_DEFAULT 4096u
#define SPEC_KEYS_MAX_MAX     (1u << 20)

enum spec_event {
	SPEC_TP_BTF = 1, SPEC_RAW_TP, SPEC_FENTRY, SPEC_FEXIT, SPEC_UPROBE, SPEC_URETPROBE, SPEC_USDT,
	SPEC_OBJECT, /* file: a .bpf.o; from the configuration alone */
	SPEC_PACK,   /* name: one that talead brings along; from the configuration alone */
	SPEC_EVENTS_NR
};

enum spec_field {
	SPEC_NONE = 0, /* as an amount: 1 */
	SPEC_CPU, SPEC_PID, SPEC_TGID, SPEC_UID, SPEC_COMM, SPEC_CGROUP, SPEC_ARG, SPEC_RETVAL,
	SPEC_ERRNO, SPEC_FIELDS_NR
};
struct spec_operand {
	uint8_t field; /* enum spec_field */
	uint8_t arg;   /* SPEC_ARG: 0 to 5 */
	uint8_t reserved[6];
};

enum spec_op { SPEC_EQ = 1, SPEC_NE, SPEC_LT, SPEC_LE, SPEC_GT, SPEC_GE, SPEC_AND, SPEC_OPS_NR };
struct spec_filter {
	struct spec_operand what;
	uint32_t op;	/* enum spec_op; comm: EQ and NE alone, cgroup likewise */
	uint32_t reserved;
	int64_t value;	/* all but comm and cgroup; uid as a number */
	char text[128]; /* comm; cgroup: a path below the cgroup2 mount, an id when loaded */
};

struct probe_spec {
	char name[48];	   /* for `talea detach`: its [probe NAME], or made of the counter */
	char counter[128]; /* probe_<target>_total */
	char help[256];
	char file[256];	   /* uprobe, uretprobe, usdt, object: a path, or a library's name */
	char provider[64]; /* usdt */
	char target[128];  /* tracepoint, function, symbol, or the USDT's name */
	uint32_t event;	   /* enum spec_event */
	uint32_t keys_max; /* entries of the map of keys */
	uint32_t keys_nr;
	uint32_t filters_nr;
	struct spec_operand keys[TALEA_KEYS_MAX];
	struct spec_filter filters[SPEC_FILTERS_MAX];
	struct spec_operand amount;
	char text[SPEC_TEXT_MAX]; /* what was asked for, as it is shown */
};

/*
 * Makes a spec from text. probe: NULL to make a name of the event. 0, or -EINVAL with one sentence
 * in why that says what is wrong, what would be right, and the nearest word for a misspelt one.
 * *ret is untouched on failure.
 */
int spec_parse(const char *probe, const char *text, struct probe_spec *ret, char *why, size_t why_size);

/* Checks a spec that came from elsewhere: every text ends, every number is one, every reserved byte
 * is 0, names follow the rules. 0 or -EINVAL with why. */
int spec_check(const struct probe_spec *spec, char *why, size_t why_size);

/* Is it the same probe but for its name and help? A repeated request finds it done. */
bool spec_equals(const struct probe_spec *a, const struct probe_spec *b);

/* The counter that a declared probe feeds, its labels in the order of spec->keys. */
void spec_counter(const struct probe_spec *spec, struct talea_counter_def *ret);

/* Bytes of a key of this counter, the sum of its parts. */
uint32_t counter_key_bytes(const struct talea_counter_def *def);

/* Does the counter have a key of this kind? */
bool counter_has_key(const struct talea_counter_def *def, enum talea_key_kind kind);

#endif

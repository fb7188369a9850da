/*
 * What declared.c has help for: types of arguments from the kernel's BTF (declared_types.c) and the
 * places of a USDT's arguments (usdt.c). For declared.c alone. Functions that refuse have said why
 * in *why by explain_reason and explain_fix.
 */
#ifndef PROBE_DECLARED_H
#define PROBE_DECLARED_H

#include "bpf/declared.h"
#include "daemon/keeper/probe/explain.h"

#define DECLARED_PARAMS_MAX 12u

/* One value that an event brings. */
struct declared_value {
	uint8_t bytes; /* 1, 2, 4 or 8; 0: it does not fit a word */
	uint8_t is_signed;
	uint8_t is_pointer;
};

/* The arguments of a tracepoint or function, and what it returns (bytes 0: nothing). */
struct declared_prototype {
	uint32_t params_nr;
	struct declared_value params[DECLARED_PARAMS_MAX];
	struct declared_value result;
};

/* event: SPEC_TP_BTF, SPEC_RAW_TP: of tracepoint `name`; SPEC_FENTRY, SPEC_FEXIT: of function
 * `name`. In the kernel itself, then in its modules. -ENOENT: no such name; -ENODATA: no type
 * information. */
int declared_prototype(uint32_t event, const char *name, struct declared_prototype *ret);

/*
 * The place of argument number `arg` in the text of a note, "8@%rdi -4@-20(%rbp)". 0; -ERANGE:
 * there are not as many; -EINVAL: it is nowhere that we can read; ret_text (64 bytes) is then what
 * it says.
 */
int usdt_place(const char *args, uint32_t arg, struct declared_place *ret, char *ret_text);

#endif

/*
 * Where a USDT keeps its arguments, by the text of its note (elf.h). Owns nothing. For keeper/probe
 * alone.
 */
#ifndef PROBE_USDT_H
#define PROBE_USDT_H

#include <stdint.h>

#include "bpf/declared.h"

/*
 * Reads the place of argument number `arg` from the text of a note, "8@%rdi -4@-20(%rbp)". 0;
 * -ERANGE: the note has fewer arguments; -EINVAL: no program can read that place. ret_text (64
 * bytes) gets the argument's text.
 */
int usdt_place(const char *args, uint32_t arg, struct declared_place *ret, char *ret_text);

#endif

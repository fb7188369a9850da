/*
 * Declared probes of functions in programs and libraries, at entry: the arguments that the calling
 * convention passes in registers. At return (uretprobe) there is the result alone. See declared.h.
 */
#include "declared.h"

/* Offsets in struct pt_regs of the kernel, which programs of this kind may read directly. */
#if defined(__TARGET_ARCH_x86)
#define ARGS	112, 104, 96, 88, 72, 64 /* di si dx cx r8 r9 */
#define RESULT	80			 /* ax */
#elif defined(__TARGET_ARCH_arm64)
#define ARGS	0, 8, 16, 24, 32, 40
#define RESULT	0
#else
#error "which registers have the arguments?"
#endif
#define CASES_(a, b, c, d, e, f)    \
	LOAD_CASE(ctx, 0, a);       \
	LOAD_CASE(ctx, 1, b);       \
	LOAD_CASE(ctx, 2, c);       \
	LOAD_CASE(ctx, 3, d);       \
	LOAD_CASE(ctx, 4, e);       \
	LOAD_CASE(ctx, 5, f)
#define CASES(args) CASES_(args)

static __always_inline __u64 fetch(void *ctx, __u32 nr)
{
	switch (nr) {
		CASES(ARGS);
		LOAD_CASE(ctx, DECLARED_RESULT, RESULT);
	}
	return 0;
}

DECLARED_PROGRAM("uprobe");

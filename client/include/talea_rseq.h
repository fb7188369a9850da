/*
 * What each restartable sequence (rseq) of talea begins and ends with, for x86-64 and arm64. Part
 * of talea_add.h: include talea.h, not this file. The asm of a section is built so:
 *
 *   TALEA_RSEQ_TABLE_(way out)   3: the descriptor; 4: where the kernel resumes an aborted thread
 *   TALEA_RSEQ_ARM_(register)    names the descriptor; the register is free afterwards
 *   "1:\t"                       the section
 *   "2:\t" TALEA_RSEQ_CLEAR_     behind the one instruction that commits
 *
 * with talea_rseq_area_(__rseq_offset) as the operand [rseq]. The CPU number is at 4 in that area
 * and the descriptor's address at 8. The way out ends with a jump. It and every other exit store
 * TALEA_RSEQ_CLEAR_: a thread asleep with an armed descriptor would crash when the code is
 * unloaded. The sections of the object file have the flag "?", which puts them into the group of
 * their function: C++ inline functions do not link without.
 */
#ifndef TALEA_RSEQ_H
#define TALEA_RSEQ_H

#include <stdint.h>

#if defined(__x86_64__) && !defined(__ILP32__)
#define TALEA_RSEQ_ 1
#define TALEA_RSEQ_SIGNATURE_ ".byte 0x0f, 0xb9, 0x3d\n\t.long 0x53053053\n"
#define TALEA_RSEQ_LOAD_(reg) "leaq 3b(%%rip), %%" reg "\n\t"
#define TALEA_RSEQ_STORE_(reg) "movq %%" reg ", %%fs:8(%[rseq])\n"
#define TALEA_RSEQ_CLEAR_ "movq $0, %%fs:8(%[rseq])\n\t"
#elif defined(__aarch64__) && !defined(__ILP32__)
#define TALEA_RSEQ_ 1
#define TALEA_RSEQ_SIGNATURE_ ".inst 0xd428bc00\n"
#define TALEA_RSEQ_LOAD_(reg) "adrp " reg ", 3b\n\tadd " reg ", " reg ", :lo12:3b\n\t"
#define TALEA_RSEQ_STORE_(reg) "str " reg ", [%[rseq], #8]\n"
#define TALEA_RSEQ_CLEAR_ "str xzr, [%[rseq], #8]\n\t"
#endif

#ifdef TALEA_RSEQ_
#define TALEA_RSEQ_TABLE_(way_out)               \
	".pushsection __rseq_cs, \"aw?\"\n\t"     \
	".balign 32\n"                            \
	"3:\t.long 0, 0\n\t"                      \
	".quad 1f, 2f - 1f, 4f\n\t"               \
	".popsection\n\t"                         \
	".pushsection __rseq_failure, \"ax?\"\n\t" \
	TALEA_RSEQ_SIGNATURE_                     \
	"4:\t" way_out "\n\t"                     \
	".popsection\n\t"
#define TALEA_RSEQ_ARM_(reg) TALEA_RSEQ_LOAD_(reg) TALEA_RSEQ_STORE_(reg)

/* Of the calling thread; offset is glibc's __rseq_offset. On x86-64 the asm adds %fs itself. */
static inline __attribute__((always_inline)) intptr_t talea_rseq_area_(intptr_t offset)
{
#ifdef __aarch64__
	return (intptr_t)__builtin_thread_pointer() + offset;
#else
	return offset;
#endif
}

/* Takes the descriptor back on a way out that is C. */
static inline __attribute__((always_inline)) void talea_rseq_clear_(intptr_t rseq)
{
	__asm__ volatile(TALEA_RSEQ_CLEAR_ : : [rseq] "r"(rseq) : "memory");
}
#endif

#endif

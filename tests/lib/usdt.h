/*
 * USDTs for test programs, without systemtap's header: a `nop`, and a note that says where it is,
 * what it is called and where its arguments are. As sys/sdt.h makes them.
 */
#ifndef TESTS_LIB_USDT_H
#define TESTS_LIB_USDT_H

/* The kernel adds to it while somebody watches. */
#define USDT_SEMAPHORE(name) \
	static volatile unsigned short name __attribute__((section(".probes"), used))

#define USDT_NOTE_(provider, name, semaphore, args)                                             \
	"990: nop\n"                                                                            \
	".pushsection .note.stapsdt, \"\", \"note\"\n"                                          \
	".balign 4\n.4byte 992f - 991f, 994f - 993f, 3\n"                                       \
	"991: .asciz \"stapsdt\"\n992: .balign 4\n"                                             \
	"993: .8byte 990b\n.8byte _.stapsdt.base\n.8byte " semaphore "\n"                       \
	".asciz \"" #provider "\"\n.asciz \"" #name "\"\n.asciz \"" args "\"\n994: .balign 4\n" \
	".popsection\n"                                                                         \
	".ifndef _.stapsdt.base\n"                                                              \
	".pushsection .stapsdt.base, \"aG\", \"progbits\", .stapsdt.base, comdat\n"             \
	".weak _.stapsdt.base\n.hidden _.stapsdt.base\n_.stapsdt.base: .space 1\n"              \
	".size _.stapsdt.base, 1\n.popsection\n.endif\n"

#define USDT_SIZE_(x) (((__typeof__(x))-1 < 0 ? -1 : 1) * (int)sizeof(x))

/* One argument and no semaphore; two, and a semaphore. */
#define USDT1(provider, name, x)                                          \
	__asm__ volatile(USDT_NOTE_(provider, name, "0", "%c[as]@%[a]")   \
			 :                                                \
			 : [a] "nor"(x), [as] "n"(USDT_SIZE_(x)))
#define USDT2(provider, name, semaphore, x, y)                                              \
	__asm__ volatile(USDT_NOTE_(provider, name, "%c[s]", "%c[as]@%[a] %c[bs]@%[b]")     \
			 :                                                                  \
			 : [a] "nor"(x), [b] "nor"(y), [as] "n"(USDT_SIZE_(x)),             \
			   [bs] "n"(USDT_SIZE_(y)), [s] "i"(&semaphore))

#endif

/*
 * Counting from your own BPF program.
 *
 *	#include <talea.bpf.h>
 *	TALEA_COUNTER_BY(execs, "execs_total", "Programs started.", 1024, TALEA_TEXT(comm, 16));
 *	SEC("raw_tp/sched_process_exec")
 *	int on_exec(void *ctx)
 *	{
 *		struct execs_key key = {};
 *		bpf_get_current_comm(key.comm, sizeof(key.comm));
 *		talea_count_by(&execs, &key, 1);
 *		return 0;
 *	}
 *	char LICENSE[] SEC("license") = "GPL";
 *
 * Build it with clang (14 or later), libbpf's headers and the kernel's:
 *
 *	clang -target bpf -O2 -g $(pkg-config --cflags talea) -I/usr/include/$(uname -m)-linux-gnu \
 *		-c execs.bpf.c -o execs.bpf.o
 *
 * and name the object in talead's configuration, by its absolute path:
 *
 *	[probe execs]
 *	object = /etc/talea/execs.bpf.o
 *
 * talead loads it, attaches all its programs by their section names, pins it so that it counts on
 * while no talead runs, and shows its counters in namespace `default` beside all others.
 *
 * Programs may be raw_tp, tp_btf, fentry, fexit, uprobe and uretprobe, at most 16 in an object, and
 * each names in its section what it is attached to (SEC("uprobe/libc.so.6:malloc")). An object may
 * have maps of its own and 1 to 8 counters. Names of counters follow the rules of talea.h: they end
 * in _total, and the prefixes talea_ and kernel_ are talea's own. The file must be root's, like
 * each folder on the way to it, and nobody else's to write: what is in it runs in the kernel.
 *
 * Exactness: a counter is one 8-byte sum for each CPU, changed by atomic adds: a program that is
 * interrupted by another one loses nothing. Keys that find no room count in the member
 * talea="other" of the counter, so that the sum over a counter's members is always all that was
 * added. What the kernel does not run is not counted: `talea probes` shows the runs that it
 * skipped.
 *
 * With vmlinux.h include that first; else this header includes what it needs of the kernel's. It
 * defines nothing but names that begin with talea or TALEA, and IDENT, IDENT_k, IDENT_def and
 * struct IDENT_key for each counter. For programs that are not BPF it is the layout alone.
 */
#ifndef TALEA_BPF_H
#define TALEA_BPF_H

#ifndef __VMLINUX_H__
#include <linux/types.h>
#endif

#define TALEA_BPF_VERSION 1

/* A counter's dense map, an mmapable ARRAY of u64 laid out [cpu][TALEA_SOURCE_STRIDE]. */
#define TALEA_SOURCE_STRIDE  24
#define TALEA_SOURCE_TOTAL   0 /* without keys: the count. With keys: the overflow */
#define TALEA_SOURCE_REFUSED 1 /* adds that found no room for their key */
#define TALEA_SOURCE_EVENTS  2 /* adds, where a probe adds amounts and not 1 */

#define TALEA_KEYS_MAX	 3
#define TALEA_KEY_BYTES	 48 /* of all parts together */
#define TALEA_SECTION	 ".rodata.talea"

/* What a part of a key is, and so how it is shown. All but text are 8 bytes. */
enum talea_key_kind {
	TALEA_KEY_U64 = 1,
	TALEA_KEY_S64 = 2,
	TALEA_KEY_TEXT = 3,   /* bytes of it, up to the first NUL; what is not UTF-8 is escaped */
	TALEA_KEY_PID = 4,    /* a thread: its key is freed some time after it has ended */
	TALEA_KEY_TGID = 5,   /* a process, likewise */
	TALEA_KEY_UID = 6,
	TALEA_KEY_CGROUP = 7, /* bpf_get_current_cgroup_id(): shown as its path; freed likewise */
	TALEA_KEY_CPU = 8,
	TALEA_KEY_ERRNO = 9,  /* a positive error number, shown as its name; 0 is "none" */
};

struct talea_key_def {
	char label[24];
	__u8 kind; /* enum talea_key_kind */
	__u8 bytes; /* a multiple of 8 */
	__u8 reserved[6];
};

/* What TALEA_COUNTER puts into TALEA_SECTION. */
struct talea_counter_def {
	char name[128];
	char help[256];
	char map[32]; /* the dense map; the map of keys is called the same with _k behind */
	__u32 version; /* TALEA_BPF_VERSION */
	__u32 keys_nr;
	struct talea_key_def keys[TALEA_KEYS_MAX];
};

#ifdef __bpf__

#ifndef __VMLINUX_H__
#include <linux/bpf.h>
#endif
#include <bpf/bpf_helpers.h>

/*
 * Declares a counter: TALEA_COUNTER(reads, "reads_total", "Reads of files."), at file scope, once
 * in an object. IDENT: the C name of the counter, of at most 28 characters. NAME, HELP: literals.
 * Memory: 192 bytes for each CPU.
 */
#define TALEA_COUNTER(IDENT, NAME, HELP)       \
	TALEA_MAP_(IDENT, __u32);              \
	TALEA_DEF_(IDENT, NAME, HELP) = {      \
		.name = NAME,                  \
		.help = HELP,                  \
		.map = #IDENT,                 \
		.version = TALEA_BPF_VERSION,  \
	}

/*
 * Declares a counter with a member for each key. MAX: so many keys have room, at most 2^20; all
 * their memory is taken when it is loaded, 8 bytes for each CPU and some 60 more, rounded up.
 * Behind it one to three parts of the key, together at most TALEA_KEY_BYTES. Gives `struct
 * IDENT_key` with a field for each part, called as its label:
 *
 *	TALEA_COUNTER_BY(sent, "sent_bytes_total", "Bytes sent.", 4096,
 *			 TALEA_TEXT(comm, 16), TALEA_UID(uid));
 *	struct sent_key key = { .uid = (__u32)bpf_get_current_uid_gid() };
 */
#define TALEA_COUNTER_BY(IDENT, NAME, HELP, MAX, ...)                                              \
	struct IDENT##_key {                                                                       \
		TALEA_EACH_(TALEA_FIELD_, __VA_ARGS__)                                             \
	};                                                                                         \
	_Static_assert(sizeof(struct IDENT##_key) <= TALEA_KEY_BYTES, "too many bytes of key");    \
	_Static_assert((MAX) > 0 && (MAX) <= 1 << 20, "room for 1 to 2^20 keys");                  \
	TALEA_EACH_(TALEA_CHECK_, __VA_ARGS__)                                                     \
	TALEA_MAP_(IDENT, __s32);                                                                  \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_PERCPU_HASH);                                            \
		__uint(max_entries, MAX);                                                          \
		__type(key, struct IDENT##_key);                                                   \
		__type(value, __u64);                                                              \
	} IDENT##_k SEC(".maps");                                                                  \
	TALEA_DEF_(IDENT, NAME, HELP) = {                                                          \
		.name = NAME,                                                                      \
		.help = HELP,                                                                      \
		.map = #IDENT,                                                                     \
		.version = TALEA_BPF_VERSION,                                                      \
		.keys_nr = TALEA_COUNT_(__VA_ARGS__),                                              \
		.keys = { TALEA_EACH_(TALEA_PART_, __VA_ARGS__) },                                 \
	}

/*
 * The parts of a key. LABEL: a C name of at most 23 characters, the field's and the label's. Text
 * takes BYTES, a multiple of 8: begin with a zeroed key and put the text over it, for bytes behind
 * the first NUL make another key too. Threads, processes and cgroups that have ended are looked for
 * once a second: their keys make room for others, and what they held counts in the member
 * talea="removed".
 */
#define TALEA_TEXT(LABEL, BYTES) (LABEL, TALEA_KEY_TEXT, BYTES, char LABEL[BYTES])
#define TALEA_U64(LABEL)	 (LABEL, TALEA_KEY_U64, 8, __u64 LABEL)
#define TALEA_S64(LABEL)	 (LABEL, TALEA_KEY_S64, 8, __s64 LABEL)
#define TALEA_PID(LABEL)	 (LABEL, TALEA_KEY_PID, 8, __u64 LABEL)
#define TALEA_TGID(LABEL)	 (LABEL, TALEA_KEY_TGID, 8, __u64 LABEL)
#define TALEA_UID(LABEL)	 (LABEL, TALEA_KEY_UID, 8, __u64 LABEL)
#define TALEA_CGROUP(LABEL)	 (LABEL, TALEA_KEY_CGROUP, 8, __u64 LABEL)
#define TALEA_CPU(LABEL)	 (LABEL, TALEA_KEY_CPU, 8, __u64 LABEL)
#define TALEA_ERRNO(LABEL)	 (LABEL, TALEA_KEY_ERRNO, 8, __u64 LABEL)

/*
 * Adds n to a counter without keys: talea_count(&reads, 1). Never fails and never waits: safe
 * wherever a BPF program runs, sleepable ones and those of interrupts too. Some 4 ns beyond an
 * empty program.
 */
#define talea_count(COUNTER, n)                                                              \
	do {                                                                                 \
		_Static_assert(__builtin_types_compatible_p(typeof((COUNTER)->key), __u32 *), \
			       "this counter has keys: talea_count_by");                     \
		talea_cell_add_(COUNTER, TALEA_SOURCE_TOTAL, n);                             \
	} while (0)

/*
 * Adds n to the member of a key: talea_count_by(&sent, &key, bytes), key a `struct sent_key`. As
 * safe as talea_count; a key that finds no room (or one whose bucket this CPU is changing already,
 * in a program that interrupts another one) counts in the overflow and among the refusals. Some 10
 * ns, a key's first add on each counter more.
 */
#define talea_count_by(COUNTER, KEY, n)                                                    \
	do {                                                                               \
		_Static_assert(__builtin_types_compatible_p(typeof(*(KEY)),                \
							    typeof(*(COUNTER##_k)->key)),  \
			       "the key is not this counter's struct IDENT_key");          \
		talea_key_add_(COUNTER, COUNTER##_k, KEY, n);                              \
	} while (0)

/* --- what the macros above are made of; may change ------------------------------------------ */

/*
 * max_entries is set when it is loaded, from the CPUs: who loads it otherwise gets an error instead
 * of a short map. The sign of the key's type tells talea_count whether the counter has keys.
 */
#define TALEA_MAP_(IDENT, KEY)                         \
	struct {                                       \
		__uint(type, BPF_MAP_TYPE_ARRAY);      \
		__uint(map_flags, BPF_F_MMAPABLE);     \
		__type(key, KEY);                      \
		__type(value, __u64);                  \
	} IDENT SEC(".maps")

#define TALEA_DEF_(IDENT, NAME, HELP)                                        \
	_Static_assert(sizeof(NAME) <= 128, "a name of at most 127 bytes");  \
	_Static_assert(sizeof(HELP) <= 256, "a help of at most 255 bytes");  \
	_Static_assert(sizeof(#IDENT) <= 29, "a C name of at most 28 bytes"); \
	static const struct talea_counter_def IDENT##_def SEC(TALEA_SECTION)

#define TALEA_FIELD_(LABEL, KIND, BYTES, FIELD) FIELD;
#define TALEA_PART_(LABEL, KIND, BYTES, FIELD)	{ .label = #LABEL, .kind = KIND, .bytes = BYTES },
#define TALEA_CHECK_(LABEL, KIND, BYTES, FIELD)                                           \
	_Static_assert((BYTES) > 0 && (BYTES) % 8 == 0, #LABEL ": a multiple of 8 bytes"); \
	_Static_assert(sizeof(#LABEL) <= 24, #LABEL ": a label of at most 23 bytes");

#define TALEA_EACH_(M, ...)	TALEA_EACH_AS_(TALEA_COUNT_(__VA_ARGS__), M, __VA_ARGS__)
#define TALEA_EACH_AS_(NR, M, ...) TALEA_EACH_OF_(NR, M, __VA_ARGS__)
#define TALEA_EACH_OF_(NR, M, ...) TALEA_EACH_##NR##_(M, __VA_ARGS__)
#define TALEA_EACH_1_(M, A)	M A
#define TALEA_EACH_2_(M, A, B)	M A M B
#define TALEA_EACH_3_(M, A, B, C) M A M B M C
#define TALEA_COUNT_(...)	TALEA_FIFTH_(__VA_ARGS__, 4_IS_TOO_MANY, 3, 2, 1, 0)
#define TALEA_FIFTH_(A, B, C, D, FIFTH, ...) FIFTH

/* A CPU beyond the map, which no possible CPU is, counts in CPU 0's part: nothing is dropped. */
static __always_inline void talea_cell_add_(void *map, __u32 cell, __u64 n)
{
	__u32 at = bpf_get_smp_processor_id() * TALEA_SOURCE_STRIDE + cell;
	__u64 *sum = bpf_map_lookup_elem(map, &at);

	if (!sum)
		sum = bpf_map_lookup_elem(map, &cell);
	if (sum)
		__sync_fetch_and_add(sum, n);
}

#define TALEA_EEXIST_ 17 /* vmlinux.h has no error numbers */

/* A key that is new begins with n, in one step; an interrupt may have made it meanwhile. */
static __always_inline void talea_key_add_(void *map, void *keys, const void *key, __u64 n)
{
	__u64 *sum = bpf_map_lookup_elem(keys, key);

	if (!sum) {
		long err = bpf_map_update_elem(keys, key, &n, BPF_NOEXIST);

		if (!err)
			return;
		if (err == -TALEA_EEXIST_)
			sum = bpf_map_lookup_elem(keys, key);
	}
	if (sum) {
		__sync_fetch_and_add(sum, n);
		return;
	}
	talea_cell_add_(map, TALEA_SOURCE_TOTAL, n);
	talea_cell_add_(map, TALEA_SOURCE_REFUSED, 1);
}

#endif
#endif

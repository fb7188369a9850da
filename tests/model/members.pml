/*
 * Members: one slot that is handed out, removed by intent and handed out again, its family's `removed`,
 * adds with and without rseq, late ones, an outside reader of the family's sum, and a worker that dies at
 * any step (PROTOCOL 2 and 3; daemon/worker/space/remove.c, client/target.c). The member may have the one row.
 * Not here: finding a member by its key (lookup.pml), which rows are free (rows.pml). Run by
 * tests/model/run, which names the mutants.
 *
 * Sequentially consistent and with sections as in rows.pml.
 */
#define CPUS	2
#ifndef SECTIONS
#define SECTIONS 1	/* writers with rseq */
#endif
#ifndef FALLBACKS
#define FALLBACKS 1	/* writers without */
#endif
#ifndef ADDS
#define ADDS	1	/* by each */
#endif
#ifndef CHANGES
#define CHANGES	3	/* assign, retire, remove, hand out, in any order */
#endif
#ifndef CRASHES
#define CRASHES	1
#endif
#ifndef READS
#define READS	0
#endif
#ifdef NO_ROWS
#define lanes	0
#else
#define lanes	(is_row -> cell[0] + cell[1] : 0)
#endif

/* Index 0 of two is the member's, 1 its family's `removed`. */
#define M	0
#define R	1

/* S */
byte cold[2];
byte cell[CPUS];
bool fallback_used;

/* D. route = generation, names a row; state = ver, is_removing, is_row: each one store. */
byte generation = 1;
bool is_routed;
byte ver[2];
bool is_removing, is_row;
short base[4];
bool is_indexed = 1;
byte moves;
bool valid;		/* the intent */
byte intent_ver[2];
short intent_base[2];

/* The worker's own. */
byte leaving, visited;	/* 0 nobody; GOING: a removal; else the number of a retirement */
#define GOING	255
byte retirement;
bool is_retiring;
byte grace;		/* 0 none; n: CPU n - 1 is next; CPUS + 1: passed */

/* The machine. */
bool in[2];
byte on[2];

/* What is true: adds committed to the family, and to the member in this life of it. */
byte added, added_now;
bool is_between;	/* the two halves of an intent are not both applied */

#define total_m	(base[ver[M] & 1] + cold[M] + lanes)
#define total_r	(base[2 + (ver[R] & 1)] + cold[R])

#ifdef NOT_EVEN
#define is_dead (!is_indexed)
#else
#define is_dead (!(generation & 1))
#endif

/* The family's sum never changes by a removal, and a live member counts what was meant for it. */
inline check()
{
	assert(is_between || total_m + total_r == added);
	assert(is_between || is_dead || total_m == added_now)
}

inline run_on(cpu)
{
	in[0] = in[0] && on[0] != cpu;
#if SECTIONS > 1
	in[1] = in[1] && on[1] != cpu;
#endif
}

/* An add for the member of generation g is committed to its cells: there must be no other by now. */
inline count_m(g)
{
	assert(generation == g || is_dead);
	added++;
	added_now++;
	check()
}

inline count_late()
{
	cold[R]++;
	added++;
	check()
}

/* --- writers -------------------------------------------------------------------------------------- */

/* A holder: knows the member by the generation that it found once, and looks it up again or not. */
proctype section(byte me)
{
	byte left = ADDS, g, seen;
	bool routed;

	g = 1;
	do
	:: left > 0 ->
		atomic {
			left--;
			if
			:: generation & 1 -> g = generation
			:: true
			fi
		}
again:
#ifdef COMPARE_OUTSIDE
		atomic { seen = generation; routed = is_routed };
#endif
		atomic {
			if
			:: on[me] = 0
			:: on[me] = 1
			fi;
			run_on(on[me]);
			in[me] = true
		};
#ifndef COMPARE_OUTSIDE
		if
		:: atomic { in[me] -> seen = generation; routed = is_routed }
		:: goto aborted
		fi;
#endif
		if
		:: atomic { seen != g -> in[me] = false; count_late() }
#ifndef NO_ROWS
		:: atomic {
			in[me] && seen == g && routed ->
			cell[on[me]]++;
			in[me] = false;
			count_m(g)
		   }
#endif
		   /* Turned away from the row, or a process that adds to cold cells alone. */
		:: atomic { in[me] && seen == g -> cold[M]++; in[me] = false; count_m(g) }
		:: goto aborted
		fi;
		goto next;
aborted:
		atomic { in[me] = false; on[me] = 0; seen = 0; routed = 0; goto again };
next:
		atomic { on[me] = 0; seen = 0; routed = 0 }
	:: else -> break
	od
}

/* A thread without rseq: nothing takes it away between the compare and the add. */
proctype fallback()
{
	byte left = ADDS, g, seen;

	g = 1;
	do
	:: left > 0 ->
		atomic {
			left--;
			if
			:: generation & 1 -> g = generation
			:: true
			fi
		};
#ifdef FALLBACK_SILENT
		seen = generation;
#elif defined(FALLBACK_LATE_WORD)
		seen = generation;
		fallback_used = true;
#else
		fallback_used = true;
		seen = generation;
#endif
		if
		:: atomic { seen == g -> cold[M]++; count_m(g) }
		:: atomic { else -> count_late() }
		fi;
		seen = 0
	:: else -> break
	od
}

/* --- who sums the family ---------------------------------------------------------------------------- */

proctype reader()
{
	byte left = READS, m, v, at_least;
	bool r, x;
	short sum;

	do
	:: left > 0 ->
		atomic { left--; at_least = (added > at_least -> added : at_least) };
again:
		atomic { sum = 0; m = moves };
#ifndef NO_MOVES_CHECK
		if
		:: m & 1 -> goto again
		:: else
		fi;
#endif
		atomic { v = ver[M]; r = is_row; x = is_removing };
		sum = base[v & 1];
		sum = sum + cold[M];
		if
		:: r -> sum = sum + cell[0]; sum = sum + cell[1]
		:: else
		fi;
		if
		:: v != ver[M] -> goto again
		:: else -> v = ver[R]
		fi;
		sum = sum + base[2 + (v & 1)];
		sum = sum + cold[R];
		if
		:: v != ver[R] -> goto again
		:: else
		fi;
#ifndef NO_MOVES_CHECK
		if
		:: m != moves -> goto again
		:: else
		fi;
#endif
		atomic {
			assert(sum >= at_least && sum <= added);
			at_least = sum;
			sum = 0; v = 0; r = 0; x = 0; m = 0
		}
	:: else -> break
	od
}

/* --- the worker ------------------------------------------------------------------------------------ */

/* kill -9 before this step; before one that stores nothing it would be the same. */
#define STEP(x) \
	if \
	:: atomic { x; check() } \
	:: atomic { crashes > 0 -> crashes--; goto restart } \
	fi

inline assign()
{
	sum = base[ver[M] & 1] - cell[0] - cell[1];
	STEP(base[(ver[M] + 1) & 1] = sum);
	STEP(ver[M]++; is_row = true);
	STEP(is_routed = true);
	sum = 0
}

inline retire()
{
	STEP(is_routed = false);
	atomic { is_retiring = true; retirement++; leaving = retirement }
}

inline retired()
{
	sum = base[ver[M] & 1] + cell[0] + cell[1];
	STEP(base[(ver[M] + 1) & 1] = sum);
	STEP(ver[M]++; is_row = false);
	atomic { is_retiring = false; sum = 0 }
}

/* Begins a removal, and begins it once more after a crash. */
inline remove_begin()
{
	if
	:: !is_removing ->
		STEP(base[(ver[M] + 1) & 1] = base[ver[M] & 1]);
		STEP(ver[M]++; is_removing = true)
	:: else
	fi;
	STEP(is_indexed = false);
#ifdef NOT_EVEN
	/* Removed, and its generation says live until the next owner has it. */
	STEP(is_routed = false);
#else
	STEP(generation = generation + (generation & 1); is_routed = false);
#endif
	atomic { is_retiring = false; leaving = GOING }
}

/* One half of an intent; a new worker asks first whether it was done. */
inline half(i)
{
	if
	:: ver[i] == intent_ver[i] ->
		STEP(base[i * 2 + ((ver[i] + 1) & 1)] = intent_base[i]);
		if
		:: i == M -> STEP(ver[M]++; is_row = false; is_removing = false; is_between = !is_between)
		:: else -> STEP(ver[R]++; is_between = !is_between)
		fi
	:: else
	fi
}

/* What the member holds, n, goes to `removed`; the cell stays as it is and counts for nobody. */
inline move()
{
	atomic {
		n = cold[M];
		sum = base[ver[M] & 1] + n + lanes
	};
#ifndef MOVES_STAYS_EVEN
	STEP(moves++);
#endif
#ifdef INTENT_IN_TWO
	/* The word that makes it valid is stored before the second half stands. */
	STEP(intent_ver[M] = ver[M]; intent_base[M] = -n);
	STEP(valid = true);
	STEP(intent_ver[R] = ver[R]; intent_base[R] = base[2 + (ver[R] & 1)] + sum);
#else
	atomic {
		intent_ver[M] = ver[M]; intent_base[M] = -n;
		intent_ver[R] = ver[R]; intent_base[R] = base[2 + (ver[R] & 1)] + sum;
		n = 0; sum = 0
	};
#ifndef NO_INTENT
	STEP(valid = true);
#endif
#endif
	half(M);
	half(R);
	STEP(valid = false);
#ifndef MOVES_STAYS_EVEN
	STEP(moves++);
#endif
	atomic {
		intent_ver[M] = 0; intent_base[M] = 0; intent_ver[R] = 0; intent_base[R] = 0;
		n = 0; sum = 0
	}
}

inline hand_out()
{
	n = -cold[M];
#ifdef BASE_FORGOTTEN
	n = 0;
#endif
	STEP(base[(ver[M] + 1) & 1] = n);
	STEP(ver[M]++);
#ifdef NOT_EVEN
	STEP(generation = generation + 2; added_now = 0);
#else
	STEP(generation = generation + 1; added_now = 0);
#endif
	STEP(is_indexed = true);
	n = 0
}

#define is_live	(!is_dead && !is_removing)
#define is_freed (is_dead && !is_removing && visited != GOING && leaving != GOING)
#ifdef REUSE_ALWAYS
#define may_reuse is_freed
#else
#define may_reuse (is_freed && !fallback_used)
#endif

active proctype worker()
{
	byte changes = CHANGES, crashes = CRASHES;
	short sum, n;

	atomic {
#if READS > 0
		run reader();
#endif
#if FALLBACKS > 0
		run fallback();
#endif
#if SECTIONS > 1
		run section(1);
#endif
		run section(0)
	};
again:
	do
	:: atomic { changes > 0 && is_live -> changes-- };
	   remove_begin()
	:: atomic { changes > 0 && may_reuse -> changes-- };
	   hand_out()
#ifndef NO_ROWS
	:: atomic { changes > 0 && is_live && !is_row -> changes-- };
	   assign()
	:: atomic { changes > 0 && is_live && is_row && !is_retiring -> changes-- };
	   retire()
#endif
	/* Each fold looks at the freed cells while a thread without rseq may be late. */
	:: is_freed && fallback_used && total_m != 0 -> move()
	:: atomic {
		grace == 0 && leaving ->
		visited = leaving; leaving = 0;
#ifdef NO_GRACE
		grace = CPUS + 1
#else
		grace = 1
#endif
	   }
	:: grace == CPUS + 1 ->
	   if
	   :: visited == GOING -> move()
	   :: visited == retirement && is_row && is_retiring && !is_removing -> retired()
	   :: else
	   fi;
	   atomic { visited = 0; grace = 0 }
	:: atomic { crashes > 0 -> crashes--; goto restart }
	:: grace == 0 && !leaving && !(is_freed && fallback_used && total_m != 0) -> break
	od;
	/* No slot and no row waits for ever, and who is live is found. */
	assert(is_indexed == !is_dead);
	assert(!is_removing && (!is_row || is_routed) && !(moves & 1) && !valid);
	goto ended;
restart:
	atomic {
		grace = 0; leaving = 0; visited = 0; retirement = 0; is_retiring = false;
		sum = 0; n = 0
	};
	if
	:: valid ->
#ifdef REPLAY_HALF
		half(M);
		is_between = false;
#elif defined(REPLAY_BLINDLY)
		/* Without the versions a half would be applied twice. */
		intent_ver[M] = ver[M]; intent_ver[R] = ver[R];
		half(M);
		half(R);
		is_between = false;
#else
		half(M);
		half(R);
#endif
		STEP(valid = false)
	:: else
	fi;
	assert(!is_between);
	if
	:: moves & 1 -> STEP(moves++)
	:: else
	fi;
	atomic {
		intent_ver[M] = 0; intent_base[M] = 0; intent_ver[R] = 0; intent_base[R] = 0;
		check()
	};
	if
	:: is_removing -> remove_begin()
	:: !is_removing && !is_dead && !is_indexed -> STEP(is_indexed = true)
	:: !is_removing && is_row && !is_routed ->
		atomic { is_retiring = true; retirement = 1; leaving = 1 }
	:: else
	fi;
	goto again;
ended:
	skip
}

/* The grace thread: visits one CPU after the other. */
active proctype visits()
{
end:
	do
	:: atomic {
		grace >= 1 && grace <= CPUS ->
#ifdef SKIP_CPU
		if
		:: grace != 1 -> run_on(grace - 1)
		:: else
		fi;
#else
		run_on(grace - 1);
#endif
		grace++
	   }
	od
}

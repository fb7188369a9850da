/*
 * Rows: add, assign, retire, keep, reuse by another counter, the grace, an outside reader, and a worker
 * that dies at any step (PROTOCOL 1 and 2; daemon/worker/space/{rows,deferred}.c, daemon/worker/fold/grace.c). Owns
 * no members of families: members.pml. Run by tests/model/run, which names the mutants.
 *
 * Loads and stores are sequentially consistent here. What that leaves out stands in the code as
 * release and acquire: base before state before route, and the reader's fence before it reads the state
 * again; the torture programs run those on real machines.
 *
 * An rseq section: `in[w]` from its first instruction to its commit. Whoever else runs on that CPU takes
 * it away, and the writer goes on in the cold cell: the daemon's visit, another writer, or the scheduler
 * at any moment. A commit is one instruction, so it is one step.
 */
#define CPUS	2
#define SLOTS	2
#ifndef ROWS
#define ROWS	1
#endif
#ifndef WRITERS
#define WRITERS	2
#endif
#ifndef ADDS
#define ADDS	1	/* by each writer */
#endif
#ifndef CHANGES
#define CHANGES	4	/* assign, retire and keep, in any order */
#endif
#ifndef CRASHES
#define CRASHES	1
#endif
#ifndef READS
#define READS	2
#endif
#define NONE	15

/* S: hostile, never zeroed. */
byte cold[SLOTS];
byte cell[ROWS * CPUS];

/* D: what survives the worker. A state is one 8-byte word: ver and row change in one step. */
byte route[SLOTS] = NONE;
byte ver[SLOTS];
byte row[SLOTS] = NONE;
short base[SLOTS * 2];

/* The worker's own, gone with it. A batch entry is the number of the retirement that it waits for. */
byte retirement[SLOTS];
bool is_retiring[SLOTS];
byte leaving[SLOTS], visited[SLOTS];
byte grace;		/* 0 none; n: CPU n - 1 is next; CPUS + 1: passed */
#ifdef PLUG
byte online = 1;	/* CPU 1 comes later */
#else
#define online	3
#endif
byte list;		/* the CPUs that this grace visits */

/* The machine. */
bool in[WRITERS];
byte on[WRITERS];

/* What is true: adds committed for each counter. */
byte added[SLOTS];

#define total(s) (base[(s) * 2 + (ver[s] & 1)] + cold[s] + \
		  (row[s] == NONE -> 0 : cell[(row[s] % ROWS) * CPUS] + cell[(row[s] % ROWS) * CPUS + 1]))

/* I1 and I4, after every step that could break them. */
inline check()
{
	assert(total(0) == added[0] && total(1) == added[1]);
	assert(row[0] == NONE || row[0] != row[1]);
}

/* Who runs on this CPU now ends every section there. */
inline run_on(cpu)
{
	in[0] = in[0] && on[0] != cpu;
#if WRITERS > 1
	in[1] = in[1] && on[1] != cpu;
#endif
}

/* --- writers -------------------------------------------------------------------------------------- */

proctype writer(byte me)
{
	byte left = ADDS, s, r, v;

	do
	:: left > 0 ->
		atomic {
			left--;
			if
			:: s = 0
			:: s = 1
			fi
		}
#ifdef ROUTE_OUTSIDE
		r = route[s];
#endif
#ifdef NO_RSEQ
		/* An add of one instruction, even an atomic one, but nobody can stop it. */
		if
		:: me == 0 ->
			r = route[s];
			if
			:: r != NONE -> atomic { cell[r * CPUS]++; added[s]++; check() }; goto next
			:: else -> goto slow
			fi
		:: else
		fi;
#endif
#ifdef TORN_ADD
		/* Load, add, store: what a section without abort would be. */
		if
		:: me == 0 ->
			r = route[s];
			if
			:: r != NONE ->
				v = cell[r * CPUS];
				atomic { cell[r * CPUS] = v + 1; added[s]++; check() };
				goto next
			:: else -> goto slow
			fi
		:: else
		fi;
#endif
		atomic {
			if
			:: on[me] = 0
			:: online & 2 -> on[me] = 1
			fi;
			run_on(on[me]);
			in[me] = true
		};
#ifndef ROUTE_OUTSIDE
		if
		:: atomic { in[me] -> r = route[s] }
		:: goto slow
		fi;
#endif
		if
		:: atomic {
			in[me] && r != NONE ->
			cell[r * CPUS + on[me]]++;
			added[s]++;
			in[me] = false;
			check();
			r = 0; s = 0; on[me] = 0
		   };
		   goto next
		:: goto slow
		fi;
slow:
		atomic { in[me] = false; cold[s]++; added[s]++; check(); r = 0; s = 0; on[me] = 0 };
next:
		skip
	:: else -> break
	od
}

/* --- an outside reader ----------------------------------------------------------------------------- */

proctype reader()
{
	byte left = READS, at_least, v, r;
	short sum;

	do
	:: left > 0 ->
		/* At least what was there at its begin, and what an earlier one said. */
		atomic { left--; at_least = (added[0] > at_least -> added[0] : at_least) };
again:
		atomic { v = ver[0]; r = row[0] };
		sum = base[v & 1];
		sum = sum + cold[0];
		if
		:: r != NONE ->
			sum = sum + cell[r * CPUS];
			sum = sum + cell[r * CPUS + 1]
		:: else
		fi;
#ifndef NO_STATE_CHECK
		if
		:: v != ver[0] || r != row[0] -> goto again
		:: else
		fi;
#endif
		atomic {
			assert(sum >= at_least && sum <= added[0]);
			at_least = sum;
			sum = 0; v = 0; r = 0
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

/* rows_commit: sign 1 takes the row's sum along, -1 keeps it out. */
inline state_commit(s, n, to)
{
#ifdef TWO_STORES
	STEP(base[s * 2 + (ver[s] & 1)] = base[s * 2 + (ver[s] & 1)] + n);
	STEP(ver[s] = ver[s] + 2; row[s] = to);
#else
	STEP(base[s * 2 + ((ver[s] + 1) & 1)] = base[s * 2 + (ver[s] & 1)] + n);
	STEP(ver[s]++; row[s] = to);
#endif
}

#ifdef FREE_BY_ROUTE
#define is_free(r) (route[0] != (r) && route[1] != (r))
#else
#define is_free(r) (row[0] != (r) && row[1] != (r))
#endif

inline assign(s, r)
{
	sum = -cell[r * CPUS];
	sum = sum - cell[r * CPUS + 1];
#ifdef ROUTE_FIRST
	STEP(route[s] = r);
	state_commit(s, sum, r);
#else
	state_commit(s, sum, r);
	STEP(route[s] = r);
#endif
	sum = 0;
}

inline retire(s)
{
#ifdef LIST_EARLY
	list = online;
#endif
	STEP(route[s] = NONE);
	atomic { is_retiring[s] = true; retirement[s]++; leaving[s] = retirement[s] }
}

/* Before the state was committed a retirement is undone by the route alone. */
inline keep(s)
{
	STEP(route[s] = row[s]);
	is_retiring[s] = false
}

inline retired(s)
{
	if
#ifdef NO_RETIREMENT_NUMBER
	:: visited[s] && row[s] != NONE && is_retiring[s] ->
#else
	:: visited[s] && row[s] != NONE && is_retiring[s] && visited[s] == retirement[s] ->
#endif
		sum = cell[row[s] * CPUS];
		sum = sum + cell[row[s] * CPUS + 1];
		state_commit(s, sum, NONE);
		atomic { is_retiring[s] = false; sum = 0 }
	:: else
	fi;
	visited[s] = 0
}

/* What D says when a new worker looks: the route may still name a row, or no longer. */
inline recover(s)
{
	leaving[s] = 0; visited[s] = 0; is_retiring[s] = false; retirement[s] = 0;
	if
#ifdef RECOVER_FREES
	:: row[s] != NONE && route[s] == NONE ->
		/* No new grace: what the former worker had visited is not known. */
		sum = cell[row[s] * CPUS] + cell[row[s] * CPUS + 1];
		base[s * 2 + ((ver[s] + 1) & 1)] = base[s * 2 + (ver[s] & 1)] + sum;
		ver[s]++; row[s] = NONE; sum = 0
#elif defined(RECOVER_FORGETS)
	/* The row stays with the slot for ever: seen as a row that is lost. */
#else
	:: row[s] != NONE && route[s] == NONE ->
		is_retiring[s] = true; retirement[s] = 1; leaving[s] = 1
#endif
	:: else
	fi
}

active proctype worker()
{
	byte changes = CHANGES, crashes = CRASHES, s, r;
	short sum;

	atomic {
#if READS > 0
		run reader();
#endif
		run writer(0);
#if WRITERS > 1
		run writer(1);
#endif
	};
again:
	do
	:: atomic {
		changes > 0 ->
		changes--;
		if
		:: s = 0
		:: s = 1
		fi;
		r = 0
#if ROWS > 1
		;
		if
		:: is_free(0)
		:: !is_free(0) -> r = 1
		fi
#endif
	   };
	   if
	   :: row[s] == NONE && is_free(r) -> assign(s, r)
	   :: row[s] != NONE && !is_retiring[s] -> retire(s)
	   :: row[s] != NONE && is_retiring[s] -> keep(s)
	   :: else
	   fi;
	   atomic { s = 0; r = 0 }
	:: atomic {
		grace == 0 && (leaving[0] || leaving[1]) ->
		visited[0] = leaving[0]; leaving[0] = 0;
		visited[1] = leaving[1]; leaving[1] = 0;
#ifndef LIST_EARLY
		list = online;
#endif
#ifdef NO_GRACE
		grace = CPUS + 1
#else
		grace = 1
#endif
	   }
	:: grace == CPUS + 1 -> retired(0); retired(1);
	   atomic { grace = 0; list = 0 }
	:: atomic { crashes > 0 -> crashes--; goto restart }
	:: changes == 0 && grace == 0 && !leaving[0] && !leaving[1] -> break
	od;
	/* Nothing is lost: what no slot has, a slot can have. */
	assert((row[0] == NONE || route[0] == row[0]) && (row[1] == NONE || route[1] == row[1]));
	goto ended;
restart:
	atomic {
		grace = 0; list = 0; sum = 0; r = 0; s = 0;
		recover(0);
		recover(1);
		check()
	};
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
		if
		:: list & (1 << (grace - 1)) ->
#ifdef SKIP_CPU
			if
			:: grace != 1 -> run_on(grace - 1)
			:: else
			fi
#else
			run_on(grace - 1)
#endif
		:: else
		fi;
		grace++
	   }
	od
}

#ifdef PLUG
active proctype plug()
{
	online = 3
}
#endif

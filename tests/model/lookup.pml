/*
 * Looking up: a slot that is handed out to one key after another, its name record written again in place,
 * while clients find keys in the index and add with the generation that they found, and a worker that
 * dies at any step (PROTOCOL 3; shm/directory.h dir_matches, daemon/worker/space/remove.c). What a removal does
 * with the counts is members.pml. Run by tests/model/run, which names the mutants.
 *
 * Sequentially consistent. A name is two words, written one after the other. The third key is nobody's:
 * its first half is the one's, its second the other's, and its hash meets the slot's index entry. The
 * time for which a slot rests is left out: it is for readers of T.
 */
#define CPUS	2
#ifndef ADDS
#define ADDS	2
#endif
#ifndef REMOVALS
#define REMOVALS 2
#endif
#ifndef CRASHES
#define CRASHES	1
#endif
#define A	0
#define B	1
#define C	2
#define NOBODY	3
#define first(k)  ((k) == B)
#define second(k) ((k) != A)

byte generation = 1;
byte name[2];
bool is_removing;
bool index[3];		/* who hashes to an entry that names the slot */
byte owner = A;		/* what is true: whose slot it is, and was with each generation */
byte owners[2 * REMOVALS + 4] = NOBODY;

byte cpu;
bool in;
byte grace;

/* --- clients --------------------------------------------------------------------------------------- */

proctype client()
{
	byte left = ADDS, key, held, g, n0, n1;

	do
	:: left > 0 ->
		atomic {
			left--;
			if
			:: key = A
			:: key = B
			:: key = C
			fi
		};
again:
		if
		:: !index[key] -> goto miss
		:: else
		fi;
#ifdef GENERATION_LAST
		n0 = name[0];
		n1 = name[1];
		g = generation;
#else
		g = generation;
		n0 = name[0];
		n1 = name[1];
#endif
#ifndef NO_PARITY_CHECK
		if
		:: !(g & 1) -> goto miss
		:: else
		fi;
#endif
		if
		:: n0 != first(key) || n1 != second(key) -> goto miss
		:: else
		fi;
#ifndef NO_RECHECK
		if
		:: g != generation -> goto again
		:: else
		fi;
#endif
		/* What was found is this key's, now or until a moment ago. */
		assert(owners[g] == key);
		/* The add: at once, or as a handle much later. */
#ifdef COMPARE_OUTSIDE
		if
		:: generation != g -> goto miss
		:: else
		fi;
#endif
		atomic {
			if
			:: cpu = 0
			:: cpu = 1
			fi;
			in = true
		};
#ifndef COMPARE_OUTSIDE
		if
		:: atomic { generation != g -> in = false; goto miss }
		:: in && generation == g
		:: goto miss
		fi;
#endif
		if
		:: atomic { in -> in = false; assert(owner == key || owner == NOBODY) }
		:: goto miss
		fi;
miss:
		atomic { in = false; cpu = 0; g = 0; n0 = 0; n1 = 0; key = 0 }
	:: else -> break
	od
}

/* --- the worker ------------------------------------------------------------------------------------- */

#define STEP(x) \
	if \
	:: atomic { x } \
	:: atomic { crashes > 0 -> crashes--; goto restart } \
	fi

inline remove()
{
	STEP(is_removing = true);
	STEP(index[A] = false; index[B] = false; index[C] = true);
#ifdef NOT_ODD_AND_EVEN
	/* One number more a life, live all the time. */
	STEP(generation = generation + 2; owners[generation] = NOBODY; owner = NOBODY);
#else
	STEP(generation = generation + (generation & 1); owner = NOBODY);
#endif
#ifndef NO_GRACE
	atomic { grace = 1 };
	grace == CPUS + 1;
#endif
	grace = 0;
	STEP(is_removing = false)
}

inline hand_out(key)
{
	if
	:: key = A
	:: key = B
	fi;
#ifdef NOT_ODD_AND_EVEN
	STEP(name[0] = first(key));
	STEP(name[1] = second(key));
	STEP(owners[generation] = key; owner = key);
#elif defined(NAME_AFTER)
	STEP(generation++; owners[generation] = key; owner = key);
	STEP(name[0] = first(key));
	STEP(name[1] = second(key));
#else
	STEP(name[0] = first(key));
	STEP(name[1] = second(key));
	STEP(generation++; owners[generation] = key; owner = key);
#endif
	STEP(index[key] = true);
	key = A
}

active proctype worker()
{
	byte removals = REMOVALS, crashes = CRASHES, key;

	atomic {
		index[A] = true;
		index[C] = true;
		owners[1] = A;
		run client()
	};
again:
	do
	:: owner != NOBODY && removals > 0 -> removals--; remove()
	:: owner == NOBODY && !is_removing -> hand_out(key)
	:: atomic { crashes > 0 -> crashes--; goto restart }
	:: owner != NOBODY -> break
	od;
	assert(index[owner]);
	goto ended;
restart:
	atomic { grace = 0; key = A };
	if
	:: is_removing -> remove()
	:: !is_removing && owner != NOBODY -> STEP(index[owner] = true)
	:: else
	fi;
	goto again;
ended:
	skip
}

active proctype visits()
{
end:
	do
	:: atomic {
		grace >= 1 && grace <= CPUS ->
		in = in && cpu != grace - 1;
		grace++
	   }
	od
}

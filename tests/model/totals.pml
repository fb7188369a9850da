/*
 * Totals: the fold stores the copy that is not current and publishes it, readers copy two values of one
 * epoch, a freed slot is handed out again only after both copies hold 0, and a worker dies at any step
 * (PROTOCOL 9; daemon/worker/space/totals.c, client/read.c, client/each.c). How a total is made is rows.pml and
 * members.pml. Run by tests/model/run, which names the mutants.
 *
 * Sequentially consistent: the code's release fence before the first store of a fold, and the reader's
 * acquire fence before it reads the epoch again, are what that leaves out.
 */
#ifndef ADDS
#define ADDS	3
#endif
#ifndef FOLDS
#define FOLDS	4
#endif
#ifndef READS
#define READS	2
#endif
#ifndef CRASHES
#define CRASHES	1
#endif

/* What the cells say. Slot 0 may be removed and handed out again. */
byte cell[2];
byte generation = 1;

/* T */
byte copy[4];		/* [copy][slot] */
byte epoch;

/* What is true: what each epoch's fold summed, and the adds of slot 0's owner. */
byte summed[2 * (FOLDS + 2)];

proctype writer()
{
	byte left = ADDS;

	do
	:: left > 0 ->
		left--;
		if
		:: cell[0]++
		:: cell[1]++
		fi
	:: else -> break
	od
}

proctype reader()
{
	byte left = READS, e, v0, v1, g, last, last_g;

	do
	:: left > 0 ->
		left--;
again:
		g = generation;
		e = epoch;
		v0 = copy[(e & 1) * 2];
		v1 = copy[(e & 1) * 2 + 1];
#ifndef NO_EPOCH_CHECK
		if
		:: e != epoch -> goto again
		:: else
		fi;
#endif
		assert(v0 == summed[e * 2] && v1 == summed[e * 2 + 1]);
		assert(v1 >= last);
		/* Through a handle: a value of the member that it was got for. */
		if
		:: g == generation && (g & 1) -> assert(g == 1 || v0 <= cell[0])
		:: else
		fi;
		atomic { last = v1; g = 0; e = 0; v0 = 0; v1 = 0 }
	:: else -> break
	od
}

#define STEP(x) \
	if \
	:: atomic { x } \
	:: atomic { crashes > 0 -> crashes--; goto restart } \
	fi

#ifdef IN_PLACE
#define other (epoch & 1)
#else
#define other ((epoch + 1) & 1)
#endif
#ifdef AGAINST_CURRENT
#define differs(slot) (sum[slot] != copy[(epoch & 1) * 2 + slot])
#else
#define differs(slot) (sum[slot] != copy[other * 2 + slot])
#endif

inline store(slot)
{
	if
	:: differs(slot) -> STEP(copy[other * 2 + slot] = sum[slot])
	:: else
	fi
}

inline fold()
{
	sum[0] = cell[0];
	sum[1] = cell[1];
#ifdef EPOCH_FIRST
	STEP(epoch++; summed[epoch * 2] = sum[0]; summed[epoch * 2 + 1] = sum[1]);
	if
	:: sum[0] != copy[(epoch & 1) * 2] -> STEP(copy[(epoch & 1) * 2] = sum[0])
	:: else
	fi;
	if
	:: sum[1] != copy[(epoch & 1) * 2 + 1] -> STEP(copy[(epoch & 1) * 2 + 1] = sum[1])
	:: else
	fi;
#else
	store(0);
	store(1);
	STEP(epoch++; summed[epoch * 2] = sum[0]; summed[epoch * 2 + 1] = sum[1]);
#endif
	sum[0] = 0;
	sum[1] = 0
}

active proctype worker()
{
	byte folds = FOLDS, crashes = CRASHES, sum[2];

	atomic { run writer(); run reader() };
again:
	do
	:: folds > 0 -> folds--; fold()
	/* What slot 0 held goes to another slot; nothing is left for its next owner. */
	:: generation == 1 -> atomic { generation = 2; cell[0] = 0 }
#ifdef REUSE_EARLY
	:: generation == 2 -> generation = 3
#else
	:: generation == 2 && copy[0] == 0 && copy[2] == 0 -> generation = 3
#endif
	:: folds == 0 -> break
	od;
	goto ended;
restart:
	sum[0] = 0;
	sum[1] = 0;
	goto again;
ended:
	skip
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lease, fencing, lock and recovery of N hosts that share one LUN (DESIGN sections 4 to 7), for the
 * model checker Spin. One lock that guards one payload; a slot and a journal for each host; any number
 * of beats, hand-overs and commits; a bounded number of faults (crash, stall, answer lost, restart).
 * run.py says which sizes are checked; README.md what is left out and how to read a counterexample.
 *
 * Two abstractions make an endless protocol finite without weakening it:
 *
 * - Images. Each image set by ATS is unique, so a test image matches if, and only if, the sector was
 *   not changed since it was read. So no image numbers are kept, but one bit for each image that
 *   somebody remembers: is it still the one that stands there? Likewise for possessions (is the one
 *   that this was made in still the present one?) and for versions of the payload (is it the one that
 *   was committed last?).
 * - Time. A lease is GOOD, LAST (less than the I/O deadline is left) or OVER and passes from one to
 *   the next at any moment. A host may be judged dead when the lease that counts from the submission
 *   of the beat that stands in its slot is OVER. The code waits longer (from the end of a read that
 *   showed the beat, and a drift allowance), so more is allowed to the others here than there.
 *
 * Every option of a process is one step; between two steps a host may pause for any time. A command
 * is checked (gate, lease, judgement) in one step and lands in another.
 *
 * FENCE_PR=1: the device refuses what an unregistered host sends, PREEMPT AND ABORT drops what is
 * under way, and nothing is assumed of time. FENCE_PR=0 (timer): a plain write that passed the gate
 * lands within the I/O deadline or never; an ATS may land at any time.
 */
#ifndef N
#define N 2
#endif
#ifndef FENCE_PR
#define FENCE_PR 1
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef STALLS
#define STALLS 1
#endif
#ifndef LATES
#define LATES 1
#endif
#ifndef RESTARTS
#define RESTARTS 0
#endif
#ifndef WORKERS
#define WORKERS 7 /* a bit for each host that has operations; the others only beat and recover */
#endif

#if N == 2
#define EACH_HOST(x) x(0); x(1)
#define ANY_HOST(x) (x(0) || x(1))
#define COLUMN 5
#else
#define EACH_HOST(x) x(0); x(1); x(2)
#define ANY_HOST(x) (x(0) || x(1) || x(2))
#define COLUMN 73
#endif

/* Sets of hosts, and of (host, slot) pairs, are bits of one number. */
#define HAS(set, b) (((set) >> (b)) & 1)
#define ADD(set, b) set = set | (1 << (b))
#define DEL(set, b) set = set & ~(1 << (b))
#define PUT(set, b, v) set = (set & ~(1 << (b))) | ((v) << (b))
#define JOB(h, s) ((h) * N + (s))
#define JOBS_ON(s) (COLUMN << (s))		  /* of all hosts for one slot */
#define JOBS_OF(h) (((1 << N) - 1) << ((h) * N)) /* of one host for all slots */

/* ---- the device -------------------------------------------------------------------------------- */

/* The host table (fs/cluster/slot.c). Host h uses slot h. */
#define FREE 0
#define LIVE 1
#define RECOVERING 2
byte slot[N];	  /* state */
byte slot_gen[N]; /* generation */
byte slot_by[N];  /* RECOVERING: by this host ... */
byte slot_byg[N]; /* ... in this generation of its own */

/* The lock record (fs/cluster/record.c): owner id of the exclusive holder, or nobody. */
#define NOBODY N
byte owner = NOBODY;
byte owner_gen;

/* The payload, in place: is it the image that was committed last? */
bit place_newest = 1;

/* The journals (fs/txn/commit.c): the payload's image in each. */
byte log_gen[N];  /* nonce in the header: the generation that wrote it, 0 = none */
byte log_poss;	  /* is its possession the present one? */
byte log_newest;  /* is it the image that was committed last? */

/* The request board (fs/cluster/board.c): generation of the host that wants the lock, 0 = no wish. */
byte wish[N];

/* Persistent reservations: hosts whose present incarnation is registered. */
byte keys;

/* ATS whose author waits no more, or is gone: one for each host. */
#define NONE 0
#define L_LOCK 1
#define L_BEAT 2
#define L_TAKE 3
#define L_FREE 4
byte late[N];
byte late_match; /* does its test image still stand? */
byte late_on[N]; /* L_LOCK: the owner that it sets; L_TAKE, L_FREE: the slot */
byte late_gen[N];

/* ---- the hosts ---------------------------------------------------------------------------------- */

byte up; /* hosts that run; what is below is lost in a crash, but for what is on its way */
byte gen[N];

#define GOOD 0
#define LAST 1
#define OVER 2
byte lease[N]; /* counts from the submission of the last beat that was answered */
#define B_NONE 0
#define B_SENT 1
#define B_LANDED 2
byte beat[N];
byte beat_lease[N]; /* counts from the submission of the beat under way */

/* The lock layer of a host, one operation after the other. */
#define DONE 0	 /* no operation will ever want the lock again */
#define IDLE 1
#define READ 2	 /* wants it; about to read its record */
#define JUDGE 3	 /* has read the record */
#define TAKE 4	 /* past the gate; the ATS that takes it is on its way */
#define SETTLE 5 /* fate unknown: neither held nor free */
#define RENEW 6	 /* the ATS that settles it is on its way */
#define HELD 7	 /* an operation begins under the lock */
#define CACHED 8 /* held, not in use */
#define COMMIT 9 /* past the gate; the journal write is on its way */
#define PLACE 10 /* past the gate; the checkpoint's write is on its way */
#define GIVE 11	 /* past the gate; the ATS that gives it up is on its way */
byte pc[N];
byte known;		   /* hosts whose copy of the lock record is what stands there */
byte seen[N], seen_gen[N]; /* JUDGE: the owner in that copy */
byte heir[N], heir_gen[N]; /* GIVE: to whom */
byte dirty;		   /* hosts with an image committed and not yet in place */

/* A plain write of a host's own, on its way. */
#define W_LOG 1
#define W_PLACE 2
byte flying[N];
byte fly_poss, fly_newest;

/* The recovery of slot s by host h (fs/cluster/recover.c, fs/txn/replay.c). */
#define R_NONE 0
#define R_TAKE 1 /* judged dead; the ATS to RECOVERING is on its way */
#define R_FENCE 2
#define R_SCAN 3  /* about to read the journal and the guard */
#define R_RENEW 4 /* the guard's fresh image is on its way */
#define R_WRITE 5
#define R_LAND 6  /* past the gate; the payload is on its way */
#define R_CHECK 7
#define R_FREE 8  /* the ATS to FREE is on its way */
byte job[N * N];
byte job_dead[N * N]; /* the generation that is recovered */
byte job_too[N * N];  /* the recoverer that died over it and is fenced as well, and its generation; 0 = none */
short job_test;	      /* TAKE: the test image still stands */
short job_ours;	      /* our RECOVERING image still stands */
short job_guard;      /* the guard is as it was read */
short job_poss, job_newest; /* of the image to be replayed */
short orphan;	      /* a payload on its way whose author is gone */

byte crashes = CRASHES, stalls = STALLS, lates = LATES, restarts = RESTARTS;

/* ---- words ---------------------------------------------------------------------------------------- */

#define UP(h) HAS(up, h)
#define LEASE_OK(h) (lease[h] != OVER)

#if FENCE_PR
#define GATE(h) (lease[h] != OVER) /* fs/cluster/host.c host_write_gate(), settle.c lock_gate() */
#define REFUSED(h) (!HAS(keys, h))
#define NEXT(phase) OVER
#else
#define GATE(h) (lease[h] == GOOD)
#define REFUSED(h) false
#define NEXT(phase) ((phase) + 1)
#endif

/* Does h answer and write as the exclusive holder? */
#define ACTS(h) (UP(h) && LEASE_OK(h) && pc[h] >= HELD && pc[h] <= PLACE)
#define MINE(h) (owner == h && owner_gen == gen[h])
#define MINE_SEEN(h) (seen[h] == h && seen_gen[h] == gen[h])

/* Over for ever (fs/cluster/owner.c); gone from its live generation (watch.c recoverer_over()). */
#define IS_OVER(h, g) (slot_gen[h] > (g) || (slot_gen[h] == (g) && slot[h] == FREE))
#define LEFT_LIVE(h, g) (slot_gen[h] > (g) || (slot_gen[h] == (g) && slot[h] != LIVE))

/* A wish of a host that lives as far as its slot says: fs/cluster/board.c board_wishes_for() */
#define WISHES(j, h) (h != j && wish[j] && slot[j] == LIVE && slot_gen[j] == wish[j])
#define WISHED(h) (WISHES(0, h) || WISHES(1, h) || WISHES(N - 1, h))

#define REPLAYING(h, s) (job[JOB(h, s)] == R_LAND || HAS(orphan, JOB(h, s)))
#define ON_ITS_WAY(h) (flying[h] || REPLAYING(h, 0) || REPLAYING(h, 1) || REPLAYING(h, N - 1))

/* Its answer is lost, or it lands after its author's end. */
#define CAN_BE_LATE(h) (lates > 0 && late[h] == NONE)

/* The mutations, M_...: each makes one of these words, or one step below, weaker. */
#ifdef M_PLAIN_LOCK
#define MATCH_LOCK(x) true
#else
#define MATCH_LOCK(x) (x)
#endif
#ifdef M_PLAIN_SLOT
#define MATCH_SLOT(x) true
#else
#define MATCH_SLOT(x) (x)
#endif
#ifdef M_RELEASE_BEFORE_CHECKPOINT
#define IN_PLACE(h) true
#else
#define IN_PLACE(h) (!HAS(dirty, h))
#endif
#ifdef M_RECOVERING_IS_STALE
#define STALE(h, g) LEFT_LIVE(h, g)
#else
#define STALE(h, g) IS_OVER(h, g)
#endif
#ifdef M_EARLY
#define LEASE_SEEN_OVER(s) true
#else /* watch.c watch_dead() */
#define LEASE_SEEN_OVER(s) ((beat[s] == B_LANDED -> beat_lease[s] : lease[s]) == OVER)
#endif
#if defined(M_TAKE_OVER_LIVE)
#define RECOVERER_OVER(s) LEASE_SEEN_OVER(slot_by[s])
#elif defined(M_NO_TAKE_OVER)
#define RECOVERER_OVER(s) false
#else
#define RECOVERER_OVER(s) LEFT_LIVE(slot_by[s], slot_byg[s])
#endif
#ifdef M_NO_POSSESSION
#define IMAGE_LIVE(s, g) (log_gen[s] == (g) && owner == s && owner_gen == (g))
#else /* guards.c still_held() */
#define IMAGE_LIVE(s, g) (log_gen[s] == (g) && HAS(log_poss, s))
#endif
#ifdef M_UNBOUNDED_WRITES
#define MAY_END(h) true
#else /* the timer's assumption */
#define MAY_END(h) (!ON_ITS_WAY(h))
#endif
#ifdef M_CLAIM_RECOVERING
#define MAY_CLAIM(h) (slot[h] != LIVE)
#else
#define MAY_CLAIM(h) (slot[h] == FREE)
#endif

/* ---- what is set, and who notices -------------------------------------------------------------------- */

/* Invariant 1: at most one host acts as exclusive holder. Checked wherever one becomes such. */
#if N == 2
#define ONE_HOLDER assert(ACTS(0) + ACTS(1) <= 1)
#else
#define ONE_HOLDER assert(ACTS(0) + ACTS(1) + ACTS(2) <= 1)
#endif

#define FORGET_LOCK(h) late_match = (late[h] == L_LOCK -> late_match & ~(1 << (h)) : late_match)

/* The lock sector was set: nobody's test image stands any more. */
inline lock_changes()
{
	known = 0;
	job_guard = 0;
	EACH_HOST(FORGET_LOCK)
}

inline set_owner(xh, xg)
{
	owner = xh;
	owner_gen = xg;
	log_poss = 0;
	fly_poss = 0;
	job_poss = 0;
#ifndef M_NO_POSSESSION
	log_newest = 0; /* never looked at again */
#endif
	lock_changes()
}

#define ON_SLOT(h, s) (late[h] == L_BEAT && s == h || late[h] >= L_TAKE && late_on[h] == s)

inline slot_changes(xsl)
{
	job_test = job_test & ~JOBS_ON(xsl);
	job_ours = job_ours & ~JOBS_ON(xsl);
	late_match = (ON_SLOT(0, xsl) -> late_match & ~1 : late_match);
	late_match = (ON_SLOT(1, xsl) -> late_match & ~2 : late_match);
#if N > 2
	late_match = (ON_SLOT(2, xsl) -> late_match & ~4 : late_match)
#endif
}

inline set_slot(xsl, xstate, xby, xbyg)
{
	slot[xsl] = xstate;
	slot_by[xsl] = xby;
	slot_byg[xsl] = xbyg;
	slot_changes(xsl)
}

/* No lost recovery: what the dead committed under a guard that it still holds is in place. */
inline set_free(xsl)
{
	assert(log_gen[xsl] != slot_gen[xsl] || !HAS(log_poss, xsl) || !HAS(log_newest, xsl) || place_newest);
	set_slot(xsl, FREE, 0, 0)
}

/* Something newer than all before it now stands in the journal of xh. */
inline newest_of_all(xh)
{
	place_newest = 0;
	fly_newest = 0;
	job_newest = 0;
	log_newest = 1 << xh
}

/* ---- plain writes land ---------------------------------------------------------------------------------- */

inline drop_write(xh)
{
	flying[xh] = NONE;
	DEL(fly_poss, xh);
	DEL(fly_newest, xh)
}

/* Invariants 2 and 3: the writer holds the guard; nobody who is recovered, or fenced, writes. */
inline land_write(xh)
{
	assert(HAS(fly_poss, xh));
	if
	:: flying[xh] == W_LOG ->
		newest_of_all(xh);
		ADD(log_poss, xh);
		log_gen[xh] = gen[xh]
	:: else -> place_newest = HAS(fly_newest, xh)
	fi;
	drop_write(xh)
}

/* A host that may replay slot s, for it has fenced whoever did before. */
#define REPLAYS(h, s) (job[JOB(h, s)] >= R_SCAN && HAS(job_ours, JOB(h, s)))
#define ELSE_REPLAYS(h, s) (h != 0 && REPLAYS(0, s) || h != 1 && REPLAYS(1, s) || h != N - 1 && REPLAYS(N - 1, s))

/* A replayed payload: the dead host holds the guard still, and no two replay at once. */
inline land_replay(xh, xsl)
{
	assert(HAS(job_poss, JOB(xh, xsl)) && slot[xsl] == RECOVERING);
	assert(!ELSE_REPLAYS(xh, xsl));
	place_newest = HAS(job_newest, JOB(xh, xsl));
	DEL(job_poss, JOB(xh, xsl));
	DEL(job_newest, JOB(xh, xsl))
}

/* ---- a command is late, or refused ------------------------------------------------------------------------- */

inline make_late(xh, xwhat, xmatch, xon, xg)
{
	lates--;
	late[xh] = xwhat;
	PUT(late_match, xh, xmatch);
	late_on[xh] = xon;
	late_gen[xh] = xg
}

inline forget_late(xh)
{
	late[xh] = NONE;
	DEL(late_match, xh);
	late_on[xh] = 0;
	late_gen[xh] = 0
}

inline land_late(xh)
{
	if
	:: late[xh] == L_LOCK && MATCH_LOCK(HAS(late_match, xh)) ->
		set_owner(late_on[xh], late_gen[xh])
	:: late[xh] == L_BEAT && MATCH_SLOT(HAS(late_match, xh)) ->
		slot_gen[xh] = late_gen[xh];
		set_slot(xh, LIVE, 0, 0)
	:: late[xh] == L_TAKE && MATCH_SLOT(HAS(late_match, xh)) ->
		set_slot(late_on[xh], RECOVERING, xh, late_gen[xh])
	:: late[xh] == L_FREE && MATCH_SLOT(HAS(late_match, xh)) -> set_free(late_on[xh])
	:: else
	fi;
	forget_late(xh)
}

/* RESERVATION CONFLICT: nothing more is started until the beat has found out why. host_conflict() */
inline refused(xh)
{
	lease[xh] = OVER
}

/* ---- a host ends ------------------------------------------------------------------------------------------- */

#define END_JOB(j)                                                                                 \
	orphan = (job[j] == R_LAND -> orphan | (1 << (j)) : orphan);                               \
	job[j] = R_NONE;                                                                           \
	job_dead[j] = 0;                                                                           \
	job_too[j] = 0

/* Crash, or LOST: memory is gone; what is on its way stays on its way. */
inline host_ends(xh)
{
	DEL(up, xh);
	lease[xh] = (beat[xh] == B_LANDED -> beat_lease[xh] : lease[xh]);
	beat[xh] = B_NONE;
	beat_lease[xh] = 0;
	pc[xh] = DONE;
	DEL(known, xh);
	DEL(dirty, xh);
	seen[xh] = 0;
	seen_gen[xh] = 0;
	heir[xh] = 0;
	heir_gen[xh] = 0;
	END_JOB(JOB(xh, 0));
	END_JOB(JOB(xh, 1));
	END_JOB(JOB(xh, N - 1));
	job_test = job_test & ~JOBS_OF(xh);
	job_ours = job_ours & ~JOBS_OF(xh);
	job_guard = job_guard & ~JOBS_OF(xh);
	job_poss = job_poss & (~JOBS_OF(xh) | orphan);
	job_newest = job_newest & (~JOBS_OF(xh) | orphan)
}

/* PREEMPT AND ABORT of an incarnation's key, its nonce (fs/cluster/pr.c pr_fence()). */
inline preempt(xh, xg)
{
	if
	:: gen[xh] == xg ->
		DEL(keys, xh);
		drop_write(xh);
		forget_late(xh);
		job_poss = job_poss & ~(orphan & JOBS_OF(xh));
		job_newest = job_newest & ~(orphan & JOBS_OF(xh));
		orphan = orphan & ~JOBS_OF(xh)
	:: else
	fi
}

/* ---- the beat: fs/cluster/beat.c ----------------------------------------------------------------------------- */

#define BEAT_MATCHES(h) (!REFUSED(h) && slot[h] == LIVE && slot_gen[h] == gen[h])

/* recover_renew(): a resumption first renews the recoveries that are past TAKE and before FREE. */
#define STOLEN(j) (job[j] >= R_FENCE && job[j] <= R_CHECK && !HAS(job_ours, j))
#define RENEWAL_FAILS(h) (lease[h] == OVER && (STOLEN(JOB(h, 0)) || STOLEN(JOB(h, 1)) || STOLEN(JOB(h, N - 1))))

proctype beater(byte h)
{
	do
	/*
	 * beat_once(): the new lease counts from here. A beat in good time changes nothing for anybody,
	 * so one is sent only when the lease is not GOOD any more.
	 */
	:: d_step { UP(h) && beat[h] == B_NONE && lease[h] != GOOD ->
#ifdef M_RESUME_UNCHECKED
		lease[h] = GOOD;
		ONE_HOLDER
#else
		beat[h] = B_SENT;
		beat_lease[h] = GOOD
#endif
	   }
	/* The ATS lands on our own live image; else slot_changed(), why_refused(): LOST. */
	:: d_step { UP(h) && beat[h] == B_SENT ->
		if
		:: MATCH_SLOT(BEAT_MATCHES(h)) ->
			slot_gen[h] = gen[h];
			set_slot(h, LIVE, 0, 0);
			beat[h] = B_LANDED
		:: else -> host_ends(h)
		fi
	   }
	/* No answer; the next beat tries again, over whichever image of ours then stands. */
	:: d_step { UP(h) && beat[h] == B_SENT && BEAT_MATCHES(h) && CAN_BE_LATE(h) ->
		make_late(h, L_BEAT, 1, 0, gen[h]);
		beat[h] = B_NONE
	   }
	/* beat_stands() */
	:: d_step { UP(h) && beat[h] == B_LANDED ->
		if
#ifndef M_NO_RENEWAL
		:: RENEWAL_FAILS(h) -> host_ends(h)
#endif
		:: else ->
#ifdef M_LEASE_FROM_ANSWER
			lease[h] = GOOD;
#else
			lease[h] = beat_lease[h];
#endif
			beat[h] = B_NONE;
			beat_lease[h] = 0;
			ONE_HOLDER
		fi
	   }
	od
}

/* ---- the lock: fs/cluster/acquire.c, settle.c, revoke.c -------------------------------------------------------- */

/* What the next state has no use for is forgotten: fewer states for the checker. */
inline go(xh, xwhere)
{
	pc[xh] = xwhere;
	seen[xh] = 0;
	seen_gen[xh] = 0;
	heir[xh] = 0;
	heir_gen[xh] = 0;
	known = (pc[xh] < TAKE || pc[xh] == SETTLE -> known & ~(1 << xh) : known)
}

inline holds(xh)
{
	go(xh, HELD);
	wish[xh] = 0;
	ONE_HOLDER
}

/* The record is ours, or it is not: adopt() */
inline adopt(xh)
{
	if
	:: MINE(xh) -> holds(xh)
	:: else -> go(xh, (wish[xh] -> READ : IDLE))
	fi
}

inline give_to(xh, xto, xg)
{
	pc[xh] = GIVE;
	heir[xh] = xto;
	heir_gen[xh] = xg
}

inline start_write(xh, xwhat, xpc)
{
	flying[xh] = xwhat;
	PUT(fly_poss, xh, MINE(xh));
	pc[xh] = xpc
}

proctype worker(byte h)
{
	do
	:: d_step { UP(h) && pc[h] == IDLE -> pc[h] = READ }
	:: d_step { UP(h) && pc[h] == IDLE && h != 0 -> pc[h] = DONE }
#ifndef M_NO_PROBE
	/* Asked for a lock that nobody here knows of: lock_probe() */
	:: d_step { UP(h) && pc[h] == DONE && WISHED(h) && MINE(h) -> pc[h] = READ }
#endif
	/* lock_read() */
	:: d_step { UP(h) && pc[h] == READ ->
		seen[h] = owner;
		seen_gen[h] = owner_gen;
		ADD(known, h);
		pc[h] = JUDGE
	   }
	/* notice_grant(): asked for, and there it stands in our name */
	:: d_step { UP(h) && pc[h] == JUDGE && LEASE_OK(h) && MINE_SEEN(h) && wish[h] -> holds(h) }
	/* judge(): nobody is in the way, or it is ours and nobody here knew */
	:: d_step { UP(h) && pc[h] == JUDGE && GATE(h) && seen[h] == NOBODY -> go(h, TAKE) }
	:: d_step { UP(h) && pc[h] == JUDGE && GATE(h) && MINE_SEEN(h) && !wish[h] -> go(h, TAKE) }
	/* Somebody is: his slot is read after the record (fs/cluster/owner.c) */
	:: d_step { UP(h) && pc[h] == JUDGE && GATE(h) && seen[h] != NOBODY && !MINE_SEEN(h) ->
		assert(slot_gen[seen[h]] >= seen_gen[h]);
		if
		:: STALE(seen[h], seen_gen[h]) -> go(h, TAKE)
		:: else ->
			if
			:: slot[seen[h]] == LIVE -> wish[h] = gen[h]; go(h, READ) /* V_ASK */
			:: else -> go(h, READ)					  /* V_WAIT */
			fi
		fi
	   }
	/* Gives up: a time-out, a signal, or it was only a try. */
	:: d_step { UP(h) && pc[h] == JUDGE && h != 0 && seen[h] != NOBODY && !MINE_SEEN(h) ->
		wish[h] = 0;
		go(h, IDLE)
	   }
	/* take() */
	:: d_step { UP(h) && pc[h] == TAKE ->
		if
		:: REFUSED(h) -> refused(h); go(h, READ)
		:: !REFUSED(h) && MATCH_LOCK(HAS(known, h)) ->
			set_owner(h, gen[h]);
			ADD(known, h);
			holds(h)
		:: else -> go(h, READ)
		fi
	   }
	:: d_step { UP(h) && pc[h] == TAKE && !REFUSED(h) && CAN_BE_LATE(h) ->
		make_late(h, L_LOCK, HAS(known, h), h, gen[h]);
		go(h, SETTLE)
	   }
	/* lock_settle(): a read, then a fresh image over what stands there, whatever it is */
	:: d_step { UP(h) && pc[h] == SETTLE && GATE(h) ->
		ADD(known, h);
#ifdef M_READ_SETTLES
		adopt(h)
#else
		pc[h] = RENEW
#endif
	   }
	:: d_step { UP(h) && pc[h] == RENEW ->
		if
		:: REFUSED(h) -> refused(h); go(h, SETTLE)
		:: !REFUSED(h) && HAS(known, h) ->
			lock_changes();
			ADD(known, h);
			adopt(h)
		:: else -> go(h, SETTLE)
		fi
	   }
	/* An operation reads the payload, or the cached copy that is ahead of it. Invariants 4 and 7. */
	:: d_step { UP(h) && pc[h] == HELD && LEASE_OK(h) ->
		assert(HAS(dirty, h) -> HAS(log_newest, h) : place_newest);
		pc[h] = CACHED
	   }
	/* It changes the payload, and commits: commit_main() */
	:: d_step { UP(h) && pc[h] == HELD && GATE(h) && !flying[h] ->
		assert(HAS(dirty, h) -> HAS(log_newest, h) : place_newest);
		start_write(h, W_LOG, COMMIT)
	   }
	:: d_step { UP(h) && pc[h] == COMMIT ->
		if
		:: REFUSED(h) -> refused(h); drop_write(h)
		:: else -> land_write(h); ADD(dirty, h)
		fi;
		pc[h] = CACHED
	   }
	/* Nobody else wants the lock: more operations. */
	:: d_step { UP(h) && pc[h] == CACHED && !WISHED(h) && LEASE_OK(h) -> pc[h] = HELD }
	/* The committed image is written in place: fs/txn/checkpoint.c run_pass_locked() */
	:: d_step { UP(h) && pc[h] == CACHED && HAS(dirty, h) && GATE(h) && !flying[h] ->
		PUT(fly_newest, h, HAS(log_newest, h));
		start_write(h, W_PLACE, PLACE)
	   }
	:: d_step { UP(h) && pc[h] == PLACE ->
		if
		:: REFUSED(h) -> refused(h); drop_write(h)
		:: else -> land_write(h); DEL(dirty, h)
		fi;
		pc[h] = CACHED
	   }
#ifdef M_NO_DRAIN
	/* No answer: on with it as if it had landed, without fs/cluster/io.c drain() */
	:: d_step { UP(h) && pc[h] == PLACE && lates > 0 -> lates--; DEL(dirty, h); pc[h] = CACHED }
#endif
	/* The reaper's release, or give_ex() to one who waits. */
	:: d_step { UP(h) && pc[h] == CACHED && GATE(h) && IN_PLACE(h) && !WISHED(h) -> give_to(h, NOBODY, 0) }
	:: d_step { UP(h) && pc[h] == CACHED && GATE(h) && IN_PLACE(h) && WISHES(0, h) -> give_to(h, 0, wish[0]) }
	:: d_step { UP(h) && pc[h] == CACHED && GATE(h) && IN_PLACE(h) && WISHES(1, h) -> give_to(h, 1, wish[1]) }
#if N > 2
	:: d_step { UP(h) && pc[h] == CACHED && GATE(h) && IN_PLACE(h) && WISHES(2, h) -> give_to(h, 2, wish[2]) }
#endif
	:: d_step { UP(h) && pc[h] == GIVE ->
		if
		:: REFUSED(h) -> refused(h); go(h, CACHED)
		:: !REFUSED(h) && MATCH_LOCK(HAS(known, h)) ->
			set_owner(heir[h], heir_gen[h]);
			go(h, IDLE)
		:: else -> go(h, IDLE) /* lock-lost */
		fi
	   }
	:: d_step { UP(h) && pc[h] == GIVE && !REFUSED(h) && CAN_BE_LATE(h) ->
		make_late(h, L_LOCK, HAS(known, h), heir[h], heir_gen[h]);
		go(h, SETTLE)
	   }
	od
}

/* ---- recovery: fs/cluster/watch.c, recover.c, fence.c, pr.c, guards.c; fs/txn/replay.c --------------------------- */

#define OWN_RECOVERY(h, s) (slot_by[s] == h && slot_byg[s] == gen[h])

inline job_ends(xj)
{
	job[xj] = R_NONE;
	job_dead[xj] = 0;
	job_too[xj] = 0;
	DEL(job_test, xj);
	DEL(job_ours, xj);
	DEL(job_guard, xj);
	DEL(job_poss, xj);
	DEL(job_newest, xj)
}

/* job_too: the recoverer and its generation as one number */
#define OWNER_ID(h, g) ((g) * N + (h))
#define ID_SLOT(id) ((id) % N)
#define ID_GEN(id) ((id) / N)

inline fence(xh, xsl)
{
#if FENCE_PR && !defined(M_NO_FENCE)
	preempt(xsl, job_dead[JOB(xh, xsl)]);
#ifndef M_TAKE_OVER_UNFENCED
	if
	:: job_too[JOB(xh, xsl)] && slot[ID_SLOT(job_too[JOB(xh, xsl)])] == RECOVERING &&
	   slot_gen[ID_SLOT(job_too[JOB(xh, xsl)])] == ID_GEN(job_too[JOB(xh, xsl)]) ->
		preempt(ID_SLOT(job_too[JOB(xh, xsl)]), ID_GEN(job_too[JOB(xh, xsl)]))
	:: else /* none, or it was fenced before it came there */
	fi;
#endif
#endif
	job_too[JOB(xh, xsl)] = 0;
#ifdef M_FREE_UNREPLAYED
	job[JOB(xh, xsl)] = R_CHECK
#else
	job[JOB(xh, xsl)] = R_SCAN
#endif
}

proctype recoverer(byte h; byte s)
{
	do
	/* find_dead(), recover_begin(): the record that was judged will be the test image. */
	:: d_step { UP(h) && job[JOB(h, s)] == R_NONE && LEASE_OK(h) && !HAS(orphan, JOB(h, s)) &&
		    (slot[s] == LIVE && LEASE_SEEN_OVER(s) ||
		     slot[s] == RECOVERING && (OWN_RECOVERY(h, s) || RECOVERER_OVER(s))) ->
		job[JOB(h, s)] = R_TAKE;
		job_dead[JOB(h, s)] = slot_gen[s];
		ADD(job_test, JOB(h, s));
		job_too[JOB(h, s)] = (slot[s] == RECOVERING && !OWN_RECOVERY(h, s) ->
						    OWNER_ID(slot_by[s], slot_byg[s]) : 0)
	   }
	/* take(): the first ATS decides which host does it. */
	:: d_step { UP(h) && job[JOB(h, s)] == R_TAKE ->
		if
		:: REFUSED(h) -> refused(h); job_ends(JOB(h, s))
		:: !REFUSED(h) && MATCH_SLOT(HAS(job_test, JOB(h, s))) ->
			set_slot(s, RECOVERING, h, gen[h]);
			ADD(job_ours, JOB(h, s));
			job[JOB(h, s)] = R_FENCE
		:: else -> job_ends(JOB(h, s))
		fi
	   }
	:: d_step { UP(h) && job[JOB(h, s)] == R_TAKE && !REFUSED(h) && CAN_BE_LATE(h) ->
		make_late(h, L_TAKE, HAS(job_test, JOB(h, s)), s, gen[h]);
		job_ends(JOB(h, s)) /* begun again with what then stands there */
	   }
	/* fence(): the dead host, and a recoverer that died over it */
	:: d_step { UP(h) && job[JOB(h, s)] == R_FENCE && LEASE_OK(h) ->
		if
		:: REFUSED(h) -> refused(h)
		:: else -> fence(h, s)
		fi
	   }
	/* journal_scan(), read_guards() */
	:: d_step { UP(h) && job[JOB(h, s)] == R_SCAN && LEASE_OK(h) ->
		if
		:: IMAGE_LIVE(s, job_dead[JOB(h, s)]) ->
			PUT(job_poss, JOB(h, s), HAS(log_poss, s));
			PUT(job_newest, JOB(h, s), HAS(log_newest, s));
#ifdef M_NO_GUARD_RENEWAL
			job[JOB(h, s)] = R_WRITE
#else
			ADD(job_guard, JOB(h, s));
			job[JOB(h, s)] = R_RENEW
#endif
		:: else -> job[JOB(h, s)] = R_CHECK
		fi
	   }
	/* locks_renew_guards(): a fresh image of the same possession; nothing late matches any more. */
	:: d_step { UP(h) && job[JOB(h, s)] == R_RENEW ->
		if
		:: REFUSED(h) -> refused(h); job[JOB(h, s)] = R_SCAN
		:: !REFUSED(h) && HAS(job_guard, JOB(h, s)) ->
			lock_changes();
			job[JOB(h, s)] = R_WRITE
		:: else -> job[JOB(h, s)] = R_SCAN
		fi
	   }
	/* write_live() */
	:: d_step { UP(h) && job[JOB(h, s)] == R_WRITE && GATE(h) -> job[JOB(h, s)] = R_LAND }
	:: d_step { UP(h) && job[JOB(h, s)] == R_LAND ->
		if
		:: REFUSED(h) -> refused(h); job[JOB(h, s)] = R_FENCE
		:: else -> land_replay(h, s); job[JOB(h, s)] = R_CHECK
		fi
	   }
	/* check(), set_free() */
	:: d_step { UP(h) && job[JOB(h, s)] == R_CHECK && LEASE_OK(h) -> job[JOB(h, s)] = R_FREE }
	:: d_step { UP(h) && job[JOB(h, s)] == R_FREE ->
		if
		:: REFUSED(h) -> refused(h)
		:: !REFUSED(h) && MATCH_SLOT(HAS(job_ours, JOB(h, s))) -> set_free(s)
		:: else
		fi;
		job_ends(JOB(h, s))
	   }
	:: d_step { UP(h) && job[JOB(h, s)] == R_FREE && !REFUSED(h) && CAN_BE_LATE(h) ->
		make_late(h, L_FREE, HAS(job_ours, JOB(h, s)), s, gen[h]);
		job[JOB(h, s)] = R_CHECK /* once more, over what then stands there */
	   }
	od
}

/* ---- time, faults, and commands that nobody waits for --------------------------------------------------------------- */

#if FENCE_PR
#define DRAINED(h) (!late[h] && !ON_ITS_WAY(h)) /* pr.c drain_old() */
#define LANDS(h) HAS(keys, h)
#else
#define DRAINED(h) (!ON_ITS_WAY(h)) /* an old ATS may be on its way for ever */
#define LANDS(h) true
#endif

/* FREE -> LIVE (fs/cluster/claim.c): a new generation, nonce and key. */
inline claim(xh)
{
	assert(!ELSE_REPLAYS(N, xh)); /* nobody claims a slot that is being recovered */
	slot_gen[xh]++;
	set_slot(xh, LIVE, 0, 0);
	gen[xh] = slot_gen[xh];
	ADD(up, xh);
	ADD(keys, xh);
	lease[xh] = GOOD;
	wish[xh] = 0;
	pc[xh] = ((WORKERS >> xh) & 1 -> IDLE : DONE)
}

inline land_orphan(xh, xsl)
{
	DEL(orphan, JOB(xh, xsl));
	land_replay(xh, xsl)
}

inline drop_orphan(xh, xsl)
{
	DEL(orphan, JOB(xh, xsl));
	DEL(job_poss, JOB(xh, xsl));
	DEL(job_newest, JOB(xh, xsl))
}

proctype world(byte h)
{
	do
	/* A host that runs stalls; one that does not is out of time sooner or later. */
	:: d_step { UP(h) && lease[h] == GOOD && stalls > 0 -> stalls--; lease[h] = NEXT(GOOD) }
	:: d_step { !UP(h) && lease[h] == GOOD -> lease[h] = NEXT(GOOD) }
	:: d_step { lease[h] == LAST && MAY_END(h) -> lease[h] = OVER }
	:: d_step { beat[h] && beat_lease[h] == GOOD && lease[h] > GOOD && stalls > 0 ->
		stalls--;
		beat_lease[h] = NEXT(GOOD)
	   }
	:: d_step { beat[h] && beat_lease[h] == LAST && lease[h] > LAST -> beat_lease[h] = OVER }
	/* It crashes, with or without an ATS on its way. */
	:: d_step { UP(h) && crashes > 0 -> crashes--; host_ends(h) }
	:: d_step { UP(h) && crashes > 0 && CAN_BE_LATE(h) && pc[h] == TAKE ->
		crashes--;
		make_late(h, L_LOCK, HAS(known, h), h, gen[h]);
		host_ends(h)
	   }
	:: d_step { UP(h) && crashes > 0 && CAN_BE_LATE(h) && pc[h] == GIVE ->
		crashes--;
		make_late(h, L_LOCK, HAS(known, h), heir[h], heir_gen[h]);
		host_ends(h)
	   }
	:: d_step { UP(h) && crashes > 0 && CAN_BE_LATE(h) && beat[h] == B_SENT && BEAT_MATCHES(h) ->
		crashes--;
		make_late(h, L_BEAT, 1, 0, gen[h]);
		host_ends(h)
	   }
	/* It comes back under its name, in its slot. */
	:: d_step { !UP(h) && restarts > 0 && MAY_CLAIM(h) && DRAINED(h) -> restarts--; claim(h) }
	/* What nobody waits for lands, or never will. */
	:: d_step { late[h] && LANDS(h) -> land_late(h) }
	:: d_step { late[h] -> forget_late(h) }
	:: d_step { flying[h] && pc[h] != COMMIT && pc[h] != PLACE && LANDS(h) -> land_write(h) }
	:: d_step { flying[h] && pc[h] != COMMIT && pc[h] != PLACE -> drop_write(h) }
	:: d_step { HAS(orphan, JOB(h, 0)) && LANDS(h) -> land_orphan(h, 0) }
	:: d_step { HAS(orphan, JOB(h, 1)) && LANDS(h) -> land_orphan(h, 1) }
	:: d_step { HAS(orphan, JOB(h, N - 1)) && LANDS(h) -> land_orphan(h, N - 1) }
	:: d_step { HAS(orphan, JOB(h, 0)) -> drop_orphan(h, 0) }
	:: d_step { HAS(orphan, JOB(h, 1)) -> drop_orphan(h, 1) }
	:: d_step { HAS(orphan, JOB(h, N - 1)) -> drop_orphan(h, N - 1) }
	od
}

init {
	byte h;
	atomic {
		claim(0);
		claim(1);
#if N > 2
		claim(2);
#endif
		do
		:: h < N ->
			run beater(h);
			run world(h);
			if
			:: (WORKERS >> h) & 1 -> run worker(h)
			:: else
			fi;
			if
			:: h != 0 -> run recoverer(h, 0)
			:: else
			fi;
			if
			:: h != 1 -> run recoverer(h, 1)
			:: else
			fi;
#if N > 2
			if
			:: h != 2 -> run recoverer(h, 2)
			:: else
			fi;
#endif
			h++
		:: else -> break
		od;
		h = 0
	}
}

/* Eventual acquisition: host 0 takes the lock that it wants, if it lives. */
#define WANTS (HAS(up, 0) && pc[0] >= READ && pc[0] < HELD)
#define TAKEN (!HAS(up, 0) || pc[0] >= HELD)
ltl acquired { [] (WANTS -> <> TAKEN) }

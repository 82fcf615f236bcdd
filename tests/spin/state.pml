/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What cluster.pml is about: the state of the device and of the hosts, the words for it, the mutations,
 * and what happens when a command lands. No process is in here.
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
#ifndef KEY_LOSSES
#define KEY_LOSSES 0
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

/* ---- the device ------------------------------------------------------------------------------ */

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

/* ---- the hosts ------------------------------------------------------------------------------- */

byte up; /* hosts that run; what is below is lost in a crash, but for what is on its way */
byte gen[N];

#define GOOD 0
#define LAST 1
#define OVER 2
byte lease[N]; /* counts from the submission of the last beat that was answered */
#define B_NONE 0
#define B_SENT 1
#define B_LANDED 2
#define B_RESTORE 3 /* refused, and yet our own live image stands: the registration got lost */
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

byte crashes = CRASHES, stalls = STALLS, lates = LATES, restarts = RESTARTS, key_losses = KEY_LOSSES;

/* ---- words ----------------------------------------------------------------------------------- */

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

#define AT_GATE(h) (pc[h] == COMMIT || pc[h] == PLACE)
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
/*
 * Who finds the lock free and loses the race for it, again and again, is starved by hosts that take it
 * and release it unasked each time in between: no protocol of test-and-set alone is fair there. So for
 * liveness what nobody asked for is released a bounded number of times, as any other mishap.
 */
#ifdef LIVENESS
#ifndef REAPS
#define REAPS 1
#endif
byte reaps = REAPS;
#define MAY_REAP (reaps > 0)
#define REAPED reaps--
#else
#define MAY_REAP true
#define REAPED skip
#endif
/* A lock goes to who did not ask (fs/cluster/queue.c); with three hosts that makes too many states. */
#ifndef QUEUES
#if N == 2
#define QUEUES 1
#else
#define QUEUES 0
#endif
#endif
#ifdef M_SEND_BEFORE_CHECKPOINT
#define SEND_IN_PLACE(h) true
#else
#define SEND_IN_PLACE(h) IN_PLACE(h)
#endif
#define SENDS(h, j) (h != j && slot[j] == LIVE && SEND_IN_PLACE(h) && !WISHED(h) && MAY_REAP)
#ifdef M_CLAIM_RECOVERING
#define MAY_CLAIM(h) (slot[h] != LIVE)
#else
#define MAY_CLAIM(h) (slot[h] == FREE)
#endif

/* ---- what is set, and who notices ------------------------------------------------------------ */

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

/* ---- plain writes land ----------------------------------------------------------------------- */

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
#define REPLAYS_TOO(j, h, s) (h != j && REPLAYS(j, s))
#define ELSE_REPLAYS(h, s) (REPLAYS_TOO(0, h, s) || REPLAYS_TOO(1, h, s) || REPLAYS_TOO(N - 1, h, s))

/* A replayed payload: the dead host holds the guard still, and no two replay at once. */
inline land_replay(xh, xsl)
{
	assert(HAS(job_poss, JOB(xh, xsl)) && slot[xsl] == RECOVERING);
	assert(!ELSE_REPLAYS(xh, xsl));
	place_newest = HAS(job_newest, JOB(xh, xsl));
	DEL(job_poss, JOB(xh, xsl));
	DEL(job_newest, JOB(xh, xsl))
}

/* ---- a command is late, or refused ----------------------------------------------------------- */

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

/* ---- a host ends ----------------------------------------------------------------------------- */

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
		if
		:: AT_GATE(xh) /* perhaps not sent yet: it will be refused, if the key is gone then */
		:: else -> drop_write(xh)
		fi;
		forget_late(xh);
		job_poss = job_poss & ~(orphan & JOBS_OF(xh));
		job_newest = job_newest & ~(orphan & JOBS_OF(xh));
		orphan = orphan & ~JOBS_OF(xh)
	:: else
	fi
}

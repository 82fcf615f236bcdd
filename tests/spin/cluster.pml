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
#include "state.pml"

/* ---- the beat: fs/cluster/beat.c ------------------------------------------------------------- */

#define BEAT_MATCHES(h) (!REFUSED(h) && slot[h] == LIVE && slot_gen[h] == gen[h])

/* recover_renew(): a resumption first renews the recoveries that are past TAKE and before FREE. */
#define STOLEN(j) (job[j] >= R_FENCE && job[j] <= R_CHECK && !HAS(job_ours, j))
#define ANY_STOLEN(h) (STOLEN(JOB(h, 0)) || STOLEN(JOB(h, 1)) || STOLEN(JOB(h, N - 1)))
#define RENEWAL_FAILS(h) (lease[h] == OVER && ANY_STOLEN(h))

/* Every write that passed the gate has come back to who sent it: host.c host_write_begin() */
#ifdef M_RESTORE_PAST_GATE
#define ALL_BACK(h) true
#else
#define ALL_BACK(h) (!ON_ITS_WAY(h))
#endif

/* What was found out before this host was registered anew proves nothing: recover.c check(), pr_epoch */
#define FENCE_AGAIN(j) job[j] = (job[j] >= R_SCAN && job[j] <= R_CHECK -> R_FENCE : job[j])

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
#if FENCE_PR
		:: REFUSED(h) && slot[h] == LIVE && slot_gen[h] == gen[h] -> beat[h] = B_RESTORE
#endif
		:: else -> host_ends(h)
		fi
	   }
#if KEY_LOSSES
	/* pr_restore(): nothing of ours is on its way; register; and beat before anything else is written */
	:: d_step { UP(h) && beat[h] == B_RESTORE && ALL_BACK(h) ->
		forget_late(h);
		ADD(keys, h);
		beat[h] = B_SENT;
		beat_lease[h] = GOOD;
		FENCE_AGAIN(JOB(h, 0));
		FENCE_AGAIN(JOB(h, 1));
		FENCE_AGAIN(JOB(h, N - 1))
	   }
#endif
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

/* ---- the lock: fs/cluster/acquire.c, settle.c, revoke.c -------------------------------------- */

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
	/* An operation wants the lock. */
	:: d_step { UP(h) && pc[h] == IDLE -> pc[h] = READ }
#if N == 2 || defined(ASK_BACK)
	/* It went to and fro before: the wish comes before the read. ask_back() */
	:: d_step { UP(h) && pc[h] == IDLE -> wish[h] = gen[h]; pc[h] = READ }
#endif
	/* None will, ever again. */
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
	/* notice_grant(): asked for, or waited for in the queue, and there it stands in our name */
	:: d_step { UP(h) && pc[h] == JUDGE && LEASE_OK(h) && MINE_SEEN(h) && (wish[h] || QUEUES) -> holds(h) }
	/* judge(): it is free; past the gate */
	:: d_step { UP(h) && pc[h] == JUDGE && GATE(h) && seen[h] == NOBODY -> go(h, TAKE) }
	/* judge(): it is ours, and nobody here knew; past the gate */
	:: d_step { UP(h) && pc[h] == JUDGE && GATE(h) && MINE_SEEN(h) && !wish[h] -> go(h, TAKE) }
	/* judge(): another's. His slot is read after the record (fs/cluster/owner.c): stale, wait or ask */
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
	/* take(): the ATS lands, or does not match */
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
	/* take(): no answer, fate unknown */
	:: d_step { UP(h) && pc[h] == TAKE && !REFUSED(h) && CAN_BE_LATE(h) ->
		make_late(h, L_LOCK, HAS(known, h), h, gen[h]);
		go(h, SETTLE)
	   }
	/* lock_settle(): a read */
	:: d_step { UP(h) && pc[h] == SETTLE && GATE(h) ->
		ADD(known, h);
#ifdef M_READ_SETTLES
		adopt(h)
#else
		pc[h] = RENEW
#endif
	   }
	/* lock_settle(): a fresh image over what stands there, whatever it is */
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
	/* An operation changes the payload; its commit is past the gate: commit_main() */
	:: d_step { UP(h) && pc[h] == HELD && GATE(h) && !flying[h] ->
		assert(HAS(dirty, h) -> HAS(log_newest, h) : place_newest);
		start_write(h, W_LOG, COMMIT)
	   }
	/* The journal write lands, or is refused. */
	:: d_step { UP(h) && pc[h] == COMMIT ->
		if
		:: REFUSED(h) -> refused(h); drop_write(h)
		:: else -> land_write(h); ADD(dirty, h)
		fi;
		pc[h] = CACHED
	   }
	/* Nobody else wants the lock: more operations. */
	:: d_step { UP(h) && pc[h] == CACHED && !WISHED(h) && LEASE_OK(h) -> pc[h] = HELD }
	/* The checkpoint of the committed image is past the gate: fs/txn/checkpoint.c run_pass_locked() */
	:: d_step { UP(h) && pc[h] == CACHED && HAS(dirty, h) && GATE(h) && !flying[h] ->
		PUT(fly_newest, h, HAS(log_newest, h));
		start_write(h, W_PLACE, PLACE)
	   }
	/* The checkpoint's write lands, or is refused. */
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
	/* In place; nobody waits: the reaper releases it. Past the gate */
	:: d_step { UP(h) && pc[h] == CACHED && GATE(h) && IN_PLACE(h) && !WISHED(h) && MAY_REAP ->
		REAPED;
		give_to(h, NOBODY, 0)
	   }
	/* In place; somebody waits: give_ex(). Past the gate */
	:: d_step { UP(h) && pc[h] == CACHED && GATE(h) && IN_PLACE(h) && WISHES(0, h) -> give_to(h, 0, wish[0]) }
	:: d_step { UP(h) && pc[h] == CACHED && GATE(h) && IN_PLACE(h) && WISHES(1, h) -> give_to(h, 1, wish[1]) }
#if N > 2
	:: d_step { UP(h) && pc[h] == CACHED && GATE(h) && IN_PLACE(h) && WISHES(2, h) -> give_to(h, 2, wish[2]) }
#endif
#if QUEUES
	/* In place; handed on unasked to a host that lived when it was looked: fs/cluster/queue.c. Past the gate */
	:: d_step { UP(h) && pc[h] == CACHED && GATE(h) && SENDS(h, 0) ->
		REAPED;
		give_to(h, 0, slot_gen[0])
	   }
	:: d_step { UP(h) && pc[h] == CACHED && GATE(h) && SENDS(h, 1) ->
		REAPED;
		give_to(h, 1, slot_gen[1])
	   }
#endif
	/* The ATS of a release or a hand-over lands, or does not match. */
	:: d_step { UP(h) && pc[h] == GIVE ->
		if
		:: REFUSED(h) -> refused(h); go(h, CACHED)
		:: !REFUSED(h) && MATCH_LOCK(HAS(known, h)) ->
			set_owner(heir[h], heir_gen[h]);
			go(h, IDLE)
		:: else -> go(h, IDLE) /* lock-lost */
		fi
	   }
	/* A release or a hand-over without an answer, fate unknown. */
	:: d_step { UP(h) && pc[h] == GIVE && !REFUSED(h) && CAN_BE_LATE(h) ->
		make_late(h, L_LOCK, HAS(known, h), heir[h], heir_gen[h]);
		go(h, SETTLE)
	   }
	od
}

/* ---- recovery: fs/cluster/watch.c, recover.c, fence.c, pr.c, guards.c; fs/txn/replay.c ------- */

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

#if FENCE_PR && !defined(M_NO_FENCE)
#define FENCED_STILL(h, s) (HAS(keys, h) && !(HAS(keys, s) && gen[s] == job_dead[JOB(h, s)]))
#else
#define FENCED_STILL(h, s) true
#endif

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
	/* take(): the ATS to RECOVERING lands, or does not match; it decides which host does it */
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
	/* take(): no answer */
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
	/* write_live(): past the gate */
	:: d_step { UP(h) && job[JOB(h, s)] == R_WRITE && GATE(h) -> job[JOB(h, s)] = R_LAND }
	/* write_live(): the payload lands, or is refused */
	:: d_step { UP(h) && job[JOB(h, s)] == R_LAND ->
		if
		:: REFUSED(h) -> refused(h); job[JOB(h, s)] = R_FENCE
		:: else -> land_replay(h, s); job[JOB(h, s)] = R_CHECK
		fi
	   }
	/* check(): is the dead fenced still, and was this host registered all the time? */
	:: d_step { UP(h) && job[JOB(h, s)] == R_CHECK && LEASE_OK(h) ->
		job[JOB(h, s)] = (FENCED_STILL(h, s) -> R_FREE : R_FENCE)
	   }
	/* set_free(): the ATS to FREE lands, or does not match */
	:: d_step { UP(h) && job[JOB(h, s)] == R_FREE ->
		if
		:: REFUSED(h) -> refused(h)
		:: !REFUSED(h) && MATCH_SLOT(HAS(job_ours, JOB(h, s))) -> set_free(s)
		:: else
		fi;
		job_ends(JOB(h, s))
	   }
	/* set_free(): no answer; once more, over what then stands there */
	:: d_step { UP(h) && job[JOB(h, s)] == R_FREE && !REFUSED(h) && CAN_BE_LATE(h) ->
		make_late(h, L_FREE, HAS(job_ours, JOB(h, s)), s, gen[h])
	   }
	od
}

/* ---- time, faults, and commands that nobody waits for ---------------------------------------- */

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
	/* A host stalls: its lease runs on without a beat. */
	:: d_step { UP(h) && lease[h] == GOOD && stalls > 0 -> stalls--; lease[h] = NEXT(GOOD) }
	/* The lease of a dead host runs on. */
	:: d_step { !UP(h) && lease[h] == GOOD -> lease[h] = NEXT(GOOD) }
	/* The lease is over. */
	:: d_step { lease[h] == LAST && MAY_END(h) -> lease[h] = OVER }
	/* So much time passes since a beat was submitted that the lease it stands for runs out, too. */
	:: d_step { beat[h] && beat_lease[h] == GOOD && lease[h] > GOOD && stalls > 0 ->
		stalls--;
		beat_lease[h] = NEXT(GOOD)
	   }
	:: d_step { beat[h] && beat_lease[h] == LAST && lease[h] > LAST -> beat_lease[h] = OVER }
	/* It crashes. */
	:: d_step { UP(h) && crashes > 0 -> crashes--; host_ends(h) }
	/* It crashes, with an ATS on its way. */
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
#ifdef LIVENESS
	/* No fault has to happen: else fairness would see to it that all do. */
	:: d_step { crashes + stalls + restarts > 0 ->
		crashes = 0;
		stalls = 0;
		restarts = 0
	   }
#endif
#if KEY_LOSSES
	/* Its registration gets lost: a reset of the target, another program. The reservation stands. */
	:: d_step { UP(h) && HAS(keys, h) && key_losses > 0 -> key_losses--; DEL(keys, h) }
#endif
	/* It comes back under its name, in its slot. */
	:: d_step { !UP(h) && restarts > 0 && MAY_CLAIM(h) && DRAINED(h) -> restarts--; claim(h) }
	/* A late ATS arrives. */
	:: d_step { late[h] && LANDS(h) -> land_late(h) }
	/* A late ATS never arrives. */
	:: d_step { late[h] -> forget_late(h) }
	/* A write whose author is gone lands, or never will. */
	:: d_step { flying[h] && !AT_GATE(h) && LANDS(h) -> land_write(h) }
	:: d_step { flying[h] && !AT_GATE(h) -> drop_write(h) }
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

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Giving a lock up because somebody asks for it: a small pool of revokers.
 *
 * The lock is made busy (no new pins, save LOCK_DRAIN ones while kernel caches are invalidated),
 * its pins drain (no thread waits for that: the last unpin queues the rest), what was cached
 * meanwhile is invalidated with only write-back admitted, what is dirty under it is committed and
 * written in place, and one ATS hands it straight to whoever has waited longest, with the others
 * noted as waiters. Whatever fails on the way leaves the lock here, to be tried again.
 */
#include "cluster/lock_impl.h"

#include "base/bitmap.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RACES_MAX 256u

/* ---- the queue ------------------------------------------------------------------------------ */

void work_init(struct locks *ls)
{
	struct workpool *p = &ls->work;

	mtx_init(&p->mtx, ls->env.clk);
	cond_init(&p->cond, ls->env.clk);
	cond_init(&p->reap_cond, ls->env.clk);
	TAILQ_INIT(&p->queue);
	TAILQ_INIT(&p->reap);
}

void work_destroy(struct locks *ls)
{
	cond_destroy(&ls->work.reap_cond);
	cond_destroy(&ls->work.cond);
	mtx_destroy(&ls->work.mtx);
}

static void revoker(void *arg);

static int add_revoker(struct locks *ls)
{
	struct workpool *p = &ls->work;
	int rc =
	    ls->env.clk->ops->task_start(ls->env.clk, "lock-revoke", revoker, ls, &p->task[p->n]);

	if (!rc)
		p->n++;
	return rc;
}

void work_queue(struct locks *ls, struct lock *l, enum lock_work what)
{
	struct workpool *p = &ls->work;

	if (atomic_load(&ls->stopping))
		return;
	if (l->queued) { /* nobody else ends what waited for the last pin */
		if (what == WORK_FINISH)
			l->queued = WORK_FINISH;
		return;
	}
	l->queued = (uint8_t)what;
	l->refs++;
	mtx_lock(&p->mtx);
	if (TAILQ_EMPTY(&p->queue))
		p->picked_ns = lock_now(ls);
	TAILQ_INSERT_TAIL(&p->queue, l, work);
	if (!p->idle && p->n < REVOKERS_MAX)
		add_revoker(ls);
	cond_signal(&p->cond);
	mtx_unlock(&p->mtx);
}

void work_wake(struct locks *ls)
{
	mtx_lock(&ls->work.mtx);
	cond_broadcast(&ls->work.cond);
	cond_broadcast(&ls->work.reap_cond);
	mtx_unlock(&ls->work.mtx);
}

/* ---- ready to go down ----------------------------------------------------------------------- */

static int drain_pins(struct locks *ls, struct lock *l, const struct waiter *w)
{
	struct stripe *s = table_stripe(ls, l->addr);
	int rc = 0;

	mtx_lock(&s->mtx);
	while (lock_pins(l) && !rc) {
		if (w)
			rc = waiter_ended(ls, w);
		else if (atomic_load(&ls->stopping))
			rc = -EIO;
		if (!rc)
			cond_wait(&l->cond, &s->mtx, CLOCK_FOREVER);
	}
	mtx_unlock(&s->mtx);
	return rc;
}

static void admit(struct locks *ls, struct lock *l, bool drain, bool late)
{
	struct stripe *s = table_stripe(ls, l->addr);

	mtx_lock(&s->mtx);
	if (drain)
		l->drained = lock_pins(l) != 0;
	l->drain_ok = drain;
	l->late_ok = late;
	lock_wake_all(l);
	mtx_unlock(&s->mtx);
}

/*
 * What the kernel may still write back must not come when others have changed the file. What it has
 * under a shared lock is not dirty.
 */
static int drop_caches(struct locks *ls, struct lock *l, enum lock_mode keep)
{
	int rc = ls->cb.invalidate(ls->cb.ctx, l->addr, keep);

	return l->held == LOCK_EX ? rc : 0;
}

static int invalidate(struct locks *ls, struct lock *l, enum lock_mode keep)
{
	int rc;

	if (!ls->cb.invalidate)
		return 0;
	admit(ls, l, true, true);
	if (ls->cb.prepare) {
		ls->cb.prepare(ls->cb.ctx, l->addr);
		admit(ls, l, true, true); /* what came and went by then has been before it */
	}
	rc = drop_caches(ls, l, keep);
	admit(ls, l, false, true);
	return rc;
}

/*
 * No pin is left. What was let in may have filled a cache behind the back of the invalidation, and
 * a store may have dirtied what was filled: once more, while write-back goes on.
 */
static int sweep(struct locks *ls, struct lock *l, enum lock_mode keep)
{
	int rc = l->drained ? drop_caches(ls, l, keep) : 0;

	admit(ls, l, false, false);
	return rc;
}

/* No pin is left, and none is admitted any more. */
static int flush(struct locks *ls, struct lock *l, enum lock_mode keep)
{
	return ls->cb.flush ? ls->cb.flush(ls->cb.ctx, l, keep) : 0;
}

int lock_retire(struct locks *ls, struct lock *l, enum lock_mode keep, const struct waiter *w)
{
	int rc = invalidate(ls, l, keep);

	if (!rc)
		rc = drain_pins(ls, l, w);
	if (!rc && l->late_ok) {
		rc = sweep(ls, l, keep);
		if (!rc)
			rc = drain_pins(ls, l, w);
	}
	admit(ls, l, false, false);
	return rc ? rc : flush(ls, l, keep);
}

/* ---- who gets it ---------------------------------------------------------------------------- */

struct grant {
	struct cand cand[BOARD_COLS];
	unsigned n;    /* all that wait */
	unsigned take; /* the first so many are served by this step */
	bool ex;       /* it is one, and gets it exclusively */
};

/* What the next step would be for a lock held EX. Only shared askers if @shared_only. */
static void plan_ex(struct locks *ls, struct lock *l, bool shared_only, struct grant *g)
{
	g->n = board_wishes_for(ls, l, g->cand);
	g->take = 0;
	g->ex = false;
	if (!g->n)
		return;
	if (g->cand[0].mode == LOCK_EX || g->cand[0].slot >= LUNFS_MAX_SLOTS) {
		g->ex = !shared_only;
		g->take = g->ex;
		return;
	}
	while (g->take < g->n && g->cand[g->take].mode == LOCK_SH &&
	       g->cand[g->take].slot < LUNFS_MAX_SLOTS)
		g->take++;
}

/* Somebody waited for it the last time it went, and he will be back in a moment this time, too. */
static bool comes_back(struct locks *ls, const struct lock *l)
{
	return l->again && lock_now(ls) < l->used_ns + TENURE_MIN_NS;
}

/* Does this host want the lock back exclusively, as far as it knows? */
static bool want_back(struct locks *ls, struct lock *l, const struct grant *g)
{
	struct stripe *s = table_stripe(ls, l->addr);
	bool yes;

	mtx_lock(&s->mtx);
	if (l->nwaiters)
		yes = TAILQ_FIRST(&l->waiters)->mode == LOCK_EX;
	else
		yes = l->used_ex && (comes_back(ls, l) ||
				     past_expects(table_past(s, l->addr, false), g->cand[0].asker));
	mtx_unlock(&s->mtx);
	return yes;
}

/* If all who wait want it exclusively, they are a queue. */
static void set_waiters(struct locks *ls, struct lock *l, struct lunfs_lock_rec *r,
			const struct grant *g)
{
	bool queue = g->ex;

	memset(r->waiters, 0, sizeof(r->waiters));
	for (unsigned i = g->take; i < g->n; i++) {
		queue &= g->cand[i].slot < LUNFS_MAX_SLOTS && g->cand[i].mode == LOCK_EX;
		if (g->cand[i].slot < LUNFS_MAX_SLOTS)
			bit_set(r->waiters, g->cand[i].slot);
	}
	if (!queue)
		return;
	if (want_back(ls, l, g))
		rec_note_self(r, ls->slot);
	rec_note_queue(r);
}

static void mark_served(struct locks *ls, struct lock *l, const struct grant *g)
{
	struct stripe *s = table_stripe(ls, l->addr);
	struct past *p;

	for (unsigned i = 0; i < g->take; i++)
		board_served(ls, l->addr, &g->cand[i]);
	mtx_lock(&s->mtx);
	p = table_past(s, l->addr, true);
	past_given(p, g->ex ? g->cand[0].asker : 0, l);
	p->noted = rec_place(&l->known, ls->slot) != 0;
	p->gave_ns = lock_now(ls);
	p->gave_seq = le64_get(l->known.hdr.image_seq);
	mtx_unlock(&s->mtx);
	LOCK_COUNT(ls, handed_over);
}

/* Was it of use that it was asked for exclusively? */
static void judge_eager(struct locks *ls, struct lock *l)
{
	struct stripe *s = table_stripe(ls, l->addr);
	struct past *p;

	mtx_lock(&s->mtx);
	p = l->eager && !l->used_ex ? table_past(s, l->addr, false) : NULL;
	if (p)
		p->upgrades = false;
	mtx_unlock(&s->mtx);
}

/* Who gets the lock must not meet an old wish of ours for it. */
static void sync_rows(struct locks *ls, const struct grant *g)
{
	for (unsigned i = 0; i < g->take; i++)
		wishes_sync(ls, g->cand[i].slot);
}

/* The ATS that takes an EX lock from us; @keep is what the flush was made for. */
static int give_ex(struct locks *ls, struct lock *l, enum lock_mode keep)
{
	struct lunfs_lock_rec next = l->known;
	struct rec_me me = lock_me(ls, l->addr, true);
	struct grant g;
	int rc;

	plan_ex(ls, l, keep == LOCK_SH, &g);
	if (!g.take)
		return 0; /* withdrawn, or now somebody wants more: look again */
	if (g.ex)
		rec_grant_ex(&next, &me, g.cand[0].asker);
	else
		rec_downgrade(&next, &me, keep == LOCK_SH);
	for (unsigned i = 0; !g.ex && i < g.take; i++)
		rec_add_sharer(&next, g.cand[i].asker);
	set_waiters(ls, l, &next, &g);
	sync_rows(ls, &g);
	rc = lock_ats(ls, l, &next);
	if (!rc)
		mark_served(ls, l, &g);
	return rc;
}

/* Shared by somebody besides us and @but? */
static bool others_share(struct locks *ls, const struct lunfs_lock_rec *r, uint64_t but)
{
	unsigned slots = geo_all_slots(ls->env.geo);

	for (unsigned i = 0; i < slots && i < LUNFS_MAX_SLOTS; i++) {
		uint64_t o = lock_sharer(ls, r, i);

		if (o && o != but)
			return true;
	}
	return false;
}

/* Of those who want the lock exclusively: who kept newcomers out, else the first. */
static bool heir(struct lock *l, struct grant *g)
{
	uint64_t pending = le64_get(l->known.ex_pending);

	for (unsigned i = 0; i < g->n; i++) {
		struct cand first = g->cand[i];

		if (first.mode != LOCK_EX || (pending && first.asker != pending))
			continue;
		memmove(&g->cand[1], &g->cand[0], i * sizeof(first));
		g->cand[0] = first;
		return true;
	}
	return false;
}

static int leave_once(struct locks *ls, struct lock *l)
{
	struct lunfs_lock_rec next = l->known;
	struct rec_me me = lock_me(ls, l->addr, false);
	struct grant g = {.take = 0, .ex = false};
	int rc;

	g.n = board_wishes_for(ls, l, g.cand);
	if (heir(l, &g) && !others_share(ls, &l->known, g.cand[0].asker)) {
		g.take = 1;
		g.ex = true;
		rec_grant_ex(&next, &me, g.cand[0].asker);
		set_waiters(ls, l, &next, &g);
		sync_rows(ls, &g);
	} else {
		rec_leave(&next, &me);
	}
	rc = lock_ats(ls, l, &next);
	if (!rc && g.take)
		mark_served(ls, l, &g);
	else if (!rc)
		LOCK_COUNT(ls, released);
	return rc;
}

int lock_leave_shared(struct locks *ls, struct lock *l)
{
	int rc = -EAGAIN;

	for (unsigned i = 0; i < RACES_MAX && rc == -EAGAIN && l->held == LOCK_SH; i++)
		rc = leave_once(ls, l);
	return l->held == LOCK_SH || rc != -EAGAIN ? rc : 0;
}

/* ---- one revoke ----------------------------------------------------------------------------- */

/* How far must a lock that we hold go down for those who ask? false: not at all. */
static bool goal(struct locks *ls, struct lock *l, enum lock_mode *keep)
{
	struct grant g;

	*keep = LOCK_NONE;
	plan_ex(ls, l, false, &g);
	if (l->held == LOCK_SH) {
		for (unsigned i = 0; i < g.n; i++) {
			if (g.cand[i].mode == LOCK_EX)
				return true;
		}
		return false;
	}
	if (!g.take)
		return false;
	if (!g.ex && ls->slot < LUNFS_MAX_SLOTS &&
	    (l->nwaiters || lock_now(ls) < l->used_ns + LOCK_USE_NS))
		*keep = LOCK_SH;
	return true;
}

/* It went, or it did not (@rc), and then it is tried again. */
static void end_revoke(struct locks *ls, struct lock *l, int rc)
{
	struct stripe *s = table_stripe(ls, l->addr);

	mtx_lock(&s->mtx);
	l->retry_ns = rc ? lock_now(ls) + LOCK_RETRY_NS : 0;
	lock_end_work(s, l);
	queue_retry(ls, l);
	table_put(s, l);
	mtx_unlock(&s->mtx);
}

/* Flush, and the ATS. */
static void finish(struct locks *ls, struct lock *l)
{
	uint64_t began;
	int rc;

	board_meet_newcomers(ls, l);
	began = lock_now(ls);
	rc = flush(ls, l, l->keep);
	judge_eager(ls, l);
	if (!rc)
		rc = l->held == LOCK_EX ? give_ex(ls, l, l->keep) : lock_leave_shared(ls, l);
	if (rc == -EINPROGRESS)
		rc = lock_settle(ls, l); /* else the reaper does, or whoever wants it next */
	queue_learn_give(ls, lock_now(ls) - began);
	end_revoke(ls, l, rc);
}

/* false: pins are left, whose last unpin queues the rest of the work. */
static bool no_pins(struct locks *ls, struct lock *l)
{
	struct stripe *s = table_stripe(ls, l->addr);
	bool yes;

	mtx_lock(&s->mtx);
	yes = !lock_pins(l);
	l->parked = !yes;
	mtx_unlock(&s->mtx);
	return yes;
}

/* A busy lock on its way down, as far as it goes without waiting for a pin. */
static void go_down(struct locks *ls, struct lock *l, enum lock_work what)
{
	int rc = what == WORK_REVOKE ? invalidate(ls, l, l->keep) : 0;

	if (rc) {
		end_revoke(ls, l, rc);
		return;
	}
	if (!no_pins(ls, l))
		return;
	if (l->late_ok) {
		rc = sweep(ls, l, l->keep);
		if (rc) {
			end_revoke(ls, l, rc);
			return;
		}
		if (!no_pins(ls, l))
			return;
	}
	finish(ls, l);
}

static void probe(struct locks *ls, struct lock *l)
{
	struct stripe *s = table_stripe(ls, l->addr);

	lock_probe(ls, l);
	mtx_lock(&s->mtx);
	if (l->held == LOCK_EX)
		past_not_wanted(table_past(s, l->addr, true));
	lock_end_work(s, l);
	table_put(s, l);
	mtx_unlock(&s->mtx);
}

/* Is there still something to do? Then the lock is busy by us. */
static bool begin(struct locks *ls, struct lock *l, enum lock_work what)
{
	if (what == WORK_FINISH)
		return true;
	if (l->state != LST_IDLE || l->unsettled)
		return false;
	if (what == WORK_PROBE ? l->held == LOCK_EX
			       : l->held == LOCK_NONE || !goal(ls, l, &l->keep))
		return false;
	l->state = what == WORK_REVOKE ? LST_REVOKE : LST_ACQUIRE;
	table_touch(table_stripe(ls, l->addr), l);
	return true;
}

static void work_on(struct locks *ls, struct lock *l)
{
	struct stripe *s = table_stripe(ls, l->addr);
	enum lock_work what;
	bool go;

	mtx_lock(&s->mtx);
	what = l->queued;
	l->queued = WORK_NONE;
	go = begin(ls, l, what);
	if (!go) {
		queue_retry(ls, l);
		table_put(s, l);
	}
	mtx_unlock(&s->mtx);
	if (go && what == WORK_PROBE)
		probe(ls, l);
	else if (go)
		go_down(ls, l, what);
}

/* ---- the pool ------------------------------------------------------------------------------- */

/* There are as many as revokers. p->mtx held. */
static uint64_t *busy_slot(struct workpool *p)
{
	unsigned i = 0;

	while (p->busy_ns[i])
		i++;
	lunfs_assert(i < REVOKERS_MAX);
	return &p->busy_ns[i];
}

static void revoker(void *arg)
{
	struct locks *ls = arg;
	struct workpool *p = &ls->work;
	uint64_t *since;

	mtx_lock(&p->mtx);
	while (!atomic_load(&ls->stopping)) {
		struct lock *l = TAILQ_FIRST(&p->queue);

		if (!l) {
			p->idle++;
			cond_wait(&p->cond, &p->mtx, CLOCK_FOREVER);
			p->idle--;
			continue;
		}
		TAILQ_REMOVE(&p->queue, l, work);
		p->picked_ns = lock_now(ls);
		since = busy_slot(p);
		*since = p->picked_ns | 1;
		if (!p->idle && !TAILQ_EMPTY(&p->queue) && p->n < REVOKERS_MAX)
			add_revoker(ls);
		mtx_unlock(&p->mtx);
		work_on(ls, l);
		mtx_lock(&p->mtx);
		*since = 0;
	}
	mtx_unlock(&p->mtx);
}

int work_start(struct locks *ls)
{
	struct workpool *p = &ls->work;
	int rc = 0;

	mtx_lock(&p->mtx);
	p->picked_ns = lock_now(ls);
	for (unsigned i = 0; i < REVOKERS_MIN && !rc; i++)
		rc = add_revoker(ls);
	mtx_unlock(&p->mtx);
	return rc;
}

static struct lock *take_first(struct locks *ls, struct lock_list *list, bool reap)
{
	struct lock *l;

	mtx_lock(&ls->work.mtx);
	l = TAILQ_FIRST(list);
	if (l && reap) {
		TAILQ_REMOVE(list, l, reap);
		ls->work.nreap--;
	} else if (l)
		TAILQ_REMOVE(list, l, work);
	mtx_unlock(&ls->work.mtx);
	return l;
}

/* The threads end, and what they left undone is let go of. */
void work_join(struct locks *ls)
{
	struct workpool *p = &ls->work;

	for (unsigned i = 0; i < REVOKERS_MAX; i++) {
		struct task *t;

		mtx_lock(&p->mtx);
		t = i < p->n ? p->task[i] : NULL;
		mtx_unlock(&p->mtx);
		if (t)
			ls->env.clk->ops->task_join(ls->env.clk, t);
	}
	p->n = 0;
	for (int reap = 0; reap < 2; reap++) {
		struct lock *l;

		while ((l = take_first(ls, reap ? &p->reap : &p->queue, reap))) {
			struct stripe *s = table_stripe(ls, l->addr);

			mtx_lock(&s->mtx);
			if (reap)
				l->on_reap = false;
			else
				l->queued = WORK_NONE;
			table_put(s, l);
			mtx_unlock(&s->mtx);
		}
	}
}

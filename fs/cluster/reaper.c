/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Giving up what nobody here uses: freed cells that were dropped, and the least recently used locks
 * when more are held than memory is meant for. They go in batches of ATS. A born lock whose record
 * was never touched costs nothing: it goes back into its range, still held. Also settles unknown
 * fates that nobody waits for.
 */
#include "cluster/lock_impl.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 64u
#define DROP_NAP_NS 200000000ull /* a dropped cell is often taken again at once */
#define IDLE_NAP_NS 1000000000ull
#define FULL_NAP_NS 10000000ull

void reap_queue(struct locks *ls, struct lock *l)
{
	struct workpool *p = &ls->work;

	if (l->on_reap || atomic_load(&ls->stopping))
		return;
	l->on_reap = true;
	l->refs++;
	mtx_lock(&p->mtx);
	if (TAILQ_EMPTY(&p->reap))
		cond_signal(&p->reap_cond);
	TAILQ_INSERT_TAIL(&p->reap, l, reap);
	p->nreap++;
	mtx_unlock(&p->mtx);
}

static bool unused(const struct lock *l)
{
	return l->state == LST_IDLE && !l->unsettled && l->held != LOCK_NONE && !lock_pins(l) &&
	       !l->nwaiters && !l->queued;
}

static void make_busy(struct stripe *s, struct lock *l)
{
	l->state = LST_REVOKE;
	table_touch(s, l);
}

/* ---- giving up ------------------------------------------------------------------------------ */

/* Unless somebody came for it meanwhile. */
static void fold_back(struct locks *ls, struct lock *l)
{
	struct stripe *s = table_stripe(ls, l->addr);
	uint64_t addr = l->addr;
	bool back;

	mtx_lock(&s->mtx);
	back = l->refs == 1;
	if (back) {
		l->born = false;
		lock_set_held(l, LOCK_NONE);
	}
	lock_end_work(s, l);
	table_put(s, l);
	if (back)
		born_give_back(ls, addr);
	mtx_unlock(&s->mtx);
}

static void done_with(struct locks *ls, struct lock *l)
{
	struct stripe *s = table_stripe(ls, l->addr);

	mtx_lock(&s->mtx);
	lock_end_work(s, l);
	table_put(s, l);
	mtx_unlock(&s->mtx);
}

/* The locks are busy and referenced by us; both end here. */
static void give_up(struct locks *ls, struct lock **l, size_t n)
{
	struct lunfs_lock_rec *next = calloc(n, sizeof(*next));
	struct lock *go[BATCH];
	int rc[BATCH];
	size_t ngo = 0;

	lunfs_assert(next && n <= BATCH);
	for (size_t i = 0; i < n; i++) {
		struct rec_me me;

		if (lock_retire(ls, l[i], LOCK_NONE, NULL)) {
			done_with(ls, l[i]);
		} else if (l[i]->born && !l[i]->drop) {
			fold_back(ls, l[i]);
		} else {
			me = lock_me(ls, l[i]->addr, l[i]->held == LOCK_EX);
			next[ngo] = l[i]->known;
			rec_leave(&next[ngo], &me);
			go[ngo++] = l[i];
		}
	}
	lock_ats_many(ls, go, next, rc, ngo, true);
	for (size_t i = 0; i < ngo; i++) {
		if (!rc[i])
			LOCK_COUNT(ls, released);
		done_with(ls, go[i]);
	}
	free(next);
}

/* ---- what was queued for the reaper --------------------------------------------------------- */

static void settle_one(struct locks *ls, struct lock *l)
{
	lock_settle(ls, l);
	done_with(ls, l);
}

/* Take one off the list; true: it is busy and ours, to be given up. */
static bool next_queued(struct locks *ls, struct lock *l)
{
	struct stripe *s = table_stripe(ls, l->addr);
	bool mine = false, settle = false;

	mtx_lock(&s->mtx);
	l->on_reap = false;
	if (l->unsettled && l->state == LST_IDLE && !l->nwaiters) {
		settle = true;
		l->state = LST_ACQUIRE;
	} else if (l->drop && unused(l)) {
		mine = true;
		make_busy(s, l);
	} else {
		if (l->unsettled)
			reap_queue(ls, l); /* by a waiter, if it does not give up */
		table_put(s, l);
	}
	mtx_unlock(&s->mtx);
	if (settle)
		settle_one(ls, l);
	return mine;
}

static size_t take_list(struct locks *ls, struct lock **out, size_t max)
{
	struct workpool *p = &ls->work;
	size_t n = 0;

	mtx_lock(&p->mtx);
	while (n < max && !TAILQ_EMPTY(&p->reap)) {
		out[n] = TAILQ_FIRST(&p->reap);
		TAILQ_REMOVE(&p->reap, out[n], reap);
		p->nreap--;
		n++;
	}
	mtx_unlock(&p->mtx);
	return n;
}

static void reap_some(struct locks *ls, struct lock **l, size_t n)
{
	struct lock *mine[BATCH];
	size_t k = 0;

	for (size_t i = 0; i < n; i++) {
		if (next_queued(ls, l[i]))
			mine[k++] = l[i];
	}
	if (k)
		give_up(ls, mine, k);
}

/* What is on the list now; what comes back to it meanwhile has its turn later. */
static void reap_queued(struct locks *ls)
{
	struct lock *l[BATCH];
	size_t todo, n;

	mtx_lock(&ls->work.mtx);
	todo = ls->work.nreap;
	mtx_unlock(&ls->work.mtx);
	while (todo && !atomic_load(&ls->stopping)) {
		n = take_list(ls, l, todo < BATCH ? todo : BATCH);
		if (!n)
			return;
		reap_some(ls, l, n);
		todo -= n;
	}
}

/* ---- too many ------------------------------------------------------------------------------- */

static size_t take_oldest(struct stripe *s, struct lock **out, size_t max)
{
	struct lock *l, *next;
	size_t n = 0;

	mtx_lock(&s->mtx);
	for (l = TAILQ_FIRST(&s->lru); l && n < max; l = next) {
		next = TAILQ_NEXT(l, lru);
		if (!unused(l))
			continue;
		l->refs++;
		make_busy(s, l);
		out[n++] = l;
	}
	mtx_unlock(&s->mtx);
	return n;
}

static bool too_many(struct locks *ls)
{
	return atomic_load(&ls->cached) > ls->cache_max;
}

static void evict(struct locks *ls)
{
	for (unsigned i = 0; i < LOCK_STRIPES && !atomic_load(&ls->stopping); i++) {
		struct lock *l[BATCH];
		size_t n = too_many(ls) ? take_oldest(&ls->stripe[i], l, BATCH) : 0;

		if (n)
			give_up(ls, l, n);
	}
}

void reaper_main(void *arg)
{
	struct locks *ls = arg;
	struct workpool *p = &ls->work;

	while (!atomic_load(&ls->stopping)) {
		bool queued;

		mtx_lock(&p->mtx);
		queued = !TAILQ_EMPTY(&p->reap);
		if (!queued && !too_many(ls) && !atomic_load(&ls->stopping))
			cond_wait(&p->reap_cond, &p->mtx, lock_now(ls) + IDLE_NAP_NS);
		queued = !TAILQ_EMPTY(&p->reap);
		if (!atomic_load(&ls->stopping) && (queued || too_many(ls)))
			cond_wait(&p->reap_cond, &p->mtx,
				  lock_now(ls) + (too_many(ls) ? FULL_NAP_NS : DROP_NAP_NS));
		mtx_unlock(&p->mtx);
		if (atomic_load(&ls->stopping) || !host_lease_ok(ls->host))
			continue;
		reap_queued(ls);
		if (too_many(ls))
			evict(ls);
	}
}

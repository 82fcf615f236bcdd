/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pins: who of this host may work under a lock now, who waits, and who of the waiters goes to get
 * it. The lock layer's start and stop.
 *
 * Waiters of one lock stand in a queue. The first whose mode is not held makes the lock busy and
 * acquires it in its own thread; the moment it is held, and before anybody else may have it, that
 * waiter is pinned. Shared local pins may pass each other, nothing passes an exclusive one, except
 * LOCK_DRAIN pins while a revoke invalidates: the revoke waits for what they finish. A pin that is
 * raised waits a moment for what is under way to end by itself; then it goes before all who come.
 */
#include "cluster/lock_impl.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_NS 1000000000ull	  /* a waiter looks again at least so often */
#define WAIT_LEASE_NS 20000000ull /* and so often while this host is suspended */

/* ---- start and stop ------------------------------------------------------------------------- */

int locks_new(const struct env *env, struct ats *ats, struct host *host, const struct lock_cb *cb,
	      struct locks **out)
{
	struct locks *ls = calloc(1, sizeof(*ls));
	int rc;

	if (!ls)
		return -ENOMEM;
	ls->env = *env;
	ls->ats = ats;
	ls->host = host;
	ls->cb = *cb;
	ls->cache_max = LOCK_CACHE_MAX;
	atomic_store(&ls->stopping, true);
	born_init(ls);
	wishes_init(ls);
	board_init(ls);
	work_init(ls);
	rc = table_init(ls);
	if (rc) {
		locks_free(ls);
		return rc;
	}
	*out = ls;
	return 0;
}

static int start_threads(struct locks *ls)
{
	struct clock *clk = ls->env.clk;
	int rc = work_start(ls);

	if (!rc)
		rc = clk->ops->task_start(clk, "lock-board", board_poller, ls, &ls->poller);
	if (!rc)
		rc = clk->ops->task_start(clk, "lock-wishes", wishes_keeper, ls, &ls->keeper);
	if (!rc)
		rc = clk->ops->task_start(clk, "lock-reaper", reaper_main, ls, &ls->reaper);
	return rc;
}

int locks_start(struct locks *ls)
{
	int rc;

	lunfs_assert(!ls->started);
	table_clear(ls);
	born_clear(ls);
	board_reset(ls);
	wishes_reset(ls);
	ls->owner = host_owner(ls->host);
	ls->nonce = host_nonce(ls->host);
	ls->slot = host_slot(ls->host);
	ls->tag = rec_tag(ls->owner);
	ls->beat_ns = (uint64_t)ls->env.geo->beat_ms * 1000000;
	atomic_store(&ls->poller_ns, lock_now(ls));
	atomic_store(&ls->stopping, false);
	ls->started = true;
	rc = start_threads(ls);
	if (rc)
		locks_stop(ls);
	return rc;
}

static void wake_waiters(struct locks *ls, const struct lock_intr *intr)
{
	for (unsigned i = 0; i < LOCK_STRIPES; i++) {
		struct stripe *s = &ls->stripe[i];
		struct waiter *w;

		mtx_lock(&s->mtx);
		TAILQ_FOREACH(w, &s->waiting, waiting)
		{
			if (!intr || w->intr == intr)
				lock_wake_all(w->l);
		}
		mtx_unlock(&s->mtx);
	}
}

/* Every sleeper of the lock layer looks at `stopping` after this. */
static void wake_workers(struct locks *ls)
{
	for (unsigned i = 0; i < LOCK_STRIPES; i++) {
		struct stripe *s = &ls->stripe[i];

		mtx_lock(&s->mtx);
		for (size_t k = 0; k < s->nbuckets; k++) {
			for (struct lock *l = s->bucket[k]; l; l = l->hash_next)
				lock_wake_all(l);
		}
		mtx_unlock(&s->mtx);
	}
	work_wake(ls);
	mtx_lock(&ls->board.mtx);
	cond_broadcast(&ls->board.cond);
	cond_broadcast(&ls->board.looked);
	mtx_unlock(&ls->board.mtx);
	mtx_lock(&ls->out.mtx);
	cond_broadcast(&ls->out.cond);
	mtx_unlock(&ls->out.mtx);
}

static void join(struct locks *ls, struct task **t)
{
	if (*t)
		ls->env.clk->ops->task_join(ls->env.clk, *t);
	*t = NULL;
}

void locks_stop(struct locks *ls)
{
	if (!ls->started)
		return;
	atomic_store(&ls->stopping, true);
	wake_workers(ls);
	join(ls, &ls->poller);
	join(ls, &ls->keeper);
	join(ls, &ls->reaper);
	work_join(ls);
	born_clear(ls);
	ls->started = false;
}

void locks_free(struct locks *ls)
{
	if (!ls)
		return;
	lunfs_assert(!ls->started);
	table_clear(ls);
	table_destroy(ls);
	work_destroy(ls);
	board_destroy(ls);
	wishes_destroy(ls);
	born_destroy(ls);
	free(ls);
}

bool locks_alive(struct locks *ls)
{
	uint64_t now = lock_now(ls), limit = 2ull * ls->env.geo->lease_ms * 1000000;
	bool ok = now < atomic_load(&ls->poller_ns) + limit;

	if (!ls->started)
		return true;
	mtx_lock(&ls->work.mtx);
	if (!TAILQ_EMPTY(&ls->work.queue) && now > ls->work.picked_ns + limit)
		ok = false;
	for (unsigned i = 0; i < REVOKERS_MAX; i++)
		if (ls->work.busy_ns[i] && now > ls->work.busy_ns[i] + 2 * limit)
			ok = false;
	mtx_unlock(&ls->work.mtx);
	return ok;
}

/* ---- who is admitted ------------------------------------------------------------------------ */

static bool local_fits(const struct lock *l, enum lock_local local)
{
	return !l->pin_excl && (local == LOCAL_SHARED || !(l->pins_shared || l->pins_parked));
}

/* Nothing that stands before @w (NULL: before a newcomer) has to go first. */
static bool in_turn(const struct lock *l, const struct waiter *w, enum lock_local local)
{
	const struct waiter *o;

	if (l->raiser && lock_now(l->ls) >= l->raise_ns)
		return false;
	TAILQ_FOREACH(o, &l->waiters, queue)
	{
		if (o == w)
			break;
		if (local == LOCAL_EXCL || o->local == LOCAL_EXCL || o->mode > l->held)
			return false;
	}
	return true;
}

static bool admits(const struct lock *l, const struct waiter *w, bool queued)
{
	if (l->held < w->mode || l->unsettled || !local_fits(l, w->local))
		return false;
	if ((l->drain_ok && (w->flags & LOCK_DRAIN)) || (l->late_ok && (w->flags & LOCK_LATE)))
		return true;
	return l->state == LST_IDLE && in_turn(l, queued ? w : NULL, w->local);
}

/*
 * Those whose turn it may be now that a pin is gone or somebody waits no more. Where order is not
 * all that counts everybody looks.
 */
static void wake_next(struct lock *l)
{
	struct waiter *w;

	if (l->state != LST_IDLE || l->unsettled) {
		lock_wake_all(l);
		return;
	}
	if (l->raiser) {
		if (!l->pins_shared)
			cond_signal(l->raiser);
		return;
	}
	TAILQ_FOREACH(w, &l->waiters, queue)
	{
		bool alone = w->local == LOCAL_EXCL || w->mode > l->held;

		if (alone && w != TAILQ_FIRST(&l->waiters))
			break;
		cond_signal(&w->cond);
		if (alone)
			break;
	}
}

/* Who gets it for others does not use it. */
static void note_use(struct lock *l, enum lock_mode mode, unsigned flags)
{
	if (flags & LOCK_AHEAD) {
		if (!l->ahead)
			l->ahead = AHEAD_UNUSED;
		return;
	}
	l->used_ex |= mode == LOCK_EX;
	if (l->ahead && l->ahead != AHEAD_USED_EX)
		l->ahead = mode == LOCK_EX ? AHEAD_USED_EX : AHEAD_USED;
}

static void pin(struct stripe *s, struct lock *l, const struct waiter *w)
{
	struct locks *ls = l->ls;

	if (l->drain_ok)
		l->drained = true;
	if (w->local == LOCAL_EXCL)
		l->pin_excl = true;
	else
		l->pins_shared++;
	l->drop = false;
	note_use(l, w->mode, w->flags);
	l->used_ns = lock_now(ls);
	atomic_fetch_add_explicit(&ls->pins, 1, memory_order_relaxed);
	table_touch(s, l);
}

int waiter_ended(struct locks *ls, const struct waiter *w)
{
	enum host_state st;

	if (atomic_load(&ls->stopping))
		return -EIO;
	if (w->intr && atomic_load(&w->intr->interrupted))
		return -EINTR;
	if (host_lease_ok(ls->host))
		return 0;
	st = host_state(ls->host);
	return st == HOST_LOST || st == HOST_NONE ? -EIO : 0;
}

/* The waiter's turn to get what is not held. The stripe's mutex is let go meanwhile. */
static int go_and_get(struct locks *ls, struct stripe *s, struct lock *l, struct waiter *w)
{
	int rc;

	l->state = LST_ACQUIRE;
	table_touch(s, l);
	mtx_unlock(&s->mtx);
	if (!w->cell)
		w->cell = dev_buf_alloc(geo_cell_bytes(ls->env.geo));
	rc = lock_acquire(ls, l, w);
	mtx_lock(&s->mtx);
	lock_end_work(s, l);
	return rc;
}

/* One look at the lock: 0 pinned, 1 look again, 2 wait; -errno. */
static int look(struct locks *ls, struct stripe *s, struct lock *l, struct waiter *w)
{
	bool wants = l->held < w->mode || l->unsettled;
	int rc = waiter_ended(ls, w);

	if (rc)
		return rc;
	if (host_lease_ok(ls->host)) {
		if (admits(l, w, true)) {
			pin(s, l, w);
			return 0;
		}
		if (wants && l->state == LST_IDLE && TAILQ_FIRST(&l->waiters) == w &&
		    !(w->flags & LOCK_CACHED)) {
			rc = go_and_get(ls, s, l, w);
			return rc ? rc : 1;
		}
	}
	return w->flags & LOCK_TRY ? -EAGAIN : 2;
}

static int wait_and_pin(struct locks *ls, struct stripe *s, struct lock *l, struct waiter *w)
{
	uint64_t began = lock_now(ls);
	bool waited = false;
	int rc;

	w->l = l;
	cond_init(&w->cond, ls->env.clk);
	TAILQ_INSERT_TAIL(&l->waiters, w, queue);
	TAILQ_INSERT_TAIL(&s->waiting, w, waiting);
	l->nwaiters++;
	for (;;) {
		rc = look(ls, s, l, w);
		if (rc <= 0)
			break;
		if (rc == 1)
			continue;
		waited = true;
		w->current = false;
		cond_wait(&w->cond, &s->mtx,
			  lock_now(ls) + (host_lease_ok(ls->host) ? WAIT_NS : WAIT_LEASE_NS));
	}
	TAILQ_REMOVE(&l->waiters, w, queue);
	TAILQ_REMOVE(&s->waiting, w, waiting);
	l->nwaiters--;
	cond_destroy(&w->cond);
	wake_next(l);
	if (waited) {
		LOCK_COUNT(ls, waits);
		atomic_fetch_add(&ls->stats.wait_us, (lock_now(ls) - began) / 1000);
	}
	return rc;
}

int lock_pin(struct locks *ls, uint64_t addr, enum lock_mode mode, enum lock_local local,
	     unsigned flags, struct lock_intr *intr, struct lock **out)
{
	struct waiter w = {.mode = mode, .local = local, .flags = flags, .intr = intr};
	struct stripe *s = table_stripe(ls, addr);
	struct lock *l;
	int rc = 0;

	lunfs_assert(mode == LOCK_SH || mode == LOCK_EX);
	if (!cell_addr_ok(ls->env.geo, addr))
		return -EUCLEAN;
	if (ls->slot >= LUNFS_MAX_SLOTS)
		w.mode = LOCK_EX; /* a spare slot has no entry to share with */
	mtx_lock(&s->mtx);
	l = table_get(ls, s, addr);
	if (host_lease_ok(ls->host) && !atomic_load(&ls->stopping) && admits(l, &w, false)) {
		pin(s, l, &w);
		LOCK_COUNT(ls, cached);
	} else {
		rc = wait_and_pin(ls, s, l, &w);
	}
	table_put(s, l);
	mtx_unlock(&s->mtx);
	if (!rc && w.current && ls->cb.loaded)
		ls->cb.loaded(ls->cb.ctx, l, w.cell + ls->env.geo->payload_off);
	free(w.cell);
	if (!rc)
		*out = l;
	return rc;
}

static void pin_less(struct lock *l, enum lock_local local)
{
	if (local == LOCAL_EXCL) {
		lunfs_assert(l->pin_excl);
		l->pin_excl = false;
	} else if (local == LOCAL_PARKED) {
		lunfs_assert(l->pins_parked);
		l->pins_parked--;
	} else {
		lunfs_assert(l->pins_shared);
		l->pins_shared--;
	}
}

enum unpin { UNPIN_DONE, UNPIN_UNUSED, UNPIN_AGAIN };

static void unpin(struct locks *ls, struct lock *l, enum lock_local local, enum unpin how)
{
	struct stripe *s = table_stripe(ls, l->addr);

	mtx_lock(&s->mtx);
	pin_less(l, local);
	if (how != UNPIN_AGAIN)
		l->served = how == UNPIN_DONE;
	if (how == UNPIN_UNUSED) {
		l->received_ns = lock_now(ls);
		l->until_ns = l->received_ns + queue_tenure_ns(ls);
	}
	if (how == UNPIN_DONE && !lock_pins(l) && l->rests < UINT8_MAX)
		l->rests++;
	table_touch(s, l);
	if (l->drop && !lock_pins(l) && l->state == LST_IDLE)
		reap_queue(ls, l);
	if (l->asked_for && how == UNPIN_DONE && l->state == LST_IDLE && !queue_keeps(ls, l)) {
		l->asked_for = false;
		work_queue(ls, l, WORK_REVOKE);
	}
	wake_next(l);
	if (l->parked && !lock_pins(l) && !atomic_load(&ls->stopping)) {
		l->parked = false;
		work_queue(ls, l, WORK_FINISH);
		table_put(s, l); /* the queue has a reference of its own */
	}
	if (!lock_pins(l)) {
		l->refs++;
		table_put(s, l); /* a lock forgotten while it was pinned ends here */
	}
	mtx_unlock(&s->mtx);
}

void lock_unpin(struct locks *ls, struct lock *l, enum lock_local local)
{
	unpin(ls, l, local, UNPIN_DONE);
}

void lock_unpin_unused(struct locks *ls, struct lock *l, enum lock_local local)
{
	unpin(ls, l, local, UNPIN_UNUSED);
}

void lock_unpin_again(struct locks *ls, struct lock *l, enum lock_local local)
{
	unpin(ls, l, local, UNPIN_AGAIN);
}

void lock_park(struct locks *ls, struct lock *l)
{
	struct stripe *s = table_stripe(ls, l->addr);

	mtx_lock(&s->mtx);
	pin_less(l, LOCAL_SHARED);
	l->pins_parked++;
	if (l->raiser && !l->pins_shared)
		cond_signal(l->raiser);
	mtx_unlock(&s->mtx);
}

void lock_raise(struct locks *ls, struct lock *l)
{
	struct stripe *s = table_stripe(ls, l->addr);
	struct cond cond;

	cond_init(&cond, ls->env.clk);
	mtx_lock(&s->mtx);
	lunfs_assert(!l->raiser);
	l->raiser = &cond;
	l->raise_ns = lock_now(ls) + LOCK_RAISE_NS;
	while (l->pin_excl || l->pins_shared)
		cond_wait(&cond, &s->mtx, CLOCK_FOREVER);
	l->raiser = NULL;
	pin_less(l, LOCAL_PARKED);
	l->pin_excl = true;
	mtx_unlock(&s->mtx);
	cond_destroy(&cond);
}

void lock_intr_fire(struct locks *ls, struct lock_intr *intr)
{
	atomic_store(&intr->interrupted, true);
	wake_waiters(ls, intr);
}

void locks_owner_over(struct locks *ls, unsigned slot)
{
	(void)slot;
	atomic_fetch_add(&ls->owners_over, 1);
	wake_waiters(ls, NULL);
}

/* ---- what is held --------------------------------------------------------------------------- */

void lock_adopt_born(struct locks *ls, uint64_t first, unsigned n)
{
	born_add(ls, first, n);
}

void lock_born_image(struct locks *ls, uint64_t addr, void *sector)
{
	rec_born(ls->env.geo, addr, ls->owner, ls->nonce, sector);
}

uint64_t lock_addr(const struct lock *l)
{
	return l->addr;
}

enum lock_mode lock_held(struct locks *ls, uint64_t addr)
{
	struct stripe *s = table_stripe(ls, addr);
	enum lock_mode held = LOCK_NONE;
	struct lock *l;

	mtx_lock(&s->mtx);
	l = table_find(s, addr);
	if (l)
		held = l->unsettled ? LOCK_NONE : l->held;
	else if (born_has(ls, addr))
		held = LOCK_EX;
	mtx_unlock(&s->mtx);
	return held;
}

enum lock_ahead lock_ahead(struct locks *ls, uint64_t addr)
{
	struct stripe *s = table_stripe(ls, addr);
	enum lock_ahead ahead = AHEAD_NOT;
	const struct lock *l;

	mtx_lock(&s->mtx);
	l = table_find(s, addr);
	if (l)
		ahead = l->ahead;
	mtx_unlock(&s->mtx);
	return ahead;
}

bool lock_is_ex(const struct lock *l)
{
	struct stripe *s = table_stripe(l->ls, l->addr);
	bool ex;

	mtx_lock(&s->mtx);
	ex = l->held == LOCK_EX;
	mtx_unlock(&s->mtx);
	return ex;
}

uint64_t lock_possession(const struct lock *l)
{
	struct stripe *s = table_stripe(l->ls, l->addr);
	uint64_t seq;

	mtx_lock(&s->mtx);
	seq = le64_get(l->known.possession_seq);
	mtx_unlock(&s->mtx);
	return seq;
}

uint64_t lock_recorded_version(const struct lock *l)
{
	struct stripe *s = table_stripe(l->ls, l->addr);
	uint64_t version;

	mtx_lock(&s->mtx);
	version = le64_get(l->known.payload_version);
	mtx_unlock(&s->mtx);
	return version;
}

bool lock_open_elsewhere(struct locks *ls, struct lock *l)
{
	struct lunfs_lock_rec r;
	struct stripe *s = table_stripe(ls, l->addr);
	unsigned slots = geo_all_slots(ls->env.geo);

	mtx_lock(&s->mtx);
	r = l->known;
	mtx_unlock(&s->mtx);
	for (unsigned i = 0; i < slots && i < LUNFS_MAX_SLOTS; i++) {
		uint16_t ent = le16_get(r.entry[i]);

		if (i == ls->slot || !(ent & LUNFS_ENT_OPEN))
			continue;
		if (host_tag_owner(ls->host, i, ent & LUNFS_ENT_TAG_MASK))
			return true;
	}
	return false;
}

void *lock_priv(struct lock *l)
{
	return atomic_load(&l->priv);
}

void lock_set_priv(struct lock *l, void *priv)
{
	atomic_store(&l->priv, priv);
}

void lock_drop(struct locks *ls, uint64_t addr)
{
	struct stripe *s = table_stripe(ls, addr);
	struct lock *l;

	mtx_lock(&s->mtx);
	l = table_find_born(ls, s, addr);
	if (l && l->held != LOCK_NONE) {
		l->drop = true;
		if (l->state == LST_IDLE && !lock_pins(l) && !l->nwaiters)
			reap_queue(ls, l);
	}
	mtx_unlock(&s->mtx);
}

const struct lock_stats *locks_stats(struct locks *ls)
{
	return &ls->stats;
}

uint64_t locks_unproven(struct locks *ls)
{
	return atomic_load(&ls->unproven);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Joining and leaving the running transaction. A handle brings credits: room in the log for the
 * blocks it may change is set aside before it joins, so that a commit never waits for log space.
 * A block that enters the transaction turns a credit into an entry; what a handle did not use it
 * gives back at its end.
 *
 * Space comes from the checkpointer, which needs no handle and no lock: waiting for it ends.
 */
#include "txn/txn_impl.h"

#include <errno.h>
#include <stdlib.h>

struct txn *txn_new(uint64_t id)
{
	struct txn *x = txn_zalloc(sizeof(*x));

	x->id = id;
	TAILQ_INIT(&x->dirty);
	TAILQ_INIT(&x->images);
	TAILQ_INIT(&x->callbacks);
	return x;
}

void txn_free(struct txn *x)
{
	lunfs_assert(TAILQ_EMPTY(&x->images) && TAILQ_EMPTY(&x->callbacks));
	free(x);
}

bool txn_is_empty(const struct txn *x)
{
	return TAILQ_EMPTY(&x->dirty) && TAILQ_EMPTY(&x->callbacks);
}

enum room { ROOM_YES, ROOM_CLOSING, ROOM_FULL, ROOM_NO_SPACE };

static uint32_t txn_limit(const struct txns *t)
{
	uint32_t third = t->log_blks / 3;

	return third < TXN_BLKS_MAX ? third : TXN_BLKS_MAX;
}

static enum room room_for(const struct txns *t, unsigned nblks, bool big)
{
	const struct txn *x = t->running;
	uint32_t need = log_need(x->entries + x->credits + nblks);

	if (x->closing)
		return ROOM_CLOSING;
	if (!big && t->big_waiters)
		return ROOM_FULL; /* it waits for an empty transaction: let it have one */
	if (need > txn_limit(t) && (x->handles || !txn_is_empty(x)))
		return ROOM_FULL;
	if (t->log_used + need > t->log_blks)
		return ROOM_NO_SPACE;
	return ROOM_YES;
}

static void wait_for_room(struct txns *t, enum room why)
{
	if (why == ROOM_FULL && (t->running->handles || !txn_is_empty(t->running)))
		txn_want(t, t->running->id);
	if (why == ROOM_NO_SPACE) {
		t->space_waiters++;
		cond_signal(&t->ckpt_cv);
	}
	t->begin_waiters++;
	cond_wait(&t->begin_cv, &t->mtx, CLOCK_FOREVER);
	t->begin_waiters--;
	if (why == ROOM_NO_SPACE)
		t->space_waiters--;
}

static int join(struct txns *t, unsigned nblks, bool big)
{
	enum room room = ROOM_NO_SPACE;

	while (!t->failed && t->started) {
		room = room_for(t, nblks, big);
		if (room == ROOM_YES)
			break;
		wait_for_room(t, room);
	}
	if (t->failed)
		return -EIO;
	return room == ROOM_YES ? 0 : -EROFS;
}

int txn_begin(struct txns *t, unsigned nblks, struct txn_handle **out)
{
	bool lost = host_state(t->host) == HOST_LOST, big;
	struct txn_handle *h;
	int r;

	if (lost)
		return -EIO;
	mtx_lock(&t->mtx);
	r = t->failed ? -EIO : !t->started || !t->log_blks ? -EROFS : 0;
	if (!r && log_need(nblks) > t->log_blks / 3 * 2)
		r = -E2BIG;
	if (!r) {
		big = log_need(nblks) > txn_limit(t);
		t->big_waiters += big;
		r = join(t, nblks, big);
		t->big_waiters -= big;
		if (big && t->begin_waiters)
			cond_broadcast(&t->begin_cv);
	}
	if (!r) {
		h = txn_zalloc(sizeof(*h));
		*h = (struct txn_handle){.t = t, .txn = t->running, .credits = nblks};
		t->running->handles++;
		t->running->credits += nblks;
		*out = h;
	}
	mtx_unlock(&t->mtx);
	return r;
}

/* The committer must not sleep longer than until the running transaction is old. */
static void txn_touched(struct txns *t, struct txn *x)
{
	if (x->began_ns)
		return;
	x->began_ns = clock_now_ns(t->env.clk) | 1;
	if (x->began_ns + COMMIT_AGE_NS < t->committer_until)
		cond_signal(&t->commit_cv);
}

void txn_changed(struct txn_handle *h, struct cblk *b)
{
	struct txns *t = h->t;
	struct txn *x = h->txn;

	if (h->credits) {
		h->credits--;
		x->credits--;
	} else if (!t->over_credit_said) {
		t->over_credit_said = true;
		log_warn("txn-credits",
			 "an operation changed more blocks than it announced "
			 "(block %llu, type %u); please report this",
			 (unsigned long long)b->m.addr, b->type);
	}
	b->dirty = x;
	x->entries++;
	TAILQ_INSERT_TAIL(&x->dirty, b, of_txn);
	txn_touched(t, x);
}

uint64_t txn_end(struct txn_handle *h)
{
	struct txns *t = h->t;
	struct txn *x = h->txn;
	uint64_t id = x->id;

	mtx_lock(&t->mtx);
	x->handles--;
	x->credits -= h->credits;
	if (x->closing) {
		if (!x->handles)
			cond_signal(&t->drain_cv);
	} else if (log_need(x->entries) > t->log_blks / 4) {
		txn_want(t, id);
	}
	if (t->failed && !x->handles)
		cond_signal(&t->commit_cv); /* it drops what the failed volume leaves */
	if (t->begin_waiters)
		cond_broadcast(&t->begin_cv);
	mtx_unlock(&t->mtx);
	free(h);
	return id;
}

void txn_on_commit(struct txn_handle *h, void (*fn)(void *arg, bool ok), void *arg)
{
	struct callback *c = txn_zalloc(sizeof(*c));

	c->fn = fn;
	c->arg = arg;
	mtx_lock(&h->t->mtx);
	TAILQ_INSERT_TAIL(&h->txn->callbacks, c, link);
	txn_touched(h->t, h->txn);
	mtx_unlock(&h->t->mtx);
}

void txn_abort_volume(struct txn_handle *h, const char *why)
{
	txns_fail(h->t, why, -EIO);
}

uint64_t txn_current(struct txns *t)
{
	uint64_t id;

	mtx_lock(&t->mtx);
	id = t->running->id;
	mtx_unlock(&t->mtx);
	return id;
}

void txn_want(struct txns *t, uint64_t tid)
{
	if (t->want_tid >= tid)
		return;
	t->want_tid = tid;
	cond_signal(&t->commit_cv);
}

/* An empty running transaction has nothing to wait for. */
int txn_wait_done(struct txns *t, uint64_t tid, bool help)
{
	const struct txn *x = t->running;

	if (tid >= x->id) {
		tid = x->id;
		if (txn_is_empty(x))
			tid--;
	}
	if (tid > t->durable_tid && !help)
		txn_want(t, tid);
	while (t->durable_tid < tid && !t->failed) {
		if (help && !t->commit_busy_ns)
			commit_locked(t);
		else
			cond_wait(&t->done_cv, &t->mtx, CLOCK_FOREVER);
	}
	return t->durable_tid < tid ? -EIO : 0;
}

int txn_wait_durable(struct txns *t, uint64_t tid)
{
	uint64_t ticket;
	int r;

	mtx_lock(&t->mtx);
	ticket = flush_ticket_locked(t);
	r = t->failed ? -EIO : txn_wait_done(t, tid, true);
	mtx_unlock(&t->mtx);
	if (!r)
		r = flush_wait(t, ticket);
	if (!r && !host_lease_ok(t->host))
		r = host_wait_active(t->host) ? -EIO : 0;
	return r;
}

int txn_wait_guard(struct txns *t, uint64_t guard_addr)
{
	const struct guard_idx *g;
	uint64_t tid;

	mtx_lock(&t->mtx);
	g = gidx_find(t, guard_addr);
	tid = g ? g->data_tid : 0;
	mtx_unlock(&t->mtx);
	return txn_wait_durable(t, tid);
}

int txn_commit_all(struct txns *t)
{
	return txn_wait_durable(t, UINT64_MAX);
}

bool txn_failed(struct txns *t)
{
	return atomic_load(&t->halted);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Birth and end of the transaction layer of one mounted volume, and what happens when it fails: one
 * sentence in the log, everybody who waits gets -EIO, nothing is committed any more, and
 * txns_alive() says no, so that this host stops beating and another one recovers its journal.
 */
#include "txn/txn_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void *txn_zalloc(size_t len)
{
	void *p = calloc(1, len);

	lunfs_assert(p);
	return p;
}

static void wake_all_locked(struct txns *t)
{
	cond_broadcast(&t->load_cv);
	cond_broadcast(&t->commit_cv);
	cond_broadcast(&t->drain_cv);
	cond_broadcast(&t->begin_cv);
	cond_broadcast(&t->done_cv);
	cond_broadcast(&t->flush_cv);
	cond_broadcast(&t->pass_cv);
	cond_broadcast(&t->ckpt_cv);
}

void txns_fail_locked(struct txns *t, const char *why, int err)
{
	if (t->failed)
		return;
	t->failed = true;
	atomic_store(&t->halted, true);
	if (host_state(t->host) != HOST_LOST) /* else it was said why nothing can be written */
		log_err("journal-failed",
			"%s (%s), so this host stops using the volume: changes since the last "
			"commit are lost, other hosts replay what was committed; unmount, look at "
			"the device, mount again",
			why, strerror(-err));
	wake_all_locked(t);
}

void txns_fail(struct txns *t, const char *why, int err)
{
	mtx_lock(&t->mtx);
	txns_fail_locked(t, why, err);
	mtx_unlock(&t->mtx);
}

const atomic_bool *txns_halted(struct txns *t)
{
	return &t->halted;
}

void txns_halt(struct txns *t)
{
	mtx_lock(&t->mtx);
	t->failed = true;
	atomic_store(&t->halted, true);
	wake_all_locked(t);
	mtx_unlock(&t->mtx);
}

int txns_new(const struct env *env, struct host *host, struct locks *locks, struct txns **out)
{
	struct txns *t = txn_zalloc(sizeof(*t));

	t->env = *env;
	t->host = host;
	host_io_init(&t->io, env, host, &t->halted);
	t->locks = locks;
	mtx_init(&t->mtx, env->clk);
	cond_init(&t->load_cv, env->clk);
	cond_init(&t->commit_cv, env->clk);
	cond_init(&t->drain_cv, env->clk);
	cond_init(&t->begin_cv, env->clk);
	cond_init(&t->done_cv, env->clk);
	cond_init(&t->flush_cv, env->clk);
	cond_init(&t->pass_cv, env->clk);
	cond_init(&t->ckpt_cv, env->clk);
	TAILQ_INIT(&t->lru);
	TAILQ_INIT(&t->logged);
	TAILQ_INIT(&t->tombs);
	TAILQ_INIT(&t->wanted);
	t->running = txn_new(1);
	t->next_seq = 1;
	*out = t;
	return 0;
}

static int start_journal(struct txns *t)
{
	const struct geo *g = t->env.geo;
	unsigned slot = host_slot(t->host);

	if (slot >= g->slots || slot >= LUNFS_MAX_SLOTS || !g->journal_blk[slot])
		return 0;
	t->region_blk = g->journal_blk[slot];
	t->log_blks = g->journal_blks - 1;
	return tail_write(t);
}

int txns_start(struct txns *t)
{
	int r = start_journal(t);

	if (r)
		return r;
	r = t->env.clk->ops->task_start(t->env.clk, "committer", commit_main, t, &t->committer);
	if (r)
		return r;
	r = t->env.clk->ops->task_start(t->env.clk, "checkpointer", checkpoint_main, t,
					&t->checkpointer);
	mtx_lock(&t->mtx);
	t->started = true;
	mtx_unlock(&t->mtx);
	if (r)
		txns_abandon(t);
	return r;
}

static void stop_threads(struct txns *t)
{
	mtx_lock(&t->mtx);
	t->started = false;
	t->stop = true;
	wake_all_locked(t);
	mtx_unlock(&t->mtx);
	if (t->committer)
		t->env.clk->ops->task_join(t->env.clk, t->committer);
	if (t->checkpointer)
		t->env.clk->ops->task_join(t->env.clk, t->checkpointer);
	t->committer = t->checkpointer = NULL;
	mtx_lock(&t->mtx);
	while (t->commit_busy_ns) /* by a caller, who is about to hear that it failed */
		cond_wait(&t->done_cv, &t->mtx, CLOCK_FOREVER);
	mtx_unlock(&t->mtx);
}

int txns_stop(struct txns *t)
{
	bool started;
	int r;

	mtx_lock(&t->mtx);
	started = t->started;
	mtx_unlock(&t->mtx);
	if (!started)
		return 0;
	r = txn_commit_all(t);
	stop_threads(t);
	if (!r)
		r = checkpoint_all(t);
	if (!r && t->log_blks)
		r = tail_write(t);
	if (r)
		txns_fail(t, "the journal could not be emptied", r);
	return r ? -EIO : 0;
}

/* Images of a volume that stops: what they hold is in the log, or was never acknowledged. */
static void drop_txn(struct txns *t, struct txn *x)
{
	struct image *im;
	struct cblk *b;

	while ((im = TAILQ_FIRST(&x->images)))
		image_supersede(t, im);
	while ((b = TAILQ_FIRST(&x->dirty))) {
		TAILQ_REMOVE(&x->dirty, b, of_txn);
		b->dirty = NULL;
	}
}

void txns_abandon(struct txns *t)
{
	txns_halt(t);
	stop_threads(t);
	callbacks_run(&t->running->callbacks, false);
}

void txns_free(struct txns *t)
{
	struct txn *x;

	lunfs_assert(!t->committer && !t->checkpointer);
	callbacks_run(&t->running->callbacks, false);
	drop_txn(t, t->running);
	txn_free(t->running);
	while ((x = TAILQ_FIRST(&t->logged))) {
		TAILQ_REMOVE(&t->logged, x, link);
		drop_txn(t, x);
		txn_free(x);
	}
	cache_drop_all(t);
	free(t->log_mem);
	cond_destroy(&t->load_cv);
	cond_destroy(&t->commit_cv);
	cond_destroy(&t->drain_cv);
	cond_destroy(&t->begin_cv);
	cond_destroy(&t->done_cv);
	cond_destroy(&t->flush_cv);
	cond_destroy(&t->pass_cv);
	cond_destroy(&t->ckpt_cv);
	mtx_destroy(&t->mtx);
	free(t);
}

const struct txn_stats *txns_stats(struct txns *t)
{
	return &t->stats;
}

bool txns_alive(struct txns *t)
{
	uint64_t limit_ns = (uint64_t)STUCK_LEASES * t->env.geo->lease_ms * 1000000;
	bool alive;

	mtx_lock(&t->mtx);
	alive = !t->failed;
	if (alive && t->commit_busy_ns && !atomic_load(&t->io.gated))
		alive = clock_now_ns(t->env.clk) - t->commit_busy_ns < limit_ns;
	mtx_unlock(&t->mtx);
	return alive;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Checkpoint: committed images are written in place, never live buffers; one flush; then they no
 * longer pin the log, and when space is needed the tail in the journal's header moves up.
 *
 * One pass at a time, so two images of one block are never under way together. A pass takes all
 * images of the guards somebody waits for, or the oldest ones, and in any case every committed FREE
 * image: a chunk or group lock must not leave this host while the cells it gave up do not say so on
 * disk (see entomb() in cache.c).
 *
 * Images exist only of guards that are still held in the possession they were made in: giving a
 * guard up comes through txn_flush_guard() first. That is why writing them needs no lock.
 */
#include "txn/txn_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- images -----------------------------------------------------------------------------------
 */

static void image_unlink(struct txns *t, struct image *im)
{
	TAILQ_REMOVE(&im->txn->images, im, of_txn);
	lunfs_assert(im->txn->pins > 0);
	im->txn->pins--;
	TAILQ_REMOVE(&im->gidx->images, im, of_guard);
	if (im->tomb)
		TAILQ_REMOVE(&t->tombs, im, of_tombs);
	im->blk->com = NULL;
	im->blk = NULL;
	t->ncom--;
}

static void image_free(struct txns *t, struct image *im)
{
	struct guard_idx *g = im->gidx;

	if (im->buf)
		pool_put(t, im->buf);
	free(im);
	if (g)
		gidx_settle(t, g);
}

/* A later transaction committed something newer, or that the block was given up. */
void image_supersede(struct txns *t, struct image *im)
{
	image_unlink(t, im);
	if (im->writing)
		im->stale = true;
	else
		image_free(t, im);
}

/* The log holds @im: it is the committed copy of its block from now on. */
void image_commit(struct txns *t, struct image *im)
{
	struct cblk *b = im->blk;

	if (b->com)
		image_supersede(t, b->com);
	if (!im->buf) {
		TAILQ_REMOVE(&im->txn->images, im, of_txn);
		free(im);
		cblk_settle(t, b);
		return;
	}
	im->gidx = gidx_get(t, im->guard);
	TAILQ_INSERT_TAIL(&im->gidx->images, im, of_guard);
	if (im->tomb)
		TAILQ_INSERT_TAIL(&t->tombs, im, of_tombs);
	im->txn->pins++;
	b->com = im;
	t->ncom++;
}

/* In place and flushed. */
static void image_done(struct txns *t, struct image *im)
{
	struct cblk *b = im->blk;

	if (b->gidx == im->gidx)
		b->disk_version = im->version;
	image_unlink(t, im);
	image_free(t, im);
	cblk_settle(t, b);
}

/* ---- a pass -----------------------------------------------------------------------------------
 */

struct pass {
	struct image **im;
	size_t n, max;
};

static void pass_take(struct pass *p, struct image *im)
{
	if (im->writing || p->n == p->max)
		return;
	im->writing = true;
	im->gidx->writing++;
	p->im[p->n++] = im;
}

static void take_wanted(struct txns *t, struct pass *p)
{
	struct guard_idx *g;
	struct image *im;

	while ((g = TAILQ_FIRST(&t->wanted))) {
		TAILQ_REMOVE(&t->wanted, g, of_wanted);
		g->wanted = false;
		TAILQ_FOREACH(im, &g->images, of_guard)
		pass_take(p, im);
		gidx_settle(t, g);
	}
}

static void take_oldest(struct txns *t, struct pass *p, size_t want)
{
	struct txn *x;
	struct image *im;

	TAILQ_FOREACH(x, &t->logged, link)
	{
		if (!x->committed_ns)
			break; /* still being written: its images are not committed */
		TAILQ_FOREACH(im, &x->images, of_txn)
		{
			if (p->n >= want)
				return;
			pass_take(p, im);
		}
	}
}

static int by_addr(const void *a, const void *b)
{
	const struct image *x = *(struct image *const *)a, *y = *(struct image *const *)b;

	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

static int write_in_place(struct txns *t, const struct pass *p)
{
	struct dev_io io[IO_BATCH];
	size_t done = 0;

	while (done < p->n) {
		size_t n = p->n - done < IO_BATCH ? p->n - done : IO_BATCH;
		int r;

		for (size_t i = 0; i < n; i++)
			io[i] = (struct dev_io){
			    .op = DEV_WRITE,
			    .off_bytes = geo_payload_off(t->env.geo, p->im[done + i]->addr),
			    .len_bytes = t->env.geo->payload_io_bytes,
			    .buf = p->im[done + i]->buf,
			};
		r = txn_write(t, io, n);
		if (r)
			return r;
		done += n;
	}
	return 0;
}

static void end_pass_locked(struct txns *t, struct pass *p, int r)
{
	for (size_t i = 0; i < p->n; i++) {
		struct image *im = p->im[i];

		im->writing = false;
		im->gidx->writing--;
		if (im->stale)
			image_free(t, im);
		else if (!r)
			image_done(t, im);
	}
	if (r && !t->failed)
		txns_fail_locked(t, "committed metadata could not be written in place", r);
	if (!r) {
		atomic_fetch_add(&t->stats.checkpoints, 1);
		atomic_fetch_add(&t->stats.checkpointed_blocks, p->n);
	}
	t->pass_busy = false;
	t->passes++;
	cond_broadcast(&t->pass_cv);
	if (t->space_waiters)
		cond_signal(&t->ckpt_cv);
}

/* No pass is under way. Takes what is wanted and then up to @oldest old images. */
static void run_pass_locked(struct txns *t, size_t oldest)
{
	struct pass p = {.max = t->ncom};
	struct image *im;
	int r;

	lunfs_assert(!t->pass_busy);
	t->pass_busy = true;
	p.im = txn_zalloc((p.max + 1) * sizeof(*p.im));
	take_wanted(t, &p);
	TAILQ_FOREACH(im, &t->tombs, of_tombs)
	pass_take(&p, im);
	take_oldest(t, &p, oldest);
	mtx_unlock(&t->mtx);
	qsort(p.im, p.n, sizeof(*p.im), by_addr);
	r = write_in_place(t, &p);
	if (!r)
		r = flush_now(t);
	mtx_lock(&t->mtx);
	end_pass_locked(t, &p, r);
	free(p.im);
}

/* ---- tombs ------------------------------------------------------------------------------------
 */

bool txn_tomb_pending(struct txns *t, uint64_t addr)
{
	const struct cblk *b;
	bool yes;

	mtx_lock(&t->mtx);
	b = cblk_find(t, addr);
	yes = b && (b->tomb || b->freezing || (b->com && b->com->tomb));
	mtx_unlock(&t->mtx);
	return yes;
}

int txn_settle_tombs(struct txns *t)
{
	int r = txn_commit_all(t);
	uint64_t enough;

	mtx_lock(&t->mtx);
	enough = t->passes + 2; /* the one under way may have begun before the commit */
	while (t->pass_busy && t->passes < enough && !t->failed && !TAILQ_EMPTY(&t->tombs))
		cond_wait(&t->pass_cv, &t->mtx, CLOCK_FOREVER);
	if (!r && !t->failed && !t->pass_busy && !TAILQ_EMPTY(&t->tombs))
		run_pass_locked(t, 0);
	r = t->failed ? -EIO : r;
	mtx_unlock(&t->mtx);
	return r;
}

/* ---- tail -------------------------------------------------------------------------------------
 */

/* Transactions at the tail that nobody needs any more. */
static void retire_locked(struct txns *t)
{
	struct txn *x;

	while ((x = TAILQ_FIRST(&t->logged)) && x->pins == 0) {
		TAILQ_REMOVE(&t->logged, x, link);
		txn_free(x);
	}
}

static uint32_t new_tail_locked(const struct txns *t)
{
	const struct txn *x = TAILQ_FIRST(&t->logged);

	return x ? x->log_pos : t->head;
}

static uint32_t ring_distance(const struct txns *t, uint32_t from, uint32_t to)
{
	return (to + t->log_blks - from) % t->log_blks;
}

/* Log blocks that only the tail on disk still holds. */
static uint32_t freeable_locked(struct txns *t)
{
	retire_locked(t);
	if (TAILQ_EMPTY(&t->logged))
		return t->log_used;
	return ring_distance(t, t->tail, new_tail_locked(t));
}

static int write_header(struct txns *t, uint32_t tail, uint64_t seq)
{
	struct dev_io io = {.op = DEV_WRITE,
			    .off_bytes = geo_blk_off(t->region_blk),
			    .len_bytes = t->env.geo->sector_bytes};
	int r;

	io.buf = dev_buf_alloc(LUNFS_BLOCK_BYTES);
	journal_header(t->env.geo, host_slot(t->host), LUNFS_OWNER_GEN(host_owner(t->host)),
		       host_nonce(t->host), tail + 1, seq, io.buf);
	r = txn_write(t, &io, 1);
	free(io.buf);
	return r ? r : flush_now(t);
}

/*
 * Space in front of the new tail may be used once the header that says so is on the medium. One
 * thread at a time: the checkpointer, or txns_stop() after it. The mutex is not held.
 */
int tail_write(struct txns *t)
{
	uint32_t tail, freed;
	uint64_t seq;
	int r;

	mtx_lock(&t->mtx);
	freed = freeable_locked(t);
	tail = new_tail_locked(t);
	seq = TAILQ_EMPTY(&t->logged) ? t->next_seq : TAILQ_FIRST(&t->logged)->seq;
	mtx_unlock(&t->mtx);
	r = write_header(t, tail, seq);
	mtx_lock(&t->mtx);
	if (r) {
		txns_fail_locked(t, "the journal header could not be written", r);
	} else {
		t->tail = tail;
		t->log_used -= freed;
		cond_broadcast(&t->begin_cv);
	}
	mtx_unlock(&t->mtx);
	return r;
}

/* ---- background -------------------------------------------------------------------------------
 */

/* When the oldest committed image is due, 0 = now. */
static uint64_t ckpt_due_ns(const struct txns *t)
{
	const struct txn *x;

	if (t->ncom == 0)
		return CLOCK_FOREVER;
	if (t->log_used > t->log_blks / 2 || t->ncom > CACHE_MAX_BLKS)
		return 0;
	TAILQ_FOREACH(x, &t->logged, link)
	if (x->committed_ns && !TAILQ_EMPTY(&x->images))
		return x->committed_ns + CKPT_AGE_NS;
	return CLOCK_FOREVER;
}

static bool want_tail(struct txns *t)
{
	uint32_t freeable = freeable_locked(t);

	return freeable && (t->space_waiters || (t->ncom == 0 && t->log_used > t->log_blks / 2) ||
			    freeable > t->log_blks / 3);
}

void checkpoint_wake_locked(struct txns *t)
{
	if (t->ckpt_until && (ckpt_due_ns(t) < t->ckpt_until || want_tail(t)))
		cond_signal(&t->ckpt_cv);
}

void checkpoint_main(void *arg)
{
	struct txns *t = arg;

	mtx_lock(&t->mtx);
	while (!t->stop) {
		uint64_t due = t->space_waiters && t->ncom ? 0 : ckpt_due_ns(t);

		if (t->failed) {
			cond_wait(&t->ckpt_cv, &t->mtx, CLOCK_FOREVER);
		} else if (want_tail(t)) {
			mtx_unlock(&t->mtx);
			tail_write(t);
			mtx_lock(&t->mtx);
		} else if (due <= clock_now_ns(t->env.clk)) {
			if (t->pass_busy)
				cond_wait(&t->pass_cv, &t->mtx, CLOCK_FOREVER);
			else
				run_pass_locked(t, CKPT_PASS);
		} else {
			t->ckpt_until = due;
			cond_wait(&t->ckpt_cv, &t->mtx, due);
			t->ckpt_until = 0;
		}
	}
	mtx_unlock(&t->mtx);
}

int checkpoint_all(struct txns *t)
{
	int r;

	mtx_lock(&t->mtx);
	while (t->ncom && !t->failed) {
		if (t->pass_busy)
			cond_wait(&t->pass_cv, &t->mtx, CLOCK_FOREVER);
		else
			run_pass_locked(t, SIZE_MAX);
	}
	r = t->failed ? -EIO : 0;
	mtx_unlock(&t->mtx);
	return r;
}

/* ---- giving up a guard ------------------------------------------------------------------------
 */

/*
 * The pass under way may be writing something of this guard, which may have been superseded since.
 * What is of other guards is none of its business: locks that are given up one by one would wait
 * for a pass each.
 */
static void wait_pass_locked(struct txns *t, uint64_t addr)
{
	const struct guard_idx *g = gidx_find(t, addr);
	uint64_t passes = t->passes;

	while (g && g->writing && t->pass_busy && t->passes == passes) {
		cond_wait(&t->pass_cv, &t->mtx, CLOCK_FOREVER);
		g = gidx_find(t, addr);
	}
}

static int checkpoint_guard_locked(struct txns *t, uint64_t addr)
{
	for (;;) {
		struct guard_idx *g = gidx_find(t, addr);

		if (!g || TAILQ_EMPTY(&g->images))
			return 0;
		if (t->failed)
			return -EIO;
		if (!g->wanted) {
			g->wanted = true;
			TAILQ_INSERT_TAIL(&t->wanted, g, of_wanted);
		}
		if (t->pass_busy)
			cond_wait(&t->pass_cv, &t->mtx, CLOCK_FOREVER);
		else
			run_pass_locked(t, 0);
	}
}

static void drop_guard_locked(struct txns *t, uint64_t addr)
{
	struct guard_idx *g = gidx_find(t, addr);
	struct cblk *b, *next;

	if (g)
		refill_note(t, g);
	for (b = g ? TAILQ_FIRST(&g->blks) : NULL; b; b = next) {
		next = TAILQ_NEXT(b, of_guard);
		lunfs_assert(!b->refs && !b->dirty);
		/* Dropping the last block frees the index too, and then there is no next. */
		cblk_drop(t, b);
	}
	g = gidx_find(t, addr);
	if (g)
		gidx_settle(t, g);
	recent_give_up(t, addr);
}

int txn_flush_guard(struct txns *t, uint64_t guard_addr, enum lock_mode keep)
{
	struct guard_idx *g;
	int r = 0;

	mtx_lock(&t->mtx);
	g = gidx_find(t, guard_addr);
	if (g && g->last_tid > t->durable_tid)
		r = t->failed ? -EIO : txn_wait_done(t, g->last_tid, false);
	if (!r)
		wait_pass_locked(t, guard_addr);
	if (!r)
		r = checkpoint_guard_locked(t, guard_addr);
	if (!r && keep == LOCK_NONE)
		drop_guard_locked(t, guard_addr);
	mtx_unlock(&t->mtx);
	return r;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Commit = data flushed, journal written, flushed:
 *
 *   close the running transaction and wait until its handles have left; freeze every changed block
 *   into an image of its own; open the next transaction; flush, unless the last flush has done all
 *   that is needed; write the log; flush; then the images are the blocks' committed ones,
 *   call-backs run, waiters go on.
 *
 * Handles never wait for another host while joined, so the drain ends. Whoever comes meanwhile
 * joins the next transaction: that is the group commit.
 *
 * One commit at a time. The committer, a thread, does it for what is old and for whoever must not
 * be kept busy; who waits for nothing else (fsync) does it himself, which spares two hand-overs
 * between threads.
 *
 * When the volume has failed nothing more is committed; the committer then only tells the
 * call-backs.
 */
#include "txn/txn_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void callbacks_run(struct callback_list *list, bool ok)
{
	struct callback *c;

	while ((c = TAILQ_FIRST(list))) {
		TAILQ_REMOVE(list, c, link);
		c->fn(c->arg, ok);
		free(c);
	}
}

/* ---- freeze -----------------------------------------------------------------------------------
 */

static void *frozen_payload(struct txns *t, struct cblk *b)
{
	struct lunfs_blk_hdr *h;
	void *buf;

	mtx_lock(&t->mtx);
	buf = pool_get(t);
	mtx_unlock(&t->mtx);
	memcpy(buf, b->m.data, LUNFS_PAYLOAD_BYTES);
	memset((uint8_t *)buf + LUNFS_PAYLOAD_BYTES, 0, LUNFS_BLOCK_BYTES - LUNFS_PAYLOAD_BYTES);
	h = buf;
	h->version = le64_make(b->version);
	blk_seal(buf);
	return buf;
}

static void freeze_blk(struct txns *t, struct txn *x, struct cblk *b)
{
	struct image *im = txn_zalloc(sizeof(*im));

	if (!b->revoked)
		b->version++;
	im->addr = b->m.addr;
	im->guard = b->dirty_guard;
	im->possession = b->possession;
	im->version = b->version;
	im->txn = x;
	im->blk = b;
	im->tomb = b->tomb;
	if (!b->revoked)
		im->buf = frozen_payload(t, b);
	TAILQ_INSERT_TAIL(&x->images, im, of_txn);
}

/*
 * Without the mutex: the transaction is closing and has no handles, so nobody changes its blocks,
 * and being dirty keeps them in the cache.
 */
static void freeze(struct txns *t, struct txn *x)
{
	struct cblk *b;

	TAILQ_FOREACH(b, &x->dirty, of_txn)
	freeze_blk(t, x, b);
}

/* The blocks are free to change again, in the next transaction. */
static void thaw_locked(struct txn *x)
{
	struct cblk *b;

	while ((b = TAILQ_FIRST(&x->dirty))) {
		TAILQ_REMOVE(&x->dirty, b, of_txn);
		b->dirty = NULL;
		b->revoked = b->tomb = false;
		b->freezing = true;
	}
}

static void take_log_space_locked(struct txns *t, struct txn *x, uint32_t blks)
{
	x->seq = t->next_seq++;
	x->log_pos = t->head;
	x->log_blks = blks;
	t->head = (t->head + blks) % t->log_blks;
	t->log_used += blks;
	TAILQ_INSERT_TAIL(&t->logged, x, link);
}

static void open_next_locked(struct txns *t)
{
	t->running = txn_new(t->running->id + 1);
	cond_broadcast(&t->begin_cv);
}

/* ---- write ------------------------------------------------------------------------------------
 */

/* As pieces that do not cross the end of the ring. */
static size_t log_pieces(const struct txns *t, const struct txn *x, uint8_t *log, struct dev_io *io)
{
	uint32_t done = 0, max = LOG_WRITE_BYTES / LUNFS_BLOCK_BYTES;
	size_t n = 0;

	while (done < x->log_blks) {
		uint32_t pos = (x->log_pos + done) % t->log_blks;
		uint32_t len = x->log_blks - done;

		if (len > max)
			len = max;
		if (len > t->log_blks - pos)
			len = t->log_blks - pos;
		io[n++] = (struct dev_io){.op = DEV_WRITE,
					  .off_bytes = geo_blk_off(t->region_blk + 1 + pos),
					  .len_bytes = (size_t)len * LUNFS_BLOCK_BYTES,
					  .buf = log + (size_t)done * LUNFS_BLOCK_BYTES};
		done += len;
	}
	return n;
}

/*
 * Fresh memory for each commit would cost more, in page faults, than what is written to it. There
 * is one commit at a time.
 */
static uint8_t *log_mem_get(struct txns *t, uint32_t blks)
{
	if (blks > LOG_KEEP_BLKS)
		return dev_buf_alloc((size_t)blks * LUNFS_BLOCK_BYTES);
	if (!t->log_mem)
		t->log_mem = dev_buf_alloc(LOG_KEEP_BLKS * (size_t)LUNFS_BLOCK_BYTES);
	return t->log_mem;
}

static int write_log(struct txns *t, struct txn *x, unsigned entries)
{
	uint32_t max = LOG_WRITE_BYTES / LUNFS_BLOCK_BYTES;
	struct dev_io *io = txn_zalloc((x->log_blks / max + 3) * sizeof(*io));
	uint8_t *log = log_mem_get(t, x->log_blks);
	int r;

	journal_encode(t, x, entries, log);
	r = txn_write(t, io, log_pieces(t, x, log, io));
	if (log != t->log_mem)
		free(log);
	free(io);
	return r;
}

/* ---- end --------------------------------------------------------------------------------------
 */

static void count_commit(struct txns *t, const struct txn *x, unsigned entries, uint64_t since_ns)
{
	unsigned long long us = (clock_now_ns(t->env.clk) - since_ns) / 1000;

	atomic_fetch_add(&t->stats.commits, 1);
	atomic_fetch_add(&t->stats.committed_blocks, entries);
	atomic_fetch_add(&t->stats.log_blocks, x->log_blks);
	if (us > atomic_load(&t->stats.commit_us_max))
		atomic_store(&t->stats.commit_us_max, us);
}

static void images_committed_locked(struct txns *t, struct txn *x)
{
	struct image *im, *next;

	for (im = TAILQ_FIRST(&x->images); im; im = next) {
		next = TAILQ_NEXT(im, of_txn);
		im->blk->freezing = false;
		image_commit(t, im); /* a revoke is gone after this */
	}
	x->committed_ns = clock_now_ns(t->env.clk) | 1;
}

static void drop_images_locked(struct txns *t, struct txn *x)
{
	struct image *im;

	while ((im = TAILQ_FIRST(&x->images))) {
		TAILQ_REMOVE(&x->images, im, of_txn);
		im->blk->freezing = false;
		if (im->buf)
			pool_put(t, im->buf);
		free(im);
	}
}

/* A failed volume: the transaction's blocks stay as they are, its call-backs hear of it. */
static void drop_locked(struct txns *t, struct txn *x)
{
	struct callback_list list = TAILQ_HEAD_INITIALIZER(list);

	TAILQ_CONCAT(&list, &x->callbacks, link);
	mtx_unlock(&t->mtx);
	callbacks_run(&list, false);
	mtx_lock(&t->mtx);
}

/*
 * All that was written before is durable before the log, which may tell of it; and so are the
 * records of all locks, since an image whose lock is lost counts as never written, and those beside
 * it would stand alone. Where names and attributes alone are changed the flush after the last log
 * has seen to that.
 */
static bool needs_flush(struct txns *t, unsigned entries)
{
	return !entries || t->flush_written != host_written(t->host) ||
	       t->flush_unproven != locks_unproven(t->locks);
}

static int make_durable(struct txns *t, struct txn *x, unsigned entries, bool flush)
{
	int r = flush ? flush_now(t) : 0;

	if (!r && entries)
		r = write_log(t, x, entries);
	if (!r && entries)
		r = flush_now(t);
	if (!r && !host_lease_ok(t->host))
		r = host_wait_active(t->host);
	return r;
}

/*
 * While the call-backs run the images may get into their places, and all that holds the transaction
 * then is its own pin.
 */
static void end_commit_locked(struct txns *t, struct txn *x, int r)
{
	struct callback_list list = TAILQ_HEAD_INITIALIZER(list);
	bool logged = x->log_blks != 0, ok;

	if (r)
		txns_fail_locked(t, "the journal could not be written", r);
	ok = !t->failed;
	if (ok)
		images_committed_locked(t, x);
	else
		drop_images_locked(t, x);
	TAILQ_CONCAT(&list, &x->callbacks, link);
	mtx_unlock(&t->mtx);
	callbacks_run(&list, ok);
	mtx_lock(&t->mtx);
	if (ok) {
		lunfs_assert(x->pins > 0);
		x->pins--;
		t->durable_tid = x->id;
	}
	if (!logged)
		txn_free(x);
	checkpoint_wake_locked(t);
}

static void settle_guards_locked(struct txns *t, uint64_t *guards, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct guard_idx *g = gidx_find(t, guards[i]);

		if (g)
			gidx_settle(t, g);
	}
}

static uint64_t *guards_of(const struct txn *x, unsigned entries)
{
	uint64_t *guards = txn_zalloc((entries + 1) * sizeof(*guards));
	const struct image *im;
	unsigned n = 0;

	TAILQ_FOREACH(im, &x->images, of_txn)
	guards[n++] = im->guard;
	lunfs_assert(n == entries);
	return guards;
}

static unsigned count_revokes(const struct txn *x)
{
	const struct image *im;
	unsigned n = 0;

	TAILQ_FOREACH(im, &x->images, of_txn)
	n += im->buf == NULL;
	return n;
}

/* Closed and drained: freeze it, open the next one, make it durable. */
static void commit_closed_locked(struct txns *t, struct txn *x, uint64_t since_ns)
{
	unsigned entries = x->entries;
	uint64_t *guards;
	uint32_t blks;
	bool flush;
	int r;

	mtx_unlock(&t->mtx);
	freeze(t, x);
	guards = guards_of(x, entries);
	mtx_lock(&t->mtx);
	blks = log_blks_of(entries, entries - count_revokes(x));
	thaw_locked(x);
	x->pins = 1; /* until it is committed */
	if (t->log_used + blks > t->log_blks) {
		blks = 0;
		entries = 0;
		txns_fail_locked(t, "a transaction outgrew the journal", -ENOSPC);
	}
	if (blks)
		take_log_space_locked(t, x, blks);
	open_next_locked(t);
	flush = needs_flush(t, entries);
	mtx_unlock(&t->mtx);
	r = make_durable(t, x, entries, flush);
	if (!r)
		count_commit(t, x, entries, since_ns);
	mtx_lock(&t->mtx);
	end_commit_locked(t, x, r);
	settle_guards_locked(t, guards, entries);
	free(guards);
}

void commit_locked(struct txns *t)
{
	struct txn *x = t->running;
	uint64_t since_ns = clock_now_ns(t->env.clk);

	lunfs_assert(!t->commit_busy_ns);
	t->commit_busy_ns = since_ns | 1;
	x->closing = true;
	while (x->handles && !t->failed)
		cond_wait(&t->drain_cv, &t->mtx, CLOCK_FOREVER);
	if (!t->failed)
		commit_closed_locked(t, x, since_ns);
	t->commit_busy_ns = 0;
	cond_broadcast(&t->done_cv);
	if (t->committer_waits) /* for us to be ready, not for work */
		cond_signal(&t->commit_cv);
}

static uint64_t due_ns(const struct txns *t)
{
	const struct txn *x = t->running;

	if (t->failed)
		return x->handles || TAILQ_EMPTY(&x->callbacks) ? CLOCK_FOREVER : 0;
	if (txn_is_empty(x))
		return CLOCK_FOREVER;
	return t->want_tid >= x->id ? 0 : x->began_ns + COMMIT_AGE_NS;
}

/*
 * Sleep until there may be something to do. While there is work now and then nobody needs to wake
 * the committer for the first change of each transaction: it looks again before that can be old.
 */
static void wait_for_work_locked(struct txns *t, uint64_t due)
{
	uint64_t id = t->running->id;

	if (due == CLOCK_FOREVER && !t->failed && id != t->committer_saw)
		due = clock_now_ns(t->env.clk) + COMMIT_AGE_NS;
	t->committer_saw = id;
	t->committer_until = due;
	cond_wait(&t->commit_cv, &t->mtx, due);
	t->committer_until = 0;
}

void commit_main(void *arg)
{
	struct txns *t = arg;

	mtx_lock(&t->mtx);
	for (;;) {
		uint64_t due = due_ns(t);

		if (t->commit_busy_ns) {
			t->committer_waits = true;
			cond_wait(&t->commit_cv, &t->mtx, CLOCK_FOREVER);
			t->committer_waits = false;
		} else if (due <= clock_now_ns(t->env.clk)) {
			if (t->failed)
				drop_locked(t, t->running);
			else
				commit_locked(t);
		} else if (t->stop) {
			break;
		} else {
			wait_for_work_locked(t, due);
		}
	}
	mtx_unlock(&t->mtx);
}

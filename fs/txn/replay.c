/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Replay of a dead host's journal (DESIGN section 7), in four steps:
 *
 *   scan    (scan.c) what the journal says last of each block.
 *   guards  of all winning images are renewed by ATS, which says at once which are still held in
 *           the possession that the image names. Images of other possessions are dead.
 *   write   live images that are newer than what stands in place.
 *   flush.
 *
 * Nothing is written before the guards are renewed, every step may be cut off and repeated, and
 * the journal is left as it is: its slot becomes FREE, and the next incarnation writes a new
 * header.
 */
#include "txn/replay_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define GUARD_BATCH 256u
#define WRITE_BATCH 64u
#define SETTLE_NS 20000000ull

/* ---- guards -----------------------------------------------------------------------------------
 */

static int by_guard(const void *a, const void *b)
{
	const struct guard_renew *x = a, *y = b;

	if (x->addr != y->addr)
		return x->addr < y->addr ? -1 : 1;
	return x->possession > y->possession ? -1 : x->possession < y->possession;
}

/*
 * One wish a guard, for its highest possession: possessions only grow, so images of a lower one are
 * dead whatever the record says.
 */
static size_t unique_guards(struct guard_renew *gr, size_t n)
{
	size_t k = 0;

	qsort(gr, n, sizeof(*gr), by_guard);
	for (size_t i = 0; i < n; i++)
		if (k == 0 || gr[k - 1].addr != gr[i].addr)
			gr[k++] = gr[i];
	return k;
}

static const struct guard_renew *guard_find(const struct guard_renew *gr, size_t n, uint64_t addr)
{
	size_t lo = 0, hi = n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (gr[mid].addr == addr)
			return &gr[mid];
		if (gr[mid].addr < addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

static void mark_live(struct replay *rp, const struct guard_renew *gr, size_t n)
{
	struct mention *m, *next;

	HASH_ITER (hh, rp->mentions, m, next) {
		const struct guard_renew *g = m->img ? guard_find(gr, n, m->guard) : NULL;

		m->live = g && g->live && g->possession == m->possession;
		if (m->live && m->addr == m->guard && m->version < g->recorded_version)
			m->live = false;
	}
}

static int renew_guards(struct replay *rp)
{
	struct guard_renew *gr = txn_zalloc((HASH_COUNT(rp->mentions) + 1) * sizeof(*gr));
	struct mention *m, *next;
	size_t n = 0;
	int r = 0;

	HASH_ITER (hh, rp->mentions, m, next) {
		if (m->img)
			gr[n++] =
			    (struct guard_renew){.addr = m->guard, .possession = m->possession};
	}
	n = unique_guards(gr, n);
	for (size_t i = 0; i < n && !r; i += GUARD_BATCH)
		r = locks_renew_guards(rp->t->locks, rp->owner, gr + i,
				       n - i < GUARD_BATCH ? n - i : GUARD_BATCH);
	if (!r)
		mark_live(rp, gr, n);
	free(gr);
	return r;
}

/* ---- write ------------------------------------------------------------------------------------
 */

static bool is_free_image(const struct mention *m)
{
	return le16_get(((const struct lunfs_blk_hdr *)m->img)->type) == LUNFS_BLK_FREE;
}

enum place { PLACE_OLDER, PLACE_NO_NEWS, PLACE_INVALID };

static enum place judge_place(const struct replay *rp, const struct mention *m,
			      const struct dev_io *io)
{
	const struct lunfs_blk_hdr *h = io->buf;

	if (io->result || blk_check(rp->g, io->buf, le16_get(h->type), m->addr))
		return PLACE_INVALID;
	return le64_get(h->version) >= m->version ? PLACE_NO_NEWS : PLACE_OLDER;
}

/* This host has the cell in another role since, and is about to write it, or does. */
static bool is_ours(struct txns *t, uint64_t addr)
{
	const struct cblk *b;
	bool yes;

	mtx_lock(&t->mtx);
	b = cblk_find(t, addr);
	yes = b && (b->dirty || b->freezing || b->com);
	mtx_unlock(&t->mtx);
	return yes;
}

static int note_unknown(struct replay *rp, int r)
{
	rp->unknown |= r == -ETIMEDOUT;
	return r;
}

/*
 * Write what is newer than its place. A place that fails its checks was torn by the dead host: it
 * is written too, but for FREE images, whose cell another host, or this one, may have had since
 * under a guard of its own and be rewriting at this moment: they are marked torn, for later
 * (@settled: now it is later).
 */
static int write_batch(struct replay *rp, struct mention **m, size_t n, uint8_t *bufs, bool settled)
{
	struct dev_io io[WRITE_BATCH];
	size_t k = 0;

	for (size_t i = 0; i < n; i++)
		io[i] = (struct dev_io){.op = DEV_READ,
					.off_bytes = geo_payload_off(rp->g, m[i]->addr),
					.len_bytes = rp->g->payload_io_bytes,
					.buf = bufs + i * LUNFS_BLOCK_BYTES};
	txn_read(rp->t, io, n); /* what cannot be read counts as invalid */
	for (size_t i = 0; i < n; i++) {
		enum place p = judge_place(rp, m[i], &io[i]);

		if (p == PLACE_INVALID && is_free_image(m[i]) && is_ours(rp->t, m[i]->addr))
			p = PLACE_NO_NEWS;
		m[i]->torn = p == PLACE_INVALID && is_free_image(m[i]) && !settled;
		rp->torn += m[i]->torn;
		if (p == PLACE_NO_NEWS)
			atomic_fetch_add(&rp->t->stats.skipped_blocks, 1);
		if (p == PLACE_NO_NEWS || m[i]->torn)
			continue;
		memset(io[i].buf, 0, LUNFS_BLOCK_BYTES);
		memcpy(io[i].buf, m[i]->img, LUNFS_PAYLOAD_BYTES);
		io[k] = io[i];
		io[k++].op = DEV_WRITE;
	}
	atomic_fetch_add(&rp->t->stats.replayed_blocks, k);
	return k ? note_unknown(rp, txn_write(rp->t, io, k)) : 0;
}

static int by_mention_addr(const void *a, const void *b)
{
	const struct mention *x = *(struct mention *const *)a, *y = *(struct mention *const *)b;

	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

static int write_all(struct replay *rp, struct mention **m, size_t n, bool settled)
{
	uint8_t *bufs = dev_buf_alloc((size_t)WRITE_BATCH * LUNFS_BLOCK_BYTES);
	int r = 0;

	rp->torn = 0;
	for (size_t i = 0; i < n && !r; i += WRITE_BATCH)
		r = write_batch(rp, m + i, n - i < WRITE_BATCH ? n - i : WRITE_BATCH, bufs,
				settled);
	free(bufs);
	return r;
}

/* This host, too, writes in place while it replays: until its last image has got there. */
static bool writes_itself(struct txns *t)
{
	bool writes;

	mtx_lock(&t->mtx);
	writes = t->started || t->ncom;
	mtx_unlock(&t->mtx);
	return writes;
}

static bool live_may_write(const struct replay *rp)
{
	for (unsigned s = 0; s < geo_all_slots(rp->g); s++)
		if (s != rp->slot && s != host_slot(rp->t->host) && host_live_owner(rp->t->host, s))
			return true;
	return writes_itself(rp->t);
}

static size_t keep_torn(struct mention **m, size_t n)
{
	size_t k = 0;

	for (size_t i = 0; i < n; i++)
		if (m[i]->torn)
			m[k++] = m[i];
	return k;
}

/* A live host's write ends within its deadline; what is still torn after two of them is the dead's.
 */
static int write_torn(struct replay *rp, struct mention **m, size_t n)
{
	uint64_t until_ns = clock_now_ns(rp->t->env.clk) + 2000000ull * rp->g->deadline_ms;
	int r = 0;

	n = keep_torn(m, n);
	while (n && !r && live_may_write(rp) && clock_now_ns(rp->t->env.clk) < until_ns) {
		clock_sleep_ns(rp->t->env.clk, SETTLE_NS);
		r = write_all(rp, m, n, false);
		n = keep_torn(m, n);
	}
	return n && !r ? write_all(rp, m, n, true) : r;
}

static int write_live(struct replay *rp)
{
	struct mention **live = txn_zalloc((HASH_COUNT(rp->mentions) + 1) * sizeof(*live));
	struct mention *m, *next;
	size_t n = 0;
	int r;

	HASH_ITER (hh, rp->mentions, m, next) {
		if (m->live)
			live[n++] = m;
		else if (m->img)
			atomic_fetch_add(&rp->t->stats.skipped_blocks, 1);
	}
	qsort(live, n, sizeof(*live), by_mention_addr);
	r = write_all(rp, live, n, false);
	if (!r && rp->torn)
		r = write_torn(rp, live, n);
	free(live);
	return r;
}

static int replay(struct replay *rp)
{
	int r = journal_scan(rp);

	if (r == -ENOENT)
		return 0;
	if (!r)
		r = renew_guards(rp);
	if (!r)
		r = write_live(rp);
	if (!r)
		r = txn_flush(rp->t);
	if (!r)
		log_info("journal-replayed",
			 "%u transactions of dead host slot %u were replayed from its journal",
			 rp->txns, rp->slot);
	mentions_free(rp);
	return r;
}

int txn_replay(struct txns *t, unsigned slot, uint64_t owner, uint64_t nonce)
{
	const struct geo *g = t->env.geo;
	struct replay rp = {.t = t, .g = g, .slot = slot, .owner = owner, .nonce = nonce};
	int r;

	if (slot >= g->slots || slot >= LUNFS_MAX_SLOTS || !g->journal_blk[slot])
		return 0;
	rp.region_blk = g->journal_blk[slot];
	rp.log_blks = g->journal_blks - 1;
	r = replay(&rp);
	if (r == -ETIMEDOUT && !rp.unknown)
		r = -EIO; /* of a read */
	if (r)
		log_err("replay-failed",
			"the journal of dead host slot %u could not be replayed (%s); its locks "
			"stay held and the replay is tried again",
			slot, strerror(-r));
	else
		atomic_fetch_add(&t->stats.replays, 1);
	return r;
}

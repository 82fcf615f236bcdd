/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The cache of payloads. One cblk an address, whatever role the cell plays; its guard index says
 * which lock protects the present role. Clean blocks that nobody references and whose committed
 * copy is in place stand on an LRU list and may go at any time; all others stay.
 *
 * A payload that was read before anybody asked for it (early.c) is kept unchecked and verified by
 * its first user.
 */
#include "txn/txn_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void *pool_get(struct txns *t)
{
	return t->npool ? t->pool[--t->npool] : dev_buf_alloc(LUNFS_BLOCK_BYTES);
}

void pool_put(struct txns *t, void *buf)
{
	if (t->npool < POOL_MAX_BUFS)
		t->pool[t->npool++] = buf;
	else
		free(buf);
}

struct cblk *cblk_find(struct txns *t, uint64_t addr)
{
	struct cblk *b;

	HASH_FIND(hh, t->blks, &addr, sizeof(addr), b);
	return b;
}

void cblk_set_guard(struct txns *t, struct cblk *b, uint64_t guard_addr)
{
	b->gidx = gidx_get(t, guard_addr);
	TAILQ_INSERT_TAIL(&b->gidx->blks, b, of_guard);
}

static void role_clear(struct txns *t, struct cblk *b)
{
	struct guard_idx *g = b->gidx;

	if (!g)
		return;
	TAILQ_REMOVE(&g->blks, b, of_guard);
	b->gidx = NULL;
	gidx_settle(t, g);
}

struct cblk *cblk_make(struct txns *t, uint64_t addr)
{
	struct cblk *b = txn_zalloc(sizeof(*b));

	b->m.addr = addr;
	b->m.data = pool_get(t);
	HASH_ADD(hh, t->blks, m.addr, sizeof(b->m.addr), b);
	return b;
}

static void lru_remove(struct txns *t, struct cblk *b)
{
	if (!b->on_lru)
		return;
	TAILQ_REMOVE(&t->lru, b, of_lru);
	b->on_lru = false;
	t->nlru--;
}

static bool cblk_idle(const struct cblk *b)
{
	return !b->refs && !b->dirty && !b->freezing && !b->com && b->state != CBLK_LOADING;
}

void cblk_drop(struct txns *t, struct cblk *b)
{
	lunfs_assert(cblk_idle(b));
	lru_remove(t, b);
	if (b->gidx && b->gidx->addr == b->m.addr && !b->unverified)
		recent_put(t, b->m.addr, b->disk_version);
	role_clear(t, b);
	HASH_DEL(t->blks, b);
	pool_put(t, b->m.data);
	free(b);
}

void cblk_settle(struct txns *t, struct cblk *b)
{
	if (b->on_lru || !cblk_idle(b))
		return;
	if (b->state == CBLK_GONE) {
		cblk_drop(t, b);
		return;
	}
	TAILQ_INSERT_TAIL(&t->lru, b, of_lru);
	b->on_lru = true;
	t->nlru++;
	while (t->nlru > CACHE_MAX_BLKS)
		cblk_drop(t, TAILQ_FIRST(&t->lru));
}

void cache_drop_all(struct txns *t)
{
	struct guard_idx *g, *gnext;
	struct cblk *b, *next;

	HASH_ITER (hh, t->blks, b, next) {
		lunfs_assert(!b->com && !b->freezing);
		b->dirty = NULL;
		b->refs = 0;
		b->state = CBLK_VALID;
		cblk_drop(t, b);
	}
	HASH_ITER (hh, t->guards, g, gnext) {
		HASH_DEL(t->guards, g);
		free(g);
	}
	while (t->npool)
		free(t->pool[--t->npool]);
}

/* ---- get and put ------------------------------------------------------------------------------
 */

enum verdict { V_OK, V_OTHER_ROLE, V_BAD, V_OLD };

/* What a payload just read is, for a user who expects @type under @guard. */
static enum verdict judge(const struct txns *t, const void *payload, uint64_t addr, uint16_t type,
			  uint64_t guard, uint64_t recorded)
{
	const struct lunfs_blk_hdr *h = payload;

	if (blk_check(t->env.geo, payload, le16_get(h->type), addr))
		return V_BAD;
	if (le16_get(h->type) != type || le64_get(h->guard) != guard)
		return V_OTHER_ROLE;
	if (addr == guard && le64_get(h->version) < recorded)
		return V_OLD;
	return V_OK;
}

static int say_damaged(uint64_t addr, uint64_t guard, uint16_t type, enum verdict v)
{
	if (v == V_OTHER_ROLE && addr == guard)
		return -ESTALE; /* an old handle: the cell serves as something else, or nothing */
	if (v == V_OLD)
		log_err("lost-write",
			"block %llu: the device returned an older version than the last holder of "
			"its lock wrote, so the device lost a write; the block is not used, run "
			"fsck.lunfs and check the array",
			(unsigned long long)addr);
	else
		log_err("metadata-damaged",
			"block %llu of lock %llu does not hold %s block of type %u; it is not "
			"used, run fsck.lunfs",
			(unsigned long long)addr, (unsigned long long)guard,
			v == V_BAD ? "a valid" : "the expected", type);
	return -EUCLEAN;
}

/* Read until it passes its checks, a few times: somebody without the lock may be rewriting it. */
static int read_payload(struct txns *t, uint64_t addr, uint16_t type, uint64_t guard,
			uint64_t recorded, void *buf)
{
	struct dev_io io = {.op = DEV_READ,
			    .off_bytes = geo_payload_off(t->env.geo, addr),
			    .len_bytes = t->env.geo->payload_io_bytes,
			    .buf = buf};
	enum verdict v = V_BAD;

	for (unsigned tries = 0; tries < READ_TRIES; tries++) {
		int r = txn_read(t, &io, 1);

		if (r) {
			log_err("metadata-read", "block %llu could not be read: %s",
				(unsigned long long)addr, strerror(-r));
			return -EIO;
		}
		v = judge(t, buf, addr, type, guard, recorded);
		if (v == V_OK)
			return 0;
		if (v == V_OTHER_ROLE)
			break;
		clock_sleep_ns(t->env.clk, READ_RETRY_NS);
	}
	return say_damaged(addr, guard, type, v);
}

void cblk_adopt_header(struct cblk *b)
{
	const struct lunfs_blk_hdr *h = (const void *)b->m.data;

	b->type = le16_get(h->type);
	b->version = le64_get(h->version);
	b->disk_version = b->version;
}

static int load(struct txns *t, struct lock *guard, uint64_t addr, uint16_t type,
		uint64_t guard_addr, uint64_t recorded, struct mblk **out)
{
	struct cblk *b = cblk_make(t, addr);
	uint64_t began;
	int r;

	b->state = CBLK_LOADING;
	mtx_unlock(&t->mtx);
	atomic_fetch_add(&t->stats.cache_misses, 1);
	began = clock_now_ns(t->env.clk);
	r = read_payload(t, addr, type, guard_addr, recorded, b->m.data);
	mtx_lock(&t->mtx);
	if (!r)
		refill_learn_load(t, clock_now_ns(t->env.clk) - began);
	b->state = CBLK_VALID;
	cond_broadcast(&t->load_cv);
	if (r) {
		cblk_drop(t, b);
		return r;
	}
	cblk_adopt_header(b);
	b->m.guard = guard;
	b->refs = 1;
	cblk_set_guard(t, b, guard_addr);
	*out = &b->m;
	return 0;
}

/* A cached block: 0 and a reference, -ESTALE, -EUCLEAN, or -EAGAIN: it had to be dropped. */
static int hit(struct txns *t, struct cblk *b, struct lock *guard, uint16_t type,
	       uint64_t guard_addr, uint64_t recorded)
{
	if (b->state == CBLK_GONE)
		return guard_addr == b->m.addr ? -ESTALE : -EUCLEAN;
	if (b->unverified) {
		if (judge(t, b->m.data, b->m.addr, type, guard_addr, recorded) != V_OK) {
			cblk_drop(t, b);
			return -EAGAIN;
		}
		b->unverified = false;
	} else if (b->gidx->addr != guard_addr || b->type != type) {
		if (cblk_idle(b)) { /* another host may have reused the cell: look at the device */
			cblk_drop(t, b);
			return -EAGAIN;
		}
		return say_damaged(b->m.addr, guard_addr, type, V_OTHER_ROLE);
	}
	atomic_fetch_add(&t->stats.cache_hits, 1);
	lru_remove(t, b);
	TAILQ_REMOVE(&b->gidx->blks, b, of_guard);
	TAILQ_INSERT_TAIL(&b->gidx->blks, b, of_guard);
	b->refs++;
	if (b->m.guard != guard)
		b->m.guard = guard;
	return 0;
}

int mblk_get(struct txns *t, struct lock *guard, uint64_t addr, uint16_t type, struct mblk **out)
{
	uint64_t guard_addr = lock_addr(guard);
	uint64_t recorded = addr == guard_addr ? lock_recorded_version(guard) : 0;
	struct cblk *b;
	int r = -EAGAIN;

	if (!cell_addr_ok(t->env.geo, addr))
		return say_damaged(addr, guard_addr, type, V_BAD);
	mtx_lock(&t->mtx);
	while (r == -EAGAIN) {
		b = cblk_find(t, addr);
		if (!b) {
			if (!refill(t, guard_addr, addr))
				r = load(t, guard, addr, type, guard_addr, recorded, out);
		} else if (b->state == CBLK_LOADING) {
			cond_wait(&t->load_cv, &t->mtx, CLOCK_FOREVER);
		} else {
			r = hit(t, b, guard, type, guard_addr, recorded);
			if (r == 0)
				*out = &b->m;
		}
	}
	mtx_unlock(&t->mtx);
	return r;
}

static void put_locked(struct txns *t, struct cblk *b)
{
	lunfs_assert(b->refs > 0);
	b->refs--;
	if (b->detached && !b->refs) {
		pool_put(t, b->m.data);
		free(b);
	} else if (!b->detached) {
		cblk_settle(t, b);
	}
}

void mblk_put(struct txns *t, struct mblk *m)
{
	mtx_lock(&t->mtx);
	put_locked(t, cblk_of(m));
	mtx_unlock(&t->mtx);
}

/* ---- change -----------------------------------------------------------------------------------
 */

static void dirty_locked(struct txn_handle *h, struct cblk *b, uint64_t guard_addr,
			 uint64_t possession, uint64_t recorded, bool times_only)
{
	struct guard_idx *g = gidx_get(h->t, guard_addr);

	g->last_tid = h->txn->id;
	if (!times_only)
		g->data_tid = h->txn->id;
	b->dirty_guard = guard_addr;
	b->possession = possession;
	if (b->version < recorded)
		b->version = recorded;
	lru_remove(h->t, b);
	if (!b->dirty)
		txn_changed(h, b);
	lunfs_assert(b->dirty == h->txn);
}

/* The cell has a user already: the bitmaps lie. Whoever asked gets a scratch block to finish with.
 */
static struct cblk *detached_blk(struct txns *t, uint64_t addr)
{
	struct cblk *b = txn_zalloc(sizeof(*b));

	log_err("cell-used-twice",
		"block %llu was handed out as free although it is in use; run fsck.lunfs",
		(unsigned long long)addr);
	txns_fail_locked(t, "the space map is damaged", -EUCLEAN);
	b->m.addr = addr;
	b->m.data = pool_get(t);
	b->detached = true;
	return b;
}

/* The block of a cell that takes up a new role: without references, not dirty in its old role. */
static struct cblk *blk_for_new(struct txns *t, uint64_t addr)
{
	struct cblk *b = cblk_find(t, addr);

	while (b && b->state == CBLK_LOADING) {
		cond_wait(&t->load_cv, &t->mtx, CLOCK_FOREVER);
		b = cblk_find(t, addr);
	}
	if (!b)
		return cblk_make(t, addr);
	if (b->refs || (b->dirty && !b->revoked && !b->tomb))
		return detached_blk(t, addr);
	if (b->unverified)
		b->version = 0; /* the allocator knows what is in place, this header may lie */
	lru_remove(t, b);
	role_clear(t, b);
	return b;
}

struct mblk *mblk_new(struct txn_handle *h, struct lock *guard, uint64_t addr, uint16_t type,
		      uint64_t version, uint64_t guard_gen)
{
	struct txns *t = h->t;
	uint64_t guard_addr = lock_addr(guard), possession = lock_possession(guard);
	uint64_t recorded = addr == guard_addr ? lock_recorded_version(guard) : 0;
	struct cblk *b;

	lunfs_assert(lock_is_ex(guard));
	mtx_lock(&t->mtx);
	b = blk_for_new(t, addr);
	b->state = CBLK_VALID;
	b->type = type;
	b->unverified = b->revoked = b->tomb = false;
	b->disk_version = 0;
	for (size_t i = 0; i < sizeof(b->m.seen) / sizeof(b->m.seen[0]); i++)
		atomic_store(&b->m.seen[i].set, false);
	atomic_store(&b->m.no_caps, false);
	if (b->version < version)
		b->version = version;
	memset(b->m.data, 0, LUNFS_BLOCK_BYTES);
	blk_init(t->env.geo, b->m.data, type, addr, b->version, guard_addr, guard_gen);
	b->m.guard = guard;
	b->refs = 1;
	if (!b->detached) {
		cblk_set_guard(t, b, guard_addr);
		dirty_locked(h, b, guard_addr, possession, recorded, false);
	}
	mtx_unlock(&t->mtx);
	return &b->m;
}

static void announce(struct txn_handle *h, struct mblk *m, bool times_only)
{
	uint64_t guard_addr = lock_addr(m->guard), possession = lock_possession(m->guard);
	uint64_t recorded = m->addr == guard_addr ? lock_recorded_version(m->guard) : 0;
	struct cblk *b = cblk_of(m);

	lunfs_assert(lock_is_ex(m->guard));
	mtx_lock(&h->t->mtx);
	if (!b->detached) {
		lunfs_assert(b->refs && b->state == CBLK_VALID && b->gidx->addr == guard_addr);
		dirty_locked(h, b, guard_addr, possession, recorded, times_only);
	}
	mtx_unlock(&h->t->mtx);
}

void mblk_dirty(struct txn_handle *h, struct mblk *m)
{
	announce(h, m, false);
}

void mblk_dirty_times(struct txn_handle *h, struct mblk *m)
{
	announce(h, m, true);
}

/*
 * A guard's own payload (an inode) becomes an image of type FREE instead of a revoke: a host with
 * an old handle must find on disk that the inode is gone. Checkpoint writes such images before any
 * lock is given up, so whoever gets the cell next finds it, and goes above its version.
 */
static void entomb(struct txns *t, struct cblk *b)
{
	memset(b->m.data, 0, LUNFS_BLOCK_BYTES);
	blk_init(t->env.geo, b->m.data, LUNFS_BLK_FREE, b->m.addr, b->version, b->m.addr, 0);
	b->type = LUNFS_BLK_FREE;
	b->tomb = true;
}

uint64_t mblk_forget(struct txn_handle *h, struct mblk *m)
{
	struct txns *t = h->t;
	uint64_t guard_addr = lock_addr(m->guard), possession = lock_possession(m->guard);
	uint64_t recorded = m->addr == guard_addr ? lock_recorded_version(m->guard) : 0;
	struct cblk *b = cblk_of(m);
	uint64_t version;

	lunfs_assert(lock_is_ex(m->guard));
	mtx_lock(&t->mtx);
	if (!b->detached) {
		dirty_locked(h, b, guard_addr, possession, recorded, false);
		if (m->addr == guard_addr) {
			entomb(t, b);
		} else {
			b->revoked = true;
			b->state = CBLK_GONE;
			role_clear(t, b);
		}
	}
	version = b->version + 1;
	put_locked(t, b);
	mtx_unlock(&t->mtx);
	return version;
}

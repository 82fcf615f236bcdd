// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The watermark: groups below it are initialised. Who needs a fresh one holds the anchor's lock,
 * writes the group and flushes, and only then raises the watermark by a transaction; a crash
 * before that commits leaves a group that the next one writes again.
 */
#include "alloc/alloc_impl.h"
#include "base/log.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void learn(struct alloc *a, uint64_t value)
{
	mtx_lock(&a->mtx);
	if (value > a->watermark)
		a->watermark = value;
	a->watermark_ns = now_ns(a);
	mtx_unlock(&a->mtx);
}

#define READ_TRIES 5u /* the holder may be writing it */

int watermark_refresh(struct alloc *a, uint32_t age_ms)
{
	const struct geo *g = a->env.geo;
	uint64_t addr = geo_anchor_cell(LUNFS_ANCHOR_WATERMARK), value;
	const struct lunfs_anchor_pl *p;
	void *buf;
	bool fresh;
	int rc = 0;

	mtx_lock(&a->mtx);
	fresh = a->watermark_ns != 0 && now_ns(a) - a->watermark_ns < age_ms * MS_NS;
	mtx_unlock(&a->mtx);
	if (fresh)
		return 0;
	buf = dev_buf_alloc(g->payload_io_bytes);
	p = buf;
	for (unsigned i = 0; i < READ_TRIES; i++) {
		rc = read_unlocked(a, geo_payload_off(g, addr), g->payload_io_bytes, buf);
		if (rc < 0)
			break;
		rc = blk_check(g, buf, LUNFS_BLK_ANCHOR, addr);
		value = le64_get(p->value);
		if (rc == 0 && value <= g->groups) {
			learn(a, value);
			break;
		}
		rc = -EUCLEAN;
		clock_sleep_ns(a->env.clk, MS_NS);
	}
	free(buf);
	if (rc == -EUCLEAN)
		log_err("space-damaged", "the record of how many groups are in use does not make "
					 "sense, so no space can be found: run fsck.lunfs");
	return rc;
}

/* The fresh group's first blocks: a superblock copy where one belongs, header, bitmaps. */
static int write_group(struct alloc *a, uint64_t group)
{
	const struct geo *g = a->env.geo;
	size_t len = (size_t)geo_group_meta_blks(g) * LUNFS_BLOCK_BYTES, cell = geo_cell_bytes(g);
	uint8_t *image = dev_buf_alloc(len);
	uint8_t *pl = dev_buf_alloc((size_t)(1 + g->bitmap_cells) * LUNFS_PAYLOAD_BYTES);
	uint8_t *at = image + cell;
	int rc;

	if (sb_group_has_copy(group))
		sb_encode(g, image);
	group_format(g, group, pl, pl + LUNFS_PAYLOAD_BYTES);
	lock_born_image(a->locks, geo_group_header(g, group), at);
	memcpy(at + g->payload_off, pl, LUNFS_PAYLOAD_BYTES);
	for (unsigned i = 0; i < g->bitmap_cells; i++) {
		at += cell;
		lock_format(g, geo_group_bitmap(g, group, i), host_nonce(a->host), at);
		memcpy(at + g->payload_off, pl + (size_t)(1 + i) * LUNFS_PAYLOAD_BYTES,
		       LUNFS_PAYLOAD_BYTES);
	}
	rc = write_unreferenced(a, geo_blk_off(geo_group_blk(g, group)), len, image);
	free(pl);
	free(image);
	return rc;
}

/* The anchor's lock is pinned and @m is its payload. */
static int raise_mark(struct alloc *a, struct mblk *m, uint64_t *group)
{
	uint64_t value = le64_get(((struct lunfs_anchor_pl *)m->data)->value);
	struct txn_handle *h;
	int rc;

	if (value > a->env.geo->groups)
		return -EUCLEAN;
	learn(a, value);
	if (value == a->env.geo->groups)
		return -ENOSPC;
	rc = write_group(a, value);
	if (rc < 0)
		return rc;
	lock_adopt_born(a->locks, geo_group_header(a->env.geo, value), 1);
	rc = txn_begin(a->txns, 1, &h);
	if (rc < 0)
		return rc;
	mblk_dirty(h, m);
	((struct lunfs_anchor_pl *)m->data)->value = le64_make(value + 1);
	txn_end(h);
	learn(a, value + 1);
	*group = value;
	return 0;
}

static int advance(struct alloc *a, uint64_t *group, uint64_t *want)
{
	uint64_t addr = geo_anchor_cell(LUNFS_ANCHOR_WATERMARK);
	struct lock *l;
	struct mblk *m;
	int rc;

	rc = lock_pin(a->locks, addr, LOCK_EX, LOCAL_SHARED, LOCK_TRY, NULL, &l);
	if (rc < 0) {
		*want = addr;
		return rc;
	}
	rc = mblk_get(a->txns, l, addr, LUNFS_BLK_ANCHOR, &m);
	if (rc == 0) {
		rc = raise_mark(a, m, group);
		mblk_put(a->txns, m);
	}
	lock_unpin(a->locks, l, LOCAL_SHARED);
	return rc;
}

static bool all_initialised(struct alloc *a)
{
	bool all;

	mtx_lock(&a->mtx);
	all = a->watermark >= a->env.geo->groups;
	mtx_unlock(&a->mtx);
	return all;
}

int watermark_advance(struct alloc *a, uint64_t *group, uint64_t *want)
{
	uint64_t seq;
	int rc = 0;

	if (all_initialised(a))
		return -ENOSPC;
	mtx_lock(&a->mtx);
	seq = a->fresh_seq;
	while (a->fresh_busy)
		cond_wait(&a->cond, &a->mtx, CLOCK_FOREVER);
	if (a->fresh_seq != seq) { /* another thread has just made one */
		*group = a->fresh_group;
		mtx_unlock(&a->mtx);
		return 0;
	}
	a->fresh_busy = true;
	mtx_unlock(&a->mtx);
	rc = advance(a, group, want);
	mtx_lock(&a->mtx);
	if (rc == 0) {
		a->fresh_seq++;
		a->fresh_group = *group;
	}
	a->fresh_busy = false;
	cond_broadcast(&a->cond);
	mtx_unlock(&a->mtx);
	return rc;
}

void alloc_use(struct alloc *a, uint64_t lock_addr)
{
	uint64_t group, want;
	struct aobj *o;

	if (lock_addr != geo_anchor_cell(LUNFS_ANCHOR_WATERMARK))
		return;
	if (watermark_advance(a, &group, &want) == 0 &&
	    aobj_pin(a, AOBJ_GROUP, geo_group_header(a->env.geo, group), 0, &o) == 0)
		aobj_unpin(o);
}
